"""Tubes, lines and wires on the film, as log attenuation of what they are made of.

Plastic hardly shows but for its dense stripe; wires keep their mass however thin a pixel makes them; cans of metal
let next to nothing through. Where devices run is decided by `courses`. All tips lie where they should, but that one
endotracheal tube in ten has gone on into the right main bronchus (`courses.TOO_LOW`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_core.anatomy.masks import Mask
from cars_core.phantom.body import tubes
from cars_core.phantom.body.thorax import Map, Thorax
from cars_core.phantom.devices.courses import COURSES, Can, Landmarks, Points, Strand, across, generator
from cars_core.phantom.placed import Device

#: Half width and half height of a pacemaker's can with its header, cm.
_CAN = (2.25, 2.1)


def draw(device: Device, thorax: Thorax) -> tuple[Map, Mask]:
    """What a device adds to the primary beam, and its extent.

    A pure function of the device and the patient: the same course at every film size. What lies off the film is
    left out.

    Returns:
        Log attenuation, float32 [H, W], no unit, 0 or more, and 0 further than a pixel from the mask; and the mask,
        bool [H, W]: the device's outline, filled, at least a pixel wide.
    """
    p, size = thorax.patient, thorax.x.shape[1]
    rng = generator(device)
    side = -1 if device.side == "right" else 1
    step = p.field / size
    parts = COURSES[device.kind](Landmarks(thorax), rng, side)
    strands = [_thinned(part, step) for part in parts if isinstance(part, Strand)]
    turn = np.radians(p.tilt)
    canvas = tubes.Canvas(p, size, step, (float(np.cos(turn)), float(np.sin(turn))))
    log = canvas.draw([_tube(s, step) for s in strands])
    mask = _cover(thorax, strands)
    for part in parts:
        if isinstance(part, Can):
            _can(thorax, part, side, rng, log, mask)
    return log, mask


def _thinned(strand: Strand, step: float) -> Strand:
    """The strand with fewer samples, still at least two a pixel."""
    pitch = float(np.hypot(*(strand.line[1] - strand.line[0])))
    every = max(1, int(0.45 * step / max(pitch, 1e-3)))
    return replace(strand, line=np.concatenate([strand.line[:-1:every], strand.line[-1:]]))


def _tube(strand: Strand, step: float) -> tubes.Tube:
    """Thickness times attenuation takes the place of thickness; what is thinner than a pixel is drawn as a line."""
    ends = np.concatenate([strand.line[:1], strand.line, strand.line[-1:]])
    length = 0.5 * np.sqrt(((ends[2:] - ends[:-2]) ** 2).sum(1))
    half = 0.0 if strand.half < 0.5 * step else strand.half
    return tubes.Tube(strand.line, np.full(len(length), half), 2 * strand.half * strand.log * length, strand.hollow)


def _pixels(thorax: Thorax, points: Points) -> tuple[Points, Points]:
    """Columns and rows of points in cm, read off the thorax's own maps, which are affine in both."""
    n = thorax.x.shape[0] - 1
    origin = np.array([thorax.x[0, 0], thorax.y[0, 0]], float)
    aside = (np.array([thorax.x[0, n], thorax.y[0, n]], float) - origin) / n
    down = (np.array([thorax.x[n, 0], thorax.y[n, 0]], float) - origin) / n
    dx, dy = points[:, 0] - origin[0], points[:, 1] - origin[1]
    area = aside[0] * down[1] - aside[1] * down[0]
    return (dx * down[1] - dy * down[0]) / area, (dy * aside[0] - dx * aside[1]) / area


def _cover(thorax: Thorax, strands: list[Strand]) -> Mask:
    """Pixels the strands pass over: the nearest one to every point across them, half a pixel short of either edge, so
    that on average the mask is as wide as the strand."""
    size = thorax.x.shape[0]
    step = thorax.patient.field / size
    lanes: list[Points] = []
    for s in strands:
        reach = max(s.half - 0.5 * step, 0)
        aside = np.linspace(-reach, reach, int(np.ceil(2 * reach / (0.6 * step))) + 1 if reach else 1)
        lanes.append((s.line + across(s.line) * aside[:, None, None]).reshape(-1, 2))
    column, row = (np.rint(a).astype(np.int64) for a in _pixels(thorax, np.concatenate(lanes)))
    # One pixel more on every side: a strand just off the film still shows in its outermost pixels.
    on = (row >= -1) & (row <= size) & (column >= -1) & (column <= size)
    mask = np.zeros((size, size), bool)
    mask[np.clip(row[on], 0, size - 1), np.clip(column[on], 0, size - 1)] = True
    return mask


def _can(thorax: Thorax, can: Can, side: int, rng: np.random.Generator, log: Map, mask: Mask) -> None:
    """Add a pacemaker's can to `log` and `mask`: header with its plugs above, circuit, battery below."""
    size = thorax.x.shape[0]
    step = thorax.patient.field / size
    column, row = _pixels(thorax, np.array([[can.x, can.y]]))
    reach = int(3.3 / step) + 2
    rows = slice(max(int(row[0]) - reach, 0), max(int(row[0]) + reach, 0))
    columns = slice(max(int(column[0]) - reach, 0), max(int(column[0]) + reach, 0))
    dx, dy = thorax.x[rows, columns] - np.float32(can.x), thorax.y[rows, columns] - np.float32(can.y)
    if not dx.size:
        return
    c, s = np.float32(np.cos(can.turn)), np.float32(np.sin(can.turn))
    u, v = np.float32(side) * (c * dx + s * dy), c * dy - s * dx
    half_u, half_v = _CAN

    def within(distance: NDArray[Any]) -> NDArray[Any]:
        """Share of each pixel on the inner side of a border at this signed distance in cm."""
        return np.minimum(np.maximum(np.float32(0.5) - distance * np.float32(1 / step), 0), 1)

    def box(at_u: float, at_v: float, wide: float, high: float) -> NDArray[Any]:
        return within(np.abs(u - at_u) - wide) * within(np.abs(v - at_v) - high)

    radius: NDArray[Any] = (np.abs(u / half_u) ** 2.6 + np.abs(v / half_v) ** 2.6) ** (1 / 2.6)
    outline = (radius - 1) * half_v
    shape = within(outline)
    metal = within(-(v + 1.05))
    parts = 0.2 * shape + shape * metal * (1.1 + 0.9 * within(np.abs(outline + 0.06) - 0.06))
    parts += 2.0 * within(outline + 0.28) * within(-(v - 0.25))  # battery
    board = within(outline + 0.3) * within(-(v + 0.9)) * within(v - 0.1)
    chips = 0.5 * np.ones_like(board)
    for _ in range(7):
        at_u, at_v, wide, high, dense = map(float, rng.uniform((-1.7, -0.8, 0.1, 0.08, 0.3), (1.7, 0, 0.4, 0.2, 1.2)))
        chips += dense * box(at_u, at_v, wide, high)
    parts += chips * board
    for at_v in (-1.7, -1.35):  # plugs and their screws
        parts += shape * (0.8 * box(-0.1, at_v, 0.9, 0.09) + 1.2 * box(-0.7, at_v, 0.14, 0.13)
                          + 1.2 * box(0.3, at_v, 0.14, 0.13))
    log[rows, columns] += parts
    mask[rows, columns] |= shape > 0.5
