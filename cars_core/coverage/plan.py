"""The plan: the smallest edits of training films that fill the gaps, under caps, all randomness drawn.

Gaps take turns (the largest deficit first), each turn planning the cheapest edit left for its gap; an
edit counts for every gap its target holds. In between, pure deletions are planned up to their share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cars_core.coverage.gaps import COUNTS, Uncertain, refuse_outside_train
from cars_core.coverage.sources import Films, Level, Pick, Queue, deletions, insertions
from cars_core.coverage.targets import Operation, target_vector
from cars_core.digest import digest, seed_from
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Plan
from schemas.tables import GAPS, PLAN

#: Severities are drawn evenly from here, in hundredths: below, findings are hard to see at all.
SEVERITY = (0.4, 0.9)

_NEEDED = ("image_id", "object", "patient", "split", "status", "source", "licence", "truth", "record",
           "present", "absent", "uncertain")


def plan_edits(train: pa.Table, gaps: pa.Table, settings: Plan, *, offered: Mapping[str, frozenset[str]],
               vocabulary: Vocabulary, seed: int, build: str, render_key: str, editor: str, segmenter: str,
               uncertain: Uncertain = "absent") -> tuple[pa.Table, pa.Table]:
    """Plan edits of training films for every gap, and say of each gap what came of it.

    An insertion edit makes the members of a gap present that its film lacks (absent or unmentioned ones,
    never uncertain ones) and leaves the film's other findings alone, unless the vocabulary excludes them.
    A deletion edit takes one finding from a film that holds two or more; the gap alone is left where
    such films exist, else the combination left is the rarest on the training films, and the row's `gap`
    is that combination (the one row whose gap the table of gaps may lack). At least
    floor(`settings.deletions` * edits) are deletion edits, as far as such films exist, at every rank.

    Side, severity and seed of an edit are drawn from (seed, image_id, operations), and from nothing else
    but how often the very same edit was planned before, so a row does not hang on other rows. Inserted
    findings that lie on one side get left or right; deleted ones both, since labels do not say where a
    finding is. `edit_id` is the digest of [image_id, object, operations, seed, render_key]: the film as it is edited,
    not only as it was read.

    Args:
        train: rows of COHORT, all accepted and of split train. Their order does not matter.
        gaps: what `find_gaps` returned for these films.
        settings: the recipe's section `plan`.
        offered: {"insert": findings, "delete": findings} the editor can do.
        vocabulary: names and implications.
        seed: the recipe's seed, 0 .. 2**63 - 1.
        build, render_key, editor, segmenter: digests that go into the rows; `render_key` stands for all that
            decides an edit's pixels beside the plan (weights, settings, code).
        uncertain: how an uncertain finding counts, as in the recipe's section `gaps`.

    Returns:
        (plan [edits] in the columns of PLAN, ranked; gaps [as given] in the columns of GAPS). `planned` counts
        the edits whose target holds the gap. A gap that stays short says why in `reason`; `fillable` is false
        where no film could be edited to hold it.

    Raises:
        BadInput: a film of another split or not accepted, a column or offer missing, an unknown finding.
    """
    refuse_outside_train(train, _NEEDED)
    for name in COUNTS.names:
        if name not in gaps.column_names:
            raise BadInput("gaps", ", ".join(gaps.column_names), f"a column {name}")
    if set(offered) != {"insert", "delete"}:
        raise BadInput("offered", ", ".join(sorted(offered)), "insert and delete")
    vocabulary.mask(tuple(offered["insert"] | offered["delete"]))  # refuses names the vocabulary lacks
    films = Films(train, seed=seed, vocabulary=vocabulary, uncertain=uncertain)
    rows = sorted(gaps.select(COUNTS.names).to_pylist(), key=lambda r: (-r["deficit"], -r["order"], r["gap"]))
    planner = _Planner(films, rows, settings, offered=offered, vocabulary=vocabulary, seed=seed)
    planner.run()
    constant = {"build": build, "editor": editor, "segmenter": segmenter}
    made: dict[tuple[str, tuple[Operation, ...]], int] = {}
    edits = []
    sources = films.rows.take(pa.array([pick.film for pick, *_ in planner.edits], pa.int64())).to_pylist()
    for rank, (film, (pick, gap, target)) in enumerate(zip(sources, planner.edits, strict=True)):
        copy = made.get((film["image_id"], pick.operations), 0)
        made[film["image_id"], pick.operations] = copy + 1
        operations, edit_seed = _draw(pick.operations, seed=seed, image_id=film["image_id"], copy=copy,
                                      vocabulary=vocabulary)
        edits.append({
            **constant, "edit_id": digest(
                [film["image_id"], film["object"], operations, edit_seed, render_key], length=32),
            "rank": rank, "image_id": film["image_id"], "object": film["object"], "patient": film["patient"],
            "operations": operations, "source_present": film["present"], "present": target.present,
            "absent": target.absent, "uncertain": target.uncertain, "gap": gap, "cost": pick.cost,
            "seed": edit_seed, "licence": film["licence"], "truth": film["truth"]})
    outcome = {row["gap"]: {"build": build, **row, **planner.outcome(i)} for i, row in enumerate(rows)}
    in_order = [outcome[g] for g in gaps["gap"].to_pylist()]
    return pa.Table.from_pylist(edits, schema=PLAN), pa.Table.from_pylist(in_order, schema=GAPS)


def _draw(operations: tuple[Operation, ...], *, seed: int, image_id: str, copy: int,
          vocabulary: Vocabulary) -> tuple[list[dict[str, Any]], int]:
    """Sides, severities and the edit's own seed. Straight from digests: no generator's stream to keep stable."""
    what = [list(o) for o in operations]
    low, high = (round(100 * s) for s in SEVERITY)
    drawn = []
    for kind, finding in operations:
        one_sided = kind == "insert" and vocabulary[finding].sided
        side = ("left", "right")[seed_from(seed, image_id, what, copy, finding, "side") % 2]
        severity = low + seed_from(seed, image_id, what, copy, finding, "severity") % (high - low + 1)
        drawn.append({"kind": kind, "finding": finding, "side": side if one_sided else "both",
                      "severity": severity / 100})
    return drawn, seed_from(seed, image_id, what, copy, "edit")


class _Planner:
    """Takes edits from the gaps' queues in turn. `edits` holds (pick, gap, target), in rank order."""

    def __init__(self, films: Films, gaps: list[dict[str, Any]], settings: Plan, *,
                 offered: Mapping[str, frozenset[str]], vocabulary: Vocabulary, seed: int) -> None:
        self._films, self._gaps, self._settings = films, gaps, settings
        self._offered, self._vocabulary = offered, vocabulary
        self._masks = np.array([g["gap"] for g in gaps], np.int64)
        self._deficit = np.array([g["deficit"] for g in gaps], np.int64)
        self._planned = np.zeros(len(gaps), np.int64)
        self._film_used = np.zeros(len(films.ids), np.int64)
        self._patient_used = np.zeros(int(films.patient.max(initial=-1)) + 1, np.int64)
        self._exhausted = np.zeros(len(gaps), bool)
        self._deletions = 0
        self._deleted: set[tuple[int, tuple[Operation, ...]]] = set()
        self.edits: list[tuple[Pick, int, Vector]] = []
        self._insert = [self._queue(g, seed) for g in gaps]
        fillable = [g["gap"] for g in gaps if g["fillable"]]
        exact, rare = deletions(films, fillable, settings, offered=offered, vocabulary=vocabulary)

        def once(left: int, levels: list[Level]) -> Queue:
            return Queue(films, levels, salt=seed_from(seed, left, "delete"), passes=1)

        self._exact = {g: once(g, levels) for g, levels in exact.items()}
        self._exact_taken = dict.fromkeys(self._exact, 0)
        self._rare = [(left, once(left, [level])) for left, level in rare]

    def _queue(self, gap: dict[str, Any], seed: int) -> Queue:
        levels = insertions(self._films, gap["gap"], self._settings, offered=self._offered,
                            vocabulary=self._vocabulary) if gap["fillable"] else []
        return Queue(self._films, levels, salt=seed_from(seed, gap["gap"], "insert"), passes=self._settings.per_film)

    def run(self) -> None:
        """Round after round, one edit a gap, until nothing is short, nothing is left or the cap is met."""
        going = True
        while going:
            going = False
            for i in range(len(self._gaps)):
                while not self._full() and self._short(i) and self._deletion_due() and self._delete():
                    going = True
                if self._full():
                    return
                if self._short(i) and not self._exhausted[i]:
                    pick = self._insert[i].take(self._blocked)
                    if pick is None:
                        self._exhausted[i] = True
                    else:
                        self._add(pick, self._gaps[i]["gap"])
                        going = True

    def outcome(self, i: int) -> dict[str, Any]:
        """planned, fillable and reason of one gap."""
        gap, planned = self._gaps[i], int(self._planned[i])
        if not gap["fillable"] or planned >= gap["deficit"]:
            return {"planned": planned, "fillable": gap["fillable"], "reason": gap["reason"]}
        if not self._insert[i]:
            return {"planned": planned, "fillable": planned > 0, "reason": self._why_no_source(gap["gap"])}
        caps = sorted(self._insert[i].blocked_by or {"per_film"}) if self._exhausted[i] else ["max_edits"]
        return {"planned": planned, "fillable": True, "reason": "caps reached: " + ", ".join(caps)}

    def _why_no_source(self, gap: int) -> str:
        missing = gap & ~self._vocabulary.mask(tuple(self._offered["insert"]))
        everything = {k: frozenset(self._vocabulary.names) for k in ("insert", "delete")}
        if missing and insertions(self._films, gap, self._settings, offered=everything, vocabulary=self._vocabulary):
            return "editor does not insert " + ", ".join(self._vocabulary.unpack(missing))
        return f"no training film within {self._settings.max_operations} operations"

    def _full(self) -> bool:
        return len(self.edits) >= self._settings.max_edits

    def _short(self, i: int) -> bool:
        return bool(self._planned[i] < self._deficit[i])

    def _blocked(self, film: int, operations: tuple[Operation, ...]) -> str | None:
        if self._film_used[film] >= self._settings.per_film:
            return "per_film"
        if self._patient_used[self._films.patient[film]] >= self._settings.per_patient:
            return "per_patient"
        return None

    def _deletion_due(self) -> bool:
        # 1e-9: 0.29 * 100 is 28.999999999999996.
        return self._deletions < int(self._settings.deletions * (len(self.edits) + 1) + 1e-9)

    def _delete(self) -> bool:
        """Plan one deletion: for the gap that is short and had the fewest, then any gap, then the rarest rest."""
        order = [(not self._short(i), self._exact_taken[g["gap"]], i) for i, g in enumerate(self._gaps)
                 if g["gap"] in self._exact]
        for *_, i in sorted(order):
            gap = self._gaps[i]["gap"]
            if self._take_deletion(self._exact[gap], gap):
                self._exact_taken[gap] += 1
                return True
            del self._exact[gap]
        while self._rare:
            left, queue = self._rare[0]
            if self._take_deletion(queue, left):
                return True
            self._rare.pop(0)
        return False

    def _take_deletion(self, queue: Queue, gap: int) -> bool:
        def blocked(film: int, operations: tuple[Operation, ...]) -> str | None:
            # One and the same deletion may leave two gaps; a second copy of it would show nothing new.
            return "planned already" if (film, operations) in self._deleted else self._blocked(film, operations)

        pick = queue.take(blocked)
        if pick is None:
            return False
        self._add(pick, gap)
        self._deletions += 1
        self._deleted.add((pick.film, pick.operations))
        return True

    def _add(self, pick: Pick, gap: int) -> None:
        kind = self._films.kinds[int(self._films.kind[pick.film])]
        target = target_vector(kind.vector, pick.operations, vocabulary=self._vocabulary, stated=kind.stated)
        self._planned += self._films.positive(target) & self._masks == self._masks
        self._film_used[pick.film] += 1
        self._patient_used[self._films.patient[pick.film]] += 1
        self.edits.append((pick, gap, target))
