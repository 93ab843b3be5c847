"""One lake: tables with the schemas of `schemas.tables`, objects named by their sha256, pages.

    <uri>/tables/<name>              Delta tables
    <uri>/objects/sha256/ab/<sha>    immutable bytes
    <uri>/pages/<name>               what a build shows to people
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from cars_core.lake.objects import DamagedObject, MissingObject, Objects
from cars_core.lake.storage import open_storage
from cars_core.lake.subsets import Published, publish
from schemas.errors import BadInput
from schemas.tables import TABLES

__all__ = ["DamagedObject", "Lake", "LakeBusy", "MissingObject", "Objects"]

_COMMIT_BYTES = 1 << 20  # what a commit may take beside its rows
_ATTEMPTS = 60  # with the pauses below about a minute and a half of losing every race


class LakeBusy(RuntimeError):
    """Other writers won every race for a table's next commit."""


class Lake:
    """A lake at one place. Opening one touches nothing; it can be pickled and sent to a worker.

    Args:
        uri: a local path (or file://...) or s3://bucket/prefix.
        storage: options of the store, by delta-rs' names (`cars_core.lake.storage.STORAGE_KEYS`).

    Raises:
        BadInput: an address or option that cannot be one.
    """

    def __init__(self, uri: str, *, storage: Mapping[str, str] | None = None) -> None:
        self._storage = open_storage(uri, storage)

    @property
    def uri(self) -> str:
        """Absolute address of the lake's root."""
        return self._storage.root

    def ensure_writable(self) -> None:
        """Try the place with both clients: write and remove a small file, look for a table.

        Raises:
            BadInput: the lake cannot be created, written or read, and why.
        """
        self._storage.probe()
        try:
            self.dataset("subsets")
        except (OSError, DeltaError) as e:
            raise BadInput("lake", self.uri, f"a place whose tables can be read ({_one_line(e)})") from e

    # Objects

    @property
    def objects(self) -> Objects:
        """The objects alone: what a worker that only keeps pictures is sent."""
        return Objects(self._storage)

    def put(self, data: bytes) -> str:
        """Keep bytes; returns their sha256 (hex). See `Objects.put`."""
        return self.objects.put(data)

    def get(self, sha: str) -> bytes:
        """The bytes of an object, checked against its name. Raises as `Objects.get`."""
        return self.objects.get(sha)

    def exists(self, sha: str) -> bool:
        """Whether an object of this name is there (its bytes are not checked)."""
        return self.objects.exists(sha)

    def write_page(self, name: str, data: bytes) -> str:
        """Write a page, in place of an older one; returns its address. `name` may hold folders.

        Raises:
            BadInput: an absolute name or one that climbs out of the pages.
        """
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name:
            raise BadInput("page", name, "a relative name inside the lake's pages")
        self._storage.write(f"pages/{name}", data)
        return self._storage.uri(f"pages/{name}")

    # Tables

    def append(self, table: str, rows: pa.Table, *, key: str) -> bool:
        """Append rows in one commit, once for a key: a second call with it changes nothing.

        The key is a Delta application transaction, committed together with the rows; so an append
        that was killed either happened wholly or can be made again, and of several appenders with
        one key exactly one succeeds.

        Args:
            table: a name of TABLES.
            rows: the schema's columns in any order, of types that cast to it without loss.
            key: what these rows are, for instance "renders:<digest of the shard>".

        Returns:
            True when this call appended, False when the key was there already.

        Raises:
            BadInput: an unknown table, or rows that do not fit its schema.
            LakeBusy: lost every race for a commit.
        """
        fitted = _fit(table, rows)
        self._storage.require_room(fitted.nbytes + _COMMIT_BYTES)
        for _ in _attempts(table):
            delta = self.delta_table(table)
            if delta.transaction_version(key) is not None:
                return False
            if self.commit(delta, fitted, app=key, version=1):
                return True
        raise AssertionError  # _attempts ends by raising

    def read(self, table: str, *, columns: Sequence[str] | None = None,
             where: Mapping[str, str | int | Sequence[str] | range] | None = None) -> pa.Table:
        """Rows of a table that meet `where`; filters are pushed down to the files.

        Args:
            where: column -> the value it equals, strings it is one of, or a range (step 1) it lies in.

        Returns:
            A table with exactly the schema's types (empty when nothing was ever written), in no
            particular order.

        Raises:
            BadInput: an unknown table or column. OSError: the store cannot be reached or refuses.
        """
        schema = _schema(table)
        for column in [*(columns or []), *(where or {})]:
            if column not in schema.names:
                raise BadInput(f"column of {table}", column, "one of " + ", ".join(schema.names))
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        condition = None
        for column, value in (where or {}).items():
            one = _condition(pds.field(column), value, schema.field(column).type)
            condition = one if condition is None else condition & one
        return self.dataset(table).to_table(columns=wanted.names, filter=condition).cast(wanted)

    def dataset(self, table: str) -> pds.Dataset:
        """The table's newest snapshot as an Arrow dataset, to be streamed or queried in place."""
        schema = _schema(table)
        try:
            delta = DeltaTable(self._table_uri(table), storage_options=self._options())
        except TableNotFoundError:
            return pds.dataset(schema.empty_table())
        return self.snapshot(table, delta)

    def snapshot(self, table: str, delta: DeltaTable) -> pds.Dataset:
        """The rows of the version `delta` holds of a table.

        Raises:
            BadInput: the table was written by another version of this software, with other columns.
        """
        there = {field.name for field in delta.schema().fields}
        if missing := [name for name in _schema(table).names if name not in there]:
            raise BadInput(f"lake {self.uri}: table {table}", f"no column {missing[0]}",
                           "a lake of this version of cars; build into another place")
        return delta.to_pyarrow_dataset(filesystem=self._storage.arrow(f"tables/{table}"))

    def delta_table(self, table: str) -> DeltaTable:
        """The Delta table at its newest version, created when it is not there.

        Raises:
            BadInput: an unknown table, or a lake that cannot be written.
        """
        schema, uri, options = _schema(table), self._table_uri(table), self._options()
        try:
            return DeltaTable(uri, storage_options=options)
        except TableNotFoundError:
            pass
        try:
            return DeltaTable.create(uri, schema=schema, mode="error", storage_options=options)
        except (DeltaError, OSError):
            pass
        try:
            return DeltaTable(uri, storage_options=options)  # somebody else created it first
        except TableNotFoundError:
            self.ensure_writable()  # says what is wrong with the place, when the place is what is wrong
            raise

    def commit(self, delta: DeltaTable, rows: pa.Table, *, app: str, version: int) -> bool:
        """Append rows on top of the snapshot `delta` holds, as application transaction (app, version).

        Returns:
            False when another writer committed the same `app` since that snapshot, or kept
            winning the log's next number: open the table again and decide anew.
        """
        try:
            write_deltalake(delta, rows, mode="append", commit_properties=CommitProperties(
                app_transactions=[Transaction(app_id=app, version=version)]))
        except CommitFailedError:
            return False
        return True

    def retrying(self, table: str) -> Iterator[None]:
        """Turns at an optimistic commit, with growing random pauses. Raises LakeBusy at the end."""
        return _attempts(table)

    def publish(self, *, subset: str, build: str, cohort: str, rows: pa.Table, planned: int, rejected: int,
                recipe: dict[str, Any], code: str, created: datetime,
                before_commit: Callable[[], None] | None = None) -> Published:
        """Publish accepted samples as the subset's next version: `cars_core.lake.subsets.publish`."""
        return publish(self, subset=subset, build=build, cohort=cohort, rows=rows, planned=planned,
                       rejected=rejected, recipe=recipe, code=code, created=created, before_commit=before_commit)

    def _table_uri(self, table: str) -> str:
        return self._storage.uri(f"tables/{table}")

    def _options(self) -> dict[str, str] | None:
        return self._storage.options or None


def _one_line(error: Exception) -> str:
    """An error's words without delta-rs' colours and line ends."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:300]


def _condition(field: Any, value: str | int | Sequence[str] | range, kind: pa.DataType) -> Any:
    if isinstance(value, range):
        return (field >= value.start) & (field < value.stop)
    if isinstance(value, str | int):
        return field == pa.scalar(value, kind)
    return field.isin(pa.array(value, kind))


def _schema(table: str) -> pa.Schema:
    try:
        return TABLES[table]
    except KeyError:
        raise BadInput("table", table, "one of " + ", ".join(TABLES)) from None


def _fit(table: str, rows: pa.Table) -> pa.Table:
    """Rows with exactly the table's schema."""
    schema = _schema(table)
    missing = [n for n in schema.names if n not in rows.column_names]
    extra = [n for n in rows.column_names if n not in schema.names]
    if missing or extra or len(set(rows.column_names)) < rows.num_columns:
        found = "without " + ", ".join(missing) if missing else "with " + ", ".join(extra or rows.column_names)
        raise BadInput(f"rows of {table}", found, "the columns " + ", ".join(schema.names) + ", each once")
    columns = []
    for field in schema:
        try:
            column = rows[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as e:
            raise BadInput(f"rows of {table}: {field.name}", str(rows[field.name].type), f"{field.type} ({e})") from e
        if column.null_count and not field.nullable:
            raise BadInput(f"rows of {table}: {field.name}", "null", f"{field.type}, never null")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _attempts(table: str) -> Iterator[None]:
    for turn in range(_ATTEMPTS):
        yield
        time.sleep(random.uniform(0.01, min(3.0, 0.05 * 1.3**turn)))
    raise LakeBusy(f"table {table}: {_ATTEMPTS} commits in a row lost to other writers; try again with fewer of them")
