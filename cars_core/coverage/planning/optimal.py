"""The strategy `optimal`: proven fewest edits, by integer programming, for small problems."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_array, csr_array, vstack

from cars_core.coverage.planning.cover import Cover, Edits, Problem, greedy
from cars_core.coverage.planning.ragged import Ragged
from schemas.errors import BadInput

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Pairs of a move and a kind of film; gaps.
MOST_COLUMNS, MOST_GAPS = 20_000, 600
_NODES = 200_000  # of the search tree: where it ends does not hang on the machine's speed


def optimal(problem: Problem) -> Edits:
    """The plan that fills most, with the fewest edits, at the least cost, in this order; proven so.

    Films' caps bind in the programme; patients' caps are left out of it: where they forbid a film it wants, what stays
    open is filled greedily as far as they allow, and the gaps that stay short say so. The same holds for films that the
    share of deletions takes.

    Raises:
        BadInput: more than MOST_COLUMNS pairs of a move and a kind of film, or more than MOST_GAPS gaps, or a search
            that is not over after a fixed number of steps.
    """
    moves, wanted = problem.moves, problem.wanted
    gaps = np.unique(moves.fills.values)
    for what, size, most in (("moves", len(moves.act_of), MOST_COLUMNS), ("gaps", len(gaps), MOST_GAPS)):
        if size > most:
            raise BadInput("plan.strategy", f"optimal, with {size:,} {what}", f"at most {most:,}; fewest has no limit")
    cover = Cover(problem)
    if len(gaps):
        columns, supply = _columns(problem)
        for column, count in enumerate(_solved(problem, columns, supply, gaps, wanted.lacks[gaps])):
            m, places = columns.move[column], columns.places[column]
            if count:
                cover.take(m, count, only=places)
        greedy(cover)
        while cover.drop_needless() and greedy(cover):
            pass
    return cover.edits()


class _Columns:
    """Moves on kinds of films that share a supply: kinds with the very same moves are one."""

    def __init__(self, move: list[int], places: list[Ints], supplier: Ints) -> None:
        self.move, self.places, self.supplier = move, places, supplier


def _columns(problem: Problem) -> tuple[_Columns, Ints]:
    moves, films = problem.moves, problem.films
    count = np.bincount(films.kind, minlength=len(films.kind_vector)) * problem.settings.per_film
    order = np.lexsort((moves.kinds.owner, moves.kinds.values))
    by_kind: dict[int, list[int]] = {}
    for kind, m in zip(moves.kinds.values[order].tolist(), moves.kinds.owner[order].tolist(), strict=True):
        by_kind.setdefault(kind, []).append(m)
    alike: dict[tuple[int, ...], int] = {}
    supplier_of = {kind: alike.setdefault(tuple(ms), len(alike)) for kind, ms in by_kind.items()}
    supply = np.zeros(len(alike), np.int64)
    for kind, s in supplier_of.items():
        supply[s] += count[kind]
    move: list[int] = []
    places: list[Ints] = []
    supplier: list[int] = []
    for m in range(len(moves)):
        of = np.array([supplier_of[k] for k in moves.kinds[m].tolist()], np.int64)
        for s in np.unique(of).tolist():
            move.append(m)
            places.append(np.flatnonzero(of == s).astype(np.int64))
            supplier.append(s)
    return _Columns(move, places, np.array(supplier, np.int64)), supply


def _solved(problem: Problem, columns: _Columns, supply: Ints, gaps: Ints, lacks: Ints) -> list[int]:
    """How often each column is carried out, in three programmes: least short, then fewest, then cheapest."""
    moves = problem.moves
    fills = moves.fills.take(np.array(columns.move, np.int64))
    place = np.searchsorted(gaps, fills.values)
    n, g = len(columns.move), len(gaps)
    covers = csr_array((np.ones(len(place)), place, fills.start), shape=(n, g)).T
    uses = csr_array((np.ones(n), (columns.supplier, np.arange(n))), shape=(len(supply), n))
    matrix = block_array([[covers, csr_array(np.eye(g))], [uses, csr_array((len(supply), g))]], format="csr")
    low = np.concatenate([lacks, np.zeros(len(supply))]).astype(float)
    high = np.concatenate([np.full(g, np.inf), supply]).astype(float)
    most = np.minimum(supply[columns.supplier], [int(lacks[np.searchsorted(gaps, f)].max()) for f in _lists(fills)])
    short = np.concatenate([np.zeros(n), np.ones(g)])
    edits = 1.0 - short
    cost = np.concatenate([moves.cost[columns.move], np.zeros(g)])
    rows: list[csr_array] = [matrix]
    upper = np.concatenate([most, lacks]).astype(float)
    x = np.zeros(n + g)
    for goal, whole in ((short, True), (edits, True), (cost, False)):
        stacked = vstack(rows, format="csr")
        solved = milp(goal, constraints=LinearConstraint(stacked, low, high), integrality=np.ones(n + g),
                      bounds=Bounds(0, upper), options={"node_limit": _NODES, "mip_rel_gap": 0.0})
        if solved.x is None or solved.status != 0:
            raise BadInput("plan.strategy", f"optimal, not proven after {_NODES:,} steps",
                           "a smaller problem, or fewest")
        x = np.round(solved.x)
        if whole:  # what was reached is kept while the next goal is pursued
            rows.append(csr_array(goal[None, :]))
            low, high = np.append(low, 0.0), np.append(high, float(goal @ x))
    return [int(v) for v in x[:n]]


def _lists(fills: Ragged) -> list[Ints]:
    return [fills[i] for i in range(len(fills))]
