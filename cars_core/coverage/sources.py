"""Which training films can be turned into a film that holds a gap, at what cost, in what order.

Films are grouped to distinct vectors first: whether and how an edit is possible depends on the vector
alone, so the work grows with vectors times gaps, not with films.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.targets import Operation, stated_by, target_vector
from cars_core.digest import bytes_digest
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Plan

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """What films with one vector have in common. `positive` counts uncertain findings as the recipe says;
    `stated` is the mask of the findings their label set states itself; `films` counts them."""

    vector: Vector
    positive: int
    stated: int
    films: int


class Films:
    """Training films, sorted by image digest and grouped to distinct vectors; an image met twice counts once.

    Attributes:
        rows: the films, sorted by `image_id`, so that nothing depends on the order they came in.
        kinds: the distinct vectors.
        patient: int64 [films], patients numbered from 0.
        key: uint64 [films], a digest of (seed, image_id).
    """

    def __init__(self, train: pa.Table, *, seed: int, vocabulary: Vocabulary, uncertain: str) -> None:
        columns = ["image_id", "object", "patient", "source", "licence", "truth", "present", "absent", "uncertain"]
        table = train.select([*columns, "record"]).sort_by([("image_id", "ascending"), ("record", "ascending")])
        for name in ("image_id", "object"):  # Arrow does not hold a table to `nullable=False`
            if table[name].null_count:
                raise BadInput(f"training films: {name}", "null", "the digest of an accepted film's image")
        ids = table["image_id"].to_pylist()
        first = np.array([i == 0 or ids[i] != ids[i - 1] for i in range(len(ids))], dtype=bool)
        self.rows = table.filter(pa.array(first))
        self.ids: list[str] = self.rows["image_id"].to_pylist()
        self.key = np.array([int(bytes_digest(f"{seed} {i}".encode())[:16], 16) for i in self.ids], np.uint64)
        self.patient = np.unique(self._column("patient"), return_inverse=True)[1].astype(np.int64)
        sources, source = np.unique(self._column("source"), return_inverse=True)
        stated = np.array([stated_by(s, vocabulary) for s in sources], np.int64)[source] if len(sources) else source
        parts = [self._column(n).astype(np.int64) for n in ("present", "absent", "uncertain")]
        distinct, kind, counts = np.unique(np.stack([*parts, stated], axis=1), axis=0, return_inverse=True,
                                           return_counts=True)
        kind = kind.reshape(-1)
        self._uncertain = uncertain
        self.kinds = [Kind(v, self.positive(v), s, n) for v, s, n in (
            (Vector(*row[:3]), row[3], n) for row, n in zip(distinct.tolist(), counts.tolist(), strict=True))]
        self.kind: Ints = kind.astype(np.int64)
        self._by_kind = np.argsort(kind, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def positive(self, vector: Vector) -> int:
        """Mask of a vector's positive findings, uncertain ones counted as the recipe says."""
        return vector.present | vector.uncertain if self._uncertain == "present" else vector.present

    def of(self, kind: int) -> Ints:
        """Row numbers of the films with one vector, int64 [films]."""
        return self._by_kind[self._start[kind]:self._start[kind + 1]]

    def _column(self, name: str) -> NDArray[np.generic]:
        values: NDArray[np.generic] = self.rows[name].to_numpy()
        return values


@dataclass(frozen=True)
class Level:
    """Edits of one cost: kind of film -> the operations that do it."""

    cost: float
    operations: Mapping[int, tuple[Operation, ...]]


class Pick(NamedTuple):
    """One possible edit: the film's row in `Films.rows`, what is done to it, at what cost."""

    film: int
    operations: tuple[Operation, ...]
    cost: float


class Queue:
    """The films of some levels, cheapest level first, within one in the order of a digest.

    Two gaps order equal films differently and a film's place hangs on its own key only: the order is by
    key XOR `salt`. So a new film slips in at its place and moves no other. Only as much of the order as
    is asked for is worked out. Each level is gone through up to `passes` times: a film comes a second
    time only after every other of its cost came once.
    """

    def __init__(self, films: Films, levels: list[Level], *, salt: int, passes: int) -> None:
        self._films, self._levels, self._salt, self._passes = films, levels, np.uint64(salt), passes
        self._taken = False
        self._stream = self._all()
        self.blocked_by: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._levels)

    def take(self, blocked: Callable[[int, tuple[Operation, ...]], str | None]) -> Pick | None:
        """The next film that `blocked` does not name a cap for; None at the end. A film once blocked stays so.

        The caps met on the way are kept in `blocked_by`.
        """
        for pick in self._stream:
            cap = blocked(pick.film, pick.operations)
            if cap is None:
                self._taken = True
                return pick
            self.blocked_by.add(cap)
        return None

    def _all(self) -> Iterator[Pick]:
        for level in self._levels:
            for _ in range(self._passes):
                self._taken = False
                for film in self._ordered(level):
                    yield Pick(film, level.operations[int(self._films.kind[film])], level.cost)
                if not self._taken:
                    break

    def _ordered(self, level: Level) -> Iterator[int]:
        kinds = list(level.operations)
        total = sum(self._films.kinds[k].films for k in kinds)
        done, size = 0, 256
        while done < total:
            films = np.concatenate([self._films.of(k) for k in kinds])
            keys = self._films.key[films] ^ self._salt
            size = min(total, size * 4)
            part = np.argpartition(keys, size - 1)[:size] if size < total else np.arange(total)
            # Keys are 64-bit digests; should two agree, the row number decides.
            order = part[np.lexsort((films[part], keys[part]))]
            yield from films[order[done:]].tolist()
            done = size


def insertions(films: Films, gap: int, settings: Plan, *, offered: Mapping[str, frozenset[str]],
               vocabulary: Vocabulary) -> list[Level]:
    """Cheapest ways to make `gap` present on films that lack some of it, by cost.

    A film needs exactly the members of the gap it lacks; each must be offered, and absent or unmentioned
    on it. What the vocabulary excludes beside them is deleted in the same edit (a swap) where that is
    offered. No edit has more than `settings.max_operations` operations.
    """
    can = vocabulary.mask(tuple(offered["insert"]))
    positive = np.array([k.positive for k in films.kinds], np.int64)
    unsure = np.array([k.vector.uncertain for k in films.kinds], np.int64)
    members = [1 << f.bit for f in vocabulary.findings if gap >> f.bit & 1]
    by_cost: dict[float, dict[int, tuple[Operation, ...]]] = {}
    for count in range(1, min(len(members), settings.max_operations) + 1):
        for lacking in (sum(c) for c in combinations(members, count)):
            if lacking & ~can:
                continue
            fits = (positive & gap == gap & ~lacking) & (unsure & lacking == 0)
            inserts = tuple(("insert", n) for n in vocabulary.unpack(lacking))
            excluded = vocabulary.excluded(lacking | vocabulary.ancestors(lacking))
            clash = (positive | unsure) & excluded
            plain = np.flatnonzero(fits & (clash == 0)).tolist()
            if plain:
                by_cost.setdefault(count * settings.insert_cost, {}).update(dict.fromkeys(plain, inserts))
            for kind in np.flatnonzero(fits & (clash != 0)).tolist():
                deletes = tuple(("delete", n) for n in vocabulary.unpack(int(clash[kind])))
                if len(inserts) + len(deletes) > settings.max_operations or {n for _, n in deletes} - offered["delete"]:
                    continue
                target = _target_or_none(films.kinds[kind], inserts + deletes, vocabulary)
                # Deleting may have taken away something the gap itself needs.
                if target is not None and films.positive(target) & gap == gap:
                    cost = count * settings.insert_cost + len(deletes) * settings.delete_cost
                    by_cost.setdefault(cost, {})[kind] = inserts + deletes
    return [Level(cost, by_cost[cost]) for cost in sorted(by_cost)]


def _target_or_none(kind: Kind, operations: tuple[Operation, ...], vocabulary: Vocabulary) -> Vector | None:
    try:
        return target_vector(kind.vector, operations, vocabulary=vocabulary, stated=kind.stated)
    except BadInput:
        return None


def deletions(films: Films, gaps: list[int], settings: Plan, *, offered: Mapping[str, frozenset[str]],
              vocabulary: Vocabulary) -> tuple[dict[int, list[Level]], list[tuple[int, Level]]]:
    """Pure deletions: one offered finding taken from a film that holds two or more.

    Findings that another one on the film implies do not count among the two: a nodule with the lung lesion
    it implies is one finding.

    Returns:
        (gap -> the films on which exactly that gap is left (and what it implies or is implied by),
        the other deletions as (combination left, level), the rarest on the training films first).
    """
    seen: dict[int, int] = {}
    for k in films.kinds:
        seen[k.positive] = seen.get(k.positive, 0) + k.films
    exact: dict[int, dict[int, tuple[Operation, ...]]] = {}
    others: dict[tuple[int, int], dict[int, tuple[Operation, ...]]] = {}
    masks = np.array(gaps, np.int64)
    strange = ~np.array([g | vocabulary.ancestors(g) | vocabulary.descendants(g) for g in gaps], np.int64)
    for number, kind in enumerate(films.kinds):
        leaves = kind.positive & ~vocabulary.ancestors(kind.positive)
        if leaves.bit_count() < 2:
            continue
        for name in vocabulary.unpack(leaves & kind.vector.present):
            if name not in offered["delete"]:
                continue
            operation = (("delete", name),)
            target = target_vector(kind.vector, operation, vocabulary=vocabulary, stated=kind.stated)
            left = films.positive(target)
            filled = np.flatnonzero((left & masks == masks) & (left & strange == 0)).tolist()
            for i in filled:
                exact.setdefault(gaps[i], {}).setdefault(number, operation)
            if not filled:
                others.setdefault((seen.get(left, 0), left), {}).setdefault(number, operation)
    cost = settings.delete_cost
    rare = [(left & ~vocabulary.ancestors(left), Level(cost, others[count, left])) for count, left in sorted(others)]
    return {g: [Level(cost, exact[g])] for g in gaps if g in exact}, rare

