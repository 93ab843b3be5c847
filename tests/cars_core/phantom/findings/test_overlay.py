"""Findings laid over films nobody simulated: only where they reach, and only those that need nothing invented."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cars_core.anatomy.segment import load_segmenter
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.display import add_attenuation
from cars_core.phantom.film import Film, render
from cars_core.phantom.findings import overlay as module
from cars_core.phantom.findings.opacities import MODELS
from cars_core.phantom.findings.overlay import OVERLAID, REFUSED, cover, overlay
from cars_core.phantom.placed import SHOWN, Placed
from schemas.errors import BadInput

FILMS = [render(draw_patient(i), (), size=128, noise_seed=i) for i in (1, 2)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted({*MODELS, "cardiomegaly"})), st.floats(0, 1), st.integers(0, 2**62),
       st.sampled_from(FILMS))
def test_an_overlay_changes_nothing_outside_its_mask_and_darkens_nothing(
        name: str, severity: float, seed: int, film: Film) -> None:
    finding, _, form = name.partition("/")
    placed = Placed(finding, "both", severity, seed, form)
    change, mask = overlay(film.pixels, placed, film.anatomy)
    after = add_attenuation(film.pixels, change)
    assert np.array_equal(after[~mask], film.pixels[~mask])
    assert change.dtype == np.float32 and np.isfinite(change).all() and change.min() >= 0
    again = overlay(film.pixels, placed, film.anatomy)[0]
    assert again.tobytes() == change.tobytes()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_have_to_be_invented_is_refused_with_the_reason(name: str) -> None:
    finding, _, form = name.partition("/")
    placed = Placed(finding, "both", 0.5, 1, form)
    for call in (lambda: cover(placed, FILMS[0].anatomy),
                 lambda: overlay(FILMS[0].pixels, placed, FILMS[0].anatomy)):
        with pytest.raises(BadInput) as caught:
            call()
        assert REFUSED[name] in str(caught.value) and name in str(caught.value)


def test_every_finding_the_simulator_draws_is_laid_over_or_refused_with_a_reason() -> None:
    whole = {name for name in REFUSED if "/" not in name}
    assert whole | OVERLAID == SHOWN
    assert not whole & OVERLAID
    assert all(len(why) < 120 and "\n" not in why for why in REFUSED.values())


def test_a_refused_form_leaves_the_others() -> None:
    assert cover(Placed("atelectasis", "left", 0.5, 1), FILMS[0].anatomy).any()
    assert cover(Placed("atelectasis", "left", 0.5, 1, "plate"), FILMS[0].anatomy).any()


def test_a_tension_pneumothorax_is_refused_as_any_pneumothorax() -> None:
    with pytest.raises(BadInput, match="pneumothorax/tension"):
        cover(Placed("pneumothorax", "left", 0.5, 1, "tension"), FILMS[0].anatomy)


def test_dense_tissue_ends_at_the_brightness_of_the_films_own_soft_tissue() -> None:
    """A lobe filled to the full is about as bright as the heart beside it, never brighter than the film's bones."""
    film = FILMS[0]
    change, mask = overlay(film.pixels, Placed("consolidation", "left", 1.0, 2, "lobar"), film.anatomy)
    dense = module.cover(Placed("consolidation", "left", 1.0, 2, "lobar"), film.anatomy) > 0.7
    after = add_attenuation(film.pixels, change)
    heart = float(np.median(film.pixels[film.anatomy.heart]))
    assert mask.any() and dense.sum() > 50
    assert abs(float(np.median(after[dense])) - heart) < 45
    assert float(np.median(film.pixels[dense])) < heart - 60


def test_on_real_films_findings_stay_on_the_lungs_found(open_films: Path) -> None:
    root = open_films
    with open(root / "nih14" / "labels.csv", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["no_finding"] == "1" and int(r["age"]) >= 18][:3]
    segment = load_segmenter()
    for row in rows:
        film = np.asarray(Image.open(root / row["file"]).convert("L").resize((256, 256), Image.Resampling.LANCZOS))
        found = segment(film)
        for placed in (Placed("effusion", "right", 0.7, 1, "veil"), Placed("fibrosis", "both", 0.6, 2),
                       Placed("consolidation", "right", 0.7, 3, "lobar"), Placed("edema", "both", 0.8, 4)):
            change, mask = overlay(film, placed, found)
            after = add_attenuation(film, change)
            assert np.array_equal(after[~mask], film[~mask])
            brighter = after[mask & found.lungs].astype(int) - film[mask & found.lungs]
            assert brighter.mean() > 2
            assert (mask & found.lungs).sum() > 0.75 * mask.sum()
