"""Without these, a plan could be called near the best possible when it is not, or the bound could lie above it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from cars_core.coverage.planning.bound import lower_bound
from cars_core.coverage.planning.ragged import Ragged, offsets


def ragged(lists: list[list[int]]) -> Ragged:
    values = np.array([v for x in lists for v in x], np.int64)
    return Ragged(offsets(np.array([len(x) for x in lists], np.int64)), values)


def bound(sets: list[list[int]], needed: list[int], supply: list[int]) -> int:
    """Every kind can be edited to fill every set."""
    pairs = list(product(range(len(sets)), range(len(supply))))
    return lower_bound(ragged(sets), np.array(needed, np.int64), sets=np.array([s for s, _ in pairs], np.int64),
                       kinds=np.array([k for _, k in pairs], np.int64), supply=np.array(supply, np.int64))


def test_known_answers() -> None:
    assert bound([[0, 1], [1, 2], [0, 2]], [1, 1, 1], [9]) == 2  # a triangle: half of each edge, 1.5
    assert bound([[0], [1], [0, 1]], [3, 5], [9]) == 5
    assert bound([[0]], [0], [9]) == 0
    assert bound([[0], [0, 1, 2, 3]], [7, 7, 7, 7], [9]) == 7
    fills = ragged([[0, 1], [0], [1]])
    # The films for both gaps at once run out after two.
    of, kinds = np.array([0, 1, 2], np.int64), np.array([0, 1, 1], np.int64)
    assert lower_bound(fills, np.array([4, 4], np.int64), sets=of, kinds=kinds, supply=np.array([2, 50])) == 6


@given(sets=st.lists(st.frozensets(st.integers(0, 5), min_size=1), min_size=1, max_size=7),
       needed=st.lists(st.integers(0, 6), min_size=6, max_size=6),
       rich=st.lists(st.integers(0, 3), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_it_is_the_linear_optimum_rounded_up_and_never_above_the_whole_one(
        sets: list[frozenset[int]], needed: list[int], rich: list[int]) -> None:
    lists = [sorted(s) for s in sets] + [[g] for g in range(6)]
    supply = [*rich, 1000]
    kinds = [i % 2 for i in range(len(sets))] + [2] * 6  # films for the single gaps never run out
    got = lower_bound(ragged(lists), np.array(needed, np.int64), sets=np.arange(len(lists)),
                      kinds=np.array(kinds, np.int64), supply=np.array(supply, np.int64))
    covers = np.array([[float(g in x) for x in lists] for g in range(6)])
    uses = np.array([[float(k == j) for k in kinds] for j in range(3)])
    linear = linprog(np.ones(len(lists)), A_ub=np.vstack([-covers, uses]), b_ub=[-n for n in needed] + supply).fun
    assert got == pytest.approx(np.ceil(linear - 1e-6))
    whole = milp(np.ones(len(lists)), integrality=np.ones(len(lists)), bounds=Bounds(0, np.inf), constraints=[
        LinearConstraint(covers, needed, np.inf), LinearConstraint(uses, 0, supply)]).fun
    assert got <= round(whole)


def test_a_search_that_stops_early_still_gives_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    sets = [sorted(random.choice(40, size=6, replace=False).tolist()) for _ in range(2000)]
    needed = random.integers(1, 30, 40).tolist()
    best = bound(sets, needed, [10**6])
    monkeypatch.setattr("cars_core.coverage.planning.bound._AT_ONCE", 5)
    for rounds in (1, 2, 4):
        monkeypatch.setattr("cars_core.coverage.planning.bound._ROUNDS", rounds)
        assert bound(sets, needed, [10**6]) <= best
    monkeypatch.setattr("cars_core.coverage.planning.bound._ROUNDS", 400)
    assert abs(bound(sets, needed, [10**6]) - best) <= 1
