"""Lung and heart masks of one film, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Anatomy:
    """Masks in the film's own frame, bool [H, W].

    Sides are the patient's: on a frontal film the patient's left lung is at the picture's right.
    Lungs include the part behind the heart and the diaphragm's dome is their lower border.
    """

    left_lung: Mask
    right_lung: Mask
    heart: Mask

    @property
    def lungs(self) -> Mask:
        return self.left_lung | self.right_lung

    def lung(self, side: str) -> Mask:
        return {"left": self.left_lung, "right": self.right_lung, "both": self.lungs}[side]


def _extent(mask: Mask) -> tuple[int, int] | None:
    """First and last column that holds any of the mask, or None."""
    cols = np.flatnonzero(mask.any(axis=0))
    return (int(cols[0]), int(cols[-1])) if cols.size else None


def cardiothoracic_ratio(a: Anatomy) -> float:
    """Greatest heart width over greatest inner thoracic width (Danzer 1919), 0..1; NaN without both."""
    heart, chest = _extent(a.heart), _extent(a.lungs)
    if heart is None or chest is None:
        return float("nan")
    return (heart[1] - heart[0] + 1) / (chest[1] - chest[0] + 1)


def dice(a: Mask, b: Mask) -> float:
    """Dice overlap 2|A and B| / (|A| + |B|), 0..1; 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total
