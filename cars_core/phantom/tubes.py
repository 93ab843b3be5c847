"""Bones and vessels of the chest as tubes in space, their mass summed per pixel.

Mass, not grey, is what is drawn: a rib brightens where it runs along the ray, and a vessel thinner than a
pixel keeps its share of attenuation. Frame and units are those of `thorax`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from cars_core.phantom.patient import Patient, chest_profile

Map = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Tube:
    """A centreline [n, 2] in cm, its half width [n] in cm, its mass per cm [n] in cm2, and how hollow it is 0..1."""

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
            share = np.sqrt(1 - k**2) - tube.hollow * 0.9 * np.sqrt(np.clip(1 - (k / 0.84) ** 2, 0, None))
            share = share / share.sum()
            along = np.gradient(tube.line, axis=0)
            length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
            xs.append((tube.line[:, 0] - along[:, 1] / length * tube.half * k).ravel())
            ys.append((tube.line[:, 1] + along[:, 0] / length * tube.half * k).ravel())
            ms.append((tube.mass * share).ravel())
        x, y, m = np.concatenate(xs), np.concatenate(ys), np.concatenate(ms)
        c, s = self.turn
        fx = (c * x - s * (y - 14) + self.p.field / 2 + self.p.shift_x) / self.step - 0.5
        fy = (s * x + c * (y - 14) + 14 + self.p.shift_y) / self.step - 0.5
        return _splat(self.size, fx, fy, m / self.step**2)


def _splat(size: int, fx: Points, fy: Points, m: Points) -> Map:
    """Share each mass among its four nearest pixels."""
    keep = (fx > -1) & (fx < size) & (fy > -1) & (fy < size)
    fx, fy, m = fx[keep], fy[keep], m[keep]
    ix, iy = np.floor(fx).astype(np.int64), np.floor(fy).astype(np.int64)
    wx, wy = fx - ix, fy - iy
    side = size + 2
    at = (iy + 1) * side + ix + 1
    total = np.zeros(side * side)
    for offset, weight in ((0, (1 - wx) * (1 - wy)), (1, wx * (1 - wy)), (side, (1 - wx) * wy), (side + 1, wx * wy)):
        total += np.bincount(at + offset, weights=m * weight, minlength=side * side)[: side * side]
    return total.reshape(side, side)[1:-1, 1:-1].astype(np.float32)


def _along(points: list[tuple[float, float]], step: float) -> Points:
    """A smooth open curve through points, sampled finer than `step` cm."""
    knots = np.array(points)
    n = int(1.2 * np.hypot(*np.diff(knots, axis=0).T).sum() / step) + 8
    return CubicSpline(np.linspace(0, 1, len(knots)), knots)(np.linspace(0, 1, n))


def _strip(line: Points, half: float | Points, thick: float | Points, hollow: float) -> Tube:
    """A tube lying in the picture's plane, `thick` cm of material on average across it."""
    ds = np.hypot(*np.gradient(line, axis=0).T)
    half = np.broadcast_to(np.asarray(half, float), ds.shape)
    return Tube(line, half, 2 * half * thick * ds, hollow)


def ribs(p: Patient, rng: np.random.Generator, step: float) -> list[Tube]:
    """Twelve pairs, each a bow in space from the spine round the side to the front."""
    out = []
    n = int(28 / step)
    pitch = p.height / 10.6
    for i in range(12):
        for side in (1, -1):
            drop = p.rib_slope * np.interp(i, [0, 1, 3, 7, 11], [0.32, 0.5, 0.85, 1.1, 1.1]) * rng.normal(1, 0.03)
            start = -0.6 + pitch * i * (0.9 + 0.1 * i / 11) + rng.normal(0, 0.1)
            end = np.radians(np.interp(i, [0, 6, 9, 10, 11], [150, 146, 128, 100, 75]) + rng.normal(0, 3))
            phi = np.linspace(0.02, end, n)
            yc = start + drop * ((1 - np.cos(phi)) / 2) ** 1.15 - 0.5 * np.sin(np.clip(phi * 2.2, 0, np.pi))
            reach = float(p.half(side) * chest_profile(p, np.array([max(0.9, start + 0.42 * drop)]))[0]) + 0.35
            xc = 1.9 + (reach - 1.9) * np.sin(phi)
            front = phi > np.pi / 2
            xc = np.where(front, reach * np.sin(phi) + 0.0, xc)
            zc = p.depth / 2 * np.cos(phi)
            ds = np.sqrt(np.gradient(xc) ** 2 + np.gradient(yc) ** 2 + np.gradient(zc) ** 2)
            half = np.where(front, 0.62, 0.56) * np.interp(i, [0, 2, 9, 11], [1.1, 1.0, 1.0, 0.7]) * p.half_width / 14
            fade = np.clip((end - phi) / 0.45, 0, 1)
            area = p.bone * 0.45 * np.where(front, 0.55, 1.0) * fade
            out.append(Tube(np.column_stack([side * xc, yc]), half, 2 * half * area * ds, 0.72))
    return out


def shoulders(p: Patient, step: float) -> list[Tube]:
    """Clavicles, scapulae, heads and shafts of the humeri."""
    w, out = p.half_width, []
    turned = 1.6 if p.view == "PA" else 0.0  # PA: the shoulders roll forward and the blades leave the lungs
    for side in (1, -1):
        lift = 0.25 * side * p.rotation
        curves = [
            ([(1.9, 3.0 + lift), (0.35 * w, 2.3), (0.75 * w, 0.2), (w + 2.6, -0.9)], 0.62, 0.62 * p.bone, 0.7),
            ([(0.78 * w + turned, 1.6), (0.8 * w + turned, 6.0), (0.88 * w + turned, 12.5)], 0.25, 0.3, 0.0),
            ([(0.88 * w + turned, 12.5), (w + 0.6 + turned, 8.0), (w + 2.3 + turned / 2, 4.6)], 0.5, 0.4, 0.3),
            ([(0.8 * w + turned, 3.6), (w + 1.0, 1.8), (w + 4.0, -0.2)], 0.6, 0.4, 0.4),
            ([(w + 4.8, 3.5), (w + 4.6 + 0.4 * p.arm, 16.0), (w + 4.3 + 0.7 * (p.wall + p.arm), 26.0)], 1.1, 0.9, 0.75),
        ]
        blade = [(0.9 * w + turned, 3.0), (0.93 * w + turned, 7.0), (0.9 * w + turned, 11.5)]
        curves.append((blade, 1.5, 0.22, 0.0))
        for points, half, thick, hollow in curves:
            line = _along(points, step)
            out.append(_strip(line * (side, 1), half, thick * p.bone, hollow))
    return out


def vessel_trees(p: Patient, rng: np.random.Generator, step: float) -> list[Tube]:
    """Arteries and veins branching from the hila; a branch's radius follows Murray's law (r^3 shared out)."""
    lines, halves = [], []
    for side in (1, -1):
        root = np.array([side * (3.3 if side < 0 else 3.1), 11.6 if side > 0 else 12.6])
        aim = np.radians(np.array([-78, -55, -28, -5, 18, 38, 55, 70, 84, 98, 62, 46, 28, -62])
                         + rng.normal(0, 7, 14))
        at = root + rng.normal(0, 0.7, (14, 2)) * (0.6, 1.6)
        radius = p.vessels * rng.uniform(0.28, 0.46, 14) * np.where(aim > 0, 1.1, 0.85)
        reach = np.full(14, 3.3) * rng.uniform(0.8, 1.2, 14) * np.where(aim > 0.5, 1.1, 1.0)
        for generation in range(7):
            bend = rng.normal(0, 0.2, len(aim))
            n = max(6, int(3.6 * 0.8**generation / step))
            t = np.linspace(0, 1, n)[:, None]
            course = aim + bend * t
            pace = reach / (n - 1)
            dx, dy = np.cos(course) * pace * side, np.sin(course) * pace
            line = np.stack([at[:, 0] + np.cumsum(dx, 0) - dx[0], at[:, 1] + np.cumsum(dy, 0) - dy[0]], -1)
            share = rng.uniform(0.3, 0.7, len(aim))
            taper = radius * (1 - 0.12 * t)
            lines.append(line)
            halves.append(taper)
            if generation == 6:
                break
            keep = np.concatenate([share, 1 - share])
            fork = np.radians(rng.uniform(14, 38, len(aim)))
            flip = rng.choice([-1, 1], len(aim))
            aim = np.concatenate([course[-1] + flip * fork * (1 - share), course[-1] - flip * fork * share])
            at = np.concatenate([line[-1], line[-1]])
            radius = np.concatenate([taper[-1], taper[-1]]) * keep ** (1 / 3)
            reach = np.concatenate([reach, reach]) * 0.8 * rng.uniform(0.75, 1.2, 2 * len(share))
            alive = (radius > 0.05) & (side * at[:, 0] < 0.96 * p.half_width) & (at[:, 1] > 0.5)
            aim, at, radius, reach = aim[alive], at[alive], radius[alive], reach[alive]
    out = []
    for line, half in zip(lines, halves, strict=True):
        # Neighbouring branches are drawn as one array; a branch's direction must not see its neighbour's.
        along = np.gradient(line, axis=0)
        ds = np.hypot(along[..., 0], along[..., 1])
        mass = np.pi * half**2 * ds
        n = max(1, int(np.ceil(1.8 * float(half.max()) / step)))
        lanes = (np.arange(n) + 0.5) / n * 2 - 1
        chord = np.sqrt(1 - lanes**2)
        for k, w in zip(lanes, chord / chord.sum(), strict=True):
            moved = line + (half * k / np.maximum(ds, 1e-9))[..., None] * np.stack([-along[..., 1], along[..., 0]], -1)
            flat = moved.transpose(1, 0, 2).reshape(-1, 2)
            out.append(Tube(flat, np.zeros(len(flat)), (mass * w).T.ravel(), 0.0))
    return out


def letter(p: Patient) -> list[Tube]:
    """The lead letter L, above the patient's left shoulder."""
    x, y = 0.40 * p.field, -p.shift_y + 2.2
    upright = np.linspace((x, y - 0.7), (x, y + 0.7), 40)
    foot = np.linspace((x, y + 0.7), (x + 0.8, y + 0.7), 40)
    return [_strip(line, 0.13, 9.0, 0.0) for line in (upright, foot)]
