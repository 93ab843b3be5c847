"""What the NIH label file says must arrive as it is said, and a hostile one must reach nothing."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from pathlib import Path

import pytest
from nih_folder import COLUMNS, FILMS, film, folder, row, write_labels

from cars_core.cohort.sources.nih import LICENCE, NihSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import open_tree
from cars_core.cohort.survey import survey
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

VOCABULARY = load_vocabulary()
NIH = list(VOCABULARY.label_set("nih"))
ONE_HOT = ["file", "patient_id", "age", "sex", "view", *NIH, "licence"]


def source(root: Path, *, labels: str | None = None, limit: int | None = None) -> NihSource:
    return NihSource(open_tree(str(root)), labels=labels, vocabulary=VOCABULARY, limit=limit)


def faults(root: Path) -> list[str | None]:
    """What is wrong with each record, its film's absence included."""
    opened = source(root)
    return [r.fault or (None if opened.tree.size(str(r.place)) is not None else "image is missing")
            for r in opened.records()]


def surveyed(root: Path, **how: object) -> tuple[int, str]:
    found = survey(source(root, **how), name="nih", key=b"k" * 16)  # type: ignore[arg-type]
    return found.films, found.digest


def records(root: Path) -> list[Record]:
    return list(source(root).records())


def one(root: Path, **fields: object) -> Record:
    """The record of a single row about an image that is there."""
    film(root / "images" / "a.png", seed=1)
    write_labels(root, [row("a.png", **fields)])  # type: ignore[arg-type]
    return records(root)[0]


def test_a_row_arrives_whole(tmp_path: Path) -> None:
    got = one(tmp_path, labels="Mass|Effusion", patient="00000100", age="058Y", sex="M", view="AP")
    present = VOCABULARY.unpack(got.vector.present)
    assert present == ["effusion", "mass", "lung_lesion"], "a mass is a lung lesion"
    assert len(VOCABULARY.unpack(got.vector.absent)) == 12
    assert (got.patient, got.age, got.sex, got.view, got.line) == ("100", 58, "M", "AP", 2)
    assert got.licence == LICENCE
    assert got.fault is None
    assert got.place == "images/a.png"


@pytest.mark.parametrize(("text", "years"), [
    ("412", None), ("120", 120), ("121", None), ("0", 0), ("058Y", 58), ("013M", 1), ("", None), ("-3", None),
    ("old", None), ("58.0", 58),
])
def test_impossible_ages_are_unknown(tmp_path: Path, text: str, years: int | None) -> None:
    """NIH's first release has patients of 412 years; one would bend every mean."""
    assert one(tmp_path, age=text).age == years


def test_one_patient_written_three_ways_is_one_patient(tmp_path: Path) -> None:
    """Else films of one patient could sit in two splits."""
    assert {one(tmp_path, patient=p).patient for p in ("00000100", "100", "100.0")} == {"100"}


@pytest.mark.parametrize("where", ["a.png", "images/a.png", "images_001/a.png", "images_012/images/a.png"])
def test_images_are_found_in_every_published_folder(tmp_path: Path, where: str) -> None:
    film(tmp_path / where, seed=1)
    write_labels(tmp_path, [row("a.png"), row("b.png")])
    assert records(tmp_path)[0].place == where
    assert faults(tmp_path) == [None, "image is missing"]


@pytest.mark.parametrize(("fields", "fault"), [
    ({"labels": "Mass|70000"}, "not NIH findings"),
    ({"labels": "No Finding|Mass"}, "No Finding alone"),
    ({"labels": ""}, "not NIH findings"),
    ({"patient": ""}, "no patient"),
])
def test_a_faulty_row_is_told_without_repeating_it(tmp_path: Path, fields: dict[str, object], fault: str) -> None:
    """A shifted row holds identifiers where labels should be."""
    got = one(tmp_path, **fields)
    assert fault in str(got.fault)
    assert "70000" not in str(got.fault)
    assert got.where == "Data_Entry_2017_v2020.csv line 2"


def test_shifted_and_short_rows_are_faults_and_trailing_commas_are_not(tmp_path: Path) -> None:
    film(tmp_path / "a.png", seed=1)
    write_labels(tmp_path, [[*row("a.png"), ""], [*row("a.png"), "x"], row("a.png")[:4]])
    assert [r.fault for r in records(tmp_path)] == [None] + ["row has more or fewer fields than the header"] * 2


def test_lines_are_those_an_editor_shows(tmp_path: Path) -> None:
    """Blank lines and quoted line ends move them, and a reason that names the wrong line is worse than none."""
    film(tmp_path / "a.png", seed=1)
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbf" + ",".join(COLUMNS).encode() + b'\r\n\r\na.png,"No\nFinding",0,1,1,F,PA,,,,\r\n'
        b"a.png,Mass,0,1,1,F,PA,,,,\r\n")
    assert [(r.line, r.fault is None) for r in records(tmp_path)] == [(3, False), (5, True)]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "images/../../secret.png", "..\\secret.png",
                                  "C:\\secret.png", "link/secret.png", "images/link.png"])
def test_a_path_out_of_the_root_reaches_nothing(tmp_path: Path, name: str) -> None:
    """A label file from elsewhere must not make the factory publish files of this machine."""
    root = tmp_path / "nih"
    film(tmp_path / "secret.png", seed=1)
    film(root / "images" / "a.png", seed=2)
    os.symlink(tmp_path, root / "link")
    os.symlink(tmp_path / "secret.png", root / "images" / "link.png")
    write_labels(root, [row("a.png"), row(name)])
    opened = source(root)
    good, bad = opened.records()
    assert good.fault is None
    assert bad.fault == "path leads out of the source's folder" or opened.tree.size(str(bad.place)) is None
    assert "secret" not in f"{bad.fault} {bad.where}"


def test_a_linked_folder_out_of_the_root_is_not_looked_into(tmp_path: Path) -> None:
    root = tmp_path / "nih"
    film(tmp_path / "elsewhere" / "a.png", seed=1)
    root.mkdir()
    os.symlink(tmp_path / "elsewhere", root / "images")
    write_labels(root, [row("a.png")])
    assert faults(root) == ["image is missing"]


def test_links_within_the_root_and_a_linked_root_work(tmp_path: Path) -> None:
    root = tmp_path / "nih"
    film(root / "store" / "x.png", seed=1)
    (root / "images").mkdir()
    os.symlink(root / "store" / "x.png", root / "images" / "a.png")
    write_labels(root, [row("a.png")])
    os.symlink(root, tmp_path / "alias")
    assert faults(tmp_path / "alias") == [None]


def test_what_is_no_regular_file_is_missing(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.png")
    film(tmp_path / "images" / "b.png", seed=1)
    write_labels(tmp_path, [row("a.png"), row("b.png")])
    assert faults(tmp_path) == ["image is missing", None]


def test_one_hot_tables_say_the_same_as_strings(tmp_path: Path) -> None:
    root = tmp_path / "nih14"
    film(root / "images_512" / "a.jpg", seed=1)
    marks = ["1" if n in ("Mass", "Edema") else "0" for n in NIH]
    rows = [["nih14/images_512/a.jpg", "100", "60", "M", "PA", *marks, "CC-X"],
            ["images_512/a.jpg", "100", "60", "M", "PA", *["0"] * 14, ""],
            ["images_512/a.jpg", "100", "60", "M", "PA", *["0"] * 13, "maybe", ""]]
    write_labels(root, rows, name="labels.csv", columns=ONE_HOT)
    a, b, c = records(root)
    assert a.vector == one(tmp_path / "p", labels="Mass|Edema").vector
    assert b.vector == one(tmp_path / "p", labels="No Finding").vector
    assert a.place == b.place == "images_512/a.jpg"
    assert (a.licence, b.licence) == ("CC-X", LICENCE)
    assert c.fault == "a finding's column is neither 0 nor 1"


@pytest.mark.parametrize("column", ["Finding Labels", "Patient ID", "View Position"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    write_labels(tmp_path, [], columns=[c for c in COLUMNS if c != column])
    with pytest.raises(BadInput, match=rf"v2020\.csv: column {column}"):
        source(tmp_path)


def test_a_missing_one_hot_finding_is_named(tmp_path: Path) -> None:
    write_labels(tmp_path, [], name="labels.csv", columns=[c for c in ONE_HOT if c != "Hernia"])
    with pytest.raises(BadInput, match="column Hernia"):
        source(tmp_path)


def test_the_label_file_is_found_or_asked_for(tmp_path: Path) -> None:
    film(tmp_path / "a.png", seed=1)
    with pytest.raises(BadInput, match=r"cohort\.root"):
        source(tmp_path / "none")
    with pytest.raises(BadInput, match=r"Data_Entry_2017\*"):
        source(tmp_path)
    path = write_labels(tmp_path, [row("a.png")])
    (tmp_path / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(BadInput, match=r"cohort\.labels.*Data_Entry_2017\.csv\.gz"):
        source(tmp_path)
    assert surveyed(tmp_path, labels="Data_Entry_2017.csv.gz")[0] == 1
    with pytest.raises(BadInput, match=r"cohort\.labels"):
        source(tmp_path, labels="other.csv")


@pytest.mark.parametrize(("name", "data", "told"), [
    ("labels.csv", b"\xff\xfeI\0m\0a\0", "UTF-8"),
    ("Data_Entry_2017.csv.gz", b"not gzip", "a readable CSV"),
    ("Data_Entry_2017.csv.gz", gzip.compress(",".join(COLUMNS).encode() * 400)[:60], "a readable CSV"),
    ("labels.csv", b"", "header"),
    ("labels.csv", ",".join(COLUMNS).encode(), "no records"),
])
def test_an_unreadable_label_file_is_one_clear_line(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=told):
        surveyed(tmp_path)


def test_a_root_without_any_of_its_images_stops_before_the_first(tmp_path: Path) -> None:
    """Else a mistyped root fills the lake with a hundred thousand quarantined rows."""
    write_labels(tmp_path, [row("a.png")])
    with pytest.raises(BadInput, match="none of 1 is there"):
        surveyed(tmp_path)


def test_the_survey_sees_labels_and_images_change_but_not_move(tmp_path: Path) -> None:
    root = folder(tmp_path / "a")
    first = surveyed(root)
    assert first[0] == 12
    assert surveyed(root, limit=5)[0] == 5
    os.rename(root, tmp_path / "b")
    root = tmp_path / "b"
    assert surveyed(root) == first
    lost = next(root.glob("images_001/images/*"))
    data = lost.read_bytes()
    lost.unlink()
    assert surveyed(root) != first, "a film supplied later would never be taken in"
    lost.write_bytes(data)
    labels = root / "Data_Entry_2017_v2020.csv"
    labels.write_text(labels.read_text().replace("Edema", "Hernia"))
    assert surveyed(root) != first


def test_the_whole_published_table_is_read(tmp_path: Path) -> None:
    """Counts of the published table: 112,120 films of 30,805 patients; labels counted from its strings."""
    table = FILMS / "labels" / "Data_Entry_2017_v2020.csv.gz"
    if not table.is_file():
        pytest.skip("the NIH label table is not beside the checkout")
    with gzip.open(table, "rt", encoding="utf-8") as f:
        text = [r["Finding Labels"] for r in csv.DictReader(f)]
    shutil.copy(table, tmp_path / table.name)  # a label file must lie inside its root
    found = source(tmp_path, labels=table.name).records()
    patients, counts, n = set(), dict.fromkeys(NIH, 0), 0
    bits = {name: VOCABULARY.label_set("nih")[name].bit for name in NIH}
    for r in found:
        n += 1
        assert r.fault is None
        patients.add(r.patient)
        for name, bit in bits.items():
            counts[name] += r.vector.present >> bit & 1
    assert (n, len(patients)) == (112_120, 30_805)
    assert counts == {name: sum(name in t.split("|") for t in text) for name in NIH}


def test_a_label_file_outside_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("Image Index\n")
    (tmp_path / "root").mkdir()
    with pytest.raises(BadInput, match=r"inside cohort\.root"):
        source(tmp_path / "root", labels="../elsewhere.csv")


def test_one_row_in_another_encoding_costs_one_row(tmp_path: Path) -> None:
    film(tmp_path / "a.png", seed=1)
    rows = [row("a.png"), row("a.png", sex="Gar\u00e7on"), row("a.png")]
    path = write_labels(tmp_path, rows, encoding="latin-1")
    assert b"\xe7" in path.read_bytes()
    assert [r.fault for r in records(tmp_path)] == [None, "row is not UTF-8", None]


def test_published_parts_are_read_where_both_lists_are_there(tmp_path: Path) -> None:
    """A model compared with others' must be tested on their patients."""
    for name in ("a.png", "b.png"):
        film(tmp_path / "images" / name, seed=len(name))
    write_labels(tmp_path, [row("a.png"), row("b.png")])
    assert [r.split for r in records(tmp_path)] == [None, None]
    (tmp_path / "train_val_list.txt").write_text("a.png\n")
    assert [r.split for r in records(tmp_path)] == [None, None], "one list alone says little"
    (tmp_path / "test_list.txt").write_text("b.png\r\n")
    assert [r.split for r in records(tmp_path)] == ["train", "test"]
