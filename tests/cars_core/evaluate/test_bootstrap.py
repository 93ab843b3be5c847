"""Intervals, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cars_core.evaluate import bootstrap
from cars_core.evaluate.bootstrap import interval, resample
from cars_core.evaluate.metrics import weighted_mean
from schemas.errors import BadInput


def test_interval_of_a_bernoulli_mean_is_the_normal_one() -> None:
    """For 400 patients, 120 positive: 0.3 +- 1.96 sqrt(0.3 * 0.7 / 400)."""
    y = np.r_[np.ones(120), np.zeros(280)]
    drawn = resample([str(i) for i in range(400)], lambda w: weighted_mean(y, w), resamples=4000, seed=1)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert interval(drawn) == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)


def test_films_of_one_patient_widen_the_interval() -> None:
    """Ten equal films of each of 40 patients carry 40 patients' evidence, not 400 films'."""
    y = np.repeat(np.r_[np.ones(12), np.zeros(28)], 10)
    patients = [str(i // 10) for i in range(400)]
    low, high = interval(resample(patients, lambda w: weighted_mean(y, w), resamples=4000, seed=1))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 40), rel=0.08)


def test_a_patient_is_drawn_whole_and_as_many_patients_as_there_are() -> None:
    def films_per_patient(w: NDArray[np.float64]) -> NDArray[np.float64]:
        assert (w[:, 0] == w[:, 2]).all()
        assert (w[:, 1] == w[:, 4]).all()
        return w[:, 0] + w[:, 1] + w[:, 3]

    assert (resample(["a", "b", "a", "c", "b"], films_per_patient, resamples=50, seed=3) == 3).all()


def test_block_size_does_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large cohort is worked off in blocks; its interval must not depend on how large they are."""
    patients = [f"p{i}" for i in range(30)]
    y = np.arange(30.0)
    whole = resample(patients, lambda w: weighted_mean(y, w), resamples=25, seed=5)
    monkeypatch.setattr(bootstrap, "BLOCK", 100)
    assert (resample(patients, lambda w: weighted_mean(y, w), resamples=25, seed=5) == whole).all()


def test_undefined_resamples_are_left_out_of_the_interval() -> None:
    assert interval(np.array([np.nan, 1.0, np.nan, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_no_films_is_refused() -> None:
    with pytest.raises(BadInput, match="no films"):
        resample([], lambda w: w[:, 0], resamples=2, seed=0)
