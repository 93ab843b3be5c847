"""The lexicon: a word misspelt there is a finding that nobody finds again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from cars_core.reports.label import label_report
from cars_core.reports.lexicon import FILE, expand, load_lexicon
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
RAW = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_every_finding_and_concept_of_the_vocabulary_has_words() -> None:
    lexicon = load_lexicon()
    said = lexicon.names | {finding for pair in lexicon.pairs.values() for finding, _ in pair}
    assert set(V.names) <= said
    assert said <= set(V.names) | set(lexicon.remarks)
    assert {name for names in V.concepts.values() for name in names} <= said


def test_pairs_and_exceptions_name_parts_and_findings_that_exist() -> None:
    lexicon = load_lexicon()
    for subject, quality in lexicon.pairs:
        assert subject in RAW["subjects"] and quality in RAW["qualities"]
    for finding, subject in [*lexicon.narrower, *lexicon.misplaced]:
        assert finding in lexicon.names and subject in RAW["subjects"]
    assert set(lexicon.narrower.values()) <= lexicon.names


@pytest.mark.parametrize("finding", list(RAW["findings"]))
def test_each_phrase_states_its_finding(finding: str) -> None:
    name = finding.lstrip("~")
    for pattern in RAW["findings"][finding]:
        for words in itertools.islice(expand(pattern), 40):
            states = label_report(" ".join(words).capitalize() + ".", V).states()
            assert states.get(name) == ("uncertain" if finding.startswith("~") else "present"), words


def test_no_phrase_that_is_passed_over_states_anything() -> None:
    for pattern in RAW["ignored"]:
        for words in itertools.islice(expand(pattern), 40):
            states = label_report("There is a " + " ".join(words) + ".", V).states()
            assert not states, words


def test_patterns_expand_as_they_say() -> None:
    assert set(expand("(big|very_big) heart|hearts")) == {
        (*size, noun) for size in ((), ("big",), ("very", "big")) for noun in ("heart", "hearts")}


@pytest.mark.parametrize(
    "text", ["findings: [", "findings: {effusion: [effusion]}", "3", "findings: {effusion: 3}"]
)
def test_a_broken_lexicon_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lexicon.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match="lists of phrases"):
        load_lexicon(str(path))
    with pytest.raises(BadInput, match="a readable file"):
        load_lexicon(str(tmp_path / "none.yaml"))


def test_a_pair_of_unknown_words_is_named(tmp_path: Path) -> None:
    broken = {**RAW, "pairs": {"heart": {"purple": ["cardiomegaly"]}}}
    path = tmp_path / "lexicon.yaml"
    path.write_text(yaml.safe_dump(broken))
    with pytest.raises(BadInput, match="heart, purple"):
        load_lexicon(str(path))
