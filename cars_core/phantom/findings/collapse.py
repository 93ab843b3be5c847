"""Collapse of a lobe: its air is gone, and its neighbours take up the room.

Each lobe shrinks towards its root in its own way (Felson): the upper right upwards under a lifted fissure, the upper
left forwards against the chest wall, the lower ones backwards and inwards beside the spine, the middle one down to a
wedge at the heart's border.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.body.thorax import Map
from cars_core.phantom.findings.warp import (
    box_of,
    move_dome,
    own_half,
    pixels_per_cm,
    ramp,
    shift_mediastinum,
    sides_of,
    sign_of,
)
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

LOBES: dict[str, tuple[str, ...]] = {"right": ("upper", "lower", "middle"), "left": ("upper", "lower")}

#: Share of the air a collapsed lobe takes at severity 0 and 1, where it fills the depth of the chest.
_FILLED = (0.6, 0.9)
#: Collapsed lobe behind the heart, where the maps hold hardly any lung for it to take the place of, cm.
_BEHIND_HEART = (1.2, 3.0)
VISIBLE = 0.06


def lobe_of(placed: Placed, side: str) -> str:
    """Which lobe has collapsed: the seed decides, lower lobes most often."""
    draw = seed_from("lobe", placed.seed, side) % 10
    if side == "left":
        return "upper" if draw < 4 else "lower"
    return "upper" if draw < 4 else "middle" if draw < 6 else "lower"


def lobar(scene: Scene, placed: Placed) -> Mask:
    """Collapse of one lobe on each side asked for; the opacity's extent."""
    extent = np.zeros_like(scene.left_lung)
    for side in sides_of(placed.side):
        lobe = lobe_of(placed, side)
        _lose_volume(scene, side, lobe, placed.severity)
        rng = np.random.default_rng(seed_from("atelectasis", placed.seed, side))
        extent |= _fill(scene, side, lobe, placed.severity, rng)
    return extent


def _lose_volume(scene: Scene, side: str, lobe: str, severity: float) -> None:
    """Mediastinum, dome and root move towards the lobe that is gone."""
    s = 0.4 + 0.6 * severity
    pull = {"upper": (1.5, 0.5), "lower": (0.4, 1.5), "middle": (0.1, 0.3)}[lobe]
    shift_mediastinum(scene, to=side, upper=pull[0] * s, lower=pull[1] * s)
    rise = {"upper": 1.4, "lower": 2.2, "middle": 0.5}[lobe]
    move_dome(scene, side, down=-rise * s, root={"upper": -1.6, "lower": 1.2, "middle": 0.0}[lobe] * s)


def _fill(scene: Scene, side: str, lobe: str, severity: float, rng: np.random.Generator) -> Mask:
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    box = box_of(lung, below=int(px), aside=int(1.5 * px))
    inside = lung[box]
    rows = np.flatnonzero(inside.any(axis=1))
    cols = np.flatnonzero(inside.any(axis=0))
    yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    v = (yy - rows[0]) / np.float32(len(rows))
    u = ((xx - cols[0]) if side == "left" else (cols[-1] - xx)) / np.float32(len(cols))
    wobble = np.float32(0.012 * rng.standard_normal())
    triangle = _SHAPES[side, lobe](u, v, severity, np.float32(0.8 * px / len(rows)), wobble)
    shape = triangle * own_half(scene, side)[box]
    full = np.float32(_FILLED[0] + (_FILLED[1] - _FILLED[0]) * severity)
    cover = np.clip(shape * full, 0, 0.97)
    cover[cover < VISIBLE] = 0

    scene.filled, scene.added, scene.free = scene.filled.copy(), scene.added.copy(), scene.free.copy()
    scene.filled[box] = np.where(cover > 0, 1 - (1 - scene.filled[box]) * (1 - cover), scene.filled[box])
    # What is left of the lung is stretched: a little less tissue in the same depth.
    slack = np.float32(0.05 + 0.12 * severity) * ramp((0.3 - cover) / 0.3) * (inside & (cover == 0))
    scene.free[box] = np.where(slack > 0, 1 - (1 - scene.free[box]) * (1 - slack), scene.free[box])
    if lobe == "lower":
        solid = np.maximum(scene.heart, scene.mediastinum)[box] / np.maximum(scene.lung[box], 1e-3)
        behind = _BEHIND_HEART[0] + (_BEHIND_HEART[1] - _BEHIND_HEART[0]) * severity
        # It reaches the spine, where its inner border is lost, and ends at the inner dome.
        across = sign_of(side) * scene.thorax.x[box]
        floor = float(v[inside & (u < 0.4)].max())
        own = ramp((across - 0.5) / 2.6) * ramp((floor - v) / 0.06)
        scene.added[box] += np.float32(behind) * triangle * np.clip(solid, 0, 1) * own
    extent = np.zeros_like(lung)
    extent[box] = (cover > 0) & inside
    return extent


def _right_upper(u: Map, v: Map, severity: float, soft: np.float32, wobble: np.float32) -> Map:
    """A triangle in the apex, dense inwards; its lower border, the lifted minor fissure, is concave."""
    root = 0.45 - 0.05 * severity
    wall = 0.36 - 0.24 * severity + wobble
    fissure = root + (wall - root) * np.clip(u, 0, 1.1) ** (0.7 - 0.2 * severity)
    return ramp((fissure - v) / soft + 0.5) * (1 - 0.12 * np.clip(u, 0, 1))


def _left_upper(u: Map, v: Map, severity: float, soft: np.float32, wobble: np.float32) -> Map:
    """A veil without a lower edge, densest at the root and along the heart, whose border it takes; beside the aortic
    arch the upper segment of the lower lobe may show as a dark crescent."""
    veil = 0.62 * np.exp(-(np.clip(u - 0.05, 0, None) / (0.75 - 0.15 * severity)) ** 2)
    veil = veil * ramp((0.86 - v) / 0.35) * ramp((v + 0.02) / 0.16)
    heart = np.exp(-((np.clip(u - 0.3, 0, None) / 0.2) ** 2)) * ramp((v - 0.35) / 0.2) * ramp((0.95 - v) / 0.3)
    out: Map = np.maximum(veil, (0.55 + 0.25 * severity) * heart)
    crescent = np.exp(-(((u - 0.06) / 0.07) ** 2) - ((v - 0.26) / 0.13) ** 2) if wobble > 0 else np.zeros_like(u)
    out *= 1 - 0.8 * crescent
    return out


def _lower(u: Map, v: Map, severity: float, soft: np.float32, wobble: np.float32) -> Map:
    """A triangle beside the spine from the root down to the inner dome, its outer border straight and sharp."""
    top = 0.42 + 0.06 * severity
    outer = 0.14 + (0.6 - 0.2 * severity + wobble - 0.14) * np.clip((v - top) / (1 - top), 0, 1.2)
    edge = ramp((outer - u) / (2 * soft) + 0.5)
    return (0.7 * edge * ramp((v - top) / 0.1)).astype(np.float32)


def _middle(u: Map, v: Map, severity: float, soft: np.float32, wobble: np.float32) -> Map:
    """Haze against the right border of the heart, fading outwards; a sharp upper edge where the fissure has sunk."""
    fissure = 0.5 + 0.08 * severity + 0.12 * u + wobble
    fade = np.exp(-((np.clip(u - 0.12, 0, None) / (0.5 - 0.15 * severity)) ** 2))
    return 0.85 * fade * ramp((v - fissure) / (2 * soft) + 0.5) * ramp((0.98 - v) / 0.22)


_SHAPES: dict[tuple[str, str], Callable[[Map, Map, float, np.float32, np.float32], Map]] = {
    ("right", "upper"): _right_upper, ("left", "upper"): _left_upper, ("right", "middle"): _middle,
    ("right", "lower"): _lower, ("left", "lower"): _lower}
