"""Pictures of edits: signed differences, mask outlines, side-by-side strips and contact sheets.

Films are uint8 [H, W]. Masks are uint8 [H, W] as stored: 255 edit, 128 free band, 0 keep.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from scipy import ndimage

from cars_core.png import eight_bits
from cars_core.report.words import operations_words
from schemas.errors import BadInput

U8 = NDArray[np.uint8]

DIFFERENCE_LIMIT = 48
"""Grey levels at which the difference palette is at its full colour."""

# Blue for darker, orange for brighter: told apart under every common colour blindness, of equal lightness at
# equal size, and dark at zero so that an untouched film is a dark panel and the eye goes to what changed.
_ANCHORS = ((-1.0, (176, 214, 255)), (-0.5, (52, 128, 214)), (0.0, (18, 20, 22)), (0.5, (200, 100, 28)),
            (1.0, (255, 205, 140)))
_OUTLINE, _BAND = (255, 214, 10), (255, 255, 255)
_PAPER, _INK, _PANEL = (255, 255, 255), (27, 39, 51), (15, 19, 23)


def decode(data: bytes, *, where: str = "picture") -> U8:
    """Bytes of a PNG or JPEG -> uint8 [H, W].

    Raises:
        BadInput: not a picture, or one of another mode. Of 16 bits of grey the upper 8 are shown.
    """
    return _decoded(data, "L", where)


def decode_rgb(data: bytes, *, where: str = "picture") -> U8:
    """Bytes of a PNG or JPEG -> uint8 [H, W, 3]; raises as `decode`."""
    return _decoded(data, "RGB", where)


def _decoded(data: bytes, mode: str, where: str) -> U8:
    try:
        with Image.open(BytesIO(data)) as stored:
            im = eight_bits(stored)
            if im.mode not in ("L", "1", "P", "RGB", "LA", "RGBA"):
                raise BadInput(where, f"mode {im.mode}", "an 8-bit picture")
            return np.asarray(im.convert(mode))
    except (UnidentifiedImageError, OSError) as e:
        raise BadInput(where, f"{len(data)} bytes", "a PNG or JPEG") from e


def fit(film: U8, limit: int, *, mask: bool = False) -> U8:
    """Shrink to a long side of `limit` px (Lanczos; nearest for masks). A smaller film stays as it is."""
    long = max(film.shape[:2])
    if long <= limit:
        return film
    h, w = (max(1, round(n * limit / long)) for n in film.shape[:2])
    how = Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(film).resize((w, h), how))


@lru_cache(maxsize=8)
def difference_palette(limit: int = DIFFERENCE_LIMIT) -> U8:
    """Colours of differences -limit..limit grey levels, uint8 [2 * limit + 1, 3].

    Raises:
        BadInput: limit outside 1..127.
    """
    if not 1 <= limit <= 127:
        raise BadInput("difference limit", limit, "1..127 grey levels")
    at = np.linspace(-1, 1, 2 * limit + 1)
    stops = [a for a, _ in _ANCHORS]
    return np.stack([np.interp(at, stops, [c[i] for _, c in _ANCHORS]) for i in range(3)], 1).round().astype(np.uint8)


def _difference_index(source: U8, edit: U8, limit: int) -> U8:
    for name, film in (("source", source), ("edit", edit)):
        if film.ndim != 2 or film.dtype != np.uint8:
            raise BadInput(f"difference: {name}", f"{film.dtype} {film.shape}", "uint8 [H, W]")
    if source.shape != edit.shape:
        raise BadInput("difference: edit", edit.shape, f"the source's shape {source.shape}")
    change = edit.astype(np.int16) - source
    return (np.clip(change, -limit, limit) + limit).astype(np.uint8)


def difference_image(source: U8, edit: U8, *, limit: int = DIFFERENCE_LIMIT) -> U8:
    """Edit minus source in a diverging palette, uint8 RGB [H, W, 3].

    Near black: unchanged. Blue: darker in the edit. Orange: brighter. Full colour at +-`limit` grey levels.

    Raises:
        BadInput: not two uint8 films of one shape, or a limit outside 1..127.
    """
    return difference_palette(limit)[_difference_index(source, edit, limit)]


def difference_png(source: U8, edit: U8, *, limit: int = DIFFERENCE_LIMIT) -> bytes:
    """`difference_image` as a palette PNG: lossless, and small where nothing changed."""
    colours = difference_palette(limit)
    im = Image.fromarray(_difference_index(source, edit, limit), mode="P")
    im.putpalette(colours.tobytes())
    return _encoded(im, "PNG", optimize=True)


def mask_outline(mask: U8 | NDArray[np.bool_], *, level: int = 255, width: int = 1) -> NDArray[np.bool_]:
    """Outline of the region `mask >= level`, bool [H, W], drawn just outside it so that it hides no edited pixel.

    Level 255 is the edit region, 128 the edit with its free band. A bool mask is one region.

    Raises:
        BadInput: not [H, W], or width below 1.
    """
    if mask.ndim != 2:
        raise BadInput("mask", mask.shape, "[H, W]")
    if width < 1:
        raise BadInput("outline width", width, "1 or more pixels")
    region = mask if mask.dtype == bool else mask >= level
    if not region.any():
        return np.zeros(mask.shape, bool)
    return np.asarray(ndimage.binary_dilation(region, np.ones((3, 3), bool), iterations=width) & ~region)


def outline_png(mask: U8, *, width: int = 2) -> bytes:
    """A transparent PNG to lay over a film: the edit region's outline in yellow, the free band's outer limit
    in broken white."""
    index = np.zeros(mask.shape, np.uint8)
    rows, cols = np.indices(mask.shape)
    broken = ((rows + cols) // 4) % 2 == 0
    if (mask == 128).any():
        index[mask_outline(mask, level=128) & broken] = 2
    index[mask_outline(mask, level=255, width=width)] = 1
    im = Image.fromarray(index, mode="P")
    im.putpalette([0, 0, 0, *_OUTLINE, *_BAND])
    return _encoded(im, "PNG", optimize=True, transparency=0)


def jpeg(film: U8, *, quality: int = 88) -> bytes:
    """A film, or an RGB picture, as JPEG."""
    return _encoded(Image.fromarray(film), "JPEG", quality=quality, optimize=True)


def png(picture: U8) -> bytes:
    """A film, or an RGB picture, as PNG."""
    return _encoded(Image.fromarray(picture), "PNG", optimize=True)


def data_uri(data: bytes) -> str:
    """PNG or JPEG bytes as a data URI."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def side_by_side(pictures: Sequence[U8], *, captions: Sequence[str], size: int = 256) -> bytes:
    """Pictures (uint8 [H, W] or RGB [H, W, 3]) in one row, each fitted into size x size, captions below. PNG.

    Raises:
        BadInput: no picture, or not one caption a picture.
    """
    if not pictures:
        raise BadInput("side by side", "no picture", "one or more")
    if len(captions) != len(pictures):
        raise BadInput("captions", len(captions), f"one for each of {len(pictures)} pictures")
    return png(_beside([_strip([p], c, size) for p, c in zip(pictures, captions, strict=True)]))


def contact_sheet(rows: Sequence[Mapping[str, Any]], get: Callable[[str], bytes], *, columns: int = 4,
                  size: int = 256) -> bytes:
    """Edits at a glance: each sample a strip of source, edit and difference from top to bottom with its
    operations and verdict below, `columns` strips abreast. PNG.

    Args:
        rows: sample rows (schemas.tables.SAMPLES) as dicts; those without an edited film are left out.
        get: object name -> bytes.
        columns: strips abreast, 1 or more.
        size: side of one panel in pixels, 32 or more.

    Raises:
        BadInput: columns or size too small, or an object that is no picture.
    """
    if columns < 1:
        raise BadInput("contact sheet: columns", columns, "1 or more")
    if size < 32:
        raise BadInput("contact sheet: size", size, "32 or more pixels")
    strips = [_sample_strip(r, get, size) for r in rows if r.get("object")]
    if not strips:
        return png(_strip([], "No edited film to show.", size))
    bands = [_beside(strips[i:i + columns]) for i in range(0, len(strips), columns)]
    width = max(b.shape[1] for b in bands)
    padded = [np.pad(b, ((0, 8), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands]
    return png(np.concatenate(padded))


def _sample_strip(row: Mapping[str, Any], get: Callable[[str], bytes], size: int) -> U8:
    source, edit = decode(get(row["source_object"])), decode(get(row["object"]))
    difference = difference_image(source, edit)
    if row.get("mask"):
        difference = difference.copy()
        difference[mask_outline(decode(get(row["mask"])))] = _OUTLINE
    caption = operations_words(row["operations"])
    verdict = str(row["verdict"])
    reasons = "; ".join(row["reasons"])
    return _strip([source, edit, difference], f"{caption}\n{verdict}{': ' + reasons if reasons else ''}", size)


def _strip(pictures: Sequence[U8], caption: str, size: int) -> U8:
    """Pictures below each other in dark size x size panels over a caption, RGB."""
    font = ImageFont.load_default(max(11, size // 20))
    lines = [line for part in caption.split("\n") for line in _wrapped(part, font, size - 8)]
    line_height = max(11, size // 20) + 5
    im = Image.new("RGB", (size, len(pictures) * (size + 2) + len(lines) * line_height + 8), _PAPER)
    draw = ImageDraw.Draw(im)
    for i, picture in enumerate(pictures):
        top = i * (size + 2)
        draw.rectangle((0, top, size - 1, top + size - 1), fill=_PANEL)
        small = Image.fromarray(fit(picture, size)).convert("RGB")
        im.paste(small, ((size - small.width) // 2, top + (size - small.height) // 2))
    for i, line in enumerate(lines):
        draw.text((4, len(pictures) * (size + 2) + 2 + i * line_height), line, fill=_INK, font=font)
    return np.asarray(im)


def _beside(strips: Sequence[U8]) -> U8:
    height = max(s.shape[0] for s in strips)
    return np.concatenate([np.pad(s, ((0, height - s.shape[0]), (0, 6), (0, 0)), constant_values=255)
                           for s in strips], axis=1)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _encoded(im: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    im.save(buffer, kind, **options)
    return buffer.getvalue()
