"""Measures that a claim rests on, against published results and independent computations."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from cars_core.evaluate.metrics import (
    auroc,
    average_precision,
    binary_entropy,
    expected_calibration_error,
    weighted_mean,
)
from schemas.errors import BadInput

LABELS = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open" / "labels"


@pytest.mark.skipif(not LABELS.is_dir(), reason="the open films are not beside the checkout")
def test_auroc_reproduces_the_published_chexnet_values() -> None:
    """Otherwise no AUROC this factory prints could be compared with the literature."""
    with gzip.open(LABELS / "Data_Entry_2017_v2020.csv.gz", "rt") as f:
        truth = {r["Image Index"]: r["Finding Labels"].split("|") for r in csv.DictReader(f)}
    with gzip.open(LABELS / "jrzech_chexnet_test_preds.csv.gz", "rt") as f:
        predicted = list(csv.DictReader(f))
    with open(LABELS / "jrzech_chexnet_published_aucs.csv") as f:
        published = {r["label"]: float(r["auc"]) for r in csv.DictReader(f)}
    assert len(published) == 14
    assert len(predicted) == 22433
    for label, value in published.items():
        name = label.replace("_", " ") if f"prob_{label}" not in predicted[0] else label
        y = np.array([name in truth[r["Image Index"]] for r in predicted])
        p = np.array([float(r[f"prob_{label}"]) for r in predicted])
        assert auroc(y, p) == pytest.approx(value, abs=5e-4), label


def test_auroc_without_negatives_says_so_instead_of_a_number() -> None:
    with pytest.raises(BadInput, match="2 positives of 2 films"):
        auroc(np.array([True, True]), np.array([0.1, 0.2]))


@given(data=st.data(), n=st.integers(2, 60))
def test_average_precision_of_every_resample_equals_scikit_learn_on_repeated_films(data: st.DataObject, n: int) -> None:
    """The fast weighted path must not be another measure than the one the field reports; ties included."""
    truth = data.draw(hnp.arrays(np.bool_, n))
    score = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 6))) / 6
    weights = data.draw(hnp.arrays(np.int64, (3, n), elements=st.integers(0, 3))).astype(float)
    got = average_precision(truth, score, weights)
    for w, value in zip(weights, got, strict=True):
        again = np.repeat(np.arange(n), w.astype(int))
        y = truth[again]
        if y.size and y.any() and not y.all():
            assert value == pytest.approx(average_precision_score(y, score[again]), abs=1e-12)
        else:
            assert np.isnan(value)


@given(data=st.data(), n=st.integers(1, 80))
def test_calibration_error_equals_a_loop_over_bins(data: st.DataObject, n: int) -> None:
    truth = data.draw(hnp.arrays(np.bool_, n))
    p = data.draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1, width=32)))
    weights = data.draw(hnp.arrays(np.int64, (2, n), elements=st.integers(0, 3))).astype(float)
    for w, value in zip(weights, expected_calibration_error(truth, p, weights), strict=True):
        if w.sum() == 0:
            assert np.isnan(value)
            continue
        expected = 0.0
        for m in range(15):
            inside = (np.minimum(np.floor(p * 15), 14) == m) & (w > 0)
            if inside.any():
                gap = abs(np.average(truth[inside], weights=w[inside]) - np.average(p[inside], weights=w[inside]))
                expected += w[inside].sum() / w.sum() * gap
        assert value == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_cases() -> None:
    """0.8 said, always right: off by 0.2. 0.8 said, right four times in five: calibrated."""
    one = np.ones((1, 5))
    p = np.full(5, 0.8)
    assert expected_calibration_error(np.ones(5, bool), p, one)[0] == pytest.approx(0.2)
    assert expected_calibration_error(np.array([1, 1, 1, 1, 0], bool), p, one)[0] == pytest.approx(0, abs=1e-12)


def test_entropy_is_in_bits() -> None:
    """In nats every uncertainty in a report would read a third too low."""
    assert binary_entropy(np.array([0.0, 0.5, 1.0])).tolist() == [0.0, 1.0, 0.0]
    assert binary_entropy(np.array(0.11)) == pytest.approx(-0.11 * np.log2(0.11) - 0.89 * np.log2(0.89))


def test_weighted_mean_counts_a_film_as_often_as_it_was_drawn() -> None:
    got = weighted_mean(np.array([1.0, 4.0]), np.array([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]]))
    assert got[:2].tolist() == [2.5, 1.0]
    assert np.isnan(got[2])
