"""Control strategies: what the greedy plan is measured against.

`min_gap` fills one gap after the other (as a baseline of Erfanian et al., Chameleon, PVLDB 17, 2024, does);
`random` draws targets with no eye to what is missing, as published work on such edits does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cars_core.coverage.planning.cover import Cover, Edits, Problem
from cars_core.coverage.planning.films import Vectors
from cars_core.coverage.planning.moves import Act, edited, operation_costs, priced, siblings, vectors_at
from cars_core.coverage.planning.ragged import Keys, Ragged, mixed, offsets
from cars_core.digest import seed_from
from cars_core.vocabulary import Vocabulary

Ints = NDArray[np.int64]

#: Draws after which the random strategy gives up.
MOST_DRAWS = 1_000_000

_BLOCK = 1 << 14  # draws made at a time


def min_gap(problem: Problem) -> Edits:
    """Always the gap that lacks fewest, by its cheapest move, whatever else that fills. Needless edits are kept.

    Equally cheap moves come in the order of their digests.
    """
    cover, moves = Cover(problem), problem.moves
    ways: dict[int, list[int]] = {}
    for m in np.lexsort((moves.digest, moves.cost)).tolist():
        for gap in moves.fills[m].tolist():
            ways.setdefault(gap, []).append(m)
    spent: set[int] = set()
    while True:
        lacks = np.where(cover.short(), problem.wanted.lacks - cover.planned, np.iinfo(np.int64).max)
        open_ = [g for g in ways if g not in spent and cover.short()[g]]
        if not open_:
            return cover.edits()
        gap = min(open_, key=lambda g: (int(lacks[g]), g))
        while ways[gap] and cover.short()[gap]:
            wanted = int(problem.wanted.lacks[gap] - cover.planned[gap])
            if cover.take(ways[gap][0], wanted) < wanted:
                ways[gap].pop(0)  # no film is left for it
        if cover.short()[gap]:
            spent.add(gap)


def at_random(problem: Problem) -> Edits:
    """Draw edits until every gap that can be filled is, the budget is spent, or MOST_DRAWS were drawn.

    Films come round after round in the order of their keys. For each, one of four perturbations is drawn: a swap of a
    finding for a sibling, insertion of one finding, insertion of two, deletion of one; then the findings, evenly among
    those offered that the film allows. A draw that is not possible, not plausible, over the plan's operations or over a
    cap is passed over; every other is planned, whether it fills anything or not.
    """
    films, wanted, settings = problem.films, problem.wanted, problem.settings
    reachable = np.zeros(len(wanted), bool)
    reachable[problem.moves.fills.values] = True
    goal = np.where(reachable, wanted.lacks, 0)
    film_used = np.zeros(len(films), np.int64)
    patient_used = np.zeros(int(films.patient.max(initial=-1)) + 1, np.int64)
    planned = np.zeros(len(wanted), np.int64)
    chosen: list[tuple[Ints, Ints, Ints, Ragged]] = []
    count = 0
    for start in range(0, MOST_DRAWS if len(films) else 0, _BLOCK):
        free = (film_used < settings.per_film) & (patient_used[films.patient] < settings.per_patient)
        if count >= settings.max_edits or (planned >= goal).all() or not free.any():
            break
        draws = np.arange(start, min(start + _BLOCK, MOST_DRAWS), dtype=np.int64)
        film = draws % len(films)
        insert, delete, fine = _drawn(problem, film, draws)
        before = vectors_at(films.vectors, films.kind_vector[films.kind[film]])
        target, legal = edited(before, insert, delete, problem.vocabulary)
        fine &= legal & free[film]
        if problem.plausible is not None:
            fine[fine] = problem.plausible.films(target.positive[fine])
        kept = [i for i in np.flatnonzero(fine).tolist()
                if _within(film_used, patient_used, int(film[i]), int(films.patient[film[i]]), problem)]
        at = np.array(kept[:settings.max_edits - count], np.int64)
        inside = wanted.inside(films.values)[films.kind_values[films.kind[film[at]]]]
        fills = wanted.rows_in(wanted.shown(vectors_at(before, at), vectors_at(target, at)), inside)
        at, fills = _until_reached(at, fills, goal - planned)
        planned += np.bincount(fills.values, minlength=len(wanted))
        count += len(at)
        chosen.append((film[at], insert[at], delete[at], fills))
    return _edits(problem, chosen, film_used, patient_used)


def _within(film_used: Ints, patient_used: Ints, film: int, patient: int, problem: Problem) -> bool:
    if film_used[film] >= problem.settings.per_film or patient_used[patient] >= problem.settings.per_patient:
        return False
    film_used[film] += 1
    patient_used[patient] += 1
    return True


def _until_reached(at: Ints, fills: Ragged, missing: Ints) -> tuple[Ints, Ragged]:
    """The edits up to the one with which nothing is missing any more; all where something stays missing."""
    last = 0
    for gap in np.flatnonzero(missing > 0).tolist():
        edits = fills.owner[fills.values == gap]
        if len(edits) < missing[gap]:
            return at, fills
        last = max(last, int(edits[missing[gap] - 1]) + 1)
    return at[:last], fills.take(np.arange(last))


def _drawn(problem: Problem, film: Ints, draws: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Masks inserted and deleted by each draw, and whether the film allows such a perturbation."""
    films, vocabulary = problem.films, problem.vocabulary
    source = vectors_at(films.vectors, films.kind_vector[films.kind[film]])
    can = {kind: vocabulary.mask(sorted(names)) for kind, names in problem.offered.items()}
    free = ~(source.present | source.uncertain) & can["insert"]
    there = _leaves(source, vocabulary) & can["delete"]
    kind = _numbers(problem.seed, draws, 0) % np.uint64(4)
    one = _pick(free, _numbers(problem.seed, draws, 1))
    two = _pick(free & ~one, _numbers(problem.seed, draws, 2))
    gone = _pick(there, _numbers(problem.seed, draws, 3))
    kin = np.zeros_like(gone)
    for bit in np.unique(gone[gone > 0]).tolist():
        kin[gone == bit] = siblings(bit, vocabulary)
    other = _pick(kin & free, _numbers(problem.seed, draws, 4))
    cases = [kind == k for k in range(4)]
    insert = np.select(cases, [other, one, one | two, np.zeros_like(one)])
    delete = np.select(cases, [gone, np.zeros_like(one), np.zeros_like(one), gone])
    fine = np.select(cases, [(gone > 0) & (other > 0), one > 0, two > 0, gone > 0])
    fine &= np.bitwise_count(insert) + np.bitwise_count(delete) <= problem.settings.max_operations
    return insert, delete, fine.astype(bool)


def _leaves(source: Vectors, vocabulary: Vocabulary) -> Ints:
    """Present findings that no other present one implies."""
    out = source.present.copy()
    for f in vocabulary.findings:
        if up := vocabulary.ancestors(1 << f.bit):
            out &= ~np.where(source.present >> f.bit & 1 == 1, up, 0)
    return out


def _pick(masks: Ints, numbers: Keys) -> Ints:
    """One bit of each mask, chosen by a random number; 0 of an empty one."""
    count = np.bitwise_count(masks).astype(np.uint64)
    place = (numbers % np.maximum(count, np.uint64(1))).astype(np.int64)
    left = masks.copy()
    for step in range(int(place.max(initial=0))):
        left = np.where(place > step, left & (left - 1), left)  # drop the lowest bit
    return left & -left


def _numbers(seed: int, draws: Ints, what: int) -> Keys:
    return mixed(draws.astype(np.uint64) ^ np.uint64(seed_from(seed, "random", what)))


def _edits(problem: Problem, chosen: list[tuple[Ints, Ints, Ints, Ragged]], film_used: Ints, patient_used: Ints
           ) -> Edits:
    none = np.zeros(0, np.int64)
    film, insert, delete = (np.concatenate([none, *parts]) for parts in (
        zip(*[c[:3] for c in chosen], strict=True) if chosen else ((), (), ())))
    masks, act = np.unique(np.stack([insert, delete], axis=1), axis=0, return_inverse=True)
    costs = operation_costs(problem.settings, problem.vocabulary)
    acts: list[Act] = [priced(i, d, costs, problem.vocabulary) for i, d in masks.tolist()]
    fills = Ragged(offsets(np.concatenate([none, *(c[3].sizes for c in chosen)])),
                   np.concatenate([none, *(c[3].values for c in chosen)]))
    at_film = film_used >= problem.settings.per_film
    at_patient = ~at_film & (patient_used[problem.films.patient] >= problem.settings.per_patient)
    return Edits(film, act.reshape(-1).astype(np.int64), acts, fills, np.arange(len(film)), None, (at_film, at_patient))
