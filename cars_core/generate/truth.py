"""The true counterfactual of an edit, where the film is simulated."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cars_core.anatomy.regions import passes
from cars_core.phantom.film import Film, render_truth
from cars_core.phantom.findings import Placed


def true_edit(truth: str, *, operations: list[dict[str, Any]], seed: int) -> Film:
    """Render the same patient, pose and noise with the findings the edit asked for, at the very places
    its masks were drawn for (places follow from the edit's seed).

    A deletion clears the finding on both sides.
    """
    raw = json.loads(truth)
    for step in passes(operations, seed):
        if step.kind == "delete":
            raw["findings"] = [f for f in raw["findings"] if f["finding"] != step.finding]
        else:
            raw["findings"].append(asdict(Placed(step.finding, step.side, step.severity, step.seed)))
    return render_truth(json.dumps(raw))
