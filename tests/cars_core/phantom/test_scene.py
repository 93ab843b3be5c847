"""Findings and devices on one chest: what one moves, the others must follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cars_core.phantom.body.patient import Patient, draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Device, Placed

SIZE = 192


def erect(seed: int) -> Patient:
    return replace(draw_patient(seed), view="PA", supine=False, border="", marker="")


def centre(mask: np.ndarray) -> float:
    """Column of the centroid."""
    return float(np.flatnonzero(mask.any(axis=0)) @ mask.sum(axis=0)[mask.any(axis=0)] / mask.sum())


@pytest.mark.parametrize("finding", ["cardiomegaly", "hernia"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_mask_of_what_lies_in_the_mediastinum_goes_with_it_when_air_pushes(finding: str, side: str) -> None:
    one = Placed(finding, "both", 0.7, 3)
    alone = render(erect(4), (one,), size=SIZE, noise_seed=1)
    pushed = render(erect(4), (one, Placed("pneumothorax", side, 0.9, 2, "tension")), size=SIZE, noise_seed=1)
    away = -1 if side == "left" else 1  # the patient's left is at larger columns
    moved = away * (centre(pushed.finding_masks[finding]) - centre(alone.finding_masks[finding]))
    if finding == "hernia":
        assert moved > 1.5
    else:
        mask = pushed.finding_masks[finding]
        assert mask.sum() > 0.5 * alone.finding_masks[finding].sum()
        assert not (mask & ~pushed.anatomy.heart).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_endotracheal_tube_stays_in_a_windpipe_that_is_pushed_or_the_report_would_call_a_false_place_good(
        side: str) -> None:
    tube = (Device("endotracheal_tube", "both", 2),)
    tension = (Placed("pneumothorax", side, 0.9, 2, "tension"),)
    still = render(erect(4), (), size=SIZE, noise_seed=1, devices=tube)
    pushed = render(erect(4), tension, size=SIZE, noise_seed=1, devices=tube)
    lower = np.flatnonzero(still.device_masks["endotracheal_tube"].any(axis=1))[-8:]
    away = -1 if side == "left" else 1
    moved = away * (centre(pushed.device_masks["endotracheal_tube"][lower])
                    - centre(still.device_masks["endotracheal_tube"][lower]))
    assert moved > 1.0


def test_a_pushed_tube_is_part_of_what_the_pushing_finding_may_change() -> None:
    tube = (Device("endotracheal_tube", "both", 2), Device("nasogastric_tube", "both", 3))
    placed = (Placed("pneumothorax", "left", 0.9, 2, "tension"), Placed("nodule", "right", 0.6, 5))
    sick = render(erect(4), placed, size=SIZE, noise_seed=1, devices=tube)
    without = render(erect(4), placed[1:], size=SIZE, noise_seed=1, devices=tube)
    changed = sick.pixels != without.pixels
    assert changed.any()
    assert not (changed & ~sick.reaches["pneumothorax"]).any()


def test_findings_without_shape_leave_devices_where_they_are() -> None:
    lines = (Device("central_line", "right", 2), Device("pacemaker", "left", 3))
    bare = render(erect(4), (), size=SIZE, noise_seed=1, devices=lines)
    sick = render(erect(4), (Placed("effusion", "left", 0.6, 1),), size=SIZE, noise_seed=1, devices=lines)
    for kind, mask in bare.device_masks.items():
        assert np.array_equal(mask, sick.device_masks[kind])
