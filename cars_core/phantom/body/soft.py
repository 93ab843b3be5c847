"""Soft tissue around the chest: trunk, neck, shoulders, arms, breasts, and the gas in stomach and bowel."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from cars_core.digest import seed_from
from cars_core.phantom.body.grid import ACROSS, DOWN, Grid, Map
from cars_core.phantom.body.patient import Patient, chest_profile


def body(p: Patient, grid: Grid, peaks: tuple[float, float]) -> Map:
    """Front-to-back depth of all soft tissue, as if the lungs were solid: cm. `peaks`: y of right and left dome."""
    w = p.half_width
    lateral = max(p.half(1), p.half(-1)) * chest_profile(p, DOWN)
    # Ribs, muscle and fat; the shoulder girdle widens it above, the hips and fat below.
    edge = lateral + p.wall * (0.6 + 0.6 * np.clip(DOWN / p.height - 0.3, 0, 1.5)) + 0.8
    edge += 4.2 * np.exp(-((DOWN - 2.5) / 5.0) ** 2) + 1.2 * np.exp(-((DOWN - 8.5) / 3.5) ** 2)
    share = np.interp(DOWN, [-6, 0, 5, 10, 18, 30, 44], [0.42, 0.56, 0.78, 0.93, 1.0, 1.04, 1.0])
    deep = (p.depth + 1.2 * p.wall) * share
    away = np.abs(ACROSS)
    top = np.interp(away, [0, 4.0, 5.5, 7.0, 10.5, w + 1.0, w + 4.5, w + 8],
                    [-40, -40, -9, -6.2, -4.4, -2.6, -0.8, 7])
    x, y = grid.x, grid.y
    q = np.abs(x) / grid.down(edge)
    q2 = q * q
    torso = grid.down(deep) * np.sqrt(np.clip(1 - q2 * q2, 0, None))
    torso *= np.sqrt(np.clip((y - grid.across(top)) / np.float32(4.0), 0, 1))
    neck = 10.5 * np.sqrt(np.clip(1 - (away / (4.8 + 0.35 * p.wall)) ** 2, 0, None))
    fade = np.clip((3 - DOWN) / 7, 0, 1)
    total = torso * torso
    one = grid.across(neck) * grid.down(fade)
    total += one * one
    limb = 3.0 + 0.45 * p.wall
    for side in (1, -1):
        elbow = (side * (w + 4.6 + 0.5 * p.wall + 1.1 * p.arm), 34.0)
        for a, b, ra, rb in (((side * 9.0, 0.6), (side * (w + 4.2), 2.6), 3.4 + 0.3 * p.wall, limb + 0.6),
                             ((side * (w + 4.4), 3.0), elbow, limb + 0.5, limb - 0.4)):
            box, chord = grid.capsule(a, b, ra, rb)
            total[box] += np.float32(0.75) * chord * chord
    out: Map = np.sqrt(total)
    out += _mottle(p, grid) * np.clip(out / 4, 0, 1)
    _stripes(p, grid, out)
    if p.breast:
        _breasts(p, grid, out)
    else:
        for side in (1, -1):  # pectoral muscles, their lower border running up to the armpit
            box, chord = grid.capsule((side * 5.0, 7.0), (side * (w + 2.0), 5.0), 4.0, 2.2)
            out[box] += np.float32(0.12) * chord
    _abdomen(p, grid, out, peaks)
    if p.chin < p.shift_y + 6:  # jaw and face above the neck
        grid.add_ellipse(out, (0.8 * p.rotation, -p.chin - 5.5), (6.2, 5.8), 13.0)
    return out


def _mottle(p: Patient, grid: Grid) -> Map:
    """Muscle, fat, bowel and folds of skin that are not drawn one by one: cm of tissue more or less than the mean.

    Smooth random fields of 9, 18 and 36 cells over the film's side.
    """
    rng = np.random.default_rng(seed_from("mottle", p.seed))
    out = np.zeros((grid.size, grid.size))
    for cells, strength in ((9, 0.32), (18, 0.22), (36, 0.16)):
        at = np.linspace(0, cells, cells + 1)
        spread = CubicSpline(at, np.eye(cells + 1))((np.arange(grid.size) + 0.5) / grid.size * cells)
        out += strength * (spread @ rng.standard_normal((cells + 1, cells + 1)) @ spread.T)
    return out.astype(np.float32)


def _stripes(p: Patient, grid: Grid, out: Map) -> None:
    """Muscle between and on the ribs, denser than the fat outside: lines down the side of the chest, cm of tissue."""
    strength = 0.5 + (p.seed % 1009) / 1009
    fade = np.interp(DOWN, [-0.5, 2, p.height + 2, p.height + 9], [0, 1, 1, 0])
    profile = chest_profile(p, DOWN)
    for side in (1, -1):
        half = p.half(side)
        x0, x1 = 0.3 * half, half + 2.5 + p.wall
        box = grid.box(min(side * x0, side * x1), max(side * x0, side * x1), -0.5, p.height + 9)
        beyond = side * grid.x[box] - grid.down(half * profile)[box]
        band = np.zeros_like(beyond)
        for at, width, thick in ((0.25, 0.4, 1.5), (0.95, 0.35, -0.9), (1.0 + 0.5 * p.wall, 0.35, 0.4)):
            near = np.clip(1 - np.abs(beyond - np.float32(at)) / np.float32(width), 0, 1)
            band += np.float32(thick * strength) * near
        out[box] += band * grid.down(fade)[box]


def _breasts(p: Patient, grid: Grid, out: Map) -> None:
    rng = np.random.default_rng(p.seed)
    down = p.height * (0.80 + 0.10 * rng.random()) + 0.02 * (p.age - 40)
    for side in (1, -1):
        at = (side * (0.54 + 0.06 * rng.random()) * p.half_width, down + 0.4 * rng.standard_normal())
        wide, high = 1.12 * p.breast, 0.95 * p.breast
        box = grid.box(at[0] - wide, at[0] + wide, at[1] - 1.8 * high, at[1] + high)
        u = (grid.x[box] - np.float32(at[0])) / np.float32(wide)
        v = (grid.y[box] - np.float32(at[1])) / np.float32(high)
        v = np.where(v < 0, v * np.float32(0.55), v)
        # Full and sharply bounded below, fading into the chest above.
        full = np.clip(np.float32(0.62) + np.float32(0.5) * v, 0, 1)
        out[box] += np.float32(0.38 * p.breast) * full * np.sqrt(np.clip(1 - u * u - v * v, 0, None))


def _abdomen(p: Patient, grid: Grid, out: Map, peaks: tuple[float, float]) -> None:
    """Liver and spleen are denser than the fat and bowel around them; the flanks are fat."""
    grid.add_bump(out, (-0.4 * p.half_width, peaks[0] + 6.0), (0.36 * p.half_width, 5.0), 1.6)
    grid.add_bump(out, (0.62 * p.half_width, peaks[1] + 5.0), (0.2 * p.half_width, 3.5), 0.9)


def gas(p: Patient, grid: Grid, rng: np.random.Generator, peaks: tuple[float, float]) -> Map:
    """Gas under the left dome (stomach, flat where it meets fluid when erect) and in the colon: cm."""
    out = np.zeros_like(grid.x)
    w, dome = p.half_width, peaks[1]
    at = float(rng.uniform(0.3, 0.55)) * w
    if p.gas:
        wide, high = p.gas * float(rng.uniform(1.1, 2.0)), p.gas * float(rng.uniform(0.7, 1.1))
        top = dome + float(rng.uniform(0.9, 1.6)) + 1.1 * ((at - 0.5 * w) / (0.5 * w)) ** 2
        lobes = [(at, top + high, wide, high)]
        lobes += [(at + float(rng.normal(0, 0.6)) * wide, top + high * float(rng.uniform(0.8, 1.5)), 0.6 * wide,
                   0.6 * high) for _ in range(2)]
        _loops(grid, out, lobes, 1.5 * p.gas * float(rng.uniform(0.5, 1.2)),
               None if p.supine else top + 1.5 * high)
    for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.7 else 9):  # haustra of the colon
        left = rng.random() < 0.85
        x = float(rng.normal(0.5, 0.22)) * w * (1 if left else -1)
        y = dome + float(rng.uniform(2.0, 9.0)) + (0 if left else 5)
        r = float(rng.uniform(0.4, 1.3))
        lobes = [(x + float(rng.normal(0, 1.1)) * r, y + float(rng.normal(0, 1.1)) * r,
                  r * float(rng.uniform(0.6, 1.5)), r * float(rng.uniform(0.5, 1.0))) for _ in range(4)]
        _loops(grid, out, lobes, r * float(rng.uniform(0.4, 2.0)), None)
    return out


def _loops(grid: Grid, out: Map, lobes: list[tuple[float, float, float, float]], depth: float,
           level: float | None) -> None:
    """Add one pocket of gas, the union of ellipses (x, y, half width, half height); below `level` there is fluid."""
    reach = max(max(a[2], a[3]) for a in lobes) * 1.4
    xs, ys = [a[0] for a in lobes], [a[1] for a in lobes]
    box = grid.box(min(xs) - reach, max(xs) + reach, min(ys) - reach, max(ys) + reach)
    x, y = grid.x[box], grid.y[box]
    if not x.size:
        return
    soft = np.zeros_like(x)
    for cx, cy, a, b in lobes:
        u, v = (x - np.float32(cx)) / np.float32(a), (y - np.float32(cy)) / np.float32(b)
        soft = np.maximum(soft, 1 - u * u - v * v)
    pocket = np.float32(depth) * np.sqrt(np.clip(soft, 0, None))
    if level is not None:
        pocket *= np.clip((np.float32(level) - y) / np.float32(0.25), 0, 1)
    out[box] += pocket
