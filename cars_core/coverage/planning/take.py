"""Which films carry out edits: under caps, in shares that follow the population, in an order that stays put.

Films lie on a circle by their key, a digest. Those for an act are taken from a point of the circle on that hangs on the
act alone. So two acts order the same films differently, and a new film slips in at its place and moves no other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cars_core.coverage.planning.films import Films
from cars_core.coverage.planning.ragged import Keys, Ragged, offsets

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BITS = 40  # of a key that say where on the circle a film lies; the rest decide between neighbours
_SHIFT = np.uint64(64 - _BITS)
_CIRCLE = 1 << _BITS
_LEAST = 64  # films of a stratum looked at beyond those asked for: fewer would only mean looking again


class Taker:
    """Hands out films and remembers what was taken.

    Each time films are asked for, they are spread over the strata so that the shares of all films taken come nearest to
    those wanted, as far as the kinds asked for have films; in a stratum they come in the order of the circle. A film is
    taken a second time only when every other film of the kinds asked for has been taken once, and so on.

    Attributes:
        film_used: int64 [films]; patient_used: int64 [patients]; stratum_used: int64 [strata]: edits so far.
    """

    def __init__(self, films: Films, *, per_film: int, per_patient: int) -> None:
        self._films, self._per_film, self._per_patient = films, per_film, per_patient
        self.film_used = np.zeros(len(films), np.int64)
        self.patient_used = np.zeros(int(films.patient.max(initial=-1)) + 1, np.int64)
        self.stratum_used = np.zeros(len(films.strata), np.int64)
        # Segments: films of one kind and stratum, in the order of their keys (films are in that order already).
        code = films.kind * len(films.strata) + films.stratum
        segment, size = np.unique(code, return_counts=True)
        self._order = np.argsort(code, kind="stable").astype(np.int64)
        self._stratum = segment % len(films.strata)
        self._start = offsets(size.astype(np.int64))
        per_kind = np.bincount(segment // len(films.strata), minlength=len(films.kind_vector))
        self._segments = Ragged(offsets(per_kind), np.arange(len(segment)))
        if len(segment) >= 1 << (64 - _BITS):  # beyond, a segment's number would run into the keys'
            raise ValueError(f"{len(segment)} kinds and strata of films")
        number = np.repeat(np.arange(len(segment)), size).astype(np.uint64)
        self._place: Keys = (number << np.uint64(_BITS)) | (films.key[self._order] >> _SHIFT)

    def take(self, kinds: Ints, points: Keys, wanted: int, *,
             banned: Callable[[Ints], NDArray[np.bool_]] | None = None, passes: int | None = None) -> Ints:
        """Take up to `wanted` films of some kinds; fewer only where caps allow no more.

        Args:
            kinds: int64 [K], each once.
            points: uint64 [K], where on the circle to begin for each kind.
            wanted: how many.
            banned: films [n] -> bool [n], those that must not be taken.
            passes: how often one film may be taken at most, per_film by default.

        Returns:
            int64, rows of `Films`, in the order they were taken.
        """
        out: list[Ints] = []
        left = wanted
        for used in range(self._per_film if passes is None else min(passes, self._per_film)):
            ring = _Ring(self, kinds, points, used, banned)
            while left and (films := ring.next(left)) is not None:
                out.append(films)
                left -= len(films)
            if not left:
                break
        return np.concatenate(out) if out else np.zeros(0, np.int64)

    def put_back(self, films: Ints) -> None:
        """Undo that these films were taken."""
        self._count(films, -1)

    def full(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """bool [films] twice: those that cannot be taken for their own cap, and the others, for their patient's."""
        film = self.film_used >= self._per_film
        return film, ~film & (self.patient_used[self._films.patient] >= self._per_patient)

    def _count(self, films: Ints, change: int) -> None:
        np.add.at(self.film_used, films, change)
        np.add.at(self.patient_used, self._films.patient[films], change)
        np.add.at(self.stratum_used, self._films.stratum[films], change)

    def _accept(self, films: Ints) -> Ints:
        """Of films in order, those their patients' caps leave; they are counted as taken."""
        patient = self._films.patient[films]
        order = np.argsort(patient, kind="stable")
        first = np.ones(len(films), bool)
        first[1:] = patient[order][1:] != patient[order][:-1]
        run = np.arange(len(films)) - np.maximum.accumulate(np.where(first, np.arange(len(films)), 0))
        place = np.empty(len(films), np.int64)
        place[order] = run
        films = films[self.patient_used[patient] + place < self._per_patient]
        self._count(films, 1)
        return films


class _Ring:
    """Films of some kinds edited `used` times at most so far, stratum by stratum in the order of the circle.

    Films are looked up in a window of the circle that grows as more are needed, one window a stratum.
    """

    def __init__(self, taker: Taker, kinds: Ints, points: Keys, used: int,
                 banned: Callable[[Ints], NDArray[np.bool_]] | None) -> None:
        self._taker, self._used, self._banned = taker, used, banned
        lists = taker._segments.take(kinds)
        self._segments = lists.values
        self._points = (points >> _SHIFT)[lists.owner].astype(np.int64)
        self._of = taker._stratum[self._segments]
        strata = len(taker.stratum_used)
        sizes = (taker._start[1:] - taker._start[:-1])[self._segments].astype(np.float64)
        self._films: Floats = np.bincount(self._of, weights=sizes, minlength=strata).astype(np.float64)
        self._seen = np.where(self._films > 0, 0, _CIRCLE).astype(np.int64)  # how much of the circle was looked at
        self._found, self._far = np.zeros(0, np.int64), np.zeros(0, np.uint64)

    def next(self, wanted: int) -> Ints | None:
        """Take up to `wanted` films, at least one; None when there are no more."""
        taker = self._taker
        while True:
            stratum = taker._films.stratum[self._found]
            held = np.bincount(stratum, minlength=len(self._seen))
            some = (held > 0) | (self._seen < _CIRCLE)
            if not some.any():
                return None
            quota = spread(wanted, taker.stratum_used, taker._films.share, some, self._films)
            short = (held < quota) & (self._seen < _CIRCLE)
            if short.any():
                self._widen(short, quota - held)
                continue
            order = np.lexsort((self._found, self._far, stratum))
            ordered = stratum[order]
            begin = np.concatenate([[0], np.cumsum(held)])[ordered]
            chosen = order[np.arange(len(order)) - begin < quota[ordered]]
            # Between strata nearer films come first: whatever the strata, a patient's cap falls on the same film.
            chosen = chosen[np.lexsort((self._found[chosen], self._far[chosen]))]
            films = taker._accept(self._found[chosen])
            rest = np.ones(len(self._found), bool)
            rest[chosen] = False
            self._found, self._far = self._found[rest], self._far[rest]
            if len(films):
                return films

    def _widen(self, strata: NDArray[np.bool_], missing: Ints) -> None:
        taker = self._taker
        share = np.divide(1.3 * missing + _LEAST, self._films, out=np.ones(len(missing)), where=self._films > 0)
        more = np.maximum(self._seen * 3, self._seen + np.minimum(share, 1.0) * _CIRCLE).astype(np.int64) + 1
        until = np.where(strata, np.minimum(more, _CIRCLE), self._seen)
        rows = np.flatnonzero(strata[self._of])
        low = self._points[rows] + self._seen[self._of[rows]]
        high = self._points[rows] + until[self._of[rows]]
        # A window may go round the top of the circle: it is looked at as the part before and the part after it.
        rows = np.concatenate([rows, rows])
        low = np.concatenate([np.minimum(low, _CIRCLE), np.maximum(low - _CIRCLE, 0)])
        high = np.concatenate([np.minimum(high, _CIRCLE), np.maximum(high - _CIRCLE, 0)])
        some = high > low
        rows, low, high = rows[some], low[some], high[some]
        base = self._segments[rows] << _BITS
        ends = np.searchsorted(taker._place, np.concatenate([base + low, base + high]).astype(np.uint64))
        first, last = ends[:len(rows)], ends[len(rows):]
        sizes = (last - first).astype(np.int64)
        start = offsets(sizes)
        found = taker._order[np.arange(start[-1]) + np.repeat(first - start[:-1], sizes)]
        free = taker.film_used[found] <= self._used
        free[free] = taker.patient_used[taker._films.patient[found[free]]] < taker._per_patient
        if self._banned is not None:
            free[free] = ~self._banned(found[free])
        point = np.repeat(self._points[rows].astype(np.uint64) << _SHIFT, sizes)[free]
        found = found[free]
        self._far = np.concatenate([self._far, taker._films.key[found] - point])
        self._found = np.concatenate([self._found, found])
        self._seen = until


def spread(wanted: int, used: Ints, share: Floats, some: NDArray[np.bool_], films: Floats) -> Ints:
    """How many films to take of each stratum, int64 [S] with sum `wanted`, so that shares come nearest to those wanted.

    Args:
        wanted: at least 1.
        used: int64 [S], films taken of each so far.
        share: float64 [S], shares wanted, sum 1.
        some: bool [S], strata that may still have a film; at least one.
        films: float64 [S], how many films each has: shares where all that remain are strata nobody wants.
    """
    due = np.where(some, np.maximum(share * (used.sum() + wanted) - used, 0.0), 0.0)
    for weights in (due, np.where(some, share, 0.0), np.where(some, films, 0.0)):
        if weights.sum() > 0:
            break
    exact = weights * (wanted / weights.sum())
    out = np.floor(exact + 1e-9).astype(np.int64)
    if missing := wanted - int(out.sum()):
        # Largest remainder; rounded, so that noise in the last digit does not decide, then the lower stratum.
        rest = np.where(weights > 0, np.round(exact - out, 9), -1.0)
        out[np.argsort(-rest, kind="stable")[:missing]] += 1
    return out
