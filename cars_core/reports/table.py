"""A table of reports becomes a table of labels: CSV in, CSV out, a row a report, in order."""

from __future__ import annotations

import csv
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from cars_core.reports.csv_rows import header, hint, long_fields, rows
from cars_core.reports.label import label_report
from cars_core.reports.labelled import Labelled
from cars_core.reports.rows import chexpert_row, concept_row, nih_row
from cars_core.vocabulary import Vocabulary, load_vocabulary
from cars_core.workers import process_pool
from schemas.errors import BadInput

EVIDENCE = "evidence"
MOST_WORKERS = 64
#: Rows that travel to a process at once, and the characters of text after which fewer do.
CHUNK_ROWS, CHUNK_CHARS = 256, 4_000_000


@dataclass
class Summary:
    """What was written. rows: reports. empty: of these, without a text. silent: with a text in which nothing was
    recognised. faults: rows whose number of fields is not the
    header's. counts: label column -> [present, absent, uncertain]."""

    rows: int = 0
    empty: int = 0
    silent: int = 0
    faults: int = 0
    counts: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    fields: list[str]
    text: str
    fault: str | None


def label_columns(vocabulary: Vocabulary) -> list[str]:
    """The columns that are added, without `evidence`: nih_*, chexpert_*, concept_*."""
    nothing = label_report("", vocabulary)
    return [f"nih_{name}" for name in nih_row(nothing, vocabulary)] + [
        f"chexpert_{name}" for name in chexpert_row(nothing, vocabulary)
    ] + [f"concept_{name}" for name in concept_row(nothing, vocabulary)]


def label_table(source: Path, target: Path, *, text_column: str = "report", workers: int = 1,
                progress: Callable[[int, int], None] = lambda done, total: None) -> Summary:
    """Read the reports of a CSV file and write them with their labels.

    The input's columns come first and as they are, then nih_*, chexpert_* and concept_* columns (1 present, 0 absent,
    -1 uncertain, empty not mentioned), then `evidence`: a JSON list of [finding, state, start, end, text, side,
    severity], places counted in characters of the report. An empty report gives empty labels and an empty list. A row
    with another number of fields than the header keeps its fields as far as there are columns, gets empty labels, and
    {"fault": ...} for evidence; it costs no other row. Rows keep their order whatever `workers` is. `target` appears
    when it is whole; what stood there before is replaced. progress: called with reports done and reports in all.

    Raises:
        BadInput: no such column of text; a column that would be there twice; a file that is not CSV in UTF-8 (it names
            the line); `target` is the source, or is in no folder; workers out of range.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise BadInput("workers", workers, f"1 to {MOST_WORKERS}")
    vocabulary = load_vocabulary()
    columns = header(source)
    if text_column not in columns:
        raise BadInput(f"{source}: column of reports", text_column, hint(text_column, columns))
    labels = label_columns(vocabulary)
    for name in (*labels, EVIDENCE):
        if name in columns:
            raise BadInput(f"{source}: column", name, "no column of the name of one that is added")
    if not target.parent.is_dir() or target.is_dir():
        raise BadInput("output", str(target), "a file in a folder that exists")
    if target.exists() and target.samefile(source):
        raise BadInput("output", str(target), "another file than the input")
    summary = Summary(counts={name: [0, 0, 0] for name in labels})
    with long_fields(), _whole(target) as out:
        total = sum(1 for _ in rows(source)) - 1  # and what is not CSV is told before any work
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*columns, *labels, EVIDENCE])
        for row, (cells, evidence) in _labelled(_read(source, columns, text_column), workers):
            summary.rows += 1
            summary.empty += not row.text.strip() and row.fault is None
            summary.faults += row.fault is not None
            summary.silent += evidence == "[]" and bool(row.text.strip()) and row.fault is None
            for name, cell in zip(labels, cells, strict=True):
                if cell:
                    summary.counts[name][("1", "0", "-1").index(cell)] += 1
            writer.writerow([*row.fields, *cells, evidence])
            if summary.rows % CHUNK_ROWS == 0 or summary.rows == total:
                progress(summary.rows, total)
    return summary


@contextmanager
def _whole(target: Path) -> Iterator[TextIO]:
    """A file that takes its name when it is whole, and leaves nothing behind otherwise."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8", newline="") as out:
            yield out
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _read(source: Path, columns: list[str], text_column: str) -> Iterator[_Row]:
    place = columns.index(text_column)
    for number, (line, fields) in enumerate(rows(source)):
        if number == 0:
            continue
        if len(fields) == len(columns):
            yield _Row(fields, fields[place], None)
        else:
            fault = f"line {line}: {len(fields)} fields where the header has {len(columns)}"
            fields = (fields + [""] * len(columns))[: len(columns)]
            yield _Row(fields, "", fault)


def _labelled(given: Iterator[_Row], workers: int) -> Iterator[tuple[_Row, tuple[list[str], str]]]:
    """Rows with their label cells and evidence, in order; at most a few chunks are under way at once."""
    if workers == 1:
        for chunk in _chunks(given):
            yield from zip(chunk, _label([(row.text, row.fault) for row in chunk]), strict=True)
        return
    under_way: deque[tuple[list[_Row], Future[list[tuple[list[str], str]]]]] = deque()
    with ExitStack() as stack:
        pool = stack.enter_context(process_pool(workers))
        stack.callback(lambda: pool.shutdown(cancel_futures=True))
        for chunk in _chunks(given):
            under_way.append((chunk, pool.submit(_label, [(row.text, row.fault) for row in chunk])))
            while len(under_way) > 2 * workers:
                done, future = under_way.popleft()
                yield from zip(done, future.result(), strict=True)
        while under_way:
            done, future = under_way.popleft()
            yield from zip(done, future.result(), strict=True)


def _chunks(given: Iterator[_Row]) -> Iterator[list[_Row]]:
    chunk: list[_Row] = []
    size = 0
    for row in given:
        chunk.append(row)
        size += len(row.text)
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _label(texts: Sequence[tuple[str, str | None]]) -> list[tuple[list[str], str]]:
    vocabulary = load_vocabulary()
    return [_cells(text, fault, vocabulary) for text, fault in texts]


def _cells(text: str, fault: str | None, vocabulary: Vocabulary) -> tuple[list[str], str]:
    labelled = label_report(text, vocabulary)
    values = [
        *nih_row(labelled, vocabulary).values(),
        *chexpert_row(labelled, vocabulary).values(),
        *concept_row(labelled, vocabulary).values(),
    ]
    cells = ["" if value is None else str(value) for value in values]
    said = {"fault": fault} if fault is not None else evidence_list(labelled, text)
    return cells, json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def evidence_list(labelled: Labelled, text: str) -> list[list[object]]:
    """[finding, state, start, end, text, side, severity] of each thing a report says, in its order."""
    return [[e.finding, e.state, e.start, e.end, text[e.start : e.end], e.side, e.severity] for e in labelled.evidence]
