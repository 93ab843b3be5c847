"""Small cohorts, their plans, and what a plan must keep to, worked out film by film without a bit mask."""

from __future__ import annotations

import hashlib
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cars_core.coverage.gaps import find_gaps, group_training
from cars_core.coverage.plan import Planned, plan_edits
from cars_core.coverage.plausible import Plausibility
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.policy import Gaps, Plan, Plausible
from schemas.tables import GAPS, PLAN

Row = dict[str, Any]
#: A film: (patient, state of each finding); the oracle works on these, never on bits.
Film = tuple[int, dict[str, str]]

NAMES = ("atelectasis", "effusion", "nodule", "mass", "pneumothorax")


class Cohorts:
    """Makes tables of films and plans for them; edits of everything in NAMES are offered unless said otherwise."""

    def __init__(self) -> None:
        self.names = list(NAMES)
        self.vocabulary = load_vocabulary()
        self.everything = {"insert": frozenset(NAMES), "delete": frozenset(NAMES)}

    def image(self, i: int) -> str:
        return hashlib.sha256(str(i).encode()).hexdigest()

    def table(self, films: list[Film], *, vocabulary: Vocabulary | None = None, **columns: Any) -> pa.Table:
        """Rows of an accepted training cohort; film i is of image(i)."""
        v = vocabulary or self.vocabulary
        vectors = [close_upwards(Vector(**{s: v.mask([n for n, x in states.items() if x == s])
                                           for s in ("present", "absent", "uncertain")}), v) for _, states in films]
        n = len(films)
        ids = [self.image(i) for i in range(n)]
        plain: dict[str, Any] = {
            "record": ids, "image_id": ids, "object": [i[::-1] for i in ids], "patient": [f"p{p}" for p, _ in films],
            "split": ["train"] * n, "status": ["accepted"] * n, "source": ["nih"] * n, "licence": ["CC0"] * n,
            "truth": [f"truth {i}" for i in range(n)]}
        return pa.table({**{k: pa.array(x, pa.string()) for k, x in plain.items()}, **columns,
                         **{k: pa.array([getattr(x, k) for x in vectors], pa.int64())
                            for k in ("present", "absent", "uncertain")}})

    def many(self, n: int = 400, seed: int = 0) -> list[Film]:
        random = Random(seed)
        share = {"atelectasis": 0.3, "effusion": 0.3, "nodule": 0.15, "mass": 0.1, "pneumothorax": 0.05}
        return [(i // 2, {k: "present" if random.random() < p else "absent" for k, p in share.items()})
                for i in range(n)]

    def gaps(self, train: pa.Table, *, names: list[str] | None = None, only_order: int | None = None,
             vocabulary: Vocabulary | None = None, plausible: Plausible | None = None, **policy: Any
             ) -> tuple[pa.Table, Plausibility]:
        v = vocabulary or self.vocabulary
        wish = Gaps(findings=names or self.names, plausible=plausible or Plausible(rule="any"),
                    **{"order": 2, "min_count": 4, **policy})
        rule = Plausibility(wish.plausible, real=np.unique(train["present"].to_numpy()), vocabulary=v)
        found = find_gaps(group_training(train, wish, vocabulary=v), wish, vocabulary=v, plausible=rule)
        return found if only_order is None else found.filter(pc.equal(found["order"], only_order)), rule

    def planned(self, train: pa.Table, *, names: list[str] | None = None, only_order: int | None = None,
                order: int = 2, min_count: int = 4, uncertain: Any = "absent", by: list[str] | None = None,
                patterns: str = "positive", plausible: Plausible | None = None,
                offered: dict[str, frozenset[str]] | None = None, vocabulary: Vocabulary | None = None, seed: int = 1,
                **limits: Any) -> Planned:
        missing, rule = self.gaps(train, names=names, only_order=only_order, order=order, min_count=min_count,
                                  uncertain=uncertain, by=by or [], patterns=patterns, plausible=plausible,
                                  vocabulary=vocabulary)
        made = plan_edits(train, missing, Plan(**limits), offered=offered or self.everything,
                          vocabulary=vocabulary or self.vocabulary, seed=seed, build="b", render_key="k", editor="e",
                          segmenter="s", uncertain=uncertain, plausible=rule)
        assert (made.plan.schema, made.gaps.schema) == (PLAN, GAPS)
        return made

    def plan(self, train: pa.Table, **wish: Any) -> tuple[list[Row], list[Row]]:
        made = self.planned(train, **wish)
        return made.plan.to_pylist(), made.gaps.to_pylist()

    def kinds(self, row: Row) -> list[tuple[str, str]]:
        return [(o["kind"], o["finding"]) for o in row["operations"]]

    def only_deletes(self, row: Row) -> bool:
        return {k for k, _ in self.kinds(row)} == {"delete"}

    def after(self, states: dict[str, str], row: Row) -> dict[str, str]:
        """The edited film's states."""
        return {**states, **{f: "present" if k == "insert" else "absent" for k, f in self.kinds(row)}}

    def shows(self, states: dict[str, str], gap: Row, uncertain: str) -> bool:
        """Whether a film of these states shows a gap's pattern."""
        here = {"present", "uncertain"} if uncertain == "present" else {"present"}
        not_gone = {"present"} if uncertain == "absent" else {"present", "uncertain"}
        for name in gap["findings"]:
            if name.startswith("no "):
                if states.get(name[3:], "") in not_gone:
                    return False
            elif states.get(name, "") not in here:
                return False
        return True

    def newly(self, films: list[Film], rows: list[Row], gap: Row, uncertain: str = "absent",
              cells: list[str] | None = None) -> int:
        """How many edits fill a gap, counted film by film. cells: each film's, where a gap has one."""
        number = {self.image(i): i for i in range(len(films))}
        count: Counter[str] = Counter()
        for row in rows:
            i = number[row["image_id"]]
            states = films[i][1]
            inside = cells is None or gap["cell"] in ("", cells[i])
            if inside and self.shows(self.after(states, row), gap, uncertain) and not self.shows(
                    states, gap, uncertain):
                count["newly"] += 1
        return count["newly"]


@pytest.fixture(scope="session")
def cohorts() -> Cohorts:
    return Cohorts()
