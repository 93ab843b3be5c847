"""A report, and what each of its sentences says of which finding."""

from __future__ import annotations

from dataclasses import dataclass

from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary


@dataclass(frozen=True)
class Statement:
    """What one sentence or clause says of one finding.

    finding: a name of schemas/findings.yaml. state: present | absent | uncertain. side: the patient's left | right |
    both, None where the words give none. text: the span of the report that says so; findings may share one.
    """

    finding: str
    state: str
    side: str | None
    text: str


@dataclass(frozen=True)
class Report:
    """A report and what it states, in the order of its text. Every statement's text is a substring of `text`."""

    text: str
    statements: tuple[Statement, ...]

    def vector(self, vocabulary: Vocabulary) -> Vector:
        """What the text states and what follows from it: `stated`, closed upwards.

        Raises:
            BadInput: the vocabulary lacks a finding the report speaks of.
        """
        return close_upwards(self.stated(vocabulary), vocabulary)

    def stated(self, vocabulary: Vocabulary) -> Vector:
        """What the text states in so many words, nothing inferred: a consolidation does not state an opacity.

        Present overrules uncertain, and uncertain absent.

        Raises:
            BadInput: the vocabulary lacks a finding the report speaks of.
        """
        masks = dict.fromkeys(("present", "uncertain", "absent"), 0)
        for one in self.statements:
            masks[one.state] |= 1 << vocabulary[one.finding].bit
        masks["uncertain"] &= ~masks["present"]
        masks["absent"] &= ~(masks["present"] | masks["uncertain"])
        return Vector(**masks)
