"""`cars plan`: what a build would edit, told before it takes hours; the same edits, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from tiny import RECIPE, SETTINGS
from typer.testing import CliRunner, Result

from cars_core.coverage.build import write_plan
from cars_core.lake.lake import Lake
from cars_core.vocabulary import load_vocabulary
from flows.plan import draft, plan_command
from schemas.errors import BadInput
from schemas.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = [*SETTINGS, "cohort.films=70", "cohort.size=64", "gaps.min_count=8", "plan.max_edits=40"]


@contextmanager
def no_bars() -> Iterator[Callable[[str, int, int], None]]:
    yield lambda stage, done, total: None


def cars_plan(*words: str) -> Result:
    """The command in this process; a wrong word is `result.exception`, a BadInput."""
    app = typer.Typer()
    app.command()(plan_command(no_bars, Console(stderr=True, width=160)))
    return CliRunner().invoke(app, list(words))


def asked(lake: Path, *more: str) -> list[str]:
    settings = [word for s in (*SMALL, *more) for word in ("--set", s)]
    return [str(ROOT / RECIPE), "--lake", str(lake), *settings]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose cohort the command itself has taken in."""
    root = tmp_path_factory.mktemp("plan") / "lake"
    done = cars_plan(*asked(root))
    assert done.exit_code == 0, done.exception
    return root


def planned(lake: Path, *more: str) -> dict[str, Any]:
    done = cars_plan(*asked(lake, *more), "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_takes_the_cohort_in_and_leaves_no_plan_behind(lake: Path) -> None:
    into = Lake(str(lake))
    assert into.read("cohort").num_rows == 70
    for table in ("gaps", "plan", "renders", "samples"):
        assert into.read(table).num_rows == 0, table
    again = planned(lake)
    assert again["cohort"] == into.read("cohort", columns=["cohort"])["cohort"][0].as_py()


def test_the_numbers_are_those_of_the_edits_it_names(lake: Path) -> None:
    found = planned(lake)
    assert set(found) == {"cohort", "strategy", "planned", "deletions", "gaps", "fillable", "closed", "open", "bound",
                          "cost", "operations"}
    digest, drafted = draft(str(ROOT / RECIPE), SMALL, str(lake), progress=lambda done, total: None)
    edits = drafted.plan.to_pylist()
    assert digest == found["cohort"] and len(edits) == found["planned"] > 0
    assert found["cost"] == pytest.approx(sum(e["cost"] for e in edits))
    assert sum(found["operations"].values()) == sum(len(e["operations"]) for e in edits)
    kinds = [{o["kind"] for o in e["operations"]} for e in edits]
    assert found["deletions"] == sum(k == {"delete"} for k in kinds)
    assert found["gaps"] == found["closed"] + len(found["open"]) and found["bound"] <= found["planned"]
    assert all(o["missing"] > 0 and o["reason"] for o in found["open"])


def test_what_stays_short_is_named_with_its_reason_and_the_rest_is_planned(lake: Path) -> None:
    found = planned(lake, "gaps.findings=[effusion, consolidation, nodule, hernia]")
    reasons = {" + ".join(o["findings"]): o["reason"] for o in found["open"]}
    hernia = {name: why for name, why in reasons.items() if "hernia" in name}
    assert hernia and all("hernia" in why for why in hernia.values()), "the editor does not offer it, or nobody has it"
    assert found["planned"] > 0
    shown = cars_plan(*asked(lake, "gaps.findings=[effusion, consolidation, nodule, hernia]")).stderr
    assert "Still short" in shown and "hernia" in shown and "insert" in shown


def test_a_smaller_budget_is_obeyed_and_said(lake: Path) -> None:
    found = planned(lake, "plan.max_edits=3")
    assert found["planned"] == 3
    assert any("max_edits" in o["reason"] for o in found["open"])


def test_a_build_makes_the_very_edits_that_were_foretold(lake: Path) -> None:
    recipe = load_recipe(ROOT / RECIPE, SMALL, lake=str(lake))
    digest, drafted = draft(str(ROOT / RECIPE), SMALL, str(lake), progress=lambda done, total: None)
    into = Lake(str(lake))
    written = write_plan(into, recipe, cohort=digest, vocabulary=load_vocabulary())
    rows = into.read("plan", where={"build": written["build"]}).sort_by("rank").to_pylist()
    assert rows == drafted.plan.sort_by("rank").to_pylist()
    gaps = into.read("gaps", where={"build": written["build"]})
    assert sorted(map(str, gaps.to_pylist())) == sorted(map(str, drafted.gaps.to_pylist()))


@pytest.mark.parametrize(("setting", "told"), [
    ("plan.strategy=best", "fewest"), ("gaps.findings=[scurvy]", "scurvy"), ("plan.max_edits=0", "plan.max_edits"),
    ("plan.balance=[height]", "height"), ("gaps.min_share=3", "gaps.min_share"),
    ("gaps.plausible={allow: [[effusion, mass]], deny: [[mass]]}", "agree"), ("gaps.target=none.csv", "none.csv"),
])
def test_what_is_wrong_is_named(lake: Path, setting: str, told: str) -> None:
    done = cars_plan(*asked(lake, setting))
    assert isinstance(done.exception, BadInput) and told in str(done.exception), done.exception


def test_a_cohort_that_lacks_nothing_is_told_so(lake: Path) -> None:
    done = cars_plan(*asked(lake, "gaps.min_count=1", "gaps.findings=[effusion]", "gaps.order=1"))
    assert isinstance(done.exception, BadInput) and "nothing is missing" in str(done.exception)
