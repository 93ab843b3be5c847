"""The sections of a report: what describes this film, and what only says why and how it was made."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What a section is called -> the headings it goes by.
_READ: dict[str, tuple[str, ...]] = {
    "findings": ("findings", "finding", "report", "wet read", "preliminary report", "preliminary read", "narrative",
                 "findings and impression", "findings/impression", "chest", "result", "results"),
    "impression": ("impression", "impressions", "final impression", "provisional findings impression", "conclusion",
                   "conclusions", "opinion", "summary", "assessment", "diagnosis", "interpretation", "recommendation",
                   "recommendations"),
    "addendum": ("addendum", "addenda", "addendum begins"),
}
_ASIDE = (
    "final report", "examination", "exam", "exam type", "type of exam", "type of examination", "study", "procedure",
    "procedures", "procedure comments", "indication", "indications", "clinical indication", "history",
    "clinical history", "clinical information", "clinical data", "clinical question", "medical condition",
    "reason for exam", "reason for examination", "reason for this examination", "reason for study", "reason",
    "comparison", "comparisons", "comparison study", "comparison studies", "technique", "views", "number of views",
    "chest radiograph", "chest radiographs", "portable chest", "portable chest radiograph", "date", "date of exam",
    "acc", "accession", "accession number", "patient", "mrn", "signed by", "dictated by", "electronically signed by",
    "attending", "attestation", "notification", "end of impression", "dictating", "radiologist", "referring physician",
)
_NAME_OF: dict[str, str | None] = {
    **dict.fromkeys(_ASIDE),
    **{heading: name for name, headings in _READ.items() for heading in headings},
}
_FINAL = "final report"  # stands over a report whose body may have no other heading
_PHRASES = "|".join(re.escape(h).replace(r"\ ", "[ ]") for h in sorted(_NAME_OF, key=len, reverse=True))
# A heading with a colon may follow the end of a sentence in its line; one without has its line to itself, or is in
# capitals at the start of it.
_FOUND = re.compile(
    rf"(?:\A|(?<=\n)|(?<=[.?!:;)_*]))[ \t\r\n*#]{{0,40}}(?:\d{{1,2}}[.)][ ]?)?"
    rf"\b(?P<name>{_PHRASES})\b(?:(?P<colon>[ *]{{0,3}}:)|(?P<alone>[ \t]{{0,40}}(?=[\r\n]|\Z))"
    r"|(?P<caps>[ ](?=[A-Z0-9_])))",
    re.IGNORECASE,
)
_MARGIN = 90  # characters: more than may stand before a heading in its line
_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_INK = re.compile(r"\S")


@dataclass(frozen=True)
class Section:
    """A part of a report, text[start:end] of the whole. name: findings | impression | addendum."""

    name: str
    start: int
    end: int


def split_sections(text: str) -> list[Section]:
    """The sections that describe the film, in order; they do not overlap.

    Headings may be in any case; with a colon they may stand in a line, without one they have a line to themselves, or
    are in capitals at its start (those of what is set aside only before words that are not). Without any heading
    everything is findings. What stands before a first heading that is read counts as findings. Where no heading says
    FINDINGS, a section that is set aside ends with its paragraph, and what follows it counts as findings: many reports
    go on from COMPARISON to the description without a heading.
    """
    marks: list[tuple[int, int, str | None]] = []
    for found in _FOUND.finditer(text):
        name, begin = found["name"], found.start("name")
        if found["colon"] is None:
            before = text[max(0, begin - _MARGIN) : begin].rpartition("\n")[2].strip(" \t\r*#.)0123456789")
            if before or not (name.isupper() or (found["alone"] is not None and name.istitle())):
                continue  # "impression" in the middle of a sentence, or at the start of a wrapped line
            # "HISTORY Cough" is a heading; in a report all in capitals "STUDY LIMITED BY ROTATION" is none.
            second = text[found.end() + 1 : found.end() + 2]
            if found["caps"] is not None and _NAME_OF[name.lower()] is None and not second.islower():
                continue
        marks.append((begin, found.end(), _NAME_OF[name.lower()]))
    if not marks:
        return [Section("findings", 0, len(text))] if text else []
    described = any(name == "findings" for _, _, name in marks)
    out: list[Section] = []
    if marks[0][2] is not None or not described:
        out.append(Section("findings", 0, marks[0][0]))
    ends = [begin for begin, _, _ in marks[1:]] + [len(text)]
    for (title, begin, name), end in zip(marks, ends, strict=True):
        if name is not None:
            out.append(Section(name, begin, end))
        elif not described:
            bare = text[title:begin].lower().startswith(_FINAL)
            out.append(Section("findings", begin if bare else _after_paragraph(text, begin, end), end))
    return [section for section in out if _INK.search(text, section.start, section.end)]


def _after_paragraph(text: str, begin: int, end: int) -> int:
    """Where the first paragraph of text[begin:end] is over."""
    ink = _INK.search(text, begin, end)
    empty = _EMPTY_LINE.search(text, ink.start(), end) if ink else None
    return empty.end() if empty else end
