"""Bones and vessels are sums of mass: what is lost or doubled in drawing would be attenuation that is not there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from cars_core.phantom.body.bones import ribs
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.body.tubes import Canvas, Tube
from cars_core.phantom.body.vessels import trees

PATIENT = replace(draw_patient(1), tilt=0.0, shift_x=0.0, shift_y=10.0, field=40.0)


@pytest.mark.parametrize(("half", "hollow"), [(0.0, 0.0), (0.3, 0.0), (0.7, 0.7), (2.0, 0.0)])
def test_a_tube_keeps_its_mass_at_any_pixel_size(half: float, hollow: float) -> None:
    line = np.column_stack([np.linspace(-8, 8, 400), np.linspace(4, 12, 400)])
    tube = Tube(line, np.full(400, half), np.full(400, 0.02), hollow)
    for size in (64, 256):
        step = 40.0 / size
        drawn = Canvas(PATIENT, size, step, (1.0, 0.0)).draw([tube])
        assert drawn.dtype == np.float32
        assert drawn.sum() * step**2 == pytest.approx(8.0, rel=1e-4)


def test_a_tube_lies_where_it_was_put() -> None:
    dot = Tube(np.array([[5.0, 7.0], [5.0, 7.0]]), np.zeros(2), np.ones(2), 0.0)
    row, column = np.unravel_index(Canvas(PATIENT, 400, 0.1, (1.0, 0.0)).draw([dot]).argmax(), (400, 400))
    assert abs((column + 0.5) * 0.1 - 20.0 - 5.0) <= 0.1  # x from the midline
    assert abs((row + 0.5) * 0.1 - 10.0 - 7.0) <= 0.1  # y from the apices


def test_what_lies_outside_the_film_is_left_out() -> None:
    away = Tube(np.array([[500.0, 7.0], [501.0, 7.0]]), np.zeros(2), np.ones(2), 0.0)
    assert not Canvas(PATIENT, 64, 40 / 64, (1.0, 0.0)).draw([away]).any()


def test_there_are_twelve_pairs_of_ribs_and_they_brighten_along_the_ray() -> None:
    wide = replace(PATIENT, field=50.0)
    drawn = Canvas(wide, 500, 0.1, (1.0, 0.0)).draw(ribs(wide, np.random.default_rng(0), 0.1))
    for side in (1, -1):
        beside_the_spine = drawn[:, int((25.0 + side * 3.4) / 0.1)] > 0.02
        assert ndimage.label(beside_the_spine)[1] == 12
        half = drawn[:, 250:] if side > 0 else drawn[:, :250][:, ::-1]
        turn = np.argmax(half.sum(0)) * 0.1
        assert 0.75 * PATIENT.half_width < turn < 1.1 * PATIENT.half_width  # most bone where the bows turn forward


def test_ribs_weigh_the_same_at_any_pixel_size_or_bone_would_brighten_with_resolution() -> None:
    coarse, fine = (sum(t.mass.sum() for t in ribs(PATIENT, np.random.default_rng(0), step)) for step in (0.28, 0.04))
    assert coarse == pytest.approx(fine, rel=0.01)


def test_vessels_weigh_the_same_at_any_pixel_size_and_stay_inside_the_chest() -> None:
    coarse, fine = (trees(PATIENT, np.random.default_rng(0), step) for step in (0.28, 0.04))
    assert sum(t.mass.sum() for t in coarse) == pytest.approx(sum(t.mass.sum() for t in fine), rel=0.01)
    points = np.concatenate([t.line for t in fine])
    assert np.abs(points[:, 0]).max() < PATIENT.half_width + 0.3
    assert points[:, 1].min() > -0.5


def test_vessels_thin_out_from_the_hilum_or_the_edge_of_the_lung_would_look_congested() -> None:
    drawn = Canvas(PATIENT, 400, 0.1, (1.0, 0.0)).draw(trees(PATIENT, np.random.default_rng(0), 0.1))
    y = slice(int((10 + 8) / 0.1), int((10 + 16) / 0.1))
    x = [int((20 + a * PATIENT.half_width) / 0.1) for a in (0.2, 0.4, 0.6, 0.8)]
    near, middle, far = (drawn[y, a:b].mean() for a, b in pairwise(x))
    assert near > 1.5 * middle > 1.5 * far > 0
