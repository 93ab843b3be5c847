"""A report's text into a finding vector, with the words that say so."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

from cars_core.reports.context import read_sentence
from cars_core.reports.labelled import Evidence, Labelled, strongest
from cars_core.reports.lexicon import load_lexicon
from cars_core.reports.matching import find_items, words_of
from cars_core.reports.rows import chexpert_row, concept_names, concept_row, nih_row
from cars_core.reports.sections import split_sections
from cars_core.reports.sentences import sentences
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary

__all__ = ["Evidence", "Labelled", "chexpert_row", "concept_names", "concept_row", "label_report", "nih_row"]

#: Sentences up to this long are remembered: radiologists repeat the short ones.
_REMEMBERED_CHARS, _REMEMBERED = 300, 32768

#: (finding, state, side, severity, normal, begin, end) of one mention, offsets within its sentence.
_Read = tuple[str, str, str | None, str | None, bool, int, int]


def label_report(text: str, vocabulary: Vocabulary) -> Labelled:
    """Read a report. Any text can be read; one without findings gives an empty vector. Findings that the vocabulary
    lacks are passed over.

    FINDINGS, IMPRESSION, CONCLUSION and addenda count alike; INDICATION, HISTORY, COMPARISON, TECHNIQUE and the like
    are passed over. Time grows linearly with the text.
    """
    evidence: list[Evidence] = []
    read = False
    known, remarks = _bits(vocabulary), load_lexicon().remarks
    for section in split_sections(text):
        for begin, end in sentences(text, section.start, section.end):
            read = True
            sentence = text[begin:end]
            found = _remembered(sentence) if len(sentence) <= _REMEMBERED_CHARS else _read(sentence)
            for finding, state, side, severity, normal, first, last in found:
                if finding in known or finding in remarks:
                    evidence.append(
                        Evidence(finding, state, side, severity, begin + first, begin + last, section.name, normal)
                    )
    said = tuple(evidence)
    states = strongest(said)
    masks = {"present": 0, "absent": 0, "uncertain": 0}
    for finding, state in states.items():
        if finding in known:
            masks[state] |= known[finding]
    vector = Vector(**masks)
    concepts = {name: states[name] for name in concept_names(vocabulary) if name in states}
    return Labelled(vector, close_upwards(vector, vocabulary), MappingProxyType(concepts), said, read)


def _bits(vocabulary: Vocabulary) -> dict[str, int]:
    """Finding -> its bit as a mask; kept for the vocabulary last asked for, which is nearly always the same one."""
    global _last
    if _last is None or _last[0] is not vocabulary:
        _last = (vocabulary, {finding.name: 1 << finding.bit for finding in vocabulary.findings})
    return _last[1]


_last: tuple[Vocabulary, dict[str, int]] | None = None


def _read(sentence: str) -> tuple[_Read, ...]:
    lexicon = load_lexicon()
    words, begins, ends = words_of(sentence)
    out = []
    for m in read_sentence(find_items(words, lexicon), words, lexicon):
        out.append((m.finding, m.state, m.side, m.severity, m.normal, begins[m.first], ends[m.last - 1]))
    return tuple(out)


_remembered = lru_cache(maxsize=_REMEMBERED)(_read)
