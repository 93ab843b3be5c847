"""Without these, a build could chase combinations the cohort has, or miss those it lacks."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from fractions import Fraction
from itertools import combinations, product
from math import ceil, prod
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cars_core.coverage.gaps import (
    COUNTS,
    all_counts,
    find_gaps,
    group_training,
    of_their_own,
    rank_gaps,
    refuse_outside_train,
)
from cars_core.coverage.group import cell_values, group_films
from cars_core.coverage.plausible import Plausibility
from cars_core.vectors import from_nih
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps, Plausible
from schemas.tables import GAPS

VOCABULARY = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "lung_lesion", "pneumothorax"]
STATES = ("present", "absent", "uncertain")

# A film as the oracle sees it: the state of each finding and the values of attributes, never a bit.
Film = dict[str, str]
Row = dict[str, Any]
film_lists = st.lists(st.fixed_dictionaries({
    **{n: st.sampled_from([*STATES, ""]) for n in NAMES}, "sex": st.sampled_from(["F", "M"]),
    "view": st.sampled_from(["PA", "AP"])}), min_size=1, max_size=25)
policies = st.sampled_from(["present", "absent", "ignore"])
kinds = st.sampled_from(["positive", "full"])


def table(films: list[Film], vocabulary: Vocabulary = VOCABULARY) -> pa.Table:
    return pa.table({
        **{s: pa.array([vocabulary.mask([n for n, v in f.items() if v == s]) for f in films], pa.int64())
           for s in STATES},
        **{a: pa.array([f.get(a) for f in films], pa.string()) for a in ("sex", "view")}})


def counted(films: list[Film], wish: Gaps, vocabulary: Vocabulary = VOCABULARY) -> list[Row]:
    got = all_counts(group_training(table(films, vocabulary), wish, vocabulary=vocabulary), wish,
                     vocabulary=vocabulary)
    assert got.schema == COUNTS
    return got.to_pylist()


def found(films: list[Film], wish: Gaps, vocabulary: Vocabulary = VOCABULARY,
          plausible: Plausibility | None = None) -> list[Row]:
    grouped = group_training(table(films, vocabulary), wish, vocabulary=vocabulary)
    return find_gaps(grouped, wish, vocabulary=vocabulary, plausible=plausible).to_pylist()


def pattern(row: Row) -> dict[str, bool]:
    """Finding -> whether it must be there."""
    return {n.removeprefix("no "): not n.startswith("no ") for n in row["findings"]}


def counts_as(film: Film, finding: str, wanted: bool, uncertain: str) -> bool:
    positive = film[finding] == "present" or (film[finding] == "uncertain" and uncertain == "present")
    open_ = film[finding] == "uncertain" and uncertain == "ignore"
    return positive if wanted else not (positive or open_)


def inside(films: list[Film], row: Row) -> list[Film]:
    return [f for f in films if all(f[a] == v for a, v in cell_values(row["cell"]).items())]


@given(films=film_lists, order=st.integers(1, 4), uncertain=policies, min_count=st.integers(1, 8), patterns=kinds,
       by=st.lists(st.sampled_from(["sex", "view"]), unique=True))
@settings(max_examples=20, deadline=None)
def test_counts_and_expectations_equal_those_counted_film_by_film(
        films: list[Film], order: int, uncertain: Any, min_count: int, patterns: Any, by: Any) -> None:
    rows = counted(films, Gaps(findings=NAMES, order=order, min_count=min_count, uncertain=uncertain, by=by,
                               patterns=patterns))
    signs = (True, False) if patterns == "full" else (True,)
    cells = {",".join(f"{a}={f[a]}" for a in chosen) for f in films
             for size in range(len(by) + 1) for chosen in combinations(by, size)}
    assert Counter((r["cell"], frozenset(pattern(r).items())) for r in rows) == Counter(
        (cell, frozenset(zip(names, values, strict=True))) for cell in cells for k in range(1, order + 1)
        for names in combinations(NAMES, k) for values in product(signs, repeat=k))
    for row in rows:
        asked, here = pattern(row), inside(films, row)
        told = [f for f in here if not any(f[n] == "uncertain" for n in asked)] if uncertain == "ignore" else here
        seen = sum(all(counts_as(f, n, w, uncertain) for n, w in asked.items()) for f in here)

        def share(finding: str, wanted: bool, here: list[Film] = here) -> float:
            of = [f for f in here if uncertain != "ignore" or f[finding] != "uncertain"]
            return sum(counts_as(f, finding, wanted, uncertain) for f in of) / len(of)

        expected = len(told) * prod(share(n, w) for n, w in asked.items()) if told else 0.0
        assert row["gap"] == VOCABULARY.mask([n for n, w in asked.items() if w])
        assert row["without"] == VOCABULARY.mask([n for n, w in asked.items() if not w])
        assert (row["observed"], row["films"], row["order"]) == (seen, len(told), len(asked))
        assert (row["needed"], row["deficit"]) == (min_count, max(0, min_count - seen))
        assert row["expected"] == pytest.approx(expected)
        if expected:
            interval = binomtest(seen, len(told)).proportion_ci(0.95, "exact")
            assert [row[k] for k in ("lift", "lift_low", "lift_high")] == pytest.approx(
                [seen / expected, interval.low * len(told) / expected, interval.high * len(told) / expected])
        else:
            assert (row["lift"], row["lift_low"], row["lift_high"]) == (None, None, None)


@given(films=film_lists, uncertain=policies, patterns=kinds)
@settings(max_examples=30, deadline=None)
def test_the_range_of_counts_that_uncertain_and_unmentioned_findings_leave_open(
        films: list[Film], uncertain: Any, patterns: Any) -> None:
    sure = {True: {"present"}, False: {"absent"}}
    for row in counted(films, Gaps(findings=NAMES, order=3, uncertain=uncertain, patterns=patterns, by=["sex"])):
        for column, more in (("stated", set()), ("with_uncertain", {"uncertain"}),
                             ("with_unmentioned", {"uncertain", ""})):
            known = sum(all(f[n] in sure[w] | more for n, w in pattern(row).items()) for f in inside(films, row))
            assert row[column] == known, column
        assert row["stated"] <= row["observed"] <= row["with_unmentioned"]
        assert row["stated"] <= row["with_uncertain"] <= row["with_unmentioned"]
        assert row["observed"] <= row["with_uncertain"] or row["without"]


@given(films=film_lists, min_count=st.integers(1, 8), patterns=kinds)
@settings(max_examples=15, deadline=None)
def test_gaps_are_the_rare_combinations_ranked_and_without_a_finding_beside_what_it_implies(
        films: list[Film], min_count: int, patterns: Any) -> None:
    wish = Gaps(findings=NAMES, order=3, min_count=min_count, patterns=patterns, by=["view"])
    got, counts = found(films, wish), counted(films, wish)

    def own(row: Row) -> bool:
        asked = pattern(row)  # only a lung lesion that is no nodule is a combination of its own
        return not {"nodule", "lung_lesion"} <= set(asked) or (asked["lung_lesion"] and not asked["nodule"])

    def rank(row: Row) -> tuple[Any, ...]:
        return -row["deficit"], -row["order"], row["gap"], row["without"], row["cell"]

    assert got == sorted((r for r in counts if r["observed"] < min_count and own(r)), key=rank)
    assert all(r["fillable"] and r["planned"] == 0 for r in got)
    assert {r["reason"] for r in counts if not own(r)} <= {
        "nodule implies lung_lesion", "without lung_lesion there is no nodule"}
    assert not any(r["fillable"] for r in counts if not own(r))


@given(films=film_lists, random=st.randoms())
@settings(max_examples=15, deadline=None)
def test_the_order_of_films_does_not_matter(films: list[Film], random: Random) -> None:
    wish = Gaps(findings=NAMES, order=2, min_count=5, by=["sex", "view"])
    before = found(films, wish)
    random.shuffle(films)
    assert found(films, wish) == before


def test_rows_come_cell_by_cell_then_by_size_and_mask() -> None:
    films = [{**dict.fromkeys(NAMES, "present"), "sex": s, "view": v} for s in "FM" for v in ("PA", "AP")]
    wish = Gaps(findings=NAMES[::-1], order=2, by=["sex", "view"], patterns="full")
    grouped = group_training(table(films), wish, vocabulary=VOCABULARY)
    cells = [name for name, _ in grouped.cells()]
    rows = all_counts(grouped, wish, vocabulary=VOCABULARY).to_pylist()
    assert list(dict.fromkeys(r["cell"] for r in rows)) == cells
    assert rows == sorted(rows, key=lambda r: (cells.index(r["cell"]), r["order"], r["gap"], r["without"]))


def test_what_the_vocabulary_excludes_is_reported_and_not_promised() -> None:
    plain: Row = {"aliases": {}, "parents": (), "outline": False, "sided": False}
    vocabulary = Vocabulary((Finding("hyperinflation", 0, **plain),
                             Finding("low_volume", 1, **plain, excludes=("hyperinflation",)),
                             Finding("effusion", 2, **plain)), {})
    got = found([{"hyperinflation": ""}], Gaps(findings=list(vocabulary.names), order=3, min_count=1), vocabulary)
    why = {tuple(r["findings"]): (r["fillable"], r["reason"]) for r in got}
    clash = (False, "the vocabulary excludes hyperinflation with low_volume")
    assert why == {("hyperinflation",): (True, None), ("low_volume",): (True, None), ("effusion",): (True, None),
                   ("hyperinflation", "effusion"): (True, None), ("low_volume", "effusion"): (True, None),
                   ("hyperinflation", "low_volume"): clash, ("hyperinflation", "low_volume", "effusion"): clash}


def test_what_no_real_film_shows_is_reported_and_not_promised() -> None:
    films: list[Film] = [{n: "present" if n in shown else "absent" for n in NAMES}
                         for shown in (("atelectasis", "effusion"), ("nodule", "lung_lesion"), ("pneumothorax",))]
    wish = Gaps(findings=NAMES, order=2, min_count=3)
    real = np.array(table(films)["present"].to_pylist())
    plausible = Plausibility(Plausible(reference=None), real=real, vocabulary=VOCABULARY)
    why = {tuple(r["findings"]): (r["fillable"], r["reason"]) for r in found(films, wish, plausible=plausible)}
    assert why["atelectasis", "effusion"] == (True, None)
    assert not why["effusion", "nodule"][0]
    assert why["effusion", "nodule"][1].startswith("never seen on a real film: effusion + nodule")


def test_a_gap_is_measured_by_whichever_policy_asks_for_most(tmp_path: Path) -> None:
    (tmp_path / "target.csv").write_text("findings,films\neffusion,30\natelectasis|effusion,10\n,60\n")
    films: list[Film] = [{**dict.fromkeys(NAMES, "absent"), "sex": "F" if i < 30 else "M"} for i in range(130)]
    wish = Gaps(findings=["atelectasis", "effusion"], order=2, min_count=4, by=["sex"], min_share=0.1,
                target=str(tmp_path / "target.csv"), patterns="full")
    needed = {(r["cell"], *r["findings"]): r["needed"] for r in counted(films, wish)}
    target = {("atelectasis",): "0.1", ("effusion",): "0.4", ("atelectasis", "effusion"): "0.1",
              ("no atelectasis", "effusion"): "0.3", ("no atelectasis",): "0.9", ("no effusion",): "0.6",
              ("atelectasis", "no effusion"): "0", ("no atelectasis", "no effusion"): "0.6"}
    assert needed == {(cell, *names): max(4, ceil(max(Fraction("0.1"), Fraction(share)) * n))
                      for cell, n in (("", 130), ("sex=F", 30), ("sex=M", 100)) for names, share in target.items()}
    assert needed["sex=F", "atelectasis"] == 4  # a tenth of 30 is 3, not a little more


@pytest.mark.parametrize(("share", "films", "known"), [(0.1, 30, 3), (0.7, 10, 7), (0.3, 10, 3), (1 / 3, 9, 3),
                                                       (1e-3, 1001, 2), (1.0, 5, 5)])
def test_shares_of_films_are_rounded_up_from_the_number_as_written(share: float, films: int, known: int) -> None:
    vectors = pa.table({"present": [0], "absent": [0], "uncertain": [0], "films": [films]})
    wish = Gaps(findings=["effusion"], order=1, min_count=1, min_share=share)
    counts = all_counts(group_films(vectors, mask=VOCABULARY.mask(["effusion"])), wish, vocabulary=VOCABULARY)
    assert counts["needed"].to_pylist() == [known]


@given(films=film_lists)
@settings(max_examples=10, deadline=None)
def test_a_data_engineer_s_sql_gives_the_same_numbers(films: list[Film]) -> None:
    rows = counted(films, Gaps(findings=NAMES, order=3, uncertain="present", by=["sex", "view"], patterns="full"))
    with duckdb.connect() as con:
        con.register("films", table(films))
        for row in rows[::97]:
            where = [f"(present | uncertain) & {row['gap']} = {row['gap']}",
                     f"(present | uncertain) & {row['without']} = 0",
                     *(f"{a} = '{v}'" for a, v in cell_values(row["cell"]).items())]
            assert con.sql(f"SELECT count(*) FROM films WHERE {' AND '.join(where)}").fetchall() == [
                (row["observed"],)]


def test_combinations_of_their_own_are_told_from_those_another_says_too() -> None:
    bit = {n: VOCABULARY.mask([n]) for n in ("mass", "nodule", "lung_lesion", "effusion")}
    cases = {(bit["mass"], 0): True, (bit["mass"] | bit["lung_lesion"], 0): False,
             (bit["mass"] | bit["nodule"], 0): True, (bit["mass"], bit["lung_lesion"]): False,
             (bit["lung_lesion"], bit["mass"]): True, (0, bit["mass"] | bit["lung_lesion"]): False,
             (bit["effusion"], bit["mass"] | bit["nodule"]): True, (0, bit["lung_lesion"]): True}
    got = of_their_own(pa.table({"gap": [g for g, _ in cases], "without": [w for _, w in cases]}),
                       vocabulary=VOCABULARY)
    assert got.to_pylist() == list(cases.values())


def test_the_last_bit_of_a_full_vocabulary_is_counted() -> None:
    vocabulary = Vocabulary(tuple(Finding(f"f{i}", i, {}, (), False, False) for i in range(62)), {})
    films: list[Film] = [{"f61": "present", "f0": "present"}, {"f61": "present"}, {"f0": "absent"}]
    got = counted(films, Gaps(findings=["f0", "f61"], order=2), vocabulary)
    assert [(r["findings"], r["observed"]) for r in got] == [(["f0"], 1), (["f61"], 2), (["f0", "f61"], 1)]


def test_films_of_other_splits_never_shape_the_gaps() -> None:
    for column, value in (("split", "test"), ("split", "validate"), ("status", "quarantined")):
        films = table([{"nodule": "present"}] * 2).append_column(
            column, pa.array([{"split": "train", "status": "accepted"}[column], value]))
        with pytest.raises(BadInput, match=f"training films: {column}: got {value}; expected only"):
            group_training(films, Gaps(findings=NAMES), vocabulary=VOCABULARY)
    unread = table([{"nodule": "present"}]).append_column("status", pa.array(["unread"]))
    assert group_training(unread, Gaps(findings=NAMES), vocabulary=VOCABULARY).total == 1
    with pytest.raises(BadInput, match="status: got unread; expected only accepted"):
        refuse_outside_train(unread, ("present",))


def test_faults_are_named() -> None:
    one: list[Film] = [{"nodule": "present"}]
    with pytest.raises(BadInput, match="got noduel"):
        group_training(table(one), Gaps(findings=["noduel"]), vocabulary=VOCABULARY)
    with pytest.raises(BadInput, match="at least one film"):
        group_training(table([]), Gaps(findings=NAMES), vocabulary=VOCABULARY)
    with pytest.raises(BadInput, match="a column uncertain"):
        group_training(table(one).drop_columns(["uncertain"]), Gaps(findings=NAMES), vocabulary=VOCABULARY)
    with pytest.raises(BadInput, match="a column sex"):
        group_training(table(one).drop_columns(["sex"]), Gaps(findings=NAMES, by=["sex"]), vocabulary=VOCABULARY)
    with pytest.raises(BadInput, match=r"no-such\.csv"):
        counted(one, Gaps(findings=NAMES, target="no-such.csv"))
    wide = Vocabulary(tuple(Finding(f"f{i}", i, {}, (), False, False) for i in range(62)), {})
    with pytest.raises(BadInput, match=r"combinations in 1 cells; expected at most 4,000,000 rows"):
        counted([{"f0": "present"}], Gaps(findings=list(wide.names), order=4, patterns="full"), wide)


def test_counts_fit_the_table_of_gaps() -> None:
    assert ["build", *COUNTS.names] == GAPS.names


def test_the_nih_label_table_lacks_what_is_known_to_be_missing_from_it(open_films: Path) -> None:
    with gzip.open(open_films / "labels" / "Data_Entry_2017_v2020.csv.gz", "rt") as f:
        strings = Counter((r["Finding Labels"], r["Patient Gender"]) for r in csv.DictReader(f))
    vectors = {s: from_nih(s, VOCABULARY) for s, _ in strings}
    films = pa.table({
        **{k: pa.array([getattr(vectors[s], k) for s, _ in strings], pa.int64()) for k in STATES},
        "sex": [sex for _, sex in strings], "films": pa.array(list(strings.values()), pa.int64())})
    names = [f.name for f in VOCABULARY.findings if "nih" in f.aliases]
    wish = Gaps(findings=names, order=3, min_count=10, by=["sex"])
    grouped = group_training(films, wish, vocabulary=VOCABULARY)
    assert grouped.total == 112_120
    counts = all_counts(grouped, wish, vocabulary=VOCABULARY)
    rows = counts.to_pylist()
    for order, known in ((2, (91, 9, 0)), (3, (364, 177, 58))):
        observed = [r["observed"] for r in rows if r["order"] == order and not r["cell"]]
        assert (len(observed), sum(n < 10 for n in observed), sum(n == 0 for n in observed)) == known
    label = {f.name: f.aliases["nih"][0] for f in VOCABULARY.findings if "nih" in f.aliases}
    for row in rows[::61]:  # the label strings themselves, by name
        films_of = sum(n for (s, sex), n in strings.items() if {label[n] for n in row["findings"]} <= set(s.split("|"))
                       and (not row["cell"] or row["cell"] == f"sex={sex}"))
        assert row["observed"] == films_of
    short = rank_gaps(counts, vocabulary=VOCABULARY)
    assert sum(1 for c in short["cell"].to_pylist() if not c) == 9 + 177
