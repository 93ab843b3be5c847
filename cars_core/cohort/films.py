"""One film: its record at the source, and its pixels made ready for the lake."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cars_core.vectors import Vector

Pixels = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG")  # each decoder left out is one less that a hostile file can reach
MAX_PIXELS = 64_000_000    # a 43 x 35 cm detector at 0.1 mm has 15 million
MIN_SIDE = 64              # pixels; less shows no anatomy
BLANK_RANGE = 16           # grey levels between the 0.5th and 99.5th percentile; a real film spans over 100


class UnusableFilm(Exception):
    """The film cannot be used. The message says why and names neither file nor patient."""


@dataclass(frozen=True)
class Record:
    """What a source says of one film, before anything is keyed.

    `name` and `patient` are the source's identifiers and must not leave ingest. `fault` is why the
    record cannot be used, or None. `where` finds the record at its source (a line), without identifiers.
    `place` is the film's file, for sources of files.
    """

    name: str
    patient: str
    line: int | None
    vector: Vector
    sex: str | None
    age: int | None
    view: str | None
    licence: str
    where: str
    truth: str | None = None
    place: Path | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Film:
    """A normalised film: `png` holds 8-bit gray pixels [height, width]; `image_id` names the decoded
    pixels they came from. `blank` where the film shows nothing."""

    png: bytes
    image_id: str
    width: int
    height: int
    blank: bool


def decode(path: Path) -> Pixels:
    """Decode a PNG or JPEG to gray, uint8 [H, W], 0..255.

    Colours become luma (ITU-R 601-2; exact for gray stored as RGB), alpha is dropped: NIH's RGBA films
    carry the film in their colours. 16-bit films are stretched from their own minimum..maximum to
    0..255, since their containers rarely use all their bits. An EXIF orientation is applied.

    Raises:
        UnusableFilm: missing, not PNG or JPEG, truncated or damaged, over 64 million pixels or under
            64 on a side.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged by MAX_PIXELS instead
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnusableFilm(f"image has over {MAX_PIXELS // 1_000_000} million pixels")
                image.load()
                return _gray(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UnusableFilm("image is missing") from None
    except Image.DecompressionBombError:
        raise UnusableFilm(f"image has over {MAX_PIXELS // 1_000_000} million pixels") from None
    except UnidentifiedImageError:
        raise UnusableFilm("image is not a PNG or JPEG") from None
    # what Pillow's readers raise on damaged files; their texts may hold the path, so they are not passed on
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error):
        raise UnusableFilm("image is truncated or damaged") from None


def _gray(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        deep = np.asarray(image, dtype=np.float32)
        low, high = float(deep.min()), float(deep.max())
        if high <= low:
            return np.zeros(deep.shape, np.uint8)
        return np.rint((deep - low) * (255 / (high - low))).astype(np.uint8)
    return np.array(image if image.mode == "L" else image.convert("L"), dtype=np.uint8)


def image_id(pixels: Pixels) -> str:
    """sha256 (hex) over the shape and the bytes of decoded pixels, uint8 [H, W]: the same film in
    another file format or under another name has the same id."""
    h = hashlib.sha256(struct.pack("<2q", *pixels.shape))
    h.update(np.ascontiguousarray(pixels).data)
    return h.hexdigest()


def normalise(pixels: Pixels, *, size: int) -> Film:
    """Shrink to a short side of `size` pixels (Lanczos; never enlarged) and encode as PNG.

    Args:
        pixels: uint8 [H, W], 0..255.

    The same pixels give the same bytes on one build of Pillow and zlib: no dates, no text, fixed settings.

    Raises:
        UnusableFilm: a side is under 64 pixels.
    """
    height, width = pixels.shape
    if min(height, width) < MIN_SIDE:
        raise UnusableFilm(f"image is under {MIN_SIDE} pixels on a side")
    image = Image.fromarray(pixels)
    scale = size / min(width, height)
    if scale < 1:
        to = (max(size, round(width * scale)), max(size, round(height * scale)))
        image = image.resize(to, Image.Resampling.LANCZOS)
    low, high = np.percentile(np.asarray(image), (0.5, 99.5))
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return Film(png=out.getvalue(), image_id=image_id(pixels), width=image.width, height=image.height,
                blank=bool(high - low < BLANK_RANGE))
