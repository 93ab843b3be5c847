"""Findings of the lung's framework, as shares of air replaced (see `opacities`): edema and fibrosis.

Septa between lobules meet the pleura every 0.5-2 cm and stay unseen until fluid or scar thickens them.
"""

from __future__ import annotations

import numpy as np

from cars_core.anatomy.masks import Mask
from cars_core.phantom.display import Float
from cars_core.phantom.findings.frame import Lung, blob, clouds, smooth_step, soft_edge, strokes

_ALVEOLAR = 0.4  # severity from which air spaces fill (about 25 mmHg)
_LEAST = 0.15  # severity from which edema thickens septa (pulmonary venous pressure of about 20 mmHg)


def edema(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Perihilar haze fading to the periphery, Kerley B lines and cuffed bronchi, more with severity.

    From _ALVEOLAR on, fluid fills air spaces round the hilum: the inner half of a bat's wings, with fluffy borders
    and a clear outer third.
    """
    coarse, fine = clouds(lung, rng, 8), clouds(lung, rng, 20)
    d = blob(lung, (0.18, 0.52), 0.36 + 0.06 * severity, stretch=1.0)
    haze = np.exp(-(d**2)) * np.clip(0.8 + 0.3 * coarse + 0.25 * fine, 0, 1.3) * (0.22 + 0.18 * severity)
    full = float(np.clip((severity - _ALVEOLAR) / (1 - _ALVEOLAR), 0, 1))
    if full:
        wing = blob(lung, (0.20, 0.49), 0.20 + 0.09 * severity, stretch=1.12)
        wing = smooth_step(1 - wing + 0.22 * coarse + 0.14 * fine, 0.7)
        haze = 1 - (1 - haze) * (1 - (0.30 + 0.30 * full) * wing)
    haze = haze * soft_edge(lung, 0.02)
    lines = np.maximum(kerley(lung, severity, rng), _cuffs(lung, severity, rng)) * lung.mask
    return np.where(lines > 0, 1 - (1 - haze) * (1 - lines), haze)


def kerley(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Kerley B lines: 1-2 cm long, 1 mm thin, at right angles to the pleura of the lateral base."""
    out = []
    width = lung.aspect * lung.height
    n = round(2 + 11 * severity) if severity > _LEAST else 0
    for k in range(n):
        v = 0.60 + 0.27 * (k + 0.15 + 0.7 * rng.random()) / n
        length, tilt = (1.0 + rng.random()) * lung.cm, 0.08 * rng.standard_normal()
        row = lung.mask[min(int(lung.pixel(0.5, v)[0]), len(lung.mask) - 1)]
        if not row.any():
            continue
        wall = float(lung.u[0][row].max())
        out.append(((wall, v), (wall - length / width, v + (tilt - 0.08) * length / lung.height), 0.05))
    return strokes(lung, out) * np.float32(0.20 + 0.12 * severity)


def _cuffs(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Bronchi near the hilum seen end-on, their walls thickened: blurred, broken rings 3-6 mm across, each beside the
    artery that goes with it."""
    out = np.zeros(lung.mask.shape, np.float32)
    for _ in range(round(1 + 2 * severity) if severity > _LEAST else 0):
        y, x = lung.pixel(0.14 + 0.26 * rng.random(), 0.33 + 0.22 * rng.random())
        radius = (0.16 + 0.12 * rng.random()) * lung.cm
        wall = max(0.12 * lung.cm, 0.7)
        pad = 3 * radius + 3 * wall
        aside, flat = 2 * np.pi * rng.random(), 0.65 + 0.35 * rng.random()
        y0, x0 = max(int(y - pad), 0), max(int(x - pad), 0)
        part = out[y0 : int(y + pad) + 2, x0 : int(x + pad) + 2]
        dy, dx = (np.arange(part.shape[0]) + y0 - y)[:, None], np.arange(part.shape[1]) + x0 - x
        turn = np.arctan2(dy, dx) - 2 * np.pi * rng.random()
        c, s = np.cos(aside), np.sin(aside)
        oval = np.hypot((dx * c + dy * s) * flat, dy * c - dx * s)
        ring = np.exp(-(((oval - radius) / wall) ** 2)) * (0.55 + 0.45 * np.cos(turn))
        artery = np.hypot(dx - c * (2.1 * radius + wall), dy - s * (2.1 * radius + wall)) / (0.9 * radius + 0.5 * wall)
        ring = np.maximum(ring, np.exp(-(artery**4)))
        np.maximum(part, np.where(ring > 0.02, ring, 0), out=part, casting="same_kind")
    return out * np.float32(0.12 + 0.10 * severity)


def cephalised(lung: Lung, severity: float, spare: Float) -> Float:
    """Vessels (cm of tissue, float32 [H, W]) as raised venous pressure fills them: those of the upper zones up to
    1.6 times, those of the bases a little thinner."""
    v = lung.v[:, :1]
    gain = 0.6 * severity * smooth_step(0.42 - v, 0.25) - 0.2 * severity * smooth_step(v - 0.62, 0.25)
    gain = gain * soft_edge(lung, 0.02)
    # What is thinner than a vessel is grain, and stays.
    return (spare + gain * np.clip(spare - np.float32(0.15), 0, None)).astype(np.float32)


def fibrosis(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Reticulation: a net of thin lines, most under the pleura and at the bases, with a slight haze between.

    Meshes are 5-7 mm wide; from half severity on, honeycombing: walled cysts of up to a centimetre, shoulder to
    shoulder, where the net is densest.
    """
    lateral = 0.35 + 0.65 * smooth_step(lung.u[0] - 0.30, 0.35)
    skin = np.exp(-((lung.edge / (0.07 + 0.07 * severity)) ** 2)) * lateral
    low = smooth_step(lung.v[:, :1] - (0.62 - 0.22 * severity), 0.40)
    where = np.clip((0.04 + 0.96 * low) * (0.30 + 0.70 * skin) * (1 + 0.5 * clouds(lung, rng, 6)), 0, 1)
    net = np.zeros(lung.mask.shape, np.float32)
    # Walls of lobules and of smaller units before and behind one another.
    seen = lung.mask & (where > 0.03)
    if seen.any():
        for pitch, wall in ((0.65, 0.09), (1.1, 0.08)):
            net = 1 - (1 - net) * (1 - 0.8 * _cells(lung, rng, seen, pitch * (0.9 + 0.3 * severity), wall))
    worst = float(np.clip((severity - 0.45) / 0.55, 0, 1))
    if worst:
        dense = worst * smooth_step(where - 0.45, 0.3)
        cystic = (dense > 0.04) & lung.mask
        if cystic.any():
            pitch = 0.7 + 0.2 * rng.random()
            net = net * (1 - dense) + 0.9 * dense * _cells(lung, rng, cystic, pitch, 0.16)
    cover = where * ((0.24 + 0.28 * severity) * net + 0.06 + 0.11 * severity)
    return (cover * soft_edge(lung)).astype(np.float32)


def _cells(lung: Lung, rng: np.random.Generator, where: Mask, pitch: float, wall: float) -> Float:
    """Walls between irregular cells about `pitch` cm wide, 0..1 in `where`, 0 elsewhere; `wall` is a share of pitch.

    A wall lies where the two nearest of a jittered grid's points are about equally far (Worley 1996).
    """
    pitch *= lung.cm
    rows, cols = np.nonzero(where)
    y, x = (rows / pitch + 1).astype(np.float32), (cols / pitch + 1).astype(np.float32)
    iy, ix = y.astype(np.intp), x.astype(np.intp)
    grid = (int(iy.max()) + 2, int(ix.max()) + 2)
    py, px = rng.uniform(-0.42, 0.42, (2, *grid)).astype(np.float32)
    wide = rng.uniform(0.7, 1.3, grid).astype(np.float32).ravel()
    py, px = py.ravel(), px.ravel()
    fy, fx = y - iy - np.float32(0.5), x - ix - np.float32(0.5)
    first, second = np.full(len(y), 9.0, np.float32), np.full(len(y), 9.0, np.float32)
    own = iy * grid[1] + ix
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            at = own + (dy * grid[1] + dx)
            ry, rx = py[at] + dy - fy, px[at] + dx - fx
            d = np.sqrt(ry * ry + rx * rx) * wide[at]
            np.minimum(second, np.maximum(first, d), out=second)
            np.minimum(first, d, out=first)
    out = np.zeros(lung.mask.shape, np.float32)
    out[where] = smooth_step(np.float32(wall) - (second - first), max(1.9 * wall, 1.2 / pitch))
    return out
