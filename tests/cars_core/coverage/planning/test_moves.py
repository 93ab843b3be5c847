"""Without these, edits that would fill a gap could be overlooked, cost too much, or be ones that cannot be made."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.planning.films import Films, Vectors
from cars_core.coverage.planning.moves import Act, edited, find_moves, operation_costs, siblings
from cars_core.coverage.planning.targets import target_vector
from cars_core.coverage.planning.wanted import Wanted
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Plan, Plausible

V = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "mass", "pneumothorax"]
STATES = ["present", "absent", "uncertain", ""]
PLAIN: dict[str, Any] = {"aliases": {}, "parents": (), "outline": False, "sided": False}
SMALL = Vocabulary((Finding("a", 0, **PLAIN), Finding("b", 1, **{**PLAIN, "parents": ("a",)}),
                    Finding("c", 2, **{**PLAIN, "parents": ("b",)}), Finding("d", 3, **{**PLAIN, "parents": ("a",)}),
                    Finding("e", 4, **PLAIN, excludes=("d",)), Finding("f", 5, **PLAIN)), {})


@given(states=st.fixed_dictionaries({n: st.sampled_from(STATES) for n in SMALL.names}),
       doing=st.dictionaries(st.sampled_from(SMALL.names), st.sampled_from(["insert", "delete"]), min_size=1,
                             max_size=3),
       stated=st.frozensets(st.sampled_from(SMALL.names)))
@settings(max_examples=300, deadline=None)
def test_edits_in_bulk_are_those_done_one_by_one(
        states: dict[str, str], doing: dict[str, str], stated: frozenset[str]) -> None:
    masks = {s: SMALL.mask([n for n, x in states.items() if x == s]) for s in STATES if s}
    source = close_upwards(Vector(**masks), SMALL)
    known = SMALL.mask(sorted(stated))
    insert, delete = (SMALL.mask([n for n, k in doing.items() if k == kind]) for kind in ("insert", "delete"))
    parts = (source.present, source.absent, source.uncertain, known)
    one = Vectors(*(np.array([x], np.int64) for x in parts), "absent")
    target, legal = edited(one, np.array([insert]), np.array([delete]), SMALL)
    try:
        expected: Vector | None = target_vector(source, [(k, n) for n, k in doing.items()], vocabulary=SMALL,
                                                stated=known)
    except BadInput:
        expected = None
    if expected is not None:
        up = insert | SMALL.ancestors(insert)
        if SMALL.excluded(up) & (expected.present | expected.uncertain):
            expected = None
    assert legal.tolist() == [expected is not None]
    if expected is not None:
        assert target[0] == expected


def brute(films: list[tuple[int, dict[str, str]]], gaps: list[dict[str, Any]], cohorts: Any, most: int, uncertain: str,
          patterns: str) -> dict[tuple[int, frozenset[str]], float]:
    """(film, gaps newly shown) -> least cost, over every insertion and deletion of NAMES up to `most`."""
    out: dict[tuple[int, frozenset[str]], float] = {}
    for i, (_, states) in enumerate(films):
        for count in range(1, most + 1):
            for names in combinations(NAMES, count):
                row = {"operations": [{"kind": "delete" if states[n] == "present" else "insert", "finding": n}
                                      for n in names]}
                deleted = [n for n in names if states[n] == "present"]
                if any(states[n] == "uncertain" for n in names) or (deleted and patterns == "positive"):
                    continue
                after = cohorts.after(states, row)
                newly = frozenset(str(g["findings"]) for g in gaps if cohorts.shows(after, g, uncertain)
                                  and not cohorts.shows(states, g, uncertain))
                if newly:
                    cost = 1.5 * len(deleted) + 1.0 * (count - len(deleted))
                    out[i, newly] = min(cost, out.get((i, newly), 99.0))
    return out


@given(films=st.lists(st.tuples(st.integers(0, 5), st.fixed_dictionaries(
           {n: st.sampled_from(["present", "absent", "", "uncertain"]) for n in NAMES})), min_size=1, max_size=6),
       most=st.integers(1, 3), uncertain=st.sampled_from(["absent", "present", "ignore"]),
       patterns=st.sampled_from(["positive", "full"]))
@settings(max_examples=40, deadline=None)
def test_every_way_to_fill_gaps_is_found_at_its_least_cost(
        cohorts: Any, films: list[tuple[int, dict[str, str]]], most: int, uncertain: Any, patterns: str) -> None:
    train = cohorts.table(films)
    gaps, _ = cohorts.gaps(train, order=2, min_count=3, uncertain=uncertain, patterns=patterns)
    wanted = Wanted(gaps)
    known = Films(train, seed=1, vocabulary=V, uncertain=uncertain)
    moves = find_moves(known, wanted, Plan(max_operations=most), offered=cohorts.everything, vocabulary=V, seed=1,
                       plausible=None)
    found: dict[tuple[int, frozenset[str]], float] = {}
    for m in range(len(moves)):
        fills = frozenset(str(wanted.rows[g]["findings"]) for g in moves.fills[m].tolist())
        for kind, act in zip(moves.kinds[m].tolist(), moves.acts_of(m).tolist(), strict=True):
            assert moves.acts[act].cost == moves.cost[m]
            for place in np.flatnonzero(known.kind == kind).tolist():
                key = int(known.rows[place]), fills
                assert key not in found
                found[key] = float(moves.cost[m])
    possible = brute(films, [r for r in wanted.rows if r["fillable"]], cohorts, most, uncertain, patterns)
    if patterns == "positive":
        assert {k: v for k, v in found.items() if k in possible} == possible
        extra = found.keys() - possible.keys()  # swaps: what they fill an insertion fills too, and more
        assert all(any(i == j and fills < more for j, more in possible) for i, fills in extra)
    else:
        assert found == possible


def test_moves_are_few_where_films_are_many(cohorts: Any) -> None:
    one = cohorts.many(300)
    small, large = (Films(cohorts.table(f), seed=1, vocabulary=V, uncertain="absent") for f in (one, one * 4))
    gaps, rule = cohorts.gaps(cohorts.table(one), order=3, min_count=100)
    made = [find_moves(f, Wanted(gaps), Plan(), offered=cohorts.everything, vocabulary=V, seed=1, plausible=rule)
            for f in (small, large)]
    assert len(made[0]) == len(made[1])
    assert (made[0].digest == made[1].digest).all()
    assert (made[0].supply * 4 == made[1].supply).all()


def test_a_swap_is_between_children_of_one_parent(cohorts: Any) -> None:
    assert set(V.unpack(siblings(V.mask(["nodule"]), V))) >= {"mass"}
    assert siblings(V.mask(["effusion"]), V) == 0
    films = [(i, {"nodule": "present", "effusion": "present"}) for i in range(4)]
    films += [(10, {"mass": "present"}), (11, {"mass": "present", "effusion": "present"})]
    train = cohorts.table(films)
    gaps, rule = cohorts.gaps(train, names=["mass", "effusion"], only_order=2, min_count=3,
                              plausible=Plausible(rule="seen", reference=None))
    moves = find_moves(Films(train, seed=1, vocabulary=V, uncertain="absent"), Wanted(gaps), Plan(),
                       offered=cohorts.everything, vocabulary=V, seed=1, plausible=rule)
    # Nodule and mass together are on no film, so the nodule makes place; the film with a mass just gets the effusion.
    acts = {moves.acts[a].operations(V) for a in moves.act_of.tolist()}
    assert acts == {(("insert", "mass"), ("delete", "nodule")), (("insert", "effusion"),)}


def test_costs_come_from_the_finding_else_in_general_over_its_pass_rate() -> None:
    costs = operation_costs(Plan(insert_cost=2.0, delete_cost=3.0, costs={"mass": {"insert": 5.0}},  # type: ignore
                                 pass_rates={"mass": {"insert": 0.5, "delete": 0.25}}), V)  # type: ignore[arg-type]
    assert (costs["insert"]["mass"], costs["delete"]["mass"]) == (10.0, 12.0)
    assert (costs["insert"]["nodule"], costs["delete"]["nodule"]) == (2.0, 3.0)


def test_a_large_vocabulary_of_operations_is_cut_where_it_matters_least(
        cohorts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = cohorts.table(cohorts.many(100))
    gaps, rule = cohorts.gaps(train, order=3, min_count=60)
    films = Films(train, seed=1, vocabulary=V, uncertain="absent")

    def acts() -> list[Act]:
        return find_moves(films, Wanted(gaps), Plan(max_operations=3), offered=cohorts.everything, vocabulary=V, seed=1,
                          plausible=rule).acts

    every = acts()
    monkeypatch.setattr("cars_core.coverage.planning.moves.MOST", 12 * len(films.vectors))
    few = acts()
    assert len(few) == 12 < len(every)
    assert set(few) < set(every)
    assert {a for a in every if (a.insert | a.delete).bit_count() == 1} <= set(few)
