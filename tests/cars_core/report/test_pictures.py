"""Pictures must show what changed, where, and which way."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

from cars_core.report.pictures import (
    contact_sheet,
    data_uri,
    decode,
    difference_image,
    difference_palette,
    difference_png,
    fit,
    jpeg,
    mask_outline,
    outline_png,
    side_by_side,
)
from schemas.errors import BadInput

films = arrays(np.uint8, (6, 7))


def luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ (0.2126, 0.7152, 0.0722)


@given(films, films, st.integers(1, 127))
def test_difference_tells_brighter_from_darker_and_shows_nothing_where_nothing_changed(source, edit, limit):
    """A sign lost, or colour where no pixel changed, would have a reader see an edit that is not there."""
    rgb = difference_image(source, edit, limit=limit).astype(int)
    change = edit.astype(int) - source
    middle = difference_palette(limit)[limit]
    assert (rgb[change == 0] == middle).all()
    full_up, full_down = rgb[change >= limit], rgb[change <= -limit]
    assert (full_up[:, 0] > full_up[:, 2]).all()
    assert (full_down[:, 2] > full_down[:, 0]).all()


def test_difference_gets_lighter_with_size_on_both_sides_alike():
    """Unequal lightness would make deletions look weaker than insertions of the same size."""
    light = luminance(difference_palette(48))
    assert (np.diff(light[48:]) > 0).all()
    assert (np.diff(light[:49]) < 0).all()
    assert np.abs(light - light[::-1]).max() < 25


@given(films, films)
def test_palette_png_holds_the_same_picture(source, edit):
    with Image.open(BytesIO(difference_png(source, edit))) as im:
        np.testing.assert_array_equal(np.asarray(im.convert("RGB")), difference_image(source, edit))


@given(arrays(np.bool_, (9, 11)), st.integers(1, 3))
def test_outline_hides_no_pixel_of_the_region_and_touches_it(region, width):
    """An outline over the edit would cover the very border a reader looks for seams at."""
    outline = mask_outline(region, width=width)
    assert not (outline & region).any()
    far = ndimage.distance_transform_cdt(~region, metric="chessboard") if region.any() else np.zeros(region.shape)
    np.testing.assert_array_equal(outline, (far >= 1) & (far <= width))


def test_outline_agrees_with_another_tool():
    yy, xx = np.mgrid[:40, :50]
    disc = (yy - 20) ** 2 + (xx - 22) ** 2 < 120
    np.testing.assert_array_equal(mask_outline(disc), find_boundaries(disc, connectivity=2, mode="outer") & ~disc)


def test_overlay_separates_edit_and_free_band_and_leaves_the_film_clear():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 128
    mask[20:40, 20:40] = 255
    with Image.open(BytesIO(outline_png(mask, width=1))) as im:
        rgba = np.asarray(im.convert("RGBA"))
    drawn = rgba[..., 3] > 0
    np.testing.assert_array_equal((rgba[..., :3] == (255, 214, 10)).all(-1) & drawn, mask_outline(mask))
    band = drawn & ~mask_outline(mask)
    assert band.any()
    assert (band <= mask_outline(mask, level=128)).all()


def test_fit_only_shrinks_and_keeps_the_shape():
    assert fit(np.zeros((100, 50), np.uint8), 64).shape == (64, 32)
    assert fit(np.zeros((30, 50), np.uint8), 64).shape == (30, 50)
    assert set(np.unique(fit((np.indices((99, 99)).sum(0) % 2 * 255).astype(np.uint8), 40, mask=True))) <= {0, 255}


def test_contact_sheet_shows_each_edit_with_its_caption(build):
    """Film, edit and difference from top to bottom; the caption is ink below them."""
    rows = [build.sample(size=64) for _ in range(3)] + [build.sample(made=False)]
    with Image.open(BytesIO(contact_sheet(rows, build.objects.__getitem__, columns=2, size=64))) as im:
        sheet = np.asarray(im.convert("RGB"))
    for i, row in enumerate(rows[:2]):
        at = slice(i * 70, i * 70 + 64)
        for j, name in enumerate(("source_object", "object")):
            np.testing.assert_array_equal(sheet[j * 66:j * 66 + 64, at, 0], decode(build.objects[row[name]]))
    assert (sheet[132 + 20, 20] == difference_palette()[48 + 30]).all()
    assert sheet[200:230, :64].min() < 100
    assert sheet.shape[1] == 2 * 70


def test_contact_sheet_of_nothing_says_so():
    with Image.open(BytesIO(contact_sheet([], lambda name: b""))) as im:
        assert np.asarray(im).min() < 100


def test_side_by_side_keeps_films_in_order():
    a, b = np.full((32, 32), 40, np.uint8), np.full((32, 32, 3), (200, 10, 10), np.uint8)
    with Image.open(BytesIO(side_by_side([a, b], captions=["before", "after"], size=32))) as im:
        sheet = np.asarray(im)
    assert (sheet[:32, :32] == 40).all()
    assert (sheet[:32, 38:70] == (200, 10, 10)).all()


def test_data_uri_names_the_kind():
    film = np.zeros((8, 8), np.uint8)
    assert data_uri(jpeg(film)).startswith("data:image/jpeg;base64,")
    assert data_uri(difference_png(film, film)).startswith("data:image/png;base64,")


@pytest.mark.parametrize("call", [
    lambda: decode(b"not a picture"),
    lambda: difference_image(np.zeros((3, 3), np.uint8), np.zeros((3, 4), np.uint8)),
    lambda: difference_image(np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint8)),
    lambda: difference_image(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8), limit=0),
    lambda: mask_outline(np.zeros((3, 3, 3), np.uint8)),
    lambda: mask_outline(np.zeros((3, 3), np.uint8), width=0),
    lambda: side_by_side([], captions=[]),
    lambda: side_by_side([np.zeros((3, 3), np.uint8)], captions=[]),
    lambda: contact_sheet([], lambda name: b"", columns=0),
    lambda: contact_sheet([], lambda name: b"", size=8),
])
def test_wrong_input_is_named(call):
    with pytest.raises(BadInput):
        call()


def test_sixteen_bit_pictures_show_their_upper_eight_bits():
    """Pillow would turn a 16-bit film white without a word."""
    buffer = BytesIO()
    Image.fromarray(np.full((4, 4), 40 * 256 + 7, np.uint16)).save(buffer, "PNG")
    assert (decode(buffer.getvalue()) == 40).all()
