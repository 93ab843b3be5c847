"""`cars label-reports`: a table in, a table out; a wrong argument, one line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from flows.label_reports import label_reports_command
from schemas.errors import BadInput

PROGRESS: list[tuple[str, int, int]] = []


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    yield lambda stage, done, total: PROGRESS.append((stage, done, total))


def run(*words: str) -> tuple[Result, str]:
    said = StringIO()
    app = typer.Typer()
    app.command()(label_reports_command(bars, Console(file=said, width=100)))
    return CliRunner().invoke(app, list(words)), said.getvalue()


def test_one_command_labels_a_table_and_says_what_it_found(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,text\n1,Left effusion.\n2,No effusion. Possible edema.\n3\n")
    done, said = run(str(source), str(target), "--text-column", "text")
    assert done.exit_code == 0, done.output
    with open(target, newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["nih_Effusion"] for row in rows] == ["1", "0", ""]
    line = next(line for line in said.splitlines() if "nih_Effusion" in line)
    assert [word for word in line.split() if word.isdigit()] == ["1", "1", "0"]
    assert "3 reports" in said and "1 rows have another number of fields" in said and str(target) in said
    assert PROGRESS[-1] == ("reports", 3, 3)


def test_bad_input_reaches_the_one_who_tells_it(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n1,Left effusion.\n")
    done, _ = run(str(source), str(tmp_path / "out.csv"))
    assert isinstance(done.exception, BadInput) and "got report; expected a column" in str(done.exception)
    assert not (tmp_path / "out.csv").exists()


def test_an_interrupt_says_that_nothing_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.csv"
    source.write_text("report\nLeft effusion.\n")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cars_core.reports.table.label_table", stop)
    done, said = run(str(source), str(tmp_path / "out.csv"))
    assert done.exit_code == 130 and "was not written" in said
