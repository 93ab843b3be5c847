"""The screen: rotated films are turned back, what is no chest film is set aside, and good films pass untouched."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cars_core.cohort.films import decode
from cars_core.cohort.screen import judge as module
from cars_core.cohort.screen import others
from cars_core.cohort.screen.judge import Judgement, judge, screen
from cars_core.digest import digest
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def simulated() -> list[Pixels]:
    signs = ("effusion", "pneumothorax", "mass", "consolidation")
    return [render(draw_patient(7000 + i), (Placed(signs[i % 4], "left", 0.7, i),), size=160, noise_seed=i).pixels
            for i in range(8)]


@pytest.fixture(scope="module")
def held_out(open_films: Path) -> list[Pixels]:
    """Forty NIH films of patients that the weights were not trained on."""
    with open(open_films / "nih14" / "labels.csv", newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f)
                if int(digest(["screen", "nih14", r["patient_id"]], length=8), 16) % 3 == 0]
    return [decode(open_films / r["file"]) for r in rows[:40]]


def test_simulated_films_pass_untouched(simulated: list[Pixels]):
    for film in simulated:
        made = screen(film)
        assert made.verdict == "upright" and made.pixels is film and made.reason is None


def test_a_rotated_film_comes_back_as_it_was(simulated: list[Pixels]):
    for film in simulated:
        for k in (1, 2, 3):
            made = screen(np.rot90(film, k))
            assert made.verdict == "repaired" and made.judgement.quarter_turns == 4 - k
            assert made.pixels.flags.c_contiguous and np.array_equal(made.pixels, film)
            assert made.reason == f"turned by {360 - 90 * k} degrees counter-clockwise"


def test_turning_any_picture_turns_the_answer_and_nothing_else(simulated: list[Pixels]):
    rng = np.random.default_rng(3)
    for film in (simulated[0][:, :131], rng.integers(0, 256, (90, 201), dtype=np.uint8), others.body_part(rng, 77)):
        one = judge(film)
        for k in (1, 2, 3):
            other = judge(np.rot90(film, k))
            assert other.quarter_turns == (one.quarter_turns - k) % 4
            assert (other.turn_confidence, other.chest, other.lateral, other.negative) == (
                one.turn_confidence, one.chest, one.lateral, one.negative)


def test_aspect_does_not_decide_what_is_up(simulated: list[Pixels]):
    for film in simulated:
        for to in ((160, 115), (115, 160)):
            squeezed = np.asarray(Image.fromarray(film).resize(to, Image.Resampling.BOX))
            assert screen(squeezed).verdict == "upright"
            assert screen(np.rot90(squeezed)).judgement.quarter_turns == 3


def test_a_heart_on_the_right_is_not_taken_for_a_rotated_film(simulated: list[Pixels]):
    assert all(screen(np.ascontiguousarray(film[:, ::-1])).verdict == "upright" for film in simulated)


def test_real_films_pass_and_rotated_ones_come_back(held_out: list[Pixels]):
    assert sum(screen(f).verdict == "upright" for f in held_out) >= 39
    turned = [screen(np.rot90(f, k)) for f in held_out for k in (1, 2, 3)]
    assert sum(t.verdict == "repaired" for t in turned) >= 114
    assert not [t for i, t in enumerate(turned) if t.verdict == "repaired" and t.judgement.quarter_turns != 3 - i % 3]


def test_films_stored_rotated_are_found(open_films: Path):
    root = open_films / "nih14_rotated_qc"
    with open(root / "labels.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    found = {label: [screen(decode(root / r["file"])) for r in rows if r["rotated_90ccw"] == label] for label in "01"}
    assert sum(s.verdict == "repaired" and s.judgement.quarter_turns == 3 for s in found["1"]) >= 49
    assert sum(s.verdict != "upright" for s in found["0"]) <= 1


def test_a_leg_is_set_aside(open_films: Path):
    import pydicom
    from pydicom.pixels import apply_voi_lut

    file = pydicom.dcmread(open_films / "dicom" / "nema_cr_extremity_negative_j2k_lossy.dcm")
    grey = np.asarray(apply_voi_lut(file.pixel_array, file), float)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    leg = np.rint(255 * (1 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey)).astype(np.uint8)
    made = screen(leg)
    assert made.verdict == "set aside" and made.reason == module.NOT_FRONTAL and made.pixels is leg


def test_photographs_and_pages_are_set_aside():
    data = pytest.importorskip("skimage.data")
    for picture in (data.camera(), data.coins(), data.page(), data.text(), data.moon(), data.brick()):
        assert screen(picture).verdict == "set aside"


def test_empty_pictures_and_noise_are_set_aside():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    slope = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))
    for picture in (np.full((256, 256), 90, np.uint8), noise, slope):
        assert screen(picture).verdict == "set aside"


def _said(**changed: float) -> Judgement:
    values = {"quarter_turns": 0, "turn_confidence": 0.999, "chest": 0.99, "lateral": 0.0, "negative": 0.0, **changed}
    return Judgement(int(values.pop("quarter_turns")), **values)


@pytest.mark.parametrize(("said", "verdict", "reason"), [
    (_said(), "upright", None),
    (_said(quarter_turns=1), "repaired", "turned by 90 degrees counter-clockwise"),
    (_said(quarter_turns=1, turn_confidence=0.9), "flagged", "may be rotated"),
    (_said(turn_confidence=0.4), "flagged", "may be rotated"),
    (_said(negative=0.99), "flagged", "may be a negative"),
    (_said(quarter_turns=2, chest=0.05), "set aside", "not a frontal chest film"),
    (_said(quarter_turns=2, chest=0.3), "flagged", "may not be a frontal chest film"),
    (_said(chest=0.05, lateral=0.9), "set aside", "not a frontal chest film"),
])
def test_what_is_not_certain_is_flagged_and_left_as_it_is(monkeypatch: pytest.MonkeyPatch, said: Judgement,
                                                          verdict: str, reason: str | None):
    film = np.arange(64 * 80, dtype=np.uint8).reshape(64, 80)
    monkeypatch.setattr(module, "judge", lambda pixels, weights=None: said)
    made = screen(film)
    assert (made.verdict, made.reason, made.judgement) == (verdict, reason, said)
    assert np.array_equal(made.pixels, np.rot90(film, said.quarter_turns) if verdict == "repaired" else film)
