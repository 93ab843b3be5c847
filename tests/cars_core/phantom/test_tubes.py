"""Bones and vessels are sums of mass: what is lost or doubled in drawing would be attenuation that is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cars_core.phantom.patient import draw_patient
from cars_core.phantom.tubes import Canvas, Tube, ribs

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
    bows = ribs(PATIENT, np.random.default_rng(0), 0.1)
    assert len(bows) == 24
    drawn = Canvas(PATIENT, 400, 0.1, (1.0, 0.0)).draw(bows[8:10])  # the fifth pair
    profile = drawn.sum(0)
    side = int(np.argmax(profile))
    assert abs((side + 0.5) * 0.1 - 20.0) > 0.8 * PATIENT.half_width  # most bone where the bow turns forward
