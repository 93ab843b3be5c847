"""Edit masks follow the finding and this patient's anatomy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.anatomy.masks import Anatomy
from cars_core.anatomy.regions import BAND, EDIT, KEEP, Pass, crop_box, edit_region, likely_sides, mask_picture, passes
from cars_core.phantom.findings.overlay import OVERLAID
from schemas.errors import BadInput


def chest(size: int = 128) -> Anatomy:
    """Two elliptic lungs and an elliptic heart."""
    yy, xx = np.mgrid[:size, :size] / size

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((xx - cx) / rx) ** 2 + ((yy - cy) / ry) ** 2 < 1

    return Anatomy(
        left_lung=ellipse(0.70, 0.5, 0.17, 0.36),
        right_lung=ellipse(0.30, 0.5, 0.17, 0.36),
        heart=ellipse(0.55, 0.65, 0.16, 0.17),
    )


@settings(max_examples=40, deadline=None)
@given(
    finding=st.sampled_from(sorted(OVERLAID - {"cardiomegaly"})),
    side=st.sampled_from(["left", "right"]),
    severity=st.floats(0.2, 1.0),
    seed=st.integers(0, 2**40),
)
def test_an_insertion_stays_on_its_own_side(finding: str, side: str, severity: float, seed: int) -> None:
    a = chest()
    region = edit_region(Pass("insert", finding, side, severity, seed), a)
    other = a.lung("left" if side == "right" else "right")
    assert region.any()
    assert not (region & other).any()
    # Only a thin rim may lie outside the lung it is meant for.
    assert (region & a.lung(side)).sum() > 0.5 * region.sum()


def test_effusion_lies_at_the_base_and_a_larger_one_reaches_higher() -> None:
    a = chest()
    small, large = (edit_region(Pass("insert", "effusion", "left", s, 5), a) for s in (0.2, 0.9))
    rows = np.flatnonzero(a.left_lung.any(axis=1))
    base = rows[0] + 0.95 * (rows[-1] - rows[0])
    for region in (small, large):
        assert region[int(base)].any()
    assert np.flatnonzero(large.any(axis=1))[0] < np.flatnonzero(small.any(axis=1))[0]


def test_cardiomegaly_lies_beyond_the_present_outline_not_inside_it() -> None:
    a = chest()
    region = edit_region(Pass("insert", "cardiomegaly", "both", 0.7, 1), a)
    assert (region & ~a.heart).sum() > 2 * (region & a.heart).sum()


def test_mask_picture_has_a_band_between_edit_and_keep() -> None:
    region = np.zeros((100, 100), bool)
    region[40:60, 40:60] = True
    picture = mask_picture(region)
    assert set(np.unique(picture)) == {KEEP, BAND, EDIT}
    assert ((picture == EDIT) == region).all()
    assert picture[38, 50] == BAND and picture[30, 50] == KEEP


def test_crop_box_covers_the_mask() -> None:
    picture = mask_picture(chest().left_lung)
    top, left, n = crop_box(picture)
    ys, xs = np.nonzero(picture)
    assert top <= ys.min() and left <= xs.min() and top + n > ys.max() and left + n > xs.max()


def test_deletions_come_first_and_each_side_is_one_pass() -> None:
    ops = [
        {"kind": "insert", "finding": "mass", "side": "left", "severity": 0.5},
        {"kind": "delete", "finding": "effusion", "side": "both", "severity": 0.5},
    ]
    steps = passes(ops, 9)
    assert [(s.kind, s.side) for s in steps] == [("delete", "left"), ("delete", "right"), ("insert", "left")]
    assert len({s.seed for s in steps}) == 3
    assert passes(list(reversed(ops)), 9) == steps


def test_a_film_without_that_lung_is_refused_by_name() -> None:
    a = chest()
    empty = Anatomy(np.zeros_like(a.left_lung), a.right_lung, a.heart)
    with pytest.raises(BadInput, match="left lung"):
        edit_region(Pass("insert", "mass", "left", 0.5, 1), empty)


def test_a_deletion_leaves_the_clear_lung_alone() -> None:
    """Labels do not say the side: clearing a lung that never held the fluid would paint a disease out of nothing."""
    a = chest()
    even = np.full(a.heart.shape, -1.0, np.float32)
    assert likely_sides(even, "effusion", a) == ("left", "right")
    wet = even.copy()
    wet[60:, :][a.right_lung[60:, :]] = 1.0
    assert likely_sides(wet, "effusion", a) == ("right",)
