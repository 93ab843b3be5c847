"""Devices: a tube shown where no tube can lie, or a mask beside its tube, would teach what is not so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cars_core.anatomy.masks import Mask
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.body.thorax import Map, Thorax, build
from cars_core.phantom.devices.courses import COURSES, TOO_LOW, Landmarks, Strand
from cars_core.phantom.devices.draw import draw
from cars_core.phantom.film import render
from cars_core.phantom.placed import DEVICES, Device

SIZE = 192
EACH = [(kind, side) for kind, sides in DEVICES.items() for side in sides]
ANYWHERE = np.ones((3, 3), bool)
people = st.integers(0, 10_000)
seeds = st.integers(0, 10_000)


@cache
def thorax(seed: int, size: int = SIZE) -> Thorax:
    return build(draw_patient(seed), size)


def at(t: Thorax, mask: Mask) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a mask's pixels, cm."""
    return t.x[mask].astype(float), t.y[mask].astype(float)


def lowest(t: Thorax, mask: Mask) -> tuple[float, float]:
    x, y = at(t, mask)
    last = y > y.max() - 1.5 * t.patient.field / t.x.shape[0]
    return float(x[last].mean()), float(y.max())


def carina(t: Thorax) -> float:
    """Where the airways first hold two separate columns of air, followed down from the trachea: cm.

    The wall between the bronchi is thin at first, so this lies at or a little below the spur.
    """
    for row in range(t.x.shape[0]):
        if t.y[row, 0] > 5 and ndimage.label(t.airways[row] > 0.05 * t.airways.max())[1] >= 2:
            return float(t.y[row, t.x.shape[1] // 2])
    raise AssertionError("the trachea does not part")


def border(t: Thorax, y: float) -> float:
    """x of the right lung's inner border at a height, cm."""
    near = t.right_lung & (np.abs(t.y - y) < 0.7 * t.patient.field / t.x.shape[0])
    return float(t.x[near].max())


@pytest.mark.parametrize(("kind", "side"), EACH)
@settings(max_examples=8, deadline=None)
@given(person=people, seed=seeds)
def test_the_mask_is_what_the_device_adds_or_a_segmenter_would_learn_a_wrong_outline(
        kind: str, side: str, person: int, seed: int) -> None:
    t = thorax(person)
    log, mask = draw(Device(kind, side, seed), t)
    assert (log.dtype, log.shape, mask.dtype, mask.shape) == (np.float32, t.x.shape, bool, t.x.shape)
    assert np.isfinite(log).all() and log.min() >= 0
    assert not (log > 0)[~ndimage.binary_dilation(mask, ANYWHERE)].any()
    assert (log[mask] > 0).mean() > 0.97
    assert 30 < mask.sum() < 0.06 * mask.size
    if kind != "sternal_wires":  # every other device is in one piece
        assert ndimage.label(mask, ANYWHERE)[1] == 1


@pytest.mark.parametrize(("kind", "side"), EACH)
def test_the_same_device_gives_the_same_bytes_and_another_seed_another_course(kind: str, side: str) -> None:
    t = thorax(3)
    first, again, other = (draw(Device(kind, side, s), t) for s in (1, 1, 2))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(("kind", "side"), EACH)
def test_a_device_has_one_size_in_centimetres_whatever_the_pixels(kind: str, side: str) -> None:
    areas, masses, centres, boxes = [], [], [], []
    for size in (256, 512, 1024):
        t = thorax(12, size)
        log, mask = draw(Device(kind, side, 4), t)
        step = t.patient.field / size
        x, y = at(t, mask)
        areas.append(mask.sum() * step**2)
        masses.append(log.sum() * step**2)
        centres.append(((t.x * log).sum() / log.sum(), (t.y * log).sum() / log.sum()))
        boxes.append((x.min(), x.max(), y.min(), y.max()))
    assert masses[:2] == pytest.approx([masses[2]] * 2, rel=0.03)
    assert np.ptp(np.array(centres), axis=0).max() < 0.1
    assert np.ptp(np.array(boxes), axis=0).max() < 0.3  # two pixels of the smallest film
    if kind in ("endotracheal_tube", "nasogastric_tube", "chest_drain"):
        assert areas[:2] == pytest.approx([areas[2]] * 2, rel=0.1)
    assert areas[0] < 2.7 * areas[2]  # of lines: at 256 pixels their masks are a pixel wide, which is more than they


@pytest.mark.parametrize(("kind", "wide"), [("endotracheal_tube", 0.8), ("nasogastric_tube", 0.5)])
def test_the_mask_of_a_tube_is_as_wide_as_the_tube(kind: str, wide: float) -> None:
    t = thorax(12, 512)
    _, mask = draw(Device(kind, "both", 4), t)
    upright = mask[(np.abs(t.y[:, 256] + 1) < 2)].sum(axis=1) * t.patient.field / 512
    assert upright.mean() == pytest.approx(wide, abs=0.05)


@pytest.mark.parametrize("size", [64, 128, 1024])
@pytest.mark.parametrize(("kind", "side"), EACH)
def test_devices_show_at_every_film_size(kind: str, side: str, size: int) -> None:
    _, mask = draw(Device(kind, side, 8), thorax(5, size))
    assert mask.any()
    if kind != "sternal_wires":
        assert ndimage.label(mask, ANYWHERE)[1] == 1


@pytest.mark.parametrize(("kind", "side"), EACH)
def test_a_device_changes_its_own_pixels_only_or_it_would_betray_itself_across_the_film(kind: str, side: str) -> None:
    p = draw_patient(7)
    bare = render(p, (), size=SIZE, noise_seed=1)
    film = render(p, (), size=SIZE, noise_seed=1, devices=(Device(kind, side, 2),))
    mask = film.device_masks[kind]
    changed = film.pixels != bare.pixels
    assert not changed[~ndimage.binary_dilation(mask, ANYWHERE, iterations=3)].any()  # 1 of drawing, 2 of blur
    assert (film.pixels[mask].astype(int) - bare.pixels[mask]).mean() > 2
    assert (film.pixels >= bare.pixels).all()


# --- where they lie ---------------------------------------------------------------------------------------------------

@settings(max_examples=25, deadline=None)
@given(person=people, seed=seeds)
def test_an_endotracheal_tube_lies_in_the_airways(person: int, seed: int) -> None:
    t = thorax(person)
    _, mask = draw(Device("endotracheal_tube", "both", seed), t)
    air = ndimage.binary_dilation(t.airways > 0, ANYWHERE)
    inside = mask & (t.y > 0)
    assert (inside & air).sum() > 0.97 * inside.sum()
    assert mask[0].any()  # it comes from the mouth, above the film
    x, y = lowest(t, mask)
    up = carina(t) - y
    assert 2.3 < up < 7.6 or (up < 1.0 and x < Landmarks(t).windpipe(y) - 0.4)


def test_about_one_endotracheal_tube_in_ten_lies_too_low_as_the_docs_say() -> None:
    t = thorax(4, 128)
    end = carina(t)
    low = np.mean([lowest(t, draw(Device("endotracheal_tube", "both", s), t)[1])[1] > end - 1.5 for s in range(150)])
    assert abs(low - TOO_LOW) < 0.075  # three standard deviations of 150 draws


@settings(max_examples=25, deadline=None)
@given(person=people, seed=seeds)
def test_a_nasogastric_tube_ends_in_the_stomach(person: int, seed: int) -> None:
    t = thorax(person)
    _, mask = draw(Device("nasogastric_tube", "both", seed), t)
    x, y = at(t, mask)
    dome = float(t.y[t.left_lung & (np.abs(t.x - 0.45 * t.patient.half_width) < 2)].max())
    assert mask[0].any()
    tip_x, tip_y = lowest(t, mask)
    assert tip_y > dome + 1.5
    assert 1 < tip_x < 0.7 * t.patient.half_width  # under the left dome
    chest = (y > 0) & (y < dome - 1)
    assert np.abs(x[chest]).max() < 3  # not in a bronchus
    assert not (mask & t.right_lung).any()


def test_the_stripe_of_a_nasogastric_tube_is_broken_at_its_side_holes() -> None:
    t = thorax(12, 1024)
    log, mask = draw(Device("nasogastric_tube", "both", 4), t)
    dome = Landmarks(t).dome(1)
    striped = log > 0.3
    assert ndimage.label(striped & (t.y < dome), ANYWHERE)[1] == 1
    assert ndimage.label(striped & (t.y > dome), ANYWHERE)[1] >= 4
    assert ndimage.label(mask, ANYWHERE)[1] == 1


@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=20, deadline=None)
@given(person=people, seed=seeds)
def test_a_central_line_ends_in_the_superior_vena_cava_whichever_side_it_comes_from(
        side: str, person: int, seed: int) -> None:
    t = thorax(person)
    _, mask = draw(Device("central_line", side, seed), t)
    x, y = lowest(t, mask)
    down = y - carina(t)
    assert -1 < down < 5
    assert border(t, carina(t)) < x < border(t, carina(t)) + 1.5 < 0.5  # just inside the right border
    sign = 1 if side == "left" else -1
    xs, ys = at(t, mask)
    # It crosses the midline behind the breastbone, lower where the carina stands lower.
    assert (sign * xs[ys < min(3.0, carina(t) - 4.0)] > 0).all()


def test_in_a_short_chest_the_line_does_not_climb_and_wires_keep_apart() -> None:
    t = build(replace(draw_patient(3), lung_height=18.0, inspiration=0.9, dome=5.0, tilt=0.0), 256)
    marks = Landmarks(t)
    for seed in range(12):
        catheter = COURSES["central_line"](marks, np.random.default_rng(seed), 1)[-1]
        assert isinstance(catheter, Strand)
        x, y = catheter.line.T
        assert np.diff(y[x < 2]).min() > -0.005
        assert x[y < 1].min(initial=1) > 0
        _, mask = draw(Device("sternal_wires", "both", seed), t)
        assert ndimage.label(mask.any(axis=1))[1] >= 2


@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=20, deadline=None)
@given(person=people, seed=seeds)
def test_a_pacemaker_sits_below_its_collar_bone_and_its_leads_end_in_the_heart(
        side: str, person: int, seed: int) -> None:
    t = thorax(person)
    log, mask = draw(Device("pacemaker", side, seed), t)
    step = t.patient.field / SIZE
    can = ndimage.binary_opening(mask, np.ones((int(2.2 / step),) * 2, bool))
    rows, columns = np.nonzero(can)
    assert (columns.mean() > SIZE / 2) == (side == "left")  # the patient's left is the picture's right
    x, y = at(t, can)
    assert 2 < y.mean() < 0.4 * t.patient.height  # above mid-lung
    assert abs(x.mean()) > 0.4 * t.patient.half_width
    for extent in (np.ptp(rows) * step, np.ptp(columns) * step):
        assert 3.4 < extent < 5.8
    assert log[can].max() > 2.5
    film = render(t.patient, (), size=SIZE, noise_seed=0)
    tip_y = lowest(t, mask)[1]
    heart = film.anatomy.heart
    assert heart[mask & (t.y > tip_y - 1.0)].mean() > 0.8
    assert tip_y < t.y[heart].max() + 0.2


def test_some_pacemakers_have_one_lead_and_some_two() -> None:
    t = thorax(12, 512)
    hooks = []
    for seed in range(12):
        _, mask = draw(Device("pacemaker", "left", seed), t)
        # Between the valve and the carina a second lead, the atrial hook, comes back up beside the first.
        row = np.flatnonzero(np.abs(t.y[:, 256] - (carina(t) + 4.0)) < 0.3)
        hooks.append(max(ndimage.label(mask[r])[1] for r in row) > 1)
    assert 0 < sum(hooks) < 12


@settings(max_examples=25, deadline=None)
@given(person=people, seed=seeds)
def test_sternal_wires_run_down_the_midline(person: int, seed: int) -> None:
    t = thorax(person)
    log, mask = draw(Device("sternal_wires", "both", seed), t)
    x, y = at(t, mask)
    assert np.abs(x - 0.7 * t.patient.rotation).max() < 2.2
    assert 2 < y.min() < 6
    assert 0.25 < np.ptp(y) / t.patient.height < 0.8  # the least in a chest whose domes stand near the carina
    assert log.max() > 0.5
    crossed = ndimage.label(mask.any(axis=1))[1]  # neighbours may touch where they lie close
    assert 2 <= crossed <= 7
    assert y.max() < t.y[t.right_lung].max()  # the breastbone ends above the costophrenic angles


@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=20, deadline=None)
@given(person=people, seed=seeds)
def test_a_chest_drain_enters_from_the_side_and_ends_inside_its_own_half_of_the_chest(
        side: str, person: int, seed: int) -> None:
    t = thorax(person)
    _, mask = draw(Device("chest_drain", side, seed), t)
    sign, lung = (1, t.left_lung) if side == "left" else (-1, t.right_lung)
    x, y = at(t, mask)
    assert (sign * x).min() > 2
    wall = float((sign * t.x[lung]).max())
    assert (sign * x > wall).any() or (sign * t.x).max() < wall + 1.5  # it comes in through the wall, if that is shown
    inner = sign * x < (sign * x).min() + 0.6
    end = np.zeros_like(mask)
    end[mask] = inner
    assert lung[end].mean() > 0.8
    assert (lung & mask).sum() > 0.35 * mask.sum()
    # The base is where that lung ends above its dome, which may stand anywhere; the apex is a share of the height.
    tip = float(x[inner].mean())
    below = float(t.y[lung & (np.abs(t.x - tip) < 0.6)].max()) - float(y[inner].mean())
    assert y[inner].mean() < 0.25 * t.patient.height or below < 2.5


def test_drains_go_to_the_apex_and_to_the_base() -> None:
    t = thorax(12)
    reach = [at(t, draw(Device("chest_drain", "left", s), t)[1])[1].min() < 4 for s in range(20)]
    assert 4 < sum(reach) < 20


def test_a_tilted_and_shifted_patient_takes_the_devices_along() -> None:
    p = replace(draw_patient(12), tilt=0.0, shift_x=0.0)
    straight, moved = build(p, 256), build(replace(p, tilt=4.0, shift_x=1.5), 256)
    for kind, side in EACH:
        places = [at(t, draw(Device(kind, side, 4), t)[1]) for t in (straight, moved)]
        inner = []  # what both films hold of it
        for x, y in places:
            both = (y > 1) & (y < 20) & (np.abs(x) < 0.9 * p.half_width)
            inner.append((x[both].mean(), y[both].mean()))
        assert inner[0] == pytest.approx(inner[1], abs=0.45), kind


def test_metal_hides_what_lies_behind_it_and_plastic_does_not() -> None:
    t = thorax(12, 512)

    def strongest(kind: str) -> Map:
        return draw(Device(kind, DEVICES[kind][0], 4), t)[0]

    assert np.percentile(strongest("pacemaker")[strongest("pacemaker") > 0], 75) > 1.5
    for kind in ("endotracheal_tube", "nasogastric_tube", "chest_drain"):
        log = strongest(kind)
        assert 0.02 < np.median(log[log > 0.01]) < 0.3
        assert 0.3 < log.max() < 1.2  # the stripe
