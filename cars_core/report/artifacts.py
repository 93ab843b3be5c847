"""Markdown for Prefect artifacts: gaps, verdicts, evaluation, pictures.

Every text from a table is escaped: the Prefect page renders markdown with HTML in it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import pyarrow as pa

from cars_core.report.evaluation import NEUTRAL, Group, evaluation_groups
from cars_core.report.pictures import data_uri, decode_rgb, fit, jpeg
from cars_core.report.words import count_reasons, finding_words, number, pattern_words, reason_words
from schemas.errors import BadInput

_SPECIAL = str.maketrans({c: "\\" + c for c in "\\`*_[]|"} | {"\n": " ", "\r": " "})


def gap_markdown(gaps: pa.Table, *, limit: int = 20) -> str:
    """The gaps with the largest deficits as a markdown table; says how many are left out."""
    rows = sorted(gaps.to_pylist(), key=lambda r: (-r["deficit"], -r["expected"], r["gap"]))
    rows = [r for r in rows if r["deficit"] > 0]
    if not rows:
        return "No combination of findings is missing."
    table = _table(("combination", "seen", "expected", "deficit", "planned", "why not fillable"), [
        (pattern_words(r), number(r["observed"]), number(r["expected"], 1), number(r["deficit"]),
         number(r["planned"]), "" if r["fillable"] else r["reason"] or "not fillable") for r in rows[:limit]])
    fillable = sum(r["fillable"] for r in rows)
    more = f"\n\n{len(rows) - limit:,} more are not shown." if len(rows) > limit else ""
    return f"**{len(rows):,} combinations missing**, {fillable:,} of them fillable.\n\n{table}{more}"


def verdict_markdown(samples: pa.Table) -> str:
    """Accepted and rejected samples, and how many each reason stopped."""
    rows = samples.select(["verdict", "reasons"]).to_pylist()
    if not rows:
        return "No sample was made."
    accepted = sum(r["verdict"] == "accepted" for r in rows)
    text = f"**{accepted:,} of {len(rows):,} accepted** ({accepted / len(rows):.0%})."
    reasons = count_reasons(rows)
    if reasons:
        text += "\n\n" + _table(("reason for rejection", "samples"), [(reason_words(k), f"{n:,}") for k, n in reasons])
    return text


def evaluation_markdown(evaluations: pa.Table) -> str:
    """Macro and filled-combination results, an arm a column, the difference bold where its interval excludes zero."""
    groups = evaluation_groups(evaluations)
    return "\n\n".join(_group_markdown(g) for g in groups) if groups else "Not evaluated."


def _group_markdown(group: Group) -> str:
    rows: list[list[str | tuple[str, bool]]] = []
    for block in group.headline:
        for row in block.rows:
            cells: list[str | tuple[str, bool]] = []
            for arm in group.arms:
                cell = row.cells.get(arm)
                text = cell.text if cell else "–"
                marked = cell is not None and cell.excludes_zero
                word = f" {row.effect}" if row.effect != NEUTRAL else ""
                cells.append((f"**{text}**{word}", True) if marked else (text, True))
            rows.append([block.title, row.measure, *cells])
    head = f"**{_escaped(group.backbone)}**, {_escaped(group.subset)}, {group.patients:,} test patients"
    return f"{head}\n\n{_table(('', 'measure', *group.arms), rows)}" if rows else f"{head}: no macro result."


def image_markdown(png: bytes, alt: str, *, max_bytes: int = 300_000) -> str:
    """A picture as a markdown image with a data URI of at most `max_bytes` characters (JPEG, shrunk as needed).

    Raises:
        BadInput: not a picture, or one that does not fit even at 64 px.
    """
    picture = decode_rgb(png)
    for limit in (2048, 1536, 1280, 1024, 768, 512, 256, 128, 64):
        small = fit(picture, limit)
        for quality in (88, 75):
            uri = data_uri(jpeg(small, quality=quality))
            if len(uri) <= max_bytes:
                return f"![{_escaped(alt)}]({uri})"
    raise BadInput("image_markdown: max_bytes", max_bytes, "room for a 64 px JPEG")


def _table(head: Sequence[str], rows: Sequence[Sequence[str | tuple[str, bool]]]) -> str:
    """A markdown table; a cell given as (text, True) is markdown already."""
    lines = [[_escaped(finding_words(h)) for h in head], ["---"] * len(head)]
    lines += [[c[0] if isinstance(c, tuple) else _escaped(c) for c in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    return html.escape(text.translate(_SPECIAL), quote=False)
