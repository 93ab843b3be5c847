"""A reader of ChestX-ray14 must find in the tree what it knows, and find there what the films show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cars_core.cohort.sources.nih import NihSource
from cars_core.cohort.sources.tree import open_tree
from cars_core.cohort.survey import survey
from cars_core.phantom.population import FilmSpec
from cars_core.phantom.truth import read_truth, render_truth
from cars_core.vocabulary import load_vocabulary

LABELS = {"atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly", "effusion": "Effusion",
          "infiltration": "Infiltration", "mass": "Mass", "nodule": "Nodule", "pneumothorax": "Pneumothorax",
          "consolidation": "Consolidation", "edema": "Edema", "emphysema": "Emphysema", "fibrosis": "Fibrosis",
          "pleural_thickening": "Pleural_Thickening", "hernia": "Hernia"}


@pytest.fixture
def root(written: Any) -> Path:
    folder: Path = written("nih")[0]
    return folder


@pytest.fixture
def table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "Data_Entry_2017_v2020.csv")


def test_labels_say_what_each_film_shows(table: pd.DataFrame, specs: list[FilmSpec]) -> None:
    assert len(table) == len(specs)
    for row, spec in zip(table.itertuples(), specs, strict=True):
        shown = {LABELS[p.finding] for p in read_truth(spec.truth).placed if p.finding in LABELS}
        assert set(row[2].split("|")) == (shown or {"No Finding"})
        assert (row[5], row[6], row[7]) == (spec.age, spec.sex, spec.view)


def test_columns_and_names_are_those_of_the_published_file(table: pd.DataFrame) -> None:
    assert list(table.columns) == [
        "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
        "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    for name, follow_up, patient in zip(table["Image Index"], table["Follow-up #"], table["Patient ID"], strict=True):
        assert name == f"{patient:08d}_{follow_up:03d}.png"
    assert table["Patient ID"].nunique() < len(table) and table["Follow-up #"].max() >= 1


def test_the_png_is_the_film_to_the_last_grey(root: Path, table: pd.DataFrame, specs: list[FilmSpec]) -> None:
    for name, spec in zip(table["Image Index"], specs, strict=True):
        with Image.open(root / "images" / name) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), render_truth(spec.truth).pixels)


def test_no_patient_is_both_in_the_training_and_in_the_test_list(root: Path, table: pd.DataFrame,
                                                                 specs: list[FilmSpec]) -> None:
    train, test = ((root / f).read_text().split() for f in ("train_val_list.txt", "test_list.txt"))
    assert sorted(train + test) == sorted(table["Image Index"])
    assert train and test and not {n[:8] for n in train} & {n[:8] for n in test}
    held_out = [n for n, s in zip(table["Image Index"], specs, strict=True) if s.split == "test"]
    assert test == held_out


def test_the_factorys_own_reader_takes_every_film(root: Path, specs: list[FilmSpec]) -> None:
    vocabulary = load_vocabulary()
    source = NihSource(open_tree(str(root)), vocabulary=vocabulary)
    nih = vocabulary.mask([*LABELS])
    records = list(source.records())
    assert survey(source, name="nih", key=b"k" * 16).films == len(specs)
    assert [r.fault for r in records] == [None] * len(specs)
    assert [r.vector.present & nih for r in records] == [s.vector.present & nih for s in specs]
