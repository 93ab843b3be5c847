"""A hospital's folder: chest films come in with what their headers say, the rest is named or passed over, and no name,
number or path of it gets into a reason."""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import s3fs
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cars_core.cohort.sources.dicom_folder import HEADS, DicomFolderSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tables import Table
from cars_core.cohort.sources.tree import LocalTree, open_tree
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
DX, DIRECTORY = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.3.10"
SECRET = "SECRET70000"


def dicom(syntax: UID = ExplicitVRLittleEndian, *, storage: str = DX, **elements: Any) -> bytes:
    """A small DX film with a header full of secrets; an element given as None is left out."""
    ds = Dataset()
    own = {"SOPClassUID": storage, "SOPInstanceUID": "1.2.3.1", "StudyInstanceUID": "1.2.3", "AccessionNumber": "A1",
           "StudyDate": "20200229", "Modality": "DX", "PatientID": SECRET, "PatientName": SECRET, "PatientSex": "F",
           "PatientAge": "061Y", "PatientBirthDate": "19580301", "BodyPartExamined": "CHEST", "ViewPosition": "PA",
           "StudyDescription": SECRET, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": 300,
           "Columns": 200, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
           "PixelData": bytes(120_000)} | elements
    for name, value in own.items():
        if value is not None:
            setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = UID(storage)
    ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.1")
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def put(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


def labels(root: Path, rows: list[dict[str, str]]) -> Table:
    """A label file of another tree than the films'."""
    folder = root.parent / "labels"
    folder.mkdir(exist_ok=True)
    with open(folder / "t.csv", "w", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return Table(LocalTree(str(folder)), "t.csv")


def source(root: Path, **settings: Any) -> DicomFolderSource:
    return DicomFolderSource(LocalTree(str(root)), vocabulary=V, **settings)


def one(tmp_path: Path, data: bytes, **settings: Any) -> Record:
    root = tmp_path / "films"
    put(root, f"{SECRET}/film", data)
    got, = source(root, **settings).records()
    return got


def test_a_header_arrives_whole(tmp_path: Path) -> None:
    got = one(tmp_path, dicom(), licence="ours")
    assert (got.name, got.patient, got.study, got.date) == ("1.2.3.1", SECRET, "1.2.3", datetime.date(2020, 2, 29))
    assert (got.age, got.sex, got.view, got.line, got.licence) == (61, "F", "PA", 1, "ours")
    assert (got.fault, got.aside, got.vector, got.labels, got.split) == (None, None, Vector(), "none", None)
    assert (got.where, got.place) == ("DICOM file 1 of the folder", f"{SECRET}/film")


@pytest.mark.parametrize(("elements", "aside"), [
    ({"Modality": "CT"}, "not a radiograph"), ({"Modality": "SR"}, "not a radiograph"),
    ({"Modality": "OT"}, "not a radiograph"), ({"Modality": "MG"}, "not a radiograph"),
    ({"Modality": SECRET[:8]}, "not a radiograph"), ({"Modality": "CR"}, None), ({"Modality": None}, None),
    ({"BodyPartExamined": "LEG"}, "not a chest by its header"),
    ({"BodyPartExamined": "ABDOMEN"}, "not a chest by its header"),
    ({"BodyPartExamined": "EXTREMITY"}, "not a chest by its header"),
    ({"BodyPartExamined": "SKULL"}, "not a chest by its header"),
    ({"BodyPartExamined": "THORAX"}, None), ({"BodyPartExamined": "RIB"}, None), ({"BodyPartExamined": None}, None),
    ({"BodyPartExamined": SECRET}, None),
    ({"ViewPosition": "LL"}, "lateral view"), ({"ViewPosition": "LATERAL"}, "lateral view"),
    ({"ViewPosition": "AP"}, None), ({"ViewPosition": None}, None),
])
def test_what_is_no_frontal_chest_film_is_set_aside(tmp_path: Path, elements: dict[str, Any],
                                                   aside: str | None) -> None:
    got = one(tmp_path, dicom(**elements))
    assert (got.aside, got.fault) == (aside, None)


@pytest.mark.parametrize(("data", "fault"), [
    (dicom(PatientID=None), "no patient is named"), (dicom(PatientID=""), "no patient is named"),
    (dicom(SOPInstanceUID=""), "no SOPInstanceUID"),
    (dicom()[:140], "file is truncated or damaged"),
])
def test_a_film_that_cannot_be_told_is_a_fault(tmp_path: Path, data: bytes, fault: str) -> None:
    got = one(tmp_path, data)
    assert got.fault == fault
    assert SECRET not in f"{got.fault}{got.where}{got.aside}"


def test_files_count_by_their_content_and_others_are_passed_over(tmp_path: Path) -> None:
    """Archives name files IM0001, and lay a DICOMDIR, viewers and notes beside them."""
    put(tmp_path, "a/IM0001", dicom(SOPInstanceUID="1.2.3.2"))
    put(tmp_path, "a/b/film.jpg", dicom(SOPInstanceUID="1.2.3.3"))
    put(tmp_path, "DICOMDIR", dicom(storage=DIRECTORY, PixelData=None))
    put(tmp_path, "media", dicom(storage=DIRECTORY, PixelData=None))
    put(tmp_path, "readme.dcm", b"no film")
    put(tmp_path, "empty.dcm", b"")
    put(tmp_path, "z.dcm", dicom(SOPInstanceUID="1.2.3.4"))
    found = source(tmp_path)
    got = list(found.records())
    assert [r.name for r in got] == ["1.2.3.4", "1.2.3.2", "1.2.3.3"]
    assert [r.where for r in got] == [f"DICOM file {n} of the folder" for n in (1, 2, 3)]
    assert found.passed_over == 4
    assert list(found.records()) == got and found.passed_over == 4
    assert [r.name for r in source(tmp_path, limit=2).records()] == ["1.2.3.4", "1.2.3.2"]


def test_damaged_headers_cost_their_films_and_repeat_nothing(tmp_path: Path) -> None:
    """One bad file in a hundred thousand must not end a night's run, nor put a name into its log."""
    random = np.random.default_rng(7)
    whole = [dicom(syntax, PixelData=bytes(60)) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian,
                                                               DeflatedExplicitVRLittleEndian)]
    for number in range(300):
        data = bytearray(whole[number % 3])
        for _ in range(int(random.integers(1, 8))):
            data[int(random.integers(132, len(data)))] = int(random.integers(256))
        put(tmp_path, f"{number:03d}", bytes(data[:int(random.integers(140, len(data)))] if number % 5 == 0 else data))
    got = list(source(tmp_path).records())
    faults = Counter(r.fault for r in got)
    assert len(got) > 280 and faults["file is truncated or damaged"] > 20 and faults[None] > 50
    assert not any(SECRET[:4] in f"{r.fault}{r.where}{r.aside}{r.view}{r.sex}" for r in got)


def test_one_film_twice_is_left_to_ingest(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path, name, dicom())
    assert [r.name for r in source(tmp_path).records()] == ["1.2.3.1"] * 2


class Counting(LocalTree):
    """Counts the bytes read of each file."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.read_of: Counter[str] = Counter()

    def open(self, path: str) -> Any:
        file, tree = super().open(path), self

        class Counted:
            def read(self, n: int = -1) -> bytes:
                data = file.read(n)
                tree.read_of[path] += len(data)
                return data

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                file.close()

        return Counted()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pixels_are_not_read(tmp_path: Path, syntax: UID) -> None:
    """A hundred thousand films of 20 MB would otherwise cross the network to tell their patients."""
    put(tmp_path, "a", dicom(syntax))
    tree = Counting(str(tmp_path))
    got, = DicomFolderSource(tree, vocabulary=V).records()
    assert got.fault is None and tree.read_of["a"] == HEADS[0]


def test_a_folder_in_a_bucket_says_the_same(tmp_path: Path, s3_storage: dict[str, str]) -> None:
    files = {"b/2": dicom(), "a/1": dicom(SOPInstanceUID="1.2.3.2"), "a/notes.txt": b"no film", "DICOMDIR": b"none"}
    store = s3fs.S3FileSystem(key=s3_storage["AWS_ACCESS_KEY_ID"], secret=s3_storage["AWS_SECRET_ACCESS_KEY"],
                              endpoint_url=s3_storage["AWS_ENDPOINT_URL"])
    for path, data in files.items():
        put(tmp_path, path, data)
        store.pipe_file(f"cars/dicom-folder/{path}", data)
    bucket = DicomFolderSource(open_tree("s3://cars/dicom-folder", storage=s3_storage), vocabulary=V)
    folder = source(tmp_path)
    assert list(bucket.records()) == list(folder.records())
    assert bucket.passed_over == folder.passed_over == 2


@pytest.mark.parametrize("longest", [HEADS[0] - 300, HEADS[0], HEADS[1] + 5])
def test_a_long_header_is_read_to_its_end(tmp_path: Path, longest: int) -> None:
    """Manufacturers put pictures into private elements, before what is asked for."""
    ds = pydicom.dcmread(io.BytesIO(dicom()))
    ds.private_block(0x0009, "MAKER", create=True).add_new(0x01, "OB", bytes(longest + longest % 2))
    out = io.BytesIO()
    ds.save_as(out)
    got = one(tmp_path, out.getvalue())
    assert (got.name, got.patient, got.age, got.fault) == ("1.2.3.1", SECRET, 61, None)


def test_a_deflated_film_is_read_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(400_000)
    got = one(tmp_path, dicom(DeflatedExplicitVRLittleEndian, PixelData=noise))
    assert (got.name, got.patient, got.fault) == ("1.2.3.1", SECRET, None)


@pytest.mark.parametrize(("key", "value"), [
    ("SOPInstanceUID", "1.2.3.1"), ("StudyInstanceUID", "1.2.3"), ("AccessionNumber", "A1")])
def test_labels_are_found_by_each_key(tmp_path: Path, key: str, value: str) -> None:
    table = labels(tmp_path / "films", [{"k": "other", "said": "Edema", "split": "", "terms": ""},
                                        {"k": value, "said": "Mass", "split": "dev", "terms": "CC0"}])
    got = one(tmp_path, dicom(), labels=table, columns={key: "k", "labels": "said", "split": "split",
                                                        "licence": "terms"})
    assert got.vector == Vector(V.mask(["mass", "lung_lesion"]))
    assert (got.split, got.licence, got.labels, got.fault, got.aside) == ("validate", "CC0", "labels", None, None)


@pytest.mark.parametrize(("rows", "fault", "aside"), [
    ([("A2", "mass")], None, "no labels for it"), ([("", "mass")], None, "no labels for it"),
    ([("A1", SECRET)], "label outside the vocabulary", None),
    ([("A1", "mass"), ("A1", "mass")], None, None),
    ([("A1", "mass"), ("A1", "edema")], "its rows of labels disagree", None),
    ([("A1", "mass"), ("A1", "edema"), ("A1", "mass")], "its rows of labels disagree", None),
])
def test_labels_that_are_missing_or_doubtful_are_told(tmp_path: Path, rows: list[tuple[str, str]], fault: str | None,
                                                      aside: str | None) -> None:
    table = labels(tmp_path / "films", [{"k": k, "said": said} for k, said in rows])
    got = one(tmp_path, dicom(), labels=table, columns={"AccessionNumber": "k", "labels": "said"})
    assert (got.fault, got.aside) == (fault, aside)
    assert (got.vector == Vector()) == (fault is not None or aside is not None)


def test_a_film_without_the_key_gets_nobodys_labels(tmp_path: Path) -> None:
    table = labels(tmp_path / "films", [{"k": "", "said": "mass"}, {"k": "x", "said": "mass"}])
    got = one(tmp_path, dicom(AccessionNumber=""), labels=table, columns={"AccessionNumber": "k", "labels": "said"})
    assert (got.vector, got.aside) == (Vector(), "no labels for it")


@pytest.mark.parametrize(("columns", "told"), [
    ({"labels": "said"}, "no key"), ({"AccessionNumber": "k", "SOPInstanceUID": "k"}, "SOPInstanceUID and Accession"),
    ({"AccessionNumber": "key"}, "column key"), ({"AccessionNumber": "k", "age": "k"}, "age"),
    ({"AccessionNumber": "k", "finding.efusion": "said"}, "efusion"), ({}, "no key"),
])
def test_a_wrong_map_is_told_at_once(tmp_path: Path, columns: dict[str, str], told: str) -> None:
    table = labels(tmp_path / "films", [{"k": "A1", "said": "mass"}])
    with pytest.raises(BadInput, match=told):
        source(tmp_path, labels=table, columns=columns)


def test_a_map_without_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cohort\.labels"):
        source(tmp_path, columns={"AccessionNumber": "k"})


def test_what_changes_the_records_changes_the_origin(tmp_path: Path) -> None:
    table = labels(tmp_path / "films", [{"k": "A1", "said": "mass"}])
    by = {"AccessionNumber": "k"}
    seen = {str(source(tmp_path, **s).origin()) for s in (
        {}, {"labels": table, "columns": by}, {"labels": table, "columns": {**by, "labels": "said"}},
        {"labels": table, "columns": by, "absent": "unlisted"})}
    assert len(seen) == 4


def test_every_simulated_film_arrives_with_its_truth_and_no_secret_in_a_reason(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    write_cohort(films(n=12, seed=3, size=64, withheld=[], split_of=lambda p: "train", vocabulary=V), out=out,
                 layout="dicom")
    truth = {r["path"]: r for r in pq.read_table(out / "truth/truth.parquet").to_pylist()}
    rows = [{"uid": str(pydicom.dcmread(out / path, stop_before_pixels=True).SOPInstanceUID),
             **{f: str(t["film_present"] >> V[f].bit & 1) for f in ("effusion", "mass", "cardiomegaly")}}
            for path, t in truth.items()]
    found = source(out, labels=labels(out, rows), columns={
        "SOPInstanceUID": "uid", **{f"finding.{f}": f for f in ("effusion", "mass", "cardiomegaly")}})
    got = list(found.records())
    assert {r.place for r in got} == set(truth)
    assert found.passed_over == sum(p.is_file() for p in out.rglob("*")) - len(truth)
    people: dict[str, set[str]] = {}
    days: dict[str, set[int]] = {}
    for r in got:
        t = truth[str(r.place)]
        assert (r.sex, r.age, r.view, r.fault, r.aside) == (t["sex"], t["age"], t["view"], None, None)
        for f in ("effusion", "mass", "cardiomegaly"):
            assert r.vector.state(V[f].bit) == ("present" if t["film_present"] >> V[f].bit & 1 else "absent")
        people.setdefault(r.patient, set()).add(t["patient"])
        assert r.date is not None
        days.setdefault(r.patient, set()).add(r.date.toordinal() - t["days"])
    assert len(people) == len({t["patient"] for t in truth.values()})
    assert all(len(x) == 1 for x in [*people.values(), *days.values()])


def test_the_open_films_of_archives_are_told_apart(open_films: Path) -> None:
    got = {str(r.place).split("_")[1] + str(r.place).split("_")[2]: r for r in source(open_films / "dicom").records()}
    assert {name: r.aside for name, r in got.items()} == {
        "crchest": None, "crextremity": "not a chest by its header", "dxchest": None}
    assert got["crchest"].view == "PA"
    assert all(r.fault is None for r in got.values())
