"""CheXpert Plus as a source: what a user would lose if its table, labels and films were joined wrongly."""

from __future__ import annotations

import csv
import io
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cars_core.cohort.sources.chexpert import LICENCE, ChexpertSource
from cars_core.cohort.sources.chexpert_plus import ChexpertPlusSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
LABELS = ["Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
          "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
          "Support Devices", "No Finding"]
COLUMNS = ["path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order",
           "report", "section_findings", "section_impression", "age", "sex", "race", "split"]
PATH = "train/patient00001/study2/view1_frontal.jpg"
FILM = {"path_to_image": PATH, "frontal_lateral": "Frontal", "ap_pa": "AP", "deid_patient_id": "patient00001",
        "patient_report_date_order": 2, "report": "NARRATIVE:\nChest, 1 view.\n\nIMPRESSION:\n1. Edema, \"mild\".",
        "age": "68.0", "sex": "Female", "split": "train"}


def states(vector: Vector) -> dict[str, str]:
    return {f.name: state for f in V.findings if (state := vector.state(f.bit)) != "unmentioned"}


def labels(path: str = PATH, **given: object) -> dict[str, object]:
    return {"path_to_image": path, **dict.fromkeys(LABELS), **{k.replace("_", " "): v for k, v in given.items()}}


def tree(root: Path, rows: Sequence[Mapping[str, object]] = (FILM,), *, start: bytes = b"",
         said: Sequence[Mapping[str, object]] | None = None,
         file: str = "chexbert_labels/impression_fixed.json") -> Path:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    table.writerows(rows)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / "df_chexpert_plus_240401.csv").write_bytes(start + text.getvalue().encode())
    lines = [labels(str(r["path_to_image"]), Edema=1.0) for r in rows] if said is None else said
    (root / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def source(root: Path, **settings: Any) -> ChexpertPlusSource:
    return ChexpertPlusSource(LocalTree(str(root)), vocabulary=V, **settings)


def only(root: Path, **settings: Any) -> Record:
    [record] = source(root, **settings).records()
    return record


def test_a_film_is_what_the_same_film_of_chexpert_is(tmp_path: Path) -> None:
    """A simulated CheXpert, its tables rewritten as CheXpert Plus has them, gives the same records."""
    plain = tmp_path / "CheXpert-v1.0-small"
    specs = films(n=10, seed=3, size=64, withheld=[], vocabulary=V,
                  split_of=lambda patient: ("train", "validate")[int(patient.rsplit("-", 1)[1]) % 2])
    write_cohort(specs, out=plain, layout="chexpert")
    rows, said = [], []
    for part in ("valid", "train"):
        with open(plain / f"{part}.csv", newline="") as file:
            for row in csv.DictReader(file):
                path = row["Path"].removeprefix("CheXpert-v1.0-small/")
                said.append(labels(path, **{k: float(row[k]) if row[k] else None for k in LABELS}))
                rows.append({"path_to_image": path, "frontal_lateral": row["Frontal/Lateral"], "ap_pa": row["AP/PA"],
                             "deid_patient_id": path.split("/")[1], "age": f"{row['Age']}.0", "sex": row["Sex"],
                             "split": part})
    plus = {r.name: r for r in source(tree(tmp_path, rows, said=said[::-1])).records()}
    expected = list(ChexpertSource(LocalTree(str(plain)), vocabulary=V).records())
    assert len(plus) == len(expected) == 10
    for e in expected:
        p = plus[e.name]
        assert (p.patient, p.study, p.split, p.sex, p.age, p.view) == (
            e.patient, e.study, e.split, e.sex, e.age, e.view)
        assert (p.vector, p.licence, p.fault, p.aside) == (e.vector, LICENCE, None, None)
        assert p.place == f"CheXpert-v1.0-small/{e.place}" and p.labels == "impression_fixed"


@pytest.mark.parametrize(("file", "labeler"), [
    ("impression_fixed.json", "impression_fixed"), ("chexbert_labels/findings_fixed.json", "findings_fixed"),
    ("labels/report_fixed.json", "report_fixed"), ("CheXpert Labels/report_fixed.json", "report_fixed")])
def test_label_files_are_found_and_the_labeler_says_which_counts(tmp_path: Path, file: str, labeler: str) -> None:
    root = tree(tmp_path, file=file, start=b"\xef\xbb\xbf")
    record = only(root, labeler=labeler)
    assert states(record.vector) == {"edema": "present", "lung_opacity": "present"}
    assert (record.labels, record.sex, record.age, record.split, record.date) == (labeler, "F", 68, "train", None)
    assert record.where == "df_chexpert_plus_240401.csv line 2"
    other = "findings_fixed" if labeler != "findings_fixed" else "report_fixed"
    with pytest.raises(BadInput, match=f"none; expected {other}.json, there or in a folder"):
        source(root, labeler=other)


def test_labels_are_joined_by_film_whatever_their_order_and_the_films_ending(tmp_path: Path) -> None:
    paths = [f"train/patient0000{n}/study1/view1_frontal.jpg" for n in (1, 2, 3)]
    said = [labels(paths[1].replace(".jpg", ".png"), Edema=-1.0, Fracture=0.0), labels(paths[0], No_Finding=1.0)]
    root = tree(tmp_path, [FILM | {"path_to_image": p} for p in paths], said=said)
    one, two, three = source(root).records()
    assert set(states(one.vector).values()) == {"absent"} and len(states(one.vector)) == 12
    assert states(two.vector) == {"edema": "uncertain", "fracture": "absent"}
    assert (three.vector, three.aside, three.fault) == (Vector(), "no labels for it", None)


@pytest.mark.parametrize("value", [2, 2.0, "yes", [1], {"a": 1}, True, 0.5])
def test_a_label_that_is_no_label_spoils_its_film_and_no_other(tmp_path: Path, value: object) -> None:
    second = PATH.replace("view1", "view2")
    root = tree(tmp_path, [FILM, FILM | {"path_to_image": second}],
                said=[labels(Edema=value), labels(second, Edema=0)])
    bad, good = source(root).records()
    assert (bad.fault, bad.vector) == ("a label is not 1, 0, -1 or null", Vector())
    assert good.fault is None and states(good.vector) == {"edema": "absent"}


def test_lines_that_are_no_labels_leave_their_film_without(tmp_path: Path) -> None:
    root = tree(tmp_path)
    file = root / "chexbert_labels/impression_fixed.json"
    first = json.dumps(labels("train/patient00009/study1/view1_frontal.jpg")).encode()
    rest = [b"{", b"[]", b"null", b"\xff\xfe", b"[" * 70_000, b'{"path_to_image": 3}', b"",
            json.dumps(labels(Edema=0.0)).encode()]
    file.write_bytes(b"\n".join([first, *rest]))
    assert states(only(root).vector) == {"edema": "absent"}


@pytest.mark.parametrize(("side", "position", "view", "aside"), [
    ("Frontal", "AP", "AP", None), ("Frontal", "PA", "PA", None), ("Lateral", "", "LATERAL", "lateral view"),
    ("Frontal", "LL", None, None), ("Frontal", "", "FRONTAL", None)])
def test_lateral_films_are_set_aside(tmp_path: Path, side: str, position: str, view: str, aside: str | None) -> None:
    record = only(tree(tmp_path, [FILM | {"frontal_lateral": side, "ap_pa": position}]))
    assert (record.view, record.aside) == (view, aside)


@pytest.mark.parametrize(("films_at", "films"), [
    ("PNG/PNG/train/patient00001/study2/view1_frontal.png", None),
    ("PNG_train/patient00001/study2/view1_frontal.png", None),
    ("DICOM_train/train/patient00001/study2/view1_frontal.dcm", None),
    ("train/patient00001/study2/view1_frontal.dcm", None),
    ("very/deep/down/here/train/patient00001/study2/view1_frontal.png", "very/deep/down/here")])
def test_films_are_found_although_the_table_has_another_ending(
        tmp_path: Path, films_at: str, films: str | None) -> None:
    root = tree(tmp_path)
    (root / films_at).parent.mkdir(parents=True)
    (root / films_at).write_bytes(b"film")
    assert only(root, films=films).place == films_at


def test_png_serves_where_dicom_is_there_too_unless_its_folder_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for at in ("DICOM/train/patient00001/study2/view1_frontal.dcm", "PNG/train/patient00001/study2/view1_frontal.png"):
        (root / at).parent.mkdir(parents=True)
        (root / at).write_bytes(b"film")
    assert (only(root).place or "").startswith("PNG/")
    assert only(root, films="DICOM").place == "DICOM/train/patient00001/study2/view1_frontal.dcm"
    assert source(root).origin() != source(root, films="DICOM").origin()


@pytest.mark.parametrize(("given", "fault"), [
    ({"path_to_image": "../train/patient00001/study1/view1_frontal.jpg"}, "path leads out of the source's folder"),
    ({"path_to_image": ""}, "no film is named"),
    ({"path_to_image": "SECRET"}, "path is not one of train/patientNNNNN/studyN/viewN_frontal.jpg"),
    ({"split": "SECRET"}, "its part is not train, valid or test")])
def test_a_bad_row_is_one_fault_without_its_values(tmp_path: Path, given: dict[str, str], fault: str) -> None:
    last = FILM | {"path_to_image": "train/patient00002/study1/view1_frontal.jpg"}
    good, bad, after = source(tree(tmp_path, [FILM, FILM | given, last])).records()
    assert (good.fault, bad.fault, after.fault) == (None, fault, None)
    assert "SECRET" not in f"{bad.fault}{bad.aside}{bad.where}"


def test_a_report_over_several_lines_keeps_rows_apart_and_a_cut_row_is_a_fault(tmp_path: Path) -> None:
    root = tree(tmp_path, [FILM, FILM | {"path_to_image": PATH.replace("view1", "view2")}])
    path = root / "df_chexpert_plus_240401.csv"
    path.write_bytes(path.read_bytes() + b"train/patient00003/study1/view1_frontal.jpg,,Frontal\r\n")
    records = list(source(root).records())
    assert [r.fault for r in records] == [None, None, "row has more or fewer fields than the header"]
    assert [r.line for r in records] == [2, 7, 12]


def test_reports_are_labelled_once_a_study_and_a_film_without_one_is_set_aside(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def label(text: str, vocabulary: Any) -> Any:
        texts.append(text)
        return types.SimpleNamespace(vector=Vector(present=vocabulary.mask(["edema"])))

    module = types.ModuleType("cars_core.reports.label")
    module.label_report = label  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cars_core.reports.label", module)
    rows = [FILM, FILM | {"path_to_image": PATH.replace("view1", "view2")},
            FILM | {"path_to_image": PATH.replace("00001", "00002"), "report": ""}]
    one, two, three = source(tree(tmp_path, rows), labeler="reports").records()
    assert texts == [FILM["report"]]
    assert states(one.vector) == states(two.vector) == {"edema": "present", "lung_opacity": "present"}
    assert (three.aside, three.vector) == ("no labels for it", Vector())


def test_another_labelers_vectors_go_by_film_or_study(tmp_path: Path) -> None:
    rows = [FILM | {"path_to_image": PATH.replace("00001", f"0000{n}")} for n in (1, 2, 3)]
    given = {"train/patient00001/study2/view1_frontal": Vector(present=V.mask(["nodule"])),
             "train/patient00002/study2": Vector(absent=V.mask(["edema"]))}
    read = source(tree(tmp_path, rows), labeler="external", external=given)
    one, two, three = read.records()
    assert states(one.vector) == {"nodule": "present", "lung_lesion": "present"}
    assert states(two.vector) == {"edema": "absent"} and three.aside == "no labels for it"
    assert read.origin() != source(tmp_path).origin()
    with pytest.raises(BadInput, match="vectors by film with labeler external"):
        source(tmp_path, labeler="external")


def test_the_origin_follows_the_labels(tmp_path: Path) -> None:
    root = tree(tmp_path)
    before = source(root).origin()
    assert before == source(root).origin()
    tree(root, said=[labels(Edema=0.0)])
    assert source(root).origin() != before


def spoil_first_line(root: Path) -> None:
    (root / "chexbert_labels/impression_fixed.json").write_text("[" + json.dumps(labels()) + "]")


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda root: (root / "df_chexpert_plus_240401.csv").unlink(), "got none; expected one file df_chexpert_plus_"),
    (lambda root: (root / "df_chexpert_plus_2.csv").write_text("a"), "_2.csv, df_chexpert_plus_240401.csv; expected"),
    (lambda root: (root / "df_chexpert_plus_240401.csv").write_text("path_to_image,sex\n"), "column frontal_lateral"),
    (lambda root: (root / "df_chexpert_plus_240401.csv").write_text(""), "got no header"),
    (lambda root: (root / "chexbert_labels/impression_fixed.json").write_text(""), "path_to_image: got none; expected"),
    (lambda root: (root / "chexbert_labels/impression_fixed.json").write_text('{"path_to_image": "x"}'),
     "impression_fixed.json: Atelectasis: got none"), (spoil_first_line, "one JSON object a line")])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    root = tree(tmp_path)
    spoil(root)
    with pytest.raises(BadInput, match=message):
        source(root)


def test_the_limit_counts_films_and_an_unknown_labeler_is_refused(tmp_path: Path) -> None:
    rows = [FILM | {"path_to_image": PATH.replace("view1", f"view{n}")} for n in range(4)]
    root = tree(tmp_path, rows)
    assert len(list(source(root, limit=2).records())) == 2
    with pytest.raises(BadInput, match="labeler: got chexpert; expected one of report_fixed"):
        source(root, labeler="chexpert")
