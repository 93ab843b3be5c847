"""A build's name must change with all that decides its plan, or a lake keeps a plan that the recipe no longer means."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cars_core.coverage import build
from cars_core.coverage.planning.draw import load_presentation
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.recipe import parse_recipe

VOCABULARY = load_vocabulary()
EDITOR: Any = SimpleNamespace(digest="e", offers={"insert": frozenset({"mass"}), "delete": frozenset()})


def named(vocabulary: Vocabulary = VOCABULARY, **gaps: Any) -> str:
    recipe = parse_recipe({"name": "a", "cohort": {"source": "phantom"}, "gaps": {"findings": ["mass"], **gaps}})
    return build.build_digest(recipe, "c", vocabulary, editor=EDITOR, segmenter="s")


def test_the_policy_and_what_its_files_say_are_in_the_name(tmp_path: Any) -> None:
    table = tmp_path / "seen.csv"
    table.write_text("findings,films\nmass,3\n")
    first = named(plausible={"reference": str(table)})
    assert first == named(plausible={"reference": str(table)})
    table.write_text("findings,films\nmass|edema,3\n")
    assert len({first, named(plausible={"reference": str(table)}), named(), named(order=1), named(by=["sex"])}) == 5


def test_what_label_sets_state_and_how_findings_lie_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = replace(VOCABULARY, findings=tuple(replace(f, aliases={}) for f in VOCABULARY.findings))
    known = load_presentation()
    first = named()
    assert named(fewer) != first
    monkeypatch.setattr(build, "load_presentation", lambda: replace(known, sides={}))
    assert named() != first
