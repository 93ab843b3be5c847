"""A policy on combinations that contradicts itself or cannot be met is refused before anything is counted."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import BadInput
from schemas.policy import AGE_BANDS, ATTRIBUTES
from schemas.recipe import parse_recipe

FINDINGS = ["effusion", "mass", "edema"]


def parsed(*, plan: dict[str, Any] | None = None, **gaps: Any) -> Any:
    return parse_recipe({"name": "a", "cohort": {"source": "phantom"}, "gaps": {"findings": FINDINGS, **gaps},
                         "plan": plan or {}})


def refusal(**given: Any) -> str:
    with pytest.raises(BadInput) as caught:
        parsed(**given)
    return str(caught.value)


@pytest.mark.parametrize(("given", "words"), [
    ({"min_share": 0}, "gaps.min_share: got 0"),
    ({"min_share": 1.2}, "gaps.min_share: got 1.2"),
    ({"by": ["height"]}, "gaps.by.0: got height"),
    ({"by": ["sex", "sex"]}, "each attribute of by once (sex is there twice)"),
    ({"patterns": "negative"}, "gaps.patterns: got negative"),
    ({"plausible": {"rule": "perhaps"}}, "gaps.plausible.rule: got perhaps"),
    ({"plausible": {"allow": [[]]}}, "gaps.plausible.allow.0"),
    ({"plan": {"strategy": "best"}}, "plan.strategy: got best"),
    ({"plan": {"costs": {"mass": {"insert": 0}}}}, "plan.costs.mass.insert: got 0"),
    ({"plan": {"costs": {"mass": {"swap": 1}}}}, "plan.costs.mass.swap"),
    ({"plan": {"pass_rates": {"mass": {"delete": 1.5}}}}, "pass_rates of mass: at most 1"),
    ({"plan": {"balance": ["sex", "sex"]}}, "balance: each attribute once"),
    ({"plan": {"balance": ["sex"], "population": {"view": {"PA": 1}}}}, "view is not one"),
    ({"plan": {"population": {"sex": {"F": 0, "M": 0}}}}, "shares of sex that are not all 0"),
])
def test_what_cannot_be_meant_is_named(given: dict[str, Any], words: str) -> None:
    assert words in refusal(**given)


@pytest.mark.parametrize(("allow", "deny", "clash"), [
    ([["effusion", "mass"]], [["mass", "effusion"]], True),
    ([["effusion", "mass", "edema"]], [["mass", "edema"]], True),
    ([["effusion", "mass"]], [["effusion", "mass", "edema"]], False),
    ([["effusion"]], [["mass"]], False),
])
def test_a_combination_cannot_be_allowed_and_denied(allow: list[list[str]], deny: list[list[str]], clash: bool) -> None:
    """Whichever list won, the clinician who wrote the other would be disobeyed."""
    if clash:
        assert "allow and deny that agree" in refusal(plausible={"allow": allow, "deny": deny})
    else:
        assert parsed(plausible={"allow": allow, "deny": deny}).gaps.plausible.deny == deny


def test_every_age_has_one_band() -> None:
    """An age between two bands would be counted in none, one in two bands twice."""
    assert [sum(low <= age <= high for low, high in AGE_BANDS) for age in range(151)] == [1] * 151
    assert {"sex", "age", "view"} <= set(ATTRIBUTES)
