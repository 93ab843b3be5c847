"""A simulated cohort written to a folder, outside any build."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cars_core.phantom.placed import LEAST_SIZE, MOST_SIZE
from schemas.errors import BadInput
from schemas.recipe import Splits

MOST_FILMS = 1_000_000
_POOL_FILMS = 64  # under this many films, starting processes (seconds) costs more than it saves


def simulate(
    *,
    n: int,
    out: Path,
    layout: str,
    size: int,
    seed: int,
    bits: int | None,
    workers: int | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Draw a population of `n` films and write it; returns the manifest (see `layouts.write.write_cohort`).

    Patients are split 70 : 10 : 20 into train, validate and test by their names. `workers` None takes the machine's
    processors, at most 8; the bytes are the same.

    Raises:
        BadInput: n, size, seed, bits or workers out of range, an unknown layout, `out` is not an empty folder.
    """
    for name, value, low, high in (
        ("--n", n, 1, MOST_FILMS),
        ("--size", size, LEAST_SIZE, MOST_SIZE),
        ("--seed", seed, 0, 2**63 - 1),
        ("--workers", 1 if workers is None else workers, 1, 64),
    ):
        if not low <= value <= high:
            raise BadInput(name, value, f"{low} to {high}")
    from cars_core.cohort.identity import split_of
    from cars_core.phantom.layouts.write import write_cohort
    from cars_core.phantom.population import films
    from cars_core.vocabulary import load_vocabulary

    if workers is None:
        workers = min(8, os.cpu_count() or 1) if n >= _POOL_FILMS else 1
    splits = Splits()
    population = films(
        n=n,
        seed=seed,
        size=size,
        withheld=[],
        split_of=lambda patient: split_of(patient, splits),
        vocabulary=load_vocabulary(),
    )
    return write_cohort(population, out=out, layout=layout, bits=bits, workers=workers, progress=progress)


def phantom_command(
    bars: Callable[[], AbstractContextManager[Callable[[str, int, int], None]]], note: Console
) -> Callable[..., None]:
    """The function behind `cars phantom`; progress goes to `bars`, words to `note`."""

    def phantom(
        n: Annotated[int, typer.Option("--n", help="Films; about 1.4 a patient.")],
        out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
        layout: Annotated[
            str, typer.Option("--layout", help="Whose files it shall look like: nih, chexpert, mimic or dicom.")
        ] = "nih",
        size: Annotated[int, typer.Option("--size", metavar="PX", help="Side of a film, 64 to 1024.")] = 256,
        seed: Annotated[int, typer.Option("--seed", help="Another seed, other patients.")] = 0,
        bits: Annotated[
            int | None, typer.Option("--bits", help="Of grey a pixel: 8; for dicom 12 unless 8 is asked for.")
        ] = None,
        workers: Annotated[
            int | None, typer.Option("--workers", help="Processes; the bytes do not depend on it.")
        ] = None,
    ) -> None:
        """Write a simulated cohort, its reports and its truth, laid out like a public one. No patient is in it."""
        try:
            with bars() as report:
                made = simulate(
                    n=n,
                    out=out,
                    layout=layout,
                    size=size,
                    seed=seed,
                    bits=bits,
                    workers=workers,
                    progress=lambda done: report("films", done, n),
                )
        except KeyboardInterrupt:
            note.print(f"Interrupted: {out} is not whole. Delete it and start again.", soft_wrap=True, highlight=False)
            raise typer.Exit(130) from None
        table = Table(title=f"{made['films']} films of {made['patients']} patients ({layout})", min_width=44)
        table.add_column("finding")
        table.add_column("films", justify="right")
        for name, count in made["findings"].items():
            table.add_row(name, str(count))
        note.print(table)
        note.print(f"Folder: {out}", soft_wrap=True, markup=False, highlight=False)

    return phantom
