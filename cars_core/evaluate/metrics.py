"""Classification measures for one binary column, for one film set or for many resamples of it at once.

A resample is a row of film weights (how often each film was drawn), so that a bootstrap is a few
matrix products instead of a loop over shuffled films.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr
from sklearn.metrics import roc_auc_score

from schemas.errors import BadInput

Floats = NDArray[np.floating]
ECE_BINS = 15


def average_precision(truth: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """Area under the precision-recall curve as average precision, sum of (R_n - R_n-1) P_n.

    The same step-wise sum as scikit-learn's `average_precision_score` (no interpolation), ties in
    `score` being one threshold, for every row of `weights` at once.

    Args:
        truth: bool [N].
        score: float [N], higher is more likely present.
        weights: float [B, N], 0 or more: how often each film counts.

    Returns:
        float64 [B]; NaN where a row holds no positive or no negative film.
    """
    order = np.argsort(-score, kind="stable")
    ranked, y = score[order], truth[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    w = weights[:, order].astype(np.float64, copy=False)
    hits = np.cumsum(w * y, axis=1)[:, last_of_tie]
    seen = np.cumsum(w, axis=1)[:, last_of_tie]
    positives, total = hits[:, -1], seen[:, -1]
    gained = np.diff(hits, axis=1, prepend=0.0)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    area = np.divide((gained * precision).sum(axis=1), positives, out=np.full(len(w), np.nan), where=positives > 0)
    return np.where(total > positives, area, np.nan)


def expected_calibration_error(truth: NDArray[np.bool_], probability: Floats, weights: Floats,
                               *, bins: int = ECE_BINS) -> Floats:
    """Expected calibration error with equal-width bins (Guo et al. 2017), of the probability of presence.

    sum over bins of (films in bin / films) * |share present - mean probability|; bins are closed on
    the left, the last one on both sides.

    Args:
        truth: bool [N].
        probability: float [N] in 0..1.
        weights: float [B, N], 0 or more.

    Returns:
        float64 [B] in 0..1; NaN where a row weighs nothing.
    """
    which = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    excess = np.zeros((len(truth), bins))
    excess[np.arange(len(truth)), which] = truth.astype(np.float64) - probability
    total = weights.sum(axis=1, dtype=np.float64)
    return np.divide(np.abs(weights @ excess).sum(axis=1), total, out=np.full(len(weights), np.nan), where=total > 0)


def binary_entropy(probability: Floats) -> Floats:
    """Entropy of a yes-or-no answer in bits, -p log2 p - (1-p) log2(1-p): 0..1, any shape."""
    p = np.asarray(probability, np.float64)
    out: Floats = (entr(p) + entr(1 - p)) / np.log(2)
    return out


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of `values` [N] under each row of `weights` [B, N]: float64 [B], NaN where a row weighs nothing."""
    total = weights.sum(axis=1, dtype=np.float64)
    return np.divide(weights @ np.asarray(values, np.float64), total,
                     out=np.full(len(weights), np.nan), where=total > 0)


def auroc(truth: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve, 0..1.

    Raises:
        BadInput: only positives or only negatives.
    """
    positives = int(np.count_nonzero(truth))
    if positives in (0, len(truth)):
        raise BadInput("AUROC", f"{positives} positives of {len(truth)} films", "both positives and negatives")
    return float(roc_auc_score(truth, score))
