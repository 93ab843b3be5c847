"""A build that takes in a DICOM file with a name, a birth date and an institution in its header passes none on."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import pydicom
import pytest
from tiny import RECIPE, SETTINGS

from cars_core.lake.lake import Lake

NEMA = "nema_cr_chest_pa_mono1_j2k_lossy.dcm"


def secrets_of(path: Path) -> set[str]:
    """Every header value that tells who, where or when, as written and as dates are printed."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    words = set()
    for element in header.iterall():
        if element.VR in ("PN", "UI", "DA", "LO", "SH", "ST", "LT", "AE", "DT") and element.keyword not in (
                "SOPClassUID", "BodyPartExamined") and element.value:
            words |= {str(v) for v in (element.value if element.VM > 1 else [element.value])}
        if element.VR == "DA" and element.value:
            day = datetime.datetime.strptime(str(element.value), "%Y%m%d").date()
            words |= {day.isoformat(), f"{day:%d.%m.%Y}", f"{day:%m/%d/%Y}"}
    long = {w for w in words if len(w) > 4}  # "9RG1" and the like are looked for as words, below
    assert {"19400305", "Philips Medical Systems Hamburg", "CompressedSamples^RG1"} <= long
    return long | {"1940-03-05", "9RG1", "26210", "Hamburg", "THORAVISION", NEMA}


@pytest.mark.timeout(900)
def test_nothing_of_a_dicom_header_is_in_any_table_object_log_or_page(
        prefect: None, open_films: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture) -> None:
    from prefect.client.orchestration import get_client

    from flows.build import build

    (tmp_path / "key").write_text("a secret of sixteen bytes or more")
    lake = tmp_path / "lake"
    settings = [*SETTINGS, f"cohort.key_file={tmp_path / 'key'}",
                f"cohort.more=[{{source: dicom, root: {open_films / 'dicom'}, licence: NEMA}}]"]
    with caplog.at_level(logging.DEBUG, "prefect.flow_runs"), caplog.at_level(logging.DEBUG, "prefect.task_runs"):
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addHandler(caplog.handler)
        result = build(RECIPE, settings, str(lake))
    assert result["planned"] > 0
    row = next(r for r in Lake(str(lake)).read("cohort", where={"dataset": "dicom"}).to_pylist()
               if r["status"] == "accepted" and r["sex"] == "F" and r["age"] is not None)
    assert (row["view"], row["age"], row["spacing"]) == ("PA", 64, None), "the film was not taken in at all"
    secrets = secrets_of(open_films / "dicom" / NEMA)
    with get_client(sync_client=True) as client:
        logs = " ".join(log.message for log in client.read_logs()) + caplog.text
        told = logs + " ".join(str(a.data) for a in client.read_artifacts()) + " ".join(capfd.readouterr())
    assert "films" in logs, "no log was read"
    kept = [p for p in lake.rglob("*") if p.is_file()]
    assert len(kept) > 60
    for secret in sorted(secrets):
        assert secret not in told, secret
        found = [str(p.relative_to(lake)) for p in kept if secret.encode() in p.read_bytes() or secret in p.name]
        assert not found or len(secret) < 6, (secret, found)  # five letters turn up in compressed bytes by chance
    # Parquet is compressed: what it holds is looked at as text.
    text = " ".join(str(Lake(str(lake)).read(t).to_pylist()) for t in ("cohort", "gaps", "plan", "renders", "samples",
                                                                     "members", "subsets", "evaluations"))
    text += " ".join(p.read_text(errors="replace") for p in (lake / "pages").rglob("*.html"))
    for secret in sorted(secrets):
        assert secret not in text, secret
