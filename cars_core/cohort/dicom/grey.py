"""Stored values of a DICOM film to greys as a reader sees them (PS3.3 C.11, PS3.4 N.2).

A film has at most 65,536 different stored values, so everything is worked out once a value, in a table, and the film
is one look-up: exact, and faster than arithmetic on pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cars_core.cohort.dicom.elements import Elements
from cars_core.cohort.dicom.frame import Codes, Frame
from cars_core.cohort.films import counted, look_up, spread

Table = NDArray[np.float64]

CLIPPED = 0.95  # a window that leaves more than this at one end is a wrong one
_SAMPLE = 4     # every fourth row and column tells whether a window is wrong


def shades(frame: Frame, elements: Elements, *, bits: int) -> Codes:
    """The film's greys, uint8 or uint16 [H, W], 0 black, the whole range used by the film's own window.

    Modality LUT or rescale; then the first VOI LUT, else the first window (LINEAR, LINEAR_EXACT, SIGMOID), else, and
    where that would leave over 95 % of the film at one end, the 0.5th to 99.5th percentile. Values of 8 bits without
    a window are greys already. MONOCHROME1 is inverted.
    Presentation LUT Shape is not looked at: in an image it is INVERSE with MONOCHROME1 and IDENTITY with MONOCHROME2
    (PS3.3 C.8.11.3), one inversion said twice. Padding is black.

    Args:
        bits: 8 or 16.
    """
    top = 255 if bits == 8 else 65_535
    if frame.colour:
        return frame.codes if bits == 8 else frame.codes.astype(np.uint16) * np.uint16(257)
    values = _values(frame.bits, signed=frame.signed)
    padding = _padding(frame, elements, values)
    seen = counted(frame.codes[::_SAMPLE, ::_SAMPLE], values.size)
    if padding is not None:
        if seen[padding].sum() > CLIPPED * seen.sum():
            padding = None
        else:
            seen[padding] = 0
    stored = _modality(values, elements)
    grey = _voi(stored, elements)
    if grey is None and frame.bits == 8:  # greys already, as in a PNG
        grey = np.clip((values - values.min()) / 255, 0, 1)
    elif grey is None or max(seen[grey <= 0].sum(), seen[grey >= 1].sum()) > CLIPPED * seen.sum():
        grey = _percentiles(stored, frame.codes, padding)
    if inverted(elements):
        grey = 1 - grey
    if padding is not None:
        grey[padding] = 0
    table = np.rint(grey * top)
    return look_up(table.astype(np.uint8), frame.codes) if bits == 8 else look_up(table.astype(np.uint16), frame.codes)


def inverted(elements: Elements) -> bool:
    """Whether the lowest stored value is to be shown white."""
    return elements.word("PhotometricInterpretation") == "MONOCHROME1"


def canonical(frame: Frame, elements: Elements) -> Codes:
    """Stored values at their full depth, lowest value 0, low for dark: the same film has the same, whatever its window,
    its sign and its photometric interpretation."""
    flip = 1 << (frame.bits - 1) if frame.signed else 0
    if inverted(elements):
        flip ^= (1 << frame.bits) - 1
    return frame.codes ^ frame.codes.dtype.type(flip) if flip else frame.codes


def _values(bits: int, *, signed: bool) -> Table:
    """What each code stands for."""
    codes = np.arange(1 << bits, dtype=np.float64)
    if signed:
        codes[1 << (bits - 1):] -= 1 << bits
    return codes


def _padding(frame: Frame, elements: Elements, values: Table) -> NDArray[np.bool_] | None:
    """Which codes are padding (PS3.3 C.7.5.1.1.2); None where none are, or the value is no stored value."""
    low = elements.integers("PixelPaddingValue", signed=frame.signed)
    if not low:
        return None
    high = elements.integers("PixelPaddingRangeLimit", signed=frame.signed) or low
    which: NDArray[np.bool_] = (values >= min(low[0], high[0])) & (values <= max(low[0], high[0]))
    return which if which.any() else None


def _modality(values: Table, elements: Elements) -> Table:
    for item in elements.items("ModalityLUTSequence")[:1]:
        lut = _lut(item, elements, signed=elements.integer("PixelRepresentation") == 1)
        if lut is not None:
            return _looked_up(lut, values)
    slope, intercept = elements.numbers("RescaleSlope"), elements.numbers("RescaleIntercept")
    if slope and intercept and slope[0]:
        return values * slope[0] + intercept[0]
    return values


def _voi(stored: Table, elements: Elements) -> Table | None:
    """Greys 0..1 of modality values; None where the file says nothing usable."""
    signed = elements.integer("PixelRepresentation") == 1 and not elements.items("ModalityLUTSequence")
    for item in elements.items("VOILUTSequence")[:1]:
        lut = _lut(item, elements, signed=signed)
        if lut is not None and lut[0].max() > lut[0].min():
            # Many tables fill fewer bits than their descriptor says; the highest entry tells how many.
            return _looked_up(lut, stored) / ((1 << int(lut[0].max()).bit_length()) - 1)
    centers, widths = elements.numbers("WindowCenter"), elements.numbers("WindowWidth")
    if not centers or not widths:
        return None
    center, width = centers[0], widths[0]
    function = elements.word("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (stored - center) / width, -500, 500))))
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((stored - center) / width + 0.5, 0, 1)
    if function == "LINEAR" and width > 1:
        return np.clip((stored - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    return None


def _percentiles(stored: Table, codes: Codes, padding: NDArray[np.bool_] | None) -> Table:
    count = counted(codes, stored.size)
    if padding is not None and count[~padding].any():
        count[padding] = 0
    order = np.argsort(stored, kind="stable")
    low, high = spread(count[order], stored[order])
    if high <= low:
        there = stored[count > 0]
        low, high = there.min(), there.max()
    return np.clip((stored - low) / (high - low), 0, 1) if high > low else np.zeros_like(stored)


def _lut(item: Elements, elements: Elements, *, signed: bool) -> tuple[Table, int] | None:
    """(entries, the value the first one is for) of a LUT item; None where it does not hold what it says."""
    n, _, depth = [*item.integers("LUTDescriptor"), 0, 0, 0][:3]
    n = n or 65_536
    first = item.integers("LUTDescriptor", signed=signed)[1:2]
    data = item.value("LUTData")
    if not first or not 8 <= depth <= 16 or len(data) < n:
        return None
    if len(data) < 2 * n:  # entries of 8 bits may be packed two to a word
        entries = np.frombuffer(data, np.uint8, n) if depth == 8 else None
    else:
        entries = np.frombuffer(data, "<u2" if elements.little else ">u2", n)
    return None if entries is None else (entries.astype(np.float64), first[0])


def _looked_up(lut: tuple[Table, int], values: Table) -> Table:
    entries, first = lut
    return entries[np.clip(np.rint(values - first), 0, entries.size - 1).astype(np.intp)]
