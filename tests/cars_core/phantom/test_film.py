"""Simulated films: what tests, counterfactuals and the true ceiling of an evaluation stand on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from cars_core.anatomy.masks import cardiothoracic_ratio
from cars_core.phantom import film as module
from cars_core.phantom.film import SHOWN, counterfactual, render, render_truth, truth_of
from cars_core.phantom.findings import SIMULATED, Placed
from cars_core.phantom.patient import draw_patient, patient_from, position
from cars_core.phantom.thorax import MU_SOFT, build, heart_chord
from schemas.errors import BadInput

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open"
SIZE = 128


def effusion(severity: float = 0.6) -> Placed:
    return Placed("effusion", "left", severity, 5)


def test_the_same_arguments_give_the_same_bytes_or_no_film_could_be_rendered_again_from_its_row() -> None:
    placed = (effusion(), Placed("cardiomegaly", "both", 0.5, 1))
    first = render(draw_patient(3), placed, size=SIZE, noise_seed=9)
    module._base.cache_clear()
    build.cache_clear()
    again = render_truth(truth_of(draw_patient(3), placed, size=SIZE, noise_seed=9))
    assert first.pixels.dtype == np.uint8
    assert first.pixels.shape == (SIZE, SIZE)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert np.array_equal(first.anatomy.lungs, again.anatomy.lungs)
    assert set(again.finding_masks) == {"effusion", "cardiomegaly"}


def test_other_people_other_noise_and_other_positions_give_other_films() -> None:
    p = draw_patient(3)
    films = [render(q, (), size=SIZE, noise_seed=n).pixels
             for q, n in ((p, 1), (p, 2), (position(p, 77), 1), (draw_patient(4), 1))]
    assert len({f.tobytes() for f in films}) == 4
    difference = np.abs(films[0].astype(int) - films[1])
    assert 0.2 < difference.mean() < 4  # noise is visible and does not drown the film


@pytest.mark.parametrize("finding", sorted(SHOWN))
def test_a_finding_changes_only_pixels_in_its_reach_or_counterfactuals_would_teach_more_than_the_finding(
        finding: str) -> None:
    p = draw_patient(11)
    placed = Placed(finding, "both" if finding in ("edema", "cardiomegaly") else "right", 0.8, 4)
    bare = render(p, (), size=SIZE, noise_seed=1)
    sick = render(p, (placed,), size=SIZE, noise_seed=1)
    changed = sick.pixels != bare.pixels
    reach = sick.finding_masks[finding]
    if finding == "cardiomegaly":  # the detector's blur carries the heart's border a little further
        reach = ndimage.binary_dilation(sick.anatomy.heart | bare.anatomy.heart, iterations=2)
    assert changed.any()
    assert not (changed & ~reach).any()
    brighter = sick.pixels[changed].astype(int) - bare.pixels[changed]
    assert brighter.mean() > 3


def test_findings_do_not_touch_the_lung_masks_or_an_edit_would_seem_to_have_moved_the_anatomy() -> None:
    p = draw_patient(2)
    bare = render(p, (), size=SIZE, noise_seed=1).anatomy
    sick = render(p, (effusion(1.0), Placed("cardiomegaly", "both", 1.0, 1)), size=SIZE, noise_seed=1).anatomy
    assert np.array_equal(bare.left_lung, sick.left_lung)
    assert np.array_equal(bare.right_lung, sick.right_lung)


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
    p = draw_patient(6)
    films = [render(p, (Placed("cardiomegaly", "both", s, 0),), size=SIZE, noise_seed=0) for s in (0.0, 0.5, 1.0)]
    bare = render(p, (), size=SIZE, noise_seed=0)
    ratios = [cardiothoracic_ratio(f.anatomy) for f in films]
    assert ratios == sorted(ratios)
    assert ratios[2] - ratios[0] > 0.1
    core = ndimage.binary_erosion(bare.anatomy.heart, iterations=4)
    added = films[2].pixels[core].mean() - bare.pixels[core].mean()
    new = films[2].anatomy.heart & bare.anatomy.lungs & ~bare.anatomy.heart
    assert films[2].pixels[new].mean() - bare.pixels[new].mean() > 40
    assert added < 25


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_every_patient_has_a_plausible_chest_on_the_right_sides(seed: int) -> None:
    f = render(draw_patient(seed), (), size=SIZE, noise_seed=seed)
    a = f.anatomy
    columns = np.arange(SIZE)
    left, right, heart = ((m.sum(0) * columns).sum() / m.sum() for m in (a.left_lung, a.right_lung, a.heart))
    assert left > right  # the patient's left is at the picture's right
    assert heart > 0.5 * (left + right)  # and so is most of the heart
    assert not (a.left_lung & a.right_lung).any()
    for lung in (a.left_lung, a.right_lung):
        assert ndimage.label(lung, np.ones((3, 3)))[1] == 1
        assert 0.08 < lung.mean() < 0.30
    assert (a.left_lung & a.heart).sum() > 0.15 * a.heart.sum()  # lungs include the part behind the heart
    open_lung, solid = f.pixels[a.lungs & ~a.heart], f.pixels[a.heart]
    assert 45 < np.median(open_lung) < 105
    assert 145 < np.median(solid) < 240
    assert f.pixels.min() < 45
    assert len(np.unique(f.pixels)) > 150


def test_the_beam_is_attenuated_by_what_it_crosses() -> None:
    """Beer-Lambert by hand at single rays: a heart replaces air, so it adds mu x air share x the air it replaces."""
    t = build(draw_patient(8), SIZE)
    none, heart = np.zeros_like(t.body), heart_chord(t, 0.45)
    change = (t.attenuation(heart) - t.attenuation(none)).astype(np.float64)
    assert not change[heart == 0].any()
    bare = t.left_lung & (t.spare < 0.02) & (heart > 0)
    for r, c in np.argwhere(bare)[::50]:
        air_before = max(float(t.lung[r, c]) - float(t.mediastinum[r, c]), 0)
        air_after = max(float(t.lung[r, c]) - max(float(t.mediastinum[r, c]), float(heart[r, c])), 0)
        assert change[r, c] == pytest.approx(MU_SOFT * 0.74 * (air_before - air_after), abs=0.01)


def test_a_woman_of_sixty_keeps_her_anatomy_between_films_but_not_her_position() -> None:
    first = draw_patient(21)
    second = position(first, 1)
    kept = ("seed", "sex", "age", "half_width", "ctr", "aorta", "vessels", "breast", "gas")
    assert all(getattr(first, k) == getattr(second, k) for k in kept)
    assert (first.inspiration, first.rotation) != (second.inspiration, second.rotation)


def test_ap_films_magnify_the_heart() -> None:
    p = replace(draw_patient(5), view="PA")
    pa, ap = (render(replace(p, view=v), (), size=256, noise_seed=0).anatomy for v in ("PA", "AP"))
    assert cardiothoracic_ratio(ap) > cardiothoracic_ratio(pa) + 0.01


# --- counterfactuals --------------------------------------------------------------------------------------------------

def test_a_counterfactual_differs_from_its_film_only_where_the_edit_is() -> None:
    p = draw_patient(30)
    truth = truth_of(p, (Placed("nodule", "right", 0.7, 3),), size=SIZE, noise_seed=5)
    edited = counterfactual(truth, [{"kind": "insert", "finding": "effusion", "side": "left", "severity": 0.6}])
    before, after = render_truth(truth), render_truth(edited)
    assert not ((before.pixels != after.pixels) & ~after.finding_masks["effusion"]).any()
    back = counterfactual(edited, [{"kind": "delete", "finding": "effusion", "side": "left", "severity": 0.6}])
    assert back == truth


def test_deleting_clears_both_sides_because_the_target_vector_says_absent() -> None:
    truth = truth_of(draw_patient(1), (Placed("effusion", "both", 0.5, 3), Placed("mass", "left", 0.5, 4)),
                     size=SIZE, noise_seed=5)
    left = json.loads(counterfactual(truth, [{"kind": "delete", "finding": "effusion", "side": "left",
                                              "severity": 0.5}]))
    assert [f["finding"] for f in left["findings"]] == ["mass"]


@pytest.mark.parametrize(("operations", "says"), [
    ([{"kind": "delete", "finding": "mass", "side": "left", "severity": 1.0}], "this film has"),
    ([{"kind": "insert", "finding": "scurvy", "side": "left", "severity": 1.0}], "scurvy"),
    ([{"kind": "move", "finding": "mass", "side": "left", "severity": 1.0}], "insert or delete"),
    ([{"kind": "insert", "finding": "mass", "side": "left"}], "severity"),
    ([{"kind": "insert", "finding": "mass", "side": "up", "severity": 1.0}], "up"),
    ([{"kind": "insert", "finding": "mass", "side": "left", "severity": 2.0}], "2.0"),
])
def test_a_wrong_operation_is_named(operations: list[dict[str, object]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        counterfactual(truth_of(draw_patient(1), (), size=SIZE, noise_seed=0), operations)


@pytest.mark.parametrize("truth", ["", "[]", "{}", '{"model":"other"}', '{"model":"cars.phantom/1","findings":3}'])
def test_a_truth_that_is_none_is_refused(truth: str) -> None:
    with pytest.raises(BadInput):
        render_truth(truth)


def test_a_patient_with_a_missing_or_mistyped_field_is_refused() -> None:
    raw = json.loads(truth_of(draw_patient(1), (), size=SIZE, noise_seed=0))["patient"]
    assert patient_from(raw) == draw_patient(1)
    for bad in ({k: v for k, v in raw.items() if k != "ctr"}, {**raw, "ctr": "wide"}, {**raw, "view": "lateral"}):
        with pytest.raises(BadInput):
            patient_from(bad)


def test_what_the_phantom_cannot_draw_is_refused() -> None:
    p = draw_patient(1)
    twice = (Placed("cardiomegaly", "both", 0.5, 1),) * 2
    for placed, size in (((Placed("hernia", "both", 0.5, 1),), SIZE), (twice, SIZE), ((), 16)):
        with pytest.raises(BadInput):
            render(p, placed, size=size, noise_seed=0)
    assert "cardiomegaly" not in SIMULATED


# --- beside real films ------------------------------------------------------------------------------------------------

def test_grey_values_and_texture_are_those_of_real_films_or_nothing_learnt_here_would_carry_over() -> None:
    if not (REAL / "nih14" / "labels.csv").exists():
        pytest.skip("the NIH films are not beside this checkout (../shared/data/cxr-open)")
    with open(REAL / "nih14" / "labels.csv", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["no_finding"] == "1" and int(r["age"]) >= 18][:40]
    real = [np.asarray(Image.open(REAL / r["file"]).convert("L").resize((256, 256), Image.Resampling.LANCZOS))
            for r in rows]
    ours = [render(draw_patient(i), (), size=256, noise_seed=i).pixels for i in range(12)]

    def describe(films: list[np.ndarray]) -> np.ndarray:
        """Mean, spread, and fine structure (mean gradient) in the middle of each film."""
        out = []
        for film in films:
            middle = film[64:160, 40:216].astype(float)
            gy, gx = np.gradient(middle)
            out.append((film.mean(), film.std(), middle.std(), np.hypot(gx, gy).mean()))
        return np.array(out)

    low, high = np.percentile(describe(real), [2, 98], axis=0)
    inside = (describe(ours) >= low) & (describe(ours) <= high)
    assert inside.mean(0).min() >= 0.5, inside.mean(0)
