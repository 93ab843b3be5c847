"""Shifting what a scene holds: the mediastinum to one side, a dome up or down, a lung towards its hilum.

Displacements fall smoothly to nothing at the chest wall, so that nothing outside the chest moves; ribs, spine and
body wall stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Mask
from cars_core.phantom.body.thorax import AIR_SHARE, Map
from cars_core.phantom.scene import Scene

Floats = NDArray[np.floating[Any]]
Box = tuple[slice, slice]

#: What lies between the chest walls and moves with the mediastinum.
CONTENTS = ("heart", "mediastinum", "airways", "lung", "spare", "filled", "free", "added")
#: Share of the chest's depth that the lung behind a dome takes, as `thorax` draws it.
RECESS = 0.22
#: What moves with a dome.
ABOVE_DOME = ("lung", "spare", "filled", "free")
#: Findings that go where the mediastinum goes.
_IN_MEDIASTINUM = {"cardiomegaly", "hernia"}


@dataclass(frozen=True)
class Warp:
    """Linear interpolation of maps inside one box of the picture; outside it, and where nothing moves, values stay
    as they are, bit for bit."""

    box: Box
    at: NDArray[np.intp]
    right: Map
    down: Map

    @classmethod
    def of(cls, shape: tuple[int, ...], box: Box, dx: Floats, dy: Floats | float) -> Warp:
        """A warp that fetches each pixel of `box` from dx pixels to the right and dy pixels below (float, [h, w])."""
        rows, cols = np.mgrid[box].astype(np.float32)
        # On the last row or column the neighbour read beyond it has no weight.
        cols = np.clip(cols + dx, 0, shape[1] - 1).astype(np.float32)
        rows = np.clip(rows + dy, 0, shape[0] - 1).astype(np.float32)
        left, top = cols.astype(np.intp), rows.astype(np.intp)
        return cls(box, top * shape[1] + left, cols - left, rows - top)

    def map(self, old: Map) -> Map:
        """The warped map, float32 [H, W]; a map of zeros is given back as it is."""
        if not old.any():
            return old
        flat, width = old.ravel(), old.shape[1]
        upper = flat.take(self.at, mode="clip")
        if self.right.any():
            upper = upper + (flat.take(self.at + 1, mode="clip") - upper) * self.right
        if self.down.any():
            lower = flat.take(self.at + width, mode="clip")
            if self.right.any():
                lower = lower + (flat.take(self.at + width + 1, mode="clip") - lower) * self.right
            upper = upper + (lower - upper) * self.down
        out = old.copy()
        out[self.box] = upper
        return out

    def mask(self, old: Mask) -> Mask:
        """The warped mask, bool [H, W]."""
        out = self.map(old.astype(np.float32)) > 0.5
        out.setflags(write=False)
        return out


def move(scene: Scene, warp: Warp, names: tuple[str, ...]) -> None:
    """Warp the scene's maps of those names."""
    for name in names:
        setattr(scene, name, warp.map(getattr(scene, name)))


def pixels_per_cm(scene: Scene) -> float:
    return scene.body.shape[1] / scene.thorax.patient.field


def box_of(mask: Mask, *, above: int = 0, below: int = 0, aside: int = 0) -> Box:
    """The mask's bounding box, grown by whole pixels and cut at the picture's edge."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (slice(max(int(rows[0]) - above, 0), min(int(rows[-1]) + 1 + below, mask.shape[0])),
            slice(max(int(cols[0]) - aside, 0), min(int(cols[-1]) + 1 + aside, mask.shape[1])))


def ramp(x: Floats) -> Floats:
    """0 below 0, 1 above 1, smooth between (slope at most 1.5)."""
    t = np.clip(x, 0, 1)
    return t * t * (3 - 2 * t)


def sides_of(side: str) -> tuple[str, ...]:
    return ("left", "right") if side == "both" else (side,)


def sign_of(side: str) -> int:
    """Which way the side lies in the picture: +1 (to larger columns) for the patient's left."""
    return 1 if side == "left" else -1


def own_half(scene: Scene, side: str) -> Mask:
    """Every ray through lung on one side: its mask, and the cavity up to halfway to the other lung, bool [H, W]."""
    left, right = scene.left_lung, scene.right_lung
    width = left.shape[1]
    rows = np.arange(len(left))
    has = np.flatnonzero(left.any(axis=1) & right.any(axis=1))
    inner_left = left.argmax(axis=1)
    inner_right = width - 1 - right[:, ::-1].argmax(axis=1)
    middle = np.interp(rows, has, 0.5 * (inner_left + inner_right)[has])
    beyond = sign_of(side) * (np.arange(width) - middle[:, None]) > 0
    own: Mask = (scene.lung > 0) & beyond | scene.anatomy().lung(side)
    return own & ~(right if side == "left" else left)


def shift_mediastinum(scene: Scene, *, to: str, upper: float, lower: float) -> None:
    """Move heart, great vessels and airways sideways; the lungs give way, the walls and the spine stay.

    Args:
        to: left | right, where they go.
        upper, lower: how far at the level of the aortic arch and of the heart, cm, 0 or more.
    """
    lungs, px = scene.left_lung | scene.right_lung, pixels_per_cm(scene)
    box = box_of(lungs, above=int(4 * px), below=int(2 * px))
    x, y = scene.thorax.x[box], scene.thorax.y[box]
    inside = lungs[box]
    first = np.where(inside.any(axis=1), inside.argmax(axis=1), 10**6)
    last = np.where(inside.any(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1), -1)
    has = np.flatnonzero(last >= 0)
    rows = np.arange(len(first))
    walls = [np.abs(x[rows, np.interp(rows, has, k[has]).astype(int)]) for k in (first, last)]
    wall = np.where(x < 0, walls[0][:, None], walls[1][:, None]).astype(np.float32)
    height = scene.thorax.patient.height
    level = y / height
    far = upper + (lower - upper) * ramp((level - 0.3) / 0.35)
    # It tapers into the neck, below the domes, and where the chest is too narrow to give way.
    far = far.astype(np.float32) * ramp((y + 4) / 9) * ramp((height + 2 - y) / 5)
    far = np.minimum(far, 0.3 * wall)
    held = 1 - ramp((np.abs(x) / wall - 0.25) / 0.72)
    dx = far * held * np.float32(-sign_of(to) * px)
    warp = Warp.of(scene.body.shape, box, dx, 0.0)
    move(scene, warp, CONTENTS)
    scene.left_lung, scene.right_lung = warp.mask(scene.left_lung), warp.mask(scene.right_lung)
    for finding in _IN_MEDIASTINUM & scene.extents.keys():
        scene.extents[finding] = warp.mask(scene.extents[finding])


def move_dome(scene: Scene, side: str, *, down: float, flatten: float = 0.0, root: float = 0.0) -> None:
    """Lower or raise one half of the diaphragm; lung and vessels above it stretch or shrink with it.

    Args:
        down: of the whole dome, cm; negative raises it.
        flatten: 0..1, share of the dome's height above its lowest point that is lost.
        root: how far the lung root moves down with its vessels, cm; negative is up.
    """
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    box = box_of(lung, below=int(9.5 * px), aside=int(2 * px))
    inside = lung[box]
    columns, at = np.flatnonzero(inside.any(axis=0)), np.arange(inside.shape[1])
    floor = np.interp(at, columns, (inside.shape[0] - 1 - inside[::-1].argmax(axis=0))[columns])
    lowest = float(np.percentile(floor[columns], 97))
    outer, inner = (columns[-1], columns[0]) if side == "left" else (columns[0], columns[-1])
    to_wall, to_middle = sign_of(side) * (outer - at) + 1, sign_of(side) * (at - inner) + 1.5 * px
    sunk = ndimage.gaussian_filter1d(down * px + flatten * np.clip(lowest - floor, 0, None), 0.8 * px, mode="nearest")
    floor = floor.astype(np.float32)
    sunk = sunk * np.where(to_wall > 0, ramp(to_wall / (1.2 * px) + 0.35), 0) * ramp(to_middle / (3 * px))
    sunk = sunk.astype(np.float32)
    row = np.arange(inside.shape[0])[:, None].astype(np.float32)
    level = 0.42 * lowest
    rise = ramp((row - level) / np.maximum(floor + sunk - level, 1))
    fall = 1 - ramp((row - floor - sunk - 1.5 * px) / (7.5 * px))
    dy = -sunk * np.minimum(rise, fall)
    if root:
        pull = np.clip(1.2 * np.exp(-(((row - level) / (0.22 * lowest)) ** 2)) - 0.2, 0, None) * ramp(row / (3 * px))
        dy = dy - root * px * pull * ramp(to_wall / (4 * px)) * ramp(to_middle / (1.5 * px)) * (1 - rise)
    before, after = _recess(scene, box, floor, sunk)
    warp = Warp.of(scene.body.shape, box, np.zeros_like(dy), dy)
    move(scene, warp, ABOVE_DOME)
    setattr(scene, f"{side}_lung", warp.mask(lung))
    was = scene.body
    scene.body = full = was.copy()
    full[box] += before
    if side == "left":
        # Gas under a lowered dome must stay under all of it.
        _move_gas(scene, box, floor, float(np.percentile(sunk[columns], 90 if down > 0 else 50)))
    body = scene.body.copy()
    same = (before == after) & (body[box] == full[box])
    body[box] = np.where(same, was[box], np.maximum(body[box] - after, 0))
    scene.body = body


def _recess(scene: Scene, box: Box, floor: Map, sunk: Map) -> tuple[Map, Map]:
    """The lung that reaches down behind a dome, before and after the dome moves: cm that `thorax` takes off the
    body's depth for its air, [h, w].

    Args:
        floor, sunk: last row of the lung in each column of the box, and how far it moves down, pixels [w].
    """
    px, p = pixels_per_cm(scene), scene.thorax.patient
    row = np.arange(box[0].stop - box[0].start)[:, None].astype(np.float32)
    at = np.clip(floor - px, 0, None).astype(np.intp)
    depth = np.float32(RECESS * AIR_SHARE) * scene.lung[box][at, np.arange(len(floor))]

    def drawn(edge: Map) -> Map:
        below = (row - edge) / np.float32(px)
        behind = np.clip(1 - below / np.float32(0.9 * p.dome + 1.5), 0, 1)
        out: Map = depth * behind * behind * (1 - np.sqrt(np.clip((np.float32(0.35) - below) / np.float32(0.8), 0, 1)))
        return out

    top = floor + np.float32(0.5)
    return drawn(top), drawn(top + sunk)


def _move_gas(scene: Scene, box: Box, floor: Floats, by: float) -> None:
    """Stomach and colon below the left dome go with it (pixels down): their gas is a hollow in the body's depth."""
    px, width = pixels_per_cm(scene), scene.body.shape[1]
    reach, top = int(5.5 * px), int(floor.min()) + box[0].start
    under: Box = (slice(max(top - int(4 * px), 0), scene.body.shape[0]),
                  slice(max(box[1].start - reach, 0), min(box[1].stop + reach, width)))
    body = scene.body[under]
    # A hollow of gas is closed on all sides; the furrow between the breasts is open above and below.
    solid = np.minimum(*(ndimage.minimum_filter1d(ndimage.maximum_filter1d(body, 2 * reach + 1, axis=k),
                                                  2 * reach + 1, axis=k) for k in (0, 1)))
    at = np.arange(under[1].start, under[1].stop)
    rows = np.arange(under[0].start, under[0].stop)[:, None]
    # Only inside the chest's width: between the trunk and the arms lies a hollow too.
    within = ramp((box[1].stop - 2.5 * px - at) / px) * ramp((at - box[1].start + 3 * px) / px)
    beneath = ramp((rows - np.interp(at, np.arange(box[1].start, box[1].stop), floor + box[0].start)) / (0.8 * px))
    hollow = np.zeros_like(scene.body)
    trunk = ramp((solid / body.max() - 0.6) / 0.2)
    hollow[under] = np.clip(solid - body - np.float32(0.4), 0, None) * within * beneath * trunk
    still = np.zeros(body.shape, np.float32)
    moved = Warp.of(hollow.shape, under, still, still - np.float32(by)).map(hollow)
    out = scene.body.copy()
    out[under] = np.where(moved == hollow, scene.body, np.maximum(scene.body + (hollow - moved), 0))[under]
    scene.body = out
