"""Findings as added attenuation, placed by a film's lung and heart masks.

A finding replaces air by tissue along the ray. Each model here draws a *cover* map: the share of the
air at a pixel that the finding replaces, 0..1. Cover times the film's air contrast (how much brighter
soft tissue is than aerated lung, in the unit of `cars_core.phantom.display`) is the change of
attenuation. The same models make simulated films and counterfactual pairs on real ones.

All shapes live in the lung's own frame (u: 0 at the mediastinum, 1 at the chest wall; v: 0 at the apex,
1 at the base), so a finding keeps its place and proportions at any film size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.display import Float, to_attenuation
from schemas.errors import BadInput

#: Air contrast of a simulated film, in display units.
AIR_CONTRAST = 2.2

_VISIBLE = 0.02  # cover below this is not seen and not part of the finding's mask


@dataclass(frozen=True)
class Placed:
    """A finding somewhere: `side` left | right | both (the patient's), `severity` 0..1 (relative to what
    is commonly seen), `seed` decides place and shape."""

    finding: str
    side: str
    severity: float
    seed: int

    def __post_init__(self) -> None:
        if self.side not in ("left", "right", "both"):
            raise BadInput(f"side of {self.finding}", self.side, "left, right or both")
        if not 0 <= self.severity <= 1:
            raise BadInput(f"severity of {self.finding}", self.severity, "0 to 1")


@dataclass(frozen=True)
class Lung:
    """One lung's mask with its frame: u, v float32 [H, W] (only meaningful on and near the lung),
    `edge` the distance to the nearest edge of the lung in lung heights, `height` in pixels."""

    mask: Mask
    u: Float
    v: Float
    edge: Float
    height: float
    box: tuple[slice, slice]


def lung_frame(anatomy: Anatomy, side: str) -> Lung:
    """Frame of the left or right lung.

    Raises:
        BadInput: the lung is missing or too small to hold a finding.
    """
    mask = anatomy.lung(side)
    if int(mask.sum()) < 0.01 * mask.size:
        raise BadInput(f"{side} lung", f"{int(mask.sum())} pixels", "a lung of at least 1 % of the film")
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = rows[0], rows[-1], cols[0], cols[-1]
    h, w = float(y1 - y0 + 1), float(x1 - x0 + 1)
    yy, xx = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    u = (xx - x0) / w
    if side == "right":  # the patient's right lung is at the picture's left: its wall is the smaller x
        u = 1 - u
    edge = ndimage.distance_transform_edt(mask).astype(np.float32) / h
    return Lung(mask, u, (yy - y0) / h, edge, h, (slice(y0, y1 + 1), slice(x0, x1 + 1)))


def _clouds(lung: Lung, rng: np.random.Generator, cells: int) -> Float:
    """Smooth noise over the lung, about -1..1; `cells` sets its grain (cells over the lung's height)."""
    grid = ndimage.gaussian_filter(rng.standard_normal((cells + 3, cells + 3)), 0.6)
    grid /= np.abs(grid).max()
    out = ndimage.map_coordinates(
        grid, [np.clip(lung.v, -0.2, 1.2) * cells + 1, np.clip(lung.u, -0.2, 1.2) * cells + 1], order=3, mode="nearest"
    )
    return out.astype(np.float32)


def _step(x: Float, width: float) -> Float:
    """Smooth 0..1 step over `width`, centred on 0."""
    return (0.5 * (1 + np.tanh(2 * x / width))).astype(np.float32)


def _soft_edge(lung: Lung, share: float = 0.012) -> Float:
    """1 inside the lung, fading to 0 over the last `share` of a lung height before its edge."""
    return np.clip(lung.edge / share, 0, 1).astype(np.float32)


def _place(lung: Lung, rng: np.random.Generator, *, v: tuple[float, float], margin: float) -> tuple[float, float]:
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


def _blob(lung: Lung, at: tuple[float, float], radius: float, *, stretch: float = 1.0, turn: float = 0.0) -> Float:
    """Normalised distance (1 at the rim) from an ellipse at `at`, `radius` in lung heights."""
    aspect = lung.mask[lung.box].shape[1] / lung.height
    du, dv = (lung.u - at[0]) * aspect, lung.v - at[1]
    c, s = np.cos(turn), np.sin(turn)
    return np.hypot((du * c + dv * s) * stretch, (dv * c - du * s) / stretch).astype(np.float32) / np.float32(radius)


def _effusion(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Erect fluid: a meniscus that climbs at the chest wall, dense below, blunted angle, lost dome."""
    level = 1 - (0.14 + 0.46 * severity) * (0.95 + 0.1 * rng.random())
    climb = (0.10 + 0.10 * severity) * np.exp(-np.clip(1 - lung.u, 0, 1) / 0.16)
    inner = 0.05 * severity * np.exp(-np.clip(lung.u, 0, 1) / 0.10)
    surface = level - climb - inner + 0.008 * _clouds(lung, rng, 5)
    below = lung.v - surface
    depth = _step(below - 0.01, 0.045) * (0.62 + 0.38 * np.clip(below / 0.22, 0, 1))
    # Fluid lies in the pleural recess, so at the base it reaches to (and a little over) the lung's edge.
    reach = np.clip(ndimage.gaussian_filter(lung.mask.astype(np.float32), 0.008 * lung.height), 0, 1)
    return depth * reach * (0.88 + 0.12 * severity)


def _consolidation(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Air spaces filled: confluent, fluffy-edged, with air bronchograms left dark."""
    centre = _place(lung, rng, v=(0.3, 0.88), margin=0.05)
    size = 0.13 + 0.13 * severity
    body = np.zeros_like(lung.u)
    for _ in range(4):
        shift = (centre[0] + 0.32 * rng.standard_normal() * size * 1.6, centre[1] + 0.55 * rng.standard_normal() * size)
        d = _blob(
            lung, shift, size * (0.6 + 0.5 * rng.random()), stretch=0.8 + 0.4 * rng.random(), turn=np.pi * rng.random()
        )
        body = np.maximum(body, np.exp(-(d**2) * 0.9))
    texture = 0.55 * _clouds(lung, rng, 7) + 0.35 * _clouds(lung, rng, 16) + 0.2 * _clouds(lung, rng, 30)
    body = _step(body - 0.45 + 0.28 * texture, 0.55)
    airways = np.zeros_like(body)
    for _ in range(2 + int(2 * rng.random())):
        turn = np.pi * (0.15 + 0.5 * rng.random())
        line = _blob(
            lung,
            (centre[0] + 0.1 * rng.standard_normal(), centre[1] + 0.06 * rng.standard_normal()),
            size * 0.9,
            stretch=1.0,
        )
        across = (
            (lung.u - centre[0]) * np.sin(turn) - (lung.v - centre[1]) * np.cos(turn) + 0.03 * _clouds(lung, rng, 6)
        )
        airways = np.maximum(airways, np.exp(-((across / 0.011) ** 2)) * (line < 1))
    return np.asarray(body * (1 - 0.35 * airways) * (0.42 + 0.30 * severity) * _soft_edge(lung), np.float32)


def _infiltration(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Ill-defined patchy haze with a reticular grain; markings stay visible through it."""
    centre = _place(lung, rng, v=(0.35, 0.85), margin=0.04)
    reach = np.exp(
        -(_blob(lung, centre, 0.26 + 0.16 * severity, stretch=0.8 + 0.3 * rng.random(), turn=np.pi * rng.random()) ** 2)
    )
    ridges = 1 - np.abs(_clouds(lung, rng, 22))
    texture = 0.5 + 0.55 * _clouds(lung, rng, 9) + 0.45 * (ridges - 0.6)
    haze = reach * np.clip(texture, 0, 1.2) * (0.26 + 0.26 * severity) * _soft_edge(lung, 0.03)
    return haze.astype(np.float32)


def _lesion(lung: Lung, severity: float, rng: np.random.Generator, *, radius: float, density: float) -> Float:
    """A solid, roughly round lesion: thickness of a sphere, slightly lobulated rim."""
    at = _place(lung, rng, v=(0.15, 0.85), margin=min(0.09, radius + 0.015))
    d = _blob(lung, at, radius, stretch=0.88 + 0.24 * rng.random(), turn=np.pi * rng.random())
    # Lobulation scales with the lesion, so it is drawn over the angle round its centre.
    angle = np.arctan2(lung.v - at[1], lung.u - at[0])
    for k in (2, 3, 5):
        d = d * (1 + (0.08 / k) * 2 * rng.random() * np.cos(k * angle + 2 * np.pi * rng.random()))
    ball = np.sqrt(np.clip(1 - d**2, 0, 1))
    rim = ndimage.gaussian_filter(ball.astype(np.float32), max(0.5, 0.10 * radius * lung.height))
    return rim * density * _soft_edge(lung, 0.006)


def _nodule(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Up to 3 cm across; a lung is about 27 cm high."""
    return _lesion(lung, severity, rng, radius=0.024 + 0.028 * severity, density=0.38 + 0.20 * severity)


def _mass(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """More than 3 cm across."""
    return _lesion(lung, severity, rng, radius=0.068 + 0.075 * severity, density=0.58 + 0.22 * severity)


def _edema(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Perihilar haze fading to the periphery, denser below."""
    d = _blob(lung, (0.18, 0.52), 0.36 + 0.10 * severity, stretch=1.0)
    texture = 0.8 + 0.3 * _clouds(lung, rng, 8) + 0.25 * _clouds(lung, rng, 20)
    return np.exp(-(d**2)) * np.clip(texture, 0, 1.3) * (0.24 + 0.34 * severity) * _soft_edge(lung, 0.02)


def _atelectasis(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Plate-like: a thin, nearly horizontal band in the lower zone."""
    at = _place(lung, rng, v=(0.6, 0.86), margin=0.06)
    tilt = 0.35 * rng.standard_normal()
    across = (lung.v - at[1]) - tilt * (lung.u - at[0]) * 0.4 + 0.006 * _clouds(lung, rng, 4)
    length = np.exp(-(((lung.u - at[0]) / (0.18 + 0.18 * severity)) ** 4))
    return np.exp(-((across / (0.010 + 0.012 * severity)) ** 2)) * length * (0.34 + 0.24 * severity) * _soft_edge(lung)


def _pleural_thickening(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """A band of soft tissue along the lateral chest wall, or over the apex."""
    apex = rng.random() < 0.35
    thick = 0.018 + 0.032 * severity
    if apex:
        band = np.exp(-((np.clip(lung.v, 0, 1) / (2.2 * thick)) ** 2))
    else:
        middle, span = 0.45 + 0.3 * rng.random(), 0.16 + 0.16 * severity
        band = (
            np.exp(-((lung.edge / thick) ** 2)) * np.exp(-(((lung.v - middle) / span) ** 4)) * _step(lung.u - 0.55, 0.2)
        )
    return band * (0.40 + 0.25 * severity) * (1 + 0.15 * _clouds(lung, rng, 9)) * _soft_edge(lung, 0.006)


_IN_LUNG: dict[str, Callable[[Lung, float, np.random.Generator], Float]] = {
    "effusion": _effusion,
    "consolidation": _consolidation,
    "infiltration": _infiltration,
    "nodule": _nodule,
    "mass": _mass,
    "edema": _edema,
    "atelectasis": _atelectasis,
    "pleural_thickening": _pleural_thickening,
}

#: Findings drawn on simulated films by this module; the simulator widens the heart itself.
SIMULATED = frozenset(_IN_LUNG)

#: Findings that can be laid over a film by its masks.
OVERLAID = SIMULATED | {"cardiomegaly"}


def _widened(heart: Mask, severity: float) -> tuple[Float, Float]:
    """Rows and columns of the present heart that each pixel of the widened one comes from, float32 [H, W].

    The heart grows mostly to the patient's left and a little down (left ventricle); the spine side stays.
    """
    rows, cols = np.flatnonzero(heart.any(axis=1)), np.flatnonzero(heart.any(axis=0))
    yy, xx = np.mgrid[: heart.shape[0], : heart.shape[1]].astype(np.float32)
    anchor = cols[0] + 0.35 * (cols[-1] - cols[0])  # the patient's left is at larger columns
    grow = 1 + (0.16 + 0.26 * severity) * np.where(xx > anchor, 1.0, 0.45)
    return rows[0] + (yy - rows[0]) / (1 + 0.06 * severity), anchor + (xx - anchor) / grow


def _cardiomegaly(anatomy: Anatomy, severity: float) -> Float:
    """The strip between the present outline and the widened one, where the heart takes the lung's place."""
    heart = anatomy.heart
    if int(heart.sum()) < 0.005 * heart.size:
        raise BadInput("heart", f"{int(heart.sum())} pixels", "a heart of at least 0.5 % of the film")
    rows = np.flatnonzero(heart.any(axis=1))
    blur = 0.018 * float(rows[-1] - rows[0] + 1)
    now = heart.astype(np.float32)
    wide = np.maximum(ndimage.map_coordinates(now, _widened(heart, severity), order=1), now)
    new = np.clip(ndimage.gaussian_filter(wide, blur) - ndimage.gaussian_filter(now, blur), 0, 1)
    # Only lung is displaced: over the abdomen there is no air for the heart to take the place of.
    return (new * ndimage.gaussian_filter(anatomy.lungs.astype(np.float32), 0.5 * blur) * 0.9).astype(np.float32)


def cover(placed: Placed, anatomy: Anatomy) -> Float:
    """Share of the air along each ray that the finding replaces, float32 [H, W] in 0..1.

    Raises:
        BadInput: a finding without a model, or anatomy too small to place it.
    """
    if placed.finding not in OVERLAID:
        raise BadInput("simulated finding", placed.finding, "one of " + ", ".join(sorted(OVERLAID)))
    if placed.finding == "cardiomegaly":
        out = _cardiomegaly(anatomy, placed.severity)
    else:
        out = np.zeros(anatomy.left_lung.shape, np.float32)
        sides = ("left", "right") if placed.side == "both" else (placed.side,)
        for side in sides:
            rng = np.random.default_rng([placed.seed, side == "left"])
            out = np.maximum(out, _IN_LUNG[placed.finding](lung_frame(anatomy, side), placed.severity, rng))
    out = np.clip(out, 0, 1)
    out[out < _VISIBLE] = 0
    return out


def added_attenuation(
    placed: Placed, anatomy: Anatomy, *, contrast: float | Float = AIR_CONTRAST
) -> tuple[Float, Mask]:
    """Change of attenuation a finding makes, float32 [H, W] in display units, and its mask, bool [H, W].

    Args:
        contrast: air contrast, one number or per pixel [H, W]; see `air_contrast` for real films.
    """
    c = cover(placed, anatomy)
    return (c * contrast).astype(np.float32), c > 0


def air_contrast(grey: NDArray[np.uint8], anatomy: Anatomy) -> Float:
    """How much brighter than the lung, pixel by pixel, soft tissue is on this film, float32 [H, W].

    Soft tissue is the film's own: the median attenuation of the heart, or of the bright quarter between
    the lungs where no heart was found. Half of the fine texture counts as level: where tissue takes the
    place of air, vessels lose their contrast while ribs stay.
    """
    a = to_attenuation(grey)
    tissue_at = anatomy.heart if anatomy.heart.any() else ~anatomy.lungs
    tissue = float(np.percentile(a[tissue_at], 60 if anatomy.heart.any() else 75))
    level = 0.5 * (a + ndimage.gaussian_filter(a, 0.02 * grey.shape[0]))
    return np.clip(tissue - level, 0.0, 3.5).astype(np.float32)


def overlay(grey: NDArray[np.uint8], placed: Placed, anatomy: Anatomy) -> tuple[Float, Mask]:
    """Change of attenuation that lays a finding over a film, float32 [H, W], and its mask, bool [H, W].

    Args:
        grey: the film, uint8 [H, W].

    A larger heart is not a denser one: its border, with the brightness it has on this film, moves outwards.
    Every other finding takes the place of air.
    """
    if placed.finding != "cardiomegaly":
        return added_attenuation(placed, anatomy, contrast=air_contrast(grey, anatomy))
    reach = _cardiomegaly(anatomy, placed.severity)
    size = float(np.flatnonzero(anatomy.heart.any(axis=1)).size)
    a = ndimage.gaussian_filter(to_attenuation(grey), 0.015 * size)
    moved = ndimage.map_coordinates(a, _widened(anatomy.heart, placed.severity), order=1, mode="nearest")
    # The border's fall-off lies beyond the strip itself, and fades where there is no lung to displace.
    where = ndimage.gaussian_filter(
        (ndimage.maximum_filter(reach, int(0.10 * size)) > 0.1).astype(np.float32), 0.035 * size
    )
    where *= ndimage.gaussian_filter(anatomy.lungs.astype(np.float32), 0.02 * size)
    change = np.clip(moved - a, 0, None) * where
    change[change < _VISIBLE] = 0
    return change.astype(np.float32), change > 0
