"""A cohort taken in outside any build: to see what a source gives before anything is planned."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


def take_in(
    recipe: str, overrides: list[str], lake: str | None, *, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Ingest a recipe's cohort, or the rest of it; returns ingest's summary, with `page` and `table`
    (cars_core.report.cohort.status_table).

    Raises:
        BadInput: a fault in the recipe or in what it names.
    """
    from cars_core.cohort.ingest import ingest
    from cars_core.report.cohort import cohort_page, status_table
    from cars_core.version import CODE_VERSION
    from cars_core.vocabulary import load_vocabulary
    from schemas.recipe import load_recipe
    from tasks.job import open_lake, pseudonym_secret, storage_settings

    asked = load_recipe(recipe, overrides, lake=lake)
    vocabulary, into = load_vocabulary(asked.vocabulary), open_lake(asked.lake)
    into.ensure_writable()
    found = ingest(asked.cohort, seed=asked.seed, vocabulary=vocabulary, lake=into, progress=progress,
                   storage=storage_settings(), secret=pseudonym_secret(asked.cohort))
    page = cohort_page(into, cohort=found["digest"], name=asked.name, vocabulary=vocabulary, code=CODE_VERSION,
                       created=datetime.now(UTC).isoformat(timespec="seconds"))
    rows = into.read("cohort", columns=["dataset", "status", "reason", "flags"], where={"cohort": found["digest"]})
    return {**found, "page": page, "table": status_table(rows.to_pylist())}


def ingest_command(
    bars: Callable[[], AbstractContextManager[Callable[[str, int, int], None]]], note: Console
) -> Callable[..., None]:
    """The function behind `cars ingest`; progress goes to `bars`, words to `note`."""

    def ingest(
        recipe: Annotated[str, typer.Argument(help="Recipe file (YAML); its cohort is taken in.")],
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the recipe, as in cohort.root=FILMS."),
        ] = None,
        lake: Annotated[
            str | None, typer.Option("--lake", help="Folder or s3:// address of the lake, instead of the recipe's.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    ) -> None:
        """Take a cohort in: films, labels and reports, with what was repaired or set aside, and why. Resumes."""
        from cars_core.report.cohort import STATUS_WORDS

        with bars() as report:
            found = take_in(recipe, set_ or [], lake, progress=lambda done, total: report("films", done, total))
        table = Table(title=f"cohort {found['digest'][:12]}: {found['patients']} patients")
        for column in ("source", "what became of them", "why"):
            table.add_column(column)
        table.add_column("films", justify="right")
        for row in found["table"]:
            table.add_row(row["dataset"], STATUS_WORDS[row["status"]], row["why"], str(row["films"]))
        note.print(table)
        note.print(f"Page: {found['page']}", soft_wrap=True, highlight=False)
        if json_:
            print(json.dumps({k: v for k, v in found.items() if k != "table"}))

    return ingest
