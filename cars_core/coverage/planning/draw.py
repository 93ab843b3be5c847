"""How an edit shows its finding: the side and the severity of each operation, drawn as they are distributed in reality.

The facts are in presentation.yaml: on how many real films each finding lies left, right or on both sides, and in how
many reports it is called mild, moderate or severe. What is drawn comes straight from digests: there is no generator's
stream, so that no draw hangs on another row's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from cars_core.digest import seed_from
from cars_core.vocabulary import Vocabulary

FACTS = Path(__file__).with_name("presentation.yaml")
#: A finding counted on fewer films has its parent's shares, else even ones.
FEWEST = 20

SIDES = ("left", "right", "both")
DEGREES = ("mild", "moderate", "severe")
#: Severities drawn, both ends included: below, findings are hard to see at all. In hundredths; each degree has a third.
SEVERITY = (0.4, 0.9)
_LOWEST, _STEPS = 40, 17  # hundredths: mild 40..56, moderate 57..73, severe 74..90

Weights = tuple[int, int, int]
#: Of a sided finding nobody counted: one side or the other, as nothing says how often it lies on both.
EVEN_SIDES: Weights = (1, 1, 0)
EVEN_DEGREES: Weights = (1, 1, 1)


@dataclass(frozen=True)
class Presentation:
    """Shares of findings, as whole numbers that stand to each other as the shares do.

    sides: finding -> (left, right, both). degrees: finding -> (mild, moderate, severe). Findings counted on fewer than
    FEWEST films are in neither.
    """

    sides: Mapping[str, Weights]
    degrees: Mapping[str, Weights]


@lru_cache(maxsize=1)
def load_presentation() -> Presentation:
    """The shares of presentation.yaml.

    How often a finding lies on both sides comes from the sources that mark every place where it lies. One that marks a
    single place a film tells left from right alone, and counts for that.
    """
    findings = yaml.safe_load(FACTS.read_text(encoding="utf-8"))["findings"]
    sides, degrees = {}, {}
    for name, facts in findings.items():
        counted = facts.get("sides", [])
        left, right = (sum(c[side] for c in counted) for side in SIDES[:2])
        whole = [c for c in counted if "both" in c]
        both, films = sum(c["both"] for c in whole), sum(c["films"] for c in whole)
        if films >= FEWEST and left + right:
            sides[name] = ((films - both) * left, (films - both) * right, both * (left + right))
        stated = facts.get("degrees", [])
        if sum(c["films"] for c in stated) >= FEWEST:
            mild, moderate, severe = (sum(c[degree] for c in stated) for degree in DEGREES)
            degrees[name] = (mild, moderate, severe)
    return Presentation(sides, degrees)


def side_weights(finding: str, *, vocabulary: Vocabulary) -> Weights:
    """(left, right, both) of a finding, in proportion: its own, else those of the nearest finding it implies that was
    counted, else EVEN_SIDES; (0, 0, 1) of one that is not sided.

    Raises:
        BadInput: the vocabulary lacks the finding.
    """
    if not vocabulary[finding].sided:
        return (0, 0, 1)
    return _nearest(finding, load_presentation().sides, vocabulary) or EVEN_SIDES


def degree_weights(finding: str, *, vocabulary: Vocabulary) -> Weights:
    """(mild, moderate, severe) of a finding, in proportion, by the same rule; else EVEN_DEGREES.

    Raises:
        BadInput: the vocabulary lacks the finding.
    """
    return _nearest(finding, load_presentation().degrees, vocabulary) or EVEN_DEGREES


def draw(operations: Sequence[tuple[str, str]], *, seed: int, image_id: str, copy: int,
         vocabulary: Vocabulary) -> tuple[list[dict[str, Any]], int]:
    """Sides and severities of an edit's operations, and the edit's own seed.

    Args:
        operations: (insert | delete, finding) pairs, in the plan's order, which belongs to what is drawn from.
        seed: the recipe's.
        image_id: of the film that is edited.
        copy: how often the very same operations were planned for this film before.

    Returns:
        (one {kind, finding, side, severity} an operation, the edit's seed, 0 .. 2**63 - 1). side: left, right or both
        for the insertion of a sided finding; else both: a label does not say where a finding lies that is deleted.
        severity: SEVERITY, in hundredths, evenly spread within its degree.

    Raises:
        BadInput: a finding the vocabulary lacks.
    """
    what = [list(operation) for operation in operations]
    drawn: list[dict[str, Any]] = []
    for kind, finding in operations:
        weights = side_weights(finding, vocabulary=vocabulary) if kind == "insert" else (0, 0, 1)
        side, _ = _pick(seed_from(seed, image_id, what, copy, finding, "side"), weights)
        degree, step = _pick(seed_from(seed, image_id, what, copy, finding, "severity"),
                             degree_weights(finding, vocabulary=vocabulary), steps=_STEPS)
        drawn.append({"kind": kind, "finding": finding, "side": SIDES[side],
                      "severity": (_LOWEST + _STEPS * degree + step) / 100})
    return drawn, seed_from(seed, image_id, what, copy, "edit")


def _pick(seed: int, weights: Weights, *, steps: int = 1) -> tuple[int, int]:
    """(index into `weights`, with chances in proportion, and one of 0 .. steps - 1, all alike) of a seed of 63 bits.

    In whole numbers, and by the seed's size rather than its remainder: weights that change a little change few draws.
    """
    place = seed * sum(weights) * steps >> 63
    for index, weight in enumerate(weights):
        if place < weight * steps:
            return index, place % steps
        place -= weight * steps
    raise AssertionError("a seed of 63 bits lies below the sum of the weights")


def _nearest(finding: str, known: Mapping[str, Weights], vocabulary: Vocabulary) -> Weights | None:
    """The entry of a finding, else of what it implies, nearest first."""
    level = [finding]
    while level:
        for name in level:
            if name in known:
                return known[name]
        level = [parent for name in level for parent in vocabulary[name].parents]
    return None
