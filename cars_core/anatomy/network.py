"""The segmentation network: a small U-Net over a space-to-depth folded film."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

#: What each output channel means.
CHANNELS = ("left_lung", "right_lung", "heart")


class _Block(nn.Sequential):
    def __init__(self, cin: int, cout: int) -> None:
        layers: list[nn.Module] = []
        for i in range(2):
            layers += [
                nn.Conv2d(cin if i == 0 else cout, cout, 3, padding=1, bias=False),
                nn.GroupNorm(8, cout),
                nn.SiLU(inplace=True),
            ]
        super().__init__(*layers)


class SegmenterNet(nn.Module):
    """Film [B, 1, S, S] (standardised; S a multiple of 32) -> logits [B, 3, S, S].

    The film is folded 2x in front and unfolded behind: on a CPU few channels at full resolution is the
    slow shape.
    """

    def __init__(self, width: int = 32, fold: int = 2) -> None:
        super().__init__()
        self.fold = fold
        w = [width, width * 2, width * 3, width * 4]
        self.down = nn.ModuleList(
            [_Block(fold * fold, w[0]), _Block(w[0], w[1]), _Block(w[1], w[2]), _Block(w[2], w[3])]
        )
        self.up = nn.ModuleList([_Block(w[3] + w[2], w[2]), _Block(w[2] + w[1], w[1]), _Block(w[1] + w[0], w[0])])
        self.head = nn.Conv2d(w[0], len(CHANNELS) * fold * fold, 1)

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        x = F.pixel_unshuffle(film, self.fold)
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.avg_pool2d(x, 2))
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return F.pixel_shuffle(self.head(x), self.fold)
