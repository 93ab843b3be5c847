"""The small network behind `judge`, run in whole numbers, so that the same pixels give the same answer everywhere.

A film is shrunk to 64 x 64 by area, whatever its aspect: a film turned by 90 degrees and one squeezed into a square
have lost their aspect's meaning anyway, so it must not decide. The network looks at all four turns of that view. What
it answers is thereby bound to turn with the film: turning the film by a quarter turns the answer by a quarter, exactly.

Weights are whole numbers of 8 bits, activations of 0..255, and no sum reaches 2^24; so the float32 products of any
linear algebra library are exact in whatever order they are added, and torch is not needed to run it. Quantisation
follows Jacob et al., CVPR 2018 (arXiv:1712.05877): a scale an output channel, a scale an activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_core.weights import read_card
from schemas.errors import BadInput

SIDE = 64  # pixels of the view
#: Outputs: is this turn upright; kinds of film; grey inverted.
OUTPUTS = ("upright", "frontal", "lateral", "other", "negative")
KINDS = slice(1, 4)
#: Convolutions: (output channels, kernel, stride), zero padding of kernel // 2, ReLU. Then two full layers.
CONVOLUTIONS = ((16, 5, 2), (32, 3, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1), (96, 3, 2))
HIDDEN = 64
#: Share of a view's pixels that are shown as black, and as white.
TAIL = 0.01

_EXACT = 1 << 24  # float32 holds every whole number up to here

View = NDArray[np.uint8]
_Floats = NDArray[np.float32]


def view(pixels: NDArray[np.uint8]) -> View:
    """The film as the network sees it, uint8 [64, 64]: means over areas, stretched from the 1st to the 99th percentile.

    Args:
        pixels: uint8 [H, W], at least 64 on a side.

    The areas lie symmetrically (from floor(i H / 64) to ceil((i + 1) H / 64), so neighbours may share a row), all sums
    are of whole numbers: turning the film turns the view exactly. A film of one grey gives zeros.
    """
    if min(pixels.shape) < SIDE:
        raise ValueError(f"a film of at least {SIDE} pixels on a side, not {pixels.shape}")
    (rows, heights), (columns, widths) = _areas(pixels.shape[0]), _areas(pixels.shape[1])
    bands = np.stack([pixels[a:b].sum(axis=0, dtype=np.uint32) for a, b in rows])
    sums = np.stack([bands[:, a:b].sum(axis=1, dtype=np.int64) for a, b in columns], axis=1)
    means = sums / np.multiply.outer(heights, widths)
    order = np.sort(means, axis=None)
    dark = float(order[int(TAIL * means.size)])
    light = float(order[means.size - 1 - int(TAIL * means.size)])
    if light <= dark:
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.asarray(np.rint(np.clip((means - dark) / (light - dark), 0, 1) * 255), np.uint8)


def _areas(n: int) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """First and last-but-one index of each of 64 areas along a side of n pixels, and their lengths."""
    at = [(i * n // SIDE, -(-(i + 1) * n // SIDE)) for i in range(SIDE)]
    return at, np.array([b - a for a, b in at])


def four_turns(seen: View) -> View:
    """The view turned counter-clockwise by 0, 1, 2 and 3 quarters, uint8 [4, 64, 64]."""
    return np.stack([np.rot90(seen, k) for k in range(4)])


def probe() -> NDArray[np.uint8]:
    """A made-up picture, uint8 [300, 200], from whole numbers alone. A card's `probe` holds the network's sums for it,
    so that another machine can prove that it judges alike."""
    y, x = np.mgrid[:300, :200]
    return np.asarray((y * y // 7 + 3 * x * y // 11 + 90 * ((x // 25 + y // 40) % 2)) % 256, np.uint8)


@dataclass(frozen=True)
class Layer:
    """One layer in whole numbers, all arrays float32.

    weight: [k * k * input channels, output channels], -127..127, rows ordered by kernel row, kernel column, channel.
    bias: [output channels], whole. scale: [output channels]; of a hidden layer from sums to activations 0..255, of the
    last from sums to logits.
    """

    weight: _Floats
    bias: _Floats
    scale: _Floats

    def check(self) -> None:
        """Raises ValueError where a sum could leave what float32 holds exactly, or weights are not whole."""
        if not (np.array_equal(self.weight, np.rint(self.weight)) and np.array_equal(self.bias, np.rint(self.bias))):
            raise ValueError("weights and biases that are whole numbers")
        if (255 * np.abs(self.weight).sum(axis=0) + np.abs(self.bias)).max() >= _EXACT:
            raise ValueError("weights whose sums float32 holds exactly")


def _activated(sums: _Floats, layer: Layer) -> _Floats:
    sums += layer.bias
    sums *= layer.scale
    np.rint(sums, out=sums)
    return np.asarray(np.clip(sums, 0, 255, out=sums))


def _unfolded(x: _Floats, kernel: int, stride: int) -> _Floats:
    """x [N, H, W, C] -> the patch under the kernel at each place, [N, H / stride, W / stride, kernel^2 * C]."""
    n, height, width, channels = x.shape
    pad = kernel // 2
    padded = np.zeros((n, height + 2 * pad, width + 2 * pad, channels), np.float32)
    padded[:, pad : pad + height, pad : pad + width] = x
    rows, columns = height // stride, width // stride
    out = np.empty((n, rows, columns, kernel * kernel, channels), np.float32)
    for i in range(kernel):
        for j in range(kernel):
            out[:, :, :, i * kernel + j] = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
    return out.reshape(n, rows, columns, -1)


@dataclass(frozen=True)
class Network:
    """The network ready to run; `load_network` reads one."""

    layers: tuple[Layer, ...]
    card: dict[str, Any]

    def sums(self, views: View) -> NDArray[np.int64]:
        """Sums of the last layer for views uint8 [N, 64, 64]: whole numbers [N, 5]; times `scale` they are logits."""
        x: _Floats = np.asarray(views, np.float32)[..., None]
        for (_, kernel, stride), layer in zip(CONVOLUTIONS, self.layers, strict=False):
            x = _activated(_unfolded(x, kernel, stride) @ layer.weight, layer)
        x = _activated(x.reshape(len(x), -1) @ self.layers[-2].weight, self.layers[-2])
        return np.asarray(x @ self.layers[-1].weight + self.layers[-1].bias, np.int64)

    @property
    def scale(self) -> NDArray[np.float64]:
        """[5]: logits are sums times this."""
        return np.asarray(self.layers[-1].scale, np.float64)


def load_network(folder: Path) -> Network:
    """Read `model.safetensors` and its card `model.json`.

    Raises:
        BadInput: a file is missing or damaged, the weights are not those the card describes, or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card, weights_at = read_card(folder, kind="screen"), folder / "model.safetensors"
    if card.get("outputs") != list(OUTPUTS):
        raise BadInput(f"{folder / 'model.json'}: outputs", str(card.get("outputs")), ", ".join(OUTPUTS))
    try:
        stored = load_file(weights_at)
        layers = tuple(
            Layer(*(stored[f"{i}.{part}"].astype(np.float32) for part in ("weight", "bias", "scale")))
            for i in range(len(CONVOLUTIONS) + 2)
        )
        for layer, shape in zip(layers, weight_shapes(), strict=True):
            if layer.weight.shape != shape or layer.bias.shape != shape[1:] or layer.scale.shape != shape[1:]:
                raise ValueError(f"weights of shape {shape}")
            layer.check()
    except (SafetensorError, KeyError, ValueError) as e:
        raise BadInput(weights_at, " ".join(str(e).split())[:160], "the screen's weights") from e
    return Network(layers, card)


def weight_shapes() -> list[tuple[int, int]]:
    """[inputs, outputs] of every layer's weight, in order."""
    shapes, channels, side = [], 1, SIDE
    for out, kernel, stride in CONVOLUTIONS:
        shapes.append((kernel * kernel * channels, out))
        channels, side = out, side // stride
    return [*shapes, (side * side * channels, HIDDEN), (HIDDEN, len(OUTPUTS))]
