"""Air between the chest wall and the lung, laid into a scene.

Erect, air rises: the lung falls back from apex and side wall towards its root, bounded by the visceral pleura.
Supine, air collects in front and at the base, where no edge of the lung is met by the ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.body.thorax import AIR_SHARE, Map
from cars_core.phantom.findings.emphysema import hanging, to_dome
from cars_core.phantom.findings.warp import (
    Warp,
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

_LINE_CM = 0.1  # width of the visceral line on a film
_LINE_DEPTH = 0.8  # soft tissue it puts in the way, cm: the chord 2 sqrt(2 R t) of a skin t = 0.13 mm, R = 6 cm
_BLOOD_KEPT = 0.6  # a collapsing lung sheds blood, so its density grows less than its volume shrinks
_ANGLES = 180


@dataclass(frozen=True)
class _Polar:
    """A lung seen from its root, inside `box`: distance (cm) and angle of each pixel (0 lateral, -pi/2 up), float32
    [h, w]; and the lung's reach (cm) in each of _ANGLES directions."""

    box: tuple[slice, slice]
    right: Map
    down: Map
    distance: Map
    angle: Map
    reach: NDArray[Any]

    def at(self, values: NDArray[Any]) -> Map:
        """Values per direction [_ANGLES], read at each pixel."""
        k = (self.angle + np.pi) * (_ANGLES / (2 * np.pi)) - 0.5
        low = np.floor(k).astype(np.intp)
        ring = np.concatenate([values[-1:], values, values[:2]]).astype(np.float32)
        here = ring[low + 1]
        out: Map = here + (ring[low + 2] - here) * (k - low).astype(np.float32)
        return out


def _polar(scene: Scene, side: str) -> _Polar:
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    grow = int(2 * px)
    box = box_of(lung, above=1, below=grow, aside=grow)
    inside = lung[box]
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    # The root of the lung: where the mediastinum's edge ends above the heart.
    row = rows[0] + 0.47 * len(rows)
    band = np.flatnonzero(inside[int(row)])
    inner = band[0] if side == "left" else band[-1]
    col = inner + sign_of(side) * 0.08 * len(cols)
    yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    right, down = (xx - np.float32(col)) / np.float32(px), (yy - np.float32(row)) / np.float32(px)
    distance = np.maximum(np.hypot(right, down), np.float32(0.05))
    angle = np.arctan2(down, sign_of(side) * right)
    rim = inside & ~ndimage.binary_erosion(inside)
    k = ((angle[rim] + np.pi) * (_ANGLES / (2 * np.pi))).astype(int) % _ANGLES
    reach = np.zeros(_ANGLES)
    np.maximum.at(reach, k, distance[rim])
    seen = np.flatnonzero(reach)
    reach = np.interp(np.arange(_ANGLES), seen, reach[seen], period=_ANGLES)
    reach = ndimage.gaussian_filter1d(reach, 1.2, mode="wrap")
    return _Polar(box, right, down, distance, angle, reach)


def _kept(side_seed: np.random.Generator, *, apex: float, wall: float, base: float) -> NDArray[Any]:
    """Share of its reach a lung keeps in each direction, given what it loses upwards, sideways and downwards."""
    angle = (np.arange(_ANGLES) + 0.5) * (2 * np.pi / _ANGLES) - np.pi
    knots = np.radians([-180, -135, -100, -75, -40, 0, 35, 65, 95, 130, 180])
    lost = np.interp(angle, knots, [0, 0.12 * apex, 0.85 * apex, apex, 0.6 * apex + 0.4 * wall, wall,
                                    0.6 * wall + 0.4 * base, base, 0.7 * base, 0.1 * base, 0])
    lost = ndimage.gaussian_filter1d(lost, 6.0, mode="wrap")
    # The lung's outline is not quite even: shallow bows between its segments.
    for k in (2, 3, 5):
        lost = lost * (1 + 0.05 * np.cos(k * angle + 2 * np.pi * side_seed.random()))
    return 1 - np.clip(lost, 0, 0.8)


def _collapse(scene: Scene, side: str, kept: NDArray[Any]) -> Mask:
    """Let the lung fall back to `kept` of its reach [_ANGLES]; the bare air, bool [H, W]."""
    p, px = _polar(scene, side), pixels_per_cm(scene)
    box = p.box
    # The more a lung has collapsed, the rounder it lies.
    loose = np.clip(1.6 * (1 - kept), 0, 1)
    edge = kept * (p.reach + loose * (ndimage.gaussian_filter1d(p.reach, 11.0, mode="wrap") - p.reach))
    edge = np.minimum(edge + loose * (ndimage.gaussian_filter1d(edge, 4.0, mode="wrap") - edge), p.reach)
    slope = np.gradient(np.concatenate([edge[-1:], edge, edge[:1]]))[1:-1] * (_ANGLES / (2 * np.pi))
    rho, share = p.at(edge), p.at(edge / p.reach)
    # Signed distance to the lung's new edge, cm; positive in the pleural air.
    beyond = (p.distance - rho) / np.sqrt(1 + (p.at(slope) / rho) ** 2)
    gap = p.at(p.reach - edge)
    apart = ramp((gap - 0.1) / 0.25)
    own = own_half(scene, side)[box]
    apart = apart * own

    # Vessels stay at the root and are drawn together towards the edge.
    q = np.clip(p.distance / np.maximum(rho, 1e-3), 0, 1)
    pull = np.where(own & (beyond < 0), (1 / share - 1) * q * apart, 0) * np.float32(px)
    warp = Warp.of(scene.body.shape, box, p.right * pull, p.down * pull)
    spare, free, filled = warp.map(scene.spare), warp.map(scene.free), warp.map(scene.filled)
    denser = np.float32(AIR_SHARE / (1 - AIR_SHARE))
    packed = np.clip(((1 / share**2) ** _BLOOD_KEPT - 1) / denser, 0, 0.62)
    # A round lung: near its edge the ray meets little of it.
    thin = 1 - np.sqrt(np.clip(1 - q ** (2.5 + 6 * share), 0, 1))
    air = np.clip(beyond * px + 0.5, 0, 1)
    bare = np.where(beyond < 0, thin, 1) * apart
    bare = np.maximum(bare, air * apart)
    line = np.clip(1 - np.abs(beyond + 0.5 * _LINE_CM) / max(_LINE_CM, 1 / px), 0, None) * apart * (gap > 0.1)
    line *= _LINE_DEPTH * _LINE_CM / max(_LINE_CM, 1 / px) * (scene.lung[box] > 0.5)

    lung_here = beyond < 0
    scene.spare, scene.free, scene.filled = spare.copy(), free.copy(), filled.copy()
    markings = np.where(lung_here, 1 / np.sqrt(share), 1 - apart)
    more = np.where(lung_here, packed * (1 - thin) * apart, 0)
    scene.spare[box] = np.where(apart > 0, spare[box] * markings, scene.spare[box])
    scene.free[box] = np.where(apart > 0, 1 - (1 - free[box]) * (1 - bare), free[box])
    # What filled the lung has left with it.
    left_over = filled[box] * np.where(lung_here, 1, 1 - apart)
    scene.filled[box] = np.where(apart > 0, 1 - (1 - left_over) * (1 - more), filled[box])
    scene.added = scene.added.copy()
    scene.added[box] += line.astype(np.float32)
    extent = np.zeros_like(scene.left_lung)
    extent[box] = (beyond > 0) & (apart > 0.5)
    return extent & scene.anatomy().lung(side)


def _sulcus(scene: Scene, side: str, severity: float) -> Mask:
    """Supine air, in front and at the base: darker base, a deep costophrenic angle, sharp borders."""
    lung, px, sign = scene.anatomy().lung(side), pixels_per_cm(scene), sign_of(side)
    deep = 1.8 + 2.2 * severity
    box = box_of(lung, below=int((deep + 2.5) * px), aside=int(px))
    inside = lung[box]
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    v = (yy - rows[0]) / len(rows)
    u = (xx - cols[0]) / len(cols) if side == "left" else (cols[-1] - xx) / len(cols)
    at = np.arange(inside.shape[1])
    floor = np.interp(at, cols, (inside.shape[0] - 1 - inside[::-1].argmax(axis=0))[cols])
    across = u[0]
    # The angle is drawn down as a narrowing tongue along the side wall; in front, air bulges a little below the dome.
    tongue = np.exp(-(((across - 0.9) / 0.11) ** 2)) * deep
    bulge = np.exp(-(((across - 0.5) / 0.24) ** 4)) * (0.8 + 1.0 * severity)
    lower = floor + np.maximum(tongue, bulge) * px * (across > 0) * (across < 1)
    own = sign * scene.thorax.x[box] > 1.0
    below = own & (yy > floor - 0.5 * px) & (u > 0) & (u < 1)
    thick = (1.0 + 3.0 * severity + 3.5 * np.exp(-(((u - 0.9) / 0.12) ** 2)))
    front = np.where(below, thick * np.sqrt(np.clip((lower - yy) / (1.5 * px), 0, 1)), 0)
    front = front * ramp((yy - floor + 0.5 * px) / (0.5 * px)).astype(np.float32) * ramp(u / 0.1) * ramp((1 - u) / 0.04)
    room = np.clip(scene.body[box] - scene.airways[box] - 1.5 - scene.lung[box], 0, None)
    front = np.minimum(front, room).astype(np.float32)

    layer = (0.15 + 0.6 * severity) * ramp((v - 0.45 + 0.3 * severity) / 0.45) * inside
    layer = layer * np.clip(ndimage.distance_transform_edt(inside) / (0.4 * px), 0, 1)
    depth = scene.lung[box] + front
    free = scene.free[box]
    bare = np.where(layer > 0, 1 - (1 - free) * (1 - layer), free)
    scene.free, scene.lung = scene.free.copy(), scene.lung.copy()
    scene.free[box] = np.where(front > 0, (bare * scene.lung[box] + front) / np.maximum(depth, 1e-3), bare)
    scene.lung[box] = depth
    # The tongue beside the wall belongs to the chest; the bulge in front of the liver lies over the abdomen.
    grown = lung.copy()
    grown[box] |= (front > 0.8) & (u > 0.74)
    grown.setflags(write=False)
    setattr(scene, f"{side}_lung", grown)
    extent = np.zeros_like(lung)
    extent[box] = (layer > 0.12) | (front > 0.5)
    return extent


def simple(scene: Scene, placed: Placed) -> Mask:
    """Pleural air without shift: a rim of 1-2 cm at severity 0, a lung fallen to its root at 1."""
    extent = np.zeros_like(scene.left_lung)
    for side in sides_of(placed.side):
        rng = np.random.default_rng(seed_from("pneumothorax", placed.seed, side))
        s, even = placed.severity, float(rng.uniform(0.85, 1.15))
        if scene.thorax.patient.supine:
            extent |= _sulcus(scene, side, s)
            if s < 0.5:
                continue
            s = 0.4 * (s - 0.4)
        apex, wall = 0.13 + 0.5 * s**1.3, (0.07 + 0.52 * s**1.2) * even
        extent |= _collapse(scene, side, _kept(rng, apex=apex, wall=wall, base=0.5 * max(s - 0.45, 0)))
    return extent


def tension(scene: Scene, placed: Placed) -> Mask:
    """Air under pressure: a collapsed lung, a pushed down dome, the mediastinum 1-3 cm towards the other side."""
    s, side = placed.severity, placed.side
    rng = np.random.default_rng(seed_from("pneumothorax", placed.seed, side))
    far = (1.2 + 1.8 * s) * float(rng.uniform(0.95, 1.05))
    shift_mediastinum(scene, to="right" if side == "left" else "left", upper=0.8 * far, lower=far)
    move_dome(scene, side, down=0.6 + 1.2 * s, flatten=0.35 + 0.3 * s)
    scene.heart = hanging(scene, scene.heart, narrower=0.0, longer=to_dome(scene, side))
    extent = np.zeros_like(scene.left_lung)
    if scene.thorax.patient.supine:
        extent |= _sulcus(scene, side, s)
    # The pulmonary ligament holds the lung to the mediastinum down to the base: it ends up long and narrow.
    kept = _kept(rng, apex=0.42 + 0.14 * s, wall=0.50 + 0.20 * s, base=0.26 + 0.14 * s)
    return extent | _collapse(scene, side, kept)
