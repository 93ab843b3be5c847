"""Lung and heart masks of a film, by the trained segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from cars_core import weights
from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.anatomy.network import CHANNELS, SegmenterNet
from schemas.errors import BadInput

DEFAULT = weights.BUILT_IN / "segmenter"


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


def require_lungs(anatomy: Anatomy, *, where: str) -> None:
    """Raises BadInput unless both lungs were found at a plausible size (each 2 % to 45 % of the film)."""
    for side in ("left", "right"):
        share = float(anatomy.lung(side).mean())
        if not 0.02 <= share <= 0.45:
            raise BadInput(
                where, f"{side} lung on {100 * share:.1f} % of the film", "a frontal chest film with both lungs"
            )
