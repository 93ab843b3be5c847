"""MIMIC-CXR-JPG as a source: what a user would lose if its tables were joined, read or labelled wrongly."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cars_core.cohort.sources.mimic import LICENCE, MimicSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
          "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax",
          "Support Devices"]
#: Label -> the findings that its labeller reads as it, and what it implies: written out here, not taken from the code.
READ_AS = {"enlarged_cardiomediastinum": {"enlarged_cardiomediastinum"}, "cardiomegaly": {"cardiomegaly"},
           "lung_opacity": {"lung_opacity", "infiltration"}, "lung_lesion": {"lung_lesion", "mass", "nodule"},
           "edema": {"edema"}, "consolidation": {"consolidation"}, "pneumonia": {"pneumonia"},
           "atelectasis": {"atelectasis"}, "pneumothorax": {"pneumothorax"}, "effusion": {"effusion"},
           "pleural_other": {"pleural_other", "pleural_thickening", "fibrosis"}, "fracture": {"fracture"},
           "support_devices": {"support_devices"}}
IMPLIES = {"atelectasis": "lung_opacity", "edema": "lung_opacity", "consolidation": "lung_opacity",
           "pneumonia": "lung_opacity", "cardiomegaly": "enlarged_cardiomediastinum"}


def states(vector: Vector) -> dict[str, str]:
    return {f.name: state for f in V.findings if (state := vector.state(f.bit)) != "unmentioned"}


def as_labelled(statements: str) -> dict[str, str]:
    """What a label file states of a report, "No Finding" and implications included, from the report's statements."""
    said = [(s["finding"], s["state"]) for s in json.loads(statements)]
    out: dict[str, str] = {}
    for label, kinds in READ_AS.items():
        found = {state for finding, state in said if finding in kinds}
        for state in ("present", "uncertain", "absent"):
            if state in found:
                out[label] = state
                break
    about = {finding for finding, state in said if state != "absent"}
    if about & {"atelectasis", "consolidation", "edema", "mass", "nodule", "pneumonia"}:
        # "No infiltrate" beside one of these does not deny an opacity.
        out = {k: v for k, v in out.items() if (k, v) != ("lung_opacity", "absent")}
    if not about - {"support_devices"}:
        out |= {label: "absent" for label in READ_AS if label != "support_devices" and label not in out}
    for finding, above in IMPLIES.items():
        if out.get(finding) == "present":
            out.setdefault(above, "present")
    return out


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mimic") / "tree"
    specs = films(n=24, seed=12, size=64, withheld=[], vocabulary=V,
                  split_of=lambda patient: ("train", "test", "validate")[int(patient.rsplit("-", 1)[1]) % 3])
    write_cohort(specs, out=out, layout="mimic")
    return out


def truth_of(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(root / "truth/truth.parquet").to_pylist()
    return rows


def source(root: Path, **settings: Any) -> MimicSource:
    return MimicSource(LocalTree(str(root)), vocabulary=V, **settings)


@pytest.mark.parametrize("labeler", ["chexpert", "negbio"])
def test_every_film_of_a_cohort_comes_with_its_labels_split_sex_age_view_and_day(simulated: Path, labeler: str) -> None:
    truth = truth_of(simulated)
    records = list(source(simulated, labeler=labeler).records())
    assert len(records) == len(truth) == 24
    first: dict[str, datetime.date] = {}
    patients: dict[str, set[str]] = {}
    for record, t in zip(records, truth, strict=True):
        assert (record.place, record.split, record.sex, record.view) == (t["path"], t["split"], t["sex"], t["view"])
        assert (record.fault, record.aside, record.labels, record.licence) == (None, None, labeler, LICENCE)
        assert record.name == Path(t["path"]).stem and record.study == Path(t["path"]).parent.name[1:]
        assert states(record.vector) == as_labelled(t["statements"])
        assert record.date is not None
        start = first.setdefault(record.patient, record.date)
        assert (record.date - start).days == t["days"]
        assert record.age == t["age"] + record.date.year - start.year
        patients.setdefault(t["patient"], set()).add(record.patient)
    assert all(len(numbers) == 1 for numbers in patients.values())
    assert len({next(iter(n)) for n in patients.values()}) == len(patients)
    assert {r.split for r in records} == {"train", "validate", "test"}
    assert len({r.vector for r in records}) > 5
    assert any(r.vector.uncertain for r in records) and any(r.vector.present for r in records)


def test_labels_say_what_the_report_says_where_both_have_the_words_for_it(simulated: Path) -> None:
    known = sum(1 << f.bit for f in V.label_set("chexpert").values())
    compared = 0
    for record, t in zip(source(simulated).records(), truth_of(simulated), strict=True):
        if {s["finding"] for s in json.loads(t["statements"])} <= set(V.unpack(known)):
            compared += 1
            assert record.vector.present == t["report_present"] & known
            assert record.vector.uncertain == t["report_uncertain"] & known
            assert t["report_absent"] & known & ~record.vector.absent == 0
    assert compared > 5


def test_every_place_is_a_file_of_the_tree_and_the_label_files_decide_the_origin(simulated: Path) -> None:
    read = source(simulated)
    assert all(read.tree.size(r.place or "") for r in read.records())
    assert read.origin() == source(simulated).origin()
    assert read.origin() != source(simulated, labeler="negbio").origin()
    assert list(read.records()) == list(read.records())


class FakeLabeller:
    """Stands for cars_core.reports.label: says edema of every report, and remembers the texts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        module = types.ModuleType("cars_core.reports.label")
        module.label_report = self.label  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cars_core.reports.label", module)

    def label(self, text: str, vocabulary: Any) -> Any:
        self.texts.append(text)
        return types.SimpleNamespace(vector=Vector(present=vocabulary.mask(["edema"])))


def test_reports_are_labelled_a_study_once_and_closed_upwards(
        simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeller = FakeLabeller(monkeypatch)
    records = list(source(simulated, labeler="reports").records())
    assert [" ".join(t.replace("FINAL REPORT", "").split()) for t in labeller.texts] == [
        " ".join(t["report"].split()) for t in truth_of(simulated)]
    assert all(states(r.vector) == {"edema": "present", "lung_opacity": "present"} for r in records)
    assert {r.labels for r in records} == {"reports"}


def write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, start: bytes = b"",
          encoding: str = "utf-8") -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    data = start + text.getvalue().encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "ViewCodeSequence_CodeMeaning")
FILM = {"dicom_id": "0a-1b", "subject_id": 10000032, "study_id": 50414267, "ViewPosition": "PA", "StudyDate": 21800506,
        "ViewCodeSequence_CodeMeaning": ""}


def tree(root: Path, films: Sequence[Mapping[str, object]] = (FILM,), *, labels: Sequence[Mapping[str, object]] = (),
         parts: Sequence[Mapping[str, object]] | None = None, version: str = "2.0.0", ending: str = ".csv",
         **how: Any) -> Path:
    """A tree with the given rows and no film."""
    root.mkdir(exist_ok=True)
    stem = f"mimic-cxr-{version}-"
    write(root / f"{stem}metadata{ending}", METADATA, films, **how)
    own = [{k: f[k] for k in METADATA[:3]} | {"split": "train"} for f in films] if parts is None else parts
    write(root / f"{stem}split{ending}", ["dicom_id", "study_id", "subject_id", "split"], own, **how)
    studies = labels or [{"subject_id": s, "study_id": n, "Edema": "1.0"}
                         for s, n in sorted({(f["subject_id"], f["study_id"]) for f in films}, key=str)]
    for labeler in ("chexpert", "negbio"):
        write(root / f"{stem}{labeler}{ending}", ["subject_id", "study_id", *LABELS], studies, **how)
    return root


def only(root: Path, **settings: Any) -> Record:
    [record] = source(root, **settings).records()
    return record


@pytest.mark.parametrize(("version", "ending", "how"), [
    ("2.0.0", ".csv.gz", {}), ("2.1.0", ".csv", {}), ("2.0.0", ".csv", {"start": b"\xef\xbb\xbf"}),
    ("2.0.0", ".csv.gz", {"start": b"\xef\xbb\xbf"})])
def test_tables_are_found_in_each_version_packed_or_not_and_behind_a_byte_order_mark(
        tmp_path: Path, version: str, ending: str, how: dict[str, Any]) -> None:
    record = only(tree(tmp_path / "t", version=version, ending=ending, **how))
    assert (record.name, record.patient, record.study) == ("0a-1b", "10000032", "50414267")
    assert record.date == datetime.date(2180, 5, 6) and record.split == "train"
    assert record.where == f"mimic-cxr-{version}-metadata{ending} line 2"
    assert states(record.vector) == {"edema": "present", "lung_opacity": "present"}
    assert (record.sex, record.age) == (None, None)


def test_the_published_table_counts_beside_its_own_copy_and_two_versions_are_asked_about(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", ending=".csv.gz")
    tree(root, [{**FILM, "dicom_id": "other"}])
    assert only(root).name == "0a-1b"
    tree(root, version="2.1.0")
    with pytest.raises(BadInput, match=r"2\.0\.0-metadata.csv.gz, mimic-cxr-2\.1\.0-metadata.csv; expected one file"):
        source(root)


@pytest.mark.parametrize(("position", "code", "view", "aside"), [
    ("PA", "", "PA", None), ("AP", "", "AP", None), ("LATERAL", "", "LATERAL", "lateral view"),
    ("LL", "", "LATERAL", "lateral view"), ("", "", None, None), ("", "antero-posterior", "AP", None),
    ("", "lateral", "LATERAL", "lateral view"), ("", "left lateral", "LATERAL", "lateral view"),
    ("XTABLE LATERAL", "", "LATERAL", "lateral view"), ("LAO", "", "LAO", "neither a PA nor an AP view"),
    ("AP AXIAL", "", None, "neither a PA nor an AP view"), ("PA", "lateral", "PA", None)])
def test_lateral_films_are_set_aside_and_a_film_of_unknown_view_is_kept(
        tmp_path: Path, position: str, code: str, view: str | None, aside: str | None) -> None:
    film = {**FILM, "ViewPosition": position, "ViewCodeSequence_CodeMeaning": code}
    record = only(tree(tmp_path / "t", [film]))
    assert (record.view, record.aside, record.fault) == (view, aside, None)


def test_a_study_without_labels_is_set_aside_and_an_empty_row_of_labels_is_not(tmp_path: Path) -> None:
    other = {**FILM, "dicom_id": "2c", "study_id": 50000001}
    root = tree(tmp_path / "t", [FILM, other], labels=[{"subject_id": 1, "study_id": "50414267.0"}])
    one, two = source(root).records()
    assert (one.vector, one.aside) == (Vector(), None)
    assert (two.vector, two.aside, two.fault) == (Vector(), "no labels for its study", None)


@pytest.mark.parametrize("value", ["2", "2.0", "yes", "0.5", "nan nan", "1;0"])
def test_a_label_that_is_no_label_spoils_its_study_and_no_other(tmp_path: Path, value: str) -> None:
    other = {**FILM, "dicom_id": "2c", "study_id": 50000001}
    root = tree(tmp_path / "t", [FILM, other], labels=[
        {"study_id": 50414267, "Fracture": value}, {"study_id": 50000001, "Fracture": "-1.0"}])
    bad, good = source(root).records()
    assert bad.fault == "a label is not 1, 0, -1 or empty" and bad.vector == Vector()
    assert good.fault is None and states(good.vector) == {"fracture": "uncertain"}


def test_no_finding_denies_what_is_not_mentioned_but_no_device_and_no_doubt(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", labels=[{"study_id": 50414267, "No Finding": "1.0", "Pneumonia": "-1.0"}])
    assert states(only(root).vector) == {**dict.fromkeys(set(READ_AS) - {"support_devices"}, "absent"),
                                         "pneumonia": "uncertain"}


def test_age_and_sex_come_from_the_patients_table_wherever_it_is(tmp_path: Path) -> None:
    columns = ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"]
    people = [{"subject_id": 10000032, "gender": "F", "anchor_age": 52, "anchor_year": 2182},
              {"subject_id": 10000033, "gender": "", "anchor_age": "", "anchor_year": 2182},
              {"subject_id": 10000034, "gender": "M", "anchor_age": 91, "anchor_year": 2150},
              {"subject_id": 99999999, "gender": "M", "anchor_age": 30, "anchor_year": 2180}]
    rows = [{**FILM, "dicom_id": f"f{s}", "subject_id": s} for s in (10000032, 10000033, 10000034, 10000035)]
    root = tree(tmp_path / "t", rows)
    (root / "hosp").mkdir()
    write(root / "hosp" / "patients.csv.gz", columns, people)
    assert {(r.sex, r.age) for r in source(root).records()} == {(None, None)}
    expected = [("F", 50), (None, None), ("M", None), (None, None)]  # in 2180: 52 in 2182; nobody is 121
    assert [(r.sex, r.age) for r in source(root, patients="hosp/patients.csv.gz").records()] == expected
    before = source(root).origin()
    write(root / "patients.csv", columns, people)
    assert [(r.sex, r.age) for r in source(root).records()] == expected
    assert source(root).origin() != before


@pytest.mark.parametrize(("films_at", "place"), [
    ("files/p10/p10000032/s50414267/0a-1b.jpg", "files/p10/p10000032/s50414267/0a-1b.jpg"),
    ("files/p10/p10000032/s50414267/0a-1b.png", "files/p10/p10000032/s50414267/0a-1b.png"),
    ("files/p10/p10000032/s50414267/0a-1b.dcm", "files/p10/p10000032/s50414267/0a-1b.dcm"),
    ("p10/p10000032/s50414267/0a-1b.jpg", "p10/p10000032/s50414267/0a-1b.jpg"),
    ("p10/p10000032/s50414267/0a-1b.dcm", "p10/p10000032/s50414267/0a-1b.dcm"),
    ("p10/p10000099/s50000099/other.png", "p10/p10000032/s50414267/0a-1b.png"),
    ("files/p10/p10000032/s50414267.txt", "files/p10/p10000032/s50414267/0a-1b.jpg")])
def test_films_are_looked_for_where_and_in_the_format_the_first_one_lies_in(
        tmp_path: Path, films_at: str, place: str) -> None:
    root = tree(tmp_path / "t")
    (root / films_at).parent.mkdir(parents=True)
    (root / films_at).write_bytes(b"film")
    assert only(root).place == place


@pytest.mark.parametrize(("given", "fault"), [
    ({"dicom_id": "../../../../../etc/passwd"}, "path leads out of the source's folder"),
    ({"subject_id": "1/../../../x"}, "path leads out of the source's folder"),
    ({"study_id": "5/../../../../x"}, "path leads out of the source's folder"),
    ({"dicom_id": "a\\..\\..\\b"}, "path leads out of the source's folder"),
    ({"dicom_id": ""}, "no film is named"), ({"subject_id": ""}, "no patient or no study is named"),
    ({"study_id": ""}, "no patient or no study is named")])
def test_a_row_that_names_nothing_or_climbs_out_is_one_fault_without_its_values(
        tmp_path: Path, given: dict[str, str], fault: str) -> None:
    root = tree(tmp_path / "t", [FILM, {**FILM, **given}, {**FILM, "dicom_id": "2c"}])
    good, bad, after = source(root).records()
    assert (good.fault, after.fault) == (None, None)
    assert (bad.fault, bad.place) == (fault, None)
    assert bad.where == "mimic-cxr-2.0.0-metadata.csv line 3"


def test_a_shifted_row_and_one_in_another_encoding_are_faults_that_show_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path / "t")
    path = root / "mimic-cxr-2.0.0-metadata.csv"
    path.write_bytes(path.read_bytes() + b"2c,10000032,50414267,PA\r\n"
                     + b"3d,10000032,50414267,PA,21800506,Caf\xe9\r\n"
                     + b"4e,10000032,50414267,PA,21800506,,SECRET\r\n" + b"5f,10000032,50414267,PA,21800506,\r\n")
    records = list(source(root).records())
    assert [r.fault for r in records] == [
        None, "row has more or fewer fields than the header", "row is not UTF-8",
        "row has more or fewer fields than the header", None]
    assert not any("SECRET" in f"{r.where}{r.fault}{r.aside}" for r in records)


def test_a_bad_row_of_labels_spoils_its_study_and_of_the_split_file_only_itself(tmp_path: Path) -> None:
    root = tree(tmp_path / "t")
    labels = root / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_bytes(labels.read_bytes().split(b"\r\n")[0] + b"\r\n10000032,50414267,1.0\r\n")
    split = root / "mimic-cxr-2.0.0-split.csv"
    split.write_bytes(b"dicom_id,study_id,subject_id,split\n0a-1b,50414267,10000032\n")
    record = only(root)
    assert (record.fault, record.split) == ("row has more or fewer fields than the header", None)


def test_a_film_may_be_in_another_part_than_its_patient_only_if_the_split_file_says_so(tmp_path: Path) -> None:
    rows = [{**FILM, "dicom_id": f"f{i}"} for i in range(4)]
    parts = [{"dicom_id": "f0", "subject_id": 10000032, "split": "train"},
             {"dicom_id": "f1", "subject_id": 10000032, "split": "test"},
             {"dicom_id": "f2", "subject_id": 10000032, "split": "holdout"}]
    records = list(source(tree(tmp_path / "t", rows, parts=parts)).records())
    assert [r.split for r in records] == ["train", "test", None, "train"]
    assert [r.fault for r in records] == [None, None, "its part is not train, validate or test", None]


def test_another_labelers_vectors_are_closed_upwards_and_stand_in_the_origin(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", [FILM, {**FILM, "dicom_id": "2c", "study_id": 50000001}])
    (root / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    given = {"s50414267": Vector(present=V.mask(["mass"]))}
    read = source(root, labeler="external", external=given)
    one, two = read.records()
    assert states(one.vector) == {"mass": "present", "lung_lesion": "present"}
    assert (two.vector, two.aside) == (Vector(), "no labels for its study")
    changed = source(root, labeler="external", external={"50414267": Vector(absent=V.mask(["mass"]))})
    assert read.origin() != changed.origin()
    for settings in ({"labeler": "external"}, {"external": given}):
        with pytest.raises(BadInput, match="vectors by study_id with labeler external"):
            source(root, **settings)


@pytest.mark.parametrize("folder", ["files/", "", "mimic-cxr-reports/files/"])
def test_reports_may_lie_in_a_tree_of_their_own_and_a_film_without_one_is_set_aside(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    labeller = FakeLabeller(monkeypatch)
    rows = [FILM, {**FILM, "dicom_id": "2c"}, {**FILM, "dicom_id": "3d", "study_id": 50000001},
            {**FILM, "dicom_id": "4e", "study_id": 50000002}]
    root = tree(tmp_path / "t", rows)
    reports = tmp_path / "reports"
    patient = reports / f"{folder}p10/p10000032"
    patient.mkdir(parents=True)
    (patient / "s50414267.txt").write_bytes(b"FINDINGS: caf\xe9")
    (patient / "s50000002.txt").write_bytes(b"x" * (2 << 20))
    records = list(source(root, labeler="reports", reports_tree=LocalTree(str(reports))).records())
    assert labeller.texts == ["FINDINGS: caf\ufffd"]
    assert [states(r.vector).get("edema") for r in records] == ["present", "present", None, None]
    assert [r.aside for r in records] == [None, None, "no labels for its study", None]
    assert records[3].fault == "its report cannot be read"


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda root: (root / "mimic-cxr-2.0.0-split.csv").unlink(), "split table in .*: got none; expected one file"),
    (lambda root: (root / "mimic-cxr-2.0.0-metadata.csv").write_bytes(b""), "metadata.csv: got no header"),
    (lambda root: (root / "mimic-cxr-2.0.0-metadata.csv").write_bytes(b"dicom_id,subject_id\n"),
     "column study_id: got none; expected it among the 2 columns"),
    (lambda root: (root / "mimic-cxr-2.0.0-chexpert.csv").write_bytes(b"study_id,Edema\n"), "column Atelectasis: got"),
    (lambda root: (root / "mimic-cxr-2.0.0-chexpert.csv").write_bytes(b"study_id,Edema,Edema\n"), "'Edema' twice"),
    (lambda root: (root / "patients.csv").write_bytes(b"subject_id,gender\n"), "column anchor_age: got none"),
    (lambda root: (root / "mimic-cxr-2.0.0-split.csv").rename(root / "mimic-cxr-2.0.0-split.csv.gz"), "readable CSV")])
def test_tables_that_cannot_be_used_are_named_with_what_is_there(tmp_path: Path, spoil: Any, message: str) -> None:
    root = tree(tmp_path / "t")
    spoil(root)
    with pytest.raises(BadInput, match=message):
        source(root)


def test_a_packed_table_that_is_cut_off_ends_in_an_error_that_names_it(tmp_path: Path) -> None:
    rows = [{**FILM, "dicom_id": f"{i:08x}"} for i in range(5000)]
    root = tree(tmp_path / "t", rows, ending=".csv.gz")
    path = root / "mimic-cxr-2.0.0-metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"metadata\.csv\.gz; expected a readable CSV"):
        list(source(root).records())


def test_the_limit_counts_films_and_an_unknown_labeler_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", [{**FILM, "dicom_id": f"f{i}"} for i in range(5)])
    assert [r.name for r in source(root, limit=2).records()] == ["f0", "f1"]
    with pytest.raises(BadInput, match="labeler: got gpt; expected one of chexpert, negbio, reports, external"):
        source(root, labeler="gpt")
