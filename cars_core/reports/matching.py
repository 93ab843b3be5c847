"""Which phrases of the lexicon a sentence holds, and where."""

from __future__ import annotations

import re

from cars_core.reports.lexicon import Entry, Lexicon

#: (what it means, first word, word after the last).
Item = tuple[Entry, int, int]

COMMA = Entry(cues=frozenset({"comma"}))
STOP = Entry(cues=frozenset({"stop"}))
COLON = Entry(cues=frozenset({"stop", "colon"}))
DASH = Entry(cues=frozenset({"colon"}))
_MARKS = {",": COMMA, "(": COMMA, ")": COMMA, "[": COMMA, "]": COMMA, ";": STOP, ":": COLON, "-": DASH}
# A hyphen parts words as a space does. Shorthand with a stroke is one word; any other stroke is a word of its own. A
# dash is one where an answer may follow it ("Effusion - none").
_ANSWER = r"(?:none|nil|no|not|absent|negative|neg|resolved|removed|unlikely|possible|n/a|yes|present)\b"
_DASHES = frozenset({"--", "\u2013", "\u2014"})
_WORD = re.compile(
    r"\b(?:w/o|s/p|h/o|r/o|c/w|b/l|n/a)\b|[^\W\d_]+(?:'[a-z]+)?|\d+(?:\.\d+)?|[,;:()\[\]/?&]"
    rf"|(?<=\s)--?(?=\s+{_ANSWER})|[\u2013\u2014](?=\s*{_ANSWER})"
)
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def words_of(text: str) -> tuple[list[str], list[int], list[int]]:
    """Words and marks of a text in lower case, and where each begins and ends."""
    # str.lower may change the length of what is not ASCII, and offsets with it.
    lowered = text.lower() if text.isascii() else text.translate(_LOWER)
    words, begins, ends = [], [], []
    for found in _WORD.finditer(lowered):
        words.append("-" if found[0] in _DASHES else found[0])
        begins.append(found.start())
        ends.append(found.end())
    return words, begins, ends


def find_items(words: list[str], lexicon: Lexicon) -> list[Item]:
    """The phrases in a list of words, from the left, the longest at each place; they do not overlap.

    Looks at each word at most as often as the longest phrase has words.
    """
    root = lexicon.root
    folded = lexicon.folded
    words = [folded.get(word, word) for word in words]
    out: list[Item] = []
    at, n = 0, len(words)
    while at < n:
        word = words[at]
        node = root.get(word)
        if node is None:
            mark = _MARKS.get(word)
            if mark is not None:
                out.append((mark, at, at + 1))
            at += 1
            continue
        best: Entry | None = None
        end, look = at + 1, at
        while node is not None:
            look += 1
            if "" in node:
                best, end = node[""], look
            node = node.get(words[look]) if look < n else None
        if best is not None:
            out.append((best, at, end))
        at = end
    return out
