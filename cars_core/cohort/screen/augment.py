"""How pictures are varied in training the screen: pose, page, borders, letters, grey curve, haze, noise, inversion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from cars_core.cohort.screen.network import SIDE, TAIL

POOL_SIDE = 96  # pixels of the pictures that training keeps
_DRAWN = 2 * SIDE
_STAMPS = 256


@lru_cache(maxsize=1)
def _stamps() -> torch.Tensor:
    """Letters and markers as coverage 0..1, [256, 1, 128, 128], turned by any quarter: no letter tells what is up."""
    rng, out = np.random.default_rng(0), []
    words = ("R", "L", "PORTABLE", "AP", "PA", "ERECT", "SUPINE", "10:42", "Figure 1", "a", "B", "->", "UPRIGHT", "II")
    for _ in range(_STAMPS):
        image = Image.new("L", (_DRAWN, _DRAWN), 0)
        draw = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 4))):
            at = (int(rng.integers(0, 110)), int(rng.integers(0, 20) if rng.random() < 0.6 else rng.integers(0, 118)))
            kind = rng.random()
            if kind < 0.7:
                draw.text(at, words[int(rng.integers(len(words)))], fill=255,
                          font=ImageFont.load_default(size=float(rng.uniform(6, 20))))
            elif kind < 0.85:
                side = int(rng.integers(3, 14))
                draw.rectangle((*at, at[0] + side, at[1] + side), fill=int(rng.integers(150, 256)))
            else:
                to = (int(v) for v in rng.integers(0, _DRAWN, size=2))
                draw.line((*at, *to), fill=255, width=int(rng.integers(1, 3)))
        out.append(np.rot90(np.asarray(image, np.float32) / 255, int(rng.integers(4))))
    return torch.from_numpy(np.stack(out))[:, None]


def varied(pictures: torch.Tensor, loose: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Vary pictures and put them through the network's own contrast.

    Args:
        pictures: uint8 [B, 96, 96], upright.
        loose: bool [B]: what has no upright may be turned by any angle; the rest by 15 degrees at most.

    Returns:
        views [B, 1, 64, 64] of steps of 1/255 in 0..1, and which were inverted, bool [B]. Half are mirrored: a heart on
        the right must not look rotated.
    """
    b = len(pictures)

    def u(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(b, *shape, generator=rng)

    def some(share: float) -> torch.Tensor:
        return torch.rand(b, 1, 1, 1, generator=rng) < share

    inverted = some(0.1)
    x = pictures.float()[:, None] / 255
    x = torch.where(inverted, 1 - x, x)
    angle = torch.where(loose, u(-3.2, 3.2), u(-0.26, 0.26))
    zoom = torch.exp(torch.where(u(0, 1) < 0.25, u(-0.6, 0), u(-0.15, 0.25)))  # a quarter lies on a page
    stretch = torch.exp(u(-0.17, 0.17))
    mirror = torch.where(u(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * torch.cos(angle) / (zoom * stretch), -mirror * torch.sin(angle) / zoom
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(angle) / zoom, torch.cos(angle) / zoom * stretch
    theta[:, :, 2] = u(-0.14, 0.14, 2)
    grid = F.affine_grid(theta, [b, 1, _DRAWN, _DRAWN], align_corners=False)
    edged = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = F.grid_sample(torch.ones_like(x), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    page = torch.where(some(0.6), 0.0, torch.where(some(0.5), 1.0, u(0, 1, 1, 1, 1)))
    x = torch.where(some(0.8), edged * inside + page * (1 - inside), edged)

    at = torch.arange(_DRAWN) / _DRAWN  # shutters and strips along the edges
    for axis in (2, 3):
        line = at.view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1))
        near, far = u(0, 0.12, 1, 1, 1) * some(0.15), 1 - u(0, 0.12, 1, 1, 1) * some(0.15)
        x = torch.where((line < near) | (line >= far), torch.where(some(0.75), 0.0, 1.0), x)

    x = x.clamp(0.002, 0.998) ** torch.exp(u(-0.7, 0.7, 1, 1, 1))
    haze = F.interpolate(torch.randn(b, 1, 5, 5, generator=rng), (_DRAWN, _DRAWN), mode="bicubic", align_corners=False)
    x = x + u(0, 0.12, 1, 1, 1) * haze.clamp(-1.5, 1.5)
    stamp = _stamps()[torch.randint(_STAMPS, (b,), generator=rng)] * some(0.5)
    x = x + stamp * (torch.where(some(0.8), 1.0, 0.0) - x)
    x = F.avg_pool2d(x, 2)
    x = torch.where(some(0.25), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)
    x = x + u(0, 0.04, 1, 1, 1) * torch.randn(x.shape, generator=rng)

    order = x.flatten(1).sort(dim=1).values
    cut = int(TAIL * SIDE * SIDE)
    dark, light = order[:, cut].view(-1, 1, 1, 1), order[:, -1 - cut].view(-1, 1, 1, 1)
    x = ((x - dark) / (light - dark).clamp_min(1e-6)).clamp(0, 1)
    return torch.round(255 * x) / 255, inverted.view(-1)
