"""The true counterfactual of an edit, where the film is simulated."""

from __future__ import annotations

from typing import Any

from cars_core.anatomy.regions import passes
from cars_core.phantom.film import Film
from cars_core.phantom.truth import counterfactual, render_truth


def true_edit(truth: str, *, operations: list[dict[str, Any]], seed: int) -> Film:
    """Render the same patient, position and noise with the findings the edit asked for, at the very places its masks
    were drawn for (places follow from the edit's seed).

    A deletion clears the finding on both sides. Fluid lies as the patient does, though an edit's mask is drawn for an
    erect film.

    Raises:
        BadInput: the truth is not one of the phantom's, or the operations cannot be carried out on it.
    """
    steps = passes(operations, seed)
    return render_truth(counterfactual(truth, delete={s.finding for s in steps if s.kind == "delete"},
                                       insert=[s.placed for s in steps if s.kind == "insert"]))
