"""A phone's picture must not enter as a film, a film must not be taken for one; what shows nothing is blank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cars_core.cohort.screen.photo import Photo, Pixels, is_photograph, nearly_blank
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render


@pytest.fixture(scope="module")
def film() -> Pixels:
    return render(draw_patient(5), (), size=256, noise_seed=1).pixels


def _tilted(film: Pixels, corners: list[tuple[int, int]]) -> Pixels:
    """The film on a lit box, its corners there, in a dark room [300, 360]."""
    box = np.full((256, 256), 230, np.uint8)
    box[16:-16, 16:-16] = np.asarray(Image.fromarray(film).resize((224, 224)))
    source = [(0, 0), (256, 0), (256, 256), (0, 256)]
    rows = [r for (x, y), (u, v) in zip(corners, source, strict=True)
            for r in ((x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y))]
    way = np.linalg.solve(np.array(rows, float), np.array(source, float).ravel())
    return np.asarray(Image.fromarray(box).transform((360, 300), Image.Transform.PERSPECTIVE, tuple(way),
                                                     Image.Resampling.BILINEAR, fillcolor=12))


def test_a_film_is_no_photograph_in_grey_or_in_three_equal_channels(film: Pixels) -> None:
    for picture in (film, np.dstack([film] * 3), film.T, 255 - film):
        assert not is_photograph(picture).photograph


def test_a_colour_cast_is_seen_and_a_coloured_arrow_is_not(film: Pixels) -> None:
    cast = np.clip(np.dstack([film] * 3) * (1.0, 0.9, 0.75), 0, 255).astype(np.uint8)
    assert is_photograph(cast).photograph and is_photograph(cast).colour > 0.5
    arrow = np.dstack([film] * 3)
    arrow[100:120, 60:140] = (255, 220, 0)
    assert not is_photograph(arrow).photograph


def test_a_field_in_perspective_is_seen_and_a_turned_or_square_one_is_not(film: Pixels) -> None:
    seen = is_photograph(_tilted(film, [(80, 40), (290, 30), (320, 270), (50, 260)]))
    assert seen.photograph and seen.converge > 5 and seen.dark > 0.25
    for corners in ([(60, 30), (300, 30), (300, 270), (60, 270)], [(75, 25), (313, 46), (292, 284), (54, 263)]):
        assert not is_photograph(_tilted(film, corners)).photograph


def test_the_angle_between_edges_is_the_one_drawn() -> None:
    y, x = np.indices((256, 256))
    lean = np.tan(np.radians(4.0))
    field = (x > 40 + lean * y) & (x < 215 - 0 * y) & (y > 30) & (y < 225)
    assert is_photograph((field * 200 + 10).astype(np.uint8)).converge == pytest.approx(4.0, abs=0.3)


def test_moire_is_seen_and_grid_lines_and_jpeg_blocks_are_not(film: Pixels) -> None:
    y, x = np.indices(film.shape)
    moire = film * 0.9 + 8 * np.sin(2 * np.pi * (0.13 * x + 0.09 * y)) + 10
    assert is_photograph(np.clip(moire, 0, 255).astype(np.uint8)).photograph
    grid = film * 0.9 + 8 * np.sin(2 * np.pi * 0.2 * x) + 10
    blocks = film * 0.9 + 8 * ((x // 4 + y // 4) % 2)
    for other in (grid, blocks):
        assert not is_photograph(np.clip(other, 0, 255).astype(np.uint8)).photograph


def test_no_real_film_is_taken_for_a_photograph_or_for_blank(open_films: Path) -> None:
    for path in sorted((open_films / "nih14" / "images_512").glob("*.jpg"))[::8]:
        film = np.asarray(Image.open(path).convert("L"))
        assert not is_photograph(film).photograph and not nearly_blank(film)


def test_small_and_empty_pictures_are_judged_or_refused() -> None:
    assert is_photograph(np.zeros((20, 30), np.uint8)) == Photo(False, 0.0, 0.0, 0.0, 0.0)
    for bad in (np.zeros((0, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(ValueError):
            is_photograph(bad)
    with pytest.raises(ValueError):
        nearly_blank(np.zeros((5, 5, 3), np.uint8))


def test_a_blank_film_with_a_marker_and_a_border_is_blank_and_a_faint_one_is_not(film: Pixels) -> None:
    flat = np.full((256, 256), 120, np.uint8)
    flat[10:50, 10:25], flat[-20:], flat[:, -12:] = 255, 0, 255
    noisy = np.clip(flat + np.random.default_rng(0).normal(0, 2, flat.shape), 0, 255).astype(np.uint8)
    faint = (100 + film * (60 / 255)).astype(np.uint8)
    assert nearly_blank(flat) and nearly_blank(noisy) and nearly_blank(film // 22)
    assert not nearly_blank(film) and not nearly_blank(faint)


def test_blankness_is_judged_by_the_percentiles_of_numpy(film: Pixels) -> None:
    for levels in range(8, 40, 2):
        dim = (film * (levels / 255)).astype(np.uint8)
        low, high = np.percentile(dim, (0.5, 99.5), method="inverted_cdf")
        middle = np.percentile(dim[32:-32, 32:-32], (2, 98), method="inverted_cdf")
        assert nearly_blank(dim) == (high - low < 16 or np.ptp(middle) < 16)
