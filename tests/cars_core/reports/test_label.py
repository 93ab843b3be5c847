"""The labeller on whole reports: any text, in linear time, with evidence that points at its words."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.reports import label as module
from cars_core.reports.label import label_report
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary, load_vocabulary

V = load_vocabulary()
WORDS = ["no", "effusion", "left", "right", "heart", "normal", "enlarged", "is", "not", "seen", "and", "or", ",", ".",
         "may", "represent", "versus", "pneumonia", "without", "previous", "history", "of", "?", "if", "opacity", "but",
         "FINDINGS:", "IMPRESSION:", "INDICATION:", "\n", "1.", "___", "with", "small", "(", ")", ":", "cannot", "be",
         "excluded", "resolved", "nodular", "lungs", "clear", "rib", "fracture", "none", "-", "\u2013", "yes",
         "removed", "prior", "previously", "on", "line", "é", "İ", "ﬁ", "/", "w/o", "'"]
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_any_text_is_read_and_evidence_points_into_it(text: str) -> None:
    labelled = label_report(text, V)
    lexicon = module.load_lexicon()
    for e in labelled.evidence:
        assert 0 <= e.start < e.end <= len(text)
        assert text[e.start : e.end].strip() == text[e.start : e.end]
        assert e.finding in V.names or e.finding in lexicon.remarks
        assert e.state in ("present", "absent", "uncertain")
        assert e.side in ("left", "right", "both", None) and e.severity in ("mild", "moderate", "severe", None)
    assert labelled.closed == close_upwards(labelled.vector, V)
    states = {e.finding for e in labelled.evidence if e.finding in V.names}
    v = labelled.vector
    assert states == set(V.unpack(v.present | v.absent | v.uncertain))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join))
def test_a_sentence_read_before_reads_the_same_again(text: str) -> None:
    module._remembered.cache_clear()
    assert label_report(text, V) == label_report(text, V)


def test_characters_whose_lower_case_is_longer_do_not_shift_the_evidence() -> None:
    text = "İİİ ﬁndings İ: Left effusion. ẞ Edema."
    assert [text[e.start : e.end] for e in label_report(text, V).evidence] == ["effusion", "Edema"]


def test_the_strongest_mention_counts_and_findings_and_impression_alike() -> None:
    def read(*said: str) -> str:
        return label_report("FINDINGS: " + said[0] + "\n\nIMPRESSION: " + said[-1], V).vector.state(V["edema"].bit)

    assert read("No edema.", "Possible edema.") == read("Possible edema.", "No edema.") == "uncertain"
    assert read("Edema.", "No edema.") == read("No edema.", "Edema.") == "present"
    assert read("No edema.", "Edema is not seen.") == "absent"
    assert read("Hello.", "Goodbye.") == "unmentioned"


def test_nothing_is_inferred_in_the_vector_and_everything_in_the_closed_one() -> None:
    labelled = label_report("Left lung mass. No nodule.", V)
    assert labelled.vector == Vector(present=V.mask(["mass"]), absent=V.mask(["nodule"]))
    assert labelled.closed == Vector(present=V.mask(["mass", "lung_lesion"]), absent=V.mask(["nodule"]))
    assert label_report("Possible mass.", V).closed == Vector(uncertain=V.mask(["mass"]))


def test_findings_a_smaller_vocabulary_lacks_are_passed_over() -> None:
    small = Vocabulary(tuple(replace(f, parents=()) for f in V.findings[:3]), {}, {})
    labelled = label_report("Cardiomegaly. Left lung mass. No acute cardiopulmonary process.", small)
    assert labelled.vector == Vector(present=small.mask(["cardiomegaly"]))
    assert {e.finding for e in labelled.evidence} == {"cardiomegaly", "unremarkable"}
    assert label_report("Left lung mass.", V).vector == Vector(present=V.mask(["mass"]))


def test_a_structured_report_is_read_field_by_field() -> None:
    text = ("FINDINGS:\nLines/tubes: none\nLungs: clear\nPleura: no effusion or pneumothorax\nHeart: mildly enlarged\n"
            "Consolidation: right lower lobe\nEdema: None\nFracture -- no\nHernia:\nMass: possible")
    read = label_report(text, V)
    assert read.states() == {
        "support_devices": "absent", "lung_opacity": "absent", "effusion": "absent", "pneumothorax": "absent",
        "cardiomegaly": "present", "enlarged_heart": "present", "consolidation": "present", "edema": "absent",
        "fracture": "absent", "mass": "uncertain"}
    assert [text[e.start : e.end] for e in read.evidence if e.finding in ("edema", "fracture")] == ["Edema", "Fracture"]


def test_an_empty_report_says_nothing() -> None:
    for text in ("", "  \n ", "___", "1. 2. 3."):
        labelled = label_report(text, V)
        assert not labelled.read and labelled.vector == Vector() and not labelled.evidence


def work(text: str) -> int:
    """Lines of Python executed to read a text: a count that no other process can change."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    module._remembered.cache_clear()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        label_report(text, V)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "unit",
    ["no ", "effusion is not seen ", "heart normal ", "normal heart ", "effusion, ", "effusion versus ", "possible ",
     "left effusion and ", "effusion, mass and nodule are not seen, ", "prior pneumonia ", "FINDINGS: ",
     ". IMPRESSION A", "a. ", "\n \n", "(", "effusion may be in the setting of ", "heart, normal, ", "COMPARISON:\n",
     "effusion: none ", "effusion: no ", "effusion: left mass ", "\nEffusion: ", "\nA a a a a", "effusion - no ",
     "mass / ", "line removed ", "effusion, mass: possible, ", "not seen on the "],
)
def test_twice_the_text_is_twice_the_work(unit: str) -> None:
    label_report("warm", V)
    once, twice = work(unit * 150), work(unit * 300)
    assert twice <= 2.2 * once + 500


def test_a_hundred_thousand_denials_are_read() -> None:
    labelled = label_report("no " * 100_000 + "effusion", V)
    assert labelled.vector == Vector(absent=V.mask(["effusion"]))
    assert label_report("a" * 1_000_000 + " effusion", V).vector == Vector(present=V.mask(["effusion"]))
