"""Label columns: what a training set would be given."""

from __future__ import annotations

from cars_core.reports.label import chexpert_row, concept_row, label_report, nih_row
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()


def given_values(row: dict[str, int | None]) -> dict[str, int]:
    return {k: v for k, v in row.items() if v is not None}


def chexpert(text: str) -> dict[str, int]:
    return given_values(chexpert_row(label_report(text, V)))


def test_columns_are_the_label_sets_own() -> None:
    labelled = label_report("Edema.", V)
    assert set(nih_row(labelled)) == set(V.label_set("nih")) and len(nih_row(labelled)) == 14
    assert set(chexpert_row(labelled)) == {*V.label_set("chexpert"), "No Finding"} and len(chexpert_row(labelled)) == 14
    assert next(iter(chexpert_row(labelled))) == "No Finding"
    assert set(concept_row(labelled)) == {name for names in V.concepts.values() for name in names}


def test_no_finding_is_claimed_only_where_nothing_but_devices_is_there() -> None:
    assert chexpert("No effusion.") == {"No Finding": 1, "Pleural Effusion": 0}
    for nothing_recognised in ("Stable chest.", "Pleuraerguss rechts.", "Small left plueral effusoin."):
        assert chexpert(nothing_recognised) == {}, "a report that cannot be read is not a normal one"
    assert chexpert("Pacemaker in place.") == {"No Finding": 1, "Support Devices": 1}
    assert chexpert("Possible edema.") == {"Edema": -1}
    assert chexpert("") == {} == chexpert("INDICATION: pneumonia")


def test_chexpert_labels_follow_from_what_is_named_not_from_each_other() -> None:
    assert chexpert("Cardiomegaly.") == {"Cardiomegaly": 1}
    assert chexpert("Right infiltrate.") == {"Lung Opacity": 1}
    assert chexpert("Left lung nodule.") == {"Lung Lesion": 1}
    assert chexpert("Pleural thickening.") == {"Pleural Other": 1}
    assert chexpert("Rib fracture.") == {"Fracture": 1}
    assert chexpert("Vascular congestion.") == {"Edema": 1}
    assert chexpert("The lungs are clear.") == {"No Finding": 1}
    assert chexpert("Heart size is normal.") == {"No Finding": 1, "Cardiomegaly": 0}


def test_nih_labels_keep_to_their_own_words() -> None:
    assert given_values(nih_row(label_report("Vascular congestion. Calcified granuloma. Scarring.", V))) == {}
    assert given_values(nih_row(label_report("Hiatal hernia, possible pneumonia, no effusion.", V))) == {
        "Pneumonia": -1, "Effusion": 0, "Hernia": 1}


def test_concepts_are_columns_of_their_own() -> None:
    said = given_values(concept_row(label_report("Blunting of the left costophrenic angle. No adenopathy.", V)))
    assert said == {"costophrenic_blunting": 1, "adenopathy": 0}
    assert given_values(concept_row(label_report("No acute cardiopulmonary process.", V))) == {"unremarkable": 1}
