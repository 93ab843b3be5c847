"""Labels of another labeller (CheXbert, a language model) in the place of this one's: CSV columns into vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from cars_core.reports.csv_rows import header, hint, long_fields, rows
from cars_core.reports.meaning import columns_meaning
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

_LENGTH = "another number of fields than the first row of the external labels"
_TWICE = "more than one row of the external labels"


def iter_labels(path: Path, *, key_column: str, vocabulary: Vocabulary, passed_over: Collection[str] = (),
                faults: dict[str, str] | None = None) -> Iterator[tuple[str, Vector]]:
    """(key, vector) of each row, in order.

    Columns are CheXpert's labels, with or without `chexpert_` before them, `nih_*` and `concept_*`; values are 1, 0,
    -1 (with or without .0) or empty. `evidence`, columns named in `passed_over` and concepts that have no bit are not
    read; neither is any other column where the file has columns with these prefixes, or at least `MOST` CheXpert
    labels. So the output of `reports.table.label_table` is read as it is, and gives what the report states for the
    findings that have columns. How a finding with several columns is read: `meaning.Meaning`. Vectors are closed
    upwards.

    Args:
        faults: takes key -> reason for rows that cannot be read, and for keys that have several rows, whose first
            vector may have been given by then; a row without a key goes under "". Reasons name the column, never a
            value or a key. None raises instead.

    Raises:
        BadInput: not CSV in UTF-8, no key column, no label column, a column that is none of these, a label twice;
            without `faults` also, in a row: another number of fields, another value, an empty key, a key that was
            there before. It names line and column, never a value: values may be names.
    """
    columns = header(path)
    if key_column not in columns:
        raise BadInput(f"{path}: key column", key_column, hint(key_column, columns))
    meaning = columns_meaning(path, columns, {key_column, "evidence", *passed_over}, vocabulary)
    place = columns.index(key_column)
    first: dict[str, int] = {}
    with long_fields():
        for number, (line, fields) in enumerate(rows(path)):
            if number == 0:
                continue
            where = f"{path}: line {line}"
            key = fields[place].strip() if place < len(fields) else ""
            fault = None
            if len(fields) != len(columns):
                fault = (where, f"{len(fields)} fields", f"{len(columns)}, as many as columns", _LENGTH)
            elif not key:
                fault = (where, f"an empty {key_column}", "a key in every row", f"no {key_column}")
            elif key in first:  # the key itself may name a patient
                fault = (where, f"the {key_column} of line {first[key]} again", "each key once", _TWICE)
            elif column := meaning.unreadable(fields):
                fault = (f"{where}, column {column}", "another value", "1, 0, -1 or empty",
                         f"external labels: another value than 1, 0, -1 or empty in column {column}")
            if key:
                first.setdefault(key, line)
            if fault is None:
                yield key, meaning.vector(fields)
            elif faults is None:
                raise BadInput(*fault[:3])
            else:
                faults[key] = fault[3]


def read_labels(path: Path, *, key_column: str, vocabulary: Vocabulary, passed_over: Collection[str] = (),
                faults: dict[str, str] | None = None) -> dict[str, Vector]:
    """Key -> vector of a whole file; see `iter_labels`. Keys that `faults` takes are left out."""
    found = dict(iter_labels(path, key_column=key_column, vocabulary=vocabulary, passed_over=passed_over,
                             faults=faults))
    return {key: vector for key, vector in found.items() if key not in faults} if faults else found
