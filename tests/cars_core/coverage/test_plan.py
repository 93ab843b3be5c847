"""Without these, a plan could edit evaluation patients, ask for edits nobody can render, or promise too much."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cars_core.coverage.gaps import find_gaps, group_training
from cars_core.coverage.plan import plan_edits
from cars_core.coverage.planning.targets import stated_by, target_vector
from cars_core.coverage.plausible import training_plausibility
from cars_core.digest import digest
from cars_core.vectors import Vector
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps, Plan, Plausible

V = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "mass", "pneumothorax"]
PARENTS = {"atelectasis": "lung_opacity", "nodule": "lung_lesion", "mass": "lung_lesion"}
Film = tuple[int, dict[str, str]]
film_lists = st.lists(
    st.tuples(st.integers(0, 5), st.fixed_dictionaries(
        {n: st.sampled_from(["present", "absent", "absent", "", "uncertain"]) for n in NAMES})),
    min_size=1, max_size=20)
offers = st.fixed_dictionaries({k: st.frozensets(st.sampled_from(NAMES), min_size=1) for k in ("insert", "delete")})


@given(films=film_lists, offered=offers, per_film=st.integers(1, 3), per_patient=st.integers(1, 4),
       max_edits=st.integers(1, 40), max_operations=st.integers(1, 3), share=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
       uncertain=st.sampled_from(["absent", "present", "ignore"]), patterns=st.sampled_from(["positive", "full"]),
       strategy=st.sampled_from(["fewest", "fewest", "min_gap", "random", "optimal"]))
@settings(max_examples=60, deadline=None)
def test_every_planned_edit_is_one_the_recipe_and_the_editor_allow(
        cohorts: Any, films: list[Film], offered: dict[str, frozenset[str]], per_film: int, per_patient: int,
        max_edits: int, max_operations: int, share: float, uncertain: str, patterns: str, strategy: str) -> None:
    edits, gaps = cohorts.plan(
        cohorts.table(films), offered=offered, per_film=per_film, per_patient=per_patient, max_edits=max_edits,
        max_operations=max_operations, deletions=share, order=2 if patterns == "full" else 3, uncertain=uncertain,
        patterns=patterns, strategy=strategy, min_count=3)
    by_id = {cohorts.image(i): f for i, f in enumerate(films)}
    stated = stated_by("nih", V)
    for rank, row in enumerate(edits):
        patient, states = by_id[row["image_id"]]
        for kind, finding in cohorts.kinds(row):
            assert finding in offered[kind]
            assert states[finding] in ({"", "absent"} if kind == "insert" else {"present"})
        after = cohorts.after(states, row)
        assert 1 <= len(row["operations"]) <= max_operations
        assert len({f for _, f in cohorts.kinds(row)}) == len(row["operations"])
        for state in ("present", "absent", "uncertain"):
            assert set(V.unpack(row[state])) & set(NAMES) == {n for n, s in after.items() if s == state}
        source = cohorts.table([(patient, states)]).to_pylist()[0]
        target = target_vector(Vector(*(source[k] for k in ("present", "absent", "uncertain"))), cohorts.kinds(row),
                               vocabulary=V, stated=stated)
        assert (target.present, target.absent, target.uncertain) == (row["present"], row["absent"], row["uncertain"])
        assert set(V.unpack(row["present"])) == {n for n, s in after.items() if s == "present"} | {
            PARENTS[n] for n, s in after.items() if s == "present" and n in PARENTS}
        assert row["cost"] == sum({"insert": 1.0, "delete": 1.5}[k] for k, _ in cohorts.kinds(row))
        assert (row["rank"], row["patient"], row["licence"]) == (rank, f"p{patient}", "CC0")
        assert row["truth"] is not None
        assert row["object"] == row["image_id"][::-1]
        assert row["source_present"] == source["present"]
        if (row["gap"], row["without"]) != (0, 0):
            label = {"findings": V.unpack(row["gap"]) + [f"no {n}" for n in V.unpack(row["without"])]}
            assert cohorts.shows({**after, "lung_lesion": "", "lung_opacity": ""}, label, uncertain)
    assert len(edits) <= max_edits
    assert max(Counter(r["image_id"] for r in edits).values(), default=0) <= per_film
    assert max(Counter(r["patient"] for r in edits).values(), default=0) <= per_patient
    assert len({r["edit_id"] for r in edits}) == len(edits)
    for g in gaps:
        assert g["planned"] == cohorts.newly(films, edits, g, uncertain)
        assert (g["reason"] is None) == (g["planned"] >= g["deficit"])
        assert g["fillable"] or not g["planned"] or strategy == "random"


def test_an_edit_that_only_insertion_of_an_implying_finding_can_make_is_found(cohorts: Any) -> None:
    films: list[Film] = [(i, {"effusion": "present", "mass": "absent", "nodule": "absent"}) for i in range(6)]
    # What a film shows by implication counts, and can be reached from below where it is not itself offered.
    edits, [gap] = cohorts.plan(cohorts.table(films), names=["lung_lesion", "effusion"], only_order=2, min_count=3,
                                deletions=0)
    assert {tuple(cohorts.kinds(r)) for r in edits} <= {(("insert", "mass"),), (("insert", "nodule"),)}
    assert (gap["planned"], gap["reason"]) == (3, None)


@given(films=film_lists, inserts=st.frozensets(st.sampled_from(NAMES), min_size=1), max_operations=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_without_caps_every_gap_some_film_can_reach_is_filled_and_the_others_say_so(
        cohorts: Any, films: list[Film], inserts: frozenset[str], max_operations: int) -> None:
    offered = {"insert": inserts, "delete": frozenset()}
    _, gaps = cohorts.plan(cohorts.table(films), offered=offered, order=3, per_film=10**6, per_patient=10**6,
                           max_edits=10**6, max_operations=max_operations, deletions=0)
    for g in gaps:
        def reachable(allowed: frozenset[str], gap: dict[str, Any] = g) -> bool:
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
            assert (g["fillable"], g["planned"]) == (False, 0)
            assert g["reason"] == ("editor does not insert " + ", ".join(names) if reachable(frozenset(NAMES))
                                   else f"no training film within {max_operations} operations")


@given(films=film_lists, random=st.randoms(use_true_random=False),
       strategy=st.sampled_from(["fewest", "optimal", "min_gap", "random"]))
@settings(max_examples=12, deadline=None)
def test_the_same_films_in_another_order_give_the_same_plan(
        cohorts: Any, films: list[Film], random: Random, strategy: str) -> None:
    train = cohorts.table(films)
    order = list(range(len(films)))
    random.shuffle(order)
    assert cohorts.plan(train.take(order), strategy=strategy) == cohorts.plan(train, strategy=strategy)


def test_another_seed_gives_another_plan(cohorts: Any) -> None:
    train = cohorts.table(cohorts.many())
    first, second = (cohorts.plan(train, seed=s, min_count=60)[0] for s in (1, 2))
    assert not {r["edit_id"] for r in first} & {r["edit_id"] for r in second}
    assert {r["image_id"] for r in first} != {r["image_id"] for r in second}


def test_the_cheapest_sources_are_taken_first(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present" if i < 20 else "absent", "pneumothorax": "absent"}) for i in range(100)]
    wish: dict[str, Any] = {"names": ["mass", "pneumothorax"], "only_order": 2, "deletions": 0}
    for count in (15, 25):
        edits, _ = cohorts.plan(cohorts.table(films), min_count=count, **wish)
        assert [r["cost"] for r in edits] == ([1.0] * 20 + [2.0] * 5)[:count]
    edits, _ = cohorts.plan(cohorts.table(films), min_count=45, per_film=2, **wish)
    first, second = edits[:20], edits[20:40]
    assert {r["image_id"] for r in first} == {r["image_id"] for r in second}  # every film once before any twice
    assert [r["cost"] for r in edits] == [1.0] * 40 + [2.0] * 5


def test_costs_and_pass_rates_of_a_finding_steer_the_choice(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present"} if i % 2 else {"effusion": "present"}) for i in range(40)]
    wish: dict[str, Any] = {"names": ["mass", "effusion"], "only_order": 2, "min_count": 8, "deletions": 0}
    for prices, inserted, cost in (({"costs": {"mass": {"insert": 0.5}}}, "mass", 0.5),
                                   ({"pass_rates": {"mass": {"insert": 0.25}}}, "effusion", 1.0),
                                   ({"costs": {"mass": {"insert": 0.5}}, "pass_rates": {"mass": {"insert": 0.25}}},
                                    "effusion", 1.0)):
        edits, _ = cohorts.plan(cohorts.table(films), **wish, **prices)
        assert {(tuple(cohorts.kinds(r)), r["cost"]) for r in edits} == {((("insert", inserted),), cost)}
    with pytest.raises(BadInput, match="noduel"):
        cohorts.plan(cohorts.table(films), costs={"noduel": {"insert": 1}})


def test_a_short_budget_is_shared_between_what_edits_fill(cohorts: Any) -> None:
    edits, gaps = cohorts.plan(cohorts.table(cohorts.many()), min_count=1000, max_edits=45, deletions=0)
    short = [g for g in gaps if g["planned"] < g["deficit"]]
    assert {g["reason"] for g in short} == {"max_edits reached"}
    assert len(edits) == 45
    assert all(g["planned"] > 0 for g in gaps)
    assert max(Counter(str(cohorts.kinds(r)) for r in edits).values()) < 15


@pytest.mark.parametrize("strategy", ["fewest", "min_gap", "random"])
def test_a_larger_budget_adds_edits_behind_those_of_a_smaller_one(cohorts: Any, strategy: str) -> None:
    train = cohorts.table(cohorts.many())
    wish: dict[str, Any] = {"min_count": 60, "order": 3, "deletions": 0.3, "strategy": strategy}
    some = cohorts.plan(train, max_edits=40, **wish)[0]
    assert len(some) == 40
    assert cohorts.plan(train, max_edits=20, **wish)[0] == some[:20]


def test_caps_that_keep_a_gap_short_are_named(cohorts: Any) -> None:
    films: list[Film] = [(0, {"mass": "present", "effusion": "absent"})] * 3
    for limits, reason, planned in (({"per_patient": 2, "per_film": 9}, "caps reached: per_patient", 2),
                                    ({"per_patient": 9}, "caps reached: per_film", 3),
                                    ({"max_edits": 1, "per_patient": 9}, "max_edits reached", 1)):
        _, [gap] = cohorts.plan(cohorts.table(films), names=["mass", "effusion"], only_order=2, **limits)
        assert (gap["fillable"], gap["reason"], gap["planned"]) == (True, reason, planned)


def test_a_film_no_real_film_resembles_is_not_planned_and_the_gap_says_so(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present", "effusion": "present", "nodule": "absent"}) for i in range(6)]
    films += [(10 + i, {"mass": "present", "nodule": "present"}) for i in range(2)]
    seen = Plausible(rule="seen", reference=None)
    edits, [gap] = cohorts.plan(cohorts.table(films[:6] + films[7:]), names=["mass", "nodule"], only_order=2,
                                min_count=3, plausible=seen, deletions=0, max_operations=1)
    # Each film with a mass has an effusion too: with a nodule beside it would be like no film.
    assert edits == []
    assert gap["reason"].startswith("on every film near enough")
    allowed = Plausible(rule="seen", reference=None, allow=[["mass", "nodule", "effusion"]])
    edits, [gap] = cohorts.plan(cohorts.table(films), names=["mass", "nodule"], only_order=2, min_count=4, deletions=0,
                                plausible=allowed)
    assert (gap["planned"], gap["reason"]) == (2, None)


def test_the_share_of_deletions_holds_at_every_rank_and_prefers_leaving_a_gap_alone(cohorts: Any) -> None:
    films = cohorts.many(800)
    train = cohorts.table(films)
    edits, gaps = cohorts.plan(train, min_count=60, max_edits=100, deletions=0.3, order=3)
    assert len(edits) == 100
    for n in range(1, len(edits) + 1):
        assert sum(map(cohorts.only_deletes, edits[:n])) >= int(0.3 * n + 1e-9)
    by_id = {cohorts.image(i): f for i, f in enumerate(films)}
    masks = {g["gap"] for g in gaps}
    deletions = [r for r in edits if cohorts.only_deletes(r)]
    assert len(deletions) == 30
    for row in deletions:
        before = {n for n, s in by_id[row["image_id"]][1].items() if s == "present"}
        assert len(before) >= 2
        assert row["gap"] in masks
        assert before - {f for _, f in cohorts.kinds(row)} == set(V.unpack(row["gap"]))


def test_two_findings_go_in_one_edit_where_that_leaves_a_gap_alone(cohorts: Any) -> None:
    films: list[Film] = [(i, dict.fromkeys(["mass", "effusion", "atelectasis"], "present")) for i in range(8)]
    films += [(20 + i, {}) for i in range(8)]
    edits, _ = cohorts.plan(cohorts.table(films), names=["mass"], order=1, min_count=12, deletions=0.5)
    gone = [tuple(cohorts.kinds(r)) for r in edits if cohorts.only_deletes(r)]
    assert set(gone) == {(("delete", "atelectasis"), ("delete", "effusion"))}
    assert len(gone) == 3  # of seven edits half, rounded down


def test_with_no_film_that_would_leave_a_gap_the_rarest_rest_is_left_or_nothing(cohorts: Any) -> None:
    films: list[Film] = [(i, {"effusion": "present", "mass": "present"}) for i in range(12)]
    films += [(20 + i, {"effusion": "present"}) for i in range(20)] + [(50 + i, {"mass": "present"}) for i in range(9)]
    films += [(80 + i, {}) for i in range(9)]
    wish: dict[str, Any] = {"names": ["pneumothorax"], "order": 1, "deletions": 0.5, "min_count": 6}
    edits, _ = cohorts.plan(cohorts.table(films), **wish)
    rest = [r for r in edits if cohorts.only_deletes(r)]
    # Mass alone is seen on 9 films, effusion alone on 20: mass is what is left.
    assert [V.unpack(r["gap"]) for r in rest] == [["mass"]] * len(rest)
    assert len(rest) >= len(edits) // 2 > 2
    # With few films that show nothing, a film's only finding goes.
    edits, _ = cohorts.plan(cohorts.table(films[:-6]), **wish)
    rest = [r for r in edits if cohorts.only_deletes(r)]
    assert len(rest) > 2
    assert {(r["gap"], r["present"]) for r in rest} == {(0, 0)}


def test_a_gap_without_a_finding_is_filled_by_deleting_it(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present", "effusion": "present"}) for i in range(10)]
    films += [(20 + i, {"effusion": "present"}) for i in range(10)]
    edits, gaps = cohorts.plan(cohorts.table(films), names=["mass", "effusion"], patterns="full", min_count=5,
                               only_order=2, deletions=0)
    mine = next(g for g in gaps if set(g["findings"]) == {"mass", "no effusion"})
    assert (mine["observed"], mine["planned"], mine["reason"]) == (0, 5, None)
    assert {tuple(cohorts.kinds(r)) for r in edits if (r["gap"], r["without"]) == (mine["gap"], mine["without"])} == {
        (("delete", "effusion"),)}


@pytest.mark.parametrize("change", ["film", "budget"])
def test_a_new_film_or_a_higher_cap_moves_few_edits(cohorts: Any, change: str) -> None:
    films = cohorts.many(600)
    wish: dict[str, Any] = {"min_count": 40, "max_edits": 200, "order": 3}
    before = {r["edit_id"] for r in cohorts.plan(cohorts.table(films), **wish)[0]}
    assert len(before) > 50
    moved = []
    for n in range(8):
        if change == "film":
            states = {"atelectasis": "present" if n % 2 else "absent"}
            after, _ = cohorts.plan(cohorts.table([*films, (9000 + n, states)]), **wish)
        else:
            after, _ = cohorts.plan(cohorts.table(films), **{**wish, "per_patient": 3 + n})
        moved.append(len(before ^ {r["edit_id"] for r in after}) / 2)
    assert max(moved) <= 0.1 * len(before)
    assert sum(moved) / len(moved) <= 0.06 * len(before)


def test_a_row_hangs_on_the_film_and_its_operations_only(cohorts: Any) -> None:
    films = cohorts.many(600)
    few = {(r["image_id"], str(cohorts.kinds(r))): r for r in cohorts.plan(cohorts.table(films), min_count=40)[0]}
    lots = {(r["image_id"], str(cohorts.kinds(r))): r for r in cohorts.plan(
        cohorts.table(films), min_count=80, max_edits=300)[0]}
    shared = few.keys() & lots.keys()
    assert len(shared) > 15
    for key in shared:
        assert [few[key][c] for c in ("edit_id", "operations", "seed")] == [
            lots[key][c] for c in ("edit_id", "operations", "seed")]
    for r in lots.values():
        assert r["edit_id"] == digest([r["image_id"], r["object"], r["operations"], r["seed"], "k"])[:32]
        assert 0 <= r["seed"] < 2**63


def test_the_same_edit_planned_twice_gets_its_own_draws(cohorts: Any) -> None:
    edits, _ = cohorts.plan(cohorts.table([(0, {"mass": "present"})]), names=["mass", "effusion"], only_order=2,
                            min_count=6, per_film=9, per_patient=9, deletions=0)
    assert len({r["seed"] for r in edits}) == len({r["edit_id"] for r in edits}) == len(edits) == 6
    assert len({str(r["operations"]) for r in edits}) > 3


def test_what_the_vocabulary_excludes_beside_the_gap_is_swapped_out_or_the_film_is_left_alone(cohorts: Any) -> None:
    plain = {"aliases": {}, "parents": (), "outline": False, "sided": False}
    v = Vocabulary((Finding("hyperinflation", 0, **plain),
                    Finding("low_volume", 1, **plain, excludes=("hyperinflation",)),
                    Finding("effusion", 2, **plain)), {})
    train = cohorts.table([(i, {"hyperinflation": "present", "effusion": "present"}) for i in range(5)], vocabulary=v)
    wish: dict[str, Any] = {"names": ["low_volume", "effusion"], "vocabulary": v, "min_count": 3, "deletions": 0}
    offered = {"insert": frozenset(v.names), "delete": frozenset(v.names)}
    edits, gaps = cohorts.plan(train, offered=offered, **wish)
    assert {tuple(cohorts.kinds(r)) for r in edits} == {(("insert", "low_volume"), ("delete", "hyperinflation"))}
    assert {(r["present"], r["absent"], r["cost"]) for r in edits} == {(0b110, 0b001, 2.5)}
    assert [(g["planned"], g["fillable"]) for g in gaps] == [(3, True)] * 2
    for refused in ({"offered": {**offered, "delete": frozenset()}}, {"offered": offered, "max_operations": 1}):
        edits, gaps = cohorts.plan(train, **wish, **refused)
        assert edits == []
        assert {g["reason"] for g in gaps} == {f"no training film within {refused.get('max_operations', 2)} operations"}
    _, gaps = cohorts.plan(train, offered=offered, **{**wish, "names": ["low_volume", "hyperinflation"]})
    [pair] = [g for g in gaps if g["order"] == 2]
    assert (pair["fillable"], pair["planned"]) == (False, 0)
    assert pair["reason"] == "the vocabulary excludes hyperinflation with low_volume"


def call(cohorts: Any, films: pa.Table, gaps: pa.Table, offered: Any = None, **limits: Any) -> Any:
    return plan_edits(films, gaps, Plan(**limits), offered=offered or cohorts.everything, vocabulary=V, seed=0,
                      build="b", render_key="k", editor="e", segmenter="s")


@pytest.mark.parametrize(("column", "value"), [("split", "test"), ("split", "validate"), ("status", "quarantined")])
@pytest.mark.parametrize("pixels", [True, False])
def test_a_film_of_another_split_is_never_edited(cohorts: Any, column: str, value: str, pixels: bool) -> None:
    train = cohorts.table(cohorts.many(4))
    gaps, _ = cohorts.gaps(train)
    other = train.set_column(train.column_names.index(column), column,
                             pa.array([*train[column].to_pylist()[:-1], value]))
    if not pixels:
        other = other.drop_columns(["image_id", "object"])
    with pytest.raises(BadInput, match=f"training films: {column}: got {value}"):
        call(cohorts, other, gaps)


def test_films_whose_labels_alone_were_read_can_be_planned_over(cohorts: Any) -> None:
    train = cohorts.table(cohorts.many(60))
    gaps, _ = cohorts.gaps(train)
    labels = train.select(["record", "patient", "source", "present", "absent", "uncertain"])
    edits = call(cohorts, labels, gaps).plan.to_pylist()
    assert edits
    assert {r["image_id"] for r in edits} <= set(train["record"].to_pylist())
    unread = train.drop_columns(["image_id", "object", "status"]).append_column("status", pa.array(["unread"] * 60))
    assert [r["image_id"] for r in call(cohorts, unread, gaps).plan.to_pylist()] == [r["image_id"] for r in edits]
    read = unread.append_column("image_id", unread["record"]).append_column("object", unread["record"])
    with pytest.raises(BadInput, match="status: got unread"):
        call(cohorts, read, gaps)


def test_other_faults_are_named(cohorts: Any) -> None:
    train = cohorts.table(cohorts.many(4))
    gaps, _ = cohorts.gaps(train)
    with pytest.raises(BadInput, match="a column licence"):
        call(cohorts, train.drop_columns(["licence"]), gaps)
    for column in ("image_id", "object"):
        blank = pa.array([None, *train[column].to_pylist()[1:]], pa.string())
        with pytest.raises(BadInput, match=f"training films: {column}: got null"):
            call(cohorts, train.set_column(train.column_names.index(column), column, blank), gaps)
    with pytest.raises(BadInput, match="a column deficit"):
        call(cohorts, train, gaps.drop_columns(["deficit"]))
    with pytest.raises(BadInput, match="insert and delete"):
        call(cohorts, train, gaps, {"insert": frozenset(NAMES)})
    with pytest.raises(BadInput, match="got noduel"):
        call(cohorts, train, gaps, {"insert": frozenset({"noduel"}), "delete": frozenset()})
    by_sex, _ = cohorts.gaps(train.append_column("sex", pa.array(["F"] * 4)), by=["sex"])
    with pytest.raises(BadInput, match="a column sex"):
        call(cohorts, train, by_sex)


def test_no_film_to_edit_and_no_gap_give_an_empty_plan(cohorts: Any) -> None:
    train = cohorts.table([(0, dict.fromkeys(NAMES, "uncertain"))])
    edits, gaps = cohorts.plan(train)
    assert edits == []
    assert {g["reason"] for g in gaps} == {"no training film within 2 operations"}
    made = call(cohorts, train.slice(0, 0), cohorts.gaps(train)[0])
    assert made.plan.num_rows == made.summary.planned == made.summary.bound == 0
    full: list[Film] = [(i, dict.fromkeys(NAMES, "present")) for i in range(4)]
    assert cohorts.plan(cohorts.table(full), deletions=1.0) == ([], [])


@given(films=film_lists)
@settings(max_examples=8, deadline=None)
def test_an_image_met_twice_is_edited_as_one_film(cohorts: Any, films: list[Film]) -> None:
    train = cohorts.table(films)
    assume(cohorts.plan(train)[0])
    gaps, _ = cohorts.gaps(train)
    made = call(cohorts, pa.concat_tables([train, train]), gaps, per_patient=50)
    assert max(Counter(made.plan["image_id"].to_pylist()).values()) == 1


def test_edits_have_the_shares_of_the_population_where_films_would_not(cohorts: Any) -> None:
    # The films with a mass are mostly of women, the cohort is not.
    random = Random(4)
    sexes, films = [], []
    for i in range(3000):
        mass = random.random() < 0.4
        films.append((i, {"mass": "present"} if mass else {}))
        sexes.append("F" if random.random() < (0.8 if mass else 0.2) else "M")
    ages = [random.choice([30, 50, 70]) for _ in films]
    train = cohorts.table(films, sex=pa.array(sexes), age=pa.array(ages, pa.int32()))
    wish: dict[str, Any] = {"names": ["mass", "effusion"], "only_order": 2, "min_count": 200, "max_edits": 400,
                            "deletions": 0}

    def women(**limits: Any) -> float:
        edits, _ = cohorts.plan(train, **wish, **limits)
        sex = dict(zip(train["image_id"].to_pylist(), sexes, strict=True))
        assert len(edits) == 200
        return float(np.mean([sex[r["image_id"]] == "F" for r in edits]))

    whole = float(np.mean([s == "F" for s in sexes]))
    assert abs(women(balance=[]) - 0.8) < 0.07
    assert abs(women() - whole) < 0.01
    assert abs(women(population={"sex": {"F": 3, "M": 1}}) - 0.75) < 0.01
    with pytest.raises(BadInput, match=r"plan\.population: sex: got X"):
        women(population={"sex": {"X": 1}})


def test_a_gap_of_some_patients_is_filled_from_their_films(cohorts: Any) -> None:
    films: list[Film] = [(i, {"mass": "present"} if i % 3 else {}) for i in range(60)]
    sexes = ["F" if i % 2 else "M" for i in range(60)]
    train = cohorts.table(films, sex=pa.array(sexes))
    edits, gaps = cohorts.plan(train, names=["mass", "effusion"], by=["sex"], min_count=6, deletions=0, max_edits=500)
    sex = dict(zip(train["image_id"].to_pylist(), sexes, strict=True))
    cells = [f"sex={s}" for s in sexes]
    assert {g["cell"] for g in gaps} == {"", "sex=F", "sex=M"}
    for g in gaps:
        assert g["planned"] == cohorts.newly(films, edits, g, cells=cells) >= g["deficit"]
    for row in edits:
        assert row["cell"] in ("", f"sex={sex[row['image_id']]}")
    assert len(edits) == 12  # six of each sex with both findings fill everything else


def test_the_summary_counts_what_the_tables_say(cohorts: Any) -> None:
    train = cohorts.table(cohorts.many())
    for limits in ({}, {"max_edits": 10}, {"strategy": "random", "max_edits": 50}):
        made = cohorts.planned(train, min_count=40, **{"max_edits": 500, **limits})
        edits, gaps, s = made.plan.to_pylist(), made.gaps.to_pylist(), made.summary
        fillable = [g for g in gaps if g["fillable"]]
        assert (s.planned, s.gaps, s.fillable) == (len(edits), len(gaps), len(fillable))
        assert s.deletions == sum(map(cohorts.only_deletes, edits))
        assert s.closed == sum(g["planned"] >= g["deficit"] for g in gaps)
        assert s.missing == sum(g["deficit"] for g in fillable)
        assert s.filled == sum(min(g["planned"], g["deficit"]) for g in fillable)
        assert s.cost == pytest.approx(sum(r["cost"] for r in edits))
        assert s.operations == sum(len(r["operations"]) for r in edits)
        assert s.bound <= s.planned


def test_large_cohorts_fill_all_pairs(cohorts: Any) -> None:
    random = Random(3)
    names = [f.name for f in V.findings if "nih" in f.aliases][:8]
    films: list[Film] = [(i, {n: "present" if random.random() < 0.03 else "absent" for n in names})
                         for i in range(20_000)]
    pairs = [V.mask(list(p)) for p in combinations(names, 2)]
    train = cohorts.table(films)
    made = cohorts.planned(train, names=names, min_count=40, max_edits=5000, offered={
        "insert": frozenset(names), "delete": frozenset(names)})
    gaps = made.gaps.to_pylist()
    assert {g["gap"] for g in gaps} <= set(pairs)
    assert len(gaps) > 10
    assert all(g["planned"] >= g["deficit"] for g in gaps)
    assert made.summary.planned - made.summary.deletions <= 1.3 * made.summary.bound
    assert pc.sum(made.gaps["deficit"]).as_py() == made.summary.filled


def test_a_denied_combination_is_not_made_of_a_finding_that_only_counts_as_present() -> None:
    nodule, n = V.mask(["nodule"]), 5
    films = pa.table({"record": [f"r{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)],
                      "source": ["phantom"] * n, "present": [0] * n, "absent": [0] * n, "uncertain": [nodule] * n})
    policy = Gaps(findings=["effusion", "nodule"], order=1, min_count=3, uncertain="present",
                  plausible=Plausible(rule="any", deny=[["effusion", "nodule"]]))
    plausible = training_plausibility(films, policy, vocabulary=V)
    gaps = find_gaps(group_training(films, policy, vocabulary=V), policy, vocabulary=V,
                     plausible=plausible)
    both = frozenset({"effusion", "nodule"})
    made = plan_edits(films, gaps, Plan(deletions=0), offered={"insert": both, "delete": both}, vocabulary=V,
                      seed=1, build="b", render_key="k", editor="e", segmenter="s", uncertain="present",
                      plausible=plausible)
    assert made.plan.num_rows == 0
    assert "never to be made" in made.gaps["reason"][0].as_py()
