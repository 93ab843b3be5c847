"""A label file may be as odd as it likes: a bad row is one row, and never another row's values."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import open_tree
from schemas.errors import BadInput


def table(root: Path, data: bytes, name: str = "labels.csv") -> Table:
    (root / name).write_bytes(data)
    return Table(open_tree(str(root)), name)


def rows(root: Path, data: bytes) -> list[tuple[int, dict[str, str], str | None]]:
    return [(r.line, dict(r.values), r.fault) for r in table(root, data).rows()]


def test_rows_come_with_the_line_an_editor_shows(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbfa,b\r\n\r\n1, 2 \r\n"x\ny",3\r\n4,5\r\n'
    assert rows(tmp_path, data) == [(3, {"a": "1", "b": "2"}, None), (4, {"a": "x\ny", "b": "3"}, None),
                                    (6, {"a": "4", "b": "5"}, None)]


def test_a_bad_row_costs_itself_alone(tmp_path: Path) -> None:
    data = b"a,b\n1,2\nonly\n1,2,3\n1,2,\n\xe9,2\n" + b"x" * (1 << 20) + b"y,2\n5,6\n"
    got = rows(tmp_path, data)
    assert [f for *_, f in got] == [None, "row has more or fewer fields than the header",
                                    "row has more or fewer fields than the header", None, "row is not UTF-8",
                                    "row is not CSV", None]
    assert got[-1][:2] == (8, {"a": "5", "b": "6"})
    short = next(r for r in table(tmp_path, data).rows() if r.fault)
    assert short.values["b"] == "", "a column a row does not reach is empty, not an error"


def test_a_quote_that_is_never_closed_does_not_swallow_the_table(tmp_path: Path) -> None:
    good = b"1,2\n" * 400_000
    got = list(table(tmp_path, b'a,b\n"1,2\n' + good).rows())
    assert got[0].fault
    assert sum(r.fault is None for r in got) > 130_000


@pytest.mark.parametrize(("data", "told"), [
    (b"", "header"), (b"\n\n", "header"), (b"a,a\n", "twice"), (b"\xff\xfea\0,\0b\0\n\0", "UTF-8"),
    (b"a,\xe9\n", "UTF-8"), (b",".join(b"c%d" % i for i in range(5000)) + b"\n", "4096"),
])
def test_a_header_that_cannot_be_one_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        table(tmp_path, data)


def test_columns_that_lack_are_named_with_those_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"labels.csv: column view: got none; expected it among the 2 columns$"):
        table(tmp_path, b"a,b\n").require("a", "view")
    with pytest.raises(BadInput, match=r"nearest: patient id"):
        table(tmp_path, b"a,Patient ID\n").require("patient_id")
    with pytest.raises(BadInput, match=r"missing\.csv"):
        Table(open_tree(str(tmp_path)), "missing.csv")


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(b"a,b\n" + b"1,2\n" * 99_999)[:300]])
def test_a_damaged_archive_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadInput, match="readable CSV"):
        list(table(tmp_path, data, "labels.csv.gz").rows())


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=2, max_size=2),
                max_size=8))
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory,
                                               wanted: list[list[str]]) -> None:
    """Python's writer is the other route; its values come back stripped."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *wanted])
    root = tmp_path_factory.mktemp("csv")
    got: list[Row] = list(table(root, text.getvalue().encode()).rows())
    assert [[r.values["a"], r.values["b"]] for r in got] == [
        [a.strip(), b.strip()] for a, b in wanted if a.strip() or b.strip()]
