"""Without these, a combination could be counted on films that do not hold it, or be missed on films that do."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage import counts
from cars_core.coverage.counts import (
    MAX_ROWS,
    count_patterns,
    find_cells,
    list_patterns,
    matching,
    refuse_too_many,
    showing,
)
from cars_core.coverage.group import Grouped, group_films
from schemas.errors import BadInput

BITS = (0, 3, 5, 61)  # the last that a vector of 62 findings has
MASK = sum(1 << b for b in BITS)


@st.composite
def grouped_films(draw: st.DrawFn) -> Grouped:
    """Some films over BITS, of two attributes."""
    states = st.sampled_from(["present", "absent", "uncertain", ""])
    films = draw(st.lists(st.tuples(st.lists(states, min_size=4, max_size=4), st.sampled_from("FM"),
                                    st.sampled_from(["PA", "AP"]), st.integers(1, 9)), min_size=1, max_size=20))
    masks = {s: pa.array([sum(1 << b for b, v in zip(BITS, f[0], strict=True) if v == s) for f in films], pa.int64())
             for s in ("present", "absent", "uncertain")}
    by = draw(st.sampled_from([(), ("sex",), ("sex", "view")]))
    return group_films(pa.table({**masks, "sex": [f[1] for f in films], "view": [f[2] for f in films],
                                 "films": pa.array([f[3] for f in films], pa.int64())}), mask=MASK, by=by)


def by_hand(present: list[int], absent: list[int], grouped: Grouped, gap: int, without: int) -> list[int]:
    fits = np.array([p & gap == gap and a & without == without for p, a in zip(present, absent, strict=True)])
    return [int(grouped.films[fits & inside].sum()) for _, inside in grouped.cells() if inside.any()]


@given(grouped=grouped_films(), order=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_sql_finds_the_films_that_show_a_combination(grouped: Grouped, order: int) -> None:
    cells, patterns = find_cells(grouped), list_patterns(MASK, order=order, full=False)
    got = showing(grouped.present, grouped, cells=cells, patterns=patterns)
    for i, gap in enumerate(patterns.gap.tolist()):
        assert got[:, i].tolist() == by_hand(grouped.present.tolist(), grouped.present.tolist(), grouped, gap, 0)
    again = matching(grouped.present, grouped.absent, grouped, cells=cells, patterns=patterns)
    assert np.array_equal(got, again)


@given(grouped=grouped_films(), order=st.integers(1, 4), chunk=st.sampled_from([1, 3, 1000]))
@settings(max_examples=40, deadline=None)
def test_matching_finds_the_films_that_have_some_findings_and_lack_others(grouped: Grouped, order: int,
                                                                          chunk: int) -> None:
    cells, patterns = find_cells(grouped), list_patterns(MASK, order=order, full=True)
    present, absent = grouped.present | grouped.uncertain, ~grouped.present  # they overlap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_CHUNK", chunk)
        got = matching(present, absent, grouped, cells=cells, patterns=patterns)
    for i, (gap, without) in enumerate(zip(patterns.gap.tolist(), patterns.without.tolist(), strict=True)):
        assert got[:, i].tolist() == by_hand(present.tolist(), absent.tolist(), grouped, gap, without)


def test_counts_beyond_single_precision_are_exact() -> None:
    films = np.array([2**40 + 1, 2**40 + 3, 5], np.int64)
    vectors = np.array([0b111, 0b011, 0b001], np.int64)
    nothing = np.zeros(3, np.int64)
    grouped = Grouped(vectors, nothing, nothing, films, (), np.zeros((3, 0), np.int64), ())
    cells, patterns = find_cells(grouped), list_patterns(0b111, order=3, full=False)
    known = [2**41 + 9, 2**41 + 4, 2**40 + 1, 2**41 + 4, 2**40 + 1, 2**40 + 1, 2**40 + 1]
    assert patterns.gap.tolist() == [1, 2, 4, 3, 5, 6, 7]
    assert showing(vectors, grouped, cells=cells, patterns=patterns).tolist() == [known]
    assert matching(vectors, ~vectors, grouped, cells=cells, patterns=patterns).tolist() == [known]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 9])
def test_every_combination_is_listed_once(order: int, full: bool) -> None:
    patterns = list_patterns(MASK, order=order, full=full)
    got = list(zip(patterns.order.tolist(), patterns.gap.tolist(), patterns.without.tolist(), strict=True))
    known = [(k, sum(1 << b for b, v in zip(chosen, values, strict=True) if v),
              sum(1 << b for b, v in zip(chosen, values, strict=True) if not v))
             for k in range(1, min(order, 4) + 1) for chosen in combinations(BITS, k)
             for values in product((True, False) if full else (True,), repeat=k)]
    assert got == sorted(known)
    assert count_patterns(MASK, order=order, full=full) == len(known)


@given(grouped=grouped_films())
@settings(max_examples=20, deadline=None)
def test_cells_without_films_are_left_out_and_the_others_keep_their_order(grouped: Grouped) -> None:
    cells = find_cells(grouped)
    known = [(name, int(grouped.films[inside].sum())) for name, inside in grouped.cells() if inside.any()]
    assert list(zip(cells.names, cells.films.tolist(), strict=True)) == known


def test_a_table_that_would_not_fit_is_refused_before_it_is_made() -> None:
    refuse_too_many(MAX_ROWS, 1)
    with pytest.raises(BadInput, match=r"got 194,580 combinations in 54 cells; expected at most 4,000,000 rows"):
        refuse_too_many(194_580, 54)
