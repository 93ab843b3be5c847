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
    """Pixels uint8 [H, W] of a grey PNG; of one with 16 bits the upper 8."""
    with Image.open(BytesIO(data)) as im:
        return np.asarray(eight_bits(im).convert("L"), np.uint8)


def eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture as its upper 8 bits; any other as it is. Pillow's own conversion would clip at 255."""
    if not image.mode.startswith("I;16") and image.mode != "I":
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
