"""Without these, a pattern reported as lacking might not lack or not be the most general, and one might stay hidden."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage import uncovered as module
from cars_core.coverage.group import Grouped, group_films
from cars_core.coverage.plausible import Plausibility
from cars_core.coverage.uncovered import uncovered
from cars_core.vectors import from_nih
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Plausible, Uncertain
from schemas.tables import UNCOVERED

VOCABULARY = load_vocabulary()
NAMES = ["effusion", "mass", "pneumothorax", "lung_lesion", "support_devices"]
ATTRIBUTES = {"sex": ["F", "M"], "view": ["AP", "LATERAL", "PA"]}

# A film as the oracle sees it: findings by name -> state, attributes by name -> value.
Film = dict[str, str]
# A pattern as the oracle sees it: (finding or attribute, value) pairs.
Pattern = frozenset[tuple[str, str]]

film_lists = st.lists(
    st.fixed_dictionaries({**{n: st.sampled_from(["present", "absent", "uncertain", ""]) for n in NAMES},
                           **{a: st.sampled_from(v) for a, v in ATTRIBUTES.items()}}), min_size=1, max_size=40)


def group(films: list[Film], by: Iterable[str] = (), names: list[str] = NAMES) -> Grouped:
    table = pa.table({
        **{s: pa.array([VOCABULARY.mask([n for n in names if f[n] == s]) for f in films], pa.int64())
           for s in ("present", "absent", "uncertain")},
        **{a: [f[a] for f in films] for a in by}})
    return group_films(table, mask=VOCABULARY.mask(names), by=tuple(by))


def film(*present: str, **attributes: str) -> Film:
    return {**dict.fromkeys(NAMES, "absent"), **dict.fromkeys(present, "present"), **attributes}


def value(film: Film, name: str, uncertain: Uncertain) -> str:
    """What a film says of a finding (present, absent or nothing) or an attribute, under a policy."""
    state = film[name]
    if name in ATTRIBUTES:
        return state
    if state == "uncertain":
        return {"absent": "absent", "present": "present", "ignore": ""}[uncertain]
    return state or "absent"


def oracle(films: list[Film], by: list[str], names: list[str], threshold: int, level: int,
           uncertain: Uncertain) -> dict[Pattern, int]:
    """Every maximal uncovered pattern and its films, by looking at every film for every pattern."""
    said = [{(n, value(f, n, uncertain)) for n in (*names, *by)} for f in films]
    choices = {n: ["present", "absent"] for n in names} | {a: sorted({f[a] for f in films}) for a in by}

    def seen(pattern: Iterable[tuple[str, str]]) -> int:
        return sum(said_of.issuperset(pattern) for said_of in said)

    out = {}
    for size in range(level + 1):
        for chosen in combinations(choices, size):
            for values in product(*(choices[n] for n in chosen)):
                pattern = frozenset(zip(chosen, values, strict=True))
                if seen(pattern) < threshold and all(seen(pattern - {p}) >= threshold for p in pattern):
                    out[pattern] = seen(pattern)
    return out


def read(table: pa.Table) -> dict[Pattern, int]:
    """The result as the oracle writes it, from what people read: names and cells."""
    out = {}
    for row in table.to_pylist():
        pattern = {(n.removeprefix("no "), "absent" if n.startswith("no ") else "present") for n in row["findings"]}
        pattern |= {tuple(part.split("=")) for part in row["cell"].split(",") if part}
        assert len(pattern) == row["level"]
        assert row["gap"] == VOCABULARY.mask([n for n, v in pattern if v == "present"])
        assert row["without"] == VOCABULARY.mask([n for n, v in pattern if v == "absent"])
        assert frozenset(pattern) not in out
        out[frozenset(pattern)] = row["observed"]
    return out


@given(films=film_lists, names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True),
       by=st.lists(st.sampled_from(sorted(ATTRIBUTES)), max_size=2, unique=True), threshold=st.integers(1, 8),
       level=st.integers(1, 7), uncertain=st.sampled_from(["absent", "present", "ignore"]))
@settings(max_examples=150, deadline=None)
def test_no_most_general_lacking_pattern_is_missed_or_made_up(
        films: list[Film], names: list[str], by: list[str], threshold: int, level: int, uncertain: Uncertain) -> None:
    got = uncovered(group(films, by), findings=names, threshold=threshold, level=level, uncertain=uncertain,
                    vocabulary=VOCABULARY)
    assert got.schema == UNCOVERED
    assert read(got) == oracle(films, by, names, threshold, level, uncertain)
    rows = [(r["level"], r["observed"], r["gap"], r["without"], r["cell"]) for r in got.to_pylist()]
    assert rows == sorted(rows)


@given(films=film_lists, threshold=st.integers(1, 6), uncertain=st.sampled_from(["absent", "present", "ignore"]))
@settings(max_examples=30, deadline=None)
def test_every_lacking_pattern_holds_a_reported_one(films: list[Film], threshold: int, uncertain: Uncertain) -> None:
    names, by = NAMES[:3], ["sex"]
    depth = len(names) + len(by)
    got = read(uncovered(group(films, by), findings=names, threshold=threshold, level=depth, uncertain=uncertain,
                         vocabulary=VOCABULARY))
    choices = {n: ["present", "absent"] for n in names} | {"sex": sorted({f["sex"] for f in films})}
    said = [{(n, value(f, n, uncertain)) for n in choices} for f in films]
    for size in range(depth + 1):
        for chosen in combinations(choices, size):
            for values in product(*(choices[n] for n in chosen)):
                pattern = frozenset(zip(chosen, values, strict=True))
                lacks = sum(s.issuperset(pattern) for s in said) < threshold
                assert lacks == any(reported <= pattern for reported in got)


def test_a_set_smaller_than_the_threshold_lacks_everything_and_says_so_once() -> None:
    films = [film("mass", "lung_lesion", sex="F")] * 4
    [row] = uncovered(group(films, ["sex"]), findings=NAMES, threshold=5, level=3, uncertain="absent",
                      vocabulary=VOCABULARY).to_pylist()
    assert row == {"level": 0, "gap": 0, "without": 0, "cell": "", "findings": [], "observed": 4, "possible": True,
                   "reason": None}


def test_a_finding_with_what_it_implies_is_not_reported_beside_the_finding() -> None:
    films = [film()] * 20 + [film("mass", "lung_lesion")] * 3 + [film("lung_lesion")] * 20
    got = read(uncovered(group(films), findings=["mass", "lung_lesion"], threshold=10, level=2, uncertain="absent",
                         vocabulary=VOCABULARY))
    assert got == {frozenset({("mass", "present")}): 3}  # not mass with, nor mass without a lung lesion


def test_what_cannot_be_on_a_film_is_no_fault_of_the_films() -> None:
    films = [film()] * 20 + [film("mass", "lung_lesion")] * 20 + [film("lung_lesion")] * 20
    [row] = uncovered(group(films), findings=["mass", "lung_lesion"], threshold=10, level=2, uncertain="absent",
                      vocabulary=VOCABULARY).to_pylist()
    assert (row["findings"], row["observed"]) == (["mass", "no lung_lesion"], 0)
    assert (row["possible"], row["reason"]) == (False, "mass implies lung_lesion")


def test_excluded_findings_are_reported_as_such() -> None:
    vocabulary = Vocabulary((
        Finding("collapse", 0, {}, (), True, True, excludes=("hyperinflation",)),
        Finding("hyperinflation", 1, {}, (), True, False), Finding("mass", 2, {}, (), False, True)), {})
    table = pa.table({"present": [0, 1, 2, 4, 5] * 9, "absent": [0] * 45, "uncertain": [0] * 45})
    got = uncovered(group_films(table, mask=7), findings=["collapse", "hyperinflation", "mass"], threshold=5, level=3,
                    uncertain="absent", vocabulary=vocabulary).to_pylist()
    assert [(r["findings"], r["possible"]) for r in got] == [
        (["collapse", "hyperinflation"], False), (["hyperinflation", "mass"], True)]
    assert got[0]["reason"] == "the vocabulary excludes collapse with hyperinflation"


def test_labels_that_contradict_the_vocabulary_do_not_make_a_real_pattern_impossible() -> None:
    films = [film("mass")] * 20 + [film("mass", "lung_lesion")] * 3 + [film("lung_lesion")] * 20 + [film()] * 20
    [row] = uncovered(group(films), findings=["mass", "lung_lesion"], threshold=10, level=2, uncertain="absent",
                      vocabulary=VOCABULARY).to_pylist()
    assert (row["findings"], row["observed"], row["possible"]) == (["mass", "lung_lesion"], 3, True)


def test_a_pattern_no_real_film_shows_is_told_from_one_that_is_merely_rare() -> None:
    films = ([film()] * 20 + [film("effusion")] * 20 + [film("pneumothorax")] * 20 + [film("support_devices")] * 20
             + [film("effusion", "pneumothorax")] * 2)
    grouped = group(films)
    plausible = Plausibility(Plausible(reference=None), real=grouped.present, vocabulary=VOCABULARY)
    rows = uncovered(grouped, findings=["effusion", "pneumothorax", "support_devices"], threshold=10, level=2,
                     uncertain="absent", vocabulary=VOCABULARY, plausible=plausible).to_pylist()
    assert {tuple(r["findings"]): r["possible"] for r in rows} == {
        ("effusion", "pneumothorax"): True, ("effusion", "support_devices"): False,
        ("pneumothorax", "support_devices"): False}
    assert all(r["reason"].startswith("never seen on a real film: ") for r in rows if not r["possible"])


def test_nothing_lacking_gives_an_empty_table() -> None:
    got = uncovered(group([film()] * 9 + [film("mass")] * 9), findings=["mass"], threshold=9, level=4,
                    uncertain="absent", vocabulary=VOCABULARY)
    assert got.num_rows == 0 and got.schema == UNCOVERED


def test_attributes_alone_can_be_lacking() -> None:
    films = [film(sex=s, view=v) for s, v, n in (("F", "PA", 9), ("M", "PA", 9), ("F", "AP", 9), ("M", "AP", 2))
             for _ in range(n)]
    grouped = group(films, ["sex", "view"])
    got = uncovered(grouped, findings=[], threshold=5, level=3, uncertain="absent", vocabulary=VOCABULARY).to_pylist()
    assert [(r["cell"], r["observed"], r["level"]) for r in got] == [("sex=M,view=AP", 2, 2)]


def test_an_attribute_value_that_no_film_has_is_no_gap() -> None:
    grouped = group([film(sex="F")] * 9 + [film("mass", sex="M")] * 9, ["sex"])
    named = replace(grouped, levels=(("F", "M", "other"),))
    got = [uncovered(g, findings=NAMES, threshold=5, level=2, uncertain="absent", vocabulary=VOCABULARY)
           for g in (grouped, named)]
    assert got[0].equals(got[1])


def test_the_order_in_which_findings_are_asked_for_changes_nothing() -> None:
    films = [film("mass", "effusion")] * 4 + [film("effusion")] * 6 + [film()] * 9
    got = [uncovered(group(films), findings=f, threshold=5, level=3, uncertain="absent", vocabulary=VOCABULARY)
           for f in (NAMES, NAMES[::-1], NAMES + NAMES[:2])]
    assert got[0].equals(got[1]) and got[0].equals(got[2])


@pytest.mark.parametrize(("changed", "where"), [
    ({"threshold": 0}, "threshold"), ({"level": 0}, "level"), ({"findings": ["cavitation"]}, "finding")])
def test_a_question_that_makes_no_sense_is_refused(changed: dict[str, object], where: str) -> None:
    asked = {"findings": NAMES, "threshold": 5, "level": 2, "uncertain": "absent", "vocabulary": VOCABULARY, **changed}
    with pytest.raises(BadInput) as e:
        uncovered(group([film()] * 9), **asked)  # type: ignore[arg-type]
    assert e.value.where == where


def test_a_level_that_would_fill_the_memory_is_refused_with_the_one_that_does_not(
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"findings": NAMES, "threshold": 5, "uncertain": "absent", "vocabulary": VOCABULARY}
    monkeypatch.setattr(module, "MOST_COUNTS", 40)  # 5 findings: 10 patterns of level 1, 40 of level 2, 80 of level 3
    with pytest.raises(BadInput, match="at most 2 with 5 findings"):
        uncovered(group([film()] * 9), level=3, **asked)  # type: ignore[arg-type]
    uncovered(group([film()] * 9), level=2, **asked)  # type: ignore[arg-type]


def test_a_level_of_all_findings_is_not_refused_for_the_public_label_sets() -> None:
    for which in ("nih", "chexpert"):
        n = len({f.name for f in VOCABULARY.label_set(which).values()})
        assert module._fits(n, n, 2) and module._fits(48, 4, 2)


@pytest.fixture(scope="module")
def nih(open_films: Path) -> pa.Table:
    """The published label table: packed vectors and sex."""
    with duckdb.connect() as con:
        read_in = con.sql("SELECT \"Finding Labels\" AS labels, \"Patient Gender\" AS sex FROM read_csv("
                          f"'{open_films / 'labels' / 'Data_Entry_2017_v2020.csv.gz'}')")
        assert read_in is not None
        table = read_in.to_arrow_table()
    labels: list[str] = table["labels"].to_pylist()
    vectors = {t: from_nih(t, VOCABULARY) for t in set(labels)}
    found = [vectors[t] for t in labels]
    return pa.table({"present": [v.present for v in found], "absent": [v.absent for v in found],
                     "uncertain": [0] * len(found), "sex": table["sex"]})


def test_lacking_patterns_of_the_nih_films_are_those_that_sql_over_the_films_finds(nih: pa.Table) -> None:
    names = sorted({f.name for f in VOCABULARY.label_set("nih").values()}, key=lambda n: VOCABULARY[n].bit)
    grouped = group_films(nih, mask=VOCABULARY.mask(names), by=("sex",))
    got = uncovered(grouped, findings=names, threshold=10, level=4, uncertain="absent", vocabulary=VOCABULARY)
    # Long form: every film says one (item, value) of each finding and of its sex; patterns are joins of items.
    sides = " UNION ALL ".join(
        [f"SELECT v, {i} AS item, (present >> {VOCABULARY[n].bit} & 1)::INT AS value FROM vectors"
         for i, n in enumerate(names)] + [f"SELECT v, {len(names)}, (sex = 'M')::INT FROM vectors"])
    with duckdb.connect() as con:
        con.register("films", nih)
        con.execute("CREATE TABLE vectors AS SELECT row_number() OVER () AS v, * FROM "
                    "(SELECT present, sex, count(*) AS n FROM films GROUP BY ALL)")
        con.execute(f"CREATE TABLE says AS SELECT s.*, n FROM ({sides}) s JOIN vectors USING (v)")
        seen: list[dict[tuple[tuple[int, int], ...], int]] = [{(): nih.num_rows}]
        for size in (1, 2, 3, 4):
            tables = ", ".join(f"says s{i}" for i in range(size))
            columns = ", ".join(f"s{i}.item, s{i}.value" for i in range(size))
            same = " AND ".join([f"s{i}.v = s0.v AND s{i}.item > s{i - 1}.item" for i in range(1, size)]) or "true"
            rows = con.execute(f"SELECT {columns}, sum(s0.n)::BIGINT FROM {tables} WHERE {same} "
                               f"GROUP BY ALL").fetchall()
            seen.append({tuple(zip(r[:-1:2], r[1:-1:2], strict=True)): r[-1] for r in rows})
    lacking = set()
    for size in (1, 2, 3, 4):
        for items in combinations(range(len(names) + 1), size):
            for values in product((0, 1), repeat=size):
                p = tuple(zip(items, values, strict=True))
                if seen[size].get(p, 0) < 10 and all(
                        seen[size - 1].get(p[:i] + p[i + 1:], 0) >= 10 for i in range(size)):
                    lacking.add((frozenset(p), seen[size].get(p, 0)))
    place = {n: i for i, n in enumerate(names)} | {"sex": len(names)}
    assert lacking == {(frozenset((place[n], int(v in ("present", "M"))) for n, v in pattern), n_films)
                       for pattern, n_films in read(got).items()}


def test_the_nih_films_lack_nine_pairs_and_no_finding(nih: pa.Table) -> None:
    names = [f.name for f in {f.bit: f for f in VOCABULARY.label_set("nih").values()}.values()]
    got = uncovered(group_films(nih, mask=VOCABULARY.mask(names)), findings=names, threshold=10, level=4,
                    uncertain="absent", vocabulary=VOCABULARY)
    assert np.bincount(got["level"].to_numpy()).tolist() == [0, 0, 9, 105, 244]
