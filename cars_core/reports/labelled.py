"""What reading a report gives: states of findings, and the words that say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cars_core.vectors import Vector

_RANK = {"absent": 1, "uncertain": 2, "present": 3}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing the report says: text[start:end] of the report as it was given.

    finding: a name of the vocabulary, or one of the lexicon's remarks, which have no bit. state: present | absent |
    uncertain. side: the patient's left | right | both, None where no words give it. severity: mild | moderate | severe
    | None. section: findings | impression | addendum. normal: said by calling a part of the body normal or clear.
    """

    finding: str
    state: str
    side: str | None
    severity: str | None
    start: int
    end: int
    section: str
    normal: bool = False


@dataclass(frozen=True)
class Labelled:
    """What a report states.

    vector: what stands there in so many words, nothing inferred. closed: with what follows from what is present; from
    doubt nothing follows: a possible mass leaves `lung_lesion` as the report does, unmentioned. concepts: concept ->
    state for the concepts the report speaks of. evidence: in the order of the text. read: whether there was a
    sentence to read at all.
    """

    vector: Vector
    closed: Vector
    concepts: Mapping[str, str]
    evidence: tuple[Evidence, ...]
    read: bool = True

    def states(self) -> dict[str, str]:
        """Finding or remark -> the strongest thing said of it: present over uncertain over absent."""
        return strongest(self.evidence)


def strongest(evidence: Iterable[Evidence]) -> dict[str, str]:
    """Finding -> the strongest state among its mentions: present over uncertain over absent."""
    out: dict[str, str] = {}
    for one in evidence:
        if _RANK[one.state] > _RANK.get(out.get(one.finding, ""), 0):
            out[one.finding] = one.state
    return out
