"""Without these, a build could chase combinations the cohort has, or miss those it lacks."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from itertools import combinations
from math import prod
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.gaps import COUNTS, all_counts, find_gaps
from cars_core.vectors import from_nih
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gaps
from schemas.tables import GAPS

VOCABULARY = load_vocabulary()
NAMES = ["atelectasis", "effusion", "nodule", "lung_lesion", "pneumothorax"]
LABELS = Path(__file__).resolve().parents[4] / "shared/data/cxr-open/labels/Data_Entry_2017_v2020.csv.gz"

# A film as the oracle sees it: the state of each finding, never a bit.
Film = dict[str, str]
film_lists = st.lists(st.fixed_dictionaries({n: st.sampled_from(["present", "absent", "uncertain", ""])
                                             for n in NAMES}), max_size=25)


def table(films: list[Film], vocabulary: Vocabulary = VOCABULARY) -> pa.Table:
    return pa.table({s: pa.array([vocabulary.mask([n for n, v in f.items() if v == s]) for f in films], pa.int64())
                     for s in ("present", "absent", "uncertain")})


@given(films=film_lists, order=st.integers(1, 4), uncertain=st.sampled_from(["present", "absent", "ignore"]),
       min_count=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_counts_and_expectations_equal_those_counted_film_by_film(
        films: list[Film], order: int, uncertain: str, min_count: int) -> None:
    wanted = {"present", "uncertain"} if uncertain == "present" else {"present"}
    got = all_counts(table(films), Gaps(findings=NAMES, order=order, min_count=min_count, uncertain=uncertain),
                     vocabulary=VOCABULARY)
    assert got.schema == COUNTS
    rows = {frozenset(r["findings"]): r for r in got.to_pylist()}
    assert set(rows) == {frozenset(c) for k in range(1, order + 1) for c in combinations(NAMES, k)}
    for names, row in rows.items():
        seen = sum(all(f[n] in wanted for n in names) for f in films)
        open_ = {"uncertain"} if uncertain == "ignore" else set()  # such a film says nothing of that finding
        told = {n: [f for f in films if f[n] not in open_] for n in names}
        known = sum(all(f[n] not in open_ for n in names) for f in films)
        expected = known * prod(sum(f[n] in wanted for f in told[n]) / len(told[n]) for n in names) if known else 0
        assert row["gap"] == sum(2 ** VOCABULARY[n].bit for n in names)
        assert (row["observed"], row["order"], row["deficit"]) == (seen, len(names), max(0, min_count - seen))
        assert row["expected"] == pytest.approx(expected)
        assert row["lift"] == (pytest.approx(seen / expected) if expected else None)


@given(films=film_lists, min_count=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_gaps_are_the_rare_combinations_ranked_and_without_a_finding_beside_what_it_implies(
        films: list[Film], min_count: int) -> None:
    wish = Gaps(findings=NAMES, order=3, min_count=min_count)
    got = find_gaps(table(films), wish, vocabulary=VOCABULARY).to_pylist()
    counts = all_counts(table(films), wish, vocabulary=VOCABULARY).to_pylist()
    implied = {"nodule", "lung_lesion"}
    assert {r["gap"] for r in got} == {r["gap"] for r in counts
                                       if r["observed"] < min_count and not implied <= set(r["findings"])}
    assert got == sorted(got, key=lambda r: (-r["deficit"], -r["order"], r["gap"]))
    assert all(r["fillable"] and r["planned"] == 0 for r in got)
    assert all(r["reason"] == "nodule implies lung_lesion" for r in counts if implied <= set(r["findings"]))


@given(films=film_lists, random=st.randoms())
@settings(max_examples=15, deadline=None)
def test_the_order_of_films_does_not_matter(films: list[Film], random: Random) -> None:
    wish = Gaps(findings=NAMES, order=2, min_count=5)
    before = find_gaps(table(films), wish, vocabulary=VOCABULARY)
    random.shuffle(films)
    assert find_gaps(table(films), wish, vocabulary=VOCABULARY).equals(before)


def test_what_the_vocabulary_excludes_is_reported_and_not_promised() -> None:
    plain = {"aliases": {}, "parents": (), "outline": False, "sided": False}
    vocabulary = Vocabulary((Finding("hyperinflation", 0, **plain),
                             Finding("low_volume", 1, **plain, excludes=("hyperinflation",)),
                             Finding("effusion", 2, **plain)), {})
    got = find_gaps(table([{"effusion": "present"}], vocabulary),
                    Gaps(findings=list(vocabulary.names), order=3, min_count=1), vocabulary=vocabulary).to_pylist()
    why = {tuple(r["findings"]): (r["fillable"], r["reason"]) for r in got}
    clash = (False, "the vocabulary excludes hyperinflation with low_volume")
    assert why == {("hyperinflation",): (True, None), ("low_volume",): (True, None),
                   ("hyperinflation", "effusion"): (True, None), ("low_volume", "effusion"): (True, None),
                   ("hyperinflation", "low_volume"): clash, ("hyperinflation", "low_volume", "effusion"): clash}


def test_the_last_bit_of_a_full_vocabulary_is_counted() -> None:
    vocabulary = Vocabulary(tuple(Finding(f"f{i}", i, {}, (), False, False) for i in range(62)), {})
    films = table([{"f61": "present", "f0": "present"}, {"f61": "present"}, {"f0": "absent"}], vocabulary)
    got = all_counts(films, Gaps(findings=["f0", "f61"], order=2), vocabulary=vocabulary).to_pylist()
    assert [(r["findings"], r["observed"]) for r in got] == [(["f0"], 1), (["f61"], 2), (["f0", "f61"], 1)]


def test_films_of_other_splits_never_shape_the_gaps() -> None:
    for column, value in (("split", "test"), ("split", "validate"), ("status", "quarantined")):
        films = table([{"nodule": "present"}] * 2).append_column(
            column, pa.array([{"split": "train", "status": "accepted"}[column], value]))
        with pytest.raises(BadInput, match=f"training films: {column}: got {value}; expected only"):
            find_gaps(films, Gaps(findings=NAMES), vocabulary=VOCABULARY)


def test_faults_are_named() -> None:
    with pytest.raises(BadInput, match="got noduel"):
        all_counts(table([]), Gaps(findings=["noduel"]), vocabulary=VOCABULARY)
    with pytest.raises(BadInput, match="a column uncertain"):
        all_counts(table([]).drop_columns(["uncertain"]), Gaps(findings=NAMES), vocabulary=VOCABULARY)


def test_counts_fit_the_table_of_gaps() -> None:
    assert ["build", *COUNTS.names] == GAPS.names


@pytest.mark.skipif(not LABELS.exists(), reason="the NIH label table is not beside the checkout")
def test_the_nih_label_table_lacks_what_is_known_to_be_missing_from_it() -> None:
    with gzip.open(LABELS, "rt") as f:
        strings = Counter(row["Finding Labels"] for row in csv.DictReader(f))
    vectors = {s: from_nih(s, VOCABULARY) for s in strings}
    films = pa.table({k: pa.array([getattr(vectors[s], k) for s, n in strings.items() for _ in range(n)], pa.int64())
                      for k in ("present", "absent", "uncertain")})
    assert films.num_rows == 112_120
    assert len(set(vectors.values())) == 801
    findings = [f.name for f in VOCABULARY.findings if "nih" in f.aliases]
    rows = all_counts(films, Gaps(findings=findings, order=3, min_count=10), vocabulary=VOCABULARY).to_pylist()
    for order, known in ((2, (91, 9, 0)), (3, (364, 177, 58))):
        observed = [r["observed"] for r in rows if r["order"] == order]
        assert (len(observed), sum(n < 10 for n in observed), sum(n == 0 for n in observed)) == known
