"""SQL for people: right answers over the lake, and no way out of it."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_rows import publish, renders, samples

from cars_core.lake.lake import Lake
from cars_core.lake.sql import query, to_text
from cars_core.lake.subsets import subset_rows
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.tables import TABLES

VOCABULARY = load_vocabulary()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two versions of one subset, a rejected sample, an unfinished publication, a render twice."""
    lake = Lake(str(tmp_path_factory.mktemp("sql") / "lake"))
    lake.append("renders", renders("e1", failed=True), key="r1")
    lake.append("renders", renders("e1", "e2"), key="r2")
    one, two = samples("e1", "e2"), samples("e3", build="b2", licence="CC-BY-4.0")
    lake.append("samples", one, key="one")
    lake.append("samples", two, key="two")
    lake.append("samples", samples("e9", verdict="rejected", reasons=["seam"]), key="rejected")
    publish(lake, one)
    publish(lake, two)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(lake, samples("e4"), subset="unfinished", before_commit=stop)
    return lake


def test_version_view_holds_the_published_samples(lake: Lake) -> None:
    for version in (1, 2):
        got = query(lake, f'SELECT * FROM "effusions@{version}" ORDER BY edit_id')
        assert got.to_pylist() == subset_rows(lake, "effusions", version).to_pylist()
    assert query(lake, 'SELECT licence FROM "effusions@2"').to_pylist() == [{"licence": "CC-BY-4.0"}]


def test_members_of_an_unfinished_publication_are_under_no_name(lake: Lake) -> None:
    assert set(lake.read("members")["subset"].to_pylist()) == {"effusions", "unfinished"}
    for view in query(lake, "SHOW TABLES")["name"].to_pylist():
        assert "e4" not in str(query(lake, f'SELECT * FROM "{view}"').to_pylist()), view
    assert query(lake, "SELECT edit_id FROM members ORDER BY 1")["edit_id"].to_pylist() == ["e1", "e2", "e3"]


def test_rejected_sample_stays_visible_with_its_reason(lake: Lake) -> None:
    got = query(lake, "SELECT edit_id, reasons FROM samples WHERE verdict = 'rejected'")
    assert got.to_pylist() == [{"edit_id": "e9", "reasons": ["seam"]}]


def test_render_counts_once_and_a_success_wins_over_a_failure(lake: Lake) -> None:
    got = query(lake, "SELECT edit_id, object IS NOT NULL AS made FROM renders ORDER BY edit_id").to_pylist()
    assert got == [{"edit_id": "e1", "made": True}, {"edit_id": "e2", "made": True}]


def test_empty_lake_answers_with_every_table_empty(tmp_path: Path) -> None:
    empty = Lake(str(tmp_path / "none"))
    assert set(query(empty, "SHOW TABLES")["name"].to_pylist()) >= set(TABLES)
    for table, schema in TABLES.items():
        got = query(empty, f"SELECT * FROM {table}")
        assert (got.num_rows, got.column_names) == (0, schema.names)


@settings(max_examples=8, deadline=None)
@given(masks=st.lists(st.integers(0, 2**20 - 1), min_size=20, max_size=200))
def test_macros_read_vectors_as_the_library_does(masks: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = Lake(str(tmp_path_factory.getbasetemp() / "none"))
    values = ", ".join(f"({i}, {m}::BIGINT)" for i, m in enumerate(masks))
    got = query(empty, f"SELECT findings(m) AS names, has(m, 'effusion') AS effusion, has(m, 'support_devices') AS d "
                       f"FROM (VALUES {values}) v(i, m) ORDER BY i").to_pylist()
    for row, mask in zip(got, masks, strict=True):
        assert row["names"] == VOCABULARY.unpack(mask)
        assert row["effusion"] == ("effusion" in VOCABULARY.unpack(mask))
        assert row["d"] == ("support_devices" in VOCABULARY.unpack(mask))


def test_macros_use_the_vocabulary_given(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("findings:\n  - {name: it's, outline: false, sided: false}\n"
                    "  - {name: other, outline: false, sided: false}\n")
    sql = "SELECT findings(3) AS f, findings(NULL::BIGINT) AS n, has(2, 'it''s') AS h"
    got = query(Lake(str(tmp_path / "none")), sql, vocabulary=load_vocabulary(str(file)))
    assert got.to_pylist() == [{"f": ["it's", "other"], "n": None, "h": False}]


def test_misspelt_finding_is_an_error_not_false(lake: Lake) -> None:
    with pytest.raises(BadInput, match="not a finding of the vocabulary: effusions"):
        query(lake, "SELECT has(present, 'effusions') FROM samples")


@pytest.mark.parametrize("sql", [
    "COPY (SELECT 1) TO '{out}'", "EXPORT DATABASE '{out}'", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "ATTACH '{out}' AS other", "INSTALL httpfs", "LOAD httpfs", "PRAGMA version", "CALL pragma_version()",
    "SET enable_external_access = true", "RESET lock_configuration", "CREATE TABLE x (a INT)", "DROP VIEW renders",
    "INSERT INTO subsets SELECT * FROM subsets", "DELETE FROM samples", "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{out}'", "CHECKPOINT", "", "-- nothing",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')", "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')",
])
def test_query_reaches_nothing_but_the_views(sql: str, lake: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="SQL") as e:
        query(lake, sql.format(out=out))
    assert "\n" not in str(e.value)
    assert "root:" not in str(e.value)
    assert not out.exists()


def test_python_variables_are_no_tables(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB looks for an unknown name among the variables around the call, unless told not to."""
    monkeypatch.setattr("cars_core.lake.sql.secret", pa.table({"key": ["s3cret"]}), raising=False)
    with pytest.raises(BadInput, match="secret"):
        query(lake, "SELECT * FROM secret")


@pytest.mark.parametrize(("sql", "reason"), [
    ("SELEC 1", "syntax error"), ("SELECT * FROM nope", "nope does not exist"), ("SELECT nope FROM samples", "nope"),
    ("SELECT error('boom')", "boom")])
def test_wrong_sql_is_one_line_with_duckdbs_reason(sql: str, reason: str, lake: Lake) -> None:
    with pytest.raises(BadInput, match=reason) as e:
        query(lake, sql)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("sql", ["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "SHOW TABLES", "EXPLAIN SELECT 1",
                                 "DESCRIBE samples", "FROM samples", "SELECT 1;", "SUMMARIZE subsets"])
def test_reading_statements_are_allowed(sql: str, lake: Lake) -> None:
    assert query(lake, sql).num_rows >= 1


def test_json_is_a_list_of_objects_with_iso_times_and_no_nan(lake: Lake) -> None:
    text = to_text(query(lake, "SELECT subset, version, created, licences, sum(version) OVER () AS total, "
                               "'nan'::DOUBLE AS undefined FROM subsets ORDER BY version"), "json")
    rows = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert rows[0] == {"subset": "effusions", "version": 1, "created": "2026-11-24T12:00:00+00:00",
                       "licences": ["CC0-1.0"], "total": 3, "undefined": None}


def test_csv_reads_back_with_nested_cells_as_json(lake: Lake) -> None:
    text = to_text(query(lake, "SELECT edit_id, operations, seam FROM samples ORDER BY edit_id LIMIT 1"), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["edit_id"] == "e1"
    assert rows[0]["seam"] == ""
    assert json.loads(rows[0]["operations"])[0]["severity"] == 0.5


def test_text_keeps_quotes_commas_and_line_ends() -> None:
    value = 'a "b", c\nd é'
    table = pa.table({"x": [value], "t": [datetime(2026, 1, 2, tzinfo=UTC)]})
    assert next(csv.DictReader(io.StringIO(to_text(table, "csv"), newline="")))["x"] == value
    assert json.loads(to_text(table, "json"))[0] == {"x": value, "t": "2026-01-02T00:00:00+00:00"}


def test_unknown_format_and_json_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(BadInput, match="csv"):
        to_text(table, "xml")
    with pytest.raises(BadInput, match="AS"):
        to_text(table, "json")
    assert to_text(table, "csv") == "a,a\n1,2\n"
