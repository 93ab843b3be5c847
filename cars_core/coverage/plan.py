"""The plan: the fewest edits of training films that fill the gaps, under caps, all randomness drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.coverage.gaps import COUNTS
from cars_core.coverage.planning.bound import lower_bound
from cars_core.coverage.planning.controls import at_random, min_gap
from cars_core.coverage.planning.cover import Edits, Problem, Strategy, fewest
from cars_core.coverage.planning.deletions import Deletion, Pattern, floor_share
from cars_core.coverage.planning.draw import draw
from cars_core.coverage.planning.films import Films
from cars_core.coverage.planning.moves import edited, find_moves, vectors_at
from cars_core.coverage.planning.optimal import optimal
from cars_core.coverage.planning.ragged import Ragged
from cars_core.coverage.planning.unfilled import why_short
from cars_core.coverage.planning.wanted import Wanted
from cars_core.coverage.plausible import Plausibility
from cars_core.digest import digest
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import Plan, Uncertain
from schemas.tables import GAPS, PLAN

Ints = NDArray[np.int64]

#: Short combinations that are planned for at once: 19,000 take 1.3 GiB, six times as many more than a machine has.
MOST_GAPS = 50_000

STRATEGIES: Mapping[str, Strategy] = {"fewest": fewest, "optimal": optimal, "min_gap": min_gap, "random": at_random}


@dataclass(frozen=True)
class Summary:
    """A plan in numbers.

    planned: edits, `deletions` of them only delete. gaps: rows given; fillable: those that some edit can fill; closed:
    those whose deficit is met. missing: films that fillable gaps lack; filled: edits counted for them, none beyond its
    deficit. bound: edits that those counts need at least, with films' caps but no others and without the share of
    deletions. cost: of all edits; operations: how many.
    """

    strategy: str
    planned: int
    deletions: int
    gaps: int
    fillable: int
    closed: int
    missing: int
    filled: int
    bound: int
    cost: float
    operations: int


@dataclass(frozen=True, eq=False)
class Planned:
    """plan: the edits, ranked, in the columns of PLAN. gaps: as given, in the columns of GAPS."""

    plan: pa.Table
    gaps: pa.Table
    summary: Summary


@dataclass(frozen=True, eq=False)
class Ranked:
    """The first `max_edits` edits in the order in which they are made.

    film, act: int64 [E]; fills: the gaps each newly fills; left: what a deletion leaves, None for other edits.
    """

    film: Ints
    act: Ints
    fills: Ragged
    left: list[Pattern | None]

    def planned(self, gaps: int) -> Ints:
        """int64 [gaps]: edits that fill each."""
        return np.bincount(self.fills.values, minlength=gaps).astype(np.int64)


def plan_edits(train: pa.Table, gaps: pa.Table, settings: Plan, *, offered: Mapping[str, frozenset[str]],
               vocabulary: Vocabulary, seed: int, build: str, render_key: str, editor: str, segmenter: str,
               uncertain: Uncertain = "absent", plausible: Plausibility | None = None) -> Planned:
    """Plan edits of training films for every gap, and say of each gap what came of it.

    An edit counts for a gap when the edited film shows its pattern, the source did not, and the source lies in its
    cell. Which edits are possible: `find_moves`. Which are chosen: `settings.strategy` (`fewest`, `optimal`, `min_gap`,
    `at_random`). At least floor(`settings.deletions` * edits) only delete, at every rank, as far as caps leave such
    films (`Deletions`; not under `random`, which draws deletions like other edits).

    Edits that fill the same gaps take turns with those that fill others, so that a short budget is shared. The plan is
    made to its end and cut at `settings.max_edits`: a smaller budget gives the first rows of the same plan.

    Side, severity and seed of an edit are drawn from (seed, image_id, operations), and from nothing else but how often
    the very same edit was planned before, so a row does not hang on other rows. `edit_id` is the digest of
    [image_id, object, operations, seed, render_key]: the film as it is edited, not only as it was read. `gap`,
    `without` and `cell` of an edit are those of the gap of largest deficit that it fills and that was short till then;
    of a deletion for the share, what it leaves on the film (0 for nothing); 0 where a random edit fills no gap.

    Args:
        train: rows of COHORT, all accepted and of split train, or label rows without image_id and object: these are
            planned over by `record`, which then stands in both columns. Their order does not matter.
        gaps: what `find_gaps` returned for these films.
        settings: the recipe's section `plan`.
        offered: {"insert": findings, "delete": findings} the editor can do.
        vocabulary: names and implications.
        seed: the recipe's seed, 0 .. 2**63 - 1.
        build, render_key, editor, segmenter: digests that go into the rows; `render_key` stands for all that
            decides an edit's pixels beside the plan (weights, settings, code).
        uncertain: how an uncertain finding counts, as in the recipe's section `gaps`.
        plausible: which films may be made; None asks nothing.

    Raises:
        BadInput: a film of another split or not accepted, a column or offer missing, an unknown finding or level of the
            population, or a problem too large for the strategy `optimal`.
    """
    problem = pose(train, gaps, settings, offered=offered, vocabulary=vocabulary, seed=seed, uncertain=uncertain,
                   plausible=plausible)
    edits = STRATEGIES[settings.strategy](problem)
    ranked = rank(edits, problem)
    constant = {"build": build, "editor": editor, "segmenter": segmenter}
    rows = [{**constant, **row} for row in _rows(train, ranked, edits, problem, render_key)]
    wanted = problem.wanted
    planned = ranked.planned(len(wanted))
    why, fillable = why_short(problem, edits, planned)
    told = [{"build": build, **row, "planned": int(n), "fillable": bool(can), "reason": reason}
            for row, n, can, reason in zip(wanted.rows, planned, fillable, why, strict=True)]
    in_order = sorted(zip(wanted.place, told, strict=True), key=lambda pair: pair[0])
    return Planned(pa.Table.from_pylist(rows, schema=PLAN), pa.Table.from_pylist([r for _, r in in_order], schema=GAPS),
                   summarize(ranked, edits, problem, fillable))


def pose(train: pa.Table, gaps: pa.Table, settings: Plan, *, offered: Mapping[str, frozenset[str]],
         vocabulary: Vocabulary, seed: int, uncertain: Uncertain = "absent",
         plausible: Plausibility | None = None) -> Problem:
    """What a strategy is to solve; arguments and errors as `plan_edits`."""
    for name in COUNTS.names:
        if name not in gaps.column_names:
            raise BadInput("gaps", ", ".join(gaps.column_names), f"a column {name}")
    if gaps.num_rows > MOST_GAPS:
        raise BadInput("gaps", f"{gaps.num_rows:,} combinations that are short",
                       f"at most {MOST_GAPS:,}: fewer findings or attributes, a lower order or count")
    if set(offered) != {"insert", "delete"}:
        raise BadInput("offered", ", ".join(sorted(offered)), "insert and delete")
    for names in (offered["insert"] | offered["delete"], settings.costs, settings.pass_rates):
        vocabulary.mask(sorted(names))  # refuses names the vocabulary lacks
    wanted = Wanted(gaps.select(COUNTS.names))
    films = Films(train, seed=seed, vocabulary=vocabulary, uncertain=uncertain, by=wanted.by, balance=settings.balance,
                  population=dict(settings.population.items()))
    moves = find_moves(films, wanted, settings, offered=offered, vocabulary=vocabulary, seed=seed, plausible=plausible)
    return Problem(films, wanted, moves, settings, offered, vocabulary, seed, plausible)


def rank(edits: Edits, problem: Problem) -> Ranked:
    """The order in which edits are made, deletions among them, cut at the budget."""
    settings = problem.settings
    first = np.unique(edits.group, return_index=True)[1][np.unique(edits.group, return_inverse=True)[1].reshape(-1)]
    by_group = np.argsort(edits.group, kind="stable")
    begin = np.searchsorted(edits.group[by_group], edits.group[by_group])
    turn = np.empty(len(edits.film), np.int64)
    turn[by_group] = np.arange(len(edits.film)) - begin
    order = np.lexsort((first, turn)).tolist()
    deletes = np.array([a.insert == 0 for a in edits.acts], bool)[edits.act] if edits.acts else np.zeros(0, bool)
    share = 0.0 if edits.deletions is None else settings.deletions
    planned = [] if edits.deletions is None else sorted(edits.deletions.planned, key=lambda d: d.turn)
    sequence = list(_interleaved(order, deletes.tolist(), planned, share, settings.max_edits))
    known = {a: i for i, a in enumerate(edits.acts)}
    extra = [] if edits.deletions is None else edits.deletions.acts
    for a in extra:
        if a not in known:
            known[a] = len(edits.acts)
            edits.acts.append(a)
    film: list[int] = []
    act: list[int] = []
    left: list[Pattern | None] = []
    fills: list[Ints] = []
    for e in sequence:
        if isinstance(e, Deletion):
            film.append(e.film)
            act.append(known[extra[e.act]])
            left.append(e.left)
            fills.append(np.array(e.fills, np.int64))
        else:
            film.append(int(edits.film[e]))
            act.append(int(edits.act[e]))
            left.append(None)
            fills.append(edits.fills[e])
    start = np.cumsum([0, *map(len, fills)]).astype(np.int64)
    return Ranked(np.array(film, np.int64), np.array(act, np.int64),
                  Ragged(start, np.concatenate([np.zeros(0, np.int64), *fills])), left)


def summarize(ranked: Ranked, edits: Edits, problem: Problem, fillable: NDArray[np.bool_]) -> Summary:
    """The plan in numbers; fillable: bool [G], gaps that some edit can fill."""
    wanted = problem.wanted
    planned = ranked.planned(len(wanted))
    deficit = np.array([r["deficit"] for r in wanted.rows], np.int64)
    filled = np.where(fillable, np.minimum(planned, wanted.lacks), 0)
    acts = [edits.acts[a] for a in ranked.act.tolist()]
    return Summary(
        strategy=problem.settings.strategy, planned=len(acts), deletions=sum(a.insert == 0 for a in acts),
        gaps=len(wanted), fillable=int(fillable.sum()), closed=int((planned >= deficit).sum()),
        missing=int(deficit[fillable].sum()), filled=int(filled.sum()), bound=_bound(ranked, filled, problem),
        cost=float(sum(a.cost for a in acts)), operations=sum((a.insert | a.delete).bit_count() for a in acts))


def _bound(ranked: Ranked, filled: Ints, problem: Problem) -> int:
    """The bound over all possible edits, and the plan's own: drawn at random, one may be none of those searched for."""
    moves, films = problem.moves, problem.films
    supply = np.bincount(films.kind, minlength=len(films.kind_vector)) * problem.settings.per_film
    fills = Ragged(np.concatenate([moves.fills.start, moves.fills.start[-1] + ranked.fills.start[1:]]),
                   np.concatenate([moves.fills.values, ranked.fills.values]))
    sets = np.concatenate([moves.kinds.owner, len(moves) + np.arange(len(ranked.film))])
    return lower_bound(fills, filled, sets=sets,
                       kinds=np.concatenate([moves.kinds.values, films.kind[ranked.film]]), supply=supply)


def _interleaved(order: list[int], deletes: list[bool], planned: list[Deletion], share: float, most: int
                 ) -> Iterator[int | Deletion]:
    """Edits in order with deletions in between where the share calls for one; those that fill gaps at the end."""
    given = done = 0
    waiting = iter(planned)
    ahead = next(waiting, None)
    todo = iter(order)
    edit = next(todo, None)
    while given < most:
        if ahead is not None and done < floor_share(share, given + 1):
            yield ahead
            done += 1
            ahead = next(waiting, None)
        elif edit is not None:
            yield edit
            done += deletes[edit]
            edit = next(todo, None)
        else:
            while ahead is not None and not ahead.fills:
                ahead = next(waiting, None)
            if ahead is None:
                return
            yield ahead
            ahead = next(waiting, None)
        given += 1


def _rows(train: pa.Table, ranked: Ranked, edits: Edits, problem: Problem, render_key: str) -> Iterator[dict[str, Any]]:
    films, vocabulary, wanted = problem.films, problem.vocabulary, problem.wanted
    known = [c for c in ("image_id", "object", "record", "patient", "licence", "truth") if c in train.column_names]
    sources = train.select(known).take(pa.array(films.rows[ranked.film])).to_pylist()
    before = vectors_at(films.vectors, films.kind_vector[films.kind[ranked.film]])
    insert, delete = (np.array([getattr(a, k) for a in edits.acts], np.int64)[ranked.act] if len(ranked.act)
                      else np.zeros(0, np.int64) for k in ("insert", "delete"))
    target, _ = edited(before, insert, delete, vocabulary)
    operations = [a.operations(vocabulary) for a in edits.acts]
    made: dict[tuple[int, int], int] = {}
    planned = [0] * len(wanted)
    lacks = wanted.lacks.tolist()
    for i, (film, act, source, left) in enumerate(zip(ranked.film.tolist(), ranked.act.tolist(), sources, ranked.left,
                                                      strict=True)):
        image_id, file = (source[c] if films.ids == "image_id" else source["record"] for c in ("image_id", "object"))
        copy = made.get((film, act), 0)
        made[film, act] = copy + 1
        drawn, edit_seed = draw(operations[act], seed=problem.seed, image_id=image_id, copy=copy, vocabulary=vocabulary)
        fills = ranked.fills[i].tolist()
        if left is None:
            row = next((r for r in fills if planned[r] < lacks[r]), fills[0] if fills else None)
            left = (0, 0, "") if row is None else (int(wanted.gap[row]), int(wanted.without[row]), wanted.cell[row])
        for r in fills:
            planned[r] += 1
        yield {
            "edit_id": digest([image_id, file, drawn, edit_seed, render_key], length=32), "rank": i,
            "image_id": image_id, "object": file, "patient": source["patient"], "operations": drawn,
            "source_present": int(before.present[i]), "present": int(target.present[i]),
            "absent": int(target.absent[i]), "uncertain": int(target.uncertain[i]), "gap": left[0], "without": left[1],
            "cell": left[2], "cost": edits.acts[act].cost, "seed": edit_seed,
            "licence": source.get("licence") or "", "truth": source.get("truth")}
