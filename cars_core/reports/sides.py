"""On which side a sentence puts a finding, and how much of it there is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cars_core.reports.lexicon import DEGREES
from cars_core.reports.matching import Item

if TYPE_CHECKING:
    from cars_core.reports.context import Mention

#: How many phrases away a side or a degree may stand.
_NEAR = 12
_WITHIN = {"left": "left", "right": "right", **dict.fromkeys(("bilateral", "both", "biapical", "bibasilar"), "both")}
_END_BEFORE = frozenset({"stop", "but", "no", "gone", "open", "or", "versus", "with", "and"})
_END_AFTER = frozenset({"stop", "but", "comma", "with", "and", "no", "or", "versus", "slash"})
#: What one side of the body cannot be told of, or is told of as a whole.
_UNSIDED = frozenset({"cardiomegaly", "enlarged_heart", "enlarged_cardiomediastinum", "emphysema", "hernia", "copd",
                      "hyperinflation", "unremarkable", "vascular_congestion", "aortic_enlargement"})


def where_and_how_much(mentions: list[Mention], items: list[Item], words: list[str]) -> list[Mention]:
    """The mentions with side and severity.

    A side is looked for in the finding's own words, then before them back to the clause's last finding, then after
    them; what is stated or left open without a side of its own takes that of what the sentence said before.
    """
    out: list[Mention] = []
    carried: str | None = None
    for mention in mentions:
        before, after = _window(mention, items)
        side = None
        if mention.finding not in _UNSIDED:
            side = _within(words, mention) or _joined(before) or _joined(after)
            if mention.finding == "support_devices":
                side = _within(words, mention) or _joined(before)
            elif side is None and mention.state != "absent":
                side = carried or _joined(items[max(0, mention.item - _NEAR) : mention.item])
            if mention.state != "absent" and mention.finding != "support_devices":
                carried = side or carried
        degree = max((entry.degree for entry, _, _ in before), default=0)
        if not degree:
            near = items[max(0, mention.item - _NEAR) : mention.item + _NEAR]
            degree = max((e.degree for e, first, _ in near if mention.first <= first < mention.last), default=0)
        out.append(replace(mention, side=side, severity=DEGREES[degree - 1] if degree else None))
    return out


def _window(mention: Mention, items: list[Item]) -> tuple[list[Item], list[Item]]:
    """The phrases before and after a mention that may speak of it."""
    before: list[Item] = []
    start = mention.item
    for k in range(start - 1, max(-1, start - _NEAR), -1):
        entry = items[k][0]
        if entry.findings or entry.cues & _END_BEFORE or ("comma" in entry.cues and k != start - 1):
            break
        before.append(items[k])
    after: list[Item] = []
    for k in range(start + 1, min(len(items), start + _NEAR)):
        entry = items[k][0]
        if entry.findings or entry.cues & _END_AFTER:
            break
        after.append(items[k])
    return before, after


def _joined(items: list[Item]) -> str | None:
    sides = {entry.side for entry, _, _ in items if entry.side}
    if not sides:
        return None
    return sides.pop() if len(sides) == 1 else "both"


def _within(words: list[str], mention: Mention) -> str | None:
    sides = {_WITHIN[word] for word in words[mention.first : mention.last] if word in _WITHIN}
    if not sides:
        return None
    return sides.pop() if len(sides) == 1 else "both"
