"""The page of a cohort: every reason with its count, and the pictures that may be shown."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from cars_core.report.cohort import render_cohort, status_table
from cars_core.vocabulary import load_vocabulary
from schemas.tables import COHORT

V = load_vocabulary()


def row(i: int, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {f.name: None for f in COHORT}
    base |= {
        "cohort": "0" * 64, "record": f"r{i}", "source": "nih", "dataset": "ward", "status": "accepted", "flags": [],
        "patient": f"p{i}", "split": "train", "present": V.mask(["effusion"]), "absent": V.mask(["mass"]),
        "uncertain": 0, "labels": "labels", "licence": "CC <b>", "object": "a" * 64}
    return {**base, **changes}


def picture(_: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((90, 80), 90, np.uint8)).save(out, "PNG")
    return out.getvalue()


ROWS = [row(0), row(1), row(2, flags=["repaired: turned"]), row(3, status="set_aside", reason="f.csv line 4: blank"),
        row(4, status="quarantined", reason="f.csv line 5: no <i>patient</i>", object=None),
        row(5, dataset="other", status="set_aside", reason="f.csv line 6: words", object=None)]


def test_films_are_counted_by_source_status_and_reason() -> None:
    assert [(r["dataset"], r["status"], r["why"], r["films"]) for r in status_table(ROWS)] == [
        ("other", "set_aside", "words", 1), ("ward", "accepted", "", 2), ("ward", "accepted", "repaired: turned", 1),
        ("ward", "set_aside", "blank", 1), ("ward", "quarantined", "no <i>patient</i>", 1)]


def test_the_page_shows_reasons_and_pictures_and_lets_no_text_be_markup() -> None:
    html = render_cohort(pa.Table.from_pylist(ROWS, schema=COHORT), name="trial", cohort="0" * 64, vocabulary=V,
                         get=picture, code="1", created="2026-11-24")
    assert html.count("<img") == 2, "one repaired film and one that was set aside have pictures"
    assert "no &lt;i&gt;patient" in html and "<i>patient" not in html and "CC &lt;b&gt;" in html
    assert "Not for diagnosis" in html and "http://" not in html and "https://" not in html
    assert "effusion" in html and "mediastinal shift" not in html
