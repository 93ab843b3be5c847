"""What can be held against a recipe's policy on combinations before any film is read."""

from __future__ import annotations

import numpy as np

from cars_core.coverage.plausible import Plausibility
from cars_core.coverage.reference import load_reference
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Recipe


def check_policy(recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Refuse what the recipe says of gaps and plans where no film is needed to see that it cannot be.

    Raises:
        BadInput: a finding the vocabulary lacks, with the key it stands under; a reference or target that cannot be
            read; what is allowed and denied at once.
    """
    gaps, plan = recipe.gaps, recipe.plan
    for key, names in (
        ("gaps.findings", gaps.findings),
        ("gaps.plausible.allow", [n for entry in gaps.plausible.allow for n in entry]),
        ("gaps.plausible.deny", [n for entry in gaps.plausible.deny for n in entry]),
        ("plan.costs", plan.costs),
        ("plan.pass_rates", plan.pass_rates),
    ):
        for name in names:
            if name not in vocabulary.names:
                raise BadInput(f"recipe: {key}", name, "one of " + ", ".join(vocabulary.names))
    if gaps.target is not None:
        load_reference(gaps.target, vocabulary=vocabulary)
    Plausibility(gaps.plausible, real=np.zeros(0, np.int64), vocabulary=vocabulary, findings=gaps.findings)
