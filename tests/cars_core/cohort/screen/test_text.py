"""A name burned into a film must not pass; markers, usual words and anatomy must not be taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cars_core.cohort.screen.text import Pixels, Text, _square, burned_in_text, text_lines
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed


@pytest.fixture(scope="module")
def film() -> Pixels:
    return render(draw_patient(31), (), size=512, noise_seed=2).pixels


def _drawn(film: Pixels, text: str, *, at: tuple[float, float] = (0.55, 0.02), height: float = 0.03, fill: int = 255,
           strip: int | None = None) -> Pixels:
    """The film with text, its corner and letters' height in shares of the film's width."""
    image = Image.fromarray(film)
    draw, side = ImageDraw.Draw(image), film.shape[1]
    font = ImageFont.load_default(size=height * side * 1.4)
    place = (at[0] * side, at[1] * side)
    if strip is not None:
        left, top, right, bottom = draw.multiline_textbbox(place, text, font=font)
        draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=strip)
    draw.multiline_text(place, text, fill=fill, font=font)
    return np.asarray(image)


@pytest.mark.parametrize("text", ["SMITH, JOHN", "Weber Karin", "12.03.1956", "2015-03-12 14:22", "MRN 8374650",
                                  "St. Mary Hospital", "00482913"])
@pytest.mark.parametrize("strip", [None, 0, 255])
def test_a_line_of_eight_characters_or_more_is_suspicious(film: Pixels, text: str, strip: int | None) -> None:
    fill = {None: 255, 0: 255, 255: 0}[strip]
    assert burned_in_text(_drawn(film, text, at=(0.05, 0.9) if strip is not None else (0.03, 0.02), fill=fill,
                                 strip=0 if strip is None else strip)).suspicious


@pytest.mark.parametrize("text", ["L", "R", "CDM", "PORTABLE", "AP\nPORTABLE", "12:45", "SUPINE", "AP SUPINE"])
def test_markers_initials_clocks_and_usual_words_pass(film: Pixels, text: str) -> None:
    assert not burned_in_text(_drawn(film, text, strip=0)).suspicious


def test_short_lines_over_each_other_are_a_name(film: Pixels) -> None:
    assert burned_in_text(_drawn(film, "WEBER\nHANS\n1951", strip=0)).suspicious
    apart = _drawn(_drawn(film, "CDM", strip=0), "HANS", at=(0.05, 0.9), strip=0)
    assert not burned_in_text(apart).suspicious


def test_turned_mirrored_inverted_and_larger_films_are_read_alike(film: Pixels) -> None:
    named = _drawn(film, "SMITH, JOHN", strip=0)
    larger = np.asarray(Image.fromarray(named).resize((1400, 1400), Image.Resampling.LANCZOS))
    for other in (np.rot90(named), np.rot90(named, 3), named[:, ::-1], named[::-1], 255 - named, larger):
        assert burned_in_text(other).suspicious


def test_a_line_lies_where_it_was_drawn_and_counts_its_letters(film: Pixels) -> None:
    named = _drawn(film, "KOWALSKI", at=(0.3, 0.9), strip=0)
    line = max(text_lines(named), key=lambda x: x.characters)
    changed = np.argwhere((named == 255) & (film != 255))
    (top, left), (bottom, right) = changed.min(0), changed.max(0) + 1
    assert np.abs(np.array(line.box) - (top, bottom, left, right)).max() <= 3
    assert abs(line.characters - 8) <= 1 and line.unusual == line.characters
    found = burned_in_text(named)
    share = (bottom - top) * (right - left) / named.size
    assert found.words >= 1 and share * 0.7 <= found.area <= share * 3


def test_devices_wires_and_calcifications_of_simulated_films_are_no_text() -> None:
    for i in range(6):
        placed = (Placed("nodule", "left", 0.6, i), Placed("effusion", "right", 0.5, i))
        film = render(draw_patient(200 + i), placed, size=384, noise_seed=i).pixels
        assert not burned_in_text(film).suspicious


def test_a_row_of_clips_and_a_chain_are_no_name() -> None:
    y, x = np.indices((400, 400))
    chest = (90 + 50 * np.sin(x / 70) * np.cos(y / 60)).astype(np.uint8)
    clips, chain = chest.copy(), chest.copy()
    for i in range(9):
        clips[120 + 22 * i:123 + 22 * i, 180 + 5 * (i % 3):196 + 3 * (i % 2)] = 240
        chain[(np.hypot(x - 100 - 22 * i, y - 80 - (i - 4) ** 2 * 4) < 6)] = 230
    assert not burned_in_text(clips).suspicious
    assert not burned_in_text(chain).suspicious


def test_hardly_a_real_film_is_flagged_and_every_name_on_one_is(open_films: Path) -> None:
    flagged, missed = 0, 0
    for path in sorted((open_films / "nih14" / "images_512").glob("*.jpg"))[::12]:
        film = np.asarray(Image.open(path).convert("L"))
        flagged += burned_in_text(film).suspicious
        named = _drawn(film, "GARCIA, MARIA 1956", at=(0.05, 0.9), height=0.025, strip=0)
        missed += not burned_in_text(named).suspicious
    assert flagged <= 1 and missed <= 1


def test_a_film_without_anything_has_no_text_and_what_is_no_film_is_refused() -> None:
    assert burned_in_text(np.full((300, 200), 90, np.uint8)) == Text(words=0, area=0.0, suspicious=False)
    assert burned_in_text(np.zeros((1, 1), np.uint8)).words == 0
    for bad in (np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError):
            burned_in_text(bad)


def test_noise_is_no_text_and_does_not_take_long_to_refuse() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    assert not burned_in_text(noise).suspicious


@pytest.mark.parametrize("size", [2, 3, 7, 9, 13])
def test_the_fast_filters_are_scipys(size: int) -> None:
    plane = np.random.default_rng(size).integers(0, 256, (40, 31), dtype=np.uint8)
    low = ndimage.minimum_filter(plane, size, mode="nearest")
    assert np.array_equal(_square(plane, size, np.minimum), low)
    assert np.array_equal(_square(plane, size, np.maximum), ndimage.maximum_filter(plane, size, mode="nearest"))
