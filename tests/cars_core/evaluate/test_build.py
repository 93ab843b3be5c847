"""What a classifier is taught of findings that are left open or not mentioned is what the recipe says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cars_core.evaluate.build import labels_of
from schemas.recipe import Evaluation

# One film a state: present, absent, uncertain, not mentioned.
ROWS = pa.table({"present": [1 << 3, 0, 0, 0], "absent": [0, 1 << 3, 0, 0], "uncertain": [0, 0, 1 << 3, 0]})
NAN = float("nan")


@pytest.mark.parametrize(("uncertain", "unmentioned", "taught"), [
    ("ignore", "ignore", [1, 0, NAN, NAN]), ("present", "ignore", [1, 0, 1, NAN]),
    ("absent", "ignore", [1, 0, 0, NAN]), ("ignore", "absent", [1, 0, NAN, 0]), ("present", "absent", [1, 0, 1, 0]),
])
def test_uncertain_and_unmentioned_are_taught_as_asked(uncertain: str, unmentioned: str, taught: list[float]) -> None:
    settings = Evaluation(uncertain=uncertain, unmentioned=unmentioned)
    np.testing.assert_array_equal(labels_of(ROWS, [3], settings)[:, 0], np.float32(taught))
    assert np.isnan(labels_of(ROWS, [5], Evaluation())).all()
