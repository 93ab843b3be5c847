"""What a build of a recipe would edit, before anything is edited."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cars_core.coverage.plan import Planned


def draft(
    recipe: str, overrides: list[str], lake: str | None, *, progress: Callable[[int, int], None]
) -> tuple[str, Planned]:
    """The digest of a recipe's cohort, taken in where it is not yet, and the plan that a build would make for it.

    Neither the plan nor its gaps are written, and nothing is rendered.

    Raises:
        BadInput: a fault in the recipe or in what it names, or there is nothing to plan.
    """
    from cars_core.cohort.ingest import ingest
    from cars_core.coverage.build import draft_plan
    from cars_core.coverage.policy import check_policy
    from cars_core.vocabulary import load_vocabulary
    from schemas.recipe import load_recipe
    from tasks.job import open_lake, pseudonym_secret, storage_settings

    asked = load_recipe(recipe, overrides, lake=lake)
    vocabulary, into = load_vocabulary(asked.vocabulary), open_lake(asked.lake)
    check_policy(asked, vocabulary)  # before films are read for it
    into.ensure_writable()
    found = ingest(asked.cohort, seed=asked.seed, vocabulary=vocabulary, lake=into, progress=progress,
                   storage=storage_settings(), secret=pseudonym_secret(asked.cohort))
    return found["digest"], draft_plan(into, asked, cohort=found["digest"], vocabulary=vocabulary)


def operation_counts(planned: Planned) -> dict[str, int]:
    """`insert effusion` -> edits that do so, insertions first, the most frequent first."""
    counts = Counter((o["kind"], o["finding"]) for ops in planned.plan["operations"].to_pylist() for o in ops)
    order = sorted(counts.items(), key=lambda x: (x[0][0] != "insert", -x[1], x[0][1]))
    return {f"{kind} {finding}": n for (kind, finding), n in order}


def still_open(planned: Planned) -> list[dict[str, Any]]:
    """Gaps that stay short of their count: findings, cell, films still missing, and why."""
    return [{"findings": g["findings"], "cell": g["cell"], "missing": g["deficit"] - g["planned"],
             "reason": g["reason"]} for g in planned.gaps.to_pylist() if g["planned"] < g["deficit"]]


def write_edits(planned: Planned, out: Path) -> None:
    """The plan's rows as a CSV file. Raises BadInput where it cannot be written."""
    from cars_core.lake.sql import to_text
    from schemas.errors import BadInput

    columns = ["rank", "edit_id", "image_id", "patient", "operations", "gap", "without", "cell", "cost", "licence"]
    try:
        out.write_text(to_text(planned.plan.select(columns), "csv"), encoding="utf-8")
    except OSError as e:
        raise BadInput("--out", str(out), f"a file that can be written ({e.strerror})") from e


def plan_json(cohort: str, planned: Planned) -> dict[str, Any]:
    """What `cars plan --json` prints."""
    s = planned.summary
    return {"cohort": cohort, "strategy": s.strategy, "planned": s.planned, "deletions": s.deletions, "gaps": s.gaps,
            "fillable": s.fillable, "closed": s.closed, "open": still_open(planned), "bound": s.bound, "cost": s.cost,
            "operations": operation_counts(planned)}


def plan_command(
    bars: Callable[[], AbstractContextManager[Callable[[str, int, int], None]]], note: Console
) -> Callable[..., None]:
    """The function behind `cars plan`; progress goes to `bars`, words to `note`."""

    def plan(
        recipe: Annotated[str, typer.Argument(help="Recipe file (YAML); its cohort is taken in if it is not yet.")],
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the recipe, as in plan.max_edits=20."),
        ] = None,
        lake: Annotated[
            str | None, typer.Option("--lake", help="Folder or s3:// address of the lake, instead of the recipe's.")
        ] = None,
        out: Annotated[
            Path | None, typer.Option("--out", help="CSV file for the edits, ranked: film, operations, gap, cost.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    ) -> None:
        """Find the gaps of the training films and plan the edits that a build would make. Renders nothing."""
        with bars() as report:
            cohort, planned = draft(
                recipe, set_ or [], lake, progress=lambda done, total: report("films", done, total)
            )
        _print(note, cohort, planned)
        if out is not None:
            write_edits(planned, out)
            note.print(f"Edits: {out}", soft_wrap=True, markup=False, highlight=False)
        if json_:
            print(json.dumps(plan_json(cohort, planned), ensure_ascii=False))

    return plan


def _print(note: Console, cohort: str, planned: Planned) -> None:
    s = planned.summary
    table = Table(title=f"plan for cohort {cohort[:12]}, strategy {s.strategy}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("edits planned", f"{s.planned:,}"), ("of them deletions", f"{s.deletions:,}"),
        ("combinations short", f"{s.gaps:,}"), ("that can be filled", f"{s.fillable:,}"),
        ("that the plan closes", f"{s.closed:,}"), ("films filled in", f"{s.filled:,} of {s.missing:,}"),
        ("least that fills as much, without deletions", f"{s.bound:,}"), ("cost", f"{s.cost:,.1f}"),
    ):
        table.add_row(name, value)
    note.print(table)
    operations = Table(title="By operation")
    operations.add_column("operation")
    operations.add_column("edits", justify="right")
    for name, n in operation_counts(planned).items():
        operations.add_row(name, f"{n:,}")
    note.print(operations)
    left = still_open(planned)
    if left:
        from cars_core.report.gaps import reason_group

        gaps, missing = Counter[str](), Counter[str]()
        for g in left:
            why = reason_group(g["reason"])
            gaps[why] += 1
            missing[why] += g["missing"]
        table = Table(title="Still short")
        for name in ("why", "combinations", "films missing"):
            table.add_column(name, justify="left" if name == "why" else "right")
        for why, n in gaps.most_common():
            table.add_row(Text(why), f"{n:,}", f"{missing[why]:,}")
        note.print(table)
