"""The gates: a faulty edit is kept out for its fault, a sound one is let in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy
from cars_core.quality.gates import BRIGHTENS, DARKENS, verdict
from cars_core.quality.measures import measure
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gates
from schemas.tables import MEASURES

VOCABULARY = load_vocabulary()
GOOD = {"psnr_outside": 120.0, "ssim_outside": 1.0, "ssim_whole": 0.99, "kept_changed": 0.0, "seam": 0.1,
        "effect": 12.0, "grain": 0.9, "dice_left_lung": 0.99, "dice_right_lung": 0.99, "dice_lungs": 0.99,
        "ctr_source": 0.45, "ctr_edit": 0.45}


def op(finding: str, kind: str = "insert", side: str = "left") -> dict[str, object]:
    return {"kind": kind, "finding": finding, "side": side, "severity": 0.5}


def judge(operations: list[dict[str, object]] | None = None, gates: Gates | None = None, **changed: float) -> list[str]:
    word, reasons = verdict(GOOD | changed, operations or [op("consolidation")], gates or Gates(),
                            vocabulary=VOCABULARY)
    assert word == ("rejected" if reasons else "accepted")
    return reasons


def names(reasons: list[str]) -> set[str]:
    return {r.split()[0] for r in reasons}


# --- planted faults, from pixels to verdict

SIZE = 160


@dataclass
class Patient:
    film: np.ndarray
    anatomy: Anatomy


def patient(seed: int) -> Patient:
    """A crude chest: lungs, heart, ribs and grain of one's own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE

    def oval(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    cx, cy, rx, ry = rng.uniform([0.18, 0.42, 0.12, 0.26], [0.24, 0.5, 0.16, 0.36])
    anatomy = Anatomy(left_lung=oval(0.5 + cx, cy, rx, ry), right_lung=oval(0.5 - cx, cy, rx, ry),
                      heart=oval(0.54, cy + 0.12, rng.uniform(0.13, 0.18), 0.14))
    film = 170 - 90.0 * anatomy.lungs + 50 * anatomy.heart + 12 * np.sin(2 * np.pi * (9 * y + x + rng.uniform()))
    film = ndimage.gaussian_filter(film, 1.0) + rng.normal(0, 5, film.shape)
    return Patient(np.clip(film, 0, 255).astype(np.uint8), anatomy)


def lesion() -> tuple[np.ndarray, np.ndarray]:
    """A mask in the left lung, and an opacity that fades out inside its band (grey levels)."""
    y, x = np.mgrid[:SIZE, :SIZE]
    r = np.hypot(x - 112, y - 84)
    mask = np.where(r < 14, 255, np.where(r < 22, 128, 0)).astype(np.uint8)
    return mask, 25 * np.clip((21 - r) / 12, 0, 1)


def add(film: np.ndarray, change: np.ndarray) -> np.ndarray:
    return np.clip(film.astype(float) + change, 0, 255).astype(np.uint8)


def through(edit: Patient, *, mask: np.ndarray | None = None, gates: Gates | None = None) -> set[str]:
    """Names of the gates that an edit of patient 0 (a consolidation in the left lung) fails."""
    source = patient(0)
    found = measure(source=source.film, edit=edit.film, mask=lesion()[0] if mask is None else mask,
                    source_anatomy=source.anatomy, edit_anatomy=edit.anatomy)
    return names(verdict(found, [op("consolidation")], gates or Gates(), vocabulary=VOCABULARY)[1])


def sound() -> Patient:
    p = patient(0)
    return Patient(add(p.film, lesion()[1]), p.anatomy)


def test_a_sound_edit_is_accepted():
    assert through(sound()) == set()


def test_one_changed_pixel_in_the_kept_region_is_caught():
    p = sound()
    p.film[3, 3] += 1
    assert through(p) == {"kept_changed"}


def test_a_blurred_film_is_caught_even_where_changed_pixels_are_allowed():
    """A model that decodes the whole film loses its fine detail."""
    p = sound()
    p.film = ndimage.gaussian_filter(p.film, 1.5)
    assert through(p) == {"kept_changed", "ssim_outside"}
    assert through(p, gates=Gates(kept_changed_max=10**9)) == {"ssim_outside"}


def test_a_shifted_film_is_caught():
    p = sound()
    p.film = np.roll(p.film, 2, axis=1)
    assert through(p, gates=Gates(kept_changed_max=10**9)) == {"ssim_outside"}


def test_lungs_that_moved_are_caught_though_no_kept_pixel_changed():
    p = sound()
    a = p.anatomy
    p.anatomy = Anatomy(np.roll(a.left_lung, 6, axis=0), np.roll(a.right_lung, 6, axis=0), a.heart)
    assert through(p) == {"dice_lungs"}


def test_another_patient_pasted_over_the_film_is_caught():
    failed = through(patient(1))
    assert {"kept_changed", "ssim_outside", "dice_lungs"} <= failed
    assert "ssim_outside" in through(patient(1), gates=Gates(kept_changed_max=10**9, dice_lungs_min=0))


def test_another_patients_lungs_pasted_inside_the_mask_are_caught():
    source, other = patient(0), patient(1)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[12:-12, 12:-12] = 255
    pasted = Patient(np.where(mask > 0, other.film, source.film).astype(np.uint8), other.anatomy)
    failed = through(pasted, mask=mask)
    assert "dice_lungs" in failed
    assert not failed & {"kept_changed", "ssim_outside"}


def test_a_hard_seam_is_caught():
    p = patient(0)
    mask, _ = lesion()
    assert through(Patient(add(p.film, 20.0 * (mask > 0)), p.anatomy)) == {"seam"}


def test_an_edit_that_did_nothing_is_caught():
    assert through(patient(0)) == {"effect"}


def test_an_edit_that_went_the_wrong_way_is_caught():
    p = patient(0)
    assert through(Patient(add(p.film, -lesion()[1]), p.anatomy)) == {"effect"}


# --- each gate alone

@pytest.mark.parametrize(("measure_name", "value", "reason"), [
    ("ssim_outside", 0.981, "ssim_outside 0.981 < 0.995"),
    ("ssim_outside", 0.99496, "ssim_outside 0.99496 < 0.995"),
    ("kept_changed", 1.0, "kept_changed 1 > 0"),
    ("seam", 2.5, "seam 2.5 > 2"),
    ("effect", 1.25, "effect 1.25 < 3 (insert consolidation must brighten)"),
    ("dice_lungs", 0.9, "dice_lungs 0.9 < 0.95"),
    ("ctr_edit", 0.5, "|ctr_edit - ctr_source| 0.05 > 0.04"),
    ("ctr_edit", 0.4, "|ctr_edit - ctr_source| 0.05 > 0.04"),
])
def test_a_failed_gate_tells_value_and_threshold(measure_name, value, reason):
    assert judge(**{measure_name: value}) == [reason]


def test_every_failed_gate_is_told_not_only_the_first():
    reasons = judge(ssim_outside=0.5, kept_changed=9.0, seam=8.0, effect=-1.0, dice_lungs=0.1, ctr_edit=0.9)
    assert names(reasons) == {"ssim_outside", "kept_changed", "seam", "effect", "dice_lungs", "|ctr_edit"}


@pytest.mark.parametrize("changed", [
    {"ssim_outside": 0.995}, {"seam": 2.0}, {"effect": 3.0}, {"dice_lungs": 0.95},
])
def test_a_value_on_its_threshold_passes(changed):
    assert judge(**changed) == []


WORSE = {"ssim_outside": -1, "kept_changed": 1, "seam": 1, "effect": -1, "dice_lungs": -1}


@settings(max_examples=100, deadline=None)
@given(start=st.fixed_dictionaries({"ssim_outside": st.floats(0.9, 1), "kept_changed": st.integers(0, 2).map(float),
                                    "seam": st.floats(-1, 4), "effect": st.floats(-10, 10),
                                    "dice_lungs": st.floats(0.8, 1)}),
       which=st.sampled_from(sorted(WORSE)), by=st.floats(0, 5))
def test_making_an_edit_worse_never_lets_it_in(start, which, by):
    before = judge(**start)
    after = judge(**(start | {which: start[which] + WORSE[which] * by}))
    assert names(before) <= names(after)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [math.nan, None])
def test_what_could_not_be_measured_fails_with_a_reason(name, value):
    reasons = judge(**{name: value})
    assert reasons == [f"{name} was not measured (nan)"]


# --- direction

@pytest.mark.parametrize("finding", sorted(BRIGHTENS))
def test_an_opacity_brightens_going_in_and_darkens_going_out(finding):
    def wrong(kind: str, effect: float) -> bool:
        return "effect" in names(judge([op(finding, kind)], effect=effect))
    assert not wrong("insert", 12)
    assert wrong("insert", -12)
    assert wrong("delete", 12)
    assert not wrong("delete", -12)
    assert wrong("delete", -2.9)


@pytest.mark.parametrize("finding", sorted(DARKENS))
def test_air_darkens_going_in_and_brightens_going_out(finding):
    assert judge([op(finding)], effect=-12) == []
    assert judge([op(finding, "delete")], effect=12) == []
    assert judge([op(finding)], effect=12) == [f"effect 12 > -3 (insert {finding} must darken)"]
    assert names(judge([op(finding, "delete")], effect=-12)) == {"effect"}


def test_a_swap_must_show_but_either_way():
    swap = [op("consolidation"), op("effusion", "delete", "right")]
    assert judge(swap, effect=12) == []
    assert judge(swap, effect=-12) == []
    assert judge(swap, effect=-2) == ["|effect| 2 < 3 (insert consolidation and delete effusion must show)"]


def test_operations_that_pull_the_same_way_keep_their_direction():
    assert names(judge([op("consolidation"), op("nodule")], effect=-12)) == {"effect"}


def test_every_nih_or_chexpert_finding_but_a_fracture_has_a_direction():
    """A name misspelt in the table would let edits through in the wrong direction. What only other sets or reports
    name is not edited yet."""
    assert not BRIGHTENS & DARKENS
    edited = {f.name for f in VOCABULARY.findings if {"nih", "chexpert"} & set(f.aliases)}
    assert edited - BRIGHTENS - DARKENS == {"fracture"}
    assert set(VOCABULARY.names) >= BRIGHTENS | DARKENS
    assert judge([op("fracture")], effect=-12) == []


# --- outlines

def test_a_finding_that_moves_an_outline_may_move_its_own_lung_only():
    effusion = [op("effusion")]
    assert judge(effusion, dice_left_lung=0.7, dice_lungs=0.85) == []
    assert judge(effusion, dice_left_lung=0.5) == ["dice_left_lung 0.5 < 0.6"]
    assert judge(effusion, dice_right_lung=0.9) == ["dice_right_lung 0.9 < 0.95"]
    right = [op("effusion", side="right")]
    assert judge(right, dice_right_lung=0.7) == []
    assert judge(right, dice_left_lung=0.7) == ["dice_left_lung 0.7 < 0.95"]


def test_a_finding_on_both_sides_may_move_both_outlines():
    for operations in ([op("emphysema", side="both")], [op("effusion"), op("effusion", side="right")]):
        assert names(judge(operations, dice_left_lung=0.7, dice_right_lung=0.7)) <= {"effect"}
        assert {"dice_right_lung"} == names(judge(operations, dice_right_lung=0.5)) - {"effect"}


def test_a_nodule_beside_an_effusion_does_not_free_the_other_lung():
    assert judge([op("effusion"), op("nodule", side="right")], dice_right_lung=0.9) == ["dice_right_lung 0.9 < 0.95"]


# --- the heart

@pytest.mark.parametrize("finding", ["cardiomegaly", "enlarged_cardiomediastinum", "hernia"])
def test_a_finding_of_the_heart_may_change_its_ratio(finding):
    assert judge([op(finding, side="both")], ctr_edit=0.6) == []


def test_cardiomegaly_must_widen_the_heart_not_only_whiten_it():
    """Editors fill the heart's own outline: denser, not wider."""
    insert, delete = [op("cardiomegaly", side="both")], [op("cardiomegaly", "delete", "both")]
    assert judge(insert, ctr_edit=0.45) == [
        "ctr_edit 0.45 <= 0.45 ctr_source (insert cardiomegaly must widen the heart)"]
    assert names(judge(insert, ctr_edit=0.44)) == {"ctr_edit"}
    assert names(judge(delete, effect=-12, ctr_edit=0.46)) == {"ctr_edit"}
    assert judge(delete, effect=-12, ctr_edit=0.4) == []


def test_a_heart_found_on_neither_film_is_not_held_against_the_edit():
    assert judge(ctr_source=math.nan, ctr_edit=math.nan) == []


def test_a_heart_that_vanished_is():
    assert names(judge(ctr_edit=math.nan)) == {"ctr_edit"}


def test_cardiomegaly_cannot_be_accepted_without_a_heart_to_measure():
    assert names(judge([op("cardiomegaly", side="both")], ctr_source=math.nan, ctr_edit=math.nan)) == {
        "ctr_source", "ctr_edit"}


# --- input

@pytest.mark.parametrize(("operations", "where"), [
    ([], "operations"),
    ([op("consolidation", "swap")], "operations[0].kind"),
    ([op("consolidation"), op("nodule", side="up")], "operations[1].side"),
    ([op("gout")], "finding"),
    ([{"kind": "insert", "side": "left"}], "finding"),
])
def test_operations_that_cannot_be_judged_are_refused(operations, where):
    with pytest.raises(BadInput) as caught:
        verdict(GOOD, operations, Gates(), vocabulary=VOCABULARY)
    assert caught.value.where == where


def test_a_measure_left_out_is_refused_not_passed():
    with pytest.raises(BadInput, match="seam"):
        verdict({k: v for k, v in GOOD.items() if k != "seam"}, [op("nodule")], Gates(), vocabulary=VOCABULARY)


def test_speckle_and_lost_texture_are_kept_out() -> None:
    """An edit of pure noise once passed every other gate; so would paint that wipes the lung's markings."""
    assert names(judge(grain=2.4)) == {"grain"}
    assert names(judge(grain=0.2)) == {"grain"}
    assert "speckle" in judge(grain=2.4)[0] and "texture" in judge(grain=0.2)[0]
