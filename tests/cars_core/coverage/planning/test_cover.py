"""Without these, a plan could need more edits than it says, keep edits nobody needs, or call a bad one the best."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "mass", "pneumothorax"]
Film = tuple[int, dict[str, str]]
film_lists = st.lists(st.tuples(st.integers(0, 9), st.fixed_dictionaries(
    {n: st.sampled_from(["present", "absent", "absent", ""]) for n in NAMES})), min_size=2, max_size=12)
FREE: dict[str, Any] = {"deletions": 0, "max_edits": 10**6, "per_patient": 10**6}


def harmonic(d: int) -> float:
    return sum(1 / i for i in range(1, d + 1))


@given(films=film_lists, order=st.integers(1, 3), min_count=st.integers(1, 6), most=st.integers(1, 3),
       per_film=st.integers(1, 4), patterns=st.sampled_from(["positive", "full"]))
@settings(max_examples=40, deadline=None)
def test_greedy_is_minimal_and_between_the_optimum_and_its_guarantee(
        cohorts: Any, films: list[Film], order: int, min_count: int, most: int, per_film: int, patterns: str) -> None:
    wish: dict[str, Any] = {**FREE, "order": min(order, 2) if patterns == "full" else order, "min_count": min_count,
                            "max_operations": most, "per_film": per_film, "patterns": patterns}
    train = cohorts.table(films)
    greedy, best = (cohorts.planned(train, strategy=s, **wish) for s in ("fewest", "optimal"))
    edits, gaps = greedy.plan.to_pylist(), greedy.gaps.to_pylist()
    reached = {str(g["findings"]): cohorts.newly(films, edits, g) for g in gaps}
    assert all(reached[str(g["findings"])] == g["planned"] for g in gaps)
    for leave in range(len(edits)):
        rest = edits[:leave] + edits[leave + 1:]
        assert any(cohorts.newly(films, rest, g) < min(g["planned"], g["deficit"]) for g in gaps)
    assert best.summary.filled >= greedy.summary.filled
    if best.summary.filled == greedy.summary.filled:
        assert greedy.summary.bound <= best.summary.planned <= greedy.summary.planned
    if per_film >= min_count and best.summary.filled == greedy.summary.filled == greedy.summary.missing:
        assert greedy.summary.planned <= harmonic(len(gaps)) * best.summary.planned


@given(films=st.lists(st.tuples(st.integers(0, 9), st.fixed_dictionaries(
           {n: st.sampled_from(["present", "absent"]) for n in NAMES[:3]})), min_size=1, max_size=4),
       min_count=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_optimal_is_what_trying_every_set_of_edits_finds(cohorts: Any, films: list[Film], min_count: int) -> None:
    names = NAMES[:3]
    made = cohorts.planned(cohorts.table(films), names=names, order=2, min_count=min_count, strategy="optimal",
                           offered={"insert": frozenset(names), "delete": frozenset()}, **FREE)
    gaps = made.gaps.to_pylist()
    possible = [[]]  # the edits of each film, or none
    choices = []
    for i, (_, states) in enumerate(films):
        lacking = [n for n in names if states[n] != "present"]
        choices.append([None] + [(i, c) for k in (1, 2) for c in combinations(lacking, k)])
    for options in choices:
        possible = [[*p, *([o] if o else [])] for p in possible for o in options]

    def row(edit: Any) -> dict[str, Any]:
        return {"image_id": cohorts.image(edit[0]), "operations": [{"kind": "insert", "finding": n} for n in edit[1]]}

    single = {e: [cohorts.newly(films, [row(e)], g) for g in gaps] for options in choices for e in options if e}
    fills = {e: tuple(f) for e, f in single.items() if any(f)}
    best = None
    for plan in possible:
        if all(e in fills for e in plan):
            counts = [sum(fills[e][i] for e in plan) for i in range(len(gaps))]
            filled = sum(min(c, g["deficit"]) for c, g in zip(counts, gaps, strict=True))
            score = (-filled, len(plan), float(sum(len(e[1]) for e in plan)))
            best = score if best is None else min(best, score)
    s = made.summary
    assert (-s.filled, s.planned, s.cost) == best


def test_controls_need_more_edits_for_the_same_gaps(cohorts: Any) -> None:
    train = cohorts.table(cohorts.many(600))
    wish: dict[str, Any] = {**FREE, "order": 3, "min_count": 20, "per_film": 50}
    made = {s: cohorts.planned(train, strategy=s, **wish).summary for s in ("optimal", "fewest", "min_gap", "random")}
    assert {s.filled for s in made.values()} == {made["fewest"].missing}
    assert {s.closed for s in made.values()} == {made["fewest"].gaps}
    counts = [made[s].planned for s in ("optimal", "fewest", "min_gap", "random")]
    assert counts == sorted(counts)
    assert counts[1] <= 1.5 * counts[0]
    assert counts[3] > 3 * counts[1]


def test_the_optimum_keeps_to_patients_caps_and_says_what_they_leave_open(cohorts: Any) -> None:
    films: list[Film] = [(i // 6, {"mass": "present"}) for i in range(12)]
    wish: dict[str, Any] = {"names": ["mass", "effusion"], "only_order": 2, "min_count": 10, "deletions": 0,
                            "strategy": "optimal"}
    made = cohorts.planned(cohorts.table(films), per_film=9, per_patient=3, **wish)
    assert max(Counter(made.plan["patient"].to_pylist()).values()) == 3
    [gap] = made.gaps.to_pylist()
    assert (gap["planned"], gap["fillable"], gap["reason"]) == (6, True, "caps reached: per_patient")


def test_a_problem_too_large_for_the_optimum_is_refused_with_its_size(
        cohorts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = cohorts.table(cohorts.many(200))
    for limit, what in (("MOST_COLUMNS", "moves"), ("MOST_GAPS", "gaps")):
        with monkeypatch.context() as m:
            m.setattr(f"cars_core.coverage.planning.optimal.{limit}", 3)
            with pytest.raises(BadInput, match=rf"plan.strategy: got optimal, with [\d,]+ {what}; expected at most 3"):
                cohorts.plan(train, min_count=60, strategy="optimal")


def test_a_gap_without_a_film_for_it_does_not_stop_the_others(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present", "effusion": "uncertain"}) for i in range(5)]
    for strategy in ("fewest", "optimal", "min_gap", "random"):
        _, gaps = cohorts.plan(cohorts.table(films), names=["mass", "effusion", "nodule"], min_count=5, deletions=0,
                               strategy=strategy, per_film=900, per_patient=900, max_edits=10_000)
        for g in gaps:
            if "effusion" in g["findings"]:
                assert (g["fillable"], g["reason"]) == (False, "no training film within 2 operations")
            else:
                assert (g["planned"] >= g["deficit"], g["reason"]) == (True, None)


@pytest.mark.parametrize("strategy", ["min_gap", "fewest"])
def test_edits_for_one_gap_count_for_the_others_they_fill(cohorts: Any, strategy: str) -> None:
    films: list[Film] = [(i, {"mass": "present", "nodule": "present"}) for i in range(30)]
    edits, gaps = cohorts.plan(cohorts.table(films), names=["mass", "nodule", "effusion"], order=3, min_count=6,
                               strategy=strategy, deletions=0)
    assert len(edits) == 6  # each fills effusion, both pairs and the triple
    assert {g["planned"] for g in gaps} == {6}


def test_random_edits_are_of_all_four_kinds_whether_they_fill_something_or_not(cohorts: Any) -> None:
    edits, _ = cohorts.plan(cohorts.table(cohorts.many(400)), min_count=60, strategy="random", max_edits=200)
    forms = Counter(tuple(sorted(k for k, _ in cohorts.kinds(r))) for r in edits)
    assert set(forms) == {("delete", "insert"), ("insert",), ("insert", "insert"), ("delete",)}
    assert any(r["gap"] == 0 for r in edits)
    for r in edits:
        if {k for k, _ in cohorts.kinds(r)} == {"insert", "delete"}:
            assert {f for _, f in cohorts.kinds(r)} == {"mass", "nodule"}
