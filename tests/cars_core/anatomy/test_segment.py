"""The committed segmenter: masks that can be trusted, and films it must not be trusted on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cars_core.anatomy.masks import Anatomy, dice
from cars_core.anatomy.segment import load_segmenter, require_lungs
from cars_core.anatomy.train import real_masks, train_segmenter
from cars_core.digest import digest
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from schemas.errors import BadInput


def test_lungs_and_heart_of_simulated_films_nobody_trained_on() -> None:
    segment = load_segmenter()
    lungs, hearts = [], []
    for i in range(6):
        film = render(draw_patient(9000 + i), (), size=256, noise_seed=i)
        found = segment(film.pixels)
        lungs.append(dice(found.lungs, film.anatomy.lungs))
        hearts.append(dice(found.heart, film.anatomy.heart))
        assert dice(found.left_lung, film.anatomy.left_lung) > 0.85  # sides are not swapped
    assert np.mean(lungs) > 0.95 and np.mean(hearts) > 0.85


def test_lungs_of_real_patients_kept_out_of_training(open_films: Path) -> None:
    """Against masks drawn by people, at the films' own size."""
    root = open_films / "covid_cxr_open"
    with open(root / "labels.csv", newline="", encoding="utf-8-sig") as f:
        patients = {Path(r["file"]).stem: r["patient_id"] for r in csv.DictReader(f)}
    segment, found = load_segmenter(), []
    for path in sorted((root / "lung_masks_v7").glob("*.png")):
        patient = patients.get(path.stem) or path.stem
        if int(digest(["segmenter", patient], length=8), 16) % 5:
            continue  # a training patient
        film = np.asarray(Image.open(root / "images_512" / f"{path.stem}.jpg").convert("L"))
        truth = np.asarray(Image.open(path).convert("L")) > 127
        found.append(dice(segment(film).lungs, truth))
    assert len(found) >= 10
    assert np.mean(found) >= 0.94 and np.percentile(found, 10) >= 0.90


def test_masks_do_not_depend_on_the_films_beside_them() -> None:
    segment = load_segmenter()
    a, b = (render(draw_patient(i), (), size=128, noise_seed=i).pixels for i in (1, 2))
    assert (segment.probabilities([a, b])[0] == segment.probabilities([a])[0]).all()


def test_a_picture_without_a_chest_is_refused() -> None:
    blank = np.full((200, 160), 90, np.uint8)
    with pytest.raises(BadInput, match="lung"):
        require_lungs(blank, load_segmenter()(blank), where="film")


def test_a_negative_is_refused_and_its_positive_is_not() -> None:
    """Inverted films are among the published ones; an edit of one would darken where it should brighten."""
    made = render(draw_patient(12), (), size=256, noise_seed=3)
    require_lungs(made.pixels, made.anatomy, where="film")
    with pytest.raises(BadInput, match="darker"):
        require_lungs(255 - made.pixels, made.anatomy, where="film")


def test_a_torn_lung_is_refused() -> None:
    made = render(draw_patient(12), (), size=256, noise_seed=3)
    torn = made.anatomy.left_lung.copy()
    rows = np.flatnonzero(torn.any(axis=1))
    torn[rows[len(rows) // 4] : rows[-len(rows) // 4], : int(np.mean(np.nonzero(torn)[1]))] = False
    with pytest.raises(BadInput, match="torn"):
        require_lungs(made.pixels, Anatomy(torn, made.anatomy.right_lung, made.anatomy.heart), where="film")


def test_real_masks_are_read_with_sides_by_the_patient(open_films: Path) -> None:
    films = real_masks(open_films / "covid_cxr_open", 64)
    assert len(films) >= 80
    for m in films:
        left, right = (np.mean(np.nonzero(m.masks[i])[1]) for i in (0, 1))
        assert left > right, "the patient's left lung lies at the picture's right"


def test_a_folder_without_masks_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)):
        real_masks(tmp_path, 64)


def test_a_short_training_holds_patients_out_and_scores_them(open_films: Path, tmp_path: Path) -> None:
    card = train_segmenter(
        tmp_path, masks_root=open_films / "covid_cxr_open", steps=2, batch=3, simulated=14, size=64, width=8
    )
    assert card["scores"]["real"]["films"] >= 10 and "lung_dice_p10" in card["scores"]["real"]
    assert card["kind"] == "segmenter" and len(card["sha256"]) == 64
