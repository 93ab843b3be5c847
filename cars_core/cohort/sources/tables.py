"""Label files: CSV, as it comes, read as a stream of rows. A bad row is a row with a fault, never the end."""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import IO, NamedTuple

from cars_core.cohort.sources.tree import Tree
from schemas.errors import BadInput

MAX_COLUMNS = 4096
_FIELD = 1 << 20  # characters of a field: a report is far shorter; a quote that is never closed ends here


class Row(NamedTuple):
    """`line`: where it starts, the header's being 1. `values`: column -> stripped text; what is missing is "".
    `fault`: why the row cannot be trusted, without its values, or None."""

    line: int
    values: Mapping[str, str]
    fault: str | None = None


class Table:
    """A CSV file of a tree, gzip-compressed where its name ends in .gz; a byte order mark is skipped.

    Raises:
        BadInput: it is not there, has no header, more than 4,096 columns, or a column twice.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree, self.path = tree, path
        if tree.size(path) is None:
            raise BadInput("label file", path, f"a file in {tree.root}")
        first = next(self._fields(), None)
        if first is None or first[1] is None:
            raise BadInput(path, "no header", "a CSV file whose first row names the columns")
        self.columns = first[1]
        if any(not c.isprintable() or (not c.isascii() and _undecoded(c)) for c in self.columns):
            raise BadInput(path, "a header of other bytes", "UTF-8 text")
        if len(self.columns) > MAX_COLUMNS:
            raise BadInput(path, f"{len(self.columns)} columns", f"at most {MAX_COLUMNS}")
        named = [c for c in self.columns if c]
        if len(set(named)) < len(named):
            raise BadInput(path, f"column {next(c for c in named if named.count(c) > 1)!r} twice", "each column once")

    def require(self, *columns: str) -> None:
        """Raises BadInput for the first column that is not there. The others are not listed: where a header is missing,
        the first row of data stands in its place."""
        for column in columns:
            if column not in self.columns:
                near = difflib.get_close_matches(column.lower(), [c.lower() for c in self.columns], n=1, cutoff=0.75)
                hint = f" (nearest: {near[0]})" if near else ""
                raise BadInput(f"{self.path}: column {column}", "none",
                               f"it among the {len(self.columns)} columns{hint}")

    def rows(self) -> Iterator[Row]:
        """Every row below the header that is not empty."""
        columns = self.columns
        width = len(columns)
        lines = self._fields()
        next(lines)
        for line, fields in lines:
            if fields is None:
                yield Row(line, _Nothing(), "row is not CSV")
                continue
            # One empty field after the last is how NIH's first release ends its rows.
            values = dict(zip(columns, fields, strict=False))
            if len(fields) != width and (len(fields) < width or any(fields[width:])):
                yield Row(line, _Nothing(values), "row has more or fewer fields than the header")
            elif not (text := "".join(fields)).isascii() and _undecoded(text):
                yield Row(line, values, "row is not UTF-8")
            else:
                yield Row(line, values)

    def pick(self, *columns: str) -> Iterator[tuple[int, tuple[str, ...], str | None]]:
        """(line, values of some columns, fault) of every row, as `rows` has them, at half the time.

        Raises:
            BadInput: a column that is not there.
        """
        self.require(*columns)
        places = [self.columns.index(c) for c in columns]
        take, width = itemgetter(*places, places[0]), len(self.columns)  # one more, so that it is always a tuple
        lines = self._fields()
        next(lines)
        for line, fields in lines:
            if fields is None:
                yield line, ("",) * len(places), "row is not CSV"
            elif len(fields) != width and (len(fields) < width or any(fields[width:])):
                fields += [""] * (width - len(fields))
                yield line, take(fields)[:-1], "row has more or fewer fields than the header"
            elif not (text := "".join(fields)).isascii() and _undecoded(text):
                yield line, take(fields)[:-1], "row is not UTF-8"
            else:
                yield line, take(fields)[:-1], None

    def digest(self) -> str:
        """sha256 (hex) of the file as it lies."""
        h = hashlib.sha256()
        with self.tree.open(self.path) as file:
            while block := file.read(1 << 20):
                h.update(block)
        return h.hexdigest()

    def _fields(self) -> Iterator[tuple[int, list[str] | None]]:
        """(line where it starts, stripped fields, or None where it is not CSV) of each row that is not empty.

        Raises:
            BadInput: not readable, a damaged gzip file.
        """
        line = 0
        try:
            with self.tree.open(self.path) as file:
                raw: IO[bytes] = gzip.GzipFile(fileobj=file) if self.path.endswith(".gz") else file  # type: ignore[assignment]
                text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
                csv.field_size_limit(_FIELD)  # of the process: the module has no other setting
                rows = csv.reader(text)
                while True:
                    try:
                        fields = next(rows)
                    except StopIteration:
                        return
                    except csv.Error:
                        yield line + 1, None
                        line = rows.line_num
                        continue
                    stripped = list(map(str.strip, fields))
                    if any(stripped):
                        yield line + 1, stripped
                    line = rows.line_num
        except (OSError, EOFError, zlib.error):
            raise BadInput("label file", self.path, "a readable CSV, gzip-compressed if its name ends in .gz") from None


def _undecoded(text: str) -> bool:
    """Whether bytes that are not UTF-8 stand in for characters (Python's surrogateescape)."""
    return any("\udc80" <= c <= "\udcff" for c in text)


class _Nothing(dict[str, str]):
    """Values of a row of another width: columns it does not reach are empty."""

    def __missing__(self, key: str) -> str:
        return ""

