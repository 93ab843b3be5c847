"""What a plan has to fill, and which of it an edit fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.group import cell_values
from cars_core.coverage.planning.films import Vectors
from cars_core.coverage.planning.ragged import Ragged, grouped, offsets
from cars_core.digest import seed_from
from cars_core.vocabulary import Vocabulary

Ints = NDArray[np.int64]

_CELLS = 20_000_000  # entries of a table of states times patterns held at a time


class Wanted:
    """The gaps of a plan, ranked: the largest deficit first, then more findings, then by masks and cell.

    An edited film counts for a gap when it shows the gap's pattern, its source did not, and the source lies in the
    gap's cell. An edited copy of a film that shows the combination already is no new case of it.

    Attributes:
        rows: the gaps' rows, ranked.
        gap, without: int64 [G], masks.
        cell: names.
        lacks: int64 [G], films short; 0 for a gap that is not fillable.
    """

    def __init__(self, gaps: pa.Table) -> None:
        rows = gaps.to_pylist()
        self.place = sorted(range(len(rows)), key=lambda i: (
            -rows[i]["deficit"], -rows[i]["order"], rows[i]["gap"], rows[i]["without"], rows[i]["cell"]))
        self.rows = [rows[i] for i in self.place]
        self.gap = np.array([r["gap"] for r in self.rows], np.int64)
        self.without = np.array([r["without"] for r in self.rows], np.int64)
        self.cell: list[str] = [r["cell"] for r in self.rows]
        self.lacks = np.array([r["deficit"] if r["fillable"] else 0 for r in self.rows], np.int64)
        wanted = np.flatnonzero(self.lacks > 0)
        both, pattern = np.unique(np.stack([self.gap[wanted], self.without[wanted]], axis=1), axis=0,
                                  return_inverse=True)
        self._gap, self._without = both[:, 0], both[:, 1]
        self._rows_of = grouped(pattern.reshape(-1).astype(np.int64), wanted.astype(np.int64), len(both))
        self._cells = sorted(set(self.cell))
        number = {name: i for i, name in enumerate(self._cells)}
        self._cell = np.array([number[c] for c in self.cell], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def by(self) -> list[str]:
        """Attributes that cells name, sorted."""
        return sorted({a for c in self._cells for a in cell_values(c)})

    @property
    def findings(self) -> int:
        """Mask of all findings that some short gap asks to be present."""
        return int(np.bitwise_or.reduce(self._gap, initial=0))

    @property
    def unwanted(self) -> int:
        """Mask of all findings that some short gap asks not to be there."""
        return int(np.bitwise_or.reduce(self._without, initial=0))

    @property
    def patterns(self) -> list[tuple[int, int, int]]:
        """(gap, without, the largest deficit of it in any cell) of each pattern some films are wanted of."""
        return [(int(g), int(w), int(self.lacks[self._rows_of[i]].max()))
                for i, (g, w) in enumerate(zip(self._gap, self._without, strict=True))]

    def weights(self, seed: int) -> NDArray[np.uint64]:
        """A random number for each gap, uint64 [G], that hangs on nothing but the seed and the gap itself."""
        return np.array([seed_from(seed, r["gap"], r["without"], r["cell"]) for r in self.rows], np.uint64)

    def shown(self, before: Vectors, after: Vectors) -> Ragged:
        """Patterns that films newly show, by number, for each of E edits from the vectors `before` to `after`."""
        states, number = np.unique(np.stack([after.positive, after.block], axis=1), axis=0, return_inverse=True)
        matched = self._matched(states[:, 0], states[:, 1]).take(number.reshape(-1).astype(np.int64))
        edit, pattern = matched.owner, matched.values
        lacked = self._gap[pattern] & ~before.positive[edit] | self._without[pattern] & before.block[edit]
        return matched.keep(lacked != 0)

    def rows_in(self, patterns: Ragged, inside: NDArray[np.bool_]) -> Ragged:
        """Lists of patterns -> lists of gaps, sorted, of those whose cell holds the film.

        Args:
            patterns: one list for each of E edits.
            inside: bool [E, cells]: the cells, as in `inside`, that the edit's source lies in.
        """
        rows = self._rows_of.take(patterns.values)
        edit = np.repeat(patterns.owner, rows.sizes)
        kept = inside[edit, self._cell[rows.values]]
        edit, row = edit[kept], rows.values[kept]
        order = np.lexsort((row, edit))
        return Ragged(offsets(np.bincount(edit, minlength=len(patterns))), row[order])

    def inside(self, values: Sequence[Mapping[str, str]]) -> NDArray[np.bool_]:
        """Which cells films of these attribute values lie in: bool [values, cells]."""
        cells = [cell_values(c) for c in self._cells]
        return np.array([[all(v.get(a) == level for a, level in c.items()) for c in cells] for v in values],
                        bool).reshape(len(values), len(cells))

    def _matched(self, positive: Ints, block: Ints) -> Ragged:
        """Patterns that films of these states show, one list a state."""
        chunk = max(1, _CELLS // max(1, len(self._gap)))
        sizes, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for i in range(0, len(positive), chunk):
            p, b = positive[i:i + chunk, None], block[i:i + chunk, None]
            state, pattern = np.nonzero((p & self._gap == self._gap) & (b & self._without == 0))
            sizes.append(np.bincount(state, minlength=len(p)).astype(np.int64))
            values.append(pattern.astype(np.int64))
        return Ragged(offsets(np.concatenate(sizes)), np.concatenate(values))


def own(gap: int, vocabulary: Vocabulary) -> int:
    """Mask of what else may be on a film that shows `gap` alone: what its findings imply or are implied by."""
    return gap | vocabulary.ancestors(gap) | vocabulary.descendants(gap)
