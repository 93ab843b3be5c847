"""Training of the screen that tells upright frontal chest films."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def train_screen_command(
    bars: Callable[[], AbstractContextManager[Callable[[str, int, int], None]]], note: Console
) -> Callable[..., None]:
    """The function behind `cars train screen`; progress goes to `bars`, words to `note`."""

    def screen(
        films: Annotated[
            Path, typer.Option("--films", help="Folder with nih14, covid_cxr_open and nih14_rotated_qc in it.")
        ],
        out: Annotated[Path, typer.Option("--out", help="Folder for weights and card.")] = Path("out/screen"),
        steps: Annotated[int, typer.Option(min=20)] = 1150,
        batch: Annotated[int, typer.Option(min=16)] = 64,
        simulated: Annotated[int, typer.Option(min=20, help="Chest films to simulate; other pictures besides.")] = 600,
        seed: Annotated[int, typer.Option(min=0)] = 0,
    ) -> None:
        """Train the network that tells upright frontal chest films from rotated and from other ones."""
        from cars_core.cohort.screen.train import train_screen as run

        with bars() as report:
            card = run(
                out,
                films=films,
                steps=steps,
                batch=batch,
                simulated=simulated,
                seed=seed,
                command=f"cars train screen --steps {steps} --batch {batch} --simulated {simulated} --seed {seed}",
                progress=lambda done, total: report("train", done, total),
            )
        table = Table(title=f"{card['kind']} -> {out}")
        columns = list(dict.fromkeys(k for measures in card["scores"].values() for k in measures))
        for name in ["", *columns]:
            table.add_column(name.replace("_", " "), justify="right")
        for name, measures in card["scores"].items():
            table.add_row(name.replace("_", " "), *(str(measures.get(c, "")) for c in columns))
        note.print(table)

    return screen
