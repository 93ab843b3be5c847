"""Without these, `cars gaps` could print figures that are not those of the films it was given."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.survey import Survey, survey
from cars_core.vectors import from_nih
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps

V = load_vocabulary()
NAMES = ["effusion", "nodule", "mass", "lung_lesion"]
STATES = ("present", "absent", "uncertain")

Film = dict[str, str]
film_lists = st.lists(st.fixed_dictionaries({
    **{n: st.sampled_from(["present", "absent", ""]) for n in NAMES}, "sex": st.sampled_from(["F", "M"])}),
    min_size=1, max_size=20)


def table(films: list[Film]) -> pa.Table:
    vectors = {s: pa.array([V.mask([n for n in NAMES if f[n] == s]) for f in films], pa.int64()) for s in STATES}
    return pa.table({**vectors, "sex": [f["sex"] for f in films]})


def surveyed(films: list[Film], **policy: Any) -> Survey:
    return survey(table(films), Gaps(findings=NAMES, **policy), vocabulary=V)


def tally(films: list[Film], order: int, needed: int) -> dict[str, int]:
    own = [c for c in combinations(NAMES, order) if "lung_lesion" not in c or not {"nodule", "mass"} & set(c)]
    seen = [sum(all(f[n] == "present" for n in c) for f in films) for c in own]
    return {"patterns": len(own), "below": sum(n < needed for n in seen), "absent": sum(n == 0 for n in seen)}


@given(films=film_lists, min_count=st.integers(1, 5), patterns=st.sampled_from(["positive", "full"]))
@settings(max_examples=25, deadline=None)
def test_the_summary_counts_combinations_of_their_own(films: list[Film], min_count: int, patterns: Any) -> None:
    found = surveyed(films, order=3, min_count=min_count, by=["sex"], patterns=patterns)
    printed = found.as_json()
    assert (printed["films"], printed["distinct_vectors"]) == (
        len(films), len({tuple(f[n] for n in NAMES) for f in films}))
    assert printed["orders"] == {str(k): tally(films, k, min_count) for k in (1, 2, 3)}
    cells = {f"sex={s}": [f for f in films if f["sex"] == s] for s in sorted({f["sex"] for f in films})}
    assert printed["cells"] == {name: {"films": len(here), "orders": {str(k): tally(here, k, min_count)
                                                                      for k in (1, 2, 3)}}
                                for name, here in cells.items()}


@given(films=film_lists)
@settings(max_examples=10, deadline=None)
def test_what_is_printed_for_scripts_says_what_the_tables_say(films: list[Film]) -> None:
    found = surveyed(films, order=2, min_count=3, by=["sex"])
    printed = json.loads(json.dumps(found.as_json()))
    assert len(printed["gaps"]) == found.gaps.num_rows
    assert len(printed["uncovered"]) == found.uncovered.num_rows
    for said, row in zip(printed["gaps"], found.gaps.to_pylist(), strict=True):
        assert set(said) - {"cell"} == {"findings", "observed", "expected", "lift", "lift_low", "lift_high", "needed",
                                        "deficit", "fillable", "reason"}
        assert said.get("cell", "") == row["cell"]
        assert all(said[k] == row[k] for k in ("findings", "observed", "needed", "deficit", "fillable", "reason"))
        assert said["expected"] == pytest.approx(row["expected"], abs=0.005)
        for k in ("lift", "lift_low", "lift_high"):
            assert said[k] == (None if row[k] is None else pytest.approx(row[k], abs=0.0005))
    for said, row in zip(printed["uncovered"], found.uncovered.to_pylist(), strict=True):
        assert set(said) - {"cell"} == {"level", "findings", "observed", "possible", "reason"}
        assert said.get("cell", "") == row["cell"]
        assert all(said[k] == row[k] for k in ("level", "findings", "observed", "possible", "reason"))


def test_without_attributes_no_cells_are_printed() -> None:
    printed = surveyed([{**dict.fromkeys(NAMES, "absent"), "sex": "F"}]).as_json()
    assert list(printed) == ["films", "distinct_vectors", "orders", "gaps", "uncovered"]


def test_uncovered_patterns_are_looked_for_up_to_the_order_or_the_level_asked_for() -> None:
    # Every finding in both values on enough films, and every pair; but never all three at once.
    films: list[Film] = [{"effusion": a, "nodule": b, "mass": c, "lung_lesion": "absent", "sex": "F"}
                         for a in STATES[:2] for b in STATES[:2] for c in STATES[:2] if (a, b, c) != ("present",) * 3]
    wish = Gaps(findings=NAMES[:3], order=2, min_count=1)
    shallow, deep = (survey(table(films), wish, vocabulary=V, level=level) for level in (None, 3))
    assert shallow.uncovered.num_rows == 0
    assert deep.uncovered["findings"].to_pylist() == [["effusion", "mass", "nodule"]]
    assert deep.uncovered["without"].to_pylist() == [0]
    assert deep.gaps.equals(shallow.gaps)


def test_uncertain_findings_that_count_as_present_were_seen_on_real_films() -> None:
    shown = {"present": [V.mask(["effusion"])], "absent": [0], "uncertain": [V.mask(["nodule", "mass"])]}
    pair = ["effusion", "nodule", "mass"]
    wish = {"findings": pair, "order": 3, "min_count": 2, "plausible": {"reference": None}}
    for uncertain, fillable in (("present", True), ("absent", False), ("ignore", False)):
        found = survey(pa.table(shown), Gaps(**wish, uncertain=uncertain), vocabulary=V)  # type: ignore[arg-type]
        triple = next(r for r in found.gaps.to_pylist() if r["order"] == 3)
        assert triple["fillable"] is fillable


def test_faults_are_named() -> None:
    films: list[Film] = [{**dict.fromkeys(NAMES, "absent"), "sex": "F"}]
    with pytest.raises(BadInput, match="cell: got sex=X; expected one of '', 'sex=F'"):
        surveyed(films, by=["sex"]).orders("sex=X")
    with pytest.raises(BadInput, match="films: got none"):
        survey(table(films).slice(0, 0), Gaps(findings=NAMES), vocabulary=V)
    with pytest.raises(BadInput, match="films: got no column view"):
        surveyed(films, by=["view"])


def test_the_nih_label_table_gives_the_figures_known_of_it(open_films: Path, tmp_path: Path) -> None:
    labels = open_films / "labels" / "Data_Entry_2017_v2020.csv.gz"
    films = duckdb.read_csv(str(labels)).project(
        '"Finding Labels" AS said, "Patient Gender" AS sex, "Patient Age"::INT AS age, "View Position" AS view'
    ).to_arrow_table()
    vectors = {s: from_nih(s, V) for s in set(films["said"].to_pylist())}
    said = [vectors[s] for s in films["said"].to_pylist()]
    films = films.drop_columns(["said"])
    for state in STATES:
        films = films.append_column(state, pa.array([getattr(v, state) for v in said], pa.int64()))
    pq.write_table(films, tmp_path / "films.parquet")
    wish = Gaps(findings=[f.name for f in V.findings if "nih" in f.aliases], order=3, min_count=10,
                by=["sex", "view"])
    for source in (films, pds.dataset(tmp_path / "films.parquet")):
        printed = survey(source, wish, vocabulary=V).as_json()
        assert (printed["films"], printed["distinct_vectors"]) == (112_120, 801)
        assert printed["orders"] == {"1": {"patterns": 14, "below": 0, "absent": 0},
                                     "2": {"patterns": 91, "below": 9, "absent": 0},
                                     "3": {"patterns": 364, "below": 177, "absent": 58}}
    # Women's hernias on films from a ward, with an effusion: by the data engineer's SQL.
    with duckdb.connect() as con:
        con.register("films", films)
        mask = V.mask(["hernia", "effusion"])
        [(known,)] = con.sql(f"SELECT count(*) FROM films WHERE sex = 'F' AND view = 'AP' "
                             f"AND present & {mask} = {mask}").fetchall()
    [row] = [g for g in printed["gaps"] if g.get("cell") == "sex=F,view=AP" and set(g["findings"]) == {
        "hernia", "effusion"}]
    assert row["observed"] == known
    assert row["deficit"] == 10 - known
