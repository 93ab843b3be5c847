"""Why a gap stays short, in words for people."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.gaps import COUNTS
from cars_core.coverage.planning.cover import Edits, Problem
from cars_core.coverage.planning.moves import find_moves
from cars_core.coverage.planning.wanted import Wanted

Ints = NDArray[np.int64]


def why_short(problem: Problem, edits: Edits, planned: Ints) -> tuple[list[str | None], NDArray[np.bool_]]:
    """For each gap the reason it stays short, None where it does not, and whether some edit can fill it, bool [G].

    Args:
        problem, edits: what was to be solved, and what the strategy chose before the budget cut it.
        planned: int64 [G], edits of the plan that fill each gap.
    """
    wanted, moves = problem.wanted, problem.moves
    reachable = np.zeros(len(wanted), bool)
    reachable[moves.fills.values] = True
    reachable |= planned > 0
    chosen = np.bincount(edits.fills.values, minlength=len(wanted))
    if edits.deletions is not None:
        for d in edits.deletions.planned:
            chosen[list(d.fills)] += 1
    caps = _caps(problem, edits)
    refused = _refused(problem, [i for i, row in enumerate(wanted.rows) if row["fillable"] and not reachable[i]])
    out: list[str | None] = []
    for i, row in enumerate(wanted.rows):
        if not row["fillable"]:
            out.append(row["reason"])
        elif planned[i] >= row["deficit"]:
            out.append(None)
        elif not reachable[i]:
            out.append(refused[i])
        elif chosen[i] > planned[i]:
            out.append("max_edits reached")
        elif caps[i]:
            out.append("caps reached: " + ", ".join(caps[i]))
        else:
            out.append(f"the strategy {problem.settings.strategy} did not come to it")
    return out, reachable & np.array([r["fillable"] for r in wanted.rows], bool)


def _caps(problem: Problem, edits: Edits) -> list[list[str]]:
    """For each gap the caps that some film of an edit that could fill it is at."""
    films, moves = problem.films, problem.moves
    out: list[list[str]] = [[] for _ in problem.wanted.rows]
    for name, full in zip(("per_film", "per_patient"), edits.full, strict=True):
        kind = np.bincount(films.kind[full], minlength=len(films.kind_vector)) > 0
        at_cap = np.bincount(moves.kinds.owner, weights=kind[moves.kinds.values], minlength=len(moves)) > 0
        for gap in np.unique(moves.fills.values[at_cap[moves.fills.owner]]).tolist():
            out[gap].append(name)
    return out


def _refused(problem: Problem, gaps: list[int]) -> dict[int, str]:
    """For gaps that no edit can fill: what stands against it."""
    if not gaps:
        return {}
    settings, vocabulary = problem.settings, problem.vocabulary
    some = Wanted(pa.Table.from_pylist([problem.wanted.rows[i] for i in gaps], schema=COUNTS))
    everything = {kind: frozenset(vocabulary.names) for kind in ("insert", "delete")}

    def within_reach(plausible: bool) -> NDArray[np.bool_]:
        moves = find_moves(problem.films, some, settings, offered=everything, vocabulary=vocabulary, seed=problem.seed,
                           plausible=problem.plausible if plausible else None)
        found = np.zeros(len(gaps), bool)
        found[moves.fills.values] = True
        return found

    able, conceivable = within_reach(True), within_reach(False)
    can = {kind: vocabulary.mask(sorted(names)) for kind, names in problem.offered.items()}
    out = {}
    for i, gap in enumerate(gaps):  # ranked as `some` ranks them
        lacking = {"insert": vocabulary.unpack(int(some.gap[i]) & ~can["insert"]),
                   "delete": vocabulary.unpack(int(some.without[i]) & ~can["delete"])}
        missing = [f"{kind} {', '.join(names)}" for kind, names in lacking.items() if names]
        if able[i] and missing:
            out[gap] = "editor does not " + " or ".join(missing)
        elif conceivable[i] and not able[i]:
            out[gap] = "on every film near enough it would stand beside findings never to be made with it"
        else:
            out[gap] = f"no training film within {settings.max_operations} operations"
    return out
