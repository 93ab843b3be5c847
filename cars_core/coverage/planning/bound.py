"""How few edits could do at best: a bound below which no plan can stay."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, eye_array

from cars_core.coverage.planning.ragged import Ragged

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDS = 60    # of the search for better prices; the bound holds after any of them
_WORK = 10**8   # rounds times the square of the gaps: a round over 13,000 gaps takes seconds
_AT_ONCE = 300  # edits taken in a round, of as many films and as many sets of gaps
_NEAR = 0.999   # of the optimum: what is gained beyond is not worth the search
_SHORT = 1000.0  # price of leaving a gap one film short, in edits: more than any edit is worth


def lower_bound(fills: Ragged, reached: Ints, *, sets: Ints, kinds: Ints, supply: Ints) -> int:
    """The least number of edits that fill each gap as often as asked, with no film edited more often than it may be.

    It is the optimum of a linear programme, found by column generation: the fewest edits x such that sum of x over
    edits that fill gap g >= reached[g] and sum of x over edits of kind k <= supply[k]. Any prices p of gaps and q of
    films, not negative, under which no edit is worth more than 1 (the gaps it fills, less its film) give a bound: what
    is asked for less what films are there, sum(reached * p) - sum(supply * q) (weak duality). Prices that are not quite
    so yet are divided by the worth of the best edit (Farley, Oper. Res. 38, 1990). So the bound holds even where the
    search stops early, and rounding cannot raise it. Patients' caps and the share of deletions are left out.

    Args:
        fills: sets of gaps that one edit can fill.
        reached: int64 [gaps], how often each is to be filled.
        sets, kinds: int64 [E], possible edits: number in `fills`, and kind of film.
        supply: int64 [kinds], edits that films of each kind allow.

    Returns:
        Edits, 0 or more.
    """
    gaps = np.flatnonzero(reached > 0)
    if not len(gaps) or not len(sets):
        return 0
    place = np.full(len(reached), -1, np.int64)
    place[gaps] = np.arange(len(gaps))
    kept = fills.keep(place[fills.values] >= 0)
    holds = csr_array((np.ones(len(kept.values)), place[kept.values], kept.start), shape=(len(kept), len(gaps)))
    needed, stock = reached[gaps].astype(float), supply.astype(float)
    binding = supply < reached.sum()  # no plan needs more edits than that
    chosen = _best(kept.sizes[sets].astype(float), sets, kinds)
    # Each edit fills a gap once at most, and no more gaps than the best edit does.
    best = max(float(needed.max()), float(needed.sum()) / max(1, int(kept.sizes.max())))
    for _ in range(max(2, min(_ROUNDS, _WORK // len(gaps) ** 2))):
        of, limited = _limits(kinds[chosen], binding)
        total, price, rent = _prices(holds[sets[chosen]], of, needed, stock[limited])
        dues = np.zeros(len(supply))
        dues[limited] = rent
        worth = (holds @ price)[sets] - dues[kinds]
        best = max(best, float(needed @ price - stock @ dues) / max(1.0, float(worth.max())))
        better = np.flatnonzero(worth > 1 + 1e-7)
        if not len(better) or _whole(best) >= _whole(total) or best >= _NEAR * total:
            break
        chosen = np.union1d(chosen, better[_best(worth[better], sets[better], kinds[better])])
    return _whole(best)


def _prices(holds: csr_array, of: csr_array, needed: Floats, stock: Floats) -> tuple[float, Floats, Floats]:
    """Optimum over some edits [n], with prices of gaps and of kinds. holds: [n, gaps]; of: [n, kinds], their kind."""
    gaps = len(needed)
    rows = block_array([[-holds.T, -eye_array(gaps)], [of.T, csr_array((len(stock), gaps))]], format="csr")
    goal = np.concatenate([np.ones(holds.shape[0]), np.full(gaps, _SHORT)])
    solved = linprog(goal, A_ub=rows, b_ub=np.concatenate([-needed, stock]), method="highs")
    if solved.status != 0:  # nothing is learnt: prices of 0 bound by 0
        return 0.0, np.zeros(gaps), np.zeros(len(stock))
    dual = np.maximum(-solved.ineqlin.marginals, 0.0)
    return float(solved.fun), dual[:gaps], dual[gaps:]


def _limits(kinds: Ints, binding: NDArray[np.bool_]) -> tuple[csr_array, Ints]:
    """The kinds whose films could run out, and which of the edits are of them, [edits, kinds]."""
    limited = np.unique(kinds[binding[kinds]])
    rows = np.flatnonzero(binding[kinds])
    places = np.searchsorted(limited, kinds[rows])
    return csr_array((np.ones(len(rows)), (rows, places)), shape=(len(kinds), len(limited))), limited


def _best(worth: Floats, sets: Ints, kinds: Ints) -> Ints:
    """Places of the edits worth most: the best of each set of gaps and of each kind, up to _AT_ONCE of both."""
    out = []
    for group in (sets, kinds):
        order = np.lexsort((-worth, group))
        first = np.ones(len(order), bool)
        first[1:] = group[order][1:] != group[order][:-1]
        leaders = order[first]
        out.append(leaders[np.argsort(-worth[leaders], kind="stable")[:_AT_ONCE]])
    return np.unique(np.concatenate(out)).astype(np.int64)


def _whole(edits: float) -> int:
    return ceil(edits * (1 - 1e-9) - 1e-6)
