"""Without these, films of a large cohort could be edited twice or never, against a cap, or all of one sex."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.planning.films import Films
from cars_core.coverage.planning.take import Taker, spread
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()
POINT = 0x1234_5678_9ABC_DEF0


def films_of(ids: list[str], *, seed: int = 5, patients: list[str] | None = None, sexes: list[str] | None = None,
             present: list[int] | None = None) -> Films:
    n = len(ids)
    text: dict[str, Any] = dict.fromkeys(("image_id", "object", "record", "licence", "truth"), ids)
    table = pa.table({
        **text, "patient": patients or ids, "sex": sexes or ["F"] * n, "split": ["train"] * n,
        "status": ["accepted"] * n, "source": ["nih"] * n, "present": pa.array(present or [0] * n, pa.int64()),
        **{c: pa.array([0] * n, pa.int64()) for c in ("absent", "uncertain")}})
    return Films(table, seed=seed, vocabulary=V, uncertain="absent", balance=["sex"])


def names(n: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]


def take(taker: Taker, films: Films, wanted: int, point: int = POINT, **more: Any) -> list[int]:
    kinds = np.arange(len(films.kind_vector))
    return taker.take(kinds, np.full(len(kinds), point, np.uint64), wanted, **more).tolist()


def test_every_film_comes_once_in_an_order_a_new_film_does_not_disturb() -> None:
    ids = names(3000)

    def drained(which: list[str], steps: int) -> list[str]:
        films = films_of(which, present=[1 << int(i, 16) % 5 for i in which])
        taker = Taker(films, per_film=1, per_patient=9)
        out = []
        while got := take(taker, films, steps):
            out += got
        column = sorted(which, key=key)
        return [column[f] for f in out]

    def key(image_id: str) -> int:
        return int.from_bytes(hashlib.sha256(f"5 {image_id}".encode()).digest()[:8], "big")

    top = POINT >> 24 << 24  # the place on the circle is told to 40 bits
    expected = sorted(ids, key=lambda i: (key(i) - top) % 2**64)
    for steps in (1000, 37):
        every = drained(ids, steps)
        assert every == expected
    assert [i for i in every if i != ids[7]] == drained(ids[:7] + ids[8:], 37)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), patients=st.integers(1, 30),
       per_film=st.integers(1, 3), per_patient=st.integers(1, 5), asks=st.lists(st.integers(1, 60), min_size=1,
                                                                              max_size=6))
@settings(max_examples=40, deadline=None)
def test_caps_hold_and_nothing_stops_short_of_them(
        sizes: list[int], patients: int, per_film: int, per_patient: int, asks: list[int]) -> None:
    n = sum(sizes)
    ids = names(n)
    present = [1 << k for k, size in enumerate(sizes) for _ in range(size)]
    films = films_of(ids, patients=[f"p{i % patients}" for i in range(n)], present=present,
                     sexes=["FM"[i % 3 == 0] for i in range(n)])
    taker = Taker(films, per_film=per_film, per_patient=per_patient)
    most = sum(min(per_patient, per_film * count) for count in Counter(i % patients for i in range(n)).values())
    taken: list[int] = []
    for i, ask in enumerate(asks):
        got = take(taker, films, ask, point=i * 2**60)
        assert len(got) == min(ask, most - len(taken))
        taken += got
    used = Counter(taken)
    assert max(used.values(), default=0) <= per_film
    assert max(Counter(films.patient[f] for f in taken).values(), default=0) <= per_patient
    assert taker.film_used.tolist() == [used[f] for f in range(n)]
    assert taker.stratum_used.sum() == len(taken)
    taker.put_back(np.array(taken, np.int64))
    assert not taker.film_used.any() and not taker.patient_used.any() and not taker.stratum_used.any()


def test_a_film_comes_again_only_after_every_other_came() -> None:
    films = films_of(names(50))
    taker = Taker(films, per_film=3, per_patient=3)
    got = take(taker, films, 120)
    assert sorted(got[:50]) == sorted(got[50:100]) == list(range(50))
    assert len(set(got[100:])) == 20
    assert take(Taker(films, per_film=3, per_patient=3), films, 120, passes=1) == got[:50]
    odd = take(Taker(films, per_film=1, per_patient=1), films, 50, banned=lambda f: f % 2 == 0)
    assert sorted(odd) == list(range(1, 50, 2))


def test_small_requests_add_up_to_the_shares_wanted() -> None:
    sexes = ["F" if i % 10 < 3 else "M" for i in range(2000)]
    films = films_of(names(2000), sexes=sexes)
    taker = Taker(films, per_film=1, per_patient=1)
    for i in range(100):
        take(taker, films, 1 + i % 4, point=i * 2**57)
    assert np.abs(taker.stratum_used / taker.stratum_used.sum() - films.share).max() < 0.01
    assert [s["sex"] for s in films.strata] == ["F", "M"]
    assert films.share == pytest.approx([0.3, 0.7])


@given(wanted=st.integers(1, 50), used=st.lists(st.integers(0, 30), min_size=3, max_size=3),
       share=st.lists(st.integers(0, 5), min_size=3, max_size=3), some=st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=80, deadline=None)
def test_strata_get_what_is_asked_for_in_all_and_only_those_that_have_films(
        wanted: int, used: list[int], share: list[int], some: list[bool]) -> None:
    if not any(some) or not any(share):
        return
    wish = np.array(share, float) / sum(share)
    got = spread(wanted, np.array(used), wish, np.array(some), np.ones(3))
    assert got.sum() == wanted
    assert (got >= 0).all() and not got[~np.array(some)].any()
    if all(some) and (wish * (sum(used) + wanted) >= used).all():
        assert (np.abs(got + used - wish * (sum(used) + wanted)) < 1).all()
