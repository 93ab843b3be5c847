"""The evaluation table, arranged for reading: arms abreast, a row a measure, a block a finding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cars_core.report.words import finding_words, number, signed

DIFFERENCE = "difference"
NEUTRAL = ""
# Which way is better. Lower entropy is not better by itself: a model may be surely wrong.
_BETTER = {"AUPRC": 1, "AUROC": 1, "F1": 1, "ECE": -1, "Brier": -1}
_HEADLINE = {"macro": "all findings (macro)", "gaps": "the filled combinations"}


@dataclass(frozen=True)
class Cell:
    """One value and its 95 % interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    difference: bool

    @property
    def excludes_zero(self) -> bool:
        """A difference whose interval lies wholly on one side of zero."""
        if not self.difference or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    @property
    def text(self) -> str:
        if self.value is None:
            return "–"
        show = signed if self.difference else number
        between = f" [{show(self.low)}, {show(self.high)}]" if self.low is not None and self.high is not None else ""
        return show(self.value) + between


@dataclass(frozen=True)
class Row:
    """One measure over the arms. `plot` holds the difference as shares -1..1 of the widest of its measure:
    (low, value, high)."""

    measure: str
    cells: dict[str, Cell]
    positives: int
    notes: tuple[str, ...]
    plot: tuple[float, float, float] | None

    @property
    def effect(self) -> str:
        """better | worse | higher | lower, or "" where the difference's interval holds zero."""
        cell = self.cells.get(DIFFERENCE)
        if cell is None or not cell.excludes_zero or cell.value is None:
            return NEUTRAL
        up = cell.value > 0
        way = _BETTER.get(self.measure)
        if way is None:
            return "higher" if up else "lower"
        return "better" if up == (way > 0) else "worse"


@dataclass(frozen=True)
class Block:
    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Group:
    """One backbone of one evaluation."""

    backbone: str
    evaluation: str
    subset: str
    arms: list[str]
    patients: int
    seeds: int
    headline: list[Block]
    findings: list[Block]


def evaluation_groups(evaluations: pa.Table) -> list[Group]:
    """Rows of schemas.tables.EVALUATIONS, grouped by evaluation and backbone; the arms in order of appearance,
    `difference` last. An empty table gives an empty list."""
    by_group: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in evaluations.to_pylist():
        by_group.setdefault((row["evaluation"], row["backbone"]), []).append(row)
    return [_group(rows) for rows in by_group.values()]


def _group(rows: list[dict[str, Any]]) -> Group:
    arms = sorted(dict.fromkeys(r["arm"] for r in rows), key=lambda a: a == DIFFERENCE)
    scale: dict[str, float] = {}
    for r in rows:
        if r["arm"] == DIFFERENCE:
            ends = [abs(x) for x in (r["low"], r["value"], r["high"]) if _finite(x) is not None]
            scale[r["measure"]] = max([scale.get(r["measure"], 0.0), *ends])
    blocks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for r in rows:
        blocks.setdefault(r["finding"], {}).setdefault(r["measure"], []).append(r)
    made = {name: Block(_HEADLINE.get(name, finding_words(name)),
                        [_row(m, rs, scale.get(m, 0.0)) for m, rs in measures.items()])
            for name, measures in blocks.items()}
    first = rows[0]
    return Group(backbone=first["backbone"], evaluation=first["evaluation"],
                 subset=f"{first['subset']}@{first['version']}", arms=arms,
                 patients=max(r["n"] for r in rows), seeds=max(r["seeds"] for r in rows),
                 headline=[made[n] for n in _HEADLINE if n in made],
                 findings=[b for n, b in made.items() if n not in _HEADLINE])


def _row(measure: str, rows: Iterable[dict[str, Any]], scale: float) -> Row:
    cells, notes, positives = {}, [], 0
    for r in rows:
        cells[r["arm"]] = Cell(_finite(r["value"]), _finite(r["low"]), _finite(r["high"]), r["arm"] == DIFFERENCE)
        positives = max(positives, r["positives"])
        if r["note"]:
            notes.append(r["note"])
    d = cells.get(DIFFERENCE)
    plot = None
    if d and scale > 0 and d.value is not None and d.low is not None and d.high is not None:
        plot = (d.low / scale, d.value / scale, d.high / scale)
    return Row(measure, cells, positives, tuple(dict.fromkeys(notes)), plot)


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
