"""Read-only SQL over a lake: its tables and its published subsets as DuckDB views.

Queries come from people and may be anything; the connection therefore sees no file, no network, no
setting and no Python variable, only the registered views, and is thrown away after one statement.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.tables import TABLES

_ALLOWED = "one SELECT, WITH, SHOW, DESCRIBE or EXPLAIN statement"
_LOCK = ("SET TimeZone = 'UTC'", "SET python_enable_replacements = false", "SET enable_external_access = false",
         "SET lock_configuration = true")


def query(lake: Lake, sql: str, *, vocabulary: Vocabulary | None = None) -> pa.Table:
    """The result of one statement over a lake.

    Views: every table of the lake (empty with its columns when never written); `renders` holds each
    edit once, `members` only what published versions name; and each version of a subset as
    `"name@N"`, with the columns of `samples`. Macros: `has(mask, 'effusion')` (boolean) and
    `findings(mask)` (list of names) read packed vectors; the built-in vocabulary by default.

    Raises:
        BadInput: not a single reading statement, or DuckDB refuses it (its first line is the reason).
    """
    con = duckdb.connect(":memory:")
    try:
        _views(con, lake)
        _macros(con, vocabulary or load_vocabulary())
        for statement in _LOCK:
            con.execute(statement)
        statements = con.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name not in ("SELECT", "EXPLAIN"):
            found = " then ".join(s.type.name for s in statements) or "nothing"
            raise BadInput("SQL", found, _ALLOWED)
        return con.sql(statements[0]).to_arrow_table()
    except duckdb.Error as e:
        line = next((part for part in str(e).splitlines() if part.strip()), type(e).__name__)
        raise BadInput("SQL", " ".join(sql.split())[:120], f"SQL that DuckDB can run ({line.strip()})") from e
    finally:
        con.close()


def _views(con: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    # The list of versions is read first: members and samples are written before their version, so
    # snapshots taken later hold all that the versions name.
    versions = lake.read("subsets", columns=["subset", "version", "digest", "build"]).to_pylist()
    for table in TABLES:
        source = lake.dataset(table)
        if table == "members":
            # Filtered below SQL, so that no name shows the members of an unfinished publication.
            named = pa.array([_member_key(v) for v in versions], pa.string())
            key = pc.binary_join_element_wise(*[pc.field(c) for c in ("subset", "digest", "build")], "/")
            source = source.filter(key.isin(named))
        con.register("renders_appended" if table == "renders" else table, source)
    con.execute("CREATE VIEW renders AS SELECT DISTINCT ON (edit_id) * FROM renders_appended "
                "ORDER BY edit_id, object IS NULL, object")
    for v in versions:
        con.execute(
            f"""CREATE VIEW {_identifier(f"{v['subset']}@{v['version']}")} AS
            SELECT DISTINCT ON (s.edit_id) s.* FROM samples s JOIN members m USING (build, edit_id)
            WHERE m.subset = {_text(v['subset'])} AND m.digest = {_text(v['digest'])}
              AND m.build = {_text(v['build'])} AND s.verdict = 'accepted' ORDER BY s.edit_id""")


def _macros(con: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> None:
    bits = " ".join(f"WHEN {_text(f.name)} THEN {1 << f.bit}" for f in vocabulary.findings)
    unknown = _text("not a finding of the vocabulary: ")
    con.execute(f"CREATE MACRO has(mask, name) AS (mask & CASE name {bits} ELSE error({unknown} || name) END) <> 0")
    names = ", ".join(f"CASE WHEN (mask & {1 << f.bit}) <> 0 THEN {_text(f.name)} END" for f in vocabulary.findings)
    con.execute("CREATE MACRO findings(mask) AS CASE WHEN mask IS NOT NULL THEN "
                f"list_filter([{names}], lambda name: name IS NOT NULL) END")


def _member_key(version: dict[str, Any]) -> str:
    return "/".join(version[c] for c in ("subset", "digest", "build"))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def to_text(table: pa.Table, format: str) -> str:
    """A table as text for people and programs.

    Args:
        table: any Arrow table.
        format: "json", a list of objects, or "csv" with a header (lists and structs as JSON in a cell,
            nulls empty). Times are ISO 8601; NaN and infinities, which JSON lacks, become null.

    Raises:
        BadInput: another format, or for json two columns of one name.
    """
    names = table.column_names
    if format == "json":
        if len(set(names)) < len(names):
            raise BadInput("SQL", ", ".join(names), "a name of its own for every column (AS) to write JSON")
        rows = [_plain(row) for row in table.to_pylist()]
        return json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    if format == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for batch in table.to_batches(max_chunksize=10_000):
            writer.writerows(zip(*[_cells(column.to_pylist()) for column in batch.columns], strict=True))
        return out.getvalue()
    raise BadInput("format", format, "json or csv")


def _cells(values: Iterable[Any]) -> list[Any]:
    plain = (_plain(v) for v in values)
    return [json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for v in plain]


def _plain(value: Any) -> Any:
    """A Python value as JSON has it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Decimal):  # DuckDB sums 64-bit integers as decimals
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
