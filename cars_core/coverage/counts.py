"""How many films hold each combination of findings, in each cell of attribute values. Exact, from grouped films.

Two routes to such numbers. `showing` is SQL: every distinct set of findings gives out its own small subsets, so the
cost follows what films show, not what could be asked; a combination that no subset is, no film shows. `matching` weighs
every combination against every distinct vector by products of matrices: for findings that must be absent, and for what
hardly any vector leaves out, such as "not stated absent", where subsets would be legion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.group import Grouped
from schemas.errors import BadInput

Ints = NDArray[np.int64]

MAX_ROWS = 4_000_000
"""Combinations times cells of one table; about a gigabyte."""

_CHUNK = 32_768  # vectors weighed at a time, 8 bytes per finding and value each

# A film holds a combination when its set holds it, whatever else it holds; so each set is taken apart into its
# combinations, findings added in the order of their bits so that each comes up once.
_SHOWING = """
WITH RECURSIVE
    sets AS (SELECT findings, place, sum(films)::BIGINT AS films FROM vectors GROUP BY ALL),
    parts AS (
        SELECT DISTINCT findings, 0::BIGINT AS gap, 0 AS size FROM sets
        UNION ALL
        SELECT p.findings, p.gap | b.bit, p.size + 1
        FROM parts p JOIN bits b ON p.findings & b.bit = b.bit AND b.bit > p.gap
        WHERE p.size < $order)
SELECT gap, place, sum(films)::BIGINT AS films
FROM parts JOIN sets USING (findings) WHERE size > 0 GROUP BY gap, place
"""


@dataclass(frozen=True, eq=False)
class Patterns:
    """Combinations of findings, each present or (in full patterns) absent, sorted by size, `gap`, `without`.

    Attributes:
        gap, without: int64 [P], masks of the findings that must be present and that must not.
        order: int32 [P], findings in each.
        bits: int64 [F], the findings' bits as masks, ascending.
        values: 1 for positive-only patterns, 2 for full ones.
        items: for each size 1, 2, ...: int64 [P of that size, size], what a pattern asks for, ascending. Item
            `values * i` is finding i present, `values * i + 1` finding i absent.
        runs: for each size 2, 3, ...: its patterns by all their items but the last two, as (these items, indices).
    """

    gap: Ints
    without: Ints
    order: NDArray[np.int32]
    bits: Ints
    values: int
    items: tuple[Ints, ...]
    runs: tuple[list[tuple[Ints, Ints]], ...]


def list_patterns(findings: int, *, order: int, full: bool) -> Patterns:
    """Every combination of 1 to `order` findings of the mask `findings`; with `full` in both values of each."""
    bits = np.array([1 << b for b in range(63) if findings >> b & 1], np.int64)
    values = 2 if full else 1
    items, gaps, withouts = [], [], []
    for size in range(1, min(order, len(bits)) + 1):
        chosen = np.array(list(combinations(range(len(bits)), size)), np.int64)
        value = np.array(list(product(range(values), repeat=size)), np.int64)
        item = (chosen[:, None] * values + value).reshape(-1, size)
        masks = bits[item // values]
        gap = np.where(item % values == 0, masks, 0).sum(axis=1)
        without = masks.sum(axis=1) - gap
        place = np.lexsort((without, gap))
        items.append(item[place])
        gaps.append(gap[place])
        withouts.append(without[place])
    sizes = np.repeat(np.arange(1, len(items) + 1, dtype=np.int32), [len(i) for i in items])
    return Patterns(np.concatenate(gaps), np.concatenate(withouts), sizes, bits, values, tuple(items),
                    tuple(_runs(i) for i in items[1:]))


def _runs(items: Ints) -> list[tuple[Ints, Ints]]:
    order = np.lexsort(items.T[::-1])
    first = items[order, :-2]
    starts = np.flatnonzero((np.diff(first, axis=0) != 0).any(axis=1)) + 1
    return [(items[run[0], :-2], run) for run in np.split(order, starts)]


def count_patterns(findings: int, *, order: int, full: bool) -> int:
    """How many patterns `list_patterns` lists, without listing them."""
    total, ways = 0, 1
    for size in range(1, min(order, findings.bit_count()) + 1):
        ways = ways * (findings.bit_count() - size + 1) // size
        total += ways << size if full else ways
    return total


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of grouped films in which at least one film lies, in the order of `Grouped.cells()`.

    Attributes:
        names: of each cell; the first is "", all films.
        films: int64 [C], films in each.
        place: int64 [V], which combination of values of all attributes each grouped row has.
        inside: bool [C, places], whether a cell holds the films of a place.
    """

    names: tuple[str, ...]
    films: Ints
    place: Ints
    inside: NDArray[np.bool_]


def find_cells(grouped: Grouped) -> Cells:
    """The cells of grouped films."""
    codes, place = np.unique(grouped.codes, axis=0, return_inverse=True)
    place = place.reshape(-1)
    films = np.zeros(len(codes), np.int64)
    np.add.at(films, place, grouped.films)
    nothing = np.zeros(len(codes), np.int64)
    places = Grouped(nothing, nothing, nothing, films, grouped.by, codes, grouped.levels)
    held = [(name, inside) for name, inside in places.cells() if inside.any()]
    inside = np.stack([rows for _, rows in held])
    return Cells(tuple(name for name, _ in held), inside @ films, place, inside)


def refuse_too_many(patterns: int, cells: int) -> None:
    """Raise BadInput where a table of so many patterns in so many cells would not fit in memory."""
    if patterns * cells > MAX_ROWS:
        raise BadInput("gaps", f"{patterns:,} combinations in {cells:,} cells",
                       f"at most {MAX_ROWS:,} rows: a lower order, fewer findings or fewer attributes")


def showing(sets: Ints, grouped: Grouped, *, cells: Cells, patterns: Patterns) -> Ints:
    """Films whose set holds all findings of each positive-only pattern, int64 [C, P].

    Args:
        sets: int64 [V], masks: the set of each row of `grouped`.
        grouped, cells: the films.
        patterns: positive-only.
    """
    with duckdb.connect() as con:
        con.register("vectors", pa.table({"findings": sets, "place": cells.place, "films": grouped.films}))
        con.register("bits", pa.table({"bit": patterns.bits}))
        found = con.sql(_SHOWING, params={"order": int(patterns.order[-1])}).to_arrow_table()
    ascending = np.argsort(patterns.gap)
    pattern = ascending[np.searchsorted(patterns.gap, found["gap"].to_numpy(), sorter=ascending)]
    shown = np.zeros((cells.inside.shape[1], len(patterns.gap)), np.int64)
    shown[found["place"].to_numpy(), pattern] = found["films"].to_numpy()
    out = np.zeros((len(cells.names), len(patterns.gap)), np.int64)
    for place, films in enumerate(shown):
        out[cells.inside[:, place]] += films
    return out


def matching(present: Ints, absent: Ints, grouped: Grouped, *, cells: Cells, patterns: Patterns) -> Ints:
    """Films that count as present for all of a pattern's `gap` and as absent for all of its `without`, int64 [C, P].

    Args:
        present, absent: int64 [V], masks: the findings that each row of `grouped` counts as present, and as absent.
            They may overlap.
        grouped, cells: the films.
        patterns: positive-only or full.
    """
    out = np.zeros((len(cells.names), len(patterns.gap)), np.int64)
    both = np.stack([present, absent][:patterns.values], axis=1)
    for place, rows in _chunks(cells.place):
        held = (both[rows, None, :] & patterns.bits[:, None]) != 0
        out[cells.inside[:, place]] += _weigh(held.reshape(len(rows), -1).astype(float), grouped.films[rows], patterns)
    return out


def _chunks(place: Ints) -> Iterator[tuple[int, Ints]]:
    """(place, rows of it) in pieces of at most _CHUNK rows."""
    order = np.argsort(place, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        for start in range(0, len(rows), _CHUNK):
            yield int(place[rows[0]]), rows[start:start + _CHUNK]


def _weigh(held: NDArray[np.float64], films: Ints, patterns: Patterns) -> Ints:
    """Films by pattern, int64 [P]. held: 0 or 1 [rows, items].

    A product of the items' columns, weighted by films, counts all pairs at once; within the films that have a first
    item, all triples with it, and so on. Whole numbers below 2^53 are exact in floating point in any order of adding.
    """
    out = [films @ held[:, patterns.items[0][:, 0]]]
    for items, runs in zip(patterns.items[1:], patterns.runs, strict=True):
        found = np.zeros(len(items))
        for first, run in runs:
            later = (first[-1] // patterns.values + 1) * patterns.values if len(first) else 0
            rows = held[:, first].all(axis=1)
            part = held[rows, later:]
            pairs = part.T @ (part * films[rows, None])
            found[run] = pairs[items[run, -2] - later, items[run, -1] - later]
        out.append(found)
    return np.concatenate(out).astype(np.int64)
