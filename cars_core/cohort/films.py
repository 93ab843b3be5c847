"""One film: its record at the source, and its pixels made ready for the lake."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]
Deep = NDArray[np.uint16]
Level = TypeVar("Level", np.uint8, np.uint16)

FORMATS = ("PNG", "JPEG")  # each decoder left out is one less that a hostile file can reach
MAX_PIXELS = 64_000_000    # a 43 x 35 cm detector at 0.1 mm has 15 million
MAX_BYTES = 256 << 20      # of a file; 64 million pixels of 16 bits are half of that
MIN_SIDE = 64              # pixels; less shows no anatomy

_DAMAGED = "image is truncated or damaged"
_TOO_LARGE = f"image has over {MAX_PIXELS // 1_000_000} million pixels"


class UnusableFilm(Exception):
    """The film cannot be used. The message says why and names neither file nor patient."""


@dataclass(frozen=True)
class Film:
    """A normalised film: `png` holds gray pixels [height, width] of 8 or 16 bits; `image_id` names the decoded pixels
    they came from."""

    png: bytes
    image_id: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """A film as it was decoded.

    `pixels` are gray [H, W], uint8 or uint16, 0 black, lungs dark. `image_id` is of the values at their full depth
    before any window or stretch, so that one film has one id whatever depth it is asked for. `spacing_mm` lies
    between rows and between columns. `view` and `header` (of the names in dicom.read.HEADER) hold only values from
    closed lists and numbers; both are empty for PNG and JPEG.
    """

    pixels: Pixels | Deep
    image_id: str
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    header: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> bytes:
    """The bytes of a film's file.

    Raises:
        UnusableFilm: missing, not a regular file, over 256 MiB (which is known before it is read), unreadable.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise UnusableFilm("image is not a regular file")
        if info.st_size > MAX_BYTES:
            raise UnusableFilm(f"file is over {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableFilm("image is missing") from None
    except OSError:
        raise UnusableFilm("file cannot be read") from None


def decode(path: Path) -> Pixels:
    """Decode a PNG or JPEG to gray, uint8 [H, W], 0..255.

    Colours become luma (ITU-R 601-2; exact for gray stored as RGB), alpha is dropped: NIH's RGBA films
    carry the film in their colours. 16-bit films are stretched from their own minimum..maximum to
    0..255, since their containers rarely use all their bits. An EXIF orientation is applied.

    Raises:
        UnusableFilm: missing, not PNG or JPEG, truncated or damaged, over 64 million pixels or 256 MiB.
    """
    return _to_8(_raster(read(path)))


def decode_bytes(data: bytes, *, bits: int = 8, dicom: bool = False) -> Decoded:
    """Decode a PNG, JPEG or DICOM file, told apart by what is in it.

    PNG and JPEG become gray as `decode` has it; DICOM is read by dicom.read.decode_dicom. At 16 bits a film that has 8
    is multiplied by 257, and one that has more keeps them: a PNG stretched from its own minimum..maximum to 0..65535,
    a DICOM from its window.

    Args:
        bits: 8 (uint8) or 16 (uint16).
        dicom: what is neither PNG nor JPEG is read as a DICOM data set without preamble.

    Raises:
        UnusableFilm: none of these, truncated or damaged, over 64 million pixels or 256 MiB; for DICOM also as
            dicom.read.decode_dicom.
    """
    if bits not in (8, 16):
        raise ValueError("bits is 8 or 16")
    if len(data) > MAX_BYTES:
        raise UnusableFilm(f"file is over {MAX_BYTES >> 20} MiB")
    raster = data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8"))
    if not raster and (dicom or data[128:132] == b"DICM"):
        from cars_core.cohort.dicom.read import decode_dicom  # pydicom and GDCM are loaded where there is DICOM
        return decode_dicom(data, bits=bits)
    values = _raster(data)
    return Decoded(pixels=_to_8(values) if bits == 8 else _to_16(values), image_id=image_id(values))


def colours(data: bytes) -> Pixels | None:
    """uint8 [H, W, 3] of a PNG or JPEG in colour that `decode_bytes` could read; None for one in gray, or a DICOM."""
    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if len(image.getbands()) < 3:
                return None
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _raster(data: bytes) -> Pixels | Deep:
    """Gray values of a PNG or JPEG as they are stored, uint8 or uint16 [H, W]."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged by MAX_PIXELS instead
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnusableFilm(_TOO_LARGE)
                image.load()
                return _gray(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise UnusableFilm(_TOO_LARGE) from None
    except UnidentifiedImageError:
        raise UnusableFilm("image is not a PNG or JPEG") from None
    # what Pillow's readers raise on damaged files; their texts may hold values, so they are not passed on
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error):
        raise UnusableFilm(_DAMAGED) from None


def _gray(image: Image.Image) -> Pixels | Deep:
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    return np.array(image if image.mode == "L" else image.convert("L"), dtype=np.uint8)


def _to_8(values: Pixels | Deep) -> Pixels:
    if values.dtype == np.uint8:
        return cast(Pixels, values)
    return look_up(_stretch(values, 255).astype(np.uint8), values)


def _to_16(values: Pixels | Deep) -> Deep:
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    return look_up(_stretch(values, 65_535).astype(np.uint16), values)


def _stretch(values: Pixels | Deep, top: int) -> NDArray[np.float64]:
    """Table of whole numbers 0..top for each value up to the highest, from the values' own minimum..maximum."""
    low, high = int(values.min()), int(values.max())
    if high <= low:
        return np.zeros(high + 1)
    return np.rint((np.arange(high + 1) - low) * (top / (high - low))).clip(0)


def look_up(table: NDArray[Level], values: Pixels | Deep) -> NDArray[Level]:
    """table[values], a band of rows at a time, for numpy makes 8 bytes of every index; values [H, W]."""
    out = np.empty(values.shape, table.dtype)
    for rows in bands(values):
        np.take(table, values[rows], out=out[rows], mode="clip")
    return out


def counted(values: Pixels | Deep, levels: int) -> NDArray[np.int64]:
    """How often each of 0..levels - 1 is there, a band of rows at a time; values [H, W]."""
    total = np.zeros(levels, np.int64)
    for rows in bands(values):
        total += np.bincount(values[rows].reshape(-1), minlength=levels)
    return total


def bands(values: Pixels | Deep) -> Iterator[slice]:
    """Slices of rows, about a quarter of a million values each."""
    height, width = values.shape
    step = max(1, (1 << 18) // max(width, 1))
    return (slice(at, at + step) for at in range(0, height, step))


def image_id(pixels: Pixels | Deep) -> str:
    """sha256 (hex) over the shape and the bytes (little endian) of decoded pixels, uint8 or uint16 [H, W]: the same
    film in another file format or under another name has the same id."""
    h = hashlib.sha256(struct.pack("<2q", *pixels.shape))
    h.update(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).data)
    return h.hexdigest()


def normalise(film: Decoded | Pixels | Deep, *, size: int, bits: int = 8) -> Film:
    """Shrink to a short side of `size` pixels (Lanczos; never enlarged) and encode as gray PNG.

    Args:
        film: uint8 or uint16 [H, W], bare or as decoded; bare pixels are named by their own id.
        bits: 8 or 16, of the PNG; pixels of the other depth are brought to it.

    The same pixels give the same bytes on one build of Pillow and zlib: no dates, no text, fixed settings.

    Raises:
        UnusableFilm: a side is under 64 pixels.
    """
    pixels, name = (film.pixels, film.image_id) if isinstance(film, Decoded) else (film, None)
    height, width = pixels.shape
    if min(height, width) < MIN_SIDE:
        raise UnusableFilm(f"image is under {MIN_SIDE} pixels on a side")
    scale = size / min(width, height)
    to = (max(size, round(width * scale)), max(size, round(height * scale))) if scale < 1 else (width, height)
    small = _shrunk(pixels, to)
    deep = small.dtype != np.uint8
    if bits == 16 and not deep:
        small = _to_16(small)
    elif bits == 8 and deep:
        small = np.rint(small / 257).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).save(out, "PNG", compress_level=6)
    return Film(png=out.getvalue(), image_id=name or image_id(pixels), width=to[0], height=to[1])


def _shrunk(pixels: Pixels | Deep, to: tuple[int, int]) -> Pixels | Deep:
    """Pixels of the same depth, `to` (width, height) by Lanczos; as they are where that is their size."""
    height, width = pixels.shape
    if to == (width, height):
        return pixels
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(to, Image.Resampling.LANCZOS))
    # Pillow's 16-bit images know no Lanczos; its floats do, and are clipped to the range as its bytes are
    shrunk = np.asarray(Image.fromarray(pixels).convert("F").resize(to, Image.Resampling.LANCZOS))
    return np.rint(np.clip(shrunk, 0, 65_535)).astype(np.uint16)


def spread(counts: NDArray[np.int64], levels: NDArray[Any]) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile of values of which `counts[i]` are `levels[i]` (rising), as numpy.percentile
    interpolates them."""
    up_to = np.cumsum(counts)
    last = int(up_to[-1]) - 1
    out = []
    for share in (0.005, 0.995):
        at = share * last
        low, high = levels[np.searchsorted(up_to, [int(at), min(int(at) + 1, last)], side="right")]
        out.append(float(low) + (float(high) - float(low)) * (at - int(at)))
    return out[0], out[1]
