"""What is measured on one edited film against its source.

Grey levels are 8-bit display values: brighter is denser (MONOCHROME2). A region that does not exist
(no kept pixel, no lung found) gives NaN, never a number that would pass.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cars_core.anatomy.masks import Anatomy, Mask, cardiothoracic_ratio, dice
from schemas.errors import BadInput
from schemas.tables import MEASURES

Grey = NDArray[np.uint8]

EDIT, BAND, KEEP = 255, 128, 0
WINDOW, SIGMA = 11, 1.5
PSNR_CAP = 120.0     # dB, given to identical pixels; one pixel off by one in 1024 x 1024 is 108 dB
TOUCHING = np.ones((3, 3), dtype=bool)  # pixels that meet at a corner are one region: a drain is thin and oblique
REGION_SHARE = 0.1   # a contiguous region under this share of the largest one has no effect of its own
TOP_SHARE = 0.1      # the most-changed share of a region that its effect is read from


@lru_cache(maxsize=4)
def _gaussian(dtype: torch.dtype) -> Tensor:
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    w = torch.exp(-0.5 * (x / SIGMA) ** 2)
    return (w / w.sum()).to(dtype)


def ssim_map(a: Tensor, b: Tensor, *, data_range: float = 255.0) -> Tensor:
    """Local structural similarity of two batches of films, one value a window wholly inside the film.

    Wang, Bovik, Sheikh and Simoncelli 2004 (doi:10.1109/TIP.2003.819861), equation 13: gaussian window
    of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance. Differentiable.

    Args:
        a, b: float32 or float64 [B, 1, H, W] of one dtype, H and W at least 11.
        data_range: span of the values, 255 for 8-bit grey levels.

    Returns:
        [B, 1, H - 10, W - 10], same dtype, -1..1; value (i, j) is of the window centred at
        (i + 5, j + 5). Its mean over a film is that film's SSIM.

    Raises:
        BadInput: other shapes or dtypes, or a span that is not positive.
    """
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 1:
        raise BadInput("ssim_map", f"{tuple(a.shape)} and {tuple(b.shape)}", "two batches [B, 1, H, W] of one shape")
    if min(a.shape[2:]) < WINDOW:
        raise BadInput("ssim_map", tuple(a.shape[2:]), f"films of at least {WINDOW} x {WINDOW} pixels")
    if a.dtype != b.dtype or a.dtype not in (torch.float32, torch.float64):
        raise BadInput("ssim_map", f"{a.dtype} and {b.dtype}", "float32 or float64, the same for both")
    if not data_range > 0:
        raise BadInput("ssim_map: data_range", data_range, "a positive span")
    # Equation 13 rearranged about the difference d = x - y: 2 mx my = mx^2 + my^2 - md^2 and
    # 2 cov = var_x + var_y - var_d. One map fewer, and float32 stays within 1e-4 in every window where
    # the textbook form does not (near-uniform dark ones). Squares are about mid-range for the same reason.
    middle = data_range / 2
    x, y = a - middle, b - middle
    total, difference = x + y, x - y
    maps = torch.cat([total, difference, x * x + y * y, difference * difference], dim=1)
    # One grouped, separable pass over the maps: 9 times faster on a CPU than the maps as a batch.
    w = _gaussian(a.dtype).to(a.device)
    maps = F.conv2d(maps, w.view(1, 1, WINDOW, 1).expand(4, 1, WINDOW, 1), groups=4)
    maps = F.conv2d(maps, w.view(1, 1, 1, WINDOW).expand(4, 1, 1, WINDOW), groups=4)
    m_total, m_difference, power, power_difference = maps.split(1, dim=1)
    mx, my = (m_total + m_difference) / 2, (m_total - m_difference) / 2
    variances = power - mx * mx - my * my
    var_difference = power_difference - m_difference * m_difference
    mx, my = mx + middle, my + middle
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = 1 - m_difference * m_difference / (mx * mx + my * my + c1)
    return luminance * (1 - var_difference / (variances + c2))


def measure(*, source: Grey, edit: Grey, mask: Grey, source_anatomy: Anatomy,
            edit_anatomy: Anatomy) -> dict[str, float]:
    """Measure an edit against its source.

    Args:
        source, edit: uint8 [H, W] grey levels, at least 11 x 11.
        mask: uint8 [H, W]: 255 edit, 128 free band, 0 keep.
        source_anatomy, edit_anatomy: lungs and heart found on each, bool [H, W].

    Returns:
        The names of `schemas.tables.MEASURES`:
        psnr_outside: dB over the kept pixels; 120 when they are identical.
        ssim_outside: mean SSIM, -1..1, over the windows that lie wholly in the kept region (a window
        that looks into the edit would blame the kept pixels for it).
        ssim_whole: mean SSIM over the film.
        kept_changed: number of kept pixels that differ.
        seam: see `seam`. effect: see `effect`. Both in grey levels. grain: see `grain`.
        dice_left_lung, dice_right_lung, dice_lungs: overlap of the lungs before and after, 0..1; NaN
        where neither film has that lung.
        ctr_source, ctr_edit: cardiothoracic ratio, 0..1; NaN where no heart or no lung was found.

    Raises:
        BadInput: shapes or dtypes that differ from these, or another value in the mask.
    """
    _check(source, edit, mask, source_anatomy, edit_anatomy)
    kept = mask == KEEP
    similarity = ssim_map(_batch(source), _batch(edit))[0, 0].numpy()
    change = edit.astype(np.int16) - source.astype(np.int16)
    before, after = source_anatomy, edit_anatomy
    found = {
        "psnr_outside": _psnr(change[kept]),
        "ssim_outside": _mean(similarity[_whole_windows(kept)]),
        "ssim_whole": _mean(similarity),
        "kept_changed": float(np.count_nonzero(change[kept])),
        "seam": seam(source, edit, ~kept),
        "effect": effect(change, mask == EDIT),
        "grain": grain(source, edit, mask == EDIT),
        "dice_left_lung": _overlap(before.left_lung, after.left_lung),
        "dice_right_lung": _overlap(before.right_lung, after.right_lung),
        "dice_lungs": _overlap(before.lungs, after.lungs),
        "ctr_source": cardiothoracic_ratio(before),
        "ctr_edit": cardiothoracic_ratio(after),
    }
    return {name: found[name] for name in MEASURES}


def grain(source: Grey, edit: Grey, inside: Mask) -> float:
    """How much fine texture the edit mask holds in the edit, relative to the source: 1 when unchanged.

    Texture is the root mean square of what a Gaussian of 1.5 pixels takes away. Speckle raises it far
    above 1; a blur, or paint laid over the lung, drives it towards 0. Tissue that takes the place of air
    lowers it within reason, since it hides vessels. NaN where the mask is empty or the source is flat.
    """
    def texture(film: Grey) -> float:
        x = film.astype(np.float32)
        fine = (x - ndimage.gaussian_filter(x, 1.5))[inside]
        return float(np.sqrt(np.mean(fine * fine))) if fine.size else math.nan

    before = texture(source)
    return texture(edit) / before if before > 0 else math.nan


def seam(source: Grey, edit: Grey, painted: Mask) -> float:
    """How much harder the border of the painted area (edit and band) is in the edit than in the source.

    Over the 4-neighbour pixel pairs that straddle the border: mean absolute difference across it in
    the edit, less the same in the source. The worst contiguous painted region counts: a soft border
    must not excuse a hard one elsewhere.

    Args:
        source, edit: uint8 [H, W]. painted: bool [H, W].

    Returns:
        Grey levels a pixel; negative where the edit's border is softer. NaN without a border.
    """
    regions, count = ndimage.label(painted, structure=TOUCHING)
    excess, pairs = np.zeros(count + 1), np.zeros(count + 1)
    for ahead, behind in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        across = painted[ahead] != painted[behind]
        # One end of a pair is unpainted (label 0), so the sum is the label of the painted end.
        label = (regions[ahead] + regions[behind])[across]
        step = _step(edit, ahead, behind, across) - _step(source, ahead, behind, across)
        excess += np.bincount(label, weights=step, minlength=count + 1)
        pairs += np.bincount(label, minlength=count + 1)
    bordered = pairs > 0
    return float((excess[bordered] / pairs[bordered]).max()) if bordered.any() else math.nan


def effect(change: NDArray[np.signedinteger], inside: Mask) -> float:
    """Signed change where the edit changed most.

    In each contiguous region of the edit mask: the mean of the change over the tenth of its pixels
    that changed most, so that a small lesion in a large mask still counts while texture painted anew,
    which brightens as much as it darkens, cancels. Of the regions (those at least a tenth as large as
    the largest) the strongest counts, so that the two halves of a swap do not cancel each other.

    Args:
        change: signed integers [H, W], edit less source, grey levels.
        inside: bool [H, W], the edit mask.

    Returns:
        Grey levels, positive where the edit is brighter; NaN with an empty mask.
    """
    regions, count = ndimage.label(inside, structure=TOUCHING)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    strongest = math.nan
    for label, box in enumerate(ndimage.find_objects(regions), start=1):
        if sizes[label - 1] < REGION_SHARE * sizes.max():
            continue
        mean = _mean_of_strongest(change[box][regions[box] == label])
        if math.isnan(strongest) or abs(mean) > abs(strongest):
            strongest = mean
    return strongest


def _mean_of_strongest(values: NDArray[np.signedinteger]) -> float:
    top = max(1, math.ceil(TOP_SHARE * values.size))
    size = np.abs(values)
    least = np.partition(size, values.size - top)[values.size - top]
    above, tied = values[size > least], values[size == least]
    # The last places are shared by all that tie for them, so that nothing hangs on pixel order.
    return float(above.sum() + (top - above.size) * tied.mean()) / top


def _step(film: Grey, ahead: tuple[slice, slice], behind: tuple[slice, slice], at: Mask) -> NDArray[np.float64]:
    return np.abs(film[ahead][at].astype(np.float64) - film[behind][at])


def _whole_windows(kept: Mask) -> Mask:
    """bool [H - 10, W - 10]: the windows without a pixel outside `kept`."""
    r = WINDOW // 2
    # A minimum filter over the window is the erosion by it, and separable, so cheaper.
    eroded: NDArray[np.uint8] = ndimage.minimum_filter(kept.view(np.uint8), size=WINDOW)
    return eroded[r:-r, r:-r] > 0


def _psnr(change: NDArray[np.int16]) -> float:
    if change.size == 0:
        return math.nan
    error = float(np.mean(np.square(change, dtype=np.float64)))
    return PSNR_CAP if error == 0 else min(PSNR_CAP, 10 * math.log10(255**2 / error))


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else math.nan


def _overlap(a: Mask, b: Mask) -> float:
    # Two empty masks overlap perfectly by definition; here they mean that the lung was never found.
    return dice(a, b) if a.any() or b.any() else math.nan


def _batch(film: Grey) -> Tensor:
    return torch.from_numpy(film.astype(np.float32))[None, None]


def _check(source: Grey, edit: Grey, mask: Grey, before: Anatomy, after: Anatomy) -> None:
    if source.ndim != 2 or min(source.shape) < WINDOW:
        raise BadInput("source", source.shape, f"a film [H, W] of at least {WINDOW} x {WINDOW} pixels")
    for name, image in (("source", source), ("edit", edit), ("mask", mask)):
        if image.shape != source.shape or image.dtype != np.uint8:
            raise BadInput(name, f"{image.dtype} {image.shape}", f"uint8 {source.shape}")
    for name, anatomy in (("source", before), ("edit", after)):
        for part in ("left_lung", "right_lung", "heart"):
            found = getattr(anatomy, part)
            if found.shape != source.shape or found.dtype != np.bool_:
                raise BadInput(f"{name}_anatomy.{part}", f"{found.dtype} {found.shape}", f"bool {source.shape}")
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[[EDIT, BAND, KEEP]] = 0
    if counts.any():
        raise BadInput("mask", int(counts.argmax()), f"{EDIT} (edit), {BAND} (free band) or {KEEP} (keep)")
