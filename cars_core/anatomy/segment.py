"""Lung and heart masks of a film, by the trained segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch.nn import functional as F

from cars_core import weights
from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.anatomy.network import CHANNELS, SegmenterNet
from cars_core.phantom.display import to_attenuation
from schemas.errors import BadInput

DEFAULT = weights.BUILT_IN / "segmenter"

#: Least share of its convex hull a lung fills, and least contrast (display units) of lungs to the rest of the chest.
SOLID, DARKER = 0.8, 0.2


def standardise(film: torch.Tensor) -> torch.Tensor:
    """Films [B, 1, H, W] of any grey scale -> zero mean, unit deviation each, clipped to -3..3."""
    mean = film.mean(dim=(1, 2, 3), keepdim=True)
    std = film.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    return ((film - mean) / std).clamp(-3, 3)


class Segmenter:
    """A loaded segmenter. `digest` names its weights."""

    def __init__(self, folder: str | Path | None = None) -> None:
        folder = Path(folder) if folder else DEFAULT
        self.card = weights.read_card(folder, kind="segmenter")
        weights.require_keys(self.card, folder, "size", "width")
        self.digest: str = self.card["sha256"]
        self.size: int = self.card["size"]
        self.net = SegmenterNet(width=self.card["width"])
        weights.load_weights(self.net, folder)
        self.net.to(memory_format=torch.channels_last)  # about 7 times faster convolutions on a CPU

    @torch.inference_mode()
    def probabilities(self, films: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Films uint8 [H, W] (sizes may differ) -> probabilities [B, 3, S, S], one film at a time so that
        a film's masks do not depend on the films beside it."""
        out = []
        for film in films:
            x = torch.from_numpy(np.array(film, np.float32))[None, None]
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
            x = standardise(x).contiguous(memory_format=torch.channels_last)
            out.append(torch.sigmoid(self.net(x))[0])
        return torch.stack(out)

    def __call__(self, film: NDArray[np.uint8]) -> Anatomy:
        """Masks of one film uint8 [H, W], in its own frame. A part that was not found is empty."""
        small = self.probabilities([film])
        p = F.interpolate(small, film.shape, mode="bilinear", align_corners=False)[0].numpy()
        masks = {name: _solid(p[i] > 0.5, 0.15 if name == "heart" else 1.0) for i, name in enumerate(CHANNELS)}
        both = masks["left_lung"] & masks["right_lung"]
        if both.any():  # each pixel belongs to one lung
            left = p[0] >= p[1]
            masks["left_lung"] &= ~both | left
            masks["right_lung"] &= ~both | ~left
        return Anatomy(**masks)


def _solid(mask: Mask, share: float = 0.15) -> Mask:
    """The main parts (at least `share` of the largest: a bright spine can cut a heart in two), holes filled;
    empty when the largest is under 0.2 % of the film."""
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() < 0.002 * mask.size:
        return np.zeros_like(mask)
    return np.asarray(ndimage.binary_fill_holes((sizes >= share * sizes.max())[labels]), bool)


@lru_cache(maxsize=2)
def load_segmenter(folder: str | None = None) -> Segmenter:
    """One load a process for each folder."""
    return Segmenter(folder)


def require_lungs(film: NDArray[np.uint8], anatomy: Anatomy, *, where: str) -> None:
    """Refuse a film on which both lungs were not soundly found.

    A lung covers 2 % to 45 % of a frontal film, fills its convex hull (a torn mask means the film was not
    understood), and is darker than what lies between and beside the lungs (else the film is a negative, or
    there is no air left to edit). Of the 506 open NIH films 6 are refused, the inverted ones among them.

    Raises:
        BadInput: naming the film, what was found and what was expected.
    """
    expected = "a frontal chest film with both lungs"
    for side in ("left", "right"):
        share = float(anatomy.lung(side).mean())
        if not 0.02 <= share <= 0.45:
            raise BadInput(where, f"{side} lung on {100 * share:.1f} % of the film", expected)
        whole = solidity(anatomy.lung(side))
        if whole < SOLID:
            raise BadInput(where, f"{side} lung torn (fills {100 * whole:.0f} % of its hull)", expected)
    rows, cols = np.flatnonzero(anatomy.lungs.any(axis=1)), np.flatnonzero(anatomy.lungs.any(axis=0))
    chest = np.zeros_like(anatomy.lungs)
    chest[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = True
    grey = to_attenuation(film)
    darker = float(np.median(grey[chest & ~anatomy.lungs]) - np.median(grey[anatomy.lungs]))
    if darker < DARKER:
        raise BadInput(
            where,
            f"lungs {darker:.2f} darker than the rest of the chest",
            f"{DARKER} at least: aerated lungs, not inverted",
        )


def solidity(mask: Mask) -> float:
    """Share of its convex hull that a mask fills, 0..1; 0 for under three pixels or a line."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size < 3:
        return 0.0
    # A row's first and last pixel suffice for the hull; corners, so that areas are of pixels.
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    corners = [(y + dy, x) for y, a, b in zip(rows, first, last, strict=True) for dy in (0, 1) for x in (a, b)]
    return float(mask.sum() / ConvexHull(np.asarray(corners, float)).volume)
