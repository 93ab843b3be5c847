"""A film must reach the lake with the grey levels it has at its source, whatever its file's kind."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cars_core.cohort.films import MIN_SIDE, UnusableFilm, decode, image_id, normalise

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


def test_a_blank_film_is_known_even_with_a_letter_on_it() -> None:
    blank = np.full((200, 200), 30, np.uint8)
    blank[5:12, 5:12] = 255  # 0.1 % of the film
    assert normalise(blank, size=128).blank
    assert not normalise(RAMP, size=64).blank


def test_a_thumbnail_is_refused() -> None:
    with pytest.raises(UnusableFilm, match="under 64"):
        normalise(np.zeros((63, 500), np.uint8), size=64)
