"""Simulated findings laid over a film of any origin in log attenuation, placed by its lung and heart masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.display import Float, to_attenuation
from cars_core.phantom.findings import opacities
from cars_core.phantom.findings.opacities import OPACITIES, VISIBLE
from cars_core.phantom.placed import Placed
from schemas.errors import BadInput

#: Findings that can be laid over a film by its masks.
OVERLAID = OPACITIES | {"cardiomegaly"}

#: finding, or finding/form -> why it is not laid over a film: what would then show is nowhere on it.
REFUSED: dict[str, str] = {
    "pneumothorax": "the lung would shrink, and the vessels it takes along cannot be lifted off the chest wall behind",
    "emphysema": "the lungs would grow darker and reach lower, over tissue whose inside nobody has seen",
    "atelectasis/lobar": "fissures, dome and heart would move, and what they uncover nobody has seen",
    "hernia": "it lies behind the heart, where a film does not tell how much air there is to displace",
    "fracture": "a broken rib would move, and what lies behind it cannot be told from the rib",
}


def _check(placed: Placed) -> None:
    name = f"{placed.finding}/{placed.form}" if placed.form else placed.finding
    why = REFUSED.get(name) or REFUSED.get(placed.finding)
    if why:
        raise BadInput("overlay on a film", name, f"a finding that can be laid over honestly: with this one {why}")
    if placed.finding not in OVERLAID:
        raise BadInput("simulated finding", placed.finding, "one of " + ", ".join(sorted(OVERLAID)))


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
        BadInput: a finding that cannot be laid over (REFUSED says why), or anatomy too small to place it.
    """
    _check(placed)
    if placed.finding != "cardiomegaly":
        return opacities.cover(placed, anatomy)
    out = np.clip(_cardiomegaly(anatomy, placed.severity), 0, 1)
    out[out < VISIBLE] = 0
    return out


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

    Raises:
        BadInput: as `cover`.
    """
    _check(placed)
    if placed.finding != "cardiomegaly":
        c = opacities.cover(placed, anatomy)
        return (c * air_contrast(grey, anatomy)).astype(np.float32), c > 0
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
    change[change < VISIBLE] = 0
    return change.astype(np.float32), change > 0
