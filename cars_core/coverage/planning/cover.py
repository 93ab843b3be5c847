"""Choosing edits: the problem, the state while a strategy works on it, and the greedy strategy `fewest`.

A strategy takes a `Problem` and returns the edits chosen, in the order they were taken. It plans until every gap that
can be filled is; `max_edits` is cut afterwards, from an order that does not hang on it (`cars_core.coverage.plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from cars_core.coverage.planning.deletions import Deletions
from cars_core.coverage.planning.films import Films
from cars_core.coverage.planning.moves import Act, Moves
from cars_core.coverage.planning.ragged import Ragged
from cars_core.coverage.planning.take import Taker
from cars_core.coverage.planning.wanted import Wanted
from cars_core.coverage.plausible import Plausibility
from cars_core.vocabulary import Vocabulary
from schemas.policy import Plan

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a strategy is given: the films, what is wanted of them, what could be done, limits and names."""

    films: Films
    wanted: Wanted
    moves: Moves
    settings: Plan
    offered: Mapping[str, frozenset[str]]
    vocabulary: Vocabulary
    seed: int
    plausible: Plausibility | None


@dataclass(frozen=True, eq=False)
class Edits:
    """E edits in the order they were taken.

    Attributes:
        film: int64 [E], rows of `Films`.
        act: int64 [E], numbers in `acts`, the sets of operations.
        fills: the gaps each newly fills.
        group: int64 [E]: edits of one group take turns with those of the others.
        deletions: planned for their share alone, in order; `left` is the pattern each leaves on its film.
        full: whether films, or else their patients, are at their caps: bool [films] twice.
    """

    film: Ints
    act: Ints
    acts: list[Act]
    fills: Ragged
    group: Ints
    deletions: Deletions | None
    full: tuple[NDArray[np.bool_], NDArray[np.bool_]]


Strategy = Callable[[Problem], Edits]


class Cover:
    """The state of a plan by moves.

    Attributes:
        planned: int64 [G], edits so far that fill each gap.
        taker: hands out films.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.taker = Taker(problem.films, per_film=problem.settings.per_film, per_patient=problem.settings.per_patient)
        self.planned = np.zeros(len(problem.wanted), np.int64)
        self._deletions = Deletions(problem.films, problem.wanted, problem.settings, taker=self.taker,
                                    planned=self.planned, offered=problem.offered, vocabulary=problem.vocabulary,
                                    seed=problem.seed, plausible=problem.plausible)
        self._taken: list[tuple[int, Ints, Ints]] = []  # move, films, act of each
        self._inserting = self._deleting = 0
        self._deletions.keep_up(0, 0)

    def short(self) -> NDArray[np.bool_]:
        """bool [G]: gaps that can be filled and lack films still."""
        return self.planned < self.problem.wanted.lacks

    def lack(self, gaps: Ints) -> int:
        """How many films the least short of these gaps lacks, of those that are short; 0 where none is."""
        lacks = (self.problem.wanted.lacks - self.planned)[gaps]
        return int(lacks[lacks > 0].min(initial=np.iinfo(np.int64).max)) if (lacks > 0).any() else 0

    def take(self, m: int, wanted: int, *, only: Ints | None = None) -> int:
        """Carry out move m up to `wanted` times (of its kinds, those at the places `only`); returns how often."""
        moves = self.problem.moves
        kinds, acts = moves.kinds[m], moves.acts_of(m)
        if only is not None:
            kinds, acts = kinds[only], acts[only]
        films = self.taker.take(kinds, moves.salts[acts], wanted)
        if len(films):
            done = acts[np.searchsorted(kinds, self.problem.films.kind[films])]
            self._taken.append((m, films, done))
            self.planned[moves.fills[m]] += len(films)
            self._count(done, 1)
            # Not for every single edit: films are handed out faster by the hundred.
            self._deletions.keep_up(self._inserting, self._deleting, lag=self._inserting // 20)
        return len(films)

    def catch_up(self) -> None:
        """Plan the deletions that are still due."""
        self._deletions.keep_up(self._inserting, self._deleting)

    def drop_needless(self) -> bool:
        """Take back edits all of whose gaps have more than they lack: the costliest first, then the latest.

        Afterwards every edit is needed by some gap: fewer would leave it short (or shorter). Returns whether some went.
        """
        moves, lacks = self.problem.moves, self.problem.wanted.lacks
        dropped = False
        order = sorted(range(len(self._taken)), key=lambda i: (-moves.cost[self._taken[i][0]], -i))
        for i in order:
            m, films, acts = self._taken[i]
            spare = int((self.planned - lacks)[moves.fills[m]].min())
            if (many := min(spare, len(films))) > 0:
                kept = len(films) - many
                self.taker.put_back(films[kept:])
                self.planned[moves.fills[m]] -= many
                self._count(acts[kept:], -1)
                self._taken[i] = (m, films[:kept], acts[:kept])
                dropped = True
        self._taken = [t for t in self._taken if len(t[1])]
        self._deletions.cut_to(self._inserting, self._deleting)
        return dropped

    def edits(self) -> Edits:
        """What was chosen."""
        self.catch_up()
        moves = self.problem.moves
        move = np.concatenate([np.zeros(0, np.int64), *(np.full(len(f), m, np.int64) for m, f, _ in self._taken)])
        film = np.concatenate([np.zeros(0, np.int64), *(f for _, f, _ in self._taken)])
        act = np.concatenate([np.zeros(0, np.int64), *(a for *_, a in self._taken)])
        _, group = np.unique(moves.fills.digests(self.problem.wanted.weights(self.problem.seed)), return_inverse=True)
        return Edits(film, act, [*moves.acts], moves.fills.take(move), group.reshape(-1)[move].astype(np.int64),
                     self._deletions, self.taker.full())

    def _count(self, acts: Ints, change: int) -> None:
        inserting = sum(self.problem.moves.acts[a].insert != 0 for a in acts.tolist())
        self._inserting += change * inserting
        self._deleting += change * (len(acts) - inserting)


def fewest(problem: Problem) -> Edits:
    """Greedy: always the move that fills most gaps still short, then edits that became needless are dropped.

    Of equally good moves the cheapest, then the one with most films, then by digest. A move is carried out as often as
    the least short of its gaps needs, since until then no other becomes better. Greedy needs at most H(d) times the
    fewest edits possible, d the most gaps one edit fills and H(d) = 1 + 1/2 + ... + 1/d (Dobson, Math. Oper. Res. 7,
    1982), where caps leave it the films. Films that dropped edits set free serve what is short still.
    """
    cover = Cover(problem)
    greedy(cover)
    while cover.drop_needless() and greedy(cover):
        pass
    return cover.edits()


def greedy(cover: Cover) -> bool:
    """Carry out moves until no gap is short or none left helps; whether any was carried out."""
    moves = cover.problem.moves
    every = moves.fills
    gains = np.bincount(every.owner, weights=cover.short()[every.values], minlength=len(moves)).astype(np.int64)
    order = [(-g, c, -s, d, m) for m, (g, c, s, d) in enumerate(zip(
        gains.tolist(), moves.cost.tolist(), moves.supply.tolist(), moves.digest.tolist(), strict=True)) if g]
    heapify(order)  # lazily: gains only fall, so a move whose gain still holds when it comes first is the best
    done = False
    short = cover.short()
    while order:
        promised, *rest, m = heappop(order)
        gain = int(short[every[m]].sum())
        if gain == -promised:
            wanted = cover.lack(every[m])
            taken = cover.take(m, wanted)
            done |= taken > 0
            short = cover.short()
            if taken < wanted:
                continue  # no film is left for it
            gain = int(short[every[m]].sum())
        if gain:
            heappush(order, (-gain, *rest, m))  # type: ignore[arg-type]
    cover.catch_up()
    return done
