"""Single sentences: what is denied must not be stated, what is left open must stay open."""

from __future__ import annotations

from pathlib import Path

import pytest

from cars_core.reports.label import label_report
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()
STATES = {"+": "present", "-": "absent", "?": "uncertain"}
READINGS = [
    line.partition(" =>")
    for line in (Path(__file__).parent / "readings.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("sentence", "said"), [(sentence, said) for sentence, _, said in READINGS])
def test_a_sentence_says_what_a_reader_finds_in_it_and_nothing_more(sentence: str, said: str) -> None:
    expected = {word[:-1]: STATES[word[-1]] for word in said.split()}
    assert label_report(sentence, V).states() == expected


@pytest.mark.parametrize(("sentence", "said"), [(sentence, said) for sentence, _, said in READINGS])
def test_capitals_hyphens_and_line_ends_change_no_reading(sentence: str, said: str) -> None:
    expected = label_report(sentence, V).states()
    assert label_report(sentence.upper(), V).states() == expected
    assert label_report(sentence.replace(" ", "\n "), V).states() == expected
    assert label_report(sentence.replace("left lower", "left-lower").replace("air space", "air-space"), V).states() == (
        expected
    )


def sides(text: str) -> set[tuple[str, str | None, str | None]]:
    return {(e.finding, e.side, e.severity) for e in label_report(text, V).evidence}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left pleural effusion and large right pneumothorax.",
         {("effusion", "left", "mild"), ("pneumothorax", "right", "severe")}),
        ("Moderate bilateral pleural effusions.", {("effusion", "both", "moderate")}),
        ("Pleural effusions on both sides.", {("effusion", "both", None)}),
        ("There is consolidation in the right lung.", {("consolidation", "right", None)}),
        ("Left pleural effusion with adjacent atelectasis.",
         {("effusion", "left", None), ("atelectasis", "left", None)}),
        ("Lingular consolidation, right middle lobe atelectasis.",
         {("consolidation", "left", None), ("atelectasis", "right", None)}),
        ("Consolidation of the left lower lobe without effusion.",
         {("consolidation", "left", None), ("effusion", None, None)}),
        ("No left pneumothorax.", {("pneumothorax", "left", None)}),
        ("Mild to moderate edema.", {("edema", None, "moderate")}),
        ("The endotracheal tube ends in the right main bronchus.", {("support_devices", None, None)}),
        ("Elevation of the right hemidiaphragm.", {("diaphragm_elevation", "right", None)}),
        ("In the left lung there is a tiny nodule.", {("nodule", "left", "mild")}),
    ],
)
def test_side_and_size_go_with_their_own_finding(
    text: str, expected: set[tuple[str, str | None, str | None]]
) -> None:
    assert sides(text) == expected


def test_what_would_be_missed_if_phrases_were_matched_word_by_word() -> None:
    for text, finding in (
        ("Increased interstitial markings.", "lung_opacity"),
        ("Congestive heart failure.", "vascular_congestion"),
        ("Lymph node enlargement.", "adenopathy"),
        ("Blunting of the right costophrenic angle.", "costophrenic_blunting"),
    ):
        assert label_report(text, V).states() == {finding: "present"}


def test_other_things_with_the_same_words_are_not_findings() -> None:
    for text in ("Subcutaneous emphysema.", "Pericardial effusion.", "Calcified aorta.", "Umbilical hernia.",
                 "Calcifications are seen within the aorta.", "Large right breast mass.", "No mass effect.",
                 "Portable film.", "Trachea is midline.", "Nipple shadow.", "Renal failure."):
        assert not label_report(text, V).vector.present, text
