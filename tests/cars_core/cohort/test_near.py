"""The same film must be known again, another never; the index must answer as a plain search would."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.stats import rankdata

from cars_core.cohort.near import BITS, THRESHOLD, NearIndex, Pixels, distance, perceptual_hash, reframed_hashes
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render


@pytest.fixture(scope="module")
def films() -> list[Pixels]:
    return [render(draw_patient(70 + i), (), size=160, noise_seed=i).pixels for i in range(6)]


def _coded(film: Pixels) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(film).resize((130, 120)).save(out, "JPEG", quality=60)
    return np.asarray(Image.open(out))


def _bit_by_bit(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(f"{int(one, 16):0576b}", f"{int(other, 16):0576b}", strict=True))


def test_the_hash_is_the_signs_of_the_faded_ranks_cosine_transform(films: list[Pixels]) -> None:
    small = np.asarray(Image.fromarray(films[0]).resize((64, 64), Image.Resampling.LANCZOS, reducing_gap=3.0))
    ranks = rankdata(small, axis=None).reshape(64, 64)
    at = (np.arange(64) + 0.5) / 64
    fade = np.minimum(1, np.minimum(at, 1 - at) / 0.12)
    waves = dctn((ranks - ranks.mean()) * np.outer(fade, fade), norm="ortho")[:24, :24].ravel()[1:]
    bits = f"{int(perceptual_hash(films[0]), 16):0576b}"
    assert bits[0] == "0" and [b == "1" for b in bits[1:]] == (waves > 0).tolist()


@pytest.mark.parametrize("change", [
    _coded,
    lambda film: np.rint(255 * (film / 255) ** 0.8).astype(np.uint8),
    lambda film: (40 + film * 0.6).astype(np.uint8),
    lambda film: np.pad(film[6:, 6:], ((0, 6), (0, 6)), mode="edge")[:154, :154],
    lambda film: film[6:-6, 6:-6],
], ids=["recoded", "gamma", "window", "cut at a corner", "cut all round"])
def test_a_film_is_known_again_after_what_files_go_through(films: list[Pixels], change: object) -> None:
    index: NearIndex[int] = NearIndex()
    for i, film in enumerate(films):
        index.add(perceptual_hash(film), i)
    for i, film in enumerate(films):
        assert callable(change)
        found = index.find(reframed_hashes(change(film)))
        assert found is not None and found[0] == i


def test_other_patients_and_a_turned_mirrored_or_inverted_film_are_other_films(films: list[Pixels]) -> None:
    index: NearIndex[int] = NearIndex()
    index.add(perceptual_hash(films[0]), 0)
    others = [*films[1:], np.rot90(films[0]), films[0][:, ::-1], 255 - films[0]]
    assert [index.find(reframed_hashes(other)) for other in others] == [None] * len(others)


def test_no_two_patients_of_a_real_set_are_taken_for_one(open_films: Path) -> None:
    index: NearIndex[str] = NearIndex()
    paths = sorted((open_films / "nih14" / "images_512").glob("*.jpg"))[:150]
    for path in paths:
        film = np.asarray(Image.open(path).convert("L"))
        assert index.find(reframed_hashes(film)) is None
        index.add(perceptual_hash(film), path.name)
    film = np.asarray(Image.open(paths[70]).convert("L"))
    found = index.find(reframed_hashes(_coded(film[10:, 8:])))
    assert found is not None and found[0] == paths[70].name


def test_a_films_own_framing_comes_first_and_all_framings_differ(films: list[Pixels]) -> None:
    hashes = reframed_hashes(films[0])
    assert hashes[0] == perceptual_hash(films[0]) and len(set(hashes)) == len(hashes) == 23


def test_a_film_of_one_grey_and_one_of_a_pixel_have_hashes() -> None:
    assert perceptual_hash(np.full((90, 80), 7, np.uint8)) == "0" * 144
    assert len(perceptual_hash(np.zeros((1, 1), np.uint8))) == 144
    with pytest.raises(ValueError):
        perceptual_hash(np.zeros((4, 4, 3), np.uint8))


def test_a_view_of_other_memory_hashes_as_its_copy(films: list[Pixels]) -> None:
    view = films[0][::-1, ::2]
    assert perceptual_hash(view) == perceptual_hash(view.copy())


_hash = st.integers(0, 2**BITS - 1)


@given(base=_hash, flips=st.lists(st.lists(st.integers(0, BITS - 1), max_size=130), min_size=1, max_size=40),
       asked=st.lists(st.lists(st.integers(0, BITS - 1), max_size=100), min_size=1, max_size=3))
def test_the_index_answers_as_a_search_bit_by_bit(base: int, flips: list[list[int]], asked: list[list[int]]) -> None:
    def turned(places: list[int]) -> str:
        value = base
        for p in places:
            value ^= 1 << p
        return f"{value:0144x}"
    stored, queries = [turned(f) for f in flips], [turned(a) for a in asked]
    index: NearIndex[int] = NearIndex()
    for i, h in enumerate(stored):
        index.add(h, i)
    far, at = min((_bit_by_bit(h, q), i) for i, h in enumerate(stored) for q in queries)
    assert index.find(queries) == ((at, far) if far <= THRESHOLD else None) and len(index) == len(stored)
    assert distance(stored[0], queries[0]) == _bit_by_bit(stored[0], queries[0])


def test_films_at_the_threshold_are_found_and_one_bit_further_are_not() -> None:
    for places, found in ((range(THRESHOLD), True), (range(BITS - THRESHOLD, BITS), True),
                          (range(THRESHOLD + 1), False)):
        index: NearIndex[str] = NearIndex()
        index.add(f"{sum(1 << p for p in places):0144x}", "a film")
        assert (index.find("0" * 144) == ("a film", THRESHOLD)) is found


def test_an_empty_index_finds_nothing_and_a_grown_one_keeps_its_first(films: list[Pixels]) -> None:
    index: NearIndex[int] = NearIndex()
    own, many = perceptual_hash(films[0]), 40_000  # beyond the first allocation, twice
    assert index.find(own) is None and index.find([]) is None
    rng = np.random.default_rng(0)
    for i in range(many):
        index.add(own if i in (5, 2100, 39_000) else "00" + rng.bytes(71).hex(), i)
    assert index.find(own) == (5, 0) and index.find([]) is None
    assert many * 72 <= index.nbytes < many * 72 * 2


@pytest.mark.parametrize("wide", [40, 110, 200, 288])
def test_framings_find_what_a_search_of_every_pair_finds(wide: int) -> None:
    """Framings near each other and far apart, among films around them at and about the threshold, over all blocks."""
    rng = np.random.default_rng(wide)

    def turned(bits: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
        out = bits.copy()
        out[1 + rng.permutation(BITS)[:rng.integers(most + 1)]] ^= True
        return out

    own = np.concatenate([[False], rng.random(BITS) < 0.5])
    stored = np.concatenate([np.zeros((35_000, 1), bool), rng.random((35_000, BITS)) < 0.5], axis=1)
    seen = set()
    for _ in range(12):
        asked = np.stack([own, *(turned(own, wide) for _ in range(22))])
        for at in rng.integers(len(stored), size=int(rng.integers(12))):
            stored[at] = turned(asked[rng.integers(23)], 130)
        index: NearIndex[int] = NearIndex()
        index.extend([np.packbits(row).tobytes().hex() for row in stored], range(len(stored)))
        apart = np.rint(stored @ (1.0 - asked.T.astype(np.float32)) + (1.0 - stored) @ asked.T.astype(np.float32))
        nearest = apart.min(axis=1)
        at = int(nearest.argmin())
        want = (at, int(nearest[at])) if nearest[at] <= THRESHOLD else None
        assert index.find([np.packbits(row).tobytes().hex() for row in asked]) == want
        seen.add(want is None)
        stored[nearest <= 140] = ~own  # the next round has its own
    assert False in seen


def test_of_films_equally_near_the_first_is_found_whichever_framing_and_block_it_is_near_to() -> None:
    rng = np.random.default_rng(1)
    asked = ["00" + rng.bytes(71).hex() for _ in range(23)]
    hashes = ["00" + rng.bytes(71).hex() for _ in range(40_000)]
    for at, of in ((39_999, 0), (20_000, 7), (17_000, 22), (16_500, 3)):
        hashes[at] = f"{int(asked[of], 16) ^ (0b11111 << 10 * of):0144x}"
        index: NearIndex[int] = NearIndex()
        index.extend(hashes, range(40_000))
        assert index.find(asked) == index.find(asked[::-1]) == (at, 5)


@given(sizes=st.lists(st.sampled_from([0, 1, 2, 700, 16_383, 16_384, 16_385]), max_size=4))
@settings(max_examples=12, deadline=None)
def test_films_taken_in_together_are_found_as_those_taken_in_one_by_one(sizes: list[int]) -> None:
    rng = np.random.default_rng(2)
    hashes = ["00" + rng.bytes(71).hex() for _ in range(sum(sizes) + 1)]
    index: NearIndex[str] = NearIndex()
    done = 0
    for size in sizes:
        index.extend(hashes[done:done + size], [f"film {i}" for i in range(done, done + size)])
        done += size
    index.add(hashes[done], f"film {done}")
    assert len(index) == len(hashes)
    for i in {0, done, *(np.cumsum(sizes) - 1).clip(0).tolist()}:
        assert index.find(hashes[i]) == (f"film {i}", 0)


def test_films_without_as_many_keys_are_refused_whole() -> None:
    index: NearIndex[int] = NearIndex()
    for hashes, keys in ((["0" * 144] * 2, [1]), (["0" * 144, "0"], [1, 2])):
        with pytest.raises(ValueError):
            index.extend(hashes, keys)
    assert len(index) == 0 and index.find("0" * 144) is None


@pytest.mark.parametrize("bad", ["", "00", "g" * 144, "0" * 143])
def test_what_is_no_hash_is_refused_and_leaves_the_index_as_it_was(bad: str) -> None:
    index: NearIndex[int] = NearIndex()
    with pytest.raises(ValueError):
        index.add(bad, 0)
    with pytest.raises(ValueError):
        index.find(bad)
    assert len(index) == 0
