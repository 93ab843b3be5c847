"""The true counterfactual of an edit: same patient, pose and noise, the asked finding at the edit's place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cars_core.anatomy.regions import edit_region, grow, passes
from cars_core.generate.truth import true_edit
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed
from cars_core.phantom.truth import truth_of


def test_truth_of_an_insertion_changes_only_the_edits_own_region() -> None:
    patient = replace(draw_patient(21), view="PA", supine=False)
    plain = render(patient, (), size=192, noise_seed=4)
    for finding in ("effusion", "mass", "consolidation", "nodule"):
        ops = [{"kind": "insert", "finding": finding, "side": "left", "severity": 0.7}]
        made = true_edit(truth_of(patient, (), size=192, noise_seed=4), operations=ops, seed=12)
        change = np.abs(made.pixels.astype(int) - plain.pixels)
        region = edit_region(passes(ops, 12)[0], plain.anatomy)
        assert change[region].max() > 6
        # A finding's faintest haze, and the thin lung behind dome and spine, may reach a little further.
        assert change[~grow(region, 12)].max() <= 6


def test_truth_of_a_deletion_is_the_film_without_it() -> None:
    patient = draw_patient(22)
    sick = truth_of(
        patient, (Placed("mass", "left", 0.8, 3), Placed("effusion", "right", 0.5, 4)), size=128, noise_seed=1
    )
    ops = [{"kind": "delete", "finding": "mass", "side": "both", "severity": 0.5}]
    cleared = true_edit(sick, operations=ops, seed=2)
    expected = render(patient, (Placed("effusion", "right", 0.5, 4),), size=128, noise_seed=1)
    assert np.array_equal(cleared.pixels, expected.pixels)
