"""Where an edit may change a film: masks that follow the finding, placed by this patient's anatomy.

An *insertion* is given the reach of the finding's own model at the drawn place, size and side, slightly
widened. A *deletion* is given the part of the lung where such a finding lies, since the label does not
say where: the editor finds it there. Round the edit lies a free band that may adapt; the rest is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.findings.frame import lung_frame
from cars_core.phantom.findings.overlay import cover
from cars_core.phantom.placed import UNSIDED, Placed
from schemas.errors import BadInput

#: A lung this much darker than the other (display units of attenuation) is the clear one.
CLEARER = 0.3

#: Part of `edit_id`: change it when the same operation gets another mask.
POLICY = "regions-3"

#: Values of a mask picture.
EDIT, BAND, KEEP = 255, 128, 0

# Heights of the lung (0 apex, 1 base) between which a finding of unknown place is looked for.
_LOOK_FOR = {"effusion": (0.3, 1.2), "atelectasis": (0.4, 1.2)}


@dataclass(frozen=True)
class Pass:
    """One pass of the editor: one operation on one side."""

    kind: str
    finding: str
    side: str
    severity: float
    seed: int

    @property
    def placed(self) -> Placed:
        """The finding an insertion asks for."""
        return Placed(self.finding, self.side, self.severity, self.seed)


def grow(mask: Mask, pixels: float) -> Mask:
    """Dilate by a round reach of `pixels`."""
    if pixels < 1 or not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= pixels, bool)


def passes(operations: list[dict[str, object]], seed: int) -> list[Pass]:
    """Operations in the order they are carried out: deletions first, one side at a time.

    Everything drawn later is a function of the pass's seed alone.
    """
    from cars_core.digest import seed_from

    out = []
    for op in sorted(operations, key=lambda o: (o["kind"] != "delete", str(o["finding"]))):
        whole = op["kind"] == "insert" and op["finding"] in UNSIDED
        sides = ("left", "right") if op["side"] == "both" and not whole else (str(op["side"]),)
        out += [
            Pass(
                str(op["kind"]),
                str(op["finding"]),
                side,
                float(op["severity"]),  # type: ignore[arg-type]
                seed_from(seed, op["kind"], op["finding"], side),
            )
            for side in sides
        ]
    return out


def edit_region(step: Pass, anatomy: Anatomy) -> Mask:
    """Pixels one pass may repaint, bool [H, W].

    Raises:
        BadInput: the anatomy cannot hold the finding, or the region comes out empty.
    """
    height = anatomy.lungs.shape[0]
    if step.kind == "insert":
        reach = cover(step.placed, anatomy)
        region = grow(_main_parts(reach > 0.05), (0.03 if step.finding == "cardiomegaly" else 0.012) * height)
    else:
        lung = lung_frame(anatomy, step.side)
        low, high = _LOOK_FOR.get(step.finding, (-0.1, 1.2))
        region = grow(lung.mask, 0.015 * height) & (lung.v >= low) & (lung.v <= high)
    if not region.any():
        raise BadInput(f"{step.kind} {step.finding}", "an empty edit mask", "a region inside the film's lungs")
    return region


def likely_sides(attenuation: NDArray[np.float32], finding: str, anatomy: Anatomy) -> tuple[str, ...]:
    """Sides on which a finding that adds tissue may lie: both, unless one lung is clearly the clearer.

    Compared is the median attenuation [H, W] of where such a finding lies, the heart left out. A label does
    not say where a finding is, and clearing a lung that never held it would do harm.
    """
    levels = {}
    for side in ("left", "right"):
        region = edit_region(Pass("delete", finding, side, 0.5, 0), anatomy) & anatomy.lung(side) & ~anatomy.heart
        if not region.any():
            return ("left", "right")
        levels[side] = float(np.median(attenuation[region]))
    if abs(levels["left"] - levels["right"]) < CLEARER:
        return ("left", "right")
    return (max(levels, key=lambda side: levels[side]),)


def _main_parts(mask: Mask, share: float = 0.05) -> Mask:
    """Drop specks: parts smaller than `share` of the largest."""
    labels, n = ndimage.label(mask)
    if n < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[labels] & mask, bool)


def mask_picture(region: Mask) -> NDArray[np.uint8]:
    """Edit region -> mask picture uint8 [H, W]: 255 edit, 128 free band (2 % of the film's height), 0 keep."""
    band = grow(region, max(2.0, 0.02 * region.shape[0])) & ~region
    return np.where(region, EDIT, np.where(band, BAND, KEEP)).astype(np.uint8)


def crop_box(mask: NDArray[np.uint8], *, margin: float = 0.2, least: float = 0.22) -> tuple[int, int, int]:
    """Square (top, left, size) around a mask's edit and band with `margin`, at least `least` of the film's
    height; it may reach over the film's edge."""
    rows, cols = np.flatnonzero((mask > 0).any(axis=1)), np.flatnonzero((mask > 0).any(axis=0))
    h, w = rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    size = round(max(max(h, w) * (1 + 2 * margin), least * mask.shape[0]))
    return round((rows[0] + rows[-1] + 1 - size) / 2), round((cols[0] + cols[-1] + 1 - size) / 2), size
