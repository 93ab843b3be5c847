"""Edits that only delete, for their share of a plan: they leave an under-covered combination alone, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cars_core.coverage.planning.films import Films
from cars_core.coverage.planning.moves import Act, edited, operation_costs, priced, subsets, vectors_at
from cars_core.coverage.planning.ragged import Ragged, grouped
from cars_core.coverage.planning.take import Taker
from cars_core.coverage.planning.wanted import Wanted, own
from cars_core.coverage.plausible import Plausibility
from cars_core.digest import seed_from
from cars_core.vocabulary import Vocabulary
from schemas.policy import Plan

Ints = NDArray[np.int64]

#: Patterns left: (findings present, findings that must not be there, cell).
Pattern = tuple[int, int, str]


class Deletion(NamedTuple):
    """A deletion planned: row of `Films`, number of the act, gaps it newly fills, the pattern it leaves, its place in
    the order of deletions."""

    film: int
    act: int
    fills: tuple[int, ...]
    left: Pattern
    turn: tuple[int, int]


class _Level(NamedTuple):
    """Deletions of one cost that leave one pattern: kinds of films, sorted, and the act on each."""

    kinds: Ints
    acts: Ints


class Deletions:
    """Plans deletions as edits of other kinds are planned.

    One finding is deleted, or up to the plan's most operations where that leaves exactly a gap (and what it implies or
    is implied by). Findings that another one on the film implies do not count: a nodule with the lung lesion it implies
    is one finding. Gaps that can be left so take turns; when no such film is left, what the fewest training films show
    is left, nothing at all counting as a combination. No film gets the same deletion twice.

    Attributes:
        acts: the sets of operations.
        planned: what is planned.
    """

    def __init__(self, films: Films, wanted: Wanted, settings: Plan, *, taker: Taker, planned: Ints,
                 offered: Mapping[str, frozenset[str]], vocabulary: Vocabulary, seed: int,
                 plausible: Plausibility | None) -> None:
        """`planned`, int64 [G], is counted up and down for the gaps that deletions fill."""
        self._films, self._wanted, self._share, self._taker = films, wanted, settings.deletions, taker
        self._seed, self._vocabulary, self._filled = seed, vocabulary, planned
        self.planned: list[Deletion] = []
        self.acts: list[Act] = []
        self._exact: dict[int, list[_Level]] = {}
        self._rare: list[tuple[int, _Level]] = []
        self._done: set[tuple[int, int]] = set()
        self._effect: dict[tuple[int, int], tuple[int, ...]] = {}
        if self._share > 0 and wanted.lacks.any():
            self._search(settings, offered, plausible)
        self._turns = [(0, row) for row in self._exact]
        heapify(self._turns)

    def keep_up(self, inserting: int, deleting: int, *, lag: int = 0) -> None:
        """Plan what `inserting` edits that insert call for beside `deleting` others, once more than `lag` are due."""
        missing = due(inserting, self._share) - deleting - len(self.planned)
        if self._share >= 1:
            missing = self._taker.film_used.size
        if missing <= lag:
            return
        while missing > 0 and (self._turns or self._rare):
            missing -= self._leave_gaps(missing) if self._turns else self._leave_rarest(missing)

    def cut_to(self, inserting: int, deleting: int) -> None:
        """Take back the latest deletions beyond the share, but those that some gap needs."""
        spare = len(self.planned) + deleting - due(inserting, self._share) if self._share < 1 else 0
        kept: list[Deletion] = []
        for d in reversed(self.planned):
            fills = list(d.fills)
            if spare > 0 and (self._filled[fills] > self._wanted.lacks[fills]).all():
                spare -= 1
                self._taker.put_back(np.array([d.film], np.int64))
                self._filled[fills] -= 1
                self._done.discard((d.film, d.act))
            else:
                kept.append(d)
        self.planned = kept[::-1]

    def _search(self, settings: Plan, offered: Mapping[str, frozenset[str]], plausible: Plausibility | None) -> None:
        vocabulary, vectors = self._vocabulary, self._films.vectors
        costs = operation_costs(settings, vocabulary)
        masks = [m for m in subsets(vocabulary.mask(sorted(offered["delete"])), settings.max_operations) if m]
        self.acts = [priced(0, m, costs, vocabulary) for m in masks]
        implied = _ancestors(vectors.positive, vocabulary)
        leaves = vectors.positive & ~implied & vectors.present
        found: list[tuple[Ints, Ints, Ints, Ints]] = []
        for i, mask in enumerate(masks):
            fits = np.flatnonzero(leaves & mask == mask).astype(np.int64)
            if not len(fits):
                continue
            target, legal = edited(vectors_at(vectors, fits), np.zeros_like(fits), np.full(len(fits), mask, np.int64),
                                   vocabulary)
            if plausible is not None:
                legal[legal] = plausible.films(target.positive[legal])
            found.append((fits[legal], np.full(int(legal.sum()), i, np.int64), target.positive[legal],
                          target.block[legal]))
        if not found:
            return
        vector, act, left, block = (np.concatenate(parts) for parts in zip(*found, strict=True))
        exact = self._exactly(left, block)
        self._add_exact(vector, act, exact)
        single = np.array([m.bit_count() == 1 for m in masks])[act]
        self._add_rare(vector, act, left, single & (exact.sizes == 0))

    def _exactly(self, left: Ints, block: Ints) -> Ragged:
        """The patterns that are all that is on films with the findings `left`, one list each."""
        patterns = [(g, w) for g, w, _ in self._wanted.patterns]
        rows, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for i, (gap, without) in enumerate(patterns):
            fits = (left & gap == gap) & (block & without == 0) & (left & ~own(gap, self._vocabulary) == 0)
            rows.append(np.flatnonzero(fits).astype(np.int64))
            numbers.append(np.full(len(rows[-1]), i, np.int64))
        return grouped(np.concatenate(rows), np.concatenate(numbers), len(left))

    def _add_exact(self, vector: Ints, act: Ints, exact: Ragged) -> None:
        films, wanted = self._films, self._wanted
        of_vector = grouped(films.kind_vector, np.arange(len(films.kind_vector)), len(films.vectors))
        some = np.flatnonzero(exact.sizes)
        kinds = of_vector.take(vector[some])
        inside = wanted.inside(films.values)[films.kind_values[kinds.values]]
        rows = wanted.rows_in(exact.take(some[kinds.owner]), inside)
        kind, doing = kinds.values[rows.owner], act[some][kinds.owner][rows.owner]
        cost = np.array([a.cost for a in self.acts])[doing]
        for row in np.unique(rows.values).tolist():
            at = np.flatnonzero(rows.values == row)
            self._exact[row] = [_level(kind[at][cost[at] == c], doing[at][cost[at] == c])
                                for c in np.unique(cost[at])]

    def _add_rare(self, vector: Ints, act: Ints, left: Ints, wanted: NDArray[np.bool_]) -> None:
        films = self._films
        count = np.bincount(films.kind_vector[films.kind], minlength=len(films.vectors))
        sets, number = np.unique(films.vectors.positive, return_inverse=True)
        shown_on = np.bincount(number.reshape(-1), weights=count).astype(int)
        seen = dict(zip(sets.tolist(), shown_on.tolist(), strict=True))
        vector, act, left = vector[wanted], act[wanted], left[wanted]
        of_vector = grouped(films.kind_vector, np.arange(len(films.kind_vector)), len(films.vectors))
        for rest in sorted(set(left.tolist()), key=lambda m: (seen.get(m, 0), m == 0, m)):
            at = left == rest
            kinds = of_vector.take(vector[at])
            shown = rest & ~self._vocabulary.ancestors(rest)
            self._rare.append((shown, _level(kinds.values, act[at][kinds.owner])))

    def _leave_gaps(self, wanted: int) -> int:
        """Plan up to `wanted` deletions that leave gaps, in turn; gaps without films fall out."""
        more: dict[int, int] = {}
        before: dict[int, int] = {}
        for _ in range(wanted):
            turn, row = self._turns[0]
            before.setdefault(row, turn)
            more[row] = more.get(row, 0) + 1
            heappop(self._turns)
            heappush(self._turns, (turn + 1, row))
        empty, total = set(), 0
        for row in sorted(more):
            left = (int(self._wanted.gap[row]), int(self._wanted.without[row]), self._wanted.cell[row])
            got = 0
            for level in self._exact[row]:
                got += self._take(level, more[row] - got, left, (before[row] + got, row))
                if got == more[row]:
                    break
            if got < more[row]:
                empty.add(row)
            total += got
        if empty:
            self._turns = [t for t in self._turns if t[1] not in empty]
            heapify(self._turns)
        return total

    def _leave_rarest(self, wanted: int) -> int:
        shown, level = self._rare[0]
        got = self._take(level, wanted, (shown, 0, ""), (1 << 40, -len(self._rare)))
        if got < wanted:
            self._rare.pop(0)
        return got

    def _take(self, level: _Level, wanted: int, left: Pattern, turn: tuple[int, int]) -> int:
        kind = self._films.kind

        def act_on(films: Ints) -> list[int]:
            acts: list[int] = level.acts[np.searchsorted(level.kinds, kind[films])].tolist()
            return acts

        def banned(films: Ints) -> NDArray[np.bool_]:
            done = self._done
            return np.array([(f, a) in done for f, a in zip(films.tolist(), act_on(films), strict=True)], bool)

        point = np.uint64(seed_from(self._seed, *left, "delete"))
        films = self._taker.take(level.kinds, np.full(len(level.kinds), point, np.uint64), wanted, banned=banned)
        for i, (film, act) in enumerate(zip(films.tolist(), act_on(films), strict=True)):
            fills = self._fills(int(kind[film]), act)
            self._filled[list(fills)] += 1
            self._done.add((film, act))
            self.planned.append(Deletion(film, act, fills, left, (turn[0] + i, turn[1])))
        return len(films)

    def _fills(self, kind: int, act: int) -> tuple[int, ...]:
        if (kind, act) not in self._effect:
            films, wanted = self._films, self._wanted
            before = vectors_at(films.vectors, films.kind_vector[[kind]])
            after, _ = edited(before, np.zeros(1, np.int64), np.array([self.acts[act].delete], np.int64),
                              self._vocabulary)
            inside = wanted.inside(films.values)[films.kind_values[[kind]]]
            self._effect[kind, act] = tuple(wanted.rows_in(wanted.shown(before, after), inside)[0].tolist())
        return self._effect[kind, act]


def due(inserting: int, share: float) -> int:
    """Fewest deletions beside `inserting` other edits that are floor(share * edits) of all, at every rank.

    d deletions are enough when d >= floor(share * (inserting + d)); share below 1.
    """
    if share >= 1:
        return 0
    d = int(share / (1 - share) * inserting)
    while d > 0 and d - 1 >= floor_share(share, inserting + d - 1):
        d -= 1
    while d < floor_share(share, inserting + d):
        d += 1
    return d


def floor_share(share: float, edits: int) -> int:
    """floor(share * edits), as meant: 0.29 * 100 is 28.999999999999996."""
    return int(share * edits + 1e-9)


def _ancestors(masks: Ints, vocabulary: Vocabulary) -> Ints:
    out = np.zeros_like(masks)
    for f in vocabulary.findings:
        if up := vocabulary.ancestors(1 << f.bit):
            out |= np.where(masks >> f.bit & 1 == 1, up, 0)
    return out


def _level(kinds: Ints, acts: Ints) -> _Level:
    """Each kind once, with its first act."""
    order = np.lexsort((acts, kinds))
    first = np.ones(len(order), bool)
    first[1:] = kinds[order][1:] != kinds[order][:-1]
    return _Level(kinds[order[first]], acts[order[first]])
