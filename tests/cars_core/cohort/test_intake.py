"""What becomes of one film: kept upright, or set aside, and a picture with a name on it never reaches the lake."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cars_core.cohort.films import UnusableFilm, image_id
from cars_core.cohort.intake import BLANK, PHOTO, TEXT, Intake, Kept, SetAside
from cars_core.cohort.screen.judge import MAY_BE_NEGATIVE, NOT_FRONTAL
from cars_core.cohort.sources.tree import LocalTree
from cars_core.lake.lake import Lake
from schemas.recipe import Cohort, Screens


@pytest.fixture(scope="module")
def chest(open_films: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(open_films / "nih14" / "images_512" / "00000129_000.jpg").convert("L"))


def taken(root: Path, picture: Any, *, public: bool = False, bits: int = 8, **screens: str) -> Kept | SetAside:
    """Take in a film given as pixels."""
    root.mkdir(exist_ok=True)
    Image.fromarray(picture).save(root / "film.png")
    source = Cohort(source="nih", public_ids=public, key_file=None if public else "key")
    lake = Lake(str(root / "lake"))
    intake = Intake(LocalTree(str(root)), lake.objects, 256, bits, Screens(**screens).of(source))
    return intake(SimpleNamespace(what="film.png"))


def drawn(pixels: Any, words: str) -> Any:
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((20, 20), words, fill=255, font=ImageFont.load_default(22))
    return np.asarray(image)


def test_a_good_film_is_kept_and_named_by_its_pixels(chest: Any, tmp_path: Path) -> None:
    film = taken(tmp_path, chest)
    assert isinstance(film, Kept)
    assert film.image_id == image_id(chest) and film.flags == () and len(film.hashes) > 1
    assert min(film.width, film.height) == 256


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_film_stored_rotated_comes_back_upright(chest: Any, tmp_path: Path, turns: int) -> None:
    film = taken(tmp_path, np.rot90(chest, turns))
    assert isinstance(film, Kept)
    assert film.flags == (f"repaired: turned by {360 - 90 * turns} degrees counter-clockwise",)
    upright = taken(tmp_path / "upright", chest)
    assert isinstance(upright, Kept)
    assert film.object == upright.object, "the same film in two positions gave two pictures"
    assert isinstance(taken(tmp_path, np.rot90(chest, turns), rotated="set_aside"), SetAside)
    left = taken(tmp_path, np.rot90(chest, turns), rotated="off")
    assert isinstance(left, Kept) and left.flags == () and left.object != upright.object


def test_words_on_a_film_keep_its_picture_out_of_the_lake(chest: Any, tmp_path: Path) -> None:
    film = taken(tmp_path, drawn(chest, "SCHMIDT, ANNA 12.03.1950"))
    assert isinstance(film, SetAside) and (film.reason, film.object) == (TEXT, None)
    assert not list((tmp_path / "lake").rglob("*"))
    public = taken(tmp_path, drawn(chest, "SCHMIDT, ANNA 12.03.1950"), public=True)
    assert isinstance(public, Kept) and TEXT in public.flags
    black = taken(tmp_path / "black", drawn(np.zeros((512, 512), np.uint8), "SCHMIDT, ANNA 12.03.1950"))
    assert isinstance(black, SetAside) and black.object is None, "an empty film with a name on it was kept to be shown"


def test_other_pictures_are_set_aside_and_can_be_looked_at(chest: Any, tmp_path: Path) -> None:
    blank = taken(tmp_path, np.full((300, 300), 40, np.uint8))
    noise = taken(tmp_path, np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8))
    for film, reason in ((blank, BLANK), (noise, NOT_FRONTAL)):
        assert isinstance(film, SetAside) and film.reason == reason and film.object
    negative = taken(tmp_path, 255 - chest)
    assert isinstance(negative, Kept) and negative.flags == (MAY_BE_NEGATIVE,)
    assert isinstance(taken(tmp_path, 255 - chest, negative="set_aside"), SetAside)


def test_a_photograph_in_colour_is_known_by_its_cast(chest: Any, tmp_path: Path) -> None:
    cast = np.stack([chest, (chest * 0.8).astype(np.uint8), (chest * 0.55).astype(np.uint8)], axis=2)
    film = taken(tmp_path, cast)
    assert isinstance(film, SetAside) and (film.reason, film.object) == (PHOTO, None)
    grey = taken(tmp_path, np.stack([chest] * 3, axis=2))
    assert isinstance(grey, Kept)


def test_sixteen_bits_are_kept_where_they_are_asked_for(chest: Any, tmp_path: Path) -> None:
    deep = taken(tmp_path, chest.astype(np.uint16) * 257, bits=16)
    assert isinstance(deep, Kept)
    with Image.open(io.BytesIO(Lake(str(tmp_path / "lake")).get(deep.object))) as stored:
        assert np.asarray(stored).dtype == np.uint16


def test_what_cannot_be_read_is_the_films_fault_and_a_store_that_is_away_is_not(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"no film")
    intake = Intake(LocalTree(str(tmp_path)), Lake(str(tmp_path / "lake")).objects, 256, 8, Screens(text="off"))
    for what in ("film.png", "none.png"):
        with pytest.raises(UnusableFilm):
            intake(SimpleNamespace(what=what))

    class Away(LocalTree):
        remote = True

        def read(self, path: str, *, most: int) -> bytes:
            raise OSError(5, "the store of the films cannot be read now (EndpointConnectionError)")

    with pytest.raises(OSError, match="cannot be read now"):
        dataclasses.replace(intake, tree=Away(str(tmp_path)))(SimpleNamespace(what="film.png"))
