"""The command `cars`: flows for work, cars_core for reading."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cars_core.lake.lake import DamagedObject, LakeBusy
from cars_core.lake.subsets import DamagedSubset
from cars_core.progress import rate_words
from flows.by_hand import edit_command
from flows.gaps import gaps_command
from flows.ingest import ingest_command
from flows.label_reports import label_reports_command
from flows.phantom import phantom_command
from flows.plan import plan_command
from flows.train_screen import train_screen_command
from schemas.errors import BadInput
from schemas.recipe import load_recipe

# Prefect reads these when it is imported, so they stand before any import of it. Whoever sets them decides.
for _key, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # no telemetry, from either side
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its own 20 s is short on a busy machine
    # What a run logs goes to its server, where the UI shows it; here stand bars, and one line for a fault.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_CLI_COLORS": "false",
}.items():
    os.environ.setdefault(_key, _value)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Find the combinations of findings a chest X-ray cohort lacks, and fill them with masked diffusion edits "
    "of its training films.\n\nResearch software for building data. Not for diagnosis.\n\n"
    "Start: [bold]cars build flows/recipes/demo.yaml[/bold]",
)
train_app = typer.Typer(
    no_args_is_help=True, help="Train the models the factory uses; weights are safetensors with a card."
)
app.add_typer(train_app, name="train")
note = Console(stderr=True)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the recipe, as in cohort.root=FILMS."),
]
LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Folder or s3:// address of the lake, instead of the recipe's.")
]


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars with rate and time left, one a stage; shards of a stage share one."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "", style="cyan")

    parts: dict[str, dict[str, tuple[int, int]]] = {}

    planned = 0

    def summed(stage: str, done: int, total: int) -> tuple[str, int, int]:
        """Shards of a stage (edits-0, edits-32, ...) add up; the flow's own stage says how many edits come."""
        nonlocal planned
        name = stage.split("-")[0]
        if name == "edit":
            planned = total
            return "", 0, 0
        mine = parts.setdefault(name, {})
        mine[stage] = (done, total)
        whole = planned if "-" in stage else 0
        return name, sum(d for d, _ in mine.values()), max(whole, sum(t for _, t in mine.values()))

    if not note.is_terminal:  # a log file: a line now and then instead of bars
        began: dict[str, float] = {}
        said: dict[str, float] = {}

        def lines(stage: str, done: int, total: int) -> None:
            name, done, total = summed(stage, done, total)
            if not name:
                return
            now = time.monotonic()
            began.setdefault(name, now)
            if now - said.get(name, -60.0) >= 20 or done == total:
                said[name] = now
                note.print(f"{name}: {rate_words('done', done, total, now - began[name])}", highlight=False)

        yield lines
        return
    shown: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=note) as progress:

        def report(stage: str, done: int, total: int) -> None:
            name, done, total = summed(stage, done, total)
            if not name:
                return
            if name not in shown:
                shown[name] = progress.add_task(name)
            progress.update(shown[name], completed=done, total=total)

        yield report


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="Recipe file (YAML): flows/recipes/demo.yaml, or your own.")],
    set_: Overrides = None,
    lake: LakeOption = None,
    json_: Annotated[
        bool,
        typer.Option(
            "--json", help="End with one line of JSON: subset, version, planned, accepted, rejected, page, seconds."
        ),
    ] = False,
) -> None:
    """Build a subset: ingest, find gaps, plan, edit, check, publish, evaluate, page. Resumes what was cut off."""
    began = time.monotonic()
    load_recipe(recipe, set_ or [], lake=lake)  # a typo is told at once,
    from tasks.job import read_job

    read_job(recipe, set_ or [], lake)  # and every other fault before the server starts
    note.print("Starting Prefect (an ephemeral server unless PREFECT_API_URL is set) ...")
    from flows.build import build as flow
    from tasks.progress import LISTENERS

    with bars() as report:
        LISTENERS.append(report)
        try:
            result: dict[str, Any] = flow(recipe, set_ or [], lake)
        finally:
            LISTENERS.remove(report)
    result["seconds"] = round(time.monotonic() - began, 1)  # as the user waited, the server's start included
    table = Table(
        title=f"{result['subset']}@{result['version']}"
        + ("" if result["new"] else " (unchanged: nothing new was published)")
    )
    for column in ("planned", "accepted", "rejected", "seconds"):
        table.add_column(column, justify="right")
    table.add_row(*(str(result[c]) for c in ("planned", "accepted", "rejected", "seconds")))
    note.print(table)
    note.print(result["sentence"])
    note.print(f"Page: {result['page']}", soft_wrap=True)
    if json_:
        keys = (
            "subset",
            "version",
            "planned",
            "accepted",
            "rejected",
            "page",
            "seconds",
            "new",
            "build",
            "digest",
            "sentence",
        )
        print(json.dumps({k: result[k] for k in keys}))


@app.command()
def sql(
    query: Annotated[
        str,
        typer.Argument(
            help='One SELECT over cohort, gaps, plan, renders, samples, members, subsets, evaluations, or "name@N".'
        ),
    ],
    lake: Annotated[
        str | None,
        typer.Option("--lake", help="Folder or s3:// address of the lake; by default the last written one here."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
) -> None:
    """Ask a lake in SQL (DuckDB, read-only). has(present, 'effusion') and findings(present) read vectors."""
    from cars_core.lake.sql import query as run
    from cars_core.lake.sql import to_text
    from cars_core.vocabulary import load_vocabulary
    from tasks.job import open_lake

    rows = run(open_lake(_lake_here(lake)), query, vocabulary=load_vocabulary())
    if format_ is not Format.table:
        sys.stdout.write(to_text(rows, format_.value).rstrip("\n") + "\n")
        return
    table = Table()
    for name in rows.column_names:
        table.add_column(name)
    for row in rows.to_pylist():
        table.add_row(*(Text("" if v is None else str(v)) for v in row.values()))  # Text: brackets are no markup
    Console().print(table)


def _lake_here(given: str | None) -> str:
    """The lake asked for, or the one in this folder that was last written to."""
    if given is not None:
        if "://" not in given and not Path(given, "tables").is_dir():
            raise BadInput("--lake", given, "a folder that holds a lake")
        return given
    here = [p.parent for p in Path(".").glob("*/tables") if p.is_dir()]
    if not here:
        raise BadInput("--lake", "nothing", "the folder of a lake (none was found here)")
    last = max(here, key=lambda p: max((f.stat().st_mtime for f in p.glob("tables/*/_delta_log")), default=0.0))
    if len(here) > 1:
        note.print(f"lake: {last}, the last written of {len(here)} here", highlight=False)
    return str(last)


app.command("edit")(edit_command(note))
app.command("phantom")(phantom_command(bars, note))
app.command("ingest")(ingest_command(bars, note))
app.command("gaps")(gaps_command(note, _lake_here))
app.command("plan")(plan_command(bars, note))
app.command("label-reports")(label_reports_command(bars, note))
train_app.command("screen")(train_screen_command(bars, note))


@train_app.command("segmenter")
def train_segmenter(
    masks: Annotated[
        Path, typer.Option("--masks", help="Folder with images_512, lung_masks_v7, masks_radiologist and labels.csv.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights and card.")] = Path("out/segmenter"),
    steps: Annotated[int, typer.Option(min=2)] = 700,
    batch: Annotated[int, typer.Option(min=2)] = 8,
    simulated: Annotated[int, typer.Option(min=20, help="Simulated films to train on.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the lung and heart segmenter on real lung masks and simulated films."""
    from cars_core.anatomy.train import train_segmenter as run

    with bars() as report:
        card = run(
            out,
            masks_root=masks,
            steps=steps,
            batch=batch,
            simulated=simulated,
            width=24,
            seed=seed,
            command=f"cars train segmenter --steps {steps} --batch {batch} --simulated {simulated} --seed {seed}",
            progress=lambda done, total: report("steps", done, total),
        )
    _scores(card, out)


@train_app.command("editor")
def train_editor(
    recipe: Annotated[str, typer.Argument(help="Recipe whose training patients the editor may learn from.")],
    set_: Overrides = None,
    lake: LakeOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for weights and card.")] = Path("out/editor"),
    steps: Annotated[int, typer.Option(min=100)] = 4000,
    batch: Annotated[int, typer.Option(min=2)] = 16,
    pairs: Annotated[int, typer.Option(min=100, help="Counterfactual pairs to prepare.")] = 4000,
    simulated: Annotated[int, typer.Option(min=0, help="Simulated films to train on beside the recipe's.")] = 120,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the editor on counterfactual pairs made from a recipe's training patients and simulated ones."""
    from flows.train import train_editor as run

    with bars() as report:
        card = run(
            recipe,
            set_ or [],
            lake,
            out=out,
            steps=steps,
            batch=batch,
            pairs=pairs,
            simulated=simulated,
            seed=seed,
            report=report,
        )
    _scores(card, out)


def _scores(card: dict[str, Any], out: Path) -> None:
    table = Table(title=f"{card['kind']} -> {out}")
    columns = sorted({k for s in card["scores"].values() for k in s})
    for name in ["", *columns]:
        table.add_column(name, justify="right")
    for name, score in card["scores"].items():
        table.add_row(name, *(str(score.get(c, "")) for c in columns))
    note.print(table)
    if "offers" in card:
        for kind, names in card["offers"].items():
            note.print(f"offers to {kind}: {', '.join(names) or 'nothing'}")


def main() -> None:
    """Run `cars`. Bad input is one line and exit code 2; a store, disk or server that fails is one line and 1."""
    from deltalake.exceptions import DeltaError

    try:
        app()
    except BadInput as e:
        _one_line(e)
        sys.exit(2)
    except KeyboardInterrupt:
        logging.raiseExceptions = False  # what is still on its way to the server no longer matters
        note.print("Interrupted. The same command goes on where this one stopped.")
        sys.exit(130)
    except OSError as e:
        _one_line(e)
        if e.errno == errno.ENOSPC:
            note.print("What was finished is kept. Make room, and the same command goes on where this one stopped.")
        sys.exit(1)
    except (DeltaError, LakeBusy, DamagedObject, DamagedSubset, MemoryError, BrokenExecutor) as e:
        _one_line(e)
        sys.exit(1)


def _one_line(e: BaseException) -> None:
    words = " ".join(str(e).split()) or type(e).__name__
    note.print(f"error: {words}", style="red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
