"""PadChest's table must arrive as it says: what is named present, what is not named absent only where that is meant."""

from __future__ import annotations

import csv
import datetime
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.sources.padchest import COLUMNS, PadchestSource, label_names
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
EVERY = V.mask([f.name for f in V.label_set("padchest").values()])
NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = ["", *COLUMNS, "MethodLabel"]


def row(image: str = "a.png", labels: str = "['normal']", **values: str) -> list[str]:
    own = {"ImageID": image, "ImageDir": "12", "StudyDate_DICOM": "20140915", "StudyID": "s1", "PatientID": "70000",
           "PatientBirth": "1930.0", "PatientSex_DICOM": "F", "Projection": "PA", "Labels": labels,
           "MethodLabel": "RNN_model"} | values
    return ["0", *(own[column] for column in HEADER[1:])]


def write(root: Path, rows: list[list[str]], *, header: list[str] = HEADER, encoding: str = "utf-8",
          name: str = NAME) -> Path:
    with open(root / name, "w", encoding=encoding, newline="") as f:
        csv.writer(f).writerows([header, *rows])
    return root / name


def source(root: Path, **settings: Any) -> PadchestSource:
    return PadchestSource(LocalTree(str(root)), vocabulary=V, **settings)


def one(root: Path, *given_row: Any, **values: str) -> Record:
    write(root, [row(*given_row, **values)])
    got, = source(root).records()
    return got


def labelled(root: Path, *labels: str) -> Record:
    return one(root, "a.png", repr(list(labels)))


def test_a_row_arrives_whole(tmp_path: Path) -> None:
    got = one(tmp_path, "a.png", "['pleural effusion', ' rib fracture', 'scoliosis']")
    assert (got.name, got.patient, got.study, got.line) == ("a.png", "70000", "s1", 2)
    assert (got.age, got.sex, got.view, got.date) == (84, "F", "PA", datetime.date(2014, 9, 15))
    assert (got.fault, got.aside, got.split, got.labels) == (None, None, None, "rnn")
    assert V.unpack(got.vector.present) == ["effusion", "fracture", "rib_fracture"]
    assert got.vector.absent == EVERY & ~got.vector.present and got.vector.uncertain == 0


def test_normal_makes_everything_of_padchest_absent_and_nothing_else(tmp_path: Path) -> None:
    got = labelled(tmp_path, "normal").vector
    assert got == Vector(absent=EVERY)
    assert not got.absent & V.mask(["lung_lesion", "meniscus_sign"])


def test_a_kind_that_is_named_is_not_denied_by_its_wider_finding(tmp_path: Path) -> None:
    """PadChest lists rib fracture without fracture; an absent fracture beside it would be a lie."""
    for label in V.label_set("padchest"):
        got = labelled(tmp_path, label).vector
        assert not got.absent & V.ancestors(got.present)
        assert got.present & V.mask([V.label_set("padchest")[label].name])


@pytest.mark.parametrize("labels", [["unchanged", "pleural effusion"], ["", "pleural effusion"]])
def test_a_report_that_only_compares_denies_nothing(tmp_path: Path, labels: list[str]) -> None:
    """No change since a film that we may not have: the mass seen then is still there."""
    got = labelled(tmp_path, *labels)
    assert got.vector == Vector(present=V.mask(["effusion"])) and got.aside is None


@pytest.mark.parametrize(("labels", "aside"), [
    ("['unchanged']", "labels only say unchanged"), ("['unchanged', 'scoliosis']", "labels only say unchanged"),
    ("['']", "labels are empty"), ("nan", "labels are empty"), ("[]", "labels are empty"), ("", "labels are empty"),
    ("['', 'scoliosis']", "labels say nothing of our findings"),
    ("['exclude']", "excluded by the source"), ("['pleural effusion', ' suboptimal study']", "excluded by the source"),
    ("['normal', 'unchanged']", None), ("['scoliosis']", None), ("['normal', 'pacemaker']", None),
])
def test_labels_that_tell_nothing_set_a_film_aside(tmp_path: Path, labels: str, aside: str | None) -> None:
    got = one(tmp_path, "a.png", labels)
    assert (got.aside, got.fault) == (aside, None)
    if aside is None:
        assert got.vector.absent | got.vector.present == EVERY


@pytest.mark.parametrize(("projection", "view", "aside"), [
    ("PA", "PA", None), ("AP", "AP", None), ("AP_horizontal", "AP", None), ("UNK", None, None), ("", None, None),
    ("L", "LATERAL", "lateral view"), ("COSTAL", "COSTAL", "view of the ribs"),
    ("EXCLUDE", None, "excluded by the source"),
])
def test_projections_are_views_or_reasons(tmp_path: Path, projection: str, view: str | None, aside: str | None) -> None:
    got = one(tmp_path, Projection=projection)
    assert (got.view, got.aside, got.fault) == (view, aside, None)


@pytest.mark.parametrize(("values", "fault"), [
    ({"labels": "['normal', 'pleural effusion']"}, "normal stands beside a finding"),
    ({"labels": "['70000']"}, "label outside PadChest's"),
    ({"labels": "['Pleural Effusion']"}, "label outside PadChest's"),
    ({"labels": "pleural effusion"}, "labels are not a list of names"),
    ({"labels": "['pleural effusion'"}, "labels are not a list of names"),
    ({"labels": "[['pleural effusion']]"}, "labels are not a list of names"),
    ({"labels": "['normal' 'unchanged']"}, "labels are not a list of names"),
    ({"labels": "['a\\x41']"}, "labels are not a list of names"),
    ({"labels": "[open('70000').read()]"}, "labels are not a list of names"),
    ({"labels": "[" * 100_000}, "labels are not a list of names"),
    ({"PatientID": ""}, "no patient is named"),
    ({"image": ""}, "no image is named"),
    ({"image": "../70000.png"}, "path leads out of the source's folder"),
    ({"image": "/etc/70000"}, "path leads out of the source's folder"),
    ({"image": "C:\\70000"}, "path leads out of the source's folder"),
    ({"Projection": "70000"}, "projection is none of PadChest's"),
])
def test_a_faulty_row_is_told_without_repeating_it(tmp_path: Path, values: dict[str, str], fault: str) -> None:
    got = one(tmp_path, **values)
    assert got.fault == fault and (got.place is None or "label" in fault or "normal" in fault)
    assert "70000" not in f"{got.fault}{got.where}"


def test_shifted_rows_other_encodings_and_unclosed_quotes_are_faults_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, [row("a.png"), ["x", *row("b.png")], row("c.png")[:5], row("d\u00f1.png"), row("e.png")])
    path.write_bytes(path.read_bytes().replace("\u00f1".encode(), b"\xf1"))
    assert [r.fault for r in source(tmp_path).records()] == [
        None, *["row has more or fewer fields than the header"] * 2, "row is not UTF-8", None]


LABEL = st.text(st.characters(codec="ascii", exclude_characters="'\"\\[]\r\n\0"), max_size=12)


@given(st.lists(LABEL, max_size=5))
def test_lists_are_read_as_python_writes_them(names: list[str]) -> None:
    plain = [n for n in names if repr(n) == f"'{n}'"]
    assert label_names(repr(plain)) == {n.strip() for n in plain}


@given(st.text("[]',\" \\ab", max_size=30))
def test_what_is_not_such_a_list_is_never_guessed_at(text: str) -> None:
    got = label_names(text)
    if got is not None and text not in ("", "nan"):
        assert isinstance(eval(text, {"__builtins__": {}}), list)  # letters are no names without quotes


@pytest.mark.parametrize(("born", "taken", "age"), [
    ("1930.0", "20140915", 84), ("1930", "20140915", 84), ("", "20140915", None), ("nan", "20140915", None),
    ("1930.0", "", None), ("1890.0", "20140915", None), ("2020.0", "20140915", None), ("19300101", "20140915", None),
    ("2014", "20140101", 0),
])
def test_ages_are_years_between(tmp_path: Path, born: str, taken: str, age: int | None) -> None:
    assert one(tmp_path, PatientBirth=born, StudyDate_DICOM=taken).age == age


def test_images_lie_in_their_folders_or_in_the_root(tmp_path: Path) -> None:
    assert one(tmp_path).place == "a.png"
    (tmp_path / "12").mkdir()
    assert one(tmp_path).place == "12/a.png"
    assert one(tmp_path, ImageDir="13").place == "a.png"


def test_compressed_tables_say_the_same_and_damaged_ones_are_told(tmp_path: Path) -> None:
    write(tmp_path, [row("a.png", "['mass', 'nodule']"), row("b.png")])
    plain = [r.vector for r in source(tmp_path).records()]
    data = gzip.compress((tmp_path / NAME).read_bytes())
    (tmp_path / NAME).unlink()
    (tmp_path / f"{NAME}.gz").write_bytes(data)
    assert [r.vector for r in source(tmp_path).records()] == plain
    (tmp_path / f"{NAME}.gz").write_bytes(data[:-20])
    with pytest.raises(BadInput, match="readable CSV"):
        list(source(tmp_path).records())


def test_a_byte_order_mark_is_skipped_and_rows_keep_their_order(tmp_path: Path) -> None:
    # Without the column of numbers ImageID is the first, and would carry the mark.
    write(tmp_path, [[*r[1:], ""] for r in (row("b.png"), row("a.png"), row("b.png"))], encoding="utf-8-sig",
          header=[*HEADER[1:], "Extra"])
    assert [r.name for r in source(tmp_path).records()] == ["b.png", "a.png", "b.png"]
    assert [r.name for r in source(tmp_path, limit=2).records()] == ["b.png", "a.png"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    write(tmp_path, [], header=[c for c in HEADER if c != column])
    with pytest.raises(BadInput, match=f"column {column}"):
        source(tmp_path)


def test_no_table_an_empty_one_and_two_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="PADCHEST"):
        source(tmp_path)
    write(tmp_path, []).write_bytes(b"")
    with pytest.raises(BadInput, match="no header"):
        source(tmp_path)
    write(tmp_path, [], name=NAME.replace("01.02.19", "02"))
    with pytest.raises(BadInput, match="one of"):
        source(tmp_path)
    assert list(source(tmp_path, labels=NAME.replace("01.02.19", "02")).records()) == []


def test_another_table_is_another_origin(tmp_path: Path) -> None:
    write(tmp_path, [row()])
    before = source(tmp_path).origin()
    write(tmp_path, [row(labels="['mass']")])
    assert source(tmp_path).origin() != before
