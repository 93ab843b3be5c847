"""The words of reports, read from lexicon.yaml into a trie over words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import BadInput

FILE = Path(__file__).resolve().parent / "lexicon.yaml"
SIDES = ("left", "right", "both")
DEGREES = ("mild", "moderate", "severe")

#: A node of the trie: word -> node, and under "" what a phrase that ends here means.
Node = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """What a phrase means; it may be several things at once.

    findings: what it names. subject, quality: a part of the body and what is said of it, which mean something
    together. cues: the lists under `cues` it stands in. side: "" or one of SIDES. degree: 0, or its place in DEGREES
    from 1. denies: a finding's phrase that itself begins with a denial ("no acute cardiopulmonary disease").
    """

    findings: tuple[str, ...] = ()
    subject: str = ""
    quality: str = ""
    cues: frozenset[str] = frozenset()
    side: str = ""
    degree: int = 0
    denies: bool = False


@dataclass(frozen=True)
class Lexicon:
    """The words, ready for use.

    root: the trie. folded: spelling -> the word that stands for it. pairs: (subject, quality) -> ((finding, state),
    ...). narrower: (finding, subject) -> finding. misplaced: (finding, subject) that name something else together.
    remarks: names among the findings that have no bit. names: all findings the phrases name.
    """

    root: Node
    folded: Mapping[str, str]
    pairs: Mapping[tuple[str, str], tuple[tuple[str, str], ...]]
    narrower: Mapping[tuple[str, str], str]
    misplaced: frozenset[tuple[str, str]]
    remarks: tuple[str, ...]
    names: frozenset[str] = field(default_factory=frozenset)


def expand(pattern: str) -> Iterator[tuple[str, ...]]:
    """The phrases of a pattern, each a tuple of words.

    `a|b` are alternatives, `(a|b)` may be left out, `a_b` is two words: "(big|very_big) heart" is "heart", "big heart"
    and "very big heart".
    """
    places: list[list[tuple[str, ...]]] = []
    for word in pattern.split():
        optional = word.startswith("(") and word.endswith(")") and len(word) > 2
        options = [tuple(option.split("_")) for option in (word[1:-1] if optional else word).split("|")]
        places.append([*options, ()] if optional else options)
    for choice in itertools.product(*places):
        yield tuple(itertools.chain(*choice))


@lru_cache(maxsize=4)
def load_lexicon(path: str | None = None) -> Lexicon:
    """Read a lexicon (the built-in one by default).

    Raises:
        BadInput: unreadable, or a pair of an unknown subject or quality.
    """
    file = Path(path) if path else FILE
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _build(raw, str(file))
    except OSError as e:
        raise BadInput("lexicon", str(file), f"a readable file ({e.strerror})") from e
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as e:
        if isinstance(e, BadInput):
            raise
        raise BadInput(f"lexicon {file}", " ".join(str(e).split())[:120], "lists of phrases") from e


def _build(raw: dict[str, Any], where: str) -> Lexicon:
    entries: dict[tuple[str, ...], Entry] = {}
    given = [raw["ignored"], *(lists for part in ("findings", "subjects", "qualities", "cues", "sides", "degrees")
                               for lists in raw[part].values())]  # fmt: skip
    words = {word for patterns in given for pattern in patterns for phrase in expand(pattern) for word in phrase}
    folded = _folded(raw["spellings"], words, frozenset(raw["pairs_of"]))

    def phrases(patterns: list[str]) -> Iterator[Entry]:
        for pattern in patterns:
            for phrase in expand(pattern):
                if phrase:
                    yield entries.setdefault(tuple(folded.get(word, word) for word in phrase), Entry())

    for name, patterns in raw["findings"].items():
        for entry in phrases(patterns):
            if name not in entry.findings:
                entry.findings = (*entry.findings, name)
    for name, patterns in raw["subjects"].items():
        for entry in phrases(patterns):
            entry.subject = name
    for name, patterns in raw["qualities"].items():
        for entry in phrases(patterns):
            entry.quality = name
    for name, patterns in raw["cues"].items():
        for entry in phrases(patterns):
            entry.cues |= {name}
    for name in SIDES:
        for entry in phrases(raw["sides"][name]):
            entry.side = name
    for degree, name in enumerate(DEGREES, start=1):
        for entry in phrases(raw["degrees"][name]):
            entry.degree = degree
    for _ in phrases(raw["ignored"]):
        pass
    denials = {phrase for phrase, entry in entries.items() if "no" in entry.cues}
    for phrase, entry in entries.items():
        entry.denies = bool(entry.findings) and any(phrase[:n] in denials for n in range(1, len(phrase)))
    root: Node = {}
    for phrase, entry in entries.items():
        node = root
        for word in phrase:
            node = node.setdefault(word, {})
        node[""] = entry
    return Lexicon(
        root=root,
        folded=folded,
        pairs=_pairs(raw, where),
        narrower={(f, s): other for f, by in raw["narrower"].items() for s, other in by.items()},
        misplaced=frozenset((f, s) for f, subjects in raw["misplaced"].items() for s in subjects),
        remarks=tuple(raw["remarks"]),
        names=frozenset(name.lstrip("~") for name in raw["findings"]),
    )


def _folded(spellings: dict[str, list[str]], words: set[str], kept: frozenset[str]) -> dict[str, str]:
    """Spelling -> word, for text and phrases alike: those given, and plurals of the words but for those kept."""
    out = {other: word for word, others in spellings.items() for other in others}
    for word in sorted(words, key=lambda word: (len(word), word)):
        if word not in out and len(word) > 2 and word.isalpha():
            plurals = [word + "s"]
            if word.endswith(("s", "x", "sh", "ch")):
                plurals.append(word + "es")
            if word.endswith("y"):
                plurals.append(word[:-1] + "ies")
            for plural in plurals:
                if plural not in kept:
                    out.setdefault(plural, word)
    for word in set(spellings) | kept:
        out.pop(word, None)
    return out


def _pairs(raw: dict[str, Any], where: str) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    out = {}
    for subject, qualities in raw["pairs"].items():
        for quality, findings in qualities.items():
            if subject not in raw["subjects"] or quality not in raw["qualities"]:
                raise BadInput(f"{where}: pairs", f"{subject}, {quality}", "a subject and a quality of this file")
            said = []
            for name in findings:
                state = {"-": "absent", "~": "uncertain"}.get(name[0], "present")
                said.append((name.lstrip("-~"), state))
            out[subject, quality] = tuple(said)
    return out
