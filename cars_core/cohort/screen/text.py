"""Text burned into a film: lines of it may hold a name, a date or a hospital, and cannot be taken out of a header.

Found without reading: strokes that stand out from their surroundings by a morphological top-hat, white or black, cut
at half their height; those of like height, stroke width and contrast beside each other are a line. Side letters, a
technologist's initials, a clock and the usual words of a projection (PORTABLE, SEMI-ERECT, liegend) are no identity: a
word of them is told by warping a drawn one onto it (dynamic time warping of its columns). What is found and what is
missed: benchmarks/text.py. Not seen: letters under about 1.2 % of the short side, handwriting, text as dark as what
is round it, outlines without a fill, and a name that looks like a usual word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

Pixels = NDArray[np.uint8]
Float = NDArray[np.float64]

MANY = 7           # characters of a line, besides usual words, that make it suspicious: 8, less one run into the next
_FEW = 3           # letters that a line of a block has at least: names over birth dates
_SHORT_SIDE = 768  # pixels looked at; a stroke of text that anyone could read is then 1 pixel wide or more
_CONTRAST = 36     # grey levels a stroke stands out by, or half of the most near it
_SAME = 16         # grey levels that letters of one line differ by, whatever they lie on
_SURE = 0.50       # likeness, up to 1, from which a word is taken for a usual one: benchmarks/text.py

# Usual words of four letters and more; shorter ones count too little to matter.
USUAL = ("PORTABLE", "SEMI-ERECT", "SEMIERECT", "SEMI", "ERECT", "UPRIGHT", "SUPINE", "STANDING", "SITTING",
         "DECUBITUS", "INSPIRATION", "EXPIRATION", "Bettaufnahme", "liegend", "stehend", "sitzend")


@dataclass(frozen=True)
class Text:
    """What text-like there is on a film.

    Args:
        words: groups of two and more characters in a row, usual words among them.
        area: share of the film's area under the groups' boxes, 0..1.
        suspicious: a line of eight characters or more that are no usual words, or a block of shorter lines.
    """

    words: int
    area: float
    suspicious: bool


@dataclass(frozen=True)
class Line:
    """One line of text: its box in pixels of the film (top, bottom, left, right), the number of characters in it, and
    how many of them belong to no usual word."""

    box: tuple[int, int, int, int]
    characters: int
    unusual: int


def burned_in_text(pixels: Pixels) -> Text:
    """Look for burned-in text on a film, uint8 [H, W], upright or turned by quarters, mirrored or not.

    Raises:
        ValueError: not a plane of pixels.
    """
    lines = text_lines(pixels)
    covered = sum((bottom - top) * (right - left) for top, bottom, left, right in (line.box for line in lines))
    return Text(words=len(lines), area=min(1.0, covered / pixels.size),
                suspicious=any(line.unusual >= MANY for line in lines) or _has_block(lines))


def _has_block(lines: list[Line]) -> bool:
    """Whether lines of one height stand over each other, with more characters than usual marks have."""
    lines = [line for line in lines if line.unusual >= _FEW]
    for line in lines:
        top, bottom, left, right = line.box
        tall = min(bottom - top, right - left)  # a turned line stands on end
        block = 0
        for other in lines:
            t, b, x, r = other.box
            down, across = max(top, t) - min(bottom, b), max(left, x) - min(right, r)
            if (max(down, across) <= 1.2 * tall and min(down, across) < 0
                    and abs(min(b - t, r - x) - tall) <= 0.4 * tall):
                block += other.unusual
        if block > max(MANY, line.unusual):
            return True
    return False


def text_lines(pixels: Pixels) -> list[Line]:
    """The lines of text found on a film, uint8 [H, W], from the top.

    Raises:
        ValueError: not a plane of pixels.
    """
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"a film is a plane of pixels, not an array of shape {pixels.shape}")
    film = _at_size(pixels)
    side = min(film.shape)
    found: list[_Found] = []
    for plane in (film, 255 - film):
        marks = _marks(plane, side)
        for turned in (False, True):
            across = plane.T if turned else plane
            for row in _rows(marks[:, _TURNED] if turned else marks, side):
                characters, unusual = _count(across, row)
                top, bottom, left, right = (int(v) for v in _outline(row))
                box = (left, right, top, bottom) if turned else (top, bottom, left, right)
                found.append((box, _irregular(row), characters, unusual))
    return [Line(_scaled(box, pixels.shape, film.shape), n, unusual) for box, _, n, unusual in sorted(_apart(found))]


_Box = tuple[int, int, int, int]
_Found = tuple[_Box, float, int, int]  # box, irregularity, characters, unusual ones
_TOP, _BOTTOM, _LEFT, _RIGHT, _STROKE, _PEAK, _GREY, _ACROSS, _DOWN = range(9)  # columns of marks
_TURNED = [_LEFT, _RIGHT, _TOP, _BOTTOM, _STROKE, _PEAK, _GREY, _DOWN, _ACROSS]


def _at_size(pixels: Pixels) -> Pixels:
    height, width = pixels.shape
    scale = _SHORT_SIDE / min(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    to = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(to, Image.Resampling.LANCZOS,
                                                                           reducing_gap=2.0))


def _scaled(box: _Box, to: tuple[int, ...], of: tuple[int, ...]) -> _Box:
    y, x = to[0] / of[0], to[1] / of[1]
    return round(box[0] * y), round(box[1] * y), round(box[2] * x), round(box[3] * x)


def _run(plane: Pixels, size: int, pick: Callable[..., Pixels], axis: int) -> Pixels:
    """Least or greatest of `size` neighbours along an axis, in log(size) steps of whole planes (edges repeated)."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (size // 2, size - 1 - size // 2)
    out, have = np.pad(plane, pad, mode="edge"), 1
    while have < size:
        step = min(have, size - have)
        n = out.shape[axis] - step
        out = pick(out[:n], out[step:]) if axis == 0 else pick(out[:, :n], out[:, step:])
        have += step
    return out


def _square(plane: Pixels, size: int, pick: Callable[..., Pixels]) -> Pixels:
    return _run(_run(plane, size, pick, 0), size, pick, 1)


def _marks(plane: Pixels, side: int) -> Float:
    """[n, 9]: box (top, bottom, left, right), stroke width, contrast, brightest grey, and strokes crossed on the way
    across (a row) and down (a column) of each mark brighter than what is round it."""
    size = max(5, round(side * 0.022) | 1)  # strokes up to this width: letters of up to about a tenth of the side
    hat = plane - _square(_square(plane, size, np.minimum), size, np.maximum)
    mask = (hat >= _CONTRAST) & (hat >= _square(hat, max(3, size // 2 | 1), np.maximum) // 2)
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    if not n:
        return np.empty((0, 9))
    inside = np.flatnonzero(labels)
    which = labels.ravel()[inside]
    area, down, across = (np.bincount(which[first], minlength=n + 1)[1:] for first in (
        slice(None), *(_first(labels, axis).ravel()[inside] for axis in (0, 1))))
    peak, grey = np.zeros((2, n + 1), np.uint8)
    np.maximum.at(peak, which, hat.ravel()[inside])
    np.maximum.at(grey, which, plane.ravel()[inside])
    boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in ndimage.find_objects(labels)], float)
    return np.column_stack([boxes, np.minimum(area / down, area / across), peak[1:], grey[1:],
                            across / (boxes[:, 1] - boxes[:, 0]), down / (boxes[:, 3] - boxes[:, 2])])


def _first(labels: NDArray[np.int32], axis: int) -> NDArray[np.bool_]:
    """Where a run of one label begins along an axis."""
    begins = np.ones(labels.shape, bool)
    if axis == 0:
        begins[1:] = labels[1:] != labels[:-1]
    else:
        begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    return begins


def _rows(marks: Float, side: int) -> list[Float]:
    """Marks, [n, 9] each, that stand in a row as letters do, from left to right."""
    height, width = marks[:, _BOTTOM] - marks[:, _TOP], marks[:, _RIGHT] - marks[:, _LEFT]
    marks = marks[(height >= max(4, 0.006 * side)) & (height <= 0.1 * side) & (width <= 6 * height)
                  & (marks[:, _STROKE] <= 0.45 * height + 1)]
    if len(marks) < 2 or len(marks) > 3000:
        return []
    marks = marks[np.lexsort((marks[:, _TOP], marks[:, _LEFT]))]
    top, bottom, left, right, stroke, peak, grey = marks.T[:7]
    height = bottom - top

    def pair(pick: Callable[..., Float], values: Float) -> Float:
        return pick(values[:, None], values)

    taller = pair(np.maximum, height)
    shorter = pair(np.minimum, height)
    gap = pair(np.maximum, left) - pair(np.minimum, right)
    beside = ((pair(np.minimum, bottom) - pair(np.maximum, top) >= 0.6 * shorter) & (taller <= 2 * shorter + 1)
              & (gap <= 1.1 * taller) & (gap >= -0.3 * taller)
              & ((pair(np.minimum, peak) >= 0.6 * pair(np.maximum, peak))
                 | (pair(np.maximum, grey) - pair(np.minimum, grey) <= _SAME))
              & (pair(np.maximum, stroke) <= 2 * pair(np.minimum, stroke) + 0.5))
    n, group = connected_components(beside, directed=False)
    return [row for row in (marks[group == i] for i in range(n)) if len(row) > 1 and _is_line(row)]


def _is_line(row: Float) -> bool:
    """Whether letters of a row stand on one line, have one height, stroke and contrast."""
    top, bottom, left, right, stroke, peak, grey = row.T[:7]
    height = bottom - top
    tall = np.quantile(height, 0.75)
    faint = np.median(peak) < 80  # of bone and lung, too, something stands in a row at times
    if len(row) < 4:
        return bool(not faint and np.ptp(bottom) <= 0.2 * tall + 1 and np.ptp(height) <= 0.4 * tall + 1)
    slope, start = np.polyfit((left + right) / 2, bottom, 1)
    off = np.median(np.abs(bottom - slope * (left + right) / 2 - start)) / tall
    alike = np.std(height) / tall
    return bool(abs(slope) <= 0.1 and off <= (0.05 if faint else 0.1) and alike <= (0.2 if faint else 0.32)
                and np.std(stroke) <= 0.4 * np.mean(stroke)
                and (np.std(peak) <= 0.2 * np.mean(peak) or np.std(grey) <= _SAME)
                and (len(row) >= 6 or not faint))


def _outline(row: Float) -> tuple[float, float, float, float]:
    return row[:, _TOP].min(), row[:, _BOTTOM].max(), row[:, _LEFT].min(), row[:, _RIGHT].max()


def _characters(row: Float) -> int:
    """Letters in a row; those that touch are counted by their width and by the strokes in it."""
    tall = np.quantile(row[:, _BOTTOM] - row[:, _TOP], 0.75)
    wide = (row[:, _RIGHT] - row[:, _LEFT]) / (0.8 * tall)
    return int(np.maximum(1, np.rint(np.minimum(wide, row[:, _ACROSS] / 1.3))).sum())


def _count(plane: Pixels, row: Float) -> tuple[int, int]:
    """(characters, those that belong to no usual word) of a row on the plane it was found on."""
    whole = _characters(row)
    if whole < 4:
        return whole, whole
    tall = np.quantile(row[:, _BOTTOM] - row[:, _TOP], 0.75)
    gaps = row[1:, _LEFT] - np.maximum.accumulate(row[:-1, _RIGHT])
    breaks = np.flatnonzero(gaps > max(0.28 * tall, 1.6 * np.median(gaps))) + 1
    words = np.split(row, breaks) if len(breaks) < 4 else [row]
    counts = [_characters(word) for word in words]
    if max(counts) < 4:  # letters that stand apart, or nothing but short words
        return whole, 0 if _is_usual(plane, row, whole) else whole
    short = sum(n for n in counts if n < 4)
    if short <= 4 and all(n < 4 or _is_usual(plane, word, n) for word, n in zip(words, counts, strict=True)):
        return whole, short
    return whole, whole  # one word that is not usual, and the others may be parts of a name


_ROWS = 12  # pixels of a word's height when it is compared


@cache
def _drawn(word: str) -> Image.Image:
    font = ImageFont.load_default(size=48)
    left, top, right, bottom = (round(v) for v in font.getbbox(word))
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), word, fill=255, font=font)
    return image


def _is_usual(plane: Pixels, row: Float, characters: int) -> bool:
    """Whether a row on its plane (letters bright, or what is between them) is a usual word, mirrored or not."""
    words = [w for w in USUAL if abs(len(w) - characters) <= (len(w) > 5)]
    if not words:
        return False
    top, bottom, left, right = (int(v) for v in _outline(row))
    width = max(_ROWS, min(16 * _ROWS, round((right - left) / (bottom - top) * _ROWS)))
    drawn = np.stack([_stretched(np.asarray(_drawn(w).resize((width, _ROWS), Image.Resampling.BOX))) for w in words])
    for rim in (0, 1):  # a pixel less all round: the outline of outlined letters is not theirs
        patch = Image.fromarray(np.ascontiguousarray(plane[top + rim:bottom - rim, left + rim:right - rim]))
        seen = _stretched(np.asarray(patch.resize((width, _ROWS), Image.Resampling.BILINEAR)))
        if any(_likeness(look, drawn) >= _SURE for look in (seen, 1 - seen, seen[:, ::-1], 1 - seen[:, ::-1])):
            return True
    return False


def _stretched(patch: Pixels) -> Float:
    low, high = np.quantile(patch, (0.1, 0.9))
    return np.clip((patch - low) / max(high - low, 1.0), 0, 1)


def _likeness(seen: Float, drawn: Float) -> float:
    """1 less the squared difference of a patch [h, w] and the drawn word [k, h, w] most like it, columns warped by up
    to 6 % of the width, in units of what unlike patches differ by."""
    width = seen.shape[1]
    cost = ((seen[None, :, :, None] - drawn[:, :, None, :]) ** 2).mean(1)  # [k, w, w]
    reach, skip = max(2, round(0.06 * width)), 0.05
    before = np.full((len(drawn), width + 1), np.inf)
    before[:, 0] = 0
    for i in range(1, width + 1):
        now = np.full_like(before, np.inf)
        first, last = max(1, i - reach), min(width, i + reach)
        now[:, first:last + 1] = cost[:, i - 1, first - 1:last] + np.minimum(
            before[:, first - 1:last], before[:, first:last + 1] + skip)
        for j in range(first, last + 1):
            np.minimum(now[:, j], cost[:, i - 1, j - 1] + now[:, j - 1] + skip, out=now[:, j])
        before = now
    unlike = np.var(seen) + np.var(drawn, axis=(1, 2))
    return float((1 - before[:, -1] / width / np.maximum(unlike, 1e-9)).max())


def _irregular(row: Float) -> float:
    """How much the heights and strokes of a row vary: letters less than what is left between them."""
    height, stroke = row[:, _BOTTOM] - row[:, _TOP], row[:, _STROKE]
    return float(np.std(height) / np.mean(height) + np.std(stroke) / np.mean(stroke))


def _apart(found: list[_Found]) -> list[_Found]:
    """Lines that do not lie over each other. White letters make black marks of the gaps between them: of two lines of
    about one length the more regular is kept, else the longer."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda f: (-_size(f[0]), f)):
        over = [i for i, other in enumerate(kept) if _overlap(one[0], other[0])]
        if not over:
            kept.append(one)
        elif len(over) == 1 and _size(one[0]) >= 0.7 * _size(kept[over[0]][0]):
            fewer = one[2] == one[3] < kept[over[0]][3]  # and no usual word: then to be told more surely
            if one[1] < kept[over[0]][1] * (0.6 if fewer else 1):
                kept[over[0]] = one
    return kept


def _size(box: _Box) -> int:
    return max(box[1] - box[0], box[3] - box[2])


def _overlap(one: _Box, other: _Box) -> bool:
    """Whether half of the smaller box lies in the other."""
    high = min(one[1], other[1]) - max(one[0], other[0])
    wide = min(one[3], other[3]) - max(one[2], other[2])
    areas = [(b[1] - b[0]) * (b[3] - b[2]) for b in (one, other)]
    return high > 0 and wide > 0 and high * wide >= 0.5 * min(areas)
