"""Whether a denial is told of an earlier film: "previously not seen", "not seen on the prior study"."""

from __future__ import annotations

_BEFORE = frozenset({"previously", "formerly", "before", "earlier", "yesterday", "priorly"})
_SEEN = frozenset({"seen", "noted", "described", "identified", "present", "visualized", "visible", "demonstrated",
                   "reported", "mentioned"})
_ON = frozenset({"on", "in", "at", "during"})
_BETWEEN = frozenset({"the", "a", "an", "any", "his", "her", "their", "patient's", "most", "recent", "immediate",
                      "immediately", "multiple", "of"})
_PAST = frozenset({"prior", "priors", "previous", "earlier", "preceding", "old", "older", "last", "comparison",
                   "yesterday", "yesterday's", "outside", "former"})
#: How many words may stand between "on" and "prior".
_REACH = 4


def of_an_earlier_film(words: list[str], first: int, last: int) -> bool:
    """Whether the denial words[first:last] ("not seen", "was absent") denies for an earlier film only.

    What was not there then is there now: it is new. "No longer" and "resolved" speak of this film whatever follows.
    """
    denial = words[first:last]
    if "not" not in denial and "absent" not in denial:
        return False
    if first and words[first - 1] in _BEFORE and not (first > 1 and words[first - 2] in _SEEN):
        return True
    following = words[last : last + 2 + _REACH]
    if not following:
        return False
    if following[0] in _BEFORE:
        return True
    if following[0] in _ON:
        named = next((word for word in following[1:] if word not in _BETWEEN), "")
        return named in _PAST
    return False
