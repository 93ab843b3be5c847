"""Without these, films would be counted under the wrong vector or attribute value, or twice, or not at all."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.group import MAX_LEVELS, Grouped, cell_name, cell_values, film_levels, group_films
from schemas.errors import BadInput

MASK = 0b1011
STATES = ("present", "absent", "uncertain")
TYPES = {"sex": pa.string(), "view": pa.string(), "age": pa.int32(), "films": pa.int64()}

# A film as the oracle sees it: the state of four findings, and attribute values as a source writes them.
film = st.fixed_dictionaries({
    "states": st.lists(st.sampled_from([*STATES, ""]), min_size=4, max_size=4),
    "sex": st.sampled_from(["F", "M", "", None]),
    "view": st.sampled_from(["PA", "AP", "a,b=c", None]),
    "age": st.sampled_from([None, -1, 0, 17, 18, 39, 40, 59, 60, 79, 80, 149])})
film_lists = st.lists(film, min_size=1, max_size=25)
Film = dict[str, Any]


def table(films: list[Film]) -> pa.Table:
    vectors = {s: pa.array([sum(1 << i for i, v in enumerate(f["states"]) if v == s) for f in films], pa.int64())
               for s in STATES}
    rest = {k: pa.array([f[k] for f in films], TYPES[k]) for k in TYPES if k in films[0]}
    return pa.table({**vectors, **rest})


def level(film: Film, attribute: str) -> str:
    value: Any = film[attribute]
    if attribute == "age":
        if value is None or value < 0:
            return "unknown"
        low, high = next((a, b) for a, b in ((0, 17), (18, 39), (40, 59), (60, 79), (80, 999)) if a <= value <= b)
        return "80+" if high == 999 else f"{low:02d}-{high}"
    return "a b c" if value == "a,b=c" else str(value or "unknown")


def rows(grouped: Grouped) -> Counter[tuple[Any, ...]]:
    levels = [tuple(grouped.levels[a][c] for a, c in enumerate(codes)) for codes in grouped.codes]
    keys = zip(grouped.present.tolist(), grouped.absent.tolist(), grouped.uncertain.tolist(), levels, strict=True)
    return Counter(dict(zip(keys, grouped.films.tolist(), strict=True)))


@given(films=film_lists, by=st.lists(st.sampled_from(["sex", "age", "view"]), unique=True))
@settings(max_examples=40, deadline=None)
def test_every_film_is_counted_once_under_its_own_vector_and_values(films: list[Film], by: list[str]) -> None:
    grouped = group_films(table(films), mask=MASK, by=by)
    known = Counter((*(sum(1 << i for i, v in enumerate(f["states"]) if v == s) & MASK for s in STATES),
                     tuple(level(f, a) for a in by)) for f in films)
    assert rows(grouped) == known
    assert grouped.total == len(films) and grouped.by == tuple(by)
    assert len(grouped.films) == len(known)  # each vector and values once
    assert all(list(names) == sorted(set(names)) for names in grouped.levels)
    assert film_levels(table(films), by) == [{a: level(f, a) for a in by} for f in films]


@given(films=film_lists, random=st.randoms())
@settings(max_examples=10, deadline=None)
def test_the_order_of_films_does_not_matter(films: list[Film], random: Random) -> None:
    before = group_films(table(films), mask=MASK, by=["view", "sex"])
    random.shuffle(films)
    after = group_films(table(films), mask=MASK, by=["view", "sex"])
    for name in ("present", "absent", "uncertain", "films", "codes"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert before.levels == after.levels


@given(films=film_lists, counts=st.lists(st.integers(0, 3), min_size=25, max_size=25))
@settings(max_examples=10, deadline=None)
def test_a_row_that_stands_for_several_films_counts_as_so_many(films: list[Film], counts: list[int]) -> None:
    numbered = [{**f, "films": n} for f, n in zip(films, counts, strict=False)]
    repeated = [f for f, n in zip(films, counts, strict=False) for _ in range(n)]
    if not repeated:
        with pytest.raises(BadInput, match="at least one film"):
            group_films(table(numbered), mask=MASK, by=["sex"])
        return
    assert rows(group_films(table(numbered), mask=MASK, by=["sex"])) == rows(
        group_films(table(repeated), mask=MASK, by=["sex"]))


def test_films_on_disk_are_grouped_as_those_in_memory(tmp_path: Path) -> None:
    films = table([{"states": ["present", "", "absent", "uncertain"], "sex": s, "view": "PA", "age": a}
                   for s in ("F", "M") for a in (3, 30, 90)])
    pq.write_table(films, tmp_path / "films.parquet")
    scanned = group_films(pds.dataset(tmp_path / "films.parquet"), mask=MASK, by=["age", "sex"])
    assert rows(scanned) == rows(group_films(films, mask=MASK, by=["age", "sex"]))


@given(films=film_lists)
@settings(max_examples=10, deadline=None)
def test_cells_hold_the_films_their_names_say(films: list[Film]) -> None:
    by = ["sex", "view"]
    grouped = group_films(table(films), mask=MASK, by=by)
    cells = list(grouped.cells())
    assert cells[0][0] == "" and cells[0][1].all()
    known = Counter(cell_name([(a, level(f, a)) for a in chosen])
                    for f in films for size in range(3) for chosen in combinations(by, size))
    assert {name: int(grouped.films[inside].sum()) for name, inside in cells if inside.any()} == known
    assert [len(cell_values(name)) for name, _ in cells] == sorted(len(cell_values(name)) for name, _ in cells)


def test_cell_names_are_read_back() -> None:
    assert cell_name([("sex", "F"), ("view", "AP")]) == "sex=F,view=AP"
    assert cell_values("sex=F,view=AP") == {"sex": "F", "view": "AP"}
    assert cell_values("") == {}


def test_the_policy_on_uncertain_findings_says_what_is_positive_and_what_is_open() -> None:
    films = group_films(pa.table({"present": [0b01], "absent": [0], "uncertain": [0b10]}), mask=0b11)
    assert [films.positive(u).tolist() for u in ("absent", "present", "ignore")] == [[0b01], [0b11], [0b01]]
    assert [films.open(u).tolist() for u in ("absent", "present", "ignore")] == [[0], [0], [0b10]]


def test_faults_are_named() -> None:
    one = table([{"states": ["present"] * 4, "sex": "F", "view": "PA", "age": 40}])
    with pytest.raises(BadInput, match="films: got none; expected at least one film"):
        group_films(one.slice(0, 0), mask=MASK)
    with pytest.raises(BadInput, match="films: got no column uncertain"):
        group_films(one.drop_columns(["uncertain"]), mask=MASK)
    with pytest.raises(BadInput, match="films: got no column source"):
        group_films(one, mask=MASK, by=["source"])
    with pytest.raises(BadInput, match="attribute: got patient; expected one of sex, age, view"):
        group_films(one, mask=MASK, by=["patient"])
    with pytest.raises(BadInput, match="attributes: got sex; expected each attribute once"):
        group_films(one, mask=MASK, by=["sex", "sex"])
    many = pa.table({"present": [0] * 10_000, "absent": [0] * 10_000, "uncertain": [0] * 10_000,
                     "view": [f"v{i}" for i in range(10_000)]})
    with pytest.raises(BadInput, match=f"attribute view: got 10,000 values; .* at most {MAX_LEVELS} values"):
        group_films(many, mask=MASK, by=["view"])
