"""Findings as air replaced by tissue or fluid, placed by a film's lung masks.

Each model draws a *cover* map: the share of the air along a ray that the finding replaces, 0..1. A simulated film
fills that share with tissue; on a real film cover times the film's air contrast is the change of attenuation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.display import Float
from cars_core.phantom.findings import interstitium, lobes, pleura
from cars_core.phantom.findings.frame import (
    LEAST,
    Box,
    Lung,
    around,
    blob,
    clouds,
    frame_of,
    lung_frame,
    near,
    place,
    smooth_step,
    soft_edge,
)
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene
from schemas.errors import BadInput

VISIBLE = 0.02  # cover below this is not seen and not part of the finding's mask


def _consolidation(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Air spaces filled: confluent, fluffy-edged, with air bronchograms left dark."""
    centre = place(lung, rng, v=(0.3, 0.88), margin=0.05)
    size = 0.13 + 0.13 * severity
    body = np.zeros_like(lung.u)
    for _ in range(4):
        shift = (centre[0] + 0.32 * rng.standard_normal() * size * 1.6, centre[1] + 0.55 * rng.standard_normal() * size)
        d = blob(
            lung, shift, size * (0.6 + 0.5 * rng.random()), stretch=0.8 + 0.4 * rng.random(), turn=np.pi * rng.random()
        )
        body = np.maximum(body, np.exp(-(d**2) * 0.9))
    texture = 0.55 * clouds(lung, rng, 7) + 0.35 * clouds(lung, rng, 16) + 0.2 * clouds(lung, rng, 30)
    body = smooth_step(body - 0.45 + 0.28 * texture, 0.55)
    airways = np.zeros(body.shape)
    for _ in range(2 + int(2 * rng.random())):
        turn = np.pi * (0.15 + 0.5 * rng.random())
        middle = (centre[0] + 0.1 * rng.standard_normal(), centre[1] + 0.06 * rng.standard_normal())
        part, at = around(lung, middle, size * 0.9)
        across = (part.u[0] - centre[0]) * np.sin(turn) - (part.v[:, :1] - centre[1]) * np.cos(turn)
        across = across + 0.03 * clouds(part, rng, 6)
        along = np.exp(-((across / 0.011) ** 2)) * (blob(part, middle, size * 0.9) < 1)
        airways[at] = np.maximum(airways[at], along)
    return np.asarray(body * (1 - 0.35 * airways) * (0.42 + 0.30 * severity) * soft_edge(lung), np.float32)


def _infiltration(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Ill-defined patchy haze with a reticular grain; markings stay visible through it."""
    centre = place(lung, rng, v=(0.35, 0.85), margin=0.04)
    reach = np.exp(
        -(blob(lung, centre, 0.26 + 0.16 * severity, stretch=0.8 + 0.3 * rng.random(), turn=np.pi * rng.random()) ** 2)
    )
    ridges = 1 - np.abs(clouds(lung, rng, 22))
    texture = 0.5 + 0.55 * clouds(lung, rng, 9) + 0.45 * (ridges - 0.6)
    haze = reach * np.clip(texture, 0, 1.2) * (0.26 + 0.26 * severity) * soft_edge(lung, 0.03)
    return haze.astype(np.float32)


def _lesion(lung: Lung, severity: float, rng: np.random.Generator, *, radius: float, density: float) -> Float:
    """A solid, roughly round lesion: thickness of a sphere, slightly lobulated rim."""
    at = place(lung, rng, v=(0.15, 0.85), margin=min(0.09, radius + 0.015))
    d = blob(lung, at, radius, stretch=0.88 + 0.24 * rng.random(), turn=np.pi * rng.random())
    # Lobulation scales with the lesion, so it is drawn over the angle round its centre.
    angle = np.arctan2(lung.v - at[1], lung.u - at[0])
    for k in (2, 3, 5):
        d = d * (1 + (0.08 / k) * 2 * rng.random() * np.cos(k * angle + 2 * np.pi * rng.random()))
    ball = np.sqrt(np.clip(1 - d**2, 0, 1))
    rim = ndimage.gaussian_filter(ball.astype(np.float32), max(0.5, 0.10 * radius * lung.height))
    return rim * density * soft_edge(lung, 0.006)


def _nodule(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Up to 3 cm across; a lung is about 27 cm high."""
    return _lesion(lung, severity, rng, radius=0.024 + 0.028 * severity, density=0.38 + 0.20 * severity)


def _mass(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """More than 3 cm across."""
    return _lesion(lung, severity, rng, radius=0.068 + 0.075 * severity, density=0.58 + 0.22 * severity)


def _atelectasis(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Plate-like: a thin, nearly horizontal band in the lower zone."""
    at = place(lung, rng, v=(0.6, 0.86), margin=0.06)
    tilt = 0.35 * rng.standard_normal()
    across = (lung.v - at[1]) - tilt * (lung.u - at[0]) * 0.4 + 0.006 * clouds(lung, rng, 4)
    length = np.exp(-(((lung.u - at[0]) / (0.18 + 0.18 * severity)) ** 4))
    return np.exp(-((across / (0.010 + 0.012 * severity)) ** 2)) * length * (0.34 + 0.24 * severity) * soft_edge(lung)


Model = Callable[[Lung, float, np.random.Generator], Float]

#: finding, or finding/form -> its model (lung, severity, generator) -> cover, float 0..1 as large as the lung's maps.
#: A finding without a form leaves the choice to its own model.
MODELS: dict[str, Model] = {
    "effusion": pleura.meniscus,
    "effusion/meniscus": pleura.meniscus,
    "effusion/veil": pleura.veil,
    "consolidation": _consolidation,
    "consolidation/patchy": _consolidation,
    "consolidation/lobar": lobes.lobar,
    "infiltration": _infiltration,
    "nodule": _nodule,
    "mass": _mass,
    "edema": interstitium.edema,
    "fibrosis": interstitium.fibrosis,
    "atelectasis": _atelectasis,
    "atelectasis/plate": _atelectasis,
    "pleural_thickening": pleura.thickening,
    "pleural_thickening/apex": pleura.apical,
    "pleural_thickening/wall": pleura.lateral,
}

#: Findings that are tissue or fluid in the place of air.
OPACITIES = frozenset(name for name in MODELS if "/" not in name)

_PLEURAL = ("effusion", "pleural_thickening")
# How far beyond the outline, in the thin lung there, what does not end at it goes on; the rest lie within it or are
# drawn beyond it by their model.
_BRIM_CM = {"consolidation": 2.0, "edema": 2.0, "effusion": 2.0, "infiltration": 2.0, "mass": 0.8, "nodule": 0.5}
_RIM_CM = 0.6  # inside the outline, where models fade
_MARKED = 0.15  # share of its densest part from which on a reader would draw it
_KEPT = 0.75  # of the contrast a veil would take from the vessels before it
# How far beyond the lung a model draws or blurs, in lung heights.
_BEYOND = {"effusion": 0.055, "nodule": 0.08, "mass": 0.08, "consolidation/lobar": 0.055,
           "pleural_thickening/wall": 0.04, "pleural_thickening/apex": 0.04}


def fill(scene: Scene, placed: Placed, form: str) -> Mask:
    """Lay an opacity into a scene; its extent, bool [H, W].

    Findings of lung tissue lie in the lung that pleural air has left, and do not show in bare air. Fluid under
    pleural air has a flat level unless the patient lies; a veil leaves the vessels before it to be seen; edema fills
    the vessels of the upper zones.

    Raises:
        BadInput: a finding or form without a model here, or a lung too small to hold it.
    """
    pleural, free = placed.finding in _PLEURAL, scene.free
    collapsed = {side for side in _sides(placed) if free.any() and pleura.bare(scene.frame(side), free)}

    def frame(side: str) -> Lung:
        whole = scene.frame(side)
        left = whole.mask & (free < 0.5)
        if pleural or side not in collapsed or np.count_nonzero(left) < LEAST * left.size:
            return whole
        return frame_of(left, side)

    def level(lung: Lung, at: Box, rng: np.random.Generator) -> Float | None:
        if lung.side in collapsed and form != "veil" and not scene.thorax.patient.supine:
            return pleura.level(lung, placed.severity, rng, free[at])
        return None

    c = _cover(placed, form, frame, free.shape, level if placed.finding == "effusion" else None)
    if placed.finding in _BRIM_CM:
        c = _to_the_brim(scene, c, _BRIM_CM[placed.finding])
    if not pleural:
        c = c * (1 - free)
    if placed.finding == "effusion" and form == "veil":
        gain = (1 - np.float32(1 - _KEPT) * c) / np.maximum(1 - c, np.float32(0.05))
        scene.spare = (scene.spare * gain).astype(np.float32)
    if placed.finding == "edema":
        scene.spare = scene.spare.copy()
        for side in _sides(placed):
            lung, at = near(scene.frame(side), 0.0)
            scene.spare[at] = interstitium.cephalised(lung, placed.severity, scene.spare[at])
    scene.filled = 1 - (1 - scene.filled) * (1 - c)
    return c > max(VISIBLE, _MARKED * float(c.max()))


def _to_the_brim(scene: Scene, c: Float, reach: float) -> Float:
    """Carry a cover on into the thin lung beyond the outline that is seen: behind the dome, beside the spine.

    It is carried down and aside, not above the highest it reaches in its own lung, so that a level stays level.
    """
    rows, columns = np.flatnonzero(c.any(axis=1)), np.flatnonzero(c.any(axis=0))
    if not rows.size:
        return c
    px = c.shape[0] / scene.thorax.patient.field
    far, rim = max(2, round(reach * px)), 2 * max(1, round(_RIM_CM * px)) + 1
    box = tuple(slice(max(0, k[0] - far), k[-1] + far + 1) for k in (rows, columns))
    inner = (scene.left_lung | scene.right_lung)[box]
    inner = ndimage.minimum_filter(inner.view(np.uint8), rim, mode="constant").view(bool)
    away, (i, j) = ndimage.distance_transform_edt(~inner, return_indices=True)
    out = c.copy()
    brim = ~inner & (scene.lung[box] > 0) & (away <= far)
    most = [np.maximum.accumulate((c * lung).max(axis=1))[box[0], None] for lung in (scene.left_lung, scene.right_lung)]
    most_here = np.where(scene.left_lung[box][i, j], *most)
    out[box] = np.where(brim, np.maximum(c[box], np.minimum(c[box][i, j], most_here)), c[box])
    return out


def cover(placed: Placed, anatomy: Anatomy) -> Float:
    """Share of the air along each ray that the finding replaces, float32 [H, W] in 0..1.

    Raises:
        BadInput: a finding or form without a model here, or anatomy too small to place it.
    """
    return _cover(placed, placed.form, lambda side: lung_frame(anatomy, side), anatomy.left_lung.shape)


def _cover(placed: Placed, form: str, frame: Callable[[str], Lung], shape: tuple[int, ...],
           special: Callable[[Lung, Box, np.random.Generator], Float | None] | None = None) -> Float:
    """Cover of a finding; `special` may draw a side in place of the finding's model."""
    name = f"{placed.finding}/{form}" if form else placed.finding
    if name not in MODELS:
        raise BadInput("finding", name, "one of " + ", ".join(sorted(MODELS)))
    out = np.zeros(shape, np.float32)
    for side in _sides(placed):
        rng = np.random.default_rng([placed.seed, side == "left"])
        lung, at = near(frame(side), _BEYOND.get(name, _BEYOND.get(placed.finding, 0.0)))
        drawn = special(lung, at, rng) if special else None
        out[at] = np.maximum(out[at], MODELS[name](lung, placed.severity, rng) if drawn is None else drawn)
    np.clip(out, 0, 1, out=out)
    out[out < VISIBLE] = 0
    return out


def _sides(placed: Placed) -> tuple[str, ...]:
    return ("left", "right") if placed.side == "both" else (placed.side,)
