"""Overinflated lungs that have lost tissue."""

from __future__ import annotations

import numpy as np

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.body.thorax import Map
from cars_core.phantom.findings.warp import Warp, box_of, move_dome, own_half, pixels_per_cm, ramp
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

#: Share of the lung's depth without tissue at severity 0 and 1; a bulla at most. Below half: no space for fluid.
_LOST, _BULLA = (0.14, 0.47), 0.49
_WALL = 0.35  # soft tissue of a bulla's wall met edge-on, cm


def emphysema(scene: Scene, placed: Placed) -> Mask:
    """Low flat domes, dark lungs with thinned vessels, a long narrow heart, at times bullae; both lungs' extent."""
    s = placed.severity
    before = scene.left_lung | scene.right_lung
    for side in ("left", "right"):
        move_dome(scene, side, down=0.5 + 1.3 * s, flatten=0.3 + 0.4 * s)
    scene.heart = hanging(scene, scene.heart, narrower=0.05 + 0.11 * s, longer=to_dome(scene, "left"))
    rng = np.random.default_rng(seed_from("emphysema", placed.seed))
    scene.free, scene.spare, scene.added = scene.free.copy(), scene.spare.copy(), scene.added.copy()
    for side in ("left", "right"):
        _rarefy(scene, side, s, rng)
    return scene.left_lung | scene.right_lung | before


def to_dome(scene: Scene, side: str) -> float:
    """How far the heart's lower border stands above the dome of one side, cm, 0 or more: pericardium and diaphragm
    are one, so where the dome has gone down the heart is drawn after it."""
    lung = scene.anatomy().lung(side)
    under = np.flatnonzero((scene.heart > 0).any(axis=0) & lung.any(axis=0))
    if not under.size:
        return 0.0
    floor = np.median(len(lung) - 1 - lung[::-1, under].argmax(axis=0))
    lowest = np.flatnonzero((scene.heart > 0).any(axis=1))[-1]
    return max(float(floor - lowest) / pixels_per_cm(scene) + 0.3, 0.0)


def hanging(scene: Scene, heart: Map, *, narrower: float, longer: float) -> Map:
    """A heart that follows the domes down by `longer` cm and loses the share `narrower` of its width; cm [H, W]."""
    px, shown = pixels_per_cm(scene), heart > 0
    box = box_of(shown, below=int((longer + 0.5) * px), aside=1)
    rows = np.flatnonzero(shown.any(axis=1))
    row, col = np.mgrid[box].astype(np.float32)
    height = len(rows) + longer * px
    t = np.clip((row - rows[0]) / height, 0, 1)
    middle = np.float32(np.argmin(np.abs(scene.thorax.x[int(rows[len(rows) // 2])])))
    dx = (col - middle) * np.float32(narrower / (1 - narrower)) * ramp(t / 0.3)
    return Warp.of(shown.shape, box, dx, -t * np.float32(longer * px)).map(heart)


def _rarefy(scene: Scene, side: str, severity: float, rng: np.random.Generator) -> None:
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    box = box_of(lung, below=int(2 * px), aside=int(2 * px))
    own, inside = own_half(scene, side)[box], lung[box]
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    height = np.float32(len(rows))
    v = (yy - rows[0]) / height
    u = ((xx - cols[0]) if side == "left" else (cols[-1] - xx)) / np.float32(len(cols))
    # The centrilobular kind of smokers: worst in the upper zones.
    lost = np.float32(_LOST[0] + (_LOST[1] - _LOST[0]) * severity) * (np.float32(1.0) - np.float32(0.22) * v)
    outwards = ramp((np.hypot(u, 1.6 * (v - 0.47)) - 0.25) / 0.5)
    kept = 1 - (0.25 + 0.5 * severity) * outwards
    wall = np.zeros_like(u)
    if severity > 0.45 and rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            at = np.array([rng.uniform(0.35, 0.7), rng.uniform(0.1, 0.3)])
            radius = rng.uniform(1.2, 2.6) * px
            centre = (cols[0] + at[0] * len(cols)) if side == "left" else (cols[-1] - at[0] * len(cols))
            d = np.hypot(xx - np.float32(centre), (yy - np.float32(rows[0] + at[1] * height)) * 0.9) / radius
            lost = np.maximum(lost, np.float32(_BULLA) * np.sqrt(np.clip(1 - d * d, 0, 1)))
            kept = kept * ramp((d - 0.75) / 0.3)
            line = np.clip(1 - np.abs(d - 1) * radius / max(0.1 * px, 1.0), 0, None) * _WALL * min(1.0, 0.1 * px)
            wall = np.maximum(wall, line * inside)
    lost = (np.clip(lost, 0, _BULLA) * own).astype(np.float32)
    scene.free[box] = np.where(own, 1 - (1 - scene.free[box]) * (1 - lost), scene.free[box])
    spare: Map = (scene.spare[box] * kept).astype(np.float32)
    scene.spare[box] = np.where(own, spare, scene.spare[box])
    scene.added[box] += wall.astype(np.float32)
