"""Geometry and colours of the full matrix of pairs of findings; gaps.html draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cars_core.report.words import finding_words, number, pattern_words
from cars_core.vocabulary import Vocabulary

SIDE = 44        # pixels, of a square
_LETTER = 7.2    # pixels, at most, on average over a name
#: What a tile can show, in the order of the page's switch: key -> its name there.
VIEWS = {"o": "Observed", "e": "Expected by chance", "l": "Observed / expected", "d": "Missing"}
Colour = tuple[int, int, int]
# Dark text keeps 4.5 : 1 on every colour between these. Blue and orange differ for the colour-blind too.
_PALE, _BLUE, _ORANGE = (247, 250, 252), (111, 168, 220), (238, 134, 50)
_ENOUGH = (232, 237, 241)
_SPREAD = 3.0  # lifts of 1/8 and 8 have the full colour


@dataclass(frozen=True)
class Square:
    """One square. `texts` and `fills` by the keys of VIEWS; state: enough | short (can be filled) | closed (cannot) |
    implied (a finding beside one it implies). `search` is what the gap list is filtered by when it is clicked."""

    x: int
    y: int
    state: str
    title: str
    texts: Mapping[str, str]
    fills: Mapping[str, str]
    search: str


@dataclass(frozen=True)
class Matrix:
    """left, top: where the squares begin. labels: (name, x, y) of the rows, whose text ends at x; heads: of the
    columns, whose text starts at x."""

    width: int
    height: int
    left: int
    top: int
    labels: list[tuple[str, int, int]]
    heads: list[tuple[str, int, int]]
    squares: list[Square]
    summary: str


def pair_matrix(counts: Sequence[Mapping[str, Any]], *, vocabulary: Vocabulary) -> Matrix | None:
    """Every pair of findings twice, mirrored, and single findings on the diagonal.

    Args:
        counts: rows of schemas.tables.GAPS without `build`; those of one and two findings present, over all films, are
            read.
        vocabulary: gives the order of findings, and what implies what.

    Returns:
        None when no pair was counted.
    """
    rows = {r["gap"]: r for r in counts if r["order"] <= 2 and not r["without"] and not r["cell"]}
    pairs = [r for r in rows.values() if r["order"] == 2]
    if not pairs:
        return None
    named = {name for r in rows.values() for name in r["findings"]}
    shown = [f for f in vocabulary.findings if f.name in named]
    most = math.log1p(max(max(r["observed"], r["expected"]) for r in pairs))
    longest = _LETTER * max(len(f.name) for f in shown)
    slanted = round(longest / math.sqrt(2)) + 16
    left, top = round(longest) + 14, slanted + 8
    squares = []
    for i, down in enumerate(shown):
        for j, across in enumerate(shown):
            row = rows.get(1 << down.bit | 1 << across.bit)
            if row is not None:
                squares.append(_square(row, most, vocabulary, x=left + j * SIDE, y=top + i * SIDE))
    n = len(shown)
    short = sum(r["deficit"] > 0 and not _implied(r["gap"], vocabulary) for r in pairs)
    return Matrix(
        width=left + n * SIDE + max(4, slanted - SIDE // 2), height=top + n * SIDE + 4, left=left, top=top,
        labels=[(finding_words(f.name), left - 8, top + i * SIDE + SIDE // 2) for i, f in enumerate(shown)],
        heads=[(finding_words(f.name), left + i * SIDE + SIDE // 2, top - 8) for i, f in enumerate(shown)],
        squares=squares, summary=f"{short} of {len(pairs)} pairs of findings are short")


def _implied(mask: int, vocabulary: Vocabulary) -> bool:
    return bool(vocabulary.ancestors(mask) & mask)


def _square(row: Mapping[str, Any], most: float, vocabulary: Vocabulary, *, x: int, y: int) -> Square:
    seen, expected, lift, deficit = row["observed"], row["expected"], row["lift"], row["deficit"]
    implied = _implied(row["gap"], vocabulary)
    single = row["order"] == 1
    state = "implied" if implied else "enough" if deficit <= 0 else "short" if row["fillable"] else "closed"
    title = f"{pattern_words(row)}: on {seen:,} {'film' if seen == 1 else 'films'}"
    if not single:
        title += f"; chance would give {number(expected, 1)}; observed / expected {lift_words(row)}"
    if implied:
        title += f"; {row['reason'] or 'one implies the other'}, so this is no combination of its own"
    elif deficit > 0:
        title += f"; needed {row['needed']:,}, missing {deficit:,}"
        if not row["fillable"]:
            title += f"; cannot be filled: {row['reason'] or 'no reason given'}"
    plain = {"o": _short(seen), "e": _short(expected), "d": "·" if deficit <= 0 else _short(deficit),
             "l": "–" if lift is None else _times(lift)}
    lacking = _missing(deficit, row["needed"])
    fills = {"o": lacking if deficit > 0 else _blue(seen, most), "e": _blue(expected, most), "l": _tilt(lift),
             "d": lacking}
    if single:  # expected of one finding is what is observed: nothing to compare
        plain, fills = plain | {"e": "", "l": ""}, fills | {"e": _hex(_ENOUGH), "l": _hex(_ENOUGH)}
        if deficit <= 0:
            fills["o"] = _hex(_ENOUGH)
    if implied:
        plain, fills = plain | {"d": "", "l": ""}, dict.fromkeys(fills, _hex(_ENOUGH))
    return Square(x, y, state, title, plain, fills, ", ".join(finding_words(f) for f in row["findings"]))


def lift_words(row: Mapping[str, Any]) -> str:
    """Observed / expected and its interval, `0.42 [0.30–0.58]`; a dash where nothing is expected."""
    if row["lift"] is None:
        return "–"
    if row["lift_low"] is None or row["lift_high"] is None:
        return _digits(row["lift"])
    return f"{_digits(row['lift'])} [{_digits(row['lift_low'])}–{_digits(row['lift_high'])}]"


def _digits(value: float) -> str:
    """Two significant digits, at most three decimals: 0.004, 0.42, 4.2, 42, 1,234."""
    if value < 0.0005:
        return "0"
    return f"{value:,.{min(3, max(0, 1 - math.floor(math.log10(value))))}f}"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else _short(round(value))


def _short(value: float) -> str:
    """At most five characters: 0, 3, 0.4, 4.2, 9,999, 12k, 1.2M, 34M."""
    if isinstance(value, float) and value < 9.95:
        return f"{value:.1f}"
    if value < 9_999.5:
        return f"{value:,.0f}"
    if value < 999_500:
        return f"{value / 1e3:.0f}k"
    return f"{value / 1e6:.{1 if value < 9.95e6 else 0}f}M"


def _blue(films: float, most: float) -> str:
    """`most`: log1p of the most films that any pair has."""
    return _between(_PALE, _BLUE, math.log1p(films) / most if most else 0.0)


def _missing(deficit: int, needed: int) -> str:
    if deficit <= 0:
        return _hex(_ENOUGH)
    return _between((255, 244, 234), _ORANGE, (deficit / needed) ** 1.5)


def _tilt(lift: float | None) -> str:
    if lift is None:
        return _hex(_ENOUGH)
    tilt = -_SPREAD if lift <= 0 else max(-_SPREAD, min(_SPREAD, math.log2(lift)))
    return _between(_PALE, _BLUE if tilt > 0 else _ORANGE, abs(tilt) / _SPREAD)


def _between(a: Colour, b: Colour, share: float) -> str:
    share = min(1.0, max(0.0, share))
    return _hex((round(a[0] + (b[0] - a[0]) * share), round(a[1] + (b[1] - a[1]) * share),
                 round(a[2] + (b[2] - a[2]) * share)))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
