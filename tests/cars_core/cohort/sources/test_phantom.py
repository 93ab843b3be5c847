"""Simulated films must arrive with their truth, the same however many processes draw them."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nih_folder import take
from PIL import Image

from cars_core.cohort import ingest
from cars_core.cohort.identity import split_of
from cars_core.cohort.ingest import split_rows
from cars_core.digest import seed_from
from cars_core.lake.lake import Lake
from cars_core.phantom.truth import render_truth
from cars_core.vocabulary import load_vocabulary
from schemas.recipe import Cohort

VOCABULARY = load_vocabulary()


def phantom(**changes: Any) -> Cohort:
    return Cohort(**{"source": "phantom", "films": 12, "size": 64, "workers": 1, **changes})


def test_the_truth_renders_the_film_in_the_lake(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    result, rows = take(phantom(), lake)
    assert (result["accepted"], result["quarantined"]) == (12, 0)
    for r in rows.to_pylist():
        with Image.open(io.BytesIO(lake.get(r["object"]))) as png:
            np.testing.assert_array_equal(np.asarray(png), render_truth(r["truth"]).pixels)
        assert r["licence"].startswith("CC0-1.0")
        assert r["split"] == split_of(r["patient"], phantom().splits)


@pytest.mark.parametrize("processes", [True, False])
def test_workers_draw_the_same_rows(tmp_path: Path, processes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_POOL_FILMS", 1 if processes else 1000)
    one, two = (take(phantom(workers=w, limit=6), Lake(str(tmp_path / str(w)))) for w in (1, 2))
    assert one[0] == two[0]
    assert one[1].sort_by("record") == two[1].sort_by("record")


def test_another_seed_is_another_population(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    (a, first), (b, second) = (take(phantom(limit=4), lake, seed=s) for s in (1, 2))
    assert a["digest"] != b["digest"]
    assert first.num_rows == second.num_rows == 4
    assert not set(first["image_id"].to_pylist()) & set(second["image_id"].to_pylist())


def noise(truth: str) -> SimpleNamespace:  # drawing 400 films would take a minute, and pixels do not matter here
    rng = np.random.default_rng(seed_from(truth))
    return SimpleNamespace(pixels=rng.integers(0, 256, (64, 64), dtype=np.uint8))


@pytest.mark.parametrize("pair", [["effusion", "cardiomegaly"]])
def test_withheld_combinations_are_missing_from_training_films_only(tmp_path: Path, pair: list[str],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the gaps the factory is to find; in the test split they measure whether filling them helped."""
    monkeypatch.setattr("cars_core.phantom.truth.render_truth", noise)
    lake = Lake(str(tmp_path / "lake"))
    result, _ = take(phantom(films=400, withheld=[pair]), lake)
    mask = VOCABULARY.mask(pair)
    assert not [p for p in split_rows(lake, result["digest"])["present"].to_pylist() if p & mask == mask]
    assert [p for p in split_rows(lake, result["digest"], "test")["present"].to_pylist() if p & mask == mask]


def test_a_recipe_can_thin_a_finding_out_of_the_training_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cars_core.phantom.truth.render_truth", noise)
    lake = Lake(str(tmp_path / "lake"))
    mask = VOCABULARY.mask(["effusion"])
    seen = {}
    for keep in (1.0, 0.0):
        result, _ = take(phantom(films=150, thinned=[{"findings": ["effusion"], "keep": keep}]), lake)
        seen[keep] = [result["digest"], *(sum(p & mask != 0 for p in split_rows(lake, result["digest"], s)["present"]
                                              .to_pylist()) for s in ("train", "test"))]
    assert seen[1.0][0] != seen[0.0][0]  # another cohort, so that one cannot pass for the other
    assert seen[1.0][1] > 10 and seen[0.0][1] == 0
    assert seen[0.0][2] > 0
