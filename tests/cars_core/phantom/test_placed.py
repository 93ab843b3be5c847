"""What is asked of the simulator is checked before anything is drawn."""

from __future__ import annotations

import pytest

from cars_core.phantom.body.patient import Patient, draw_patient, position
from cars_core.phantom.film import form_of, render
from cars_core.phantom.placed import DEVICES, FORMS, SHOWN, SIDED, UNSIDED, Device, Placed, check_findings
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput


def test_every_finding_drawn_is_in_the_vocabulary_or_no_vector_could_name_it() -> None:
    names = {f.name for f in load_vocabulary().findings}
    assert names >= SHOWN
    assert not set(SIDED) & set(UNSIDED)
    assert set(FORMS) <= SHOWN


@pytest.mark.parametrize(("finding", "side", "severity", "form", "says"), [
    ("nodule", "up", 0.5, "", "left, right or both"),
    ("nodule", "left", 1.2, "", "0 to 1"),
    ("nodule", "left", -0.1, "", "0 to 1"),
    ("nodule", "left", float("nan"), "", "0 to 1"),
    ("nodule", "left", 0.5, "tension", "no form"),
    ("effusion", "left", 0.5, "tension", "meniscus, veil"),
])
def test_an_impossible_finding_is_refused_with_what_is_allowed(finding: str, side: str, severity: float, form: str,
                                                               says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Placed(finding, side, severity, 1, form)


@pytest.mark.parametrize(("placed", "says"), [
    ((Placed("pneumonia", "left", 0.5, 1),), "pneumonia"),
    ((Placed("hernia", "left", 0.5, 1),), "no side"),
    ((Placed("effusion", "both", 0.5, 1), Placed("effusion", "left", 0.5, 2)), "twice on the left"),
    ((Placed("cardiomegaly", "both", 0.5, 1), Placed("cardiomegaly", "both", 0.7, 1)), "twice"),
    ((Placed("pneumothorax", "both", 0.9, 1, "tension"),), "pushes"),
])
def test_findings_that_contradict_each_other_are_refused(placed: tuple[Placed, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_findings(placed)
    with pytest.raises(BadInput, match=says):
        render(draw_patient(1), placed, size=64, noise_seed=0)


def test_two_nodules_in_one_lung_are_no_contradiction() -> None:
    check_findings((Placed("nodule", "left", 0.5, 1), Placed("nodule", "both", 0.5, 2)))


@pytest.mark.parametrize(("kind", "side", "says"), [("halo", "both", "endotracheal_tube"),
                                                    ("pacemaker", "both", "left or right"),
                                                    ("sternal_wires", "left", "both")])
def test_an_impossible_device_is_refused(kind: str, side: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Device(kind, side, 1)
    assert all(Device(k, s, 0) for k, sides in DEVICES.items() for s in sides)


@pytest.mark.parametrize("size", [0, -1, 16, 1025])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(BadInput, match="64 to 1024"):
        render(draw_patient(1), (), size=size, noise_seed=0)


def test_fluid_lies_as_the_patient_does() -> None:
    def lying(p: Patient, down: bool) -> bool:
        return p.view == "AP" and p.supine is down

    some = [position(draw_patient(1), s) for s in range(60)]
    fluid = Placed("effusion", "left", 0.5, 1)
    assert {form_of(fluid, p) for p in some if lying(p, True)} == {"veil"}
    assert {form_of(fluid, p) for p in some if not p.supine} == {"meniscus"}
    assert form_of(Placed("effusion", "left", 0.5, 1, "veil"), draw_patient(1)) == "veil"
    assert not any(p.supine for p in some if p.view == "PA")
