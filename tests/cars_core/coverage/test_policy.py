"""A policy that cannot be carried out is refused at once, not after hours of reading films."""

from __future__ import annotations

from typing import Any

import pytest

from cars_core.coverage.policy import check_policy
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import parse_recipe

VOCABULARY = load_vocabulary()


def check(gaps: dict[str, Any], plan: dict[str, Any]) -> None:
    check_policy(parse_recipe({"name": "a", "cohort": {"source": "phantom"}, "plan": plan,
                               "gaps": {"findings": ["mass", "effusion"], **gaps}}), VOCABULARY)


@pytest.mark.parametrize(("gaps", "plan", "words"), [
    ({"findings": ["unicorn"]}, {}, "recipe: gaps.findings: got unicorn"),
    ({"plausible": {"allow": [["mass", "unicorn"]]}}, {}, "recipe: gaps.plausible.allow: got unicorn"),
    ({"plausible": {"deny": [["unicorn"]]}}, {}, "recipe: gaps.plausible.deny: got unicorn"),
    ({"plausible": {"reference": "absent.csv"}}, {}, "absent.csv"),
    ({"target": "absent.csv"}, {}, "absent.csv"),
    ({"plausible": {"allow": [["mass", "effusion"]], "deny": [["lung_lesion", "effusion"]]}}, {}, "denied"),
    ({}, {"costs": {"unicorn": {"insert": 2}}}, "recipe: plan.costs: got unicorn"),
    ({}, {"pass_rates": {"unicorn": {"insert": 0.5}}}, "recipe: plan.pass_rates: got unicorn"),
])
def test_what_cannot_be_is_named_with_its_key(gaps: dict[str, Any], plan: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        check(gaps, plan)
    assert words in str(caught.value)


def test_a_policy_that_can_be_carried_out_is_let_pass() -> None:
    check({"plausible": {"allow": [["mass", "effusion"]], "deny": [["hernia"]]}, "target": "nih"},
          {"costs": {"mass": {"insert": 2}}})
