"""Every edit that could fill a gap: which films, which operations, which gaps it fills, at what cost.

Edits that newly fill the same gaps at the same cost are one move, whatever is done to the film for it. The search goes
over kinds of films and sets of operations in numpy, so it grows with distinct vectors, not with films.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cars_core.coverage.planning.films import Films, Vectors
from cars_core.coverage.planning.ragged import Keys, Ragged, grouped, mixed, offsets
from cars_core.coverage.planning.targets import Operation
from cars_core.coverage.planning.wanted import Wanted
from cars_core.coverage.plausible import Plausibility
from cars_core.digest import seed_from
from cars_core.vocabulary import Vocabulary
from schemas.policy import Effort, Plan

Ints = NDArray[np.int64]

#: Sets of operations times distinct vectors that are looked at. Beyond, sets of more operations are left out, those
#: that serve the gaps of least deficit first; sets of one operation never are.
MOST = 30_000_000

_BLOCK = 1 << 20  # edits held until their targets are looked up


class Act(NamedTuple):
    """What is done to a film: masks of the findings inserted and deleted, at what cost."""

    insert: int
    delete: int
    cost: float

    def operations(self, vocabulary: Vocabulary) -> tuple[Operation, ...]:
        return tuple([("insert", n) for n in vocabulary.unpack(self.insert)]
                     + [("delete", n) for n in vocabulary.unpack(self.delete)])


@dataclass(frozen=True, eq=False)
class Moves:
    """M moves. Move m fills the gaps `fills[m]` (rows of `Wanted`) at `cost[m]`, on films of the kinds `kinds[m]`, by
    `acts[i]` with i from `act_of[m]` beside each kind.

    Attributes:
        fills: gaps, one sorted list a move; no two moves have both gaps and cost in common.
        cost: float64 [M].
        kinds: kinds of films, sorted, one list a move.
        act_of: int64, beside `kinds.values`.
        supply: int64 [M], films of those kinds.
        digest: uint64 [M], of the seed, the gaps and the cost: decides between moves that are equally good.
        acts: the sets of operations.
        salts: uint64 [acts], where in the circle of keys the films for an act are taken from.
    """

    fills: Ragged
    cost: NDArray[np.float64]
    kinds: Ragged
    act_of: Ints
    supply: Ints
    digest: Keys
    acts: list[Act]
    salts: Keys

    def __len__(self) -> int:
        return len(self.cost)

    def acts_of(self, m: int) -> Ints:
        return self.act_of[self.kinds.start[m]:self.kinds.start[m + 1]]


def find_moves(films: Films, wanted: Wanted, settings: Plan, *, offered: Mapping[str, frozenset[str]],
               vocabulary: Vocabulary, seed: int, plausible: Plausibility | None) -> Moves:
    """All edits of up to `settings.max_operations` operations that fill a gap and whose film could be real.

    Inserted are findings that gaps ask for, or, of one that is not offered, what implies it. Deleted are findings that
    gaps ask to be absent, what the vocabulary excludes beside an inserted one, and at most one sibling of an inserted
    one (a child of the same parent: an intra-class swap). No operation is on an uncertain finding. Of the ways to fill
    the same gaps on a film only the cheapest is kept; so no operation is done that fills nothing. With more than MOST
    sets of operations times vectors some sets of two and three operations are left out.

    Args:
        films, wanted: the training films and the gaps.
        settings: limits and costs.
        offered: {"insert": findings, "delete": findings} the editor can do.
        vocabulary, seed: names; the recipe's seed.
        plausible: what may be made; None asks nothing.
    """
    acts = _acts(wanted, settings, offered=offered, vocabulary=vocabulary, vectors=len(films.vectors))
    vector, act, patterns = _useful(films, wanted, acts, vocabulary, plausible)
    cost = np.array([a.cost for a in acts])
    salts = np.array([seed_from(seed, a.insert, a.delete) for a in acts], np.uint64)
    # Each edit of a vector is one of each kind with that vector; a kind's cells decide what it fills.
    of_vector = grouped(films.kind_vector, np.arange(len(films.kind_vector)), len(films.vectors))
    kinds = of_vector.take(vector)
    edit, kind = kinds.owner, kinds.values
    cells, group = np.unique(wanted.inside(films.values), axis=0, return_inverse=True)
    case, case_of = np.unique(edit * len(cells) + group.reshape(-1)[films.kind_values[kind]], return_inverse=True)
    rows = wanted.rows_in(patterns.take(case // len(cells)), cells[case % len(cells)])
    filled = rows.digests(wanted.weights(seed))
    row = case_of.reshape(-1).astype(np.int64)
    some = rows.sizes[row] > 0
    kind, act, row = kind[some], act[edit][some], row[some]
    # The cheapest way for each kind and set of gaps; acts are in order of preference.
    kept = _first(kind, filled[row], [cost[act], act])
    kind, act, row = kind[kept], act[kept], row[kept]
    key = np.zeros(len(row), [("gaps", np.uint64), ("cost", np.float64)])
    key["gaps"], key["cost"] = filled[row], cost[act]
    _, example, move = np.unique(key, return_index=True, return_inverse=True)
    move = move.reshape(-1)
    order = np.lexsort((kind, move))
    count = np.bincount(films.kind, minlength=len(films.kind_vector))
    by_move = Ragged(offsets(np.bincount(move, minlength=len(example))), kind[order])
    supply = np.bincount(move, weights=count[kind], minlength=len(example)).astype(np.int64)
    price = cost[act[example]]
    return Moves(rows.take(row[example]), price, by_move, act[order], supply,
                 mixed(filled[row[example]] ^ mixed(price.view(np.uint64))), acts, salts)


def edited(source: Vectors, insert: Ints, delete: Ints, vocabulary: Vocabulary) -> tuple[Vectors, NDArray[np.bool_]]:
    """`target_vector` for E films at once.

    Args:
        source: the films' vectors.
        insert, delete: int64 [E], masks of the findings.

    Returns:
        The targets, and bool [E]: whether the edit is possible: inserted findings are absent or unmentioned, deleted
        ones present and implied by nothing left, and nothing on the film is excluded beside an inserted one. Where it
        is not, the target means nothing.
    """
    present, absent, uncertain, stated = source.present, source.absent, source.uncertain, source.stated
    kept = present & ~delete
    legal = (insert & (present | uncertain) == 0) & (delete & ~present == 0)
    implied = np.zeros_like(kept)
    for bit in _bits(delete):
        has = delete >> bit & 1 == 1
        legal &= ~has | (kept & vocabulary.descendants(1 << bit) == 0)
        implied |= np.where(has, vocabulary.ancestors(1 << bit), 0)
    implied &= kept & ~stated
    gone = delete.copy()
    unsure = np.zeros_like(kept)
    for bit in _bits(implied):
        below = vocabulary.descendants(1 << bit)
        alone = (implied >> bit & 1 == 1) & (kept & ~implied & below == 0)
        unsure |= np.where(alone & (uncertain & below != 0), 1 << bit, 0)
        gone |= np.where(alone, 1 << bit, 0)
    up = insert.copy()
    for bit in _bits(insert):
        up |= np.where(insert >> bit & 1 == 1, vocabulary.ancestors(1 << bit), 0)
    legal &= up & delete == 0
    present, absent, uncertain = kept & ~gone | up, (absent | gone) & ~unsure & ~up, (uncertain | unsure) & ~up
    for bit in _bits(up):
        if beside := vocabulary.excluded(1 << bit):
            legal &= (up >> bit & 1 == 0) | ((present | uncertain) & beside == 0)
    return Vectors(present, absent, uncertain, stated, source.policy), legal


def operation_costs(settings: Plan, vocabulary: Vocabulary) -> dict[str, dict[str, float]]:
    """Kind of operation -> finding -> cost: the finding's own or the general one, by the share that passes."""
    out: dict[str, dict[str, float]] = {}
    for kind, general in (("insert", settings.insert_cost), ("delete", settings.delete_cost)):
        out[kind] = {}
        for name in vocabulary.names:
            cost = getattr(settings.costs.get(name, Effort()), kind)
            rate = getattr(settings.pass_rates.get(name, Effort()), kind)
            out[kind][name] = (general if cost is None else cost) / (1.0 if rate is None else rate)
    return out


def priced(insert: int, delete: int, costs: Mapping[str, Mapping[str, float]], vocabulary: Vocabulary) -> Act:
    """The act of these masks with its cost, the sum of its operations'."""
    cost = sum(costs["insert"][n] for n in vocabulary.unpack(insert)) + sum(
        costs["delete"][n] for n in vocabulary.unpack(delete))
    return Act(insert, delete, float(cost))


def siblings(mask: int, vocabulary: Vocabulary) -> int:
    """Mask of the findings that have a parent in common with one of `mask`, those of it left out."""
    parents = {p for n in vocabulary.unpack(mask) for p in vocabulary[n].parents}
    return vocabulary.mask([f.name for f in vocabulary.findings if parents & set(f.parents)]) & ~mask


def _bits(masks: Ints) -> list[int]:
    every = int(np.bitwise_or.reduce(masks, initial=0))
    return [b for b in range(every.bit_length()) if every >> b & 1]


def _acts(wanted: Wanted, settings: Plan, *, offered: Mapping[str, frozenset[str]], vocabulary: Vocabulary,
          vectors: int) -> list[Act]:
    """Sets of operations that could fill something: fewest operations first, then cheapest, then by masks."""
    can = {kind: vocabulary.mask(sorted(offered[kind])) for kind in ("insert", "delete")}
    costs = operation_costs(settings, vocabulary)
    members = wanted.findings
    insert = (members | vocabulary.descendants(members & ~can["insert"])) & can["insert"]
    unwanted = wanted.unwanted | vocabulary.descendants(wanted.unwanted)
    acts = []
    for inserted in subsets(insert, settings.max_operations):
        up = inserted | vocabulary.ancestors(inserted)
        if up & ~inserted & inserted or vocabulary.ancestors(inserted) & inserted:
            continue
        kin = siblings(inserted, vocabulary) & can["delete"] & ~up
        pool = (unwanted | vocabulary.excluded(up)) & can["delete"] & ~up
        for deleted in subsets(pool | kin, settings.max_operations - inserted.bit_count()):
            if (inserted or deleted) and (deleted & kin & ~pool).bit_count() <= 1:
                acts.append(priced(inserted, deleted, costs, vocabulary))
    acts.sort(key=lambda a: (a.insert.bit_count() + a.delete.bit_count(), a.cost, a.insert, a.delete))
    most = max(1, MOST // max(1, vectors))
    if len(acts) > most:
        patterns = wanted.patterns
        worth = {a: max((n for g, w, n in patterns if a.insert & ~g == 0 and a.delete & ~w == 0), default=0)
                 for a in acts}
        ranked = sorted(acts, key=lambda a: (a.insert.bit_count() + a.delete.bit_count() > 1, -worth[a]))
        single = sum(a.insert.bit_count() + a.delete.bit_count() == 1 for a in acts)
        chosen = set(ranked[:max(most, single)])
        acts = [a for a in acts if a in chosen]
    return acts


def subsets(mask: int, most: int) -> Iterator[int]:
    """Masks of up to `most` of the bits of `mask`, fewest first, the empty one too."""
    bits = [1 << b for b in range(mask.bit_length()) if mask >> b & 1]
    for size in range(most + 1):
        for chosen in combinations(bits, size):
            yield sum(chosen)


def _useful(films: Films, wanted: Wanted, acts: list[Act], vocabulary: Vocabulary,
            plausible: Plausibility | None) -> tuple[Ints, Ints, Ragged]:
    """Edits of vectors that show a pattern newly, whatever the cell: (vector [E], act [E], patterns shown [E])."""
    vectors = films.vectors
    held = vectors.present | vectors.uncertain
    found: list[tuple[Ints, Ints, Ragged]] = []
    waiting: list[tuple[Ints, Ints]] = []

    def settle() -> None:
        vector, act = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        waiting.clear()
        source = vectors_at(vectors, vector)
        insert = np.array([a.insert for a in acts], np.int64)[act]
        delete = np.array([a.delete for a in acts], np.int64)[act]
        target, legal = edited(source, insert, delete, vocabulary)
        if plausible is not None:
            legal[legal] = plausible.films(target.positive[legal])
        places = np.flatnonzero(legal)
        patterns = wanted.shown(vectors_at(source, places), vectors_at(target, places))
        some = np.flatnonzero(patterns.sizes)
        found.append((vector[places[some]], act[places[some]], patterns.take(some)))

    held_back = 0
    for i, a in enumerate(acts):
        fits = np.flatnonzero((held & a.insert == 0) & (vectors.present & a.delete == a.delete)).astype(np.int64)
        waiting.append((fits, np.full(len(fits), i, np.int64)))
        held_back += len(fits)
        if held_back > _BLOCK:
            settle()
            held_back = 0
    if waiting:
        settle()
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), Ragged(np.zeros(1, np.int64), np.zeros(0, np.int64))
    sizes = np.concatenate([p.sizes for *_, p in found])
    return (np.concatenate([v for v, *_ in found]), np.concatenate([a for _, a, _ in found]),
            Ragged(offsets(sizes), np.concatenate([p.values for *_, p in found])))


def vectors_at(vectors: Vectors, places: Ints) -> Vectors:
    """Some of the vectors, in this order."""
    return Vectors(vectors.present[places], vectors.absent[places], vectors.uncertain[places], vectors.stated[places],
                   vectors.policy)


def _first(kind: Ints, filled: Keys, preference: list[NDArray[np.generic]]) -> Ints:
    """Rows that come first by `preference` among those of one kind and one set of gaps."""
    order = np.lexsort((*preference[::-1], filled, kind))
    new = np.ones(len(order), bool)
    new[1:] = (kind[order][1:] != kind[order][:-1]) | (filled[order][1:] != filled[order][:-1])
    return np.sort(order[new])
