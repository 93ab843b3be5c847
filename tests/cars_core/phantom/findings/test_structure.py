"""Findings that move what the chest holds: their geometry and physics, measured on the maps and the films."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cars_core.anatomy.masks import Mask, cardiothoracic_ratio
from cars_core.phantom.body.patient import Patient, draw_patient
from cars_core.phantom.body.thorax import MU_SOFT, build, heart_chord
from cars_core.phantom.film import Film, render
from cars_core.phantom.findings.collapse import LOBES, lobe_of
from cars_core.phantom.findings.structure import STRUCTURAL
from cars_core.phantom.findings.warp import Warp
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

SIZE = 192
ONE_SIDED = ("pneumothorax/simple", "pneumothorax/tension", "atelectasis/lobar", "fracture")


@lru_cache(maxsize=4)
def person(seed: int = 8, *, supine: bool = False) -> Patient:
    """Standing or lying straight before the detector, so that rows and columns are those of the body."""
    p = replace(draw_patient(seed), view="PA", supine=False, tilt=0.0, rotation=0.0)
    return replace(p, view="AP", supine=True) if supine else p


def scene_of(p: Patient) -> Scene:
    thorax = build(p, SIZE)
    return Scene.of(thorax, heart_chord(thorax, p.heart_ratio))


def placed(model: str, side: str, severity: float, seed: int = 1) -> Placed:
    finding, _, form = model.partition("/")
    return Placed(finding, side, severity, seed, form)


def laid(model: str, side: str, severity: float, *, seed: int = 1, p: Patient | None = None) -> tuple[Scene, Mask]:
    scene = scene_of(p or person())
    return scene, STRUCTURAL[model](scene, placed(model, side, severity, seed))


def film(*findings: Placed, p: Patient | None = None) -> Film:
    return render(p or person(), findings, size=SIZE, noise_seed=1)


def column_of(weight: np.ndarray) -> float:
    return float((weight.sum(0) * np.arange(weight.shape[1])).sum() / weight.sum())


def other(side: str) -> str:
    return "left" if side == "right" else "right"


def seed_with_lobe(side: str, lobe: str) -> int:
    return next(k for k in range(99) if lobe_of(placed("atelectasis/lobar", side, 0.5, k), side) == lobe)


# --- pneumothorax -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("severity", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("side", ["left", "right"])
def test_no_vessel_crosses_the_pleural_air_or_a_skin_fold_would_pass_for_it(side: str, severity: float) -> None:
    scene, air = laid("pneumothorax/simple", side, severity)
    core = ndimage.binary_erosion(air, iterations=2)
    assert core.sum() > 20
    assert scene_of(person()).spare[core].var() > 0
    assert scene.spare[core].max() < 1e-6
    assert scene.free[core].min() == 1.0


def test_a_thin_bright_line_runs_between_air_and_lung_or_no_reader_would_call_it() -> None:
    scene, air = laid("pneumothorax/simple", "left", 0.3)
    lung = scene.left_lung & ~air
    rim = ndimage.binary_dilation(air) & lung & ndimage.binary_erosion(scene.left_lung, iterations=3)
    assert rim.sum() > 60
    line = MU_SOFT * scene.added
    assert np.percentile(ndimage.maximum_filter(line, 3)[rim], 25) > 0.03
    assert ndimage.label(ndimage.maximum_filter((line > 0.02) & scene.left_lung, 3))[1] == 1  # unbroken
    inner = ndimage.binary_erosion(scene.left_lung, iterations=6)
    assert not scene.added[inner & ~ndimage.binary_dilation(air, iterations=3)].any()
    assert not scene.added[inner & ndimage.binary_erosion(air, iterations=3)].any()


def test_pleural_air_grows_with_severity_from_a_rim_at_the_apex_to_most_of_the_chest() -> None:
    scenes = [laid("pneumothorax/simple", "right", s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    lung = scene_of(person()).right_lung
    shares = [float(air.sum() / lung.sum()) for _, air in scenes]
    assert shares == sorted(shares)
    assert shares[0] < 0.25
    assert shares[-1] > 0.6
    rows = np.flatnonzero(lung.any(axis=1))
    middle = int(column_of(lung[: rows[6]]))
    depth = scenes[0][1][: rows[len(rows) // 2], middle].sum() * person().field / SIZE
    assert 0.8 < depth < 2.5  # cm of air over the apex


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("supine", [False, True])
def test_a_simple_pneumothorax_leaves_the_other_lung_alone(side: str, supine: bool) -> None:
    p = person(supine=supine)
    for severity in (0.2, 1.0):
        f = film(placed("pneumothorax/simple", side, severity), p=p)
        far = ndimage.binary_erosion(film(p=p).anatomy.lung(other(side)), iterations=3)
        assert not (f.reaches["pneumothorax"] & far).any()


def test_lying_down_air_deepens_the_sulcus_and_shows_no_line_at_the_apex() -> None:
    p = person(supine=True)
    before, (scene, air) = scene_of(p), laid("pneumothorax/simple", "right", 0.3, p=p)
    lowest = [np.flatnonzero(s.right_lung.any(axis=1))[-1] for s in (before, scene)]
    assert (lowest[1] - lowest[0]) * p.field / SIZE > 0.8
    rows = np.flatnonzero(before.right_lung.any(axis=1))
    apex = rows[0] + len(rows) // 4
    assert np.array_equal(scene.attenuation()[:apex], before.attenuation()[:apex])
    base = air & ndimage.binary_erosion(before.right_lung, iterations=3)
    assert (scene.attenuation() - before.attenuation())[base].mean() < -0.03  # darker


@pytest.mark.parametrize("side", ["left", "right"])
def test_tension_pushes_heart_and_trachea_away_and_the_dome_down(side: str) -> None:
    before, away = scene_of(person()), -1 if side == "left" else 1
    shifts = []
    for severity in (0.0, 1.0):
        scene, _ = laid("pneumothorax/tension", side, severity)
        heart = away * (column_of(scene.heart) - column_of(before.heart)) * person().field / SIZE
        trachea = away * (column_of(scene.airways) - column_of(before.airways)) * person().field / SIZE
        shifts.append(heart)
        assert 0.6 < heart < 3.2
        assert trachea > 0.2
        floor = [np.median(SIZE - 1 - s.anatomy().lung(side)[::-1].argmax(0)[s.anatomy().lung(side).any(0)])
                 for s in (before, scene)]
        assert floor[1] > floor[0] + 1
        assert np.array_equal(scene.bone, before.bone)
    assert shifts[1] > shifts[0] + 0.8


def test_tension_holds_the_chest_wall_or_the_ribs_would_part_from_the_lung() -> None:
    before, (scene, _) = scene_of(person()), laid("pneumothorax/tension", "left", 1.0)
    rows = np.flatnonzero(before.right_lung.any(axis=1))[10:-25]
    assert np.abs(before.right_lung[rows].argmax(1) - scene.right_lung[rows].argmax(1)).max() <= 1


# --- emphysema, cardiomegaly ------------------------------------------------------------------------------------------

def test_emphysema_lowers_and_flattens_the_domes_darkens_the_lungs_and_narrows_the_heart() -> None:
    bare, before = film(), scene_of(person())
    middle = ndimage.binary_erosion(before.left_lung | before.right_lung, iterations=6) & ~(before.heart > 0)
    greys, domes, arches, ratios = [], [], [], []
    for findings in ((), (placed("emphysema", "both", 0.2),), (placed("emphysema", "both", 1.0),)):
        f = film(*findings)
        lung = f.anatomy.right_lung
        floor = (SIZE - 1 - lung[::-1].argmax(0))[lung.any(0)]
        greys.append(float(f.pixels[middle].mean()))
        domes.append(float(floor[len(floor) // 3: -3].min()))
        arches.append(float(floor.max() - np.median(floor)))
        ratios.append(cardiothoracic_ratio(f.anatomy))
    assert greys == sorted(greys, reverse=True)
    assert greys[0] - greys[2] > 10
    assert domes == sorted(domes)
    assert (domes[2] - domes[0]) * person().field / SIZE > 1.5
    assert arches[2] < 0.7 * arches[0]
    assert ratios[2] < ratios[0] - 0.02
    outer = middle & (np.abs(before.thorax.x) > 0.6 * person().half_width)
    fine = [s.spare - ndimage.gaussian_filter(s.spare, 3) for s in (before, laid("emphysema", "both", 1.0)[0])]
    assert fine[1][outer].std() < 0.5 * fine[0][outer].std()
    assert bare.anatomy.left_lung.sum() < f.anatomy.left_lung.sum()


def test_where_a_dome_stood_no_border_is_left_when_it_has_gone_down() -> None:
    """The lung behind the dome goes with it, or its upper end would show as a second dome."""
    before, (scene, _) = scene_of(person()), laid("emphysema", "both", 1.0)
    step = person().field / SIZE
    for side in ("left", "right"):
        lung = before.anatomy().lung(side)
        columns = np.flatnonzero(lung.any(axis=0))
        deeper, jump = [], []
        for c in columns[len(columns) // 3 : 2 * len(columns) // 3]:
            old = int(np.flatnonzero(lung[:, c])[-1])
            k = int(1.2 / step)
            deeper.append(scene.lung[old + k, c] > 0.9 * scene.lung[old - k, c])
            jump.append(scene.body[old + k, c] - scene.body[old - k, c])
        assert np.mean(deeper) > 0.7  # the new dome is further down
        assert np.median(jump) > -0.4  # cm


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_heart_rests_on_the_dome_that_tension_has_pressed_down(side: str) -> None:
    scene, _ = laid("pneumothorax/tension", side, 0.9)
    heart, lung = scene.heart > 0, scene.anatomy().lung(side)
    under = np.flatnonzero(heart.any(axis=0) & lung.any(axis=0))
    floor = np.median(SIZE - 1 - lung[::-1, under].argmax(axis=0))
    assert np.flatnonzero(heart.any(axis=1))[-1] > floor - 0.5 * SIZE / person().field


def test_a_warp_leaves_the_films_last_row_and_column_where_nothing_moves() -> None:
    values = np.random.default_rng(1).random((12, 9), np.float32)
    still = np.zeros((12, 9), np.float32)
    dx = still.copy()
    dx[3, 3] = 0.5
    moved = Warp.of(values.shape, (slice(0, 12), slice(0, 9)), dx, still).map(values)
    assert moved[3, 3] == pytest.approx(values[3, 3:5].mean())
    moved[3, 3] = values[3, 3]
    assert np.array_equal(moved, values)


def test_a_large_heart_rests_on_the_low_domes_of_emphysema() -> None:
    long, both = (film(*fs) for fs in ((placed("emphysema", "both", 1.0),),
                                       (placed("emphysema", "both", 1.0), placed("cardiomegaly", "both", 0.5))))
    bottoms = [np.flatnonzero(f.anatomy.heart.any(axis=1))[-1] for f in (long, both)]
    assert abs(int(bottoms[0]) - int(bottoms[1])) <= 2
    assert cardiothoracic_ratio(both.anatomy) > 0.5


# --- hernia -----------------------------------------------------------------------------------------------------------

def test_a_hernia_holds_air_over_a_level_surface_when_erect_and_none_when_lying() -> None:
    p = person()
    for tilt in (0.0, 2.0):
        q = replace(p, tilt=tilt)
        before, (scene, extent) = scene_of(q), laid("hernia", "both", 0.7, p=q)
        gas = scene.airways - before.airways
        columns = np.flatnonzero((gas > 2.0).any(axis=0))
        lowest = SIZE - 1 - (gas[:, columns] > 2.0)[::-1].argmax(axis=0)
        assert len(columns) > 10
        assert np.ptp(lowest[2:-2]) <= 1
        assert not gas[~extent].any()
        below = extent & (np.arange(SIZE)[:, None] > lowest.max() + 2)
        assert below.sum() > 20
        assert (scene.attenuation() - before.attenuation())[below].mean() > 0
    flat = person(supine=True)
    before, (scene, extent) = scene_of(flat), laid("hernia", "both", 0.7, p=flat)
    drop = -np.diff(scene.airways - before.airways, axis=0)[:, columns].max()
    assert drop < 0.4 * gas.max()


def test_a_hernia_measures_what_its_severity_says_and_sits_at_the_hiatus() -> None:
    p = person()
    for severity, low, high in ((0.0, 2.5, 4.0), (1.0, 8.5, 11.5)):
        scene, extent = laid("hernia", "both", severity)
        width = np.flatnonzero(extent.any(axis=0)).size * p.field / SIZE
        assert low < width < high
        assert 0 < scene.thorax.x[extent].mean() < 4
        base = scene.thorax.y[scene.left_lung].max()
        assert base - 9 < scene.thorax.y[extent].mean() < base


# --- lobar collapse ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("side", "lobe"), [(s, lobe) for s, lobes in LOBES.items() for lobe in lobes])
def test_a_collapsed_lobe_is_dense_where_it_lies_and_draws_its_neighbours_in(side: str, lobe: str) -> None:
    model, seed = "atelectasis/lobar", seed_with_lobe(side, lobe)
    before, (scene, extent) = scene_of(person()), laid(model, side, 0.8, seed=seed)
    assert not (extent & scene.anatomy().lung(other(side))).any()
    v = np.flatnonzero(extent.any(axis=1)).mean()
    rows = np.flatnonzero(before.anatomy().lung(side).any(axis=1))
    height = (v - rows[0]) / len(rows)
    assert height < 0.5 if lobe == "upper" else height > 0.55
    core = ndimage.binary_erosion(extent & (scene.filled > 0.5), iterations=1)
    assert core.sum() > 15
    assert (scene.attenuation() - before.attenuation())[core].mean() > 0.2
    towards = 1 if side == "left" else -1
    moved = [towards * (column_of(getattr(scene, k)) - column_of(getattr(before, k))) for k in ("heart", "airways")]
    assert min(moved) >= 0
    assert max(moved) * person().field / SIZE > 0.15
    domes = [(SIZE - 1 - s.anatomy().lung(side)[::-1].argmax(0))[rows_of(s, side)].min() for s in (before, scene)]
    assert domes[1] < domes[0]


def rows_of(scene: Scene, side: str) -> np.ndarray:
    """Columns of the middle half of a lung."""
    columns = np.flatnonzero(scene.anatomy().lung(side).any(axis=0))
    return columns[len(columns) // 4: -len(columns) // 4]


# --- rib fracture -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("side", ["left", "right"])
def test_a_fracture_breaks_one_to_three_ribs_of_its_own_side_and_nothing_else(side: str) -> None:
    before = scene_of(person())
    for severity, ribs in ((0.2, 1), (0.6, 2), (0.9, 3)):
        scene, extent = laid("fracture", side, severity, seed=3)
        changed = scene.attenuation() != before.attenuation()
        assert ndimage.label(extent)[1] <= ribs
        area = extent.sum() * (person().field / SIZE) ** 2
        assert 2.5 * ribs < area < 7 * ribs  # cm2: windows of about 3 x 2 cm
        assert (before.bone[extent] > 0.05).mean() > 0.3
        assert not (changed & before.anatomy().lung(other(side))).any()
        assert np.abs(scene.bone - before.bone)[extent].max() > 0.08
        near = ndimage.binary_dilation(extent, iterations=int(2 * SIZE / person().field))
        assert not (changed & ~near).any()


@pytest.mark.parametrize("who", [2, 4, 8, 17])
def test_a_displaced_fracture_cannot_be_missed_by_who_knows_where_to_look(who: int) -> None:
    for side in ("left", "right"):
        p = draw_patient(who)
        bare, sick = (render(p, f, size=256, noise_seed=1) for f in ((), (placed("fracture", side, 0.8, 5),)))
        change = np.abs(sick.pixels.astype(int) - bare.pixels)[sick.finding_masks["fracture"]]
        assert change.max() > 14
        assert (change > 8).sum() > 40  # pixels


# --- all of them ------------------------------------------------------------------------------------------------------

@settings(max_examples=20, deadline=None)
@given(st.integers(0, 400), st.floats(0, 1), st.integers(0, 10_000), st.sampled_from(sorted(STRUCTURAL)),
       st.sampled_from(["left", "right", "both"]))
def test_any_structural_finding_on_anyone_is_finite_seen_within_its_reach_and_the_same_again(
        who: int, severity: float, seed: int, model: str, side: str) -> None:
    if model not in ONE_SIDED:
        side = "both"
    elif model == "pneumothorax/tension" and side == "both":
        side = "left"
    one, p = placed(model, side, severity, seed), draw_patient(who)
    bare, sick, again = (render(p, f, size=128, noise_seed=2) for f in ((), (one,), (one,)))
    reach, extent = sick.reaches[one.finding], sick.finding_masks[one.finding]
    assert extent.any()
    assert (extent & reach).sum() > 0.8 * extent.sum()
    assert not ((sick.pixels != bare.pixels) & ~reach).any()
    assert sick.pixels.tobytes() == again.pixels.tobytes()
    assert np.array_equal(extent, again.finding_masks[one.finding])
    thorax = build(p, 128)
    scene = Scene.of(thorax, heart_chord(thorax, p.heart_ratio))
    STRUCTURAL[model](scene, one)
    for name in ("heart", "mediastinum", "lung", "body", "airways", "spare", "bone", "filled", "free", "added"):
        values = getattr(scene, name)
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name
        assert values.min() >= -1e-4 or name == "spare", name
    assert max(scene.filled.max(), scene.free.max()) <= 1
    assert np.isfinite(scene.attenuation()).all()
    assert not (scene.left_lung & scene.right_lung).any()


def test_findings_combine_or_the_rare_combinations_could_not_be_shown() -> None:
    sets = [
        (placed("emphysema", "both", 0.9), placed("pneumothorax/simple", "right", 0.4)),
        (placed("atelectasis/lobar", "left", 0.7), Placed("effusion", "left", 0.5, 2)),
        tuple(placed(m, "right" if m in ONE_SIDED else "both", 0.8) for m in sorted(STRUCTURAL) if "simple" not in m),
    ]
    for findings in sets:
        f = film(*findings)
        bare = film()
        touched = np.logical_or.reduce(list(f.reaches.values()))
        assert set(f.finding_masks) == {one.finding for one in findings}
        assert all(mask.any() for mask in f.finding_masks.values())
        assert not ((f.pixels != bare.pixels) & ~touched).any()
