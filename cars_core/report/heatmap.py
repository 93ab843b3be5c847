"""Geometry of the pair heat map; page.html draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cars_core.report.words import combination_words, finding_words
from cars_core.vocabulary import Vocabulary

CELL, LEFT, TOP = 40, 148, 6
# One hue whose lightness carries what is missing: pale for nearly enough, strong for never seen.
_LITTLE, _ALL = (255, 244, 234), (238, 134, 50)   # dark text keeps 4.5:1 on both
_ENOUGH = "#dfe5ea"


@dataclass(frozen=True)
class Tile:
    """One square. state: enough | deficit | closed (a deficit that cannot be filled)."""

    x: int
    y: int
    fill: str
    text: str
    state: str
    title: str


@dataclass(frozen=True)
class Heatmap:
    width: int
    height: int
    cell: int
    rows: list[tuple[str, int, int]]       # label, x (right edge of the text), y (middle)
    columns: list[tuple[str, int, int]]    # label, x (middle), y (top of the text)
    tiles: list[Tile]
    summary: str


def pair_heatmap(gaps: Sequence[Mapping[str, Any]], *, findings: Sequence[str], min_count: int | None,
                 vocabulary: Vocabulary) -> Heatmap | None:
    """Lower triangle of training-film counts of every pair of `findings`, deficits marked.

    A pair the gap table does not hold is one with no deficit; its count is not known here and its tile says
    "enough". None when no pair is among the gaps.

    Args:
        gaps: rows of schemas.tables.GAPS; those of two findings present together, over all films, are read.
        findings: which findings to lay out; empty means those the pairs name.
        min_count: the recipe's threshold, for the words.
    """
    pairs = {frozenset(r["findings"]): r for r in gaps if r["order"] == 2 and not r["without"] and not r["cell"]}
    if not pairs:
        return None
    named = set(findings) or {f for pair in pairs for f in pair}
    shown = [n for n in vocabulary.names if n in named] + sorted(named - set(vocabulary.names))
    tiles = []
    for i, row in enumerate(shown):
        for j, column in enumerate(shown[:i]):
            tiles.append(_tile(pairs.get(frozenset((row, column))), (column, row), min_count,
                               x=LEFT + j * CELL, y=TOP + (i - 1) * CELL))
    n = max(len(shown) - 1, 1)
    missing = sum(t.state != "enough" for t in tiles)
    return Heatmap(
        width=LEFT + n * CELL + 70, height=TOP + n * CELL + 110, cell=CELL,
        rows=[(finding_words(f), LEFT - 8, TOP + i * CELL + CELL // 2) for i, f in enumerate(shown[1:])],
        columns=[(finding_words(f), LEFT + j * CELL + CELL // 2, TOP + n * CELL + 10)
                 for j, f in enumerate(shown[:-1])],
        tiles=tiles, summary=f"{missing} of {len(tiles)} pairs of findings are seen too seldom")


def _tile(row: Mapping[str, Any] | None, pair: tuple[str, str], min_count: int | None, *, x: int, y: int) -> Tile:
    name = combination_words(pair)
    if row is None:
        least = f" (at least {min_count:,} films)" if min_count else ""
        return Tile(x, y, _ENOUGH, "·", "enough", f"{name}: enough{least}")
    seen, deficit = row["observed"], row["deficit"]
    text = f"{seen:,}" if seen < 10_000 else f"{seen / 1000:.0f}k"
    title = f"{name}: seen on {seen:,} films, expected {row['expected']:,.1f}"
    if deficit <= 0:
        return Tile(x, y, _ENOUGH, text, "enough", title)
    share = deficit / (seen + deficit)
    fill = tuple(round(a + (b - a) * share**1.5) for a, b in zip(_LITTLE, _ALL, strict=True))
    title += f", {deficit:,} missing, {row['planned']:,} planned"
    if not row["fillable"]:
        title += f"; cannot be filled: {row['reason'] or 'no reason given'}"
    return Tile(x, y, "#{:02x}{:02x}{:02x}".format(*fill), text,
                "deficit" if row["fillable"] else "closed", title)
