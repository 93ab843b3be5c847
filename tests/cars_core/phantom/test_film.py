"""Simulated films: what tests, counterfactuals and the true ceiling of an evaluation stand on."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from cars_core.anatomy.masks import cardiothoracic_ratio
from cars_core.phantom import film as module
from cars_core.phantom.body.patient import Patient, draw_patient, patient_from, position
from cars_core.phantom.body.thorax import MU_BONE, MU_SOFT, build, heart_chord
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene
from schemas.errors import BadInput

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open"
SIZE = 128


def plain(seed: int) -> Patient:
    """A patient on a film without border or letters."""
    return replace(draw_patient(seed), border="", marker="", view="PA", supine=False)


def test_the_same_arguments_give_the_same_bytes_or_no_film_could_be_rendered_again_from_its_row() -> None:
    placed = (Placed("effusion", "left", 0.6, 5), Placed("cardiomegaly", "both", 0.5, 1))
    first = render(draw_patient(3), placed, size=SIZE, noise_seed=9)
    module._base.cache_clear()
    build.cache_clear()
    again = render(patient_from(asdict(draw_patient(3))), placed[::-1], size=SIZE, noise_seed=9)
    assert first.pixels.dtype == np.uint8
    assert first.pixels.shape == (SIZE, SIZE)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert np.array_equal(first.anatomy.lungs, again.anatomy.lungs)
    assert set(again.finding_masks) == {"effusion", "cardiomegaly"}


def test_other_people_other_noise_and_other_positions_give_other_films() -> None:
    p = plain(3)
    films = [render(q, (), size=SIZE, noise_seed=n).pixels
             for q, n in ((p, 1), (p, 2), (position(p, 77), 1), (plain(4), 1))]
    assert len({f.tobytes() for f in films}) == 4
    difference = np.abs(films[0].astype(int) - films[1])
    assert 0.1 < difference.mean() < 4  # noise is visible and does not drown the film


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_an_enlarged_heart_is_wider_than_half_the_chest_and_a_healthy_one_is_not(seed: int, severity: float) -> None:
    p = draw_patient(seed)
    size = 192
    healthy = render(p, (), size=size, noise_seed=0).anatomy
    wide = render(p, (Placed("cardiomegaly", "both", severity, 0),), size=size, noise_seed=0).anatomy
    pixel = 1.5 / (size * 0.55)  # one and a half pixels of a chest that fills at least that much of the film
    assert 0.40 - pixel <= cardiothoracic_ratio(healthy) <= 0.49 + pixel
    assert cardiothoracic_ratio(wide) > 0.50
    assert cardiothoracic_ratio(wide) > cardiothoracic_ratio(healthy) + 0.02


def test_severity_widens_the_heart_and_does_not_make_it_denser() -> None:
    p = plain(6)
    films = [render(p, (Placed("cardiomegaly", "both", s, 0),), size=SIZE, noise_seed=0) for s in (0.0, 0.5, 1.0)]
    bare = render(p, (), size=SIZE, noise_seed=0)
    ratios = [cardiothoracic_ratio(f.anatomy) for f in films]
    assert ratios == sorted(ratios)
    assert ratios[2] - ratios[0] > 0.1
    core = ndimage.binary_erosion(bare.anatomy.heart, iterations=4)
    added = films[2].pixels[core].mean() - bare.pixels[core].mean()
    new = films[2].anatomy.heart & bare.anatomy.lungs & ~bare.anatomy.heart
    assert films[2].pixels[new].mean() - bare.pixels[new].mean() > added + 15


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_every_patient_has_a_plausible_chest_on_the_right_sides(seed: int) -> None:
    p = draw_patient(seed)
    f = render(p, (), size=SIZE, noise_seed=seed)
    a = f.anatomy
    columns = np.arange(SIZE)
    left, right, heart = ((m.sum(0) * columns).sum() / m.sum() for m in (a.left_lung, a.right_lung, a.heart))
    assert left > right  # the patient's left is at the picture's right
    assert heart > 0.5 * (left + right)  # and so is most of the heart
    assert not (a.left_lung & a.right_lung).any()
    for lung in (a.left_lung, a.right_lung):
        assert ndimage.label(lung, np.ones((3, 3)))[1] == 1
        assert 0.05 < lung.mean() < 0.32
    assert (a.left_lung & a.heart).sum() > 0.15 * a.heart.sum()  # lungs include the part behind the heart
    open_lung, solid = np.median(f.pixels[a.lungs & ~a.heart]), np.median(f.pixels[a.heart])
    assert 30 < open_lung < 175
    assert solid > open_lung + 25
    assert len(np.unique(f.pixels)) > 100


@pytest.mark.parametrize("side", ["left", "right"])
def test_under_the_lungs_lies_the_abdomen_brighter_than_they_are(side: str) -> None:
    for seed in range(6):
        p = plain(seed)
        f = render(p, (), size=SIZE, noise_seed=0)
        lung = f.anatomy.lung(side)
        column = int((lung.sum(0) * np.arange(SIZE)).sum() / lung.sum())
        floor = int(np.flatnonzero(lung[:, column])[-1])
        if floor > SIZE - 14:
            continue
        above = f.pixels[floor - 24 : floor - 8, column].astype(float).mean()
        below = f.pixels[floor + 5 : floor + 12, column].astype(float).mean()
        assert below > above + 30


def test_the_beam_is_attenuated_by_what_it_crosses() -> None:
    """Beer-Lambert by hand at single rays: a heart replaces air, so it adds mu x air share x the air it replaces."""
    t = build(draw_patient(8), SIZE)
    none, heart = np.zeros_like(t.body), heart_chord(t, 0.45)
    change = (Scene.of(t, heart).attenuation() - Scene.of(t, none).attenuation()).astype(np.float64)
    assert not change[heart == 0].any()
    bare = t.left_lung & (np.abs(t.spare) < 0.02) & (heart > 0)
    rays = np.argwhere(bare)
    assert len(rays) > 3
    for r, c in rays:
        air_before = max(float(t.lung[r, c]) - float(t.mediastinum[r, c]), 0)
        air_after = max(float(t.lung[r, c]) - max(float(t.mediastinum[r, c]), float(heart[r, c])), 0)
        assert change[r, c] == pytest.approx(MU_SOFT * 0.74 * (air_before - air_after), abs=0.01)


def test_bone_adds_to_the_tissue_it_lies_in() -> None:
    t = build(draw_patient(8), SIZE)
    scene = Scene.of(t, np.zeros_like(t.body))
    before = scene.attenuation()
    scene.bone = scene.bone + np.float32(0.5)
    assert np.allclose(scene.attenuation() - before, MU_BONE * 0.5, atol=1e-5)


def test_a_woman_of_sixty_keeps_her_anatomy_between_films_but_not_her_position() -> None:
    first = draw_patient(21)
    second = position(first, 1)
    kept = ("seed", "sex", "age", "half_width", "ctr", "aorta", "vessels", "breast", "gas", "dome", "taper")
    assert all(getattr(first, k) == getattr(second, k) for k in kept)
    assert (first.inspiration, first.rotation) != (second.inspiration, second.rotation)


def test_ap_films_magnify_the_heart() -> None:
    p = plain(5)
    pa, ap = (render(replace(p, view=v), (), size=256, noise_seed=0).anatomy for v in ("PA", "AP"))
    assert cardiothoracic_ratio(ap) > cardiothoracic_ratio(pa) + 0.01


def test_the_lead_letter_stands_on_its_own_side_and_leaves_the_other_half_alone() -> None:
    p = plain(9)
    bare = render(p, (), size=256, noise_seed=0).pixels
    for marker in ("L", "R"):
        marked = render(replace(p, marker=marker), (), size=256, noise_seed=0).pixels
        rows, columns = np.nonzero(marked != bare)
        assert len(rows) > 20
        assert (columns > 128).all() if marker == "L" else (columns < 128).all()  # the patient's left: picture's right
        assert marked[rows, columns].max() > 215


def test_bare_air_beside_the_body_is_black_or_its_outline_would_drown_in_grey() -> None:
    seen = 0
    for seed in range(8):
        p = replace(plain(seed), lungs_at=-0.6, field=44.0)
        air = ndimage.binary_erosion(build(p, SIZE).body == 0, iterations=3)
        if air.sum() > 20:
            seen += 1
            assert np.median(render(p, (), size=SIZE, noise_seed=0).pixels[air]) < 12
    assert seen >= 4


def test_nothing_shows_through_the_border_of_the_exposed_field() -> None:
    sick = (Placed("effusion", "both", 1.0, 1),)
    for border, low, high in (("black", 0, 12), ("white", 205, 255)):
        p = replace(plain(4), border=border, look=3)
        bare, ill = (render(p, f, size=SIZE, noise_seed=0).pixels for f in ((), sick))
        covered = module._base(p, SIZE).gain == 0
        assert 0.003 < covered.mean() < 0.3
        assert ((bare[covered] >= low) & (bare[covered] <= high)).all()
        assert np.array_equal(bare[covered], ill[covered])


@pytest.mark.parametrize("bad", [{"marker": "X"}, {"border": "pink"}, {"marker": True}, {"view": "PA", "supine": True}])
def test_a_marking_or_position_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        patient_from({**asdict(draw_patient(1)), **bad})


def test_what_the_phantom_cannot_draw_is_refused() -> None:
    p = draw_patient(1)
    twice = (Placed("cardiomegaly", "both", 0.5, 1),) * 2
    for placed, size, bits in ((twice, SIZE, 8), ((), 16, 8), ((), 4096, 8), ((), SIZE, 10)):
        with pytest.raises(BadInput):
            render(p, placed, size=size, noise_seed=0, bits=bits)


# --- beside real films ------------------------------------------------------------------------------------------------

def test_grey_values_and_texture_are_those_of_real_films_or_nothing_learnt_here_would_carry_over() -> None:
    if not (REAL / "nih14" / "labels.csv").exists():
        pytest.skip("the NIH films are not beside this checkout (../shared/data/cxr-open)")
    with open(REAL / "nih14" / "labels.csv", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["no_finding"] == "1" and int(r["age"]) >= 18][:60]
    real = [np.asarray(Image.open(REAL / r["file"]).convert("L").resize((256, 256), Image.Resampling.LANCZOS))
            for r in rows]
    ours = [render(draw_patient(i), (), size=256, noise_seed=i).pixels for i in range(16)]

    def describe(films: list[np.ndarray]) -> np.ndarray:
        """Mean, spread, spread in the middle, and log power of coarse (4-8 cycles), middle and fine structure."""
        out = []
        window = np.outer(np.hanning(256), np.hanning(256))
        cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 1 / 256), np.fft.rfftfreq(256, 1 / 256), indexing="ij"))
        for film in films:
            power = np.abs(np.fft.rfft2((film - film.mean()) * window)) ** 2
            bands = [np.log10(power[(cycles >= lo) & (cycles < 2 * lo)].mean()) for lo in (4, 12, 36)]
            out.append((film.mean(), film.std(), film[64:160, 40:216].std(), *bands))
        return np.array(out)

    low, high = np.percentile(describe(real), [2, 98], axis=0)
    inside = (describe(ours) >= low) & (describe(ours) <= high)
    assert inside.mean(0).min() >= 0.7, inside.mean(0)
