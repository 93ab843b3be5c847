"""Without these, a plan could edit evaluation patients, ask for edits nobody can render, or promise too much."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cars_core.coverage.gaps import find_gaps
from cars_core.coverage.plan import plan_edits
from cars_core.digest import digest
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gaps, Plan
from schemas.tables import GAPS, PLAN

V = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "mass", "pneumothorax"]
EVERYTHING = {"insert": frozenset(NAMES), "delete": frozenset(NAMES)}
PARENTS = {"atelectasis": "lung_opacity", "nodule": "lung_lesion", "mass": "lung_lesion"}
Row = dict[str, Any]

# A film: (patient, state of each finding); the oracle works on these, never on bits.
Film = tuple[int, dict[str, str]]
film_lists = st.lists(
    st.tuples(st.integers(0, 5), st.fixed_dictionaries(
        {n: st.sampled_from(["present", "absent", "absent", "", "uncertain"]) for n in NAMES})),
    min_size=1, max_size=20)
offers = st.fixed_dictionaries({k: st.frozensets(st.sampled_from(NAMES), min_size=1) for k in ("insert", "delete")})


def table(films: list[Film], *, vocabulary: Vocabulary = V, **columns: list[str]) -> pa.Table:
    stated = [Vector(**{s: vocabulary.mask([n for n, v in states.items() if v == s])
                        for s in ("present", "absent", "uncertain")}) for _, states in films]
    vectors = [close_upwards(v, vocabulary) for v in stated]
    n = len(films)
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
    plain: dict[str, list[Any]] = {
        "record": ids, "image_id": ids, "object": [i[::-1] for i in ids], "patient": [f"p{p}" for p, _ in films],
        "split": ["train"] * n, "status": ["accepted"] * n, "source": ["nih"] * n, "licence": ["CC0"] * n,
        "truth": [f"truth {i}" for i in range(n)]}
    return pa.table({**plain, **columns, **{k: pa.array([getattr(v, k) for v in vectors], pa.int64())
                                            for k in ("present", "absent", "uncertain")}})


def plan(train: pa.Table, *, names: list[str] = NAMES, order: int = 2, only_order: int | None = None,
         min_count: int = 4, uncertain: Any = "absent", offered: dict[str, frozenset[str]] = EVERYTHING,
         vocabulary: Vocabulary = V, seed: int = 1, **limits: Any) -> tuple[list[Row], list[Row]]:
    wish = Gaps(findings=names, order=order, min_count=min_count, uncertain=uncertain)
    missing = find_gaps(train, wish, vocabulary=vocabulary)
    if only_order is not None:
        missing = missing.filter(pc.equal(missing["order"], only_order))
    edits, gaps = plan_edits(train, missing, Plan(**limits), offered=offered, vocabulary=vocabulary, seed=seed,
                             build="b", render_key="k", editor="e", segmenter="s", uncertain=uncertain)
    assert (edits.schema, gaps.schema) == (PLAN, GAPS)
    return edits.to_pylist(), gaps.to_pylist()


def kinds(row: Row) -> list[tuple[str, str]]:
    return [(o["kind"], o["finding"]) for o in row["operations"]]


def only_deletes(row: Row) -> bool:
    return {k for k, _ in kinds(row)} == {"delete"}


@given(films=film_lists, offered=offers, per_film=st.integers(1, 3), per_patient=st.integers(1, 4),
       max_edits=st.integers(1, 40), max_operations=st.integers(1, 3), share=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
       uncertain=st.sampled_from(["absent", "present"]))
@settings(max_examples=50, deadline=None)
def test_every_planned_edit_is_one_the_recipe_and_the_editor_allow(
        films: list[Film], offered: dict[str, frozenset[str]], per_film: int, per_patient: int, max_edits: int,
        max_operations: int, share: float, uncertain: str) -> None:
    edits, gaps = plan(table(films), offered=offered, per_film=per_film, per_patient=per_patient, max_edits=max_edits,
                       max_operations=max_operations, deletions=share, order=3, uncertain=uncertain)
    by_id = {hashlib.sha256(str(i).encode()).hexdigest(): f for i, f in enumerate(films)}
    carried: Counter[int] = Counter()
    for rank, row in enumerate(edits):
        patient, states = by_id[row["image_id"]]
        after = dict(states)
        for kind, finding in kinds(row):
            assert finding in offered[kind]
            assert states[finding] in ({"", "absent"} if kind == "insert" else {"present"})
            after[finding] = "present" if kind == "insert" else "absent"
        assert 1 <= len(row["operations"]) <= max_operations
        assert len({f for _, f in kinds(row)}) == len(row["operations"])
        for state in ("present", "absent", "uncertain"):
            assert set(V.unpack(row[state])) & set(NAMES) == {n for n, s in after.items() if s == state}
        assert row["present"] & row["absent"] == row["present"] & row["uncertain"] == 0
        positive = {n for n, s in after.items() if s in ({"present", uncertain} - {"absent"})}
        implied = {PARENTS[n] for n in positive if n in PARENTS and (uncertain == "absent" or after[n] == "present")}
        assert set(V.unpack(row["present"])) == {n for n, s in after.items() if s == "present"} | implied
        held = row["present"] | (row["uncertain"] if uncertain == "present" else 0)
        assert held & row["gap"] == row["gap"] > 0
        assert row["cost"] == sum({"insert": 1.0, "delete": 1.5}[k] for k, _ in kinds(row))
        assert (row["rank"], row["patient"], row["licence"]) == (rank, f"p{patient}", "CC0")
        assert row["truth"] is not None
        assert row["object"] == row["image_id"][::-1]
        assert set(V.unpack(row["source_present"])) & set(NAMES) == {n for n, s in states.items() if s == "present"}
        carried.update(g["gap"] for g in gaps if held & g["gap"] == g["gap"])
    assert len(edits) <= max_edits
    assert max(Counter(r["image_id"] for r in edits).values(), default=0) <= per_film
    assert max(Counter(r["patient"] for r in edits).values(), default=0) <= per_patient
    assert len({r["edit_id"] for r in edits}) == len(edits)
    for g in gaps:
        assert g["planned"] == carried[g["gap"]]
        assert (g["reason"] is None) == (g["planned"] >= g["deficit"])
        assert g["fillable"] or not g["planned"]


@given(films=film_lists, inserts=st.frozensets(st.sampled_from(NAMES), min_size=1), max_operations=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_without_caps_every_gap_some_film_can_reach_is_filled_and_the_others_say_so(
        films: list[Film], inserts: frozenset[str], max_operations: int) -> None:
    offered = {"insert": inserts, "delete": frozenset(NAMES)}
    _, gaps = plan(table(films), offered=offered, order=3, per_film=10**6, per_patient=10**6, max_edits=10**6,
                   max_operations=max_operations, deletions=0)
    for g in gaps:
        def reachable(allowed: frozenset[str], gap: Row = g) -> bool:
            for _, states in films:
                lacking = {n for n in gap["findings"] if states[n] != "present"}
                if 0 < len(lacking) <= max_operations and lacking <= allowed and all(
                        states[n] != "uncertain" for n in lacking):
                    return True
            return False

        if reachable(inserts):
            assert g["planned"] >= g["deficit"]
            assert (g["fillable"], g["reason"]) == (True, None)
        else:
            names = [n for n in V.names if n in g["findings"] and n not in inserts]
            # Edits for other gaps may still carry it, on films that hold it already.
            assert g["fillable"] is (g["planned"] > 0)
            why = ("editor does not insert " + ", ".join(names) if reachable(frozenset(NAMES))
                   else f"no training film within {max_operations} operations")
            assert g["reason"] == (why if g["planned"] < g["deficit"] else None)


@given(films=film_lists, random=st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None)
def test_the_same_films_in_another_order_give_the_same_plan(films: list[Film], random: Random) -> None:
    train = table(films)
    order = list(range(len(films)))
    random.shuffle(order)
    assert plan(train.take(order)) == plan(train)


def many(n: int = 400, seed: int = 0) -> list[Film]:
    random = Random(seed)
    share = {"atelectasis": 0.3, "effusion": 0.3, "nodule": 0.15, "mass": 0.1, "pneumothorax": 0.05}
    return [(i // 2, {k: "present" if random.random() < p else "absent" for k, p in share.items()}) for i in range(n)]


def test_another_seed_gives_another_plan() -> None:
    first, second = plan(table(many()), seed=1)[0], plan(table(many()), seed=2)[0]
    assert not {r["edit_id"] for r in first} & {r["edit_id"] for r in second}
    assert {r["image_id"] for r in first} != {r["image_id"] for r in second}


def test_the_cheapest_sources_are_taken_first() -> None:
    films: list[Film] = [(i, {"mass": "present" if i < 20 else "absent", "pneumothorax": "absent"}) for i in range(100)]
    wish: dict[str, Any] = {"names": ["mass", "pneumothorax"], "only_order": 2, "deletions": 0}
    for count in (15, 25):
        edits, _ = plan(table(films), min_count=count, **wish)
        assert [r["cost"] for r in edits] == ([1.0] * 20 + [2.0] * 5)[:count]
    edits, _ = plan(table(films), min_count=45, per_film=2, **wish)
    first, second = edits[:20], edits[20:40]
    assert {r["image_id"] for r in first} == {r["image_id"] for r in second}  # every film once before any twice
    assert [r["cost"] for r in edits] == [1.0] * 40 + [2.0] * 5


def test_a_short_budget_is_shared_between_gaps() -> None:
    edits, gaps = plan(table(many()), min_count=1000, max_edits=45, deletions=0)
    turns = Counter(r["gap"] for r in edits)
    assert set(turns.values()) == {3}
    assert len(turns) == len(gaps) == 15
    assert {g["reason"] for g in gaps} == {"caps reached: max_edits"}


def test_caps_that_keep_a_gap_short_are_named() -> None:
    films: list[Film] = [(0, {"mass": "present", "effusion": "absent"})] * 3
    for limits, cap, planned in (({"per_patient": 2, "per_film": 9}, "per_patient", 2),
                                 ({"per_patient": 9}, "per_film", 3), ({"max_edits": 1}, "max_edits", 1)):
        _, [gap] = plan(table(films), names=["mass", "effusion"], only_order=2, **limits)
        assert (gap["fillable"], gap["reason"], gap["planned"]) == (True, f"caps reached: {cap}", planned)


def test_the_share_of_deletions_holds_at_every_rank_and_prefers_leaving_a_gap_alone() -> None:
    films = many(800)
    train = table(films)
    edits, gaps = plan(train, min_count=60, max_edits=100, deletions=0.3)
    for n in range(1, len(edits) + 1):
        assert sum(map(only_deletes, edits[:n])) >= int(0.3 * n + 1e-9)
    by_id = dict(zip(train["image_id"].to_pylist(), films, strict=True))
    masks = {g["gap"] for g in gaps}
    deletions = [r for r in edits if only_deletes(r)]
    assert len(deletions) == 30
    for row in deletions:
        before = {n for n, s in by_id[row["image_id"]][1].items() if s == "present"}
        assert len(before) >= 2
        assert row["gap"] in masks
        assert before - {f for _, f in kinds(row)} == set(V.unpack(row["gap"]))


def test_with_no_film_that_would_leave_a_gap_the_rarest_rest_is_left() -> None:
    films: list[Film] = [(i, {"effusion": "present", "mass": "present"}) for i in range(6)]
    films += [(10 + i, {"effusion": "present"}) for i in range(20)] + [(40 + i, {"mass": "present"}) for i in range(9)]
    films += [(80 + i, {}) for i in range(9)]
    edits, _ = plan(table(films), names=["pneumothorax"], order=1, deletions=0.5, min_count=6)
    rest = [r for r in edits if only_deletes(r)]
    # Mass alone is seen on 9 films, effusion alone on 20: mass is what is left.
    assert [V.unpack(r["gap"]) for r in rest] == [["mass"]] * len(rest)
    assert len(rest) >= len(edits) // 2 > 2


def test_a_new_film_moves_few_edits() -> None:
    films = many(600)
    before = {r["edit_id"] for r in plan(table(films), min_count=40)[0]}
    moved = []
    for n in range(8):
        more = [*films, (9000 + n, {"atelectasis": "present" if n % 2 else "absent"})]
        after = {r["edit_id"] for r in plan(table(more), min_count=40)[0]}
        assert len(after) == len(before)
        moved.append(len(before - after))
    assert max(moved) <= 6
    assert sum(moved) / len(moved) <= 3


def test_draws_depend_on_the_film_and_its_operations_only() -> None:
    films = many(600)
    few = {(r["image_id"], str(kinds(r))): r for r in plan(table(films), min_count=40)[0]}
    lots = {(r["image_id"], str(kinds(r))): r for r in plan(table(films), min_count=80, max_edits=300)[0]}
    shared = few.keys() & lots.keys()
    assert len(shared) > 20
    for key in shared:
        assert [few[key][c] for c in ("edit_id", "operations", "seed")] == [lots[key][c] for c in
                                                                            ("edit_id", "operations", "seed")]
    rows = list(lots.values())
    for r in rows:
        assert r["edit_id"] == digest([r["image_id"], r["object"], r["operations"], r["seed"], "k"])[:32]
        assert 0 <= r["seed"] < 2**63
    operations = [o for r in rows for o in r["operations"]]
    severities = [o["severity"] for o in operations]
    assert all(0.4 <= s <= 0.9 and round(s, 2) == s for s in severities)
    assert abs(sum(severities) / len(severities) - 0.65) < 0.03
    sides = Counter(o["side"] for o in operations if o["kind"] == "insert")
    assert set(sides) == {"left", "right"}
    assert 0.35 < sides["left"] / sides.total() < 0.65
    assert {o["side"] for o in operations if o["kind"] == "delete"} == {"both"}


def test_the_same_edit_planned_twice_gets_its_own_draws() -> None:
    edits, _ = plan(table([(0, {"mass": "present"})]), names=["mass", "effusion"], only_order=2, min_count=6,
                    per_film=9, per_patient=9)
    assert len({r["seed"] for r in edits}) == len({r["edit_id"] for r in edits}) == len(edits) == 6
    assert len({str(r["operations"]) for r in edits}) > 3


def test_what_the_vocabulary_excludes_beside_the_gap_is_swapped_out_or_the_film_is_left_alone() -> None:
    plain = {"aliases": {}, "parents": (), "outline": False, "sided": False}
    v = Vocabulary((Finding("hyperinflation", 0, **plain),
                    Finding("low_volume", 1, **plain, excludes=("hyperinflation",)),
                    Finding("effusion", 2, **plain)), {})
    train = table([(i, {"hyperinflation": "present", "effusion": "present"}) for i in range(5)], vocabulary=v)
    wish: dict[str, Any] = {"names": ["low_volume", "effusion"], "vocabulary": v, "min_count": 3, "deletions": 0}
    offered = {"insert": frozenset(v.names), "delete": frozenset(v.names)}
    edits, gaps = plan(train, offered=offered, **wish)
    assert {tuple(kinds(r)) for r in edits} == {(("insert", "low_volume"), ("delete", "hyperinflation"))}
    assert {(r["present"], r["absent"], r["cost"]) for r in edits} == {(0b110, 0b001, 2.5)}
    assert [(g["planned"], g["fillable"]) for g in gaps] == [(3, True)] * 2
    for refused in ({"offered": {**offered, "delete": frozenset()}}, {"offered": offered, "max_operations": 1}):
        edits, gaps = plan(train, **wish, **refused)
        assert edits == []
        assert {g["reason"] for g in gaps} == {f"no training film within {refused.get('max_operations', 2)} operations"}
    _, gaps = plan(train, offered=offered, **{**wish, "names": ["low_volume", "hyperinflation"]})
    [pair] = [g for g in gaps if g["order"] == 2]
    assert (pair["fillable"], pair["planned"]) == (False, 0)
    assert pair["reason"] == "the vocabulary excludes hyperinflation with low_volume"


@pytest.mark.parametrize(("column", "value"), [("split", "test"), ("split", "validate"), ("status", "quarantined")])
def test_a_film_of_another_split_is_never_edited(column: str, value: str) -> None:
    films = many(4)
    usual = {"split": "train", "status": "accepted"}[column]
    gaps = find_gaps(table(films), Gaps(findings=NAMES), vocabulary=V)
    with pytest.raises(BadInput, match=f"training films: {column}: got {value}"):
        plan_edits(table(films, **{column: [usual] * 3 + [value]}), gaps, Plan(), offered=EVERYTHING, vocabulary=V,
                   seed=0, build="b", render_key="k", editor="e", segmenter="s")


def test_other_faults_are_named() -> None:
    train = table(many(4))
    gaps = find_gaps(train, Gaps(findings=NAMES), vocabulary=V)

    def call(films: pa.Table, table_of_gaps: pa.Table, offered: dict[str, frozenset[str]]) -> None:
        plan_edits(films, table_of_gaps, Plan(), offered=offered, vocabulary=V, seed=0, build="b", render_key="k",
                   editor="e", segmenter="s")

    with pytest.raises(BadInput, match="a column licence"):
        call(train.drop_columns(["licence"]), gaps, EVERYTHING)
    for column in ("image_id", "object"):
        blank = pa.array([None, *train[column].to_pylist()[1:]], pa.string())
        with pytest.raises(BadInput, match=f"training films: {column}: got null"):
            call(train.set_column(train.column_names.index(column), column, blank), gaps, EVERYTHING)
    with pytest.raises(BadInput, match="a column deficit"):
        call(train, gaps.drop_columns(["deficit"]), EVERYTHING)
    with pytest.raises(BadInput, match="insert and delete"):
        call(train, gaps, {"insert": frozenset(NAMES)})
    with pytest.raises(BadInput, match="got noduel"):
        call(train, gaps, {"insert": frozenset({"noduel"}), "delete": frozenset()})


def test_no_films_and_no_gaps_give_an_empty_plan() -> None:
    edits, gaps = plan(table([]))
    assert edits == []
    assert {g["reason"] for g in gaps} == {"no training film within 2 operations"}
    full: list[Film] = [(i, dict.fromkeys(NAMES, "present")) for i in range(4)]
    assert plan(table(full)) == ([], [])


@given(films=film_lists)
@settings(max_examples=8, deadline=None)
def test_an_image_met_twice_is_edited_as_one_film(films: list[Film]) -> None:
    train = table(films)
    assume(plan(train)[0])
    gaps = find_gaps(train, Gaps(findings=NAMES), vocabulary=V)
    twice = pa.concat_tables([train, train])
    edits, _ = plan_edits(twice, gaps, Plan(per_patient=50), offered=EVERYTHING, vocabulary=V, seed=0, build="b",
                          render_key="k", editor="e", segmenter="s")
    assert max(Counter(edits["image_id"].to_pylist()).values()) == 1


def test_large_cohorts_fill_all_pairs() -> None:
    random = Random(3)
    names = [f.name for f in V.findings if "nih" in f.aliases][:8]
    films: list[Film] = [(i, {n: "present" if random.random() < 0.03 else "absent" for n in names})
                         for i in range(20_000)]
    pairs = [V.mask(list(p)) for p in combinations(names, 2)]
    edits, gaps = plan(table(films), names=names, min_count=40, max_edits=5000, offered={
        "insert": frozenset(names), "delete": frozenset(names)})
    short = {g["gap"] for g in gaps}
    assert short <= set(pairs)
    assert len(short) > 10
    assert all(g["planned"] >= g["deficit"] for g in gaps)
    assert len(edits) < 5000
