"""The pixels of one film in the patient's own frame, and cheap maps of what depends on height or breadth alone."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cars_core.phantom.body.patient import Patient

Map = NDArray[np.float32]
Points = NDArray[np.float64]
Box = tuple[slice, slice]

#: Heights (y) and breadths (x), cm, at which outlines are tabulated; 0.1 mm apart, finer than any pixel.
STEP = 0.01
DOWN: Points = np.arange(-20, 52, STEP)
ACROSS: Points = np.arange(-36, 36, STEP)

#: The point, cm below the apices, about which a tilted patient is turned.
PIVOT = 14.0


class Grid:
    """x and y float32 [size, size], cm: x to the picture's right from the midline, y down from the lung apices.

    `step` is a pixel's side in cm, `turn` cosine and sine of the tilt.
    """

    def __init__(self, p: Patient, size: int) -> None:
        self.p, self.size, self.step = p, size, p.field / size
        at = ((np.arange(size) + 0.5) * self.step).astype(np.float32)
        across, down = at[None] - np.float32(p.field / 2 + p.shift_x), at[:, None] - np.float32(p.shift_y + PIVOT)
        c, s = float(np.cos(np.radians(p.tilt))), float(np.sin(np.radians(p.tilt)))
        self.turn = (c, s)
        self.x: Map = np.float32(c) * across + np.float32(s) * down
        self.y: Map = np.float32(c) * down - np.float32(s) * across + np.float32(PIVOT)

    @cached_property
    def _rows(self) -> NDArray[np.intp]:
        return np.clip((self.y - np.float32(DOWN[0])) / np.float32(STEP), 0, len(DOWN) - 1).astype(np.intp)

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        return np.clip((self.x - np.float32(ACROSS[0])) / np.float32(STEP), 0, len(ACROSS) - 1).astype(np.intp)

    def down(self, table: Points) -> Map:
        """The map of a quantity tabulated at heights DOWN."""
        return np.asarray(table, np.float32)[self._rows]

    def across(self, table: Points) -> Map:
        """The map of a quantity tabulated at breadths ACROSS."""
        return np.asarray(table, np.float32)[self._columns]

    def pixel(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Column and row (pixel centres are whole numbers) of points in cm."""
        c, s = self.turn
        fx = (c * x - s * (y - PIVOT) + self.p.field / 2 + self.p.shift_x) / self.step - 0.5
        fy = (s * x + c * (y - PIVOT) + PIVOT + self.p.shift_y) / self.step - 0.5
        return fx, fy

    def box(self, x0: float, x1: float, y0: float, y1: float) -> Box:
        """The smallest box of pixels that holds a rectangle of the patient's frame; it may be empty."""
        fx, fy = self.pixel(np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1]))
        rows = slice(max(0, int(np.floor(fy.min()))), max(0, int(np.ceil(fy.max())) + 1))
        return rows, slice(max(0, int(np.floor(fx.min()))), max(0, int(np.ceil(fx.max())) + 1))

    def add_ellipse(self, into: Map, at: tuple[float, float], radii: tuple[float, float], depth: float) -> None:
        """Add the chord of an ellipsoid to a map: cm, `depth` at its centre."""
        box = self.box(at[0] - radii[0], at[0] + radii[0], at[1] - radii[1], at[1] + radii[1])
        u, v = (self.x[box] - np.float32(at[0])) / np.float32(radii[0]), (self.y[box] - np.float32(at[1])) / np.float32(
            radii[1])
        into[box] += np.float32(depth) * np.sqrt(np.clip(1 - u * u - v * v, 0, None))

    def add_bump(self, into: Map, at: tuple[float, float], radii: tuple[float, float], depth: float) -> None:
        """Add a soft bump (Gaussian; `radii` its standard deviations) to a map."""
        reach = (3 * radii[0], 3 * radii[1])
        box = self.box(at[0] - reach[0], at[0] + reach[0], at[1] - reach[1], at[1] + reach[1])
        u, v = (self.x[box] - np.float32(at[0])) / np.float32(radii[0]), (self.y[box] - np.float32(at[1])) / np.float32(
            radii[1])
        # Less its value at the box's rim, so that no edge shows there.
        into[box] += np.float32(depth) * np.clip(np.exp(-0.5 * (u * u + v * v)) - np.float32(0.0111), 0, None)

    def capsule(self, a: tuple[float, float], b: tuple[float, float], ra: float, rb: float) -> tuple[Box, Map]:
        """Box and chord (cm) of a round limb from a to b with radii ra and rb."""
        r = max(ra, rb)
        box = self.box(min(a[0], b[0]) - r, max(a[0], b[0]) + r, min(a[1], b[1]) - r, max(a[1], b[1]) + r)
        dx, dy = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
        x, y = self.x[box] - np.float32(a[0]), self.y[box] - np.float32(a[1])
        t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
        u, v = x - t * dx, y - t * dy
        r2 = (np.float32(ra) + np.float32(rb - ra) * t) ** 2
        return box, 2 * np.sqrt(np.clip(r2 - u * u - v * v, 0, None))
