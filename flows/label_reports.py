"""A table of reports labelled, outside any build."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cars_core.progress import rate_words


def label_reports_command(
    bars: Callable[[], AbstractContextManager[Callable[[str, int, int], None]]], note: Console
) -> Callable[..., None]:
    """The function behind `cars label-reports`; progress goes to `bars`, words to `note`."""

    def label_reports(
        source: Annotated[Path, typer.Argument(metavar="IN.csv", help="A CSV file in UTF-8, a row a report.")],
        target: Annotated[
            Path, typer.Argument(metavar="OUT.csv", help="Where the same rows go, with columns of labels added.")
        ],
        text_column: Annotated[
            str, typer.Option("--text-column", help="The column that holds the reports.")
        ] = "report",
        workers: Annotated[
            int, typer.Option("--workers", help="Processes, 1 to 64; the output does not depend on it.")
        ] = 1,
    ) -> None:
        """Read reports into labels: nih_*, chexpert_* and concept_* columns (1 present, 0 absent, -1 uncertain, empty
        not mentioned) and the words that say so. Not for diagnosis."""
        from cars_core.reports.table import label_table

        began = time.monotonic()
        try:
            with bars() as report:
                made = label_table(
                    source,
                    target,
                    text_column=text_column,
                    workers=workers,
                    progress=lambda done, total: report("reports", done, total),
                )
        except KeyboardInterrupt:
            note.print(f"Interrupted: {target} was not written.", soft_wrap=True, markup=False, highlight=False)
            raise typer.Exit(130) from None
        seconds = time.monotonic() - began
        table = Table(title=f"{made.rows} reports, {made.empty} of them empty", min_width=44)
        table.add_column("label")
        for name in ("present", "absent", "uncertain"):
            table.add_column(name, justify="right")
        for name, counts in made.counts.items():
            if any(counts):
                table.add_row(Text(name), *(str(n) for n in counts))
        note.print(table)
        if made.silent:
            note.print(f"In {made.silent} reports nothing was recognised: they have no labels.", highlight=False)
        if made.faults:
            note.print(
                f"{made.faults} rows have another number of fields than the header: they have no labels, and "
                "`evidence` says why.",
                highlight=False,
            )
        note.print(rate_words("reports", made.rows, made.rows, seconds), highlight=False)
        note.print(f"Labels: {target}", soft_wrap=True, markup=False, highlight=False)

    return label_reports
