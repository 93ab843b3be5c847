"""The rows of a CSV file as they stand in it: reports of any length, faults told by line."""

from __future__ import annotations

import codecs
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path

from schemas.errors import BadInput

# Follows the last line. A quote that is never closed swallows it, and is found out; no text has this non-character.
_END = "\U0010ffff"
#: Names that may be told in a message, and how near one must be (0 to 1): a file without names of columns has its first
#: patient in their place.
_PLAIN = re.compile(r"[A-Za-z_ ]{1,40}")
_NEAR = 0.85


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row, the header first; lines count from 1, the first line of a row counts. Blank lines are
    passed over. A field is not stripped and may hold line ends; how long it may be is up to `long_fields`.

    Raises:
        BadInput: not a file that can be read, not UTF-8 (a byte order mark is accepted), a NUL byte, a field longer
            than allowed, a quote that is never closed; it names the line.
    """
    reader = csv.reader(_lines(path))
    line = 1
    try:
        for fields in reader:
            if fields and fields[-1].endswith(_END):
                if fields == [_END]:
                    return
                raise BadInput(f"{path}: line {line}", "a quote that is never closed", "every quoted field closed")
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as e:
        raise BadInput(f"{path}: line {reader.line_num}", str(e), "a row of CSV") from e
    except OSError as e:
        raise BadInput(str(path), e.strerror or type(e).__name__, "a CSV file that can be read") from e


def header(path: Path) -> list[str]:
    """The columns of a file.

    Raises:
        BadInput: as `rows`; an empty file; a column twice.
    """
    with long_fields():
        columns = next((fields for _, fields in rows(path)), None)
    if columns is None:
        raise BadInput(str(path), "an empty file", "a CSV file whose first row names the columns")
    if len(set(columns)) < len(columns):
        one = next(i for i, c in enumerate(columns) if columns.count(c) > 1)
        other = columns.index(columns[one], one + 1)
        raise BadInput(str(path), f"columns {one + 1} and {other + 1} of one name", "each column once")
    return columns


def near(wanted: str, columns: Sequence[str]) -> str | None:
    """The column nearest by name to one that was wanted, if near enough and plain: letters, underscores, spaces."""
    best, out = _NEAR, None
    for name in columns:
        if _PLAIN.fullmatch(name):
            pair = SequenceMatcher(None, wanted.casefold(), name.casefold())
            if pair.real_quick_ratio() >= best and pair.quick_ratio() >= best and (share := pair.ratio()) >= best:
                best, out = share, name
    return out


def hint(wanted: str, columns: Sequence[str]) -> str:
    """What was expected where a column is not there, without the names that are, but for one that is near."""
    close = near(wanted, columns)
    meant = "" if close is None else f"; is it {close}?"
    return f"a column of that name among the {len(columns)} of the first row{meant}"


@contextmanager
def long_fields() -> Iterator[None]:
    """Allow fields of any length while this lasts; the csv module has one limit for a whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(path: Path) -> Iterator[str]:
    with open(path, "rb") as f:
        for number, raw in enumerate(f, start=1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if b"\0" in raw:
                raise BadInput(f"{path}: line {number}", "a NUL byte", "text in UTF-8")
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError as e:
                found = f"byte 0x{raw[e.start]:02X} at place {e.start + 1}"
                raise BadInput(f"{path}: line {number}", found, "text in UTF-8") from e
        yield _END
