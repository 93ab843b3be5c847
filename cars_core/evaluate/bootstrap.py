"""Percentile bootstrap by patient: films of one patient are drawn together, because they are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import BadInput

BLOCK = 4_000_000  # weights held at once: bounds memory however many films and resamples there are


def resample(patients: Sequence[str], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
             *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Evaluate a statistic on resamples of the patients (drawn with replacement, as many as there are).

    Args:
        patients: the patient of each film, length N.
        statistic: takes film weights float64 [b, N] (how often each film was drawn) and returns
            float64 [b, ...], one value (or array) a resample.
        resamples: how many resamples, 1 or more.
        seed: the same seed draws the same resamples, whatever the block size.

    Returns:
        float64 [resamples, ...].

    Raises:
        BadInput: no films.
    """
    if not len(patients):
        raise BadInput("bootstrap", "no films", "at least one film")
    names, film_of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(film_of))
    out = []
    for start in range(0, resamples, rows):
        b = min(rows, resamples - start)
        drawn = rng.integers(len(names), size=(b, len(names)))
        cells = (drawn + len(names) * np.arange(b)[:, None]).ravel()
        counts = np.bincount(cells, minlength=b * len(names)).reshape(b, len(names))
        out.append(statistic(counts[:, film_of].astype(np.float64)))
    return np.concatenate(out)


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values [B]; NaN values (undefined resamples) are left out.

    Returns:
        (low, high), NaN both when no resample is defined.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
