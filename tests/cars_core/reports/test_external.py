"""Labels of another labeller: none may be read as what it is not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cars_core.reports.external import iter_labels, read_labels
from cars_core.reports.label import concept_names, label_report
from cars_core.reports.table import label_table
from cars_core.vectors import Vector, from_chexpert
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_chexpert_columns_are_read_as_chexperts_own_tables_are(tmp_path: Path) -> None:
    path = given(tmp_path, "study,No Finding,Edema,Lung Lesion,Fracture\n1,,1.0,-1,\n2,1,,,0\n")
    assert read_labels(path, key_column="study", vocabulary=V) == {
        "1": from_chexpert({"Edema": 1, "Lung Lesion": -1}, V), "2": from_chexpert({"No Finding": 1, "Fracture": 0}, V)}


def test_prefixed_columns_go_to_their_findings(tmp_path: Path) -> None:
    path = given(tmp_path, "k,nih_Mass,concept_pleural_fluid,concept_unremarkable,chexpert_Edema\na,1,0,1,-1\n")
    assert read_labels(path, key_column="k", vocabulary=V)["a"] == Vector(
        present=V.mask(["mass", "lung_lesion"]), absent=V.mask(["pleural_fluid"]), uncertain=V.mask(["edema"]))


def test_what_this_labeller_writes_is_read_back_as_the_report_states_it(tmp_path: Path) -> None:
    lines = (Path(__file__).parent / "readings.txt").read_text(encoding="utf-8").splitlines()
    reports = [line.partition(" =>")[0] for line in lines if line and not line.startswith("#")]
    reports += ["Possible mass.", "No mass.", "No lung lesion.", "Possible pleural thickening.", "No rib fracture.",
                "Usual interstitial pneumonia.", "Possible infiltrate.", "Architectural distortion.", "", "Hello."]
    with open(tmp_path / "in.csv", "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([["key", "report"], *[[i, text] for i, text in enumerate(reports)]])
    label_table(tmp_path / "in.csv", tmp_path / "out.csv")
    back = read_labels(tmp_path / "out.csv", key_column="key", vocabulary=V)
    sets = [f.name for which in ("nih", "chexpert") for f in V.label_set(which).values()]
    named = sorted({*sets, *(name for name in concept_names(V) if name in V.names)})
    differ = []
    for i, text in enumerate(reports):
        closed = label_report(text, V).closed
        differ += [(text, name) for name in named if closed.state(V[name].bit) != back[str(i)].state(V[name].bit)]
    # "Malignancy" doubted beside a mass that is there: the class of lesions has room for the stronger one only.
    assert differ == [("Left upper lobe mass concerning for malignancy.", "lung_lesion")]


def test_classes_wider_than_a_finding_do_not_speak_for_it(tmp_path: Path) -> None:
    path = given(tmp_path, "k,nih_Edema,nih_Mass,chexpert_Edema,chexpert_Lung Lesion,chexpert_No Finding\n"
                           "a,,,1,1,\nb,,0,,0,1\nc,,,,0,1\nd,0,-1,1,-1,\n")
    edema, mass, lesion = (V.mask([name]) for name in ("edema", "mass", "lung_lesion"))
    assert read_labels(path, key_column="k", vocabulary=V) == {
        "a": Vector(present=lesion), "b": Vector(absent=mass), "c": Vector(absent=lesion),
        "d": Vector(absent=edema, uncertain=mass)}


def test_columns_of_something_else_are_passed_over_but_not_a_label_misspelt(tmp_path: Path) -> None:
    three = "k,Edema,Fracture,Pneumonia,note"
    assert read_labels(given(tmp_path, three + "\na,1,,,DOE\n"), key_column="k", vocabulary=V)["a"].state(
        V["edema"].bit) == "present"
    assert read_labels(given(tmp_path, "k,nih_Edema,report\na,1,DOE\n"), key_column="k", vocabulary=V)
    for name, says in (("Pleural_Effusion", "column 5 of 5: got Pleural_Effusion, near Pleural Effusion"),
                       ("chexpert_Purple", "column 5 of 5: got another name"), ("nih_Masses", "near nih_Mass")):
        with pytest.raises(BadInput, match=says):
            read_labels(given(tmp_path, three.replace("note", name) + "\na,1,,,0\n"), key_column="k", vocabulary=V)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("k,Oedema\n1,1\n", "column 2 of 2: got Oedema, near Edema; expected a CheXpert label"),
        ("k,Edema,note\n1,1,x\n", "column 3 of 3: got another name; expected a CheXpert label"),
        ("k,nih_Oedema\n1,1\n", "got nih_Oedema, near nih_Edema"),
        ("id,Edema\n1,1\n", "got k; expected a column of that name among the 2 of the first row$"),
        ("k\n1\n", "no column of labels"),
        ("k,Edema,chexpert_Edema\n1,1,1\n", "each label once"),
        ("k,Edema\n1,2\n", r"line 2, column Edema: got another value; expected 1, 0, -1 or empty"),
        ("k,Edema\n1,yes\n", "got another value"),
        ("k,nih_Edema\n1,nan\n", "line 2, column nih_Edema: got another value"),
        ("k,Edema\n1,1\n2,0\n1,0\n", "line 4: got the k of line 2 again"),
        ("k,Edema\n,1\n", "line 2: got an empty k"),
        ("k,Edema\n1\n", "line 2: got 1 fields; expected 2"),
        ("", "an empty file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_labels(given(tmp_path, text), key_column="k", vocabulary=V)


@pytest.mark.parametrize("text", ["DOE^JOHN,1941\n", "k,DOE^JOHN\na,1\n", "k,Edema\na,DOE^JOHN\n",
                                  "k,Edema,DOE^JOHN\na,1,1\n", "k,DOE^JOHN,DOE^JOHN,Edema\na,1,1,1\n"])
def test_no_message_tells_what_may_be_a_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput) as told:
        read_labels(given(tmp_path, text), key_column="k", vocabulary=V)
    assert "DOE" not in str(told.value) and "1941" not in str(told.value)


def test_a_bad_row_costs_its_own_key_only(tmp_path: Path) -> None:
    path = given(tmp_path, "k,Edema\na,1\nb,DOE^JOHN\nc,1\nd\n,1\nc,0\ne,0\n")
    faults: dict[str, str] = {}
    read = read_labels(path, key_column="k", vocabulary=V, faults=faults)
    assert set(read) == {"a", "e"} and set(faults) == {"b", "c", "d", ""}
    assert faults["b"] == "external labels: another value than 1, 0, -1 or empty in column Edema"
    assert not any("DOE" in reason or str(path) in reason for reason in faults.values())


def test_rows_come_as_they_are_read(tmp_path: Path) -> None:
    rows = iter_labels(given(tmp_path, "k,Edema\na,1\nb,7\n"), key_column="k", vocabulary=V)
    assert next(rows)[0] == "a"
    with pytest.raises(BadInput, match="line 3"):
        next(rows)
