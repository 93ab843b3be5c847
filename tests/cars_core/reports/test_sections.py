"""Sections: what the doctor asks must not be read as what the film shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.reports.label import label_report
from cars_core.reports.sections import split_sections
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old man with pneumonia.  // ?pneumothorax

 COMPARISON:  ___.

 FINDINGS:

 New small left pleural effusion with
 adjacent atelectasis.  Dr. ___ was called at 9:30 a.m. on ___.

 IMPRESSION:

 1. New small left effusion.
 2. No edema.
"""
UNHEADED = """                                 FINAL REPORT
 CHEST RADIOGRAPH

 INDICATION:  Pneumothorax, evaluation for progression.

 COMPARISON:  ___.

 As compared to the previous radiograph, there is no relevant change.  Unchanged
 moderate cardiomegaly.
"""
WET = """WET READ: ___ ___ 8:12 PM
  Mild pulmonary edema.
______________________________________________________________________________
                                 FINAL REPORT
 HISTORY:  Chest tube removed, pneumothorax.

 FINDINGS:  The heart is normal in size.
"""
PLUS = """NARRATIVE:
RADIOGRAPHIC EXAMINATION OF THE CHEST: ___

CLINICAL HISTORY: 55 years of age, pneumonia.

COMPARISON: ___

PROCEDURE COMMENTS: Single view of the chest.

FINDINGS:

The endotracheal tube is unchanged.

IMPRESSION:

1. PERSISTENT LEFT RETROCARDIAC OPACITY.

SUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED
"""
OPENI = ("COMPARISON: None.\n\nINDICATION: Chest pain, rule out pneumothorax.\n\nFINDINGS: Heart size is normal.\n\n"
         "IMPRESSION: No acute disease.")


def present(text: str) -> dict[str, str]:
    return {k: v for k, v in label_report(text, V).states().items() if k not in ("enlarged_heart", "other")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MIMIC, {"effusion": "present", "atelectasis": "present", "edema": "absent"}),
        (UNHEADED, {"cardiomegaly": "present"}),
        (WET, {"edema": "present", "cardiomegaly": "absent"}),
        (PLUS, {"support_devices": "present", "lung_opacity": "present"}),
        (OPENI, {"cardiomegaly": "absent", "unremarkable": "present"}),
        ("INDICATION: pneumonia. FINDINGS: edema. IMPRESSION: effusion.", {"edema": "present", "effusion": "present"}),
        ("indication: pneumonia\nfindings: edema\nimpression: effusion", {"edema": "present", "effusion": "present"}),
        ("INDICATION\npneumonia\nFINDINGS\nedema\nIMPRESSION\neffusion", {"edema": "present", "effusion": "present"}),
        ("Indication\npneumonia\nConclusion\neffusion", {"effusion": "present"}),
        ("FINDINGS: edema.\n\nADDENDUM: There is a nodule.", {"edema": "present", "nodule": "present"}),
        ("HISTORY Cough, pneumonia\nFINDINGS Edema\nIMPRESSION Effusion", {"edema": "present", "effusion": "present"}),
        ("FINDINGS:\nEDEMA.\nSTUDY LIMITED BY ROTATION. LEFT EFFUSION.", {"edema": "present", "effusion": "present"}),
        ("Small effusion.\nIMPRESSION: edema", {"effusion": "present", "edema": "present"}),
        ("EXAM: chest\n\nIMPRESSION: edema\n\nRECOMMENDATION: none", {"edema": "present"}),
        ("COMPARISON: none, effusion before.\n\nThere is edema.\n\nIMPRESSION: Edema.", {"edema": "present"}),
    ],
)
def test_only_what_describes_the_film_is_read(text: str, expected: dict[str, str]) -> None:
    assert present(text) == expected


def test_a_report_without_headings_is_read_whole() -> None:
    text = "Small effusion. The impression of edema is unchanged, as is the\nimpression that there is a mass."
    assert [(s.name, s.start, s.end) for s in split_sections(text)] == [("findings", 0, len(text))]


def test_evidence_says_which_section_it_comes_from() -> None:
    said = {(e.finding, e.section) for e in label_report(MIMIC, V).evidence}
    assert {("effusion", "findings"), ("effusion", "impression"), ("edema", "impression")} <= said


@given(st.lists(st.sampled_from(["FINDINGS:", "IMPRESSION", "\n", "\n\n", " ", "INDICATION:", "FINAL REPORT", "a b.",
                                 "COMPARISON", ":", "1. ", "effusion", "é", "\r\n"]), max_size=30).map("".join))
def test_sections_lie_within_the_text_in_order_and_never_overlap(text: str) -> None:
    at = 0
    for section in split_sections(text):
        assert at <= section.start < section.end <= len(text)
        at = section.end
