"""The page of a cohort's gaps: what is seen too seldom, where it never was, and what a plan would change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from cars_core.coverage.group import UNKNOWN, attribute_sql, cell_values
from cars_core.coverage.survey import Survey
from cars_core.report import words
from cars_core.report.matrix import SIDE, VIEWS, lift_words, pair_matrix
from cars_core.report.page import csp_hash, page_style, template
from cars_core.vocabulary import Vocabulary
from schemas.policy import AGE_BANDS, Gaps, Uncertain

if TYPE_CHECKING:  # planning takes more to import than most pages need
    from cars_core.coverage.plan import Planned

MAX_ROWS = 2000     # of a list; what is beyond is counted, and stands in the JSON
FIRST = 10          # combinations beside the matrix
BARS = 24           # gaps of a plan drawn at once
Key = tuple[int, int, str]
ORDERS = {1: "single findings", 2: "pairs", 3: "triples", 4: "fours"}


def gaps_page(survey: Survey, *, source: str, split: str, plans: Mapping[str, Planned | str], vocabulary: Vocabulary,
              code: str, created: str, cohort: str = "", left_out: Mapping[str, int] | None = None) -> bytes:
    """The page as UTF-8 HTML that needs nothing else, with or without script.

    Args:
        survey: counts, gaps and uncovered patterns of the films.
        source: what was counted, as the user named it.
        split: which of its films (train, validate, test, all).
        plans: what may be edited, in words -> the plan, or why there is none. The first is the one the gap list shows.
        created: ISO time, UTC.
        cohort: digest of the lake's cohort that was counted, for the SQL; "" for a label file.
        left_out: reason -> rows of a label file that were not read.
    """
    of_films = films_sql(split=split, cohort=cohort)
    made = [(name, _planned(p)) for name, p in plans.items() if not isinstance(p, str)]
    gaps = ranked(survey.gaps.to_pylist())
    closed_from = next((i for i, g in enumerate(gaps) if not g["fillable"]), len(gaps))
    everywhere = [g for g in gaps[:closed_from] if not g["cell"]]
    fillable, closed, first = (
        [_row(g, [p for _, p in made], of_films, survey.settings.uncertain) for g in part]
        for part in (gaps[:closed_from][:MAX_ROWS], gaps[closed_from:][:MAX_ROWS], everywhere[:FIRST]))
    script = (Path(__file__).resolve().parent / "gaps.js").read_text("utf-8")
    html = template("gaps.html").render(
        source=source, split=split, code=code, created=created, cohort=cohort, settings=survey.settings, words=words,
        style=Markup(page_style()), script=Markup(script), script_hash=csp_hash(script), films=survey.films,
        distinct=survey.distinct_vectors, orders=_orders(survey.orders()), sentence=_sentence(survey, everywhere),
        policy=_policy(survey.settings), matrix=pair_matrix(_pairs(survey.counts), vocabulary=vocabulary), views=VIEWS,
        side=SIDE, first=first, fillable=fillable, closed=closed,
        any_open=any(r["open"] for r in fillable + closed), n_fillable=closed_from, n_closed=len(gaps) - closed_from,
        max_rows=MAX_ROWS, plan_names=[n for n, _ in made],
        cells=_cells(survey), uncovered=_uncovered(survey.uncovered), bars=BARS,
        plans=[_plan(name, p) for name, p in plans.items()],
        left_out=sorted((left_out or {}).items(), key=lambda x: (-x[1], x[0])),
        findings=[words.finding_words(f) for f in survey.settings.findings])
    return str(html).encode()


def films_sql(*, split: str, cohort: str = "") -> str:
    """SQL condition on the lake's table `cohort` that says which films were counted; "" for all of them."""
    parts = [f"cohort = {_text(cohort)}", "status IN ('accepted', 'unread')"] if cohort else []
    if split != "all":
        parts.append(f"split = {_text(split)}")
    return " AND ".join(parts)


def pattern_sql(row: Mapping[str, Any], *, uncertain: Uncertain, films: str = "") -> str:
    """The SQL statement over the lake's table `cohort` that counts the films which match a row of the table `gaps`.

    Args:
        row: `gap`, `without`, `cell`.
        uncertain: the policy on uncertain findings.
        films: condition on the films, as `films_sql` writes it.
    """
    gap, without = row["gap"], row["without"]
    positive = "(present | uncertain)" if uncertain == "present" else "present"
    parts = [films] if films else []
    if gap:
        parts.append(f"{positive} & {gap} = {gap}")
    if without:
        parts.append(f"{positive} & {without} = 0")
        if uncertain == "ignore":  # of a finding that is there, nothing is left open
            parts.append(f"uncertain & {without} = 0")
    parts += [_level_sql(attribute, level) for attribute, level in cell_values(row["cell"]).items()]
    return "SELECT count(*) FROM cohort" + (" WHERE " + " AND ".join(parts) if parts else "")


def _level_sql(attribute: str, level: str) -> str:
    """Short where a person can read it; else the expression that levels are made by."""
    if attribute == "age" and level == UNKNOWN:
        return "(age IS NULL OR age < 0)"
    if attribute == "age":
        low, high = next(band for band in AGE_BANDS if f"{band[0]:02d}" == level.rstrip("+").split("-")[0])
        return f"age >= {low}" if level.endswith("+") else f"age BETWEEN {low} AND {high}"
    plain = level != UNKNOWN and " " not in level
    return f"{attribute if plain else attribute_sql(attribute)} = {_text(level)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _key(row: Mapping[str, Any]) -> Key:
    return row["gap"], row["without"], row["cell"]


def ranked(gaps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that can be filled first; then by what is missing, then by how many films chance would give."""
    return sorted(gaps, key=lambda g: (not g["fillable"], -g["deficit"], -g["expected"], _key(g)))


def _pairs(counts: pa.Table) -> list[dict[str, Any]]:
    """Rows of one and two findings present, over all films."""
    wanted = pc.and_(pc.and_(pc.less_equal(counts["order"], 2), pc.equal(counts["without"], 0)),
                     pc.equal(counts["cell"], ""))
    rows: list[dict[str, Any]] = counts.filter(wanted).to_pylist()
    return rows


def _policy(settings: Gaps) -> str:
    asked = ["1 film" if settings.min_count == 1 else f"{settings.min_count:,} films"]
    if settings.min_share is not None:
        asked.append(f"{100 * settings.min_share:g} % of the films")
    if settings.target is not None:
        asked.append(f"the share that the films of {settings.target} hold")
    text = asked[0] if len(asked) == 1 else ", ".join(asked[:-1]) + " or " + asked[-1] + ", whichever is most"
    return f"A combination is short when fewer films show it than {text}."


def _planned(plan: Planned) -> dict[Key, tuple[int, str | None]]:
    """Pattern -> films a plan adds, and why it stays short."""
    return {_key(r): (r["planned"], r["reason"]) for r in plan.gaps.to_pylist()}


def _row(gap: Mapping[str, Any], made: Sequence[Mapping[Key, tuple[int, str | None]]], films: str,
         uncertain: Uncertain) -> dict[str, Any]:
    added = [plan.get(_key(gap), (0, None)) for plan in made]
    why = gap["reason"] or (added[0][1] if added and added[0][0] < gap["deficit"] else None)
    if why is not None:  # the combination stands in its own column
        why = why.replace(": " + " + ".join(n for n in gap["findings"] if not n.startswith("no ")), "")
    bounds = [gap["stated"], gap["with_uncertain"], gap["with_unmentioned"]]
    settled = all(n == gap["observed"] for n in bounds)
    return {**gap, "combination": words.pattern_words({**gap, "cell": ""}), "where": words.cell_words(gap["cell"]),
            "chance": lift_words(gap), "added": [n for n, _ in added], "why": why,
            "open": "" if settled else "{:,}–{:,} ({:,})".format(*bounds),
            "sql": pattern_sql(gap, uncertain=uncertain, films=films)}


def _orders(orders: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    return [{"name": ORDERS.get(int(k), f"of {k}"), **counts} for k, counts in orders.items()]


def _sentence(survey: Survey, fillable: Sequence[Mapping[str, Any]]) -> str:
    """How much is short, and the rarest combination that may be made: what a reader takes away."""
    orders = {k: v for k, v in survey.orders().items() if k != "1"} or survey.orders()
    below, patterns = sum(o["below"] for o in orders.values()), sum(o["patterns"] for o in orders.values())
    short = f"{below:,} of {patterns:,} combinations of findings are short"
    if not below:
        return f"None of {patterns:,} combinations of findings is short."
    if not fillable:
        return f"{short}; none of them can be filled, and each says why."
    rarest = min(fillable, key=lambda r: (r["observed"], -r["expected"]))
    seen = "no film" if not rarest["observed"] else "1 film" if rarest["observed"] == 1 else (
        f"{rarest['observed']:,} films")
    return (f"{short}; the rarest that can be made is {words.pattern_words(rarest)}: {seen} where chance would give "
            f"{words.number(rarest['expected'], 1)}, {rarest['deficit']:,} missing.")


def _cells(survey: Survey) -> list[dict[str, Any]]:
    """Films and short combinations of every cell that holds a film; [] where nothing was kept apart."""
    if not survey.grouped.by:
        return []
    rows = []
    for cell, inside in survey.grouped.cells():
        if inside.any():
            films = int(survey.grouped.films[inside].sum())
            rows.append({"cell": words.cell_words(cell) or "all films", "films": films,
                         "orders": _orders(survey.orders(cell))})
    return rows


def _uncovered(table: pa.Table) -> list[dict[str, Any]]:
    """Uncovered patterns by level; `kinds` counts those that are rare, were never seen, or cannot exist."""
    levels = []
    rows = table.to_pylist()
    for level in sorted({r["level"] for r in rows}):
        of = [{**r, "kind": uncovered_kind(r)} for r in rows if r["level"] == level]
        shown = [{**r, "pattern": uncovered_words(r)} for r in sorted(of, key=lambda r: not r["possible"])[:MAX_ROWS]]
        levels.append({"level": level, "rows": shown, "total": len(of),
                       "kinds": Counter(r["kind"] for r in of).most_common()})
    return levels


def uncovered_words(row: Mapping[str, Any]) -> str:
    """A row of the schema UNCOVERED, which may name films alone: `edema, no mass`, `sex F, view AP`."""
    return words.pattern_words(row) if row["findings"] else words.cell_words(row["cell"]) or "any film"


def uncovered_kind(row: Mapping[str, Any]) -> str:
    """`rare`, `never seen`, `denied` or `cannot exist`, of a row of the schema UNCOVERED."""
    if row["possible"]:
        return "rare"
    reason = row["reason"] or ""
    return "never seen" if reason.startswith("never seen") else "denied" if reason.startswith("denied") else (
        "cannot exist")


def reason_group(reason: str | None) -> str:
    """What a reason is counted by: that a combination was never seen is one reason, whatever the combination."""
    text = reason or "no reason given"
    return text.split(":")[0] if text.startswith("never seen") else text


def _plan(name: str, plan: Planned | str) -> dict[str, Any]:
    """What the page shows of a plan: its numbers, its operations, and each gap before and after."""
    if isinstance(plan, str):
        return {"name": name, "why_not": plan}
    made = Counter((o["kind"], o["finding"]) for ops in plan.plan["operations"].to_pylist() for o in ops)
    gaps = []
    for g in sorted(plan.gaps.to_pylist(), key=lambda g: (-min(g["planned"], g["deficit"]), -g["deficit"], _key(g))):
        if g["fillable"]:
            after = g["observed"] + g["planned"]
            gaps.append({**g, "combination": words.pattern_words(g), "after": after, "scale": max(g["needed"], after)})
    still = Counter(reason_group(g["reason"]) for g in plan.gaps.to_pylist() if g["planned"] < g["deficit"])
    return {"name": name, "why_not": None, "summary": plan.summary, "gaps": gaps, "still": still.most_common(),
            "operations": [(f"{kind} {words.finding_words(finding)}", n) for (kind, finding), n in
                           sorted(made.items(), key=lambda x: (x[0][0] != "insert", -x[1], x[0][1]))]}
