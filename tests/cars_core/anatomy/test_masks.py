"""Measures on masks, against values worked out by hand."""

import math

import numpy as np
import pytest

from cars_core.anatomy.masks import Anatomy, cardiothoracic_ratio, dice


def _box(shape: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    out = np.zeros(shape, bool)
    out[top:bottom, left:right] = True
    return out


def test_cardiothoracic_ratio_is_heart_width_over_chest_width() -> None:
    shape = (100, 200)
    a = Anatomy(
        left_lung=_box(shape, 10, 110, 80, 180),
        right_lung=_box(shape, 10, 20, 80, 90),
        heart=_box(shape, 50, 70, 80, 150),
    )
    assert cardiothoracic_ratio(a) == pytest.approx(80 / 160)


def test_ratio_is_nan_without_a_heart_so_that_no_gate_passes_on_nothing() -> None:
    shape = (10, 10)
    lungs = _box(shape, 1, 1, 9, 9)
    assert math.isnan(cardiothoracic_ratio(Anatomy(lungs, lungs, np.zeros(shape, bool))))


def test_dice_by_hand() -> None:
    a, b = _box((10, 10), 0, 0, 4, 5), _box((10, 10), 2, 0, 6, 5)
    assert dice(a, b) == pytest.approx(2 * 10 / 40)
    assert dice(np.zeros((3, 3), bool), np.zeros((3, 3), bool)) == 1.0


def test_sides_are_the_patients() -> None:
    shape = (10, 20)
    a = Anatomy(left_lung=_box(shape, 0, 12, 9, 18), right_lung=_box(shape, 0, 2, 9, 8), heart=np.zeros(shape, bool))
    assert a.lung("left")[:, 10:].any() and not a.lung("left")[:, :10].any()
    assert (a.lung("both") == (a.left_lung | a.right_lung)).all()
