"""Between a film's grey values and the (relative) log attenuation they display.

Digital radiography shows log attenuation through an S-shaped curve; we take the sigmoid VOI LUT of
DICOM PS3.3 C.11.2.1.3.1. In its normalised unit x, grey = 255 / (1 + exp(-x)), so tissue that adds
attenuation adds to x, and white saturates as it does on a film. On a real film the true curve is
unknown: the unit is then relative, and this is the assumption every overlay makes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

#: Grey values this near black or white carry no invertible information.
_EDGE = 1.5


def to_attenuation(grey: NDArray[np.uint8] | Float) -> Float:
    """Grey 0..255 [...] -> relative log attenuation, float32, about -5..5."""
    g = np.clip(np.asarray(grey, np.float32), _EDGE, 255 - _EDGE) / np.float32(255)
    return np.log(g / (1 - g))


def to_grey(attenuation: Float) -> Float:
    """Relative log attenuation [...] -> grey, float32 in 0..255 (not rounded)."""
    return (255 / (1 + np.exp(-np.asarray(attenuation, np.float32)))).astype(np.float32)


def add_attenuation(grey: NDArray[np.uint8], change: Float) -> NDArray[np.uint8]:
    """Lay a change of attenuation over a film; pixels where it is zero keep their grey, bit for bit."""
    out = np.rint(to_grey(to_attenuation(grey) + change)).astype(np.uint8)
    return np.where(change == 0, grey, out)
