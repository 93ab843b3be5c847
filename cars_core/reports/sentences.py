"""The sentences of a report, by their places in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A sentence ends at a full stop and a space, at an empty line, and before a line that begins a list's next point or a
# form's next field ("Effusion: none").
# No part of the pattern can match the same text in two ways, so the time it takes grows with the text alone.
_END = re.compile(
    r"(?<=[^\W\d_]{2}\.)(?=[A-Z])"  # "effusion.No pneumothorax"
    r"|(?<=[.!;])\s+|(?<=[^\W_]\?)\s+|\n[ \t\r]*\n\s*|\n(?=[ \t]{0,20}(?:\d{1,2}[.)]|[-*•])[ \t])"
    r"|\n(?=[ \t]{0,20}[A-Z][^\n.:;,]{1,40}(?::|[ \t][-\u2013\u2014]{1,2}[ \t]))"
)
_SHORT = frozenset({"dr", "drs", "mr", "mrs", "ms", "prof", "vs", "approx", "st", "e.g", "i.e", "cf", "fig", "resp"})
_HOURS = frozenset({"a.m", "p.m"})  # may end a sentence: then a capital follows
_LAST_WORD = re.compile(r"[A-Za-z.]{1,8}$")
_LETTER = re.compile(r"[^\W\d_]")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """(begin, end) of each sentence in text[start:end], in order, as offsets into `text`.

    Pieces without a letter (the numbers of a list) are left out. A stop after a title or a Latin abbreviation ends
    nothing; neither does the end of a wrapped line.
    """
    end = len(text) if end is None else end
    begin = start
    for found in _END.finditer(text, start, end):
        if text[found.start() - 1 : found.start()] == ".":
            last = _LAST_WORD.search(text, max(begin, found.start() - 9), found.start() - 1)
            word = last[0].lower() if last is not None else ""
            if word in _SHORT or (word in _HOURS and text[found.end() : found.end() + 1].islower()):
                continue
        if _LETTER.search(text, begin, found.start()):
            yield begin, found.start()
        begin = found.end()
    if _LETTER.search(text, begin, end):
        yield begin, end
