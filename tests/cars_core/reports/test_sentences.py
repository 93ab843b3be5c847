"""Sentences: a denial must not run on into the next one, nor stop at a title."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.reports.sentences import sentences


def cut(text: str) -> list[str]:
    return [" ".join(text[a:b].split()) for a, b in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No effusion. Edema.", ["No effusion.", "Edema."]),
        ("No effusion.Edema is mild.", ["No effusion.", "Edema is mild."]),
        ("No effusion, 2.5 cm\nnodule. Seen by Dr. Who at 9:30 a.m. on Monday.",
         ["No effusion, 2.5 cm nodule.", "Seen by Dr. Who at 9:30 a.m. on Monday."]),
        ("Seen at 9 a.m. No effusion.", ["Seen at 9 a.m.", "No effusion."]),
        ("1. Left effusion.\n2. Edema.\n", ["Left effusion.", "Edema."]),
        ("1. Left effusion 2. Edema", ["Left effusion 2.", "Edema"]),
        ("1. Left effusion\n2. Edema\n- No mass\n* A nodule",
         ["1. Left effusion", "2. Edema", "- No mass", "* A nodule"]),
        ("Effusion: no\nEdema: mild\nPneumothorax - none", ["Effusion: no", "Edema: mild", "Pneumothorax - none"]),
        ("There is no\nEffusion and\nedema: mild", ["There is no Effusion and edema: mild"]),
        ("No effusion\n\nEdema", ["No effusion", "Edema"]),
        ("Atelectasis vs. pneumonia", ["Atelectasis vs. pneumonia"]),
        ("Pneumonia? No effusion", ["Pneumonia?", "No effusion"]),
        ("? pneumonia", ["? pneumonia"]),
        ("...  ___ 3. 4.", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    got = cut(text)
    strip = [re.sub(r"^(\d\.|[-*]) ", "", s) for s in got]
    assert strip == [re.sub(r"^(\d\.|[-*]) ", "", s) for s in expected]


@given(st.text(alphabet="ab.é \n?!;1-*", max_size=60))
def test_every_letter_is_in_one_sentence(text: str) -> None:
    inside = set()
    at = 0
    for begin, end in sentences(text):
        assert at <= begin < end <= len(text)
        at = end
        inside |= set(range(begin, end))
    assert {i for i, c in enumerate(text) if c.isalpha()} <= inside
