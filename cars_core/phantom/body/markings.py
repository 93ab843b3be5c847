"""What is on a film beside the patient: lead letters, initials, print, and the border of the field."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cars_core.phantom.body.grid import Grid, Map
from cars_core.phantom.body.patient import Patient

#: Capital letters and signs as strokes between points of a unit box, y downwards; a space breaks the pen.
_STROKES = {
    "A": "0,1 .5,0 1,1|.2,.65 .8,.65", "B": "0,0 0,1 .7,1 1,.8 .7,.5 0,.5|.7,.5 .9,.25 .7,0 0,0",
    "C": "1,.15 .6,0 .2,.1 0,.5 .2,.9 .6,1 1,.85", "D": "0,0 0,1 .6,1 1,.7 1,.3 .6,0 0,0",
    "E": "1,0 0,0 0,1 1,1|0,.5 .8,.5", "G": "1,.15 .6,0 .2,.1 0,.5 .2,.9 .6,1 1,.85 1,.55 .6,.55",
    "H": "0,0 0,1|1,0 1,1|0,.5 1,.5", "J": "1,0 1,.8 .7,1 .2,1 0,.8", "K": "0,0 0,1|1,0 0,.55|.3,.4 1,1",
    "L": "0,0 0,1 1,1", "M": "0,1 0,0 .5,.6 1,0 1,1", "O": ".5,0 .1,.2 0,.5 .1,.8 .5,1 .9,.8 1,.5 .9,.2 .5,0",
    "P": "0,1 0,0 .8,0 1,.25 .8,.5 0,.5", "R": "0,1 0,0 .8,0 1,.25 .8,.5 0,.5|.45,.5 1,1",
    "S": "1,.1 .6,0 .1,.1 .1,.4 .9,.6 .9,.9 .5,1 0,.9", "T": "0,0 1,0|.5,0 .5,1", "W": "0,0 .25,1 .5,.4 .75,1 1,0",
    "^": ".5,1 .5,0|.15,.4 .5,0 .85,.4",
}
_INITIALS = "ABCDEGHJKLMPRSTW"
_NO_NAMES = ("PA", "AP", "LL", "RL", "LT", "RT", "SP")  # they would say a view, a side or a position

#: Display units of lead, print and unexposed film, and of what the shutter or a mask left black.
_WHITE, _BLACK = 3.2, -4.6


def markings(p: Patient, grid: Grid) -> tuple[Map, Map]:
    """What covers the film: how opaque, 0..1, and in which display unit, float32 [H, W] each."""
    rng = np.random.default_rng(p.look)
    cover, value = np.zeros_like(grid.x), np.zeros_like(grid.x)
    if p.border:
        _border(p, grid, rng, cover, value)
    if p.marker:
        _lead(p, grid, rng, cover, value)
    if p.view == "AP" and rng.random() < 0.3:
        _print(p, grid, rng, cover, value)
    return cover, value


def _border(p: Patient, grid: Grid, rng: np.random.Generator, cover: Map, value: Map) -> None:
    """Strips along some of the film's sides, a little askew."""
    n = grid.size
    at = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n)
    sides = rng.random(4) < (0.6 if p.border == "black" else 0.45)
    sides[int(rng.integers(4))] = True
    soft = 1.0 / n if p.border == "black" else float(rng.uniform(0.004, 0.02))
    askew = np.tan(np.radians(rng.normal(0, 0.9)))
    out = np.zeros_like(cover)
    for k in range(4):
        margin = float(np.clip(rng.gamma(1.6, 0.012), 0.004, 0.09))
        if not sides[k]:
            continue
        a, b = (at[:, None], at[None]) if k < 2 else (at[None], at[:, None])
        inwards = (a if k % 2 == 0 else 1 - a) + np.float32(askew * (1 if k in (0, 3) else -1)) * (b - np.float32(0.5))
        out = np.maximum(out, np.clip((np.float32(margin) - inwards) / np.float32(soft) + np.float32(0.5), 0, 1))
    np.copyto(value, np.float32(_BLACK if p.border == "black" else rng.uniform(1.8, 3.2)), where=out > 0)
    np.maximum(cover, out, out=cover)


def _lead(p: Patient, grid: Grid, rng: np.random.Generator, cover: Map, value: Map) -> None:
    """The side's letter, alone or with the radiographer's initials, near the upper corner of that side."""
    tall = float(rng.uniform(0.026, 0.055))
    high = rng.random() < 0.9  # else beside the chest
    x = float(rng.uniform(0.80, 0.94) if high else rng.uniform(0.93, 0.97))
    x = x if p.marker == "L" else 1 - x
    y = float(rng.uniform(0.035, 0.17) if high else rng.uniform(0.2, 0.45))
    turn = float(rng.normal(0, 12)) if rng.random() < 0.75 else float(rng.choice([-90, 90, 45, -30]))
    ink = float(rng.uniform(0.75, 1.0))
    pen = float(rng.uniform(0.14, 0.24))
    _write(p.marker, grid, (x, y), tall, turn, pen, ink, cover, value)
    kind = rng.random()
    name = "".join(rng.choice(list(_INITIALS), int(rng.integers(2, 4))))
    if name in _NO_NAMES:
        name += "K"
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    if kind < 0.45:
        down = tall * float(rng.uniform(1.1, 1.5))
        _write(name, grid, (x - s * down, y + c * down), tall * 0.62, turn, 0.15, ink, cover, value)
    elif kind < 0.6:  # a letter in a ring
        _ring(grid, (x, y), tall * 0.95, ink, cover, value)
    elif kind < 0.7:
        _ring(grid, (x + s * tall * 1.5, y - c * tall * 1.5), tall * 0.5, ink * 0.7, cover, value, filled=True)


def _print(p: Patient, grid: Grid, rng: np.random.Generator, cover: Map, value: Map) -> None:
    """Words a workstation printed on a bedside film."""
    x, y = float(rng.choice([0.12, 0.86])), float(rng.uniform(0.06, 0.2))
    tall = 0.016
    if rng.random() < 0.6:
        _write("^", grid, (x, y), 0.045, 0.0, 0.2, 1.0, cover, value)
    _write("PORTABLE", grid, (x, y + 0.05), tall, 0.0, 0.16, 1.0, cover, value)
    if rng.random() < 0.7:
        _write("AP", grid, (x, y + 0.08), tall, 0.0, 0.16, 1.0, cover, value)


def _ring(grid: Grid, at: tuple[float, float], radius: float, ink: float, cover: Map, value: Map, *,
          filled: bool = False) -> None:
    box, x, y = _near(grid, at, radius * 1.3)
    r = np.hypot(x, y)
    width = np.float32(1.0 / grid.size)
    ring = np.clip((np.float32(radius) - r) / width + np.float32(0.5), 0, 1)
    if not filled:
        ring *= np.clip((r - np.float32(radius * 0.84)) / width + np.float32(0.5), 0, 1)
    _lay(cover, value, box, ring * np.float32(ink))


def _write(text: str, grid: Grid, at: tuple[float, float], tall: float, turn: float, pen: float, ink: float, cover: Map,
           value: Map) -> None:
    """Write letters of height `tall` (of the film) centred at `at`; `pen` is the stroke's width of the height."""
    wide, gap = 0.62 * tall, 0.36 * tall
    total = len(text) * wide + (len(text) - 1) * gap
    box, x, y = _near(grid, at, 0.5 * total + tall)
    if not x.size:
        return
    c, s = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    u, v = c * x + s * y + np.float32(total / 2), c * y - s * x + np.float32(tall / 2)
    nearest = np.full(u.shape, np.float32(1))
    for k, letter in enumerate(text):
        for stroke in _STROKES[letter].split("|"):
            points = np.array([pair.split(",") for pair in stroke.split()], float) * (wide, tall)
            points += (k * (wide + gap), 0)
            for a, b in pairwise(points):
                nearest = np.minimum(nearest, _distance(u, v, a, b))
    edge = np.float32(1.0 / grid.size)
    drawn = np.clip((np.float32(pen * tall / 2) - nearest) / edge + np.float32(0.5), 0, 1)
    _lay(cover, value, box, np.float32(ink) * drawn)


def _distance(x: Map, y: Map, a: NDArray[np.float64], b: NDArray[np.float64]) -> Map:
    dx, dy = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
    x, y = x - np.float32(a[0]), y - np.float32(a[1])
    t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - t * dx, y - t * dy)


def _near(grid: Grid, at: tuple[float, float], reach: float) -> tuple[tuple[slice, slice], Map, Map]:
    """A box around a point (shares of the film), and offsets from that point in shares of the film."""
    n = grid.size
    edges = [(max(0, int((c - reach) * n)), min(n, int((c + reach) * n) + 1)) for c in (at[1], at[0])]
    rows, columns = (np.arange(lo, hi, dtype=np.float32) for lo, hi in edges)
    x, y = np.meshgrid((columns + np.float32(0.5)) / np.float32(n) - np.float32(at[0]),
                       (rows + np.float32(0.5)) / np.float32(n) - np.float32(at[1]))
    return (slice(*edges[0]), slice(*edges[1])), x, y


def _lay(cover: Map, value: Map, box: tuple[slice, slice], ink: Map) -> None:
    """Lay white ink over what is there."""
    np.copyto(value[box], np.float32(_WHITE), where=ink > cover[box])
    np.maximum(cover[box], ink, out=cover[box])
