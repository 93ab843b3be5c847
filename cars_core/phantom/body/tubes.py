"""Bones, vessels and wires as tubes in space, their mass summed per pixel.

Mass, not grey, is what is drawn: a rib brightens where it runs along the ray, and a vessel thinner than a
pixel keeps its share of attenuation. Frame and units are those of `thorax`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from cars_core.phantom.body.grid import PIVOT
from cars_core.phantom.body.patient import Patient

Map = NDArray[np.float32]
Points = NDArray[np.float64]

#: How far from the axis the marrow of a hollow tube reaches, of its half width.
_MARROW = 0.82
#: Points added at a time: their arrays stay in the processor's cache.
_CHUNK = 8192


@dataclass(frozen=True)
class Tube:
    """A centreline [n, 2] in cm, its half width [n] in cm, its mass per point [n] in cm3, and how hollow it is 0..1."""

    line: Points
    half: Points
    mass: Points
    hollow: float


class Canvas:
    """Sums the mass of tubes per pixel."""

    def __init__(self, p: Patient, size: int, step: float, turn: tuple[float, float]) -> None:
        self.p, self.size, self.step, self.turn = p, size, step, turn

    def draw(self, tubes: list[Tube]) -> Map:
        """Thickness in cm, float32 [H, W]."""
        xs, ys, ms = [], [], []
        for tube in tubes:
            if not tube.half.any():  # already spread over its width
                xs.append(tube.line[:, 0])
                ys.append(tube.line[:, 1])
                ms.append(tube.mass)
                continue
            wide = float(tube.half.max())
            # Lanes about a pixel apart; closer for the broad bones, whose lanes would show as hatching.
            lanes = max(3, int(np.ceil((1.7 if wide < 0.8 else 3.0) * wide / self.step)))
            k = ((np.arange(lanes) + 0.5) / lanes * 2 - 1)[:, None]
            share = hollow(k, tube.hollow)
            along = np.gradient(tube.line, axis=0)
            length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
            xs.append((tube.line[:, 0] - along[:, 1] / length * tube.half * k).ravel())
            ys.append((tube.line[:, 1] + along[:, 0] / length * tube.half * k).ravel())
            ms.append((tube.mass * share).ravel())
        x, y, m = np.concatenate(xs), np.concatenate(ys), np.concatenate(ms)
        c, s = self.turn
        fx = (c * x - s * (y - PIVOT) + self.p.field / 2 + self.p.shift_x) / self.step - 0.5
        fy = (s * x + c * (y - PIVOT) + PIVOT + self.p.shift_y) / self.step - 0.5
        return _splat(self.size, fx, fy, m / self.step**2)


def hollow(k: Points, share: float) -> Points:
    """How a round tube's mass is shared out over places k (-1..1) across it; `share` 1 has bare marrow within."""
    wall = np.sqrt(1 - k**2) - share * _MARROW * np.sqrt(np.clip(1 - (k / _MARROW) ** 2, 0, None))
    return wall / wall.sum()


def _splat(size: int, fx: Points, fy: Points, m: Points) -> Map:
    """Share each mass among its four nearest pixels."""
    side = size + 3  # a rim takes what lies outside
    total = np.zeros(side * side)
    for i in range(0, len(fx), _CHUNK):
        x, y = (np.clip(f[i : i + _CHUNK] + 1, 0, size + 1) for f in (fx, fy))
        mass = m[i : i + _CHUNK]
        ix, iy = x.astype(np.intp), y.astype(np.intp)
        at = iy * side + ix
        right, low = mass * (x - ix), mass * (y - iy)
        corner = right * (y - iy)
        np.add.at(total, at, mass - low - right + corner)
        np.add.at(total, at + 1, right - corner)
        np.add.at(total, at + side, low - corner)
        np.add.at(total, at + side + 1, corner)
    return total.reshape(side, side)[1 : size + 1, 1 : size + 1].astype(np.float32)


def along(points: list[tuple[float, float]], step: float) -> Points:
    """A smooth open curve through points [k, 2], sampled finer than `step` cm."""
    knots = np.array(points)
    at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    return CubicSpline(at, knots)(np.linspace(0, at[-1], int(2.2 * at[-1] / step) + 8))


def strip(line: Points, half: float | Points, thick: float | Points, hollow: float) -> Tube:
    """A tube lying in the picture's plane, `thick` cm of material on average across it."""
    ds = np.hypot(*np.gradient(line, axis=0).T)
    half = np.broadcast_to(np.asarray(half, float), ds.shape)
    return Tube(line, half, 2 * half * thick * ds, hollow)
