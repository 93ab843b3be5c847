"""Stomach that has slipped through the oesophageal hiatus behind the heart."""

from __future__ import annotations

import numpy as np

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.findings.warp import pixels_per_cm, ramp
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

DIAMETER = (3.0, 10.0)  # cm at severity 0 and 1
_WALL = 0.25  # of the stomach, cm
#: Soft tissue the mass adds per cm of itself where the maps hold no lung behind the heart.
_BEHIND_HEART = 0.22


def hernia(scene: Scene, placed: Placed) -> Mask:
    """A rounded mass above the hiatus, most of it left of the midline. Erect: air over a level fluid surface in it.
    Supine: the air spreads in front of the fluid without a level."""
    p, px = scene.thorax.patient, pixels_per_cm(scene)
    rng = np.random.default_rng(seed_from("hernia", placed.seed))
    radius = 0.5 * (DIAMETER[0] + (DIAMETER[1] - DIAMETER[0]) * placed.severity)
    wide, high = radius * float(rng.uniform(1.0, 1.12)), radius * float(rng.uniform(0.88, 1.0))
    x, y = scene.thorax.x, scene.thorax.y
    floor = float(y[scene.left_lung & (x < 0.45 * p.half_width)].max())
    x0, y0 = 0.9 + 0.28 * radius + float(rng.normal(0, 0.3)), floor - 0.72 * high
    dx, dy = (x - np.float32(x0)) / np.float32(wide), (y - np.float32(y0)) / np.float32(high)
    # The stomach's outline is folded here and there, not round.
    angle = np.arctan2(dy, dx)
    bend = np.ones_like(dx)
    for k, size in ((2, 0.05), (3, 0.045), (4, 0.02), (5, 0.02)):
        bend += np.float32(size * rng.uniform(-1, 1)) * np.cos(np.float32(k) * angle + np.float32(rng.uniform(0, 6.3)))
    dx, dy = dx * bend, dy * bend
    inside = 1 - dx * dx - dy * dy
    ball = np.sqrt(np.clip(inside, 0, None)).astype(np.float32)
    # Below the hiatus it is stomach like the rest.
    ball = ball * ramp((np.float32(floor + 0.6) - y) / np.float32(0.6))
    solid = np.maximum(scene.mediastinum, scene.heart)
    depth = np.float32(2 * min(radius, 0.4 * p.depth)) * ball
    room = np.clip(scene.lung - solid, 0, None)
    taken = np.minimum(depth, room)
    scene.mediastinum = np.where(ball > 0, solid + taken, scene.mediastinum)
    scene.added = scene.added + np.float32(_BEHIND_HEART) * (depth - taken)

    shrunk = np.clip(1 - (dx * wide / (wide - _WALL)) ** 2 - (dy * high / (high - _WALL)) ** 2, 0, None)
    gas = np.float32(1.7 * min(radius, 0.35 * p.depth)) * shrunk ** np.float32(0.8)
    if p.supine:
        gas = gas * np.float32(0.35) * np.clip(shrunk, 0, 1)
    else:
        # The fluid is level in the room, however the patient leans.
        row = np.arange(x.shape[0], dtype=np.float32)[:, None]
        at = np.unravel_index(int(np.argmax(ball)), ball.shape)[0]
        level = at + float(rng.uniform(-0.15, 0.3)) * high * px
        gas = gas * np.clip(level - row + 0.5, 0, 1)
    gas = np.minimum(gas, np.clip(scene.body - scene.airways - 4, 0, None))
    scene.airways = (scene.airways + gas * (ball > 0)).astype(np.float32)
    extent: Mask = ball > 0.05
    return extent
