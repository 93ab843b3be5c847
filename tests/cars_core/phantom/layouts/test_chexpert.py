"""A reader of CheXpert must find in the tree what it knows: the reports' labels, three-valued, and settled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cars_core.phantom.layouts.chexpert import chexpert_labels, report_labels, settled
from cars_core.phantom.population import FilmSpec
from cars_core.phantom.truth import read_truth, render_truth
from cars_core.phantom.words.statements import Report, Statement
from cars_core.vectors import Vector, from_chexpert
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()
LABELS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
          "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
          "Support Devices"]
PARTS = {"train": "train", "validate": "valid", "test": "test"}
SHOWN_BY = {"Cardiomegaly": {"cardiomegaly"}, "Lung Lesion": {"mass", "nodule"}, "Edema": {"edema"},
            "Consolidation": {"consolidation"}, "Atelectasis": {"atelectasis"}, "Pneumothorax": {"pneumothorax"},
            "Pleural Effusion": {"effusion"}, "Pleural Other": {"pleural_thickening"}, "Fracture": {"fracture"},
            "Lung Opacity": {"atelectasis", "infiltration", "consolidation", "edema", "mass", "nodule"}}


@pytest.fixture
def root(written: Any) -> Path:
    folder: Path = written("chexpert")[0]
    return folder


def read(root: Path, part: str) -> pd.DataFrame:
    return pd.read_csv(root / f"{part}.csv")


def test_columns_are_those_of_the_published_files(root: Path) -> None:
    for part in PARTS.values():
        table = read(root, part)
        assert list(table.columns) == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
        assert set(table["Sex"]) <= {"Male", "Female"} and set(table["Frontal/Lateral"]) == {"Frontal"}
        assert table["Path"].str.fullmatch(
            rf"CheXpert-v1\.0-small/{part}/patient\d{{5}}/study\d+/view1_frontal\.jpg").all()
        assert set(np.unique(table[LABELS].to_numpy(float)[~table[LABELS].isna().to_numpy()])) <= {-1.0, 0.0, 1.0}


def test_every_film_is_there_close_to_its_render_and_in_one_part(root: Path, specs: list[FilmSpec]) -> None:
    truth = pq.read_table(root / "truth/truth.parquet").to_pylist()
    paths = [p.split("/", 1)[1] for part in PARTS.values() for p in read(root, part)["Path"]]
    assert sorted(paths) == sorted(t["path"] for t in truth) == sorted(
        str(p.relative_to(root)) for p in root.rglob("*.jpg"))
    for row, spec in zip(truth, specs, strict=True):
        with Image.open(root / row["path"]) as image:
            assert image.format == "JPEG" and image.mode == "L"
            apart = np.asarray(image, float) - render_truth(spec.truth).pixels
            assert np.abs(apart).mean() < 2
        assert row["path"].startswith(f"{PARTS[spec.split]}/")
    folders = [{p.split("/")[1] for p in paths if p.startswith(part)} for part in PARTS.values()]
    assert all(folders) and len(set().union(*folders)) == sum(map(len, folders))


def test_training_labels_are_what_the_reports_say(root: Path, labelled: Any) -> None:
    table = read(root, "train").set_index("Path")
    rows = [r for r in pq.read_table(root / "truth/truth.parquet").to_pylist() if r["split"] == "train"]
    assert len(rows) == len(table)
    for row in rows:
        labels = table.loc[f"CheXpert-v1.0-small/{row['path']}"]
        found = {label: None if pd.isna(labels[label]) else float(labels[label]) for label in LABELS}
        assert found == labelled(row["statements"])


@pytest.mark.parametrize(("said", "labels"), [
    ([("edema", "present")], {"Edema": "1.0"}),
    ([("consolidation", "uncertain"), ("lung_opacity", "present")], {"Consolidation": "-1.0", "Lung Opacity": "1.0"}),
    ([("infiltration", "uncertain"), ("lung_opacity", "absent")], {"Lung Opacity": "-1.0"}),
    ([("nodule", "absent"), ("mass", "absent")], {"Lung Lesion": "0.0", "No Finding": "1.0"}),
    ([("nodule", "absent"), ("mass", "present")], {"Lung Lesion": "1.0"}),
    ([("cardiomegaly", "present")], {"Cardiomegaly": "1.0"}),
    ([("fibrosis", "present")], {"Pleural Other": "1.0"}),
    ([("emphysema", "present"), ("effusion", "absent")], {"Pleural Effusion": "0.0"}),
    ([("support_devices", "present")], {"Support Devices": "1.0", "No Finding": "1.0"}),
    ([], {"No Finding": "1.0"}),
])
def test_a_report_is_labelled_by_what_it_mentions_and_not_by_what_follows(
        said: list[tuple[str, str]], labels: dict[str, str]) -> None:
    report = Report("", tuple(Statement(finding, state, None, "") for finding, state in said))
    assert {k: v for k, v in report_labels(report, V).items() if v} == labels


@pytest.mark.parametrize("split", ["validate", "test"])
def test_held_out_labels_are_what_the_films_show(split: str, root: Path, specs: list[FilmSpec]) -> None:
    table = read(root, PARTS[split])
    held = [s for s in specs if s.split == split]
    assert len(table) == len(held)
    hidden = {r["record"]: r["hidden"] for r in pq.read_table(root / "truth/truth.parquet").to_pylist()}
    for (_, labels), spec in zip(table.iterrows(), held, strict=True):
        t = read_truth(spec.truth)
        shown = {p.finding for p in t.placed} - set(hidden[spec.record])
        for label, kinds in SHOWN_BY.items():
            assert labels[label] == float(bool(kinds & shown)), label
        assert labels["Support Devices"] == float(bool(t.devices))
        assert pd.isna(labels["Pneumonia"])
    normal = table["No Finding"] == 1
    assert list(normal) == list((table[LABELS[1:-1]].fillna(0) == 0).all(axis=1))


def test_no_finding_is_blank_beside_a_doubtful_one_and_devices_do_not_count() -> None:
    doubtful = Vector(uncertain=V.mask(["pneumonia"]))
    wired = Vector(present=V.mask(["support_devices"]))
    assert chexpert_labels(doubtful, V)["No Finding"] == "" and chexpert_labels(doubtful, V)["Pneumonia"] == "-1.0"
    assert chexpert_labels(wired, V)["No Finding"] == "1.0" and chexpert_labels(wired, V)["Support Devices"] == "1.0"
    assert chexpert_labels(Vector(), V)["Edema"] == ""


def test_labels_read_back_to_the_vector_they_came_from(specs: list[FilmSpec]) -> None:
    known = sum(1 << f.bit for f in V.label_set("chexpert").values())
    for spec in specs:
        vector = settled(spec.vector, V)
        back = from_chexpert(chexpert_labels(vector, V), V)
        assert back.present & known == vector.present & known
        pneumonia = V.mask(["pneumonia"])  # No Finding rules it out
        assert back.absent & known & ~pneumonia == vector.absent & known
