"""A lung's own frame, and the shapes findings are made of in it.

u runs from 0 at the mediastinum to 1 at the chest wall, v from 0 at the apex to 1 at the base, so a finding keeps
its place and proportions at any film size, on simulated films and on real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.display import Float
from schemas.errors import BadInput

#: What lengths in cm are measured by: an adult lung from apex to costophrenic angle on a frontal film.
LUNG_CM = 27.0

#: Least share of the film that a lung must cover to hold a finding.
LEAST = 0.01

_PAD = 12  # cells of edge repeated round a noise grid, so that the spline does not see its end


Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Lung:
    """One lung's mask with its frame: u, v float [H, W] (only meaningful on and near the lung; v is the same along
    a row and u down a column), `edge` float32 the distance to the nearest edge of the lung in lung heights, `height`
    in pixels, `box` the rows and columns it spans, `side` left or right."""

    mask: Mask
    u: Float
    v: Float
    edge: Float
    height: float
    box: Box
    side: str

    @property
    def cm(self) -> float:
        """Pixels to a centimetre, taking this lung as LUNG_CM high."""
        return self.height / LUNG_CM

    @property
    def aspect(self) -> float:
        """Width over height."""
        return (self.box[1].stop - self.box[1].start) / self.height

    def pixel(self, u: float, v: float) -> tuple[float, float]:
        """Row and column of a point of the frame."""
        rows, cols = self.box
        across = 1 - u if self.side == "right" else u
        return rows.start + v * self.height, cols.start + across * (cols.stop - cols.start)


def lung_frame(anatomy: Anatomy, side: str) -> Lung:
    """Frame of the left or right lung.

    Raises:
        BadInput: the lung is missing or too small to hold a finding.
    """
    return frame_of(anatomy.lung(side), side)


def frame_of(mask: Mask, side: str) -> Lung:
    """Frame of one lung from its mask, bool [H, W].

    Raises:
        BadInput: as `lung_frame`.
    """
    if np.count_nonzero(mask) < LEAST * mask.size:
        raise BadInput(f"{side} lung", f"{int(mask.sum())} pixels", "a lung of at least 1 % of the film")
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = rows[0], rows[-1], cols[0], cols[-1]
    h, w = float(y1 - y0 + 1), float(x1 - x0 + 1)
    u, v = (np.arange(mask.shape[1]) - x0) / w, (np.arange(mask.shape[0]) - y0) / h
    if side == "right":  # the patient's right lung is at the picture's left: its wall is the smaller x
        u = 1 - u
    # The nearest pixel outside lies in the box or beside it.
    beside = (slice(max(y0 - 1, 0), y1 + 2), slice(max(x0 - 1, 0), x1 + 2))
    edge = np.zeros(mask.shape, np.float32)
    edge[beside] = ndimage.distance_transform_edt(mask[beside]).astype(np.float32) / h
    box = (slice(int(y0), int(y1) + 1), slice(int(x0), int(x1) + 1))
    return Lung(mask, np.broadcast_to(u, mask.shape), np.broadcast_to(v[:, None], mask.shape), edge, h, box, side)


def near(lung: Lung, margin: float = 0.08) -> tuple[Lung, Box]:
    """The part of a lung's frame a model has to look at, and where in the film it lies (rows, columns).

    That is the lung and `margin` lung heights around it: as far as a model blurs what crosses the lung's edge.
    """
    pad = int(np.ceil(margin * lung.height))
    rows, cols = lung.box
    at = (slice(max(rows.start - pad, 0), min(rows.stop + pad, lung.mask.shape[0])),
          slice(max(cols.start - pad, 0), min(cols.stop + pad, lung.mask.shape[1])))
    return _part(lung, at), at


def around(lung: Lung, centre: tuple[float, float], radius: float) -> tuple[Lung, Box]:
    """The part of a frame at most `radius` lung heights up, down or aside from a point (u, v), as `near`."""
    rows = np.flatnonzero(np.abs(lung.v[:, 0] - centre[1]) <= radius)
    cols = np.flatnonzero(np.abs(lung.u[0] - centre[0]) * lung.aspect <= radius)
    at = tuple(slice(int(i[0]), int(i[-1]) + 1) if i.size else slice(0, 0) for i in (rows, cols))
    return _part(lung, (at[0], at[1])), (at[0], at[1])


def _part(lung: Lung, at: Box) -> Lung:
    """Some rows and columns of a frame; the lung's box stays where it is, seen from there."""
    box = (slice(lung.box[0].start - at[0].start, lung.box[0].stop - at[0].start),
           slice(lung.box[1].start - at[1].start, lung.box[1].stop - at[1].start))
    return Lung(lung.mask[at], lung.u[at], lung.v[at], lung.edge[at], lung.height, box, lung.side)


def clouds(lung: Lung, rng: np.random.Generator, cells: int) -> Float:
    """Smooth noise over the lung, about -1..1; `cells` sets its grain (cells over the lung's height).

    Cubic B-splines through a random grid; rows and columns are interpolated one after the other.
    """
    grid = ndimage.gaussian_filter(rng.standard_normal((cells + 3, cells + 3)), 0.6)
    grid /= np.abs(grid).max()
    knots = ndimage.spline_filter(np.pad(grid, _PAD, mode="edge"), 3, output=np.float64, mode="nearest")
    iy, wy = _taps(np.clip(lung.v[:, 0], -0.2, 1.2) * cells + 1, len(knots))
    ix, wx = _taps(np.clip(lung.u[0], -0.2, 1.2) * cells + 1, len(knots))
    across = wx[0][:, None] * knots.T[ix[0]]
    for k in (1, 2, 3):
        across += wx[k][:, None] * knots.T[ix[k]]
    across = np.ascontiguousarray(across.T)
    out = wy[0][:, None] * across[iy[0]]
    for k in (1, 2, 3):
        out += wy[k][:, None] * across[iy[k]]
    return out.astype(np.float32)


def _taps(at: NDArray[Any], n: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Four knots and weights of a cubic B-spline at each place (in cells before padding), [4, len(at)]."""
    at = np.clip(at + _PAD, 0, n - 1)
    first = np.floor(at).astype(np.intp)
    t = at - first
    weights = np.stack([(1 - t) ** 3 / 6, (3 * t**3 - 6 * t * t + 4) / 6, (1 + 3 * t + 3 * t * t - 3 * t**3) / 6,
                        t**3 / 6])
    knots = np.abs(first + np.arange(-1, 3)[:, None])
    return np.where(knots > n - 1, 2 * (n - 1) - knots, knots), weights


def smooth_step(x: Float, width: float) -> Float:
    """Smooth 0..1 step over `width`, centred on 0."""
    return (0.5 * (1 + np.tanh(2 * x / width))).astype(np.float32)


def soft_edge(lung: Lung, share: float = 0.012) -> Float:
    """1 inside the lung, fading to 0 over the last `share` of a lung height before its edge."""
    return np.clip(lung.edge / share, 0, 1).astype(np.float32)


def place(lung: Lung, rng: np.random.Generator, *, v: tuple[float, float], margin: float) -> tuple[float, float]:
    """A random point (u, v) of the lung between two heights, at least `margin` lung heights from its edge."""
    aim = (rng.random(), v[0] + (v[1] - v[0]) * rng.random())
    for shrink in (1.0, 0.5, 0.0):
        ok = lung.mask & (lung.edge >= margin * shrink) & (lung.v >= v[0]) & (lung.v <= v[1])
        where = np.flatnonzero(ok)
        if where.size:
            # The allowed pixel nearest to a drawn point: a slightly other mask gives a slightly other place.
            us, vs = lung.u.flat[where], lung.v.flat[where]
            at = int(np.argmin((us - aim[0]) ** 2 + (vs - aim[1]) ** 2))
            return float(us[at]), float(vs[at])
    return 0.5, 0.5 * (v[0] + v[1])


def blob(lung: Lung, at: tuple[float, float], radius: float, *, stretch: float = 1.0, turn: float = 0.0) -> Float:
    """Normalised distance (1 at the rim) from an ellipse at `at`, `radius` in lung heights."""
    du, dv = (lung.u[0] - at[0]) * lung.aspect, (lung.v[:, 0] - at[1])[:, None]
    c, s = np.cos(turn), np.sin(turn)
    along, across = (du * c + dv * s) * stretch, (dv * c - du * s) / stretch
    along *= along
    along += across * across
    return np.sqrt(along).astype(np.float32) / np.float32(radius)




def strokes(lung: Lung, lines: Iterable[tuple[tuple[float, float], tuple[float, float], float]]) -> Float:
    """Straight thin lines as a map, float32 [H, W]: 1 along a line, falling off to its sides; 0 elsewhere.

    Args:
        lines: from (u, v), to (u, v), half width in cm. A line thinner than the film resolves is as much fainter.
    """
    out = np.zeros(lung.mask.shape, np.float32)
    for start, end, half in lines:
        (ya, xa), (yb, xb) = lung.pixel(*start), lung.pixel(*end)
        wide = max(half * lung.cm, 0.6)
        pad = 2.5 * wide + 1
        y0, y1 = max(int(min(ya, yb) - pad), 0), int(max(ya, yb) + pad) + 2
        x0, x1 = max(int(min(xa, xb) - pad), 0), int(max(xa, xb) + pad) + 2
        part = out[y0:y1, x0:x1]
        if not part.size:
            continue
        dy = (np.arange(part.shape[0]) + y0 - ya)[:, None]
        dx = np.arange(part.shape[1]) + x0 - xa
        ly, lx = yb - ya, xb - xa
        t = np.clip((dy * ly + dx * lx) / max(ly * ly + lx * lx, 1e-9), 0, 1)
        d2 = (dy - t * ly) ** 2 + (dx - t * lx) ** 2
        value = half * lung.cm / wide * np.exp(-d2 / wide**2)
        np.maximum(part, np.where(d2 < (2.5 * wide) ** 2, value, 0), out=part, casting="same_kind")
    return out
