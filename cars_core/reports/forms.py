"""Fields of a form: "Pneumothorax: none", "Lines/tubes - absent", "Effusion: small on the left".

What stands before the colon is a heading and states nothing by itself: the answer does. An answer of yes or no, of
doubt, or that nothing was assessed gives the heading's findings their state. Any other answer leaves them stated,
unless it speaks of the same findings itself ("Pneumothorax: There is no pneumothorax"), or denies something and states
nothing ("Pneumonia: The lungs are clear"). A heading that nothing follows states nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cars_core.reports.earlier import of_an_earlier_film
from cars_core.reports.matching import STOP, Item

if TYPE_CHECKING:
    from cars_core.reports.context import Mention

#: How many phrases a heading has at most, how many may stand before an answer ("there is none"), and how many are
#: looked at for the next heading after a "no".
_LONGEST, _BEFORE_ANSWER, _NEXT = 40, 3, 8
_MARKS = frozenset(",;:()[]-")
#: What begins an answer that may speak for itself; "small" and "on the left" speak for the heading.
_SENTENCE = frozenset({"no", "gone", "article", "pseudo"})
_ANSWERS = {"answer_no": "absent", "gone": "absent", "answer_unsaid": "unsaid", "answer_yes": "present"}


@dataclass(frozen=True, slots=True)
class Field:
    """Phrases begin to end (past the last) of a sentence are a heading.

    answer: present | absent | uncertain, unsaid where nothing is answered, or told where the answer is in words of its
    own; these end before phrase `over`. plain: nothing but findings and what joins them stands in the heading. speaks:
    the answer begins as a sentence does.
    """

    begin: int
    end: int
    answer: str
    plain: bool = True
    speaks: bool = False
    over: int = 0


def find_fields(items: list[Item], words: list[str]) -> tuple[list[Item], list[Field]]:
    """The fields of a sentence, and its phrases without the answers that are one word.

    `items` and `words` are those of `matching`. Each such answer and its colon become one stop; dashes that part no
    heading from its answer are left out. Places in a field count in the phrases returned.
    """
    if not any("colon" in entry.cues for entry, _, _ in items):
        return items, []
    out: list[Item] = []
    fields: list[Field] = []
    at = 0
    while at < len(items):
        mark = items[at]
        at += 1
        if "colon" not in mark[0].cues:
            out.append(mark)
            continue
        begin, plain = _heading(out)
        answer, after = _answer(items, words, at) if begin < len(out) else (None, at)
        colon = "stop" in mark[0].cues
        if fields and not fields[-1].over and (colon or answer is not None):
            fields[-1] = replace(fields[-1], over=begin)
        if answer is not None:
            fields.append(Field(begin, len(out), answer))
            out.append((STOP, mark[1], items[after - 1][2]))
            at = after
        elif colon:
            if begin < len(out):
                fields.append(Field(begin, len(out), "told", plain=plain, speaks=_speaks(items, at, mark[2])))
            out.append(mark)
    if fields and not fields[-1].over:
        fields[-1] = replace(fields[-1], over=len(out))
    return out, fields


def answered(mentions: list[Mention], fields: list[Field]) -> list[Mention]:
    """The mentions with the states their fields give them; what states nothing is left out."""
    if not fields:
        return mentions
    places: dict[int, list[int]] = {}  # phrase -> its mentions
    for n, mention in enumerate(mentions):
        places.setdefault(mention.item, []).append(n)
    out: list[Mention | None] = list(mentions)
    for field in fields:
        heading = [n for k in range(field.begin, field.end) for n in places.get(k, ())]
        if field.answer in ("absent", "uncertain"):
            for n in heading:
                out[n] = replace(mentions[n], state=field.answer)
        elif field.answer == "unsaid":
            for n in heading:
                out[n] = None
        elif field.answer == "told" and field.plain:
            said = [mentions[n] for k in range(field.end + 1, field.over) for n in places.get(k, ())]
            own = {m.finding for m in said}
            denies = bool(said) and field.speaks and all(m.state == "absent" for m in said)
            for n in heading:
                if denies or mentions[n].finding in own:
                    out[n] = None
    return [mention for mention in out if mention is not None]


def _heading(before: list[Item]) -> tuple[int, bool]:
    """Where the heading begins that ends with the phrases given, their number if none does; and whether it is plain.

    It goes back to the last stop or verb; over a comma only where nothing is said of what stands before it.
    """
    begin = nearest = len(before)
    plain, found, first = True, False, True
    for k in range(len(before) - 1, max(-1, len(before) - _LONGEST), -1):
        entry = before[k][0]
        cues = entry.cues
        if "comma" in cues:
            begin, first = nearest, False
            continue
        ends = bool(cues & {"stop", "but", "no", "gone"}) or ("verb" in cues and found)
        said = bool(entry.side or entry.degree or entry.quality or cues & {"positive", "may"})
        if ends or (said and not first):
            if first and ends:
                begin = k + 1
                plain = plain and "verb" not in cues
            break
        plain = plain and not said
        found = found or bool(entry.findings)
        nearest = k
        if first:
            begin = k
    else:
        begin = nearest
    if not any(entry.findings for entry, _, _ in before[begin:]):
        return len(before), False
    return begin, plain


def _answer(items: list[Item], words: list[str], at: int) -> tuple[str | None, int]:
    """What phrase `at`, the first after a colon, answers, and the phrase after the answer."""
    if at == len(items):
        return ("unsaid", at) if items[at - 1][2] == len(words) else (None, at)
    for k in range(at, min(len(items), at + _BEFORE_ANSWER)):
        entry, first, last = items[k]
        if set(words[items[k - 1][2] : first]) - {"x"}:
            break  # other words stand between
        cues = entry.cues
        for cue, answer in _ANSWERS.items():
            if cue in cues and not of_an_earlier_film(words, first, last):
                if words[first] != "no" or _closed(items, words, k):
                    return answer, k + 1
                return None, at
        if cues & {"open", "answer_open"} and not _finding_follows(items, k):
            return "uncertain", k + 1
        if not (cues & {"article", "verb"} or words[first] in ("(", "[") or words[first - 1 : first + 1] == ["x", "]"]):
            break  # "there is", "(", "[x]"
    return None, at


def _closed(items: list[Item], words: list[str], k: int) -> bool:
    """Whether a "no" ends there: nothing follows, or a mark, or the next heading ("Effusion: no Mass: no")."""
    last = items[k][2]
    if last >= len(words) or words[last] in _MARKS:
        return True
    for entry, _, _ in items[k + 1 : k + _NEXT]:
        if "colon" in entry.cues:
            return True
        if not (entry.findings or entry.subject or entry.side or entry.cues & {"and", "or", "slash"}):
            return False
    return False


def _finding_follows(items: list[Item], k: int) -> bool:
    for entry, _, _ in items[k + 1 : k + _LONGEST]:
        if entry.cues & {"comma", "stop", "but", "colon"}:
            return False
        if entry.findings:
            return True
    return False


def _speaks(items: list[Item], at: int, word: int) -> bool:
    if at == len(items) or items[at][1] != word:
        return False
    entry = items[at][0]
    return bool(entry.findings or entry.subject or entry.quality or entry.cues & _SENTENCE)
