"""Film sets, pixels and the stream of batches."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cars_core.digest import bytes_digest
from cars_core.evaluate.data import Batches, FilmSet, augmented, decode, load_pixels
from schemas.errors import BadInput


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, "PNG")
    return out.getvalue()


def test_padding_is_centred_and_keeps_the_aspect() -> None:
    """A squeezed film has another cardiothoracic ratio."""
    film = np.full((120, 80), 200, np.uint8)
    got = decode(png(film), size=60, name="x")
    assert got.shape == (60, 60)
    assert (got[:, 12:48] == 200).all()
    assert (got[:, :9] == 0).all()
    assert (got[:, 51:] == 0).all()


def test_sides_stay_where_they_are() -> None:
    film = np.zeros((64, 64), np.uint8)
    film[:, 32:] = 255
    assert (decode(png(film), size=64, name="x") == film).all()


@pytest.mark.parametrize("data", [b"no image", png(np.zeros((8, 8), np.uint8), "RGB"),
                                  png(np.zeros((8, 8), np.uint8))[:40]])
def test_an_object_that_is_no_grey_film_is_named(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"object abc.*a grey image"):
        decode(data, size=8, name="abc")


def make(n: int, first: int = 0) -> tuple[FilmSet, list[str]]:
    films = {}
    for i in range(first, first + n):
        data = png(np.full((10, 10), i, np.uint8))
        films[bytes_digest(data)] = data
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        return films[name]

    return FilmSet(list(films), fetch, np.zeros((n, 1), np.float32), [f"p{i}" for i in range(n)]), asked


def test_each_film_is_decoded_once_and_found_again(tmp_path: Path) -> None:
    """Decoding in every epoch, or again in a second run, would cost more than the training."""
    (a, asked_a), (b, asked_b) = make(70), make(5, 100)
    heard: list[int] = []
    first = load_pixels([a, b], size=12, workdir=tmp_path, progress=heard.append)
    assert [p[:, 6, 6].tolist() for p in first] == [list(range(70)), list(range(100, 105))]
    assert heard[-1] == 75
    load_pixels([a, b], size=12, workdir=tmp_path)
    assert sorted(asked_a) == sorted(a.objects)
    assert len(asked_b) == 5
    assert [p.suffix for p in tmp_path.iterdir()] == [".u8"]


def test_a_run_that_failed_leaves_no_half_filled_file(tmp_path: Path) -> None:
    """Black films of a run that stopped would train the next one without a word."""
    good, _ = make(3)
    bad = FilmSet(good.objects, lambda name: b"", good.labels, good.patients)
    with pytest.raises(BadInput):
        load_pixels([bad], size=8, workdir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_must_be_three_valued_and_one_row_a_film() -> None:
    with pytest.raises(BadInput, match=r"0\.5"):
        FilmSet(["a"], lambda n: b"", np.array([[0.5]], np.float32), ["p"])
    with pytest.raises(BadInput, match="2 patients"):
        FilmSet(["a"], lambda n: b"", np.array([[1]], np.float32), ["p", "q"])


def test_arms_draw_the_same_real_films_and_moves_and_differ_by_subset_films_alone() -> None:
    """Otherwise a difference between arms may be luck of the draw."""
    plain = list(Batches(real=50, subset=0, batch=8, steps=40, seed=3))
    mixed = list(Batches(real=50, subset=10, batch=8, steps=40, seed=3))
    taken = 0
    for (i, a), (j, b) in zip(plain, mixed, strict=True):
        assert torch.equal(a, b)
        assert (i < 50).all()
        assert (i[j < 50] == j[j < 50]).all()
        taken += int((j >= 50).sum())
    assert abs(taken - 320 * 10 / 60) < 1  # the subset's share of the union, exact to one film


def test_every_film_is_shown_before_any_is_shown_again() -> None:
    seen = np.concatenate([i for i, _ in Batches(real=16, subset=0, batch=8, steps=6, seed=0)])
    assert (np.bincount(seen, minlength=16) == 3).all()
    assert not (seen[:16] == seen[16:32]).all()


def test_batches_depend_on_the_seed_alone() -> None:
    one, same, other = (np.concatenate([i for i, _ in Batches(real=30, subset=5, batch=4, steps=9, seed=s)])
                        for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_augmentation_does_not_mirror_and_moves_as_little_as_it_says() -> None:
    """A mirrored effusion lies in the other lung."""
    film = torch.zeros(1, 1, 100, 100)
    film[..., 40:60, 75:85] = 1
    rng = np.random.default_rng(0)
    for _ in range(200):
        moves = torch.from_numpy(rng.uniform(-1, 1, (1, 6)).astype(np.float32))
        out = augmented(film, moves)[0, 0]
        assert out.min() >= 0
        assert out.max() <= 1
        rows, columns = torch.nonzero(out > 0.6, as_tuple=True)
        # shift 4, scale 6 % of 30 and rotation of 30 pixels by 6 degrees at most
        assert abs(float(columns.float().mean()) - 79.5) < 4 + 2.2 + 1
        assert abs(float(rows.float().mean()) - 49.5) < 4 + 3.4 + 1


def test_a_still_move_changes_nothing() -> None:
    film = torch.rand(2, 1, 32, 32)
    assert torch.allclose(augmented(film, torch.zeros(2, 6)), film, atol=1e-5)
