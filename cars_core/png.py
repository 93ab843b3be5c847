"""Films as PNG bytes, the form the lake keeps them in."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Lossless 8-bit grey PNG; the same pixels give the same bytes on one stack."""
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


def read_png(data: bytes) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W] of a grey PNG."""
    with Image.open(BytesIO(data)) as im:
        return np.asarray(im.convert("L"), np.uint8)
