"""A reader of MIMIC-CXR-JPG must find in the tree what it knows: label, metadata and split tables, films, reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cars_core.phantom.population import FilmSpec
from cars_core.phantom.truth import read_truth, render_truth

LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
          "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax",
          "Support Devices"]


@pytest.fixture
def root(written: Any) -> Path:
    folder: Path = written("mimic")[0]
    return folder


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / f"mimic-cxr-2.0.0-{name}.csv.gz")


def test_columns_are_those_of_the_published_tables(root: Path) -> None:
    assert list(table(root, "chexpert")) == list(table(root, "negbio")) == ["subject_id", "study_id", *LABELS]
    assert list(table(root, "split")) == ["dicom_id", "study_id", "subject_id", "split"]
    assert list(table(root, "metadata")) == [
        "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
        "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning"]


def test_the_tables_lead_to_every_film_and_report(root: Path, specs: list[FilmSpec]) -> None:
    found = set()
    merged = table(root, "metadata").merge(table(root, "split"), on=["dicom_id", "subject_id", "study_id"])
    merged = merged.merge(table(root, "chexpert"), on=["subject_id", "study_id"])
    assert len(merged) == len(specs) == merged["study_id"].nunique()
    for row, spec in zip(merged.itertuples(), specs, strict=True):
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", row.dicom_id)
        assert len(str(row.subject_id)) == len(str(row.study_id)) == 8
        study = root / f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}"
        with Image.open(study / f"{row.dicom_id}.jpg") as image:
            assert image.size == (row.Columns, row.Rows)
            assert np.abs(np.asarray(image, float) - render_truth(spec.truth).pixels).mean() < 2
        found |= {study / f"{row.dicom_id}.jpg", study.with_suffix(".txt")}
        assert (row.split, row.ViewPosition) == (spec.split, spec.view)
        supine = read_truth(spec.truth).patient.supine
        assert row.PatientOrientationCodeSequence_CodeMeaning == ("Recumbent" if supine else "Erect")
    assert found == {p for p in (root / "files").rglob("*") if p.is_file()}


def test_a_patient_is_in_one_split_and_dates_run_with_the_films(root: Path, specs: list[FilmSpec]) -> None:
    split = table(root, "split")
    assert set(split["split"]) == {"train", "validate", "test"}
    assert (split.groupby("subject_id")["split"].nunique() == 1).all()
    taken = pd.to_datetime(table(root, "metadata")["StudyDate"].astype(str), format="%Y%m%d")
    assert taken.dt.year.between(2110, 2200).all()
    first = taken.groupby(table(root, "metadata")["subject_id"]).transform("min")
    assert list((taken - first).dt.days) == [s.days for s in specs]


def test_the_table_of_patients_gives_the_age_in_the_year_of_the_first_film(root: Path, specs: list[FilmSpec]) -> None:
    people = pd.read_csv(root / "patients.csv.gz")
    assert list(people) == ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"]
    assert people["subject_id"].is_unique and people["dod"].isna().all()
    merged = table(root, "metadata").merge(people, on="subject_id", how="left")
    taken = pd.to_datetime(merged["StudyDate"].astype(str), format="%Y%m%d").dt.year
    assert list(merged["gender"]) == [s.sex for s in specs]
    assert list(merged["anchor_age"]) == [s.age for s in specs]
    first = [s.days == 0 for s in specs]
    assert sum(first) == len(people) and list(taken[first]) == list(merged["anchor_year"][first])
    assert people["anchor_year_group"].str.fullmatch(r"20\d\d - 20\d\d").all()


def test_label_tables_say_what_the_reports_say(root: Path, labelled: Any) -> None:
    truth = pq.read_table(root / "truth/truth.parquet").to_pylist()
    labels = table(root, "chexpert")
    pd.testing.assert_frame_equal(labels, table(root, "negbio"))
    for (_, row), t in zip(labels.iterrows(), truth, strict=True):
        assert {label: None if pd.isna(row[label]) else row[label] for label in LABELS} == labelled(t["statements"])
    assert labels[sorted(LABELS)].isin([-1, 0, 1]).sum(axis=1).min() >= 1  # no report says nothing


def test_report_files_hold_the_report_in_sections_a_parser_finds(root: Path) -> None:
    for row in pq.read_table(root / "truth/truth.parquet").to_pylist():
        text = (root / Path(row["path"]).parent).with_suffix(".txt").read_text()
        heading, *lines = text.splitlines()
        assert heading.strip() == "FINAL REPORT"
        assert all(line == "" or line.startswith(" ") for line in lines)
        assert max(map(len, lines)) <= 79
        assert " ".join(" ".join(lines).split()) == " ".join(row["report"].split())
        sections = re.findall(r"\n ([A-Z ]+):", text)
        assert {"FINDINGS", "IMPRESSION"} <= set(sections)
