"""Opacities: each must look like the sign a reader knows, or a model trained here would learn something else."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy
from cars_core.anatomy.regions import Pass, edit_region
from cars_core.phantom.body.patient import Patient, draw_patient
from cars_core.phantom.body.thorax import Map, build, heart_chord
from cars_core.phantom.findings import interstitium
from cars_core.phantom.findings.frame import LUNG_CM, clouds, frame_of, lung_frame, near, strokes
from cars_core.phantom.findings.lobes import LOBES, fissure, lobe_of
from cars_core.phantom.findings.opacities import _BRIM_CM, MODELS, OPACITIES, cover, fill
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene
from schemas.errors import BadInput

SIZE = 256


def patient(seed: int = 3, *, supine: bool = False) -> Patient:
    return replace(draw_patient(seed), view="AP" if supine else "PA", supine=supine)


def scene(seed: int = 3, *, supine: bool = False, size: int = SIZE) -> Scene:
    p = patient(seed, supine=supine)
    thorax = build(p, size)
    return Scene.of(thorax, heart_chord(thorax, p.heart_ratio))


@lru_cache(maxsize=8)
def anatomy(seed: int = 3, size: int = SIZE) -> Anatomy:
    return scene(seed, size=size).anatomy()


def wall_of_air(s: Scene, side: str, *, from_u: float = 0.7) -> Map:
    """Pleural air between chest wall and lung, as a pneumothorax leaves it."""
    lung = s.frame(side)
    return (lung.mask & (lung.u > from_u)).astype(np.float32)


def seed_for(side: str, lobe: str) -> int:
    return next(i for i in range(200) if lobe_of(side, i) == lobe)


# --- every model ------------------------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from(["left", "right", "both"]), st.floats(0, 1),
       st.integers(0, 2**62), st.integers(0, 2))
def test_a_cover_is_a_share_lies_on_its_lungs_and_is_the_same_each_time(
        name: str, side: str, severity: float, seed: int, who: int) -> None:
    finding, _, form = name.partition("/")
    placed, a = Placed(finding, side, severity, seed, form), anatomy(who, 96)
    c = cover(placed, a)
    assert c.dtype == np.float32
    assert c.min() >= 0 and 0.02 <= c.max() <= 1
    lung = a.lung(side)
    height = max(lung_frame(a, k).height for k in (("left", "right") if side == "both" else (side,)))
    # What fills a cavity reaches 1.4 cm beside the mediastinum, measured in lung heights, however tight the frame.
    assert not c[ndimage.distance_transform_edt(~lung) > 0.055 * height].any()
    assert cover(placed, a).tobytes() == c.tobytes()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.floats(0, 1), st.integers(0, 2**62))
def test_a_scene_changes_only_near_the_lung_the_finding_lies_in(name: str, severity: float, seed: int) -> None:
    finding, _, form = name.partition("/")
    s = scene(1, size=96)
    before = s.attenuation()
    extent = fill(s, Placed(finding, "right", severity, seed, form), form)
    after = s.attenuation()
    assert extent.any() and np.isfinite(after).all()
    beyond = max(0.055 * s.frame("right").height, _BRIM_CM.get(finding, 0) * 96 / s.thorax.patient.field) + 1
    assert not (after != before)[ndimage.distance_transform_edt(~s.right_lung) > beyond].any()
    assert (after - before)[extent].mean() > 0  # tissue attenuates more than the air it replaces


def test_a_form_without_a_model_is_named() -> None:
    with pytest.raises(BadInput, match="atelectasis/lobar"):
        cover(Placed("atelectasis", "left", 0.5, 1, "lobar"), anatomy())


def test_a_form_left_open_draws_what_the_editor_was_trained_on() -> None:
    for finding, form in (("effusion", "meniscus"), ("consolidation", "patchy"), ("atelectasis", "plate")):
        open_, told = (cover(Placed(finding, "left", 0.6, 9, f), anatomy()) for f in ("", form))
        assert open_.tobytes() == told.tobytes()


def test_noise_is_the_cubic_spline_through_its_grid() -> None:
    """Against scipy's own two-dimensional interpolation."""
    lung, _ = near(lung_frame(anatomy(), "left"))
    for cells in (4, 30):
        grid = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((cells + 3, cells + 3)), 0.6)
        at = [np.clip(m, -0.2, 1.2) * cells + 1 for m in (lung.v, lung.u)]
        straight = ndimage.map_coordinates(grid / np.abs(grid).max(), at, order=3, mode="nearest")
        assert np.allclose(clouds(lung, np.random.default_rng(5), cells), straight, atol=1e-6)


def test_a_line_keeps_its_mass_when_the_film_is_too_coarse_to_show_its_width() -> None:
    mass = []
    for size in (96, 384):
        lung = lung_frame(anatomy(3, size), "left")
        drawn = strokes(lung, [((0.3, 0.5), (0.7, 0.5), 0.06)])
        mass.append(float(drawn.sum()) / lung.cm**2)
    assert mass[0] == pytest.approx(mass[1], rel=0.2)


# --- fluid ------------------------------------------------------------------------------------------------------------

def steepest(c: Map, a: Anatomy, side: str) -> float:
    """Greatest change of cover over a pixel down the film, well inside the lung and below its apex.

    A large amount also lies along the wall, whose slant is not an upper border: the outer third is left out.
    """
    lung = lung_frame(a, side)
    inside = (lung.edge > 0.06) & (lung.v > 0.15) & (lung.u < 0.66)
    return float(np.abs(np.diff(c, axis=0))[inside[1:] & inside[:-1]].max())


@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_a_veil_has_no_upper_border_and_a_meniscus_has(severity: float) -> None:
    a = anatomy()
    for seed in range(4):
        flat, erect = (cover(Placed("effusion", "right", severity, seed, f), a) for f in ("veil", "meniscus"))
        assert steepest(flat, a, "right") < 0.3 * steepest(erect, a, "right")


def test_a_veil_lies_over_the_whole_lung_and_is_denser_at_the_base() -> None:
    a = anatomy()
    lung = lung_frame(a, "left")
    c = cover(Placed("effusion", "left", 0.5, 4, "veil"), a)
    assert c[lung.edge > 0.02].min() > 0.1
    rows = [c[lung.mask & (lung.v > v) & (lung.v <= v + 0.2)].mean() for v in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert np.all(np.diff(rows) > 0) and rows[-1] > 1.7 * rows[0]


def test_vessels_are_seen_through_a_veil_and_not_through_fluid_before_them() -> None:
    left = {}
    for form, supine in (("veil", True), ("meniscus", False)):
        s = scene(supine=supine)
        spare = s.spare
        fill(s, Placed("effusion", "left", 0.9, 2, form), form)
        vessels = s.left_lung & (s.frame("left").v > 0.75) & (spare > 0.3)
        left[form] = float(np.median((s.spare * (1 - s.filled))[vessels] / spare[vessels]))
    assert left["veil"] > 0.75 and left["meniscus"] < 0.35


@pytest.mark.parametrize("tilt", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("side", ["left", "right"])
def test_fluid_under_pleural_air_has_a_dead_flat_level_whatever_the_patients_tilt(side: str, tilt: float) -> None:
    p = replace(patient(5), tilt=tilt)
    thorax = build(p, SIZE)
    s = Scene.of(thorax, heart_chord(thorax, p.heart_ratio))
    air = wall_of_air(s, side)
    s.free = air
    fill(s, Placed("effusion", side, 0.5, 7), "meniscus")
    step = np.diff(s.filled, axis=0)
    columns = np.flatnonzero((air.sum(axis=0) > 0.25 * SIZE) & (step.max(axis=0) > 0.3))
    assert columns.size > 6
    level = step.argmax(axis=0)[columns]
    assert level.std() < 1
    row = int(np.median(level))
    below = (air > 0) & (s.frame(side).edge > 0.03)
    assert s.filled[row + 3 :][below[row + 3 :]].min() > 0.9  # fluid has replaced all air below
    assert not s.filled[: row - 2].any()  # and climbs no wall


def test_no_sickle_of_air_is_left_between_fluid_and_dome() -> None:
    s = scene()
    lung = s.frame("left")
    s.free = (ndimage.binary_dilation(lung.mask & (lung.u > 0.3), iterations=3) & (s.lung > 0)).astype(np.float32)
    fill(s, Placed("effusion", "left", 0.6, 7), "meniscus")
    low = (s.free > 0) & (lung.v > 0.75) & (lung.u > 0.35) & (lung.u < 0.9)
    assert s.filled[low].min() > 0.85


def test_no_level_forms_lying_down_or_under_a_bulla() -> None:
    lying = scene(supine=True)
    lying.free = wall_of_air(lying, "left")
    fill(lying, Placed("effusion", "left", 0.5, 7), "veil")
    bulla, plain = scene(), scene()
    lung = bulla.frame("left")
    bulla.free = (np.hypot((lung.u - 0.7) * lung.aspect, lung.v - 0.3) < 0.12).astype(np.float32) * lung.mask
    for s in (bulla, plain):
        fill(s, Placed("effusion", "left", 0.5, 7), "meniscus")
    assert np.abs(np.diff(lying.filled, axis=0))[(lying.frame("left").edge > 0.06)[1:]].max() < 0.1
    assert np.array_equal(bulla.filled, plain.filled)


@pytest.mark.parametrize("finding", sorted(OPACITIES - {"effusion", "pleural_thickening"}))
def test_tissue_does_not_appear_in_pleural_air_and_is_not_lost_to_it(finding: str) -> None:
    for seed in range(5):
        s = scene()
        s.free = wall_of_air(s, "right", from_u=0.45)
        extent = fill(s, Placed(finding, "right", 0.8, seed), "")
        assert not extent[s.free == 1].any()
        assert not s.filled[s.free == 1].any()
        assert extent.sum() > 12  # the finding lies in the collapsed lung


@pytest.mark.parametrize(("finding", "form", "severity"), [("effusion", "veil", 1.0), ("consolidation", "lobar", 1.0)])
def test_what_fills_a_lung_leaves_no_dark_slit_beside_the_mediastinum(finding: str, form: str, severity: float) -> None:
    for who in (3, 8):
        s = scene(who)
        fill(s, Placed(finding, "right", severity, seed_for("right", "upper"), form), form)
        cavity = np.clip(s.lung - np.maximum(s.mediastinum, s.heart), 0, None)
        lung = s.frame("right")
        side = (s.thorax.x < 0) & (lung.v > 0.25) & (lung.v < 0.4)  # the patient's right, beside the great vessels
        for row in np.flatnonzero(side.any(axis=1)):
            inner = int(np.flatnonzero(lung.mask[row])[-1])
            gap = side[row, inner - 4 : inner + 5] & (cavity[row, inner - 4 : inner + 5] > 2)
            assert s.filled[row, inner - 4 : inner + 5][gap].min(initial=1) > 0.3


def test_thickening_lies_where_its_form_says() -> None:
    a = anatomy()
    lung = lung_frame(a, "right")
    for seed in range(6):
        apex, wall = (cover(Placed("pleural_thickening", "right", 0.7, seed, f), a) > 0.1 for f in ("apex", "wall"))
        assert lung.v[apex].max() < 0.25
        assert lung.u[wall].min() > 0.5 and lung.v[wall].min() > 0.1
        middle = np.argwhere(wall)[:, 0]
        assert np.ptp(middle) > 0.15 * lung.height


# --- edema ------------------------------------------------------------------------------------------------------------

def test_kerley_lines_are_thin_short_level_and_meet_the_lateral_wall_at_the_base() -> None:
    lung = lung_frame(anatomy(3, 512), "right")
    lengths, heights = [], []
    for seed in range(12):
        drawn = interstitium.kerley(lung, 0.2, np.random.default_rng(seed))
        labels, n = ndimage.label(drawn > 0.3 * drawn.max(), np.ones((3, 3)))
        assert 1 <= n <= 6
        for rows, cols in ndimage.find_objects(labels):
            lengths.append((cols.stop - cols.start) / lung.cm)
            heights.append((rows.stop - rows.start) / lung.cm)
            assert lung.v[rows.start, 0] > 0.5
            edge = lung.mask[(rows.start + rows.stop) // 2]
            assert abs(np.flatnonzero(edge)[0] - cols.start) < 0.7 * lung.cm  # begins at the wall
    assert 0.9 < np.median(lengths) < 2.2 and max(lengths) < 2.8
    assert np.median(heights) < 0.45  # a millimetre, its slope and a pixel to either side


def test_lines_and_cuffs_grow_with_severity_and_begin_with_congestion() -> None:
    a, drawn = anatomy(3, 384), []
    for severity in (0.1, 0.4, 0.7, 1.0):
        c = np.mean([cover(Placed("edema", "both", severity, s), a) for s in range(3)], axis=0)
        fine = c - ndimage.grey_opening(c, 5)
        drawn.append(float(fine[a.lungs].sum()))
    assert np.all(np.diff(drawn) > 0) and drawn[-1] > 4 * drawn[0]


def test_the_editor_may_paint_all_of_the_edema_it_is_shown() -> None:
    a = anatomy(3, 256)
    for severity in (0.2, 0.6, 1.0):
        for seed in range(3):
            shown = cover(Placed("edema", "left", severity, seed), a) > 0.05
            assert (shown & ~edit_region(Pass("insert", "edema", "left", severity, seed), a)).sum() < 0.01 * shown.sum()


def test_upper_vessels_widen_and_lower_ones_do_not() -> None:
    s = scene()
    before = s.spare
    fill(s, Placed("edema", "both", 1.0, 3), "")
    lung = s.frame("left")
    vessel = lung.mask & (before > 0.3) & (lung.edge > 0.03)
    up, low = vessel & (lung.v < 0.25), vessel & (lung.v > 0.8)
    assert 1.2 < np.median(s.spare[up] / before[up]) <= 1.6
    assert 0.75 < np.median(s.spare[low] / before[low]) < 1
    outside = ~(s.left_lung | s.right_lung)
    assert np.array_equal(s.spare[outside], before[outside])


# --- fibrosis ---------------------------------------------------------------------------------------------------------

def net(severity: float, seed: int) -> tuple[Map, Map, Map]:
    a = anatomy(3, 512)
    lung = lung_frame(a, "right")
    return cover(Placed("fibrosis", "right", severity, seed), a), lung.edge, lung.v


@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_fibrosis_is_a_net_of_lines_at_the_base_under_the_pleura(severity: float) -> None:
    c, edge, v = net(severity, 4)
    lung = edge > 0
    base = lung & (v > 0.7) & (edge < 0.12)
    thin = c - ndimage.grey_opening(c, 7)  # what is narrower than half a centimetre
    assert thin[base].mean() > 0.25 * c[base].mean()
    haze = cover(Placed("infiltration", "right", severity, 4), anatomy(3, 512))
    soft = haze - ndimage.grey_opening(haze, 7)
    assert soft[haze > 0.1].mean() < 0.15 * haze[haze > 0.1].mean()  # which the same measure finds in no haze
    assert c[base].mean() > 2.5 * c[lung & (v < 0.3)].mean()
    rim, deep = (c[lung & (v > 0.6) & where].mean() for where in (edge < 0.06, edge > 0.14))
    assert rim > 1.3 * deep


def test_fibrosis_ends_in_honeycomb_whose_cells_are_closed_and_of_a_readable_size() -> None:
    c, edge, v = net(1.0, 6)
    base = (edge > 0.01) & (v > 0.72) & (edge < 0.10)
    walls = c > ndimage.uniform_filter(c, 21)
    holes, _ = ndimage.label(~walls & base)
    cm = lung_frame(anatomy(3, 512), "right").cm
    across = np.sqrt(np.bincount(holes.ravel())[1:] * 4 / np.pi) / cm
    across = across[across > 0.15]
    assert len(across) > 20
    assert 0.3 < np.median(across) < 1.0


# --- a lobe filled ----------------------------------------------------------------------------------------------------

def rise(c: Map, a: Anatomy, side: str) -> tuple[float, float]:
    """Greatest step down the middle of the lung, and how far its row strays from column to column (lung heights)."""
    lung = lung_frame(a, side)
    part = lung.mask & (lung.u > 0.25) & (lung.u < 0.6) & (lung.v > 0.3) & (lung.v < 0.68)
    step = np.abs(np.diff(ndimage.gaussian_filter(c, (0, 1)), axis=0)) * part[1:]
    columns = np.flatnonzero(part.any(axis=0))
    rows = step.argmax(axis=0)[columns]
    line = np.polyval(np.polyfit(columns, rows, 1), columns)
    return float(np.median(step.max(axis=0)[columns])), float(np.abs(rows - line).max() / lung.height)


def test_the_minor_fissure_is_a_sharp_nearly_level_border_and_the_major_one_is_none() -> None:
    a = anatomy()
    steps = {}
    for side in LOBES:
        for lobe in LOBES[side]:
            c = cover(Placed("consolidation", side, 0.7, seed_for(side, lobe), "lobar"), a)
            steps[side, lobe], strays = rise(c, a, side)
            if (side, lobe) in {("right", "upper"), ("right", "middle")}:
                assert strays < 0.02
    sharp = min(steps.pop(("right", "upper")), steps.pop(("right", "middle")))
    assert sharp > 0.2
    assert max(steps.values()) < 0.35 * sharp, steps


def test_upper_and_middle_lobe_share_the_fissure() -> None:
    a = anatomy()
    lung = lung_frame(a, "right")
    upper, middle = (cover(Placed("consolidation", "right", 0.9, seed_for("right", n), "lobar"), a)
                     for n in ("upper", "middle"))
    above, below = (lung.mask & (lung.u > 0.1) & (lung.u < 0.5) & (np.abs(lung.v - fissure(lung.u) - d) < 0.02)
                    for d in (-0.05, 0.05))
    assert upper[above].mean() > 0.6 > 0.05 > upper[below].mean()
    assert middle[below].mean() > 0.6 > 0.05 > middle[above].mean()


@pytest.mark.parametrize(("side", "front"), [("right", "middle"), ("left", "lingula")])
def test_a_lobe_before_the_heart_hides_its_border_and_the_lower_lobe_leaves_it(side: str, front: str) -> None:
    """Attenuation just inside less just outside the heart's border, at mid heart, of five seeds."""
    def contrast(seed: int | None) -> float:
        s = scene()
        if seed is not None:
            fill(s, Placed("consolidation", side, 0.9, seed, "lobar"), "lobar")
        heart, lung, mu = s.heart > 0, s.frame(side), s.attenuation()
        level = lung.mask & (lung.v > 0.64) & (lung.v < 0.76)
        deep, away = ndimage.distance_transform_edt(heart), ndimage.distance_transform_edt(~heart)
        inner, outer = level & (deep > 2) & (deep < 6), level & (away > 1) & (away < 6)
        return float(mu[inner].mean() - mu[outer].mean())

    seeds = {lobe: [i for i in range(60) if lobe_of(side, i) == lobe][:5] for lobe in (front, "lower")}
    left = {lobe: np.mean([contrast(i) for i in seeds[lobe]]) for lobe in seeds}
    health = contrast(None)
    assert left[front] < 0.4 * health
    assert left["lower"] > 0.48 * health


def test_a_lower_lobe_hides_the_dome() -> None:
    """Attenuation just under less just above the dome."""
    def contrast(filled: bool) -> float:
        s = scene()
        if filled:
            fill(s, Placed("consolidation", "right", 0.9, seed_for("right", "lower"), "lobar"), "lobar")
        lung, mu = s.frame("right"), s.attenuation()
        out = []
        for x in range(*lung.box[1].indices(SIZE)):
            if 0.35 < lung.u[0, x] < 0.7:
                bottom = np.flatnonzero(lung.mask[:, x])[-1]
                out.append(mu[bottom + 6, x] - mu[bottom - 6, x])
        return float(np.mean(out))

    assert contrast(True) < 0.4 * contrast(False)


def test_air_bronchograms_are_dark_lines_that_run_out_from_the_hilum() -> None:
    a = anatomy(3, 512)
    lung = lung_frame(a, "right")
    c = cover(Placed("consolidation", "right", 0.9, seed_for("right", "upper"), "lobar"), a)
    dark = (ndimage.grey_closing(c, 13) - c > 0.12) & (lung.edge > 0.03) & (lung.v < 0.42)
    labels, _ = ndimage.label(dark, np.ones((3, 3)))
    size = np.bincount(labels.ravel())
    size[0] = 0
    tree = labels == size.argmax()
    assert np.ptp(np.argwhere(tree), axis=0).max() / lung.cm > 3  # centimetres of connected air
    far = np.hypot((lung.u - 0.03) * lung.aspect, lung.v - 0.42) * LUNG_CM
    assert far[tree].min() < 4.5  # and it begins near the hilum


def test_the_lobe_named_is_the_lobe_filled() -> None:
    a = anatomy()
    for side, lobes in LOBES.items():
        lung = lung_frame(a, side)
        centre = {}
        for lobe in lobes:
            c = cover(Placed("consolidation", side, 0.7, seed_for(side, lobe), "lobar"), a)
            centre[lobe] = float((c * lung.v).sum() / c.sum())
        assert centre["upper"] < 0.42 < 0.55 < min(v for k, v in centre.items() if k != "upper")
        assert {lobe_of(side, i) for i in range(40)} == set(lobes)


# --- the frame --------------------------------------------------------------------------------------------------------

def test_the_part_looked_at_holds_the_same_frame() -> None:
    whole = lung_frame(anatomy(), "left")
    for margin in (0.0, 0.08):
        part, at = near(whole, margin)
        assert np.array_equal(part.mask, whole.mask[at]) and part.mask.sum() == whole.mask.sum()
        assert part.pixel(0.25, 0.5) == tuple(p - o.start for p, o in zip(whole.pixel(0.25, 0.5), at, strict=True))


def test_distance_to_the_edge_is_that_of_the_whole_film() -> None:
    mask = anatomy().left_lung
    lung = frame_of(mask, "left")
    assert np.array_equal(lung.edge, ndimage.distance_transform_edt(mask).astype(np.float32) / lung.height)


def test_a_scene_measures_a_lung_once_and_again_when_it_has_moved() -> None:
    s = scene()
    first = s.frame("left")
    assert s.frame("left") is first
    s.left_lung = np.roll(s.left_lung, 3, axis=0)
    assert s.frame("left").box[0].start == first.box[0].start + 3
