"""Tables: a retried shard must not count twice, and rows come back as they were written."""

from __future__ import annotations

from multiprocessing.pool import Pool
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from lake_rows import append_in_process, publish, race, renders, samples
from pyarrow.fs import PyFileSystem, SubTreeFileSystem

from cars_core.lake.lake import Lake
from schemas.errors import BadInput
from schemas.tables import RENDERS, TABLES


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_append_again_with_the_same_key_adds_nothing(lake: Lake) -> None:
    assert lake.append("renders", renders("e1", "e2"), key="shard-1")
    assert not lake.append("renders", renders("e1", "e2"), key="shard-1")
    assert lake.append("renders", renders("e3"), key="shard-2")
    assert sorted(lake.read("renders")["edit_id"].to_pylist()) == ["e1", "e2", "e3"]


def test_append_of_no_rows_is_remembered_too(lake: Lake) -> None:
    assert lake.append("renders", RENDERS.empty_table(), key="empty shard")
    assert not lake.append("renders", renders("e1"), key="empty shard")
    assert lake.read("renders").num_rows == 0


def test_key_is_kept_beyond_a_checkpoint_of_the_log(lake: Lake) -> None:
    lake.append("renders", renders("e0"), key="first")
    for i in range(12):
        lake.append("renders", renders(f"x{i}"), key=f"later-{i}")
    lake.delta_table("renders").create_checkpoint()
    assert not lake.append("renders", renders("e0"), key="first")
    assert lake.read("renders", where={"edit_id": "e0"}).num_rows == 1


def test_snapshot_taken_before_another_append_of_the_key_cannot_commit(lake: Lake) -> None:
    """The race that a look at the keys alone would lose: both looked, then both write."""
    stale = lake.delta_table("renders")
    assert lake.append("renders", renders("e1"), key="k")
    assert stale.transaction_version("k") is None
    assert not lake.commit(stale, renders("e1"), app="k", version=1)
    assert lake.read("renders").num_rows == 1


def test_processes_racing_for_the_table_and_the_keys_double_nothing(lake: Lake, tmp_path: Path, pool: Pool) -> None:
    """Four at once: creating the table, the same eight keys each, and four keys of their own."""
    shared = [f"shared-{i}" for i in range(8)]
    first = race(pool, tmp_path / "start", append_in_process,
                 [(lake.uri, {}, shared + [f"own-{p}-{i}" for i in range(4)]) for p in range(4)])
    assert sum(first) == 8 + 4 * 4
    edits = lake.read("renders")["edit_id"].to_pylist()
    assert sorted(edits) == sorted([*shared, *(f"own-{p}-{i}" for p in range(4) for i in range(4))])


def test_rows_come_back_as_written_with_the_exact_schema(lake: Lake) -> None:
    rows = samples("e1", "e2", seam=None, reasons=["seam", "effect"])
    lake.append("samples", rows, key="s")
    back = lake.read("samples").sort_by("edit_id")
    assert back.schema.equals(rows.schema)
    assert back.to_pylist() == rows.to_pylist()


def test_subset_rows_of_time_and_list_columns_come_back(lake: Lake) -> None:
    publish(lake, samples("e1"))
    row = lake.read("subsets").to_pylist()[0]
    assert row["licences"] == ["CC0-1.0"]
    assert row["created"].isoformat() == "2026-11-24T12:00:00+00:00"


@pytest.mark.parametrize("table", TABLES)
def test_table_never_written_reads_as_empty_with_its_schema(table: str, lake: Lake) -> None:
    read = lake.read(table)
    assert read.num_rows == 0
    assert read.schema.equals(TABLES[table])
    assert not Path(lake.uri).exists(), "reading creates nothing"


@pytest.mark.parametrize("table", TABLES)
def test_every_schema_can_be_stored_and_read(table: str, lake: Lake) -> None:
    lake.append(table, TABLES[table].empty_table(), key="k")
    assert lake.read(table).schema.equals(TABLES[table])


def test_where_and_columns_select_what_a_loop_would(lake: Lake) -> None:
    for build in ("b1", "b2"):
        for gap in (1, 2):
            lake.append("samples", samples(f"{build}-{gap}-a", f"{build}-{gap}-b", build=build, gap=gap),
                        key=f"{build}-{gap}")
    every = lake.read("samples").to_pylist()
    got = lake.read("samples", columns=["gap", "edit_id"], where={"build": "b2", "gap": 1})
    assert got.column_names == ["gap", "edit_id"]
    assert sorted(got["edit_id"].to_pylist()) == sorted(
        r["edit_id"] for r in every if r["build"] == "b2" and r["gap"] == 1) == ["b2-1-a", "b2-1-b"]
    assert lake.read("samples", where={"build": "b3"}).num_rows == 0


def test_integers_of_another_width_and_columns_in_another_order_fit(lake: Lake) -> None:
    rows = samples("e1")
    at = rows.schema.get_field_index("present")
    rows = rows.set_column(at, "present", rows["present"].cast(pa.int32()))
    lake.append("samples", rows.select(rows.column_names[::-1]), key="k")
    assert lake.read("samples")["present"].to_pylist() == [4]


@pytest.mark.parametrize(("spoil", "named"), [
    (lambda t: t.drop_columns(["seconds"]), "seconds"),
    (lambda t: t.append_column("patient_name", pa.array(["x"])), "patient_name"),
    (lambda t: t.set_column(5, "seconds", pa.array(["slow"])), "seconds"),
    (lambda t: t.set_column(5, "seconds", pa.array([None], pa.float64())), "seconds"),
    (lambda t: t.set_column(0, "edit_id", pa.array([[1]])), "edit_id"),
])
def test_rows_that_do_not_fit_are_refused_by_column_and_write_nothing(spoil, named: str, lake: Lake) -> None:
    with pytest.raises(BadInput, match=named):
        lake.append("renders", spoil(renders("e1")), key="k")
    assert lake.append("renders", renders("e1"), key="k"), "the key was not used up"


def test_unknown_names_are_refused_with_the_known_ones(lake: Lake) -> None:
    with pytest.raises(BadInput, match="cohort"):
        lake.read("films")
    with pytest.raises(BadInput, match="edit_id"):
        lake.read("renders", columns=["edit"])
    with pytest.raises(BadInput, match="edit_id"):
        lake.read("renders", where={"edit": "x"})


def test_tables_are_plain_delta_that_other_readers_open(lake: Lake) -> None:
    lake.append("renders", renders("e1"), key="k")
    other = DeltaTable(str(Path(lake.uri, "tables", "renders")))
    assert other.to_pyarrow_table()["edit_id"].to_pylist() == ["e1"]


def test_reading_a_table_never_calls_back_into_python(lake: Lake) -> None:
    """A file system of Python's that Arrow's threads let go of as the interpreter ends aborts a finished run."""
    lake.append("renders", renders("e1"), key="k")
    files = lake.dataset("renders").filesystem
    while isinstance(files, SubTreeFileSystem):
        files = files.base_fs
    assert not isinstance(files, PyFileSystem)


def test_a_lake_of_another_version_is_refused_by_the_column_it_lacks(lake: Lake) -> None:
    """Half an answer from old tables, or a traceback, would leave nobody the wiser."""
    old = RENDERS.remove(RENDERS.get_field_index("stack"))
    write_deltalake(f"{lake.uri}/tables/renders", old.empty_table())
    with pytest.raises(BadInput, match="table renders: got no column stack; expected a lake of this version"):
        lake.read("renders")
