"""Truth and counterfactuals: the one thing only a simulated cohort can give."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from cars_core.phantom.body.patient import draw_patient, patient_from
from cars_core.phantom.placed import Device, Placed
from cars_core.phantom.population import films
from cars_core.phantom.truth import counterfactual, read_truth, render_truth, truth_of
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

SIZE = 128
V = load_vocabulary()


def truth(*placed: Placed, patient: int = 1, devices: tuple[Device, ...] = ()) -> str:
    return truth_of(draw_patient(patient), placed, size=SIZE, noise_seed=5, devices=devices)


def test_a_counterfactual_differs_from_its_film_only_where_the_edit_is() -> None:
    first = truth(Placed("nodule", "right", 0.7, 3), patient=30)
    edited = counterfactual(first, insert=[Placed("effusion", "left", 0.6, 9)])
    before, after = render_truth(first), render_truth(edited)
    changed = before.pixels != after.pixels
    assert changed.any()
    assert not (changed & ~after.reaches["effusion"]).any()
    assert counterfactual(edited, delete=["effusion"]) == first


def test_taking_any_finding_off_a_film_changes_nothing_beyond_its_reach() -> None:
    """Over the population, where findings meet and push each other about."""
    taken = 0
    for spec in films(n=40, seed=11, size=96, withheld=[], split_of=lambda patient: "test", vocabulary=V):
        whole = render_truth(spec.truth)
        for finding in sorted({p.finding for p in read_truth(spec.truth).placed}):
            without = render_truth(counterfactual(spec.truth, delete=[finding]))
            changed = whole.pixels != without.pixels
            assert not (changed & ~whole.reaches[finding]).any(), (spec.record, finding)
            assert changed.any(), (spec.record, finding)
            taken += 1
    assert taken > 40


def test_deleting_clears_both_sides_because_the_target_vector_says_absent() -> None:
    edited = counterfactual(truth(Placed("effusion", "both", 0.5, 3), Placed("mass", "left", 0.5, 4)),
                            delete=["effusion"])
    assert [f["finding"] for f in json.loads(edited)["findings"]] == ["mass"]


def test_a_finding_takes_the_place_of_its_like_on_its_own_side_only() -> None:
    right, both = Placed("effusion", "right", 0.5, 3), Placed("effusion", "both", 0.5, 3)
    new = Placed("effusion", "left", 0.9, 7)
    assert read_truth(counterfactual(truth(right), insert=[new])).placed == (right, new)
    assert read_truth(counterfactual(truth(both), insert=[new])).placed == (right, new)
    assert read_truth(counterfactual(truth(right), insert=[both])).placed == (both,)


def test_devices_and_forms_survive_the_truth_or_a_counterfactual_would_take_out_the_patients_lines() -> None:
    devices = (Device("central_line", "right", 4), Device("sternal_wires", "both", 2))
    placed = (Placed("effusion", "left", 0.5, 3, "veil"),)
    written = truth_of(draw_patient(2), placed, size=SIZE, noise_seed=5, devices=devices)
    read = read_truth(written)
    assert (read.patient, read.placed, read.devices, read.size, read.noise_seed) == (
        draw_patient(2), placed, devices, SIZE, 5)
    edited = read_truth(counterfactual(written, insert=[Placed("mass", "right", 0.4, 1)]))
    assert edited.devices == devices


def test_an_edit_that_cannot_be_is_named() -> None:
    with pytest.raises(BadInput, match="this film has"):
        counterfactual(truth(), delete=["mass"])
    with pytest.raises(BadInput, match="no side"):
        counterfactual(truth(), insert=[Placed("cardiomegaly", "left", 0.5, 1)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model":"other"}', '{"model":"cars.phantom/2","findings":3}',
                                  '{"model":"cars.phantom/2","findings":[],"devices":[{"kind":"halo"}]}'])
def test_a_truth_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        render_truth(text)


def test_a_patient_with_a_missing_or_mistyped_field_is_refused() -> None:
    raw = json.loads(truth())["patient"]
    assert patient_from(raw) == draw_patient(1)
    for bad in ({k: v for k, v in raw.items() if k != "ctr"}, {**raw, "ctr": "wide"}, {**raw, "view": "lateral"},
                {**raw, "view": "PA", "supine": True}, {**raw, "inspiration": 9.0}, {**raw, "age": -4},
                {**raw, "half_width": float("nan")}, {**raw, "field": 0}):
        with pytest.raises(BadInput):
            patient_from(bad)


def test_another_process_in_another_order_draws_the_same_bytes_or_workers_would_build_other_cohorts() -> None:
    truths = [truth(Placed("effusion", "left", 0.5, 3), Placed("cardiomegaly", "both", 0.4, 1), patient=p,
                    devices=(Device("pacemaker", "left", 1),)) for p in (1, 2, 3)]
    code = ("import sys, json, hashlib\nfrom cars_core.phantom.truth import render_truth\n"
            "for t in reversed(json.load(sys.stdin)):\n"
            "    print(hashlib.sha256(render_truth(t).pixels.tobytes()).hexdigest())\n")
    other = subprocess.run([sys.executable, "-c", code], input=json.dumps(truths), capture_output=True, text=True,
                           check=True).stdout.split()
    here = [hashlib.sha256(render_truth(t).pixels.tobytes()).hexdigest() for t in truths]
    assert other[::-1] == here


def test_twelve_bits_hold_the_same_picture_as_eight() -> None:
    one = truth(Placed("mass", "left", 0.5, 4))
    eight, twelve = render_truth(one).pixels, render_truth(one, bits=12).pixels
    assert twelve.dtype == np.uint16
    assert twelve.max() <= 4095
    assert len(np.unique(twelve)) > 2 * len(np.unique(eight))
    assert np.abs(twelve * (255 / 4095) - eight).max() <= 0.5 + 0.5 * 255 / 4095 + 1e-9
    with pytest.raises(BadInput, match="8 or 12"):
        render_truth(one, bits=10)
