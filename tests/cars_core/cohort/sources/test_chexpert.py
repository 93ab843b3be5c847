"""CheXpert as a source: what a user would lose if its paths, parts or three-valued labels were read wrongly."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cars_core.cohort.sources.chexpert import LICENCE, ChexpertSource, FilmName, film_name
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
LABELS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
          "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
          "Support Devices"]
COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
#: Label -> the findings of a report, or of a film, that it stands for: written out here, not taken from the code.
SAID = {"enlarged_cardiomediastinum": {"enlarged_cardiomediastinum"}, "cardiomegaly": {"cardiomegaly"},
        "lung_opacity": {"lung_opacity", "infiltration"}, "lung_lesion": {"lung_lesion", "mass", "nodule"},
        "edema": {"edema"}, "consolidation": {"consolidation"}, "pneumonia": {"pneumonia"},
        "atelectasis": {"atelectasis"}, "pneumothorax": {"pneumothorax"}, "effusion": {"effusion"},
        "pleural_other": {"pleural_other", "pleural_thickening", "fibrosis"}, "fracture": {"fracture"},
        "support_devices": {"support_devices"}}
SHOWN = SAID | {"pleural_other": {"pleural_thickening"}, "enlarged_cardiomediastinum": {"cardiomegaly"},
                "lung_opacity": {"atelectasis", "infiltration", "consolidation", "edema", "mass", "nodule"}}
IMPLIES = {"atelectasis": "lung_opacity", "edema": "lung_opacity", "consolidation": "lung_opacity",
           "pneumonia": "lung_opacity", "cardiomegaly": "enlarged_cardiomediastinum"}


def states(vector: Vector) -> dict[str, str]:
    return {f.name: state for f in V.findings if (state := vector.state(f.bit)) != "unmentioned"}


def as_said(statements: str) -> dict[str, str]:
    """What train.csv states of a report, "No Finding" and implications included, from the report's statements."""
    said = [(s["finding"], s["state"]) for s in json.loads(statements)]
    out = {}
    for label, kinds in SAID.items():
        found = {state for finding, state in said if finding in kinds}
        if state := next((s for s in ("present", "uncertain", "absent") if s in found), None):
            out[label] = state
    about = {finding for finding, state in said if state != "absent"}
    if about & {"atelectasis", "consolidation", "edema", "mass", "nodule", "pneumonia"} \
            and out.get("lung_opacity") == "absent":
        del out["lung_opacity"]  # "no infiltrate" beside one of these does not deny an opacity
    if not about - {"support_devices"}:
        out = {**dict.fromkeys(set(SAID) - {"support_devices"}, "absent"), **out}
    for finding, above in IMPLIES.items():
        if out.get(finding) == "present":
            out.setdefault(above, "present")
    return out


def as_shown(present: set[str]) -> dict[str, str]:
    """What valid.csv and test.csv state of a film that shows these findings: all but pneumonia is settled."""
    out = {label: "present" if kinds & present else "absent" for label, kinds in SHOWN.items() if label != "pneumonia"}
    if not present - {"support_devices"} & set().union(*SHOWN.values()):
        out["pneumonia"] = "absent"  # by "No Finding"
    return out


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chexpert") / "CheXpert-v1.0-small"
    specs = films(n=24, seed=12, size=64, withheld=[], vocabulary=V,
                  split_of=lambda patient: ("train", "test", "validate")[int(patient.rsplit("-", 1)[1]) % 3])
    write_cohort(specs, out=out, layout="chexpert")
    return out


def source(root: Path, **settings: Any) -> ChexpertSource:
    return ChexpertSource(LocalTree(str(root)), vocabulary=V, **settings)


@pytest.mark.parametrize("inside", [True, False])
def test_every_film_of_a_cohort_comes_with_its_labels_split_sex_age_and_view(simulated: Path, inside: bool) -> None:
    root = simulated if inside else simulated.parent
    truth = {t["path"]: t for t in pq.read_table(simulated / "truth/truth.parquet").to_pylist()}
    records = list(source(root).records())
    assert len(records) == len(truth) == 24
    patients: dict[str, set[str]] = {}
    for record in records:
        assert record.place is not None and source(root).tree.size(record.place)
        t = truth.pop(record.place.removeprefix("CheXpert-v1.0-small/"))
        assert (record.split, record.sex, record.age, record.view) == (t["split"], t["sex"], t["age"], t["view"])
        assert (record.fault, record.aside, record.date, record.licence) == (None, None, None, LICENCE)
        if t["split"] == "train":
            assert states(record.vector) == as_said(t["statements"])
        else:
            assert states(record.vector) == as_shown(set(V.unpack(t["film_present"])))
        assert record.labels == ("chexpert" if t["split"] == "train" else "radiologists")
        assert record.study == f"{record.patient}/study{t['study']}"
        patients.setdefault(t["patient"], set()).add(record.patient)
    assert not truth and all(len(numbers) == 1 for numbers in patients.values())
    assert len({next(iter(n)) for n in patients.values()}) == len(patients)
    assert [r.split for r in records] == sorted((r.split or "" for r in records),
                                                key=["train", "validate", "test"].index)
    assert len({r.vector for r in records}) > 5


def test_the_origin_follows_the_label_files_and_stays_otherwise(simulated: Path, tmp_path: Path) -> None:
    assert source(simulated).origin() == source(simulated).origin()
    one = tree(tmp_path / "a", [FILM])
    before = source(one).origin()
    tree(one, [FILM | {"Edema": "0.0"}])
    assert source(one).origin() != before


FILM = {"Path": "CheXpert-v1.0-small/train/patient00001/study2/view1_frontal.jpg", "Sex": "Female", "Age": "68",
        "Frontal/Lateral": "Frontal", "AP/PA": "AP", "Edema": "1.0"}


def write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, start: bytes = b"") -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = start + text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def tree(root: Path, rows: Sequence[Mapping[str, object]], name: str = "train.csv", **how: Any) -> Path:
    write(root / name, COLUMNS, rows, **how)
    return root


def film(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"film")


def only(root: Path, **settings: Any) -> Record:
    [record] = source(root, **settings).records()
    return record


@pytest.mark.parametrize(("path", "expected"), [
    ("CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg",
     ("train", "1", "study1", "train/patient00001/study1/view1_frontal")),
    ("CheXpert-v1.0/valid/patient64541/study1/view2_lateral.png",
     ("valid", "64541", "study1", "valid/patient64541/study1/view2_lateral")),
    ("test/patient64741/study1/view1_frontal.jpg",
     ("test", "64741", "study1", "test/patient64741/study1/view1_frontal")),
    ("a/b/val/patient10/study12/view1_frontal", ("valid", "10", "study12", "valid/patient10/study12/view1_frontal")),
    ("CheXpert-v1.0/test/patient64741/study1", ("test", "64741", "study1", "test/patient64741/study1")),
    ("train/patient00001/study1/view1/frontal.jpg", None), ("patient00001/study1/view1_frontal.jpg", None),
    ("train/patientX/study1/view1_frontal.jpg", None), ("", None)])
def test_a_path_gives_part_patient_study_and_a_key_without_its_ending(
        path: str, expected: tuple[str, str, str, str] | None) -> None:
    assert film_name(path) == (None if expected is None else FilmName(*expected))


@pytest.mark.parametrize(("films_at", "place"), [
    ("train/patient00001/study2/view1_frontal.jpg", "train/patient00001/study2/view1_frontal.jpg"),
    ("CheXpert-v1.0-small/train/patient00001/study2/view1_frontal.jpg", None),
    ("CheXpert-v1.0/train/patient00001/study2/view1_frontal.jpg", None),
    ("PNG/PNG/train/patient00009/study2/view1_frontal.png", "PNG/PNG/train/patient00001/study2/view1_frontal.png"),
    ("DICOM_train/train/patient00001/study2/view1_frontal.dcm", None),
    ("PNG_train/patient00001/study2/view1_frontal.png", None),
    ("CheXpert-v1.0 batch 2 (train 1)/patient00001/study2/view1_frontal.jpg", None),
    ("elsewhere/patient00001/study2/view1_frontal.jpg", "train/patient00001/study2/view1_frontal.jpg")])
def test_films_are_found_wherever_the_set_was_unpacked(tmp_path: Path, films_at: str, place: str | None) -> None:
    root = tree(tmp_path, [FILM])
    film(root, films_at)
    assert only(root).place == (place or films_at)


def test_the_full_sets_parts_are_joined_by_patient(tmp_path: Path) -> None:
    table = "CheXpert-v1.0 batch 1 (validate & csv)"
    places = {"00001": "CheXpert-v1.0 batch 2 (train 1)", "21600": "CheXpert-v1.0 batch 3 (train 2)",
              "50000": "CheXpert-v1.0 batch 4 (train 3)"}
    paths = {n: f"CheXpert-v1.0/train/patient{n}/study1/view1_frontal.jpg" for n in (*places, "99999")}
    tree(tmp_path, [FILM | {"Path": path} for path in paths.values()], f"{table}/train.csv")
    tree(tmp_path, [FILM | {"Path": "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg"}], f"{table}/valid.csv")
    for number, folder in places.items():
        film(tmp_path, f"{folder}/patient{number}/study1/view1_frontal.jpg")
    film(tmp_path, f"{table}/valid/patient64541/study1/view1_frontal.jpg")
    read = source(tmp_path)
    records = list(read.records())
    there = [read.tree.size(r.place or "") for r in records]
    assert [size is not None for size in there] == [True, True, True, False, True]
    assert [r.split for r in records] == ["train"] * 4 + ["validate"]
    assert records[0].where == f"{table}/train.csv line 2"


def test_two_sets_in_one_folder_are_asked_about(tmp_path: Path) -> None:
    for name in ("CheXpert-v1.0", "CheXpert-v1.0-small"):
        tree(tmp_path, [FILM], f"{name}/train.csv")
    with pytest.raises(BadInput, match=r"1\.0/train\.csv, CheXpert-v1\.0-small/train\.csv; expected one of them"):
        source(tmp_path)


@pytest.mark.parametrize(("side", "position", "view", "aside"), [
    ("Frontal", "AP", "AP", None), ("Frontal", "PA", "PA", None), ("Lateral", "", "LATERAL", "lateral view"),
    ("Frontal", "LL", None, None), ("Frontal", "RL", None, None), ("Frontal", "", "FRONTAL", None),
    ("Lateral", "AP", "LATERAL", "lateral view")])
def test_lateral_films_are_set_aside_and_a_film_of_two_views_has_none(
        tmp_path: Path, side: str, position: str, view: str | None, aside: str | None) -> None:
    record = only(tree(tmp_path, [FILM | {"Frontal/Lateral": side, "AP/PA": position}]))
    assert (record.view, record.aside, record.fault) == (view, aside, None)


@pytest.mark.parametrize(("sex", "age", "expected"), [
    ("Female", "68", ("F", 68)), ("Male", "90", ("M", 90)), ("Unknown", "0", (None, None)), ("", "", (None, None))])
def test_a_sex_or_age_that_is_not_known_stays_unknown(
        tmp_path: Path, sex: str, age: str, expected: tuple[str | None, int | None]) -> None:
    record = only(tree(tmp_path, [FILM | {"Sex": sex, "Age": age}]))
    assert (record.sex, record.age) == expected


def test_blank_is_not_absent_and_minus_one_is_uncertain(tmp_path: Path) -> None:
    row = FILM | {"Edema": "", "Fracture": "0.0", "Pneumothorax": "-1.0", "Pneumonia": "1.0", "Support Devices": "1"}
    assert states(only(tree(tmp_path, [row])).vector) == {
        "fracture": "absent", "pneumothorax": "uncertain", "pneumonia": "present", "lung_opacity": "present",
        "support_devices": "present"}


@pytest.mark.parametrize(("given", "fault"), [
    ({"Path": "../../train/patient00001/study1/view1_frontal.jpg"}, "path leads out of the source's folder"),
    ({"Path": "/data/train/patient00001/study1/view1_frontal.jpg"}, "path leads out of the source's folder"),
    ({"Path": "train/patient00001/study1/..\\..\\x.jpg"}, "path leads out of the source's folder"),
    ({"Path": ""}, "no film is named"),
    ({"Path": "SECRET.jpg"}, "path is not one of train/patientNNNNN/studyN/viewN_frontal.jpg"),
    ({"Edema": "SECRET"}, "a label is not 1, 0, -1 or empty"), ({"Edema": "2.0"}, "a label is not 1, 0, -1 or empty")])
def test_a_bad_row_is_one_fault_without_its_values(tmp_path: Path, given: dict[str, str], fault: str) -> None:
    last = FILM | {"Path": "train/patient00002/study1/view1_frontal.jpg"}
    good, bad, after = source(tree(tmp_path, [FILM, FILM | given, last])).records()
    assert (good.fault, after.fault) == (None, None)
    assert (bad.fault, bad.vector, bad.where) == (fault, Vector(), "train.csv line 3")
    assert "SECRET" not in f"{bad.fault}{bad.aside}{bad.where}"


def test_a_shifted_row_and_one_in_another_encoding_are_faults(tmp_path: Path) -> None:
    tree(tmp_path, [FILM], start=b"\xef\xbb\xbf")
    path = tmp_path / "train.csv"
    path.write_bytes(path.read_bytes() + b"train/patient00002/study1/view1_frontal.jpg,Female,68\r\n"
                     + b"train/patient00003/study1/view1_frontal.jpg,Caf\xe9,68,Frontal,AP" + b"," * 14 + b"\r\n")
    assert [r.fault for r in source(tmp_path).records()] == [
        None, "row has more or fewer fields than the header", "row is not UTF-8"]


def test_test_labels_by_film_have_neither_sex_nor_age_and_take_their_view_from_the_name(tmp_path: Path) -> None:
    columns = ["Path", *LABELS]
    rows = [{"Path": f"test/patient64741/study1/view{i}_{view}.jpg", **dict.fromkeys(LABELS, "0.0"), "Edema": "1.0"}
            for i, view in ((1, "frontal"), (2, "lateral"))]
    write(tmp_path / "CheXpert" / "test_labels.csv", columns, rows)
    frontal, lateral = source(tmp_path).records()
    assert (frontal.view, frontal.aside, lateral.aside) == ("FRONTAL", None, "lateral view")
    assert (frontal.sex, frontal.age, frontal.split, frontal.labels) == (None, None, "test", "radiologists")
    assert states(frontal.vector)["edema"] == "present" and states(frontal.vector)["pneumonia"] == "absent"


def test_test_labels_by_study_go_to_every_film_in_the_study(tmp_path: Path) -> None:
    rows = [{"Study": f"CheXpert-v1.0/test/patient{n}/study1", **dict.fromkeys(LABELS, "0"), "Fracture": "1"}
            for n in (64741, 64742)] + [{"Study": "../x", **dict.fromkeys(LABELS, "0")}]
    write(tmp_path / "groundtruth.csv", ["Study", *LABELS], rows)
    for name in ("view1_frontal.jpg", "view2_lateral.jpg"):
        film(tmp_path, f"CheXpert-v1.0/test/patient64741/study1/{name}")
    one, two, none, bad = source(tmp_path).records()
    assert [r.place for r in (one, two)] == [f"CheXpert-v1.0/test/patient64741/study1/view{n}.jpg"
                                             for n in ("1_frontal", "2_lateral")]
    assert one.vector == two.vector and states(one.vector)["fracture"] == "present"
    assert (one.study, one.aside, two.aside) == ("64741/study1", None, "lateral view")
    assert source(tmp_path).tree.size(none.place or "") is None and none.patient == "64742"
    assert bad.fault == "path leads out of the source's folder"


def test_another_labelers_vectors_go_by_film_or_study_and_replace_the_published_ones(tmp_path: Path) -> None:
    paths = [f"train/patient0000{n}/study1/view1_frontal.jpg" for n in (1, 2, 3)]
    root = tree(tmp_path, [FILM | {"Path": p} for p in paths])
    given = {f"CheXpert-v1.0-small/{paths[0]}": Vector(present=V.mask(["nodule"])),
             "train/patient00002/study1": Vector(absent=V.mask(["edema"]))}
    one, two, three = source(root, external=given).records()
    assert states(one.vector) == {"nodule": "present", "lung_lesion": "present"}
    assert states(two.vector) == {"edema": "absent"}
    assert (three.vector, three.aside) == (Vector(), "no labels for it")
    assert {r.labels for r in (one, two, three)} == {"external"}
    assert source(root).origin() != source(root, external=given).origin()


def test_another_label_file_of_the_training_part_takes_the_place_of_the_published_one(tmp_path: Path) -> None:
    root = tree(tree(tmp_path, [FILM]), [FILM | {"Edema": "0.0"}], "train_cheXbert.csv.gz")
    assert states(only(root).vector)["edema"] == "present"
    assert states(only(root, labels="train_cheXbert.csv.gz").vector) == {"edema": "absent"}


@pytest.mark.parametrize(("name", "data", "message"), [
    ("other.csv", b"", "got none; expected train.csv, valid.csv or test.csv"),
    ("train.csv", b"", "train.csv: got no header"),
    ("train.csv", b"Sex,Age\n", "column Path: got none; expected it among the 2 columns"),
    ("train.csv", b"Path,Edema\n", "column Atelectasis: got none")])
def test_label_files_that_cannot_be_used_are_named_with_what_is_there(
        tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=message):
        source(tmp_path)


def test_a_packed_label_file_that_is_cut_off_ends_in_an_error_that_names_it(tmp_path: Path) -> None:
    rows = [FILM | {"Path": f"train/patient{i:05d}/study1/view1_frontal.jpg"} for i in range(20_000)]
    root = tree(tmp_path, rows, "labels.csv.gz")
    (root / "labels.csv.gz").write_bytes((root / "labels.csv.gz").read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"labels\.csv\.gz; expected a readable CSV"):
        list(source(root, labels="labels.csv.gz").records())


def test_the_limit_counts_films_over_all_parts(tmp_path: Path) -> None:
    root = tree(tmp_path, [FILM])
    tree(root, [FILM | {"Path": f"valid/patient6454{i}/study1/view1_frontal.jpg"} for i in range(3)], "valid.csv")
    assert [r.split for r in source(root, limit=2).records()] == ["train", "validate"]
