"""Fluid and scar between lung and chest wall, as shares of air replaced (see `opacities`).

Free fluid goes where gravity takes it. Erect it stands below the lung and climbs along the wall as a meniscus
(about 200 ml blunt the lateral angle); under pleural air its surface is flat; lying it spreads behind the lung.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cars_core.phantom.display import Float
from cars_core.phantom.findings.frame import Lung, clouds, smooth_step, soft_edge

_WALL = 0.02  # lung heights (half a centimetre): a pixel nearer to the lung's edge lies at the chest wall
_ROUND = 0.30  # radius of the chest's cross-section at its side, lung heights (8 cm)
_AIR_AT_WALL = 0.4  # of the lateral wall, see `bare`


def meniscus(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Erect fluid: a meniscus that climbs at the chest wall, dense below, blunted angle, lost dome."""
    climb = (0.10 + 0.10 * severity) * np.exp(-np.clip(1 - lung.u, 0, 1) / 0.16)
    inner = 0.05 * severity * np.exp(-np.clip(lung.u, 0, 1) / 0.10)
    surface = _level(severity, rng) - climb - inner + 0.008 * clouds(lung, rng, 5)
    below = lung.v - surface
    depth = smooth_step(below - 0.01, 0.045) * (0.62 + 0.38 * np.clip(below / 0.22, 0, 1))
    return depth * reach(lung) * (0.88 + 0.12 * severity)


def veil(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """Fluid behind the lung of a patient lying down: an even haze over the whole lung, denser to the base.

    The angle is blunted; a large amount (about 500 ml and more) also shows as a band along the lateral wall and a cap
    over the apex, up to a centimetre thick. There is no upper border.
    """
    u, v = lung.u[:1], lung.v[:, :1]
    down = np.clip((v - 0.05) / 0.95, 0, 1)
    haze = (0.10 + 0.22 * severity) + (0.16 + 0.30 * severity) * down**1.4
    haze = haze * (0.97 + 0.06 * rng.random()) * (1 + 0.04 * clouds(lung, rng, 4))
    outer = smooth_step(u - 0.55, 0.4)
    angle = (0.25 + 0.45 * severity) * np.exp(-((np.clip(1 - v, 0, 1) / (0.07 + 0.09 * severity)) ** 2)) * outer
    much = float(np.clip((severity - 0.35) / 0.65, 0, 1))
    thick = 0.012 + 0.025 * much
    band = much * _rind(_from_wall(lung), thick) * outer
    cap = 0.8 * much * np.exp(-((np.clip(v, 0, 1) / (1.6 * thick)) ** 2))
    return (1 - (1 - haze) * (1 - angle) * (1 - np.maximum(band, cap))) * full_reach(lung)


def level(lung: Lung, severity: float, rng: np.random.Generator, free: Float) -> Float:
    """Fluid under pleural air: dead flat on top along the film's rows, no meniscus.

    It takes the place of all air below its surface; where collapsed lung dips into it, fluid lies before and behind
    that lung, less of it near the surface.

    Args:
        free: share of the cavity that is pleural air, float32 0..1, same shape as the lung's maps.
    """
    below = (lung.v[:, :1] - _level(severity, rng)) * lung.height  # pixels
    surface = np.clip(below + 0.5, 0, 1)
    at_level = (np.abs(below) < 1.5) & lung.mask
    air = np.clip(free, 0, 1)
    if not (air[at_level] > 0.5).any():  # the rim of air is too thin to show at this height
        air = np.maximum(air, smooth_step(lung.u[:1] - 0.6, 0.2))
    dipped = 0.55 + 0.40 * np.clip(below / (0.15 * lung.height), 0, 1)
    # Pleural air reaches a centimetre under the dome's border, into the vault, and is replaced there too.
    under = np.clip(6 * ndimage.gaussian_filter(lung.mask.astype(np.float32), 0.02 * lung.height), 0, 1)
    return surface * (0.97 * air + dipped * (1 - air)) * np.maximum(under, full_reach(lung))


def bare(lung: Lung, free: Float) -> bool:
    """Whether the bare air marked in `free` (share 0..1) lies in the pleural space: it then lines more than two
    fifths of the lateral chest wall, which bullae do not."""
    wall = lung.mask & (lung.edge < _WALL) & (lung.u > 0.4)
    return bool((free[wall] > 0.5).mean() > _AIR_AT_WALL) if wall.any() else False


def thickening(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """A faint band of soft tissue along the lateral chest wall, or in a third over the apex, as the editor was
    trained on; `lateral` and `apical` are truer to the chest's round shape."""
    apex = rng.random() < 0.35
    thick = 0.018 + 0.032 * severity
    if apex:
        band = np.exp(-((np.clip(lung.v, 0, 1) / (2.2 * thick)) ** 2))
    else:
        middle, span = 0.45 + 0.3 * rng.random(), 0.16 + 0.16 * severity
        band = (np.exp(-((lung.edge / thick) ** 2)) * np.exp(-(((lung.v - middle) / span) ** 4))
                * smooth_step(lung.u - 0.55, 0.2))
    return band * (0.40 + 0.25 * severity) * (1 + 0.15 * clouds(lung, rng, 9)) * soft_edge(lung, 0.006)


def lateral(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """A rind of 0.5-1.6 cm along the lateral chest wall, a third to two thirds of the lung high, thinning out."""
    middle, span = 0.45 + 0.25 * rng.random(), 0.16 + 0.16 * severity
    along = np.exp(-(((lung.v[:, :1] - middle) / span) ** 4))
    thick = (0.020 + 0.038 * severity) * along * (1 + 0.25 * clouds(lung, rng, 9))
    return (0.90 * _rind(_from_wall(lung), thick) * along).astype(np.float32) * reach(lung)


def apical(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """A cap of 0.5-2 cm over the apex with an uneven lower border."""
    top = np.where(lung.mask, lung.v, np.inf).min(axis=0)
    down = np.where(np.isfinite(top), np.clip(lung.v - np.where(np.isfinite(top), top, 0), 0, 1), 1)
    thick = (0.018 + 0.050 * severity) * (1 + 0.30 * clouds(lung, rng, 14))
    return (0.85 * _rind(down, thick) * smooth_step(0.17 - lung.v[:, :1], 0.08)).astype(np.float32) * reach(lung)


def _from_wall(lung: Lung) -> Float:
    """Distance to the lung's lateral border along the row, lung heights; 1 in rows without lung."""
    wall = np.where(lung.mask, lung.u, -np.inf).max(axis=1, keepdims=True)
    return np.where(np.isfinite(wall), np.clip(np.where(np.isfinite(wall), wall, 0) - lung.u, 0, 1) * lung.aspect, 1)


def _rind(away: Float, thick: Float | float) -> Float:
    """Share of a ray that runs through a rind `thick` inside a round wall, `away` from it (lung heights).

    The ray's chord of the outer circle less that of the inner one; further in, where the plaque would be seen
    face on, it ends.
    """
    e = np.clip(away, 0, _ROUND)
    whole = e * (2 * _ROUND - e)
    inner = np.clip(whole - thick * (2 * _ROUND - thick), 0, None)
    return (1 - np.sqrt(inner / np.maximum(whole, 1e-6))) * np.exp(-((away / np.maximum(3 * thick, 1e-6)) ** 2))


def reach(lung: Lung) -> Float:
    """1 in the lung, falling to 0 just beyond its edge: fluid in the recess lies on the border and leaves no dark
    rim."""
    return np.clip(ndimage.gaussian_filter(lung.mask.astype(np.float32), 0.008 * lung.height), 0, 1)


def full_reach(lung: Lung) -> Float:
    """1 in the lung, falling to 0 within half a centimetre outside it, and on the medial side within 1.4 cm: the
    cavity goes on before and behind the mediastinum, and what fills it whole leaves no dark slit there."""
    soft = np.clip(1.9 * ndimage.gaussian_filter(lung.mask.astype(np.float32), 0.01 * lung.height), 0, 1)
    first = np.where(lung.mask, lung.u, np.inf).min(axis=1, keepdims=True)
    rows = np.isfinite(first)
    beyond = np.clip((np.where(rows, first, 0) - lung.u) * lung.aspect, 0, 1)
    return np.maximum(soft, np.where(rows & (beyond > 0), np.clip((0.052 - beyond) / 0.02, 0, 1), 0)).astype(np.float32)


def _level(severity: float, rng: np.random.Generator) -> float:
    """Height v of the fluid's surface: from an angle just filled to two thirds of the lung."""
    return 1 - (0.14 + 0.46 * severity) * (0.95 + 0.1 * rng.random())
