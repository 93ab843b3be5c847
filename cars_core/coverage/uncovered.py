"""Maximal uncovered patterns: the most general statements about films that too few films match.

Asudeh, Jin, Jagadish, "Assessing and Remedying Coverage for a Given Dataset", ICDE 2019. A pattern gives some findings
the value present or absent and some attributes a value; its level is the number of these values. It is uncovered when
fewer than `threshold` films match it, and maximal when every pattern with one value fewer is covered. Found exactly,
level by level: within each cell (a choice of attribute values) all tables of findings are counted at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import comb

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.group import Grouped, cell_name
from cars_core.coverage.plausible import Plausibility, impossible
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import Uncertain
from schemas.tables import UNCOVERED

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOST_COUNTS = 1 << 24
"""Counts held at a time, 128 MB: the largest table of one cell. 48 findings fit at level 4, 14 at any."""

#: (place of the attribute, place of its value), by attribute.
Cell = tuple[tuple[int, int], ...]


def uncovered(grouped: Grouped, *, findings: Sequence[str], threshold: int, level: int, uncertain: Uncertain,
              vocabulary: Vocabulary, plausible: Plausibility | None = None) -> pa.Table:
    """All maximal uncovered patterns of at most `level` values.

    Args:
        grouped: the films; their attributes are part of the patterns. An attribute value that no film has is none.
        findings: the findings that patterns may name; a finding that is not mentioned counts as absent.
        threshold: the number of films from which on a pattern is covered.
        level: the most values in a pattern.
        uncertain: how an uncertain finding counts; under `ignore` such a film matches neither value of it.
        vocabulary: names and implications.
        plausible: says what may exist; without it the vocabulary alone does.

    Returns:
        Schema UNCOVERED, sorted by level, observed, gap, without, cell. `findings`: in vocabulary order, one
        that is absent as "no edema". `possible` is false, with the `reason`, for a pattern that cannot exist or is not
        plausible: that is no fault of the films. When fewer films than `threshold` are there at all, the empty pattern,
        level 0, is the only one.

    Raises:
        BadInput: a finding the vocabulary lacks, a threshold or level below 1, a level at which there are too many
            patterns to count (MOST_COUNTS).
    """
    if threshold < 1:
        raise BadInput("threshold", threshold, "a number of films from 1 on")
    bits = [f.bit for f in vocabulary.findings if f.bit in {vocabulary[n].bit for n in findings}]
    positive, open_ = grouped.positive(uncertain), grouped.open(uncertain)
    values = 3 if np.any(open_ & sum(1 << b for b in bits)) else 2
    if level < 1:
        raise BadInput("level", level, "a number of values from 1 on")
    if not _fits(len(bits), level, values):
        most = max(k for k in range(level) if _fits(len(bits), k, values))
        raise BadInput("level", level, f"at most {most} with {len(bits)} findings: there would be too many patterns")
    vectors = _Vectors.of(positive, open_, bits, values=values)
    tables = _Tables(len(bits), level, values)
    covered: dict[Cell, list[Flags]] = {}
    found: list[tuple[int, str, Ints, Ints, Ints]] = []
    for cell, rows in _cells(grouped, threshold, level):
        parents = [covered[cell[:i] + cell[i + 1:]] for i in range(len(cell))]
        x, weights = vectors.among(grouped.films, rows)
        counts = tables.counts(x, weights, level - len(cell) if weights.sum() >= threshold else 0)
        covered[cell] = [c >= threshold for c in counts]
        name = cell_name([(grouped.by[a], grouped.levels[a][v]) for a, v in cell])
        for size, here in enumerate(counts):
            general = tables.general(covered[cell], size)
            for above in parents:
                general &= above[size]
            which = np.nonzero(general & ~covered[cell][size])
            if len(which[0]):
                gap, without = tables.masks(size, which, bits)
                found.append((size + len(cell), name, gap, without, here[which]))
    return _table(found, vocabulary, plausible)


def _fits(findings: int, level: int, values: int) -> bool:
    return all(comb(findings, k) * values**k <= MOST_COUNTS for k in range(min(level, findings) + 1))


def _cells(grouped: Grouped, threshold: int, level: int) -> Iterator[tuple[Cell, Ints]]:
    """Cells of at most `level` values whose parents are covered, with the rows in them; fewer values first.

    Covered ones are extended; an uncovered one is maximal itself, and nothing in it is.
    """
    levels = [np.unique(grouped.codes[:, a]).tolist() for a in range(len(grouped.by))]
    rows: dict[Cell, Ints] = {(): np.arange(len(grouped.films))}
    while rows:
        yield from rows.items()
        rows = {cell: r for cell, r in rows.items() if grouped.films[r].sum() >= threshold and len(cell) < level}
        found: dict[Cell, Ints] = {}
        for cell, inside in rows.items():
            for a in range(cell[-1][0] + 1 if cell else 0, len(grouped.by)):
                code = grouped.codes[inside, a]
                for v in levels[a]:
                    wider = (*cell, (a, v))
                    if all(wider[:i] + wider[i + 1:] in rows for i in range(len(cell))):
                        found[wider] = inside[code == v]
        rows = found


@dataclass(frozen=True, eq=False)
class _Vectors:
    """The distinct finding vectors of all rows.

    kept: bool [D, n * (values - 1)]; columns of finding i: it is present, and with three values whether it is left
    open. That it is absent is what remains. place: int64 [V], each row's vector.
    """

    kept: Flags
    place: Ints

    @classmethod
    def of(cls, positive: Ints, open_: Ints, bits: Sequence[int], *, values: int) -> _Vectors:
        masks = (positive, open_)[:values - 1]
        columns = [m >> b & 1 == 1 for b in bits for m in masks]
        wide = np.stack(columns, axis=1) if columns else np.zeros((len(positive), 0), bool)
        kept, place = np.unique(wide, axis=0, return_inverse=True)
        return cls(kept, place.reshape(-1))

    def among(self, films: Ints, rows: Ints) -> tuple[Floats, Floats]:
        """The distinct vectors of these rows as 0 and 1, [D', columns], and the films of each, [D']; whole numbers."""
        here, place = np.unique(self.place[rows], return_inverse=True)
        return (self.kept[here].astype(np.float64),
                np.bincount(place.reshape(-1), weights=films[rows], minlength=len(here)).astype(np.float64))


class _Tables:
    """How many films show each choice of k findings and their values, for every k.

    The table of size k is [2**k, C(n, k)]: choices in the order of their highest finding, then the next (as `_rank`);
    bit t of the row says that the choice's t-th finding is absent. Counts are exact: sums of whole numbers in float64
    are up to 2**53 films.
    """

    def __init__(self, n: int, level: int, values: int) -> None:
        self._base = values
        self._choices = [_choices(n, k) for k in range(min(level, n) + 1)]
        # parents[k][t]: place of each choice without its t-th finding, in the table one size smaller.
        self._parents = [[_rank(np.delete(c, t, axis=1)) for t in range(k)] for k, c in enumerate(self._choices)]

    def counts(self, x: Floats, w: Floats, level: int) -> list[Ints]:
        """Tables of size 0 to `level` (or all findings), int64, of vectors x [D, columns of _Vectors] with w films."""
        out: list[Ints] = []
        smaller = here = np.zeros((1, 1))
        for k, choices in enumerate(self._choices[:level + 1]):
            # Rows of `here`: the digits of the row say present (0), absent (1) or left open (2) for each finding.
            smaller, here = here, np.empty((self._base**k, len(choices)))
            kept = _joint(x, w, k)
            for row in sorted(range(len(here)), key=lambda r: _digits(r, self._base, k).count(1)):
                digits = _digits(row, self._base, k)
                if 1 in digits:  # those whatever the finding, less those where it is not absent
                    t = digits.index(1)
                    unit = self._base**t
                    here[row] = smaller[_squeezed(row, self._base, t)][self._parents[k][t]]
                    for value in range(0, self._base, 2):
                        here[row] -= here[row + (value - 1) * unit]
                else:
                    here[row] = kept[_rank(choices * (self._base - 1) + np.array(digits, np.int64) // 2)]
            two = [sum((r >> t & 1) * self._base**t for t in range(k)) for r in range(2**k)]
            out.append(here[two].astype(np.int64))
        return out

    def general(self, covered: list[Flags], size: int) -> Flags:
        """Whether all patterns with one finding fewer are covered, bool [2**size, C(n, size)]."""
        out = np.ones((2**size, len(self._choices[size])), bool)
        for row in range(2**size):
            for t, parents in enumerate(self._parents[size]):
                out[row] &= covered[size - 1][_squeezed(row, 2, t)][parents]
        return out

    def masks(self, size: int, which: tuple[NDArray[np.intp], ...], bits: Sequence[int]) -> tuple[Ints, Ints]:
        """Findings that are present and that are absent in these places of a table, as masks int64."""
        row, choice = which
        marks = (np.int64(1) << np.array(bits, np.int64))[self._choices[size][choice]]
        absent = (row[:, None] >> np.arange(size) & 1) == 1
        return (np.where(absent, 0, marks).sum(axis=1, dtype=np.int64),
                np.where(absent, marks, 0).sum(axis=1, dtype=np.int64))


def _digits(number: int, base: int, size: int) -> list[int]:
    return [number // base**t % base for t in range(size)]


def _squeezed(number: int, base: int, t: int) -> int:
    """The number without its digit t."""
    unit = base**t
    return number % unit + number // (unit * base) * unit


def _choices(n: int, k: int) -> Ints:
    """Every choice of k of n, int64 [C(n, k), k], members ascending, in the order of the highest member first."""
    flat = np.fromiter(chain.from_iterable(combinations(range(n), k)), np.int64, count=k * comb(n, k))
    return n - 1 - flat.reshape(comb(n, k), k)[::-1, ::-1]


def _rank(choices: Ints) -> Ints:
    """Place of each ascending choice [R, k] among all of that size, in the order of the highest member first."""
    out = np.zeros(len(choices), np.int64)
    for t in range(choices.shape[1]):
        column = choices[:, t]
        out += np.array([comb(m, t + 1) for m in range(int(column.max(initial=0)) + 1)], np.int64)[column]
    return out


def _joint(x: Floats, w: Floats, k: int) -> Floats:
    """Weight of the rows in which k columns are all 1, for every choice of k columns, in the order of `_rank`.

    x: [D, m] of 0 and 1; w: [D]. Few findings are on one film, so rows get few quickly.
    """
    if k == 0:
        return np.array([w.sum()])
    if k == 1:
        return w @ x
    if k == 2:
        return ((x * w[:, None]).T @ x)[np.tril_indices(x.shape[1], -1)]
    parts = [np.zeros(0)]
    for j in range(k - 1, x.shape[1]):
        rows = x[:, j] == 1
        parts.append(_joint(x[rows, :j], w[rows], k - 1))
    return np.concatenate(parts)


def _table(parts: list[tuple[int, str, Ints, Ints, Ints]], vocabulary: Vocabulary,
           plausible: Plausibility | None) -> pa.Table:
    """Parts: level, cell, and arrays of gap, without, observed."""
    sizes = np.array([len(gap) for _, _, gap, _, _ in parts], np.int64)
    none = [np.zeros(0, np.int64)]
    found = pa.table({
        "level": pa.array(np.repeat(np.array([level for level, *_ in parts], np.int32), sizes)),
        "cell": pa.array([cell for _, cell, *_ in parts], pa.string()).take(
            pa.array(np.repeat(np.arange(len(parts)), sizes))),
        **{name: pa.array(np.concatenate(none + [part[i] for part in parts]))
           for name, i in (("gap", 2), ("without", 3), ("observed", 4))},
    }).sort_by([(n, "ascending") for n in ("level", "observed", "gap", "without", "cell")])
    pairs = list(zip(found["gap"].to_pylist(), found["without"].to_pylist(), strict=True))
    reasons = {pair: _reason(*pair, vocabulary, plausible) for pair in dict.fromkeys(pairs)}
    names = {(gap, without): [f"no {n}" if vocabulary.mask([n]) & without else n
                              for n in vocabulary.unpack(gap | without)] for gap, without in reasons}
    columns = {**{n: found[n] for n in found.column_names},
               "findings": pa.array([names[p] for p in pairs], pa.list_(pa.string())),
               "possible": pa.array([reasons[p] is None for p in pairs], pa.bool_()),
               "reason": pa.array([reasons[p] for p in pairs], pa.string())}
    return pa.table(columns).select(UNCOVERED.names).cast(UNCOVERED)


def _reason(gap: int, without: int, vocabulary: Vocabulary, plausible: Plausibility | None) -> str | None:
    """Why the pattern cannot be. Films may contradict the vocabulary (a mass, and no lung lesion), and then a mass with
    a lung lesion can be too rare where a mass is not; that is a possible pattern, the same as a mass alone."""
    gap &= ~vocabulary.ancestors(gap)
    without &= ~vocabulary.descendants(without)
    return impossible(gap, without, vocabulary=vocabulary) if plausible is None else plausible.why_not(gap, without)
