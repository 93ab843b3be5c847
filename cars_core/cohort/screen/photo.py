"""Photographs of films, by a phone from a light box or a screen; and films that show nothing.

Three signs of a photograph, none of which a film has: colour over a good part of the picture; a bright field in dark
surroundings whose straight edges converge, as a plane's do in perspective (a field merely turned is a skew scan or
collimation); and moire, a regular pattern off both axes. Uneven light and noise are no signs: films have both. What is
found and what is missed: benchmarks/text.py. Not seen: a grey photograph without moire, taken square on or cropped to
the film. A film scanned in colour with a tint of its own counts as a photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Float = NDArray[np.float64]

BLANK_RANGE = 16    # grey levels between percentiles; a real film spans over 100
COLOURED = 0.25     # share of pixels with colour; coloured arrows and stamps cover less
CONVERGE = 2.0      # degrees between opposite edges of the field
DARK = 0.15         # share of the picture outside the field
MOIRE = 4.5         # natural logarithm of a peak of the power spectrum over what is usual at its frequency
_CHROMA = 16        # grey levels between the strongest and the weakest channel: JPEG's chroma stays under this on grey
_AMPLITUDE = 0.7    # grey levels a wave has at least: full-size scans hold resampling's waves of less, unseen
_SIDE = 256         # pixels of the short side where edges are fitted
_CENTRE = 512       # pixels of the middle where moire is looked for, unscaled: shrinking would take it away


@dataclass(frozen=True)
class Photo:
    """What speaks for a photograph.

    Args:
        photograph: whether one of the signs is clear.
        colour: share of pixels with colour, 0..1; 0 where the picture is grey.
        converge: degrees between opposite edges of a bright field, 0 where none has straight edges.
        dark: share of the picture outside the field.
        moire: the strongest peak of the spectrum off the axes, over what is usual at its frequency, natural logarithm.
    """

    photograph: bool
    colour: float
    converge: float
    dark: float
    moire: float


def is_photograph(pixels: Pixels) -> Photo:
    """Judge a picture, uint8 [H, W] or, so that colour can be seen, [H, W, 3].

    Raises:
        ValueError: another shape.
    """
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"a picture is [H, W] or [H, W, 3], not an array of shape {pixels.shape}")
    colour = 0.0
    grey = pixels
    if pixels.ndim == 3:
        small = np.asarray(_shrunk(pixels))
        colour = float((np.ptp(small, axis=2) >= _CHROMA).mean())
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    converge, dark = _field(np.asarray(_shrunk(grey)))
    moire = _moire(grey)
    clear = colour >= COLOURED or moire >= MOIRE or (dark >= DARK and converge >= CONVERGE)
    return Photo(photograph=clear, colour=colour, converge=converge, dark=dark, moire=moire)


def nearly_blank(pixels: Pixels) -> bool:
    """Whether a film, uint8 [H, W], shows nothing: under 16 grey levels between its 0.5th and 99.5th percentile, or
    between the 2nd and 98th of the middle three quarters of each side, so that no marker or border counts as a film.

    Raises:
        ValueError: not a plane of pixels.
    """
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"a film is a plane of pixels, not an array of shape {pixels.shape}")
    height, width = pixels.shape
    middle = pixels[height // 8:height - height // 8, width // 8:width - width // 8]
    return bool(_spread(pixels, 0.5) < BLANK_RANGE or _spread(middle, 2) < BLANK_RANGE)


def _spread(pixels: Pixels, percent: float) -> int:
    """Grey levels between a low and a high percentile."""
    below = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
    low, high = np.searchsorted(below, (below[-1] * percent / 100, below[-1] * (1 - percent / 100)))
    return int(high - low)


def _shrunk(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = _SIDE / min(image.size)
    to = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return image.resize(to, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)


def _field(grey: Pixels) -> tuple[float, float]:
    """(converge, dark) of the bright field in dark surroundings; zeros where its edges are not straight lines.

    From each side of the picture inwards, the first place brighter than the surroundings; a line through these places
    (Theil's slope over pairs half a side apart) that most of them lie on, inside the picture, is an edge.
    """
    low, high = np.percentile(grey, (2, 90))
    bright = grey > low + 0.3 * (high - low)
    inside = np.ones_like(bright)
    edges: list[float | None] = []  # degrees against the picture's side, as seen from left, right, top, bottom
    for turn in (lambda a: a, lambda a: a[:, ::-1], lambda a: a.T, lambda a: a.T[:, ::-1]):
        plane, view = turn(bright), turn(inside)
        edges.append(_edge(plane))
        view &= np.logical_or.accumulate(plane, axis=1)
    if sum(e is not None for e in edges) < 3:
        return 0.0, 0.0
    left, right, top, bottom = edges
    apart = [abs(a + b) for a, b in ((left, right), (top, bottom)) if a is not None and b is not None]
    return max(apart), float(1 - inside.mean())


def _edge(bright: NDArray[np.bool_]) -> float | None:
    """Degrees by which the left edge of what is bright leans, or None where it is no straight line in the picture."""
    n, across = bright.shape
    rows = np.flatnonzero(bright.any(axis=1))
    rows = rows[(rows > 0.1 * n) & (rows < 0.9 * n)]
    if len(rows) < 0.5 * n:
        return None
    first = bright[rows].argmax(axis=1).astype(float)
    half = len(rows) // 2
    slope = float(np.median((first[half:2 * half] - first[:half]) / (rows[half:2 * half] - rows[:half])))
    start = float(np.median(first - slope * rows))
    on = np.abs(first - slope * rows - start) <= 1.5
    # most places on the line, and the line off the picture's own edge
    return float(np.degrees(np.arctan(slope))) if on.mean() >= 0.7 and np.median(first) >= 0.015 * across else None


def _moire(grey: Pixels) -> float:
    """The strongest peak of the power spectrum, off both axes and off the frequencies of JPEG's blocks, over the
    median at its distance from the middle, natural logarithm; 0 for pictures under 64 pixels."""
    height, width = grey.shape
    side = min(_CENTRE, height, width) // 2 * 2
    if side < 64:
        return 0.0
    top, left = (height - side) // 2, (width - side) // 2
    middle = grey[top:top + side, left:left + side].astype(np.float32)
    window = np.hanning(side).astype(np.float32)
    power = np.abs(np.fft.rfft2((middle - middle.mean()) * window[:, None] * window)) ** 2
    power = np.fft.fftshift(power, axes=0)
    order, ends, looked = _rings(side)
    logs = np.log(power + 1.0)
    flat = logs.ravel()[order]
    typical = np.repeat([np.median(ring) for ring in np.split(flat, ends)[:-1]], np.diff(ends, prepend=0))
    seen = flat >= np.log((_AMPLITUDE * side * side / 8) ** 2)  # a wave's peak under the window
    over = np.where(looked & seen, flat - typical, 0.0)
    at = int(over.argmax())
    y, x = divmod(int(order[at]), power.shape[1])
    lone = flat[at] - max(_near(logs, y=side // 2 + (y - side // 2) * f, x=x * f) for f in (0.85, 1.15))
    return float(min(over[at], max(0.0, lone + 1.5)))  # 1.5: of 25 frequencies without a peak the strongest is so high


def _near(logs: NDArray[np.floating], *, y: float, x: float) -> float:
    """The greatest of 5 x 5 places round one. An edge has a streak through the middle, moire a peak by itself."""
    top, left = max(0, round(y) - 2), max(0, round(x) - 2)
    part = logs[top:top + 5, left:left + 5]
    return float(part.max()) if part.size else 0.0


@lru_cache(maxsize=4)
def _rings(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Places of a half spectrum [side, side / 2 + 1] in the order of their frequency, the ends of rings 1/128 of a
    cycle a pixel wide in that order, and which places may hold moire, in that order."""
    y, x = np.fft.fftshift(np.fft.fftfreq(side))[:, None], np.fft.rfftfreq(side)[None]
    ring = (np.hypot(y, x) * 128).astype(int).ravel()
    order = np.argsort(ring, kind="stable")
    ends = np.cumsum(np.unique(ring, return_counts=True)[1])
    blocks = (np.abs(y - np.rint(y * 8) / 8) < 1.6 / side) & (np.abs(x - np.rint(x * 8) / 8) < 1.6 / side)
    looked = (np.hypot(y, x) > 0.06) & (np.abs(y) > 0.02) & (x > 0.02) & (np.abs(y) < 0.49) & (x < 0.49) & ~blocks
    return order, ends, looked.ravel()[order]
