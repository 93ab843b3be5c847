"""A film must reach the lake with the grey levels it has at its source, whatever its file's kind."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cars_core.cohort.films import (
    MIN_SIDE,
    UnusableFilm,
    colours,
    decode,
    decode_bytes,
    image_id,
    normalise,
    read,
    spread,
)

RAMP = np.add.outer(np.arange(80), np.arange(100)).astype(np.uint8)


def _read(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_gray_stored_as_colour_decodes_to_the_same_levels(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RAMP)
    if mode == "P":
        image.putpalette([v for v in range(256) for _ in range(3)])
    elif mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(255 - RAMP))  # a film with holes in its alpha is still the whole film
    else:
        image = image.convert(mode)
    image.save(tmp_path / "film.png")
    np.testing.assert_array_equal(decode(tmp_path / "film.png"), RAMP)


def test_a_12_bit_film_in_16_bits_is_not_nearly_black(tmp_path: Path) -> None:
    deep = np.linspace(100, 4000, RAMP.size).reshape(RAMP.shape).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    got = decode(tmp_path / "deep.png")
    assert got.dtype == np.uint8
    want = (deep.astype(float) - 100) / 3900 * 255
    assert np.abs(got - want).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("damage", "why"), [
    (lambda b: b[: len(b) // 2], "truncated"),
    (lambda b: b[:200] + bytes(100) + b[300:], "damaged"),
    (lambda b: b"<html>not found</html>", "not a PNG or JPEG"),
    (lambda b: b"", "not a PNG or JPEG"),
])
def test_a_damaged_file_says_so_without_its_name(tmp_path: Path, damage: object, why: str) -> None:
    path = tmp_path / "00070000_000.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (90, 90), dtype=np.uint8)).save(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UnusableFilm, match=why) as e:
        decode(path)
    assert "00070000" not in str(e.value)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    """A few bytes that claim gigabytes would stop the machine."""
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    data = bytearray(out.getvalue())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    with pytest.raises(UnusableFilm, match="64 million pixels"):
        decode(tmp_path / "bomb.png")


def test_the_id_is_of_the_pixels_not_of_the_file(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / "b.png", compress_level=9)
    ids = {image_id(decode(tmp_path / n)) for n in ("a.png", "b.png")}
    assert ids == {hashlib.sha256(struct.pack("<qq", 80, 100) + RAMP.tobytes()).hexdigest()}
    assert image_id(RAMP.reshape(100, 80)) not in ids, "films of other shapes could share an id"


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _deep(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "I;16"
        return np.asarray(image)


def test_both_depths_name_the_same_film() -> None:
    """Where they did not, a film already in the lake would come in again at the other depth."""
    for pixels in (RAMP, np.linspace(100, 4000, RAMP.size).reshape(RAMP.shape).astype(np.uint16)):
        plain, deep = decode_bytes(_png(pixels)), decode_bytes(_png(pixels), bits=16)
        assert plain.image_id == deep.image_id == image_id(pixels)
        assert normalise(plain, size=64).image_id == normalise(deep, size=64, bits=16).image_id == plain.image_id
        assert (plain.pixels.dtype, deep.pixels.dtype) == (np.uint8, np.uint16)
        assert np.abs(plain.pixels / 255 - deep.pixels / 65_535).max() <= 0.51 / 255
        assert not plain.header and plain.view is None and plain.spacing_mm is None


def test_16_bits_keep_what_8_would_lose() -> None:
    deep = np.linspace(100, 40_000, RAMP.size).reshape(RAMP.shape).astype(np.uint16)
    got = _deep(normalise(decode_bytes(_png(deep), bits=16), size=512, bits=16).png)
    want = (deep.astype(float) - 100) / 39_900 * 65_535
    assert np.abs(got - want).max() <= 0.51
    assert len(np.unique(got)) == RAMP.size


def test_pixels_of_one_depth_are_brought_to_the_other() -> None:
    assert np.array_equal(_deep(normalise(RAMP, size=100, bits=16).png), RAMP.astype(np.uint16) * 257)
    assert np.array_equal(_read(normalise(RAMP.astype(np.uint16) * 257, size=100).png), RAMP)


def test_shrinking_16_bits_is_the_same_lanczos() -> None:
    rng = np.random.default_rng(1)
    pixels = (20_000 + rng.random((200, 160)) * 25_000).astype(np.uint16)
    got = _deep(normalise(pixels, size=64, bits=16).png)
    assert got.shape == (80, 64)
    plain = Image.fromarray(np.rint(pixels / 257).astype(np.uint8)).resize((64, 80), Image.Resampling.LANCZOS)
    assert np.abs(got / 257 - np.asarray(plain)).max() < 1.5
    block = np.zeros((200, 160), np.uint16)
    block[:, 80:] = 65_535  # overshoot at the edge must not wrap round
    across = _deep(normalise(block, size=64, bits=16).png)[40]
    assert (across[:32] < 9_000).all() and (across[32:] > 56_000).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 500), st.integers(1, 256))
def test_counted_percentiles_are_numpys(seed: int, n: int, levels: int) -> None:
    values = np.random.default_rng(seed).integers(0, levels, n)
    got = spread(np.bincount(values, minlength=levels), np.arange(levels))
    np.testing.assert_allclose(got, np.percentile(values, (0.5, 99.5)), atol=1e-9)


def test_formats_are_told_apart_by_content(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(RAMP).save(out, "JPEG", quality=100)
    (tmp_path / "film.png").write_bytes(out.getvalue())
    np.testing.assert_array_equal(decode_bytes(out.getvalue()).pixels, decode(tmp_path / "film.png"))
    out = io.BytesIO()
    Image.fromarray(RAMP).save(out, "TIFF")
    with pytest.raises(UnusableFilm, match="not a PNG"):
        decode_bytes(out.getvalue())


def test_a_png_with_four_letters_of_dicom_in_it_is_a_png() -> None:
    data = bytearray(_png(RAMP))
    at = data.index(b"IDAT") - 4
    text = b"Comment\0" + bytes(128)
    chunk = b"tEXt" + text[:128 - at - 8] + b"DICM"
    chunk = struct.pack(">L", len(chunk) - 4) + chunk + struct.pack(">L", zlib.crc32(chunk))
    data[at:at] = chunk
    assert data[128:132] == b"DICM"
    np.testing.assert_array_equal(decode_bytes(bytes(data)).pixels, RAMP)


def test_a_pipe_is_no_film(tmp_path: Path) -> None:
    """Reading one would wait for ever."""
    os.mkfifo(tmp_path / "film.png")
    with pytest.raises(UnusableFilm, match="regular"):
        read(tmp_path / "film.png")


@settings(max_examples=30, deadline=None)
@given(st.integers(MIN_SIDE, 300), st.integers(MIN_SIDE, 300), st.integers(64, 256))
def test_films_shrink_to_the_short_side_and_never_grow(height: int, width: int, size: int) -> None:
    pixels = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    film = normalise(pixels, size=size)
    assert _read(film.png).shape == (film.height, film.width)
    assert min(film.height, film.width) == min(size, height, width)
    assert abs(film.width / film.height - width / height) * film.height <= 1.5 * max(1, width / height), "stretched"
    assert film.image_id == image_id(pixels), "the id is of the film before it was shrunk"
    if size >= min(height, width):
        np.testing.assert_array_equal(_read(film.png), pixels)
    assert film.png == normalise(pixels.copy(), size=size).png


def test_shrinking_is_lanczos() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (200, 160), dtype=np.uint8)
    want = np.asarray(Image.fromarray(pixels).resize((64, 80), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(_read(normalise(pixels, size=64).png), want)


def test_a_thumbnail_is_refused() -> None:
    with pytest.raises(UnusableFilm, match="under 64"):
        normalise(np.zeros((63, 500), np.uint8), size=64)


def test_colours_are_seen_where_there_are_some() -> None:
    """A photograph of a light box gives itself away by its cast, which luma hides."""
    def saved(picture: Image.Image, kind: str) -> bytes:
        out = io.BytesIO()
        picture.save(out, kind)
        return out.getvalue()

    red = np.zeros((70, 80, 3), np.uint8)
    red[..., 0] = 200
    for kind in ("PNG", "JPEG"):
        got = colours(saved(Image.fromarray(red), kind))
        assert got is not None and got.shape == (70, 80, 3) and abs(int(got[5, 5, 0]) - 200) < 4
        assert colours(saved(Image.fromarray(red[..., 0]), kind)) is None
    assert colours(b"\0" * 128 + b"DICM") is None
