"""What a set of films covers and lacks: counts of combinations, gaps, maximal uncovered patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from cars_core.coverage.gaps import all_counts, of_their_own, rank_gaps
from cars_core.coverage.group import Grouped, group_films
from cars_core.coverage.plausible import Plausibility, held_apart
from cars_core.coverage.uncovered import uncovered
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps


@dataclass(frozen=True, eq=False)
class Survey:
    """A survey of some films.

    Attributes:
        films: how many.
        distinct_vectors: different finding vectors among them, of the findings asked for.
        grouped: the films.
        counts: every combination in every cell (`gaps.all_counts`).
        gaps: those with a deficit, ranked (`gaps.find_gaps`).
        uncovered: maximal uncovered patterns (`uncovered.uncovered`).
        settings: the policy.
        vocabulary: names the bits.
    """

    films: int
    distinct_vectors: int
    grouped: Grouped
    counts: pa.Table
    gaps: pa.Table
    uncovered: pa.Table
    settings: Gaps
    vocabulary: Vocabulary

    def orders(self, cell: str = "") -> dict[str, dict[str, int]]:
        """Number of findings -> combinations of so many, of those how many are below what is needed, and how many no
        film shows (they are below too): `{"2": {"patterns": 91, "below": 9, "absent": 0}, ...}`.

        Combinations of their own, all findings present, in one cell.

        Raises:
            BadInput: a cell in which no film lies.
        """
        own = self.counts.filter(pc.and_(pc.equal(self.counts["cell"], cell), pc.equal(self.counts["without"], 0)))
        if not own.num_rows:
            raise BadInput("cell", cell, "one of " + ", ".join(map(repr, pc.unique(self.counts["cell"]).to_pylist())))
        own = own.filter(of_their_own(own, vocabulary=self.vocabulary))
        order, observed, needed = (own[c].to_numpy() for c in ("order", "observed", "needed"))
        return {str(k): {"patterns": int((order == k).sum()), "below": int((observed < needed)[order == k].sum()),
                         "absent": int((observed == 0)[order == k].sum())} for k in np.unique(order).tolist()}

    def as_json(self) -> dict[str, Any]:
        """Plain types: films, distinct_vectors, orders, gaps, uncovered; with attributes also cells (cell -> its films
        and orders). `cell` is left out of gaps and patterns over all films."""
        out: dict[str, Any] = {"films": self.films, "distinct_vectors": self.distinct_vectors, "orders": self.orders()}
        if self.grouped.by:
            out["cells"] = {name: {"films": int(self.grouped.films[inside].sum()), "orders": self.orders(name)}
                            for name, inside in self.grouped.cells() if name and inside.any()}
        return out | {"gaps": [_gap(row) for row in self.gaps.to_pylist()],
                      "uncovered": [_pattern(row) for row in self.uncovered.to_pylist()]}


def survey(films: pa.Table | pds.Dataset, settings: Gaps, *, vocabulary: Vocabulary,
           level: int | None = None) -> Survey:
    """Survey films.

    Args:
        films: as `group_films` reads them, of whatever splits. The attribute `split` keeps them apart.
        settings: the policy. A pattern of fewer than its `min_count` films is uncovered.
        vocabulary: names the bits.
        level: values (findings and attributes) of the largest uncovered patterns looked for; `settings.order` by
            default.

    Raises:
        BadInput: as `group_films`, `all_counts`, `uncovered` and `Plausibility`.
    """
    grouped = group_films(films, mask=vocabulary.mask(settings.findings), by=settings.by)
    real = np.unique(grouped.positive(settings.uncertain))
    rule = held_apart(settings.plausible, _sources(films))
    plausible = Plausibility(rule, real=real, vocabulary=vocabulary, findings=settings.findings)
    counts = all_counts(grouped, settings, vocabulary=vocabulary, plausible=plausible)
    vectors = np.unique(np.stack([grouped.present, grouped.absent, grouped.uncertain]), axis=1)
    return Survey(
        grouped.total, vectors.shape[1], grouped, counts, rank_gaps(counts, vocabulary=vocabulary),
        uncovered(grouped, findings=settings.findings, threshold=settings.min_count,
                  level=settings.order if level is None else level, uncertain=settings.uncertain,
                  vocabulary=vocabulary, plausible=plausible),
        settings, vocabulary)


def _sources(films: pa.Table | pds.Dataset) -> list[str]:
    if "source" not in films.schema.names:
        return []
    column = films if isinstance(films, pa.Table) else films.to_table(columns=["source"])
    return list(pc.unique(column["source"]).to_pylist())


def _gap(row: dict[str, Any]) -> dict[str, Any]:
    return {"findings": row["findings"], **_cell(row), "observed": row["observed"],
            "expected": round(row["expected"], 2),
            **{k: None if row[k] is None else round(row[k], 3) for k in ("lift", "lift_low", "lift_high")},
            **{k: row[k] for k in ("needed", "deficit", "fillable", "reason")}}


def _pattern(row: dict[str, Any]) -> dict[str, Any]:
    return {"level": row["level"], "findings": row["findings"], **_cell(row),
            **{k: row[k] for k in ("observed", "possible", "reason")}}


def _cell(row: dict[str, Any]) -> dict[str, str]:
    return {"cell": row["cell"]} if row["cell"] else {}
