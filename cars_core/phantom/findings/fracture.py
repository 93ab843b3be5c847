"""Broken ribs: a step, a gap and turned ends, with blood under the pleura beside them; or callus where they heal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.findings.warp import Box, Warp, box_of, pixels_per_cm, ramp, sides_of, sign_of
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

STEP_CM = (0.2, 0.6)  # by which the ends stand apart sideways, at severity 0 and 1
_GAP_CM = (0.07, 0.15)  # half width of the cleft
_TURNED = (0.3, 1.4)  # bone that the turned and driven-in ends put more in the ray's way, share of what is there
_BULGE_CM = (0.3, 1.1)  # how far blood lifts the pleura off the wall
_BLOOD_CM = (0.5, 2.8)  # of it in the ray's way at the wall
_REACH_CM = 1.6  # from the break to where the rib lies as before
_RIB_CM = 0.6  # half a rib's width


def fracture(scene: Scene, placed: Placed) -> Mask:
    """One to three neighbouring ribs of a side broken in their lateral arcs; a window of about 2 cm round each."""
    extent = np.zeros_like(scene.left_lung)
    for side in sides_of(placed.side):
        rng = np.random.default_rng(seed_from("fracture", placed.seed, side))
        n = 1 + int(placed.severity > 0.4) + int(placed.severity > 0.75)
        healing = bool(rng.random() < 0.3) and placed.severity < 0.6  # what is far displaced is shown fresh
        step = STEP_CM[0] + (STEP_CM[1] - STEP_CM[0]) * placed.severity
        for row, col, turn in _places(scene, side, n, rng):
            part = step * float(rng.uniform(0.75, 1.0)) * (1 if rng.random() < 0.5 else -1)
            extent |= _break(scene, (row, col), turn, part, placed.severity, healing=healing)
        if not healing:
            _bleed(scene, extent, side, placed.severity)
    return extent


def _places(scene: Scene, side: str, n: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
    """Rows, columns and directions (radians, of the rib's course) where single ribs run clear of others."""
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    box = box_of(lung)
    bone, inside = scene.bone[box], lung[box]
    fine = ndimage.gaussian_filter(bone, 0.3 * px, truncate=3.0)
    gy, gx = np.gradient(fine)
    wide = 0.55 * px
    jxx, jyy, jxy = (ndimage.gaussian_filter(g, wide, truncate=2.5) for g in (gx * gx, gy * gy, gx * gy))
    one_way = np.hypot(jxx - jyy, 2 * jxy) / (jxx + jyy + 1e-6)
    course = 0.5 * np.arctan2(2 * jxy, jxx - jyy) + np.pi / 2
    ridge = np.clip(fine - ndimage.gaussian_filter(bone, 1.0 * px, truncate=2.5), 0, None)
    score = np.minimum(ridge, np.float32(0.3)) * one_way
    h, w = inside.shape
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    v, u = yy / h, (xx / w if side == "left" else 1 - xx / w)
    # Ribs are densest where they turn along the ray, and at the very edge of the chest they cover each other.
    first, last = inside.argmax(axis=1), w - 1 - inside[:, ::-1].argmax(axis=1)
    to_wall = (last[:, None] - xx if side == "left" else xx - first[:, None]) / np.float32(px)
    score = score * inside * ((to_wall > 0.6) & (to_wall < 3.5) & (u > 0.5) & (v > 0.2) & (v < 0.85))
    aim_in, aim_v = float(rng.uniform(0.8, 1.8)), float(rng.uniform(0.32, 0.7))
    near = np.exp(-(((to_wall - aim_in) / 1.0) ** 2) - ((v - aim_v) * h / px / 2.5) ** 2) + 1e-3
    found: list[tuple[int, int, float]] = []
    here = score * near
    for _ in range(n):
        r, c = np.unravel_index(int(np.argmax(here)), here.shape)
        if here[r, c] <= 0:
            break
        found.append((int(r) + box[0].start, int(c) + box[1].start, float(course[r, c])))
        score = score * (np.hypot(yy - r, xx - c) > 2.0 * px)
        # The next rib, broken in line with the first.
        here = score * (np.exp(-(((xx - c) / px / 1.2) ** 2) - ((np.abs(yy - r) / px - 3.2) / 1.5) ** 2) + 1e-4)
    return found


def _break(scene: Scene, at: tuple[int, int], turn: float, step: float, severity: float, *, healing: bool) -> Mask:
    """Shift the two ends of the rib against each other by `step` cm across its course; the window round the break."""
    px = pixels_per_cm(scene)
    grow = int(np.ceil(1.3 * _REACH_CM * px)) + 1
    h, w = scene.bone.shape
    box: Box = (slice(max(at[0] - grow, 0), min(at[0] + grow + 1, h)),
                slice(max(at[1] - grow, 0), min(at[1] + grow + 1, w)))
    yy, xx = np.mgrid[box].astype(np.float32)
    right, down = (xx - at[1]) / np.float32(px), (yy - at[0]) / np.float32(px)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = right * c + down * s, down * c - right * s
    slant = along + np.float32(0.35) * across  # fractures run aslant
    held = ramp((_REACH_CM - np.abs(along)) / (0.8 * _REACH_CM))
    held = held * ramp((1.7 * _RIB_CM - np.abs(across)) / (0.7 * _RIB_CM))
    sharp = np.clip(slant * np.float32(px), -0.5, 0.5) * 2
    shift = np.float32(0.5 * step * px) * sharp * held
    warp = Warp.of(scene.bone.shape, box, shift * s, -shift * c)
    bone = warp.map(scene.bone)
    cut: NDArray[np.floating[Any]] = bone[box]
    gap = np.float32(max(_of(_GAP_CM, severity), 0.75 / px))
    lane = ramp((1.5 * _RIB_CM - np.abs(across)) / (0.4 * _RIB_CM))
    cleft = np.exp(-((slant / gap) ** 2)) * lane
    ends = np.exp(-(((np.abs(slant) - 2.2 * gap) / 0.2) ** 2)) * lane
    if healing:
        callus = np.exp(-((along / 0.55) ** 2) - (across / 0.75) ** 2)
        callus = np.where(callus > 0.03, callus - 0.03, 0)
        cut = cut * (1 - np.float32(0.3) * cleft)
        cut = cut + np.float32((0.5 + 0.5 * severity) * scene.thorax.patient.bone) * callus
    else:
        cut = cut * (1 + np.float32(_of(_TURNED, severity)) * np.where(ends > 0.02, ends, 0))
        cut = cut * (1 - np.float32(0.85) * np.where(cleft > 0.02, cleft, 0))
    bone[box] = cut
    scene.bone = bone
    extent = np.zeros_like(scene.left_lung)
    extent[box] = np.hypot(along / _REACH_CM, across / (1.7 * _RIB_CM)) < 1
    return extent


def _bleed(scene: Scene, window: Mask, side: str, severity: float) -> None:
    """Blood between ribs and pleura beside fresh breaks: a flat swelling of the chest wall that bulges inwards."""
    if not window.any():
        return
    lung, px = scene.anatomy().lung(side), pixels_per_cm(scene)
    broken = window.max(axis=1)
    rows = np.flatnonzero(broken & lung.any(axis=1))
    if not rows.size:
        return
    half = 0.5 * float(rows[-1] - rows[0] + 1) + 0.4 * px
    grow = int(0.5 * px) + 1
    box = box_of(lung & broken[:, None], above=grow, below=grow, aside=grow)
    inside = lung[box]
    has = np.flatnonzero(inside.any(axis=1))
    wall = (inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)) if side == "left" else inside.argmax(axis=1)
    wall = np.interp(np.arange(len(inside)), has, wall[has]).astype(np.float32)
    yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    inwards = sign_of(side) * (wall[:, None] - xx) / np.float32(px)
    down = (yy - np.float32(0.5 * (rows[0] + rows[-1]) - box[0].start)) / np.float32(half)
    bulge = _of(_BULGE_CM, severity) * np.clip(1 - down * down, 0, None) + 1e-3
    swollen = np.clip(1 - inwards / bulge, 0, 1) ** 0.6 * ramp((inwards + 0.4) / 0.5) * (down * down < 1)
    swollen *= ramp((1.4 - ndimage.distance_transform_edt(~window[box]) / px) / 1.2)
    scene.added = scene.added.copy()
    scene.added[box] += np.float32(_of(_BLOOD_CM, severity)) * swollen.astype(np.float32)


def _of(ends: tuple[float, float], severity: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * severity
