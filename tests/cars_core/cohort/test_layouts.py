"""Simulated cohorts in the layouts of public ones, read back by the whole of ingest: every vector, split and age must
be the truth's. One that is off by a row would teach a model other patients' findings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest

from cars_core.cohort.identity import pseudonym, pseudonym_key, split_of
from cars_core.cohort.ingest import ingest
from cars_core.lake.lake import Lake
from cars_core.phantom.layouts.dicom import CLASS_OF, TEST_CLASSES
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector, close_upwards, from_chexpert
from cars_core.vocabulary import load_vocabulary
from schemas.recipe import Cohort, Splits

V = load_vocabulary()
N, SIZE = 28, 224  # at 192 pixels some have a spacing over 2 mm, which no detector has
SPLITS = Splits(train=0.5, validate=0.2, test=0.3)
#: source -> layout, what its files say of ages
SOURCES = {"nih": "nih", "chexpert": "chexpert", "mimic": "mimic", "vindr": "dicom", "dicom": "dicom"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Layout -> a tree of N films."""
    base = tmp_path_factory.mktemp("layouts")
    for layout in sorted(set(SOURCES.values())):
        specs = films(n=N, seed=5, size=SIZE, withheld=[], split_of=lambda p: split_of(p, SPLITS), vocabulary=V)
        write_cohort(specs, out=base / layout, layout=layout)
    return {layout: base / layout for layout in SOURCES.values()}


def truth_of(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(root / "truth" / "truth.parquet").to_pylist()
    return rows


def taken(root: Path, lake: Path, source: str, **changes: Any) -> tuple[Cohort, list[dict[str, Any]]]:
    cohort = Cohort(**{"source": source, "root": str(root), "public_ids": True, "size": SIZE, "published_splits": True,
                       "screen": {"text": "off", "photo": "off"}, **changes})
    held = Lake(str(lake))
    found = ingest(cohort, seed=1, vocabulary=V, lake=held, progress=lambda *_: None)
    return cohort, held.read("cohort", where={"cohort": found["digest"]}).to_pylist()


def name_of(source: str, root: Path, path: str) -> str:
    """What the source calls a film."""
    if source == "dicom":
        return str(pydicom.dcmread(root / path, stop_before_pixels=True).SOPInstanceUID)
    if source == "chexpert":
        return path.rpartition(".")[0]
    return Path(path).name if source == "nih" else Path(path).stem


def matched(source: str, cohort: Cohort, root: Path, rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], ...]]:
    """(truth, row) of every film, by the pseudonym of the name its source has for it."""
    key = pseudonym_key(cohort, seed=1)
    by_name = {r["record"]: r for r in rows}
    truths = truth_of(root)
    assert len(rows) == len(by_name) == len(truths) == N
    return [(t, by_name[pseudonym(key, "record", f"{source}\0{name_of(source, root, t['path'])}")]) for t in truths]


def vector(row: dict[str, Any], prefix: str = "") -> Vector:
    return Vector(*(row[f"{prefix}{s}"] for s in ("present", "absent", "uncertain")))


@pytest.mark.parametrize("source", ["nih", "chexpert", "mimic", "vindr"])
def test_every_film_comes_back_with_its_own_vector_split_and_age(
        source: str, roots: dict[str, Path], tmp_path: Path) -> None:
    root = roots[SOURCES[source]]
    cohort, rows = taken(root, tmp_path / "lake", source, read_films=False)
    labelled = label_rows(source, root)
    for truth, row in matched(source, cohort, root, rows):
        assert row["status"] == "unread", row["reason"]
        if source in ("nih", "vindr"):  # their labels are the film's own truth, in the names of their set
            assert vector(row) == shown(source, truth)
        else:  # CheXpert's and MIMIC's are what a labeller made of the report: test_chexpert.py and test_mimic.py
            assert vector(row) == from_chexpert(labelled[truth["path"]], V)
        # VinDr publishes train and test, which holds the simulated validation films; NIH no validation part.
        part = "test" if source == "vindr" and truth["split"] == "validate" else truth["split"]
        assert (row["split"] == "test") == (part == "test")
        assert source in ("nih", "vindr") or row["split"] == part
        assert (row["sex"], row["age"]) == (truth["sex"], truth["age"])
        assert row["view"] == truth["view"]
    in_splits = Counter((r["patient"], r["split"]) for r in rows)
    assert len({p for p, _ in in_splits}) == len(in_splits), "a patient is in two splits"


def label_rows(source: str, root: Path) -> dict[str, dict[str, object]]:
    """Film's path -> its row of the CheXpert labels, joined by pandas."""
    if source == "chexpert":
        tables = [pd.read_csv(p) for p in sorted(root.rglob("*.csv"))]
        return {r["Path"].partition("/")[2]: r for t in tables for r in t.to_dict("records")}
    if source == "mimic":
        labels = pd.read_csv(root / "mimic-cxr-2.0.0-chexpert.csv.gz")
        joined = pd.read_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz").merge(labels, on=["subject_id", "study_id"])
        return {f"files/p{str(r['subject_id'])[:2]}/p{r['subject_id']}/s{r['study_id']}/{r['dicom_id']}.jpg": r
                for r in joined.to_dict("records")}
    return {}


def shown(source: str, truth: dict[str, Any]) -> Vector:
    """What the film shows, in the names of a label set that states all of them."""
    found = V.unpack(truth["film_present"])
    labels = V.label_set(source)
    named = [CLASS_OF[f] for f in found if CLASS_OF.get(f) in labels] if source == "vindr" else []
    present = (V.mask([labels[n].name for n in named]) if source == "vindr"
               else truth["film_present"] & V.mask([f.name for f in labels.values()]))
    every = V.mask(sorted({f.name for f in labels.values()}))
    closed = close_upwards(Vector(present=present), V).present
    if source == "vindr":
        stated = V.mask([labels[n].name for n in TEST_CLASSES if n in labels])
        return Vector(closed, (every & stated) & ~closed)
    return Vector(closed, every & ~present)


@pytest.mark.parametrize("source", ["dicom"])
def test_dicom_headers_give_age_sex_view_and_the_film(source: str, roots: dict[str, Path], tmp_path: Path) -> None:
    root = roots["dicom"]
    cohort, rows = taken(root, tmp_path / "lake", source, screen={"text": "off", "photo": "off", "chest": "off",
                                                                 "rotated": "off", "near": "off"})
    for truth, row in matched(source, cohort, root, rows):
        assert row["status"] == "accepted", row["reason"]
        assert (row["sex"], row["age"], row["view"]) == (truth["sex"], truth["age"], truth["view"])
        assert row["spacing"] == pytest.approx(float(pydicom.dcmread(root / truth["path"]).PixelSpacing[0]))
    per_patient: dict[str, set[int]] = {}
    for truth, row in matched(source, cohort, root, rows):
        per_patient.setdefault(truth["patient"], set()).add(row["day"] - truth["days"])
    assert all(len(offsets) == 1 for offsets in per_patient.values()), "days between films of a patient changed"
