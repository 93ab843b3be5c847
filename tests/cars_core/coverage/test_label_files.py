"""A label file read directly must say of every film what ingest would: gaps counted from it are planned for. What
cannot be used costs its own row, and the user is told how many and why."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.cohort.identity import split_of
from cars_core.cohort.sources.chexpert import ChexpertSource
from cars_core.cohort.sources.chexpert_plus import ChexpertPlusSource
from cars_core.cohort.sources.mimic import MimicSource
from cars_core.cohort.sources.nih import NihSource
from cars_core.cohort.sources.padchest import COLUMNS as PADCHEST
from cars_core.cohort.sources.padchest import PadchestSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.cohort.sources.vindr import VindrSource
from cars_core.coverage.label_files import FILMS, KINDS, LEFT_OUT, read_label_file
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Splits

V = load_vocabulary()
NIH = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
LABELS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
          "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
          "Support Devices"]
METADATA = ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "ViewCodeSequence_CodeMeaning"]
SAID = ("present", "absent", "uncertain", "patient", "record", "split", "licence", "sex", "view", "age")


def write(path: Path, rows: Iterable[Any]) -> Path:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    data = out.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(kind: str, path: Path) -> pa.Table:
    return read_label_file(kind, str(path), vocabulary=V)


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(table[c].to_pylist() for c in SAID), strict=True))


def left_out(table: pa.Table) -> dict[str, int]:
    said: dict[str, int] = json.loads(table.schema.metadata[LEFT_OUT])
    return said


def as_ingest(records: Iterable[Record]) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    """(films that ingest would read, reasons of the others); a name that comes again is its own fault there."""
    kept, others, seen = [], Counter[str](), set()
    for r in records:
        why = r.fault or r.aside or ("this image is listed before" if r.name in seen else None)
        seen.add(r.name)
        if why:
            others[why] += 1
        else:
            kept.append((r.vector.present, r.vector.absent, r.vector.uncertain, r.patient, r.name, r.split, r.licence,
                         r.sex, r.view, r.age))
    return kept, others


def same(table: pa.Table, records: Iterable[Record]) -> None:
    kept, others = as_ingest(records)
    assert rows_of(table) == kept
    assert left_out(table) == others
    assert table.schema.equals(FILMS)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Layout -> a simulated cohort of 24 films."""
    base = tmp_path_factory.mktemp("layouts")
    splits = Splits(train=0.5, validate=0.2, test=0.3)
    for layout in ("nih", "chexpert", "mimic", "dicom"):
        write_cohort(films(n=24, seed=5, size=64, withheld=[], split_of=lambda p: split_of(p, splits), vocabulary=V),
                     out=base / layout, layout=layout)
    return {layout: base / layout for layout in ("nih", "chexpert", "mimic", "dicom")}


def test_a_simulated_nih_cohort_reads_as_ingest_reads_it(trees: dict[str, Path]) -> None:
    path, = trees["nih"].glob("Data_Entry_2017*")
    table = read("nih", path)
    kept, _ = as_ingest(NihSource(LocalTree(str(trees["nih"])), vocabulary=V).records())
    split = SAID.index("split")  # the published parts are in lists beside the films
    assert rows_of(table) == [(*row[:split], None, *row[split + 1:]) for row in kept]
    assert table.num_rows == 24
    assert set(table["source"].to_pylist()) == set(table["dataset"].to_pylist()) == {"nih"}


def test_a_simulated_chexpert_cohort_reads_as_ingest_reads_it(trees: dict[str, Path]) -> None:
    found = [row for part in ("train", "valid", "test") for row in rows_of(read("chexpert", next(
        trees["chexpert"].rglob(f"{part}.csv"))))]
    kept, others = as_ingest(ChexpertSource(LocalTree(str(trees["chexpert"])), vocabulary=V).records())
    assert (found, others, len(found)) == (kept, {}, 24)
    assert {row[SAID.index("split")] for row in found} == {"train", "validate", "test"}


@pytest.mark.parametrize("labeler", ["chexpert", "negbio"])
def test_a_simulated_mimic_cohort_reads_as_ingest_reads_it(trees: dict[str, Path], labeler: str) -> None:
    table = read("mimic", trees["mimic"] / f"mimic-cxr-2.0.0-{labeler}.csv.gz")
    same(table, MimicSource(LocalTree(str(trees["mimic"])), vocabulary=V, labeler=labeler).records())
    assert table.num_rows == 24
    assert table["sex"].null_count == table["age"].null_count == table["split"].null_count == 0


def test_a_simulated_vindr_cohort_reads_as_ingest_reads_it(trees: dict[str, Path]) -> None:
    found = [row for part in ("train", "test") for row in rows_of(read(
        "vindr", trees["dicom"] / "annotations" / f"image_labels_{part}.csv"))]
    kept, _ = as_ingest(VindrSource(LocalTree(str(trees["dicom"])), vocabulary=V, headers=False).records())
    assert found == kept
    assert {row[SAID.index("split")] for row in found} == {"train", "test"}


def test_the_real_nih_table_reads_as_ingest_reads_it(open_films: Path) -> None:
    table = read("nih", open_films / "labels" / "Data_Entry_2017_v2020.csv.gz")
    assert table.num_rows == 112_120
    raw = pd.read_csv(open_films / "labels" / "Data_Entry_2017_v2020.csv.gz")
    for name in ("Hernia", "Pleural_Thickening", "Mass"):  # pandas' own count
        bit = V.label_set("nih")[name].bit
        positive = sum(p >> bit & 1 for p in table["present"].to_pylist())
        assert positive == raw["Finding Labels"].str.split("|").map(lambda names, n=name: n in names).sum()
    assert table["patient"].to_pylist() == [str(p) for p in raw["Patient ID"]]
    assert table["age"].to_pylist() == [a if a <= 120 else None for a in raw["Patient Age"].tolist()]
    assert table["view"].to_pylist() == raw["View Position"].tolist()
    assert table["sex"].to_pylist() == raw["Patient Gender"].tolist()
    distinct = {tuple(r.values()) for r in table.select(["present", "absent"]).to_pylist()}
    assert len(distinct) == 801


def test_the_one_hot_table_of_open_films_reads_as_ingest_reads_it(open_films: Path) -> None:
    path = open_films / "nih14" / "labels.csv"
    same(read("nih", path), NihSource(LocalTree(str(path.parent)), vocabulary=V, labels="labels.csv").records())


def test_an_impossible_age_costs_the_age_and_not_the_film(tmp_path: Path) -> None:
    path = write(tmp_path / "Data_Entry_2017.csv", [
        NIH, ["a.png", "Mass", 0, "00000012", 411, "M", "PA"], ["b.png", "No Finding", 0, 13, "058Y", "x", "LL"]])
    assert rows_of(read("nih", path)) == [
        (*masks(["mass", "lung_lesion"], nih_without("mass")), "12", "a.png", None, NIH_LICENCE, "M", "PA", None),
        (*masks([], nih_without()), "13", "b.png", None, NIH_LICENCE, None, "LATERAL", 58)]


NIH_LICENCE = "NIH Clinical Center: no restriction on use, attribution required (Wang et al., CVPR 2017)"


def masks(present: list[str], absent: list[str]) -> tuple[int, int, int]:
    return V.mask(present), V.mask(absent), 0


def nih_without(*names: str) -> list[str]:
    return [f.name for f in V.label_set("nih").values() if f.name not in names]


def test_bad_rows_cost_themselves_and_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "Data_Entry_2017.csv"
    rows = [NIH, ["a.png", "Mass", 0, 1, 50, "M", "PA"], ["b.png", "Masss", 0, 2, 50, "M", "PA"],
            ["c.png", "No Finding|Mass", 0, 2, 50, "M", "PA"], ["", "Mass", 0, 2, 50, "M", "PA"],
            ["d.png", "Mass", 0, "", 50, "M", "PA"], ["../../e.png", "Mass", 0, 2, 50, "M", "PA"],
            ["a.png", "Edema", 0, 3, 50, "M", "PA"], ["f.png", "Edema", 0, 3, 50, "F", "AP"]]
    write(path, rows)
    table = read("nih", path)
    assert table["record"].to_pylist() == ["a.png", "f.png"]
    assert left_out(table) == {
        "labels are not NIH findings, or No Finding alone": 2, "no image is named": 1, "no patient is named": 1,
        "path leads out of the source's folder": 1, "this image is listed before": 1}
    same(table, NihSource(LocalTree(str(tmp_path)), vocabulary=V).records())
    with open(path, "ab") as file:  # no CSV, a shifted row, other bytes: read line by line, as ingest does
        file.write(b'g.png,Mass,0\nh.png,Mass,0,1,2,M,PA,more\ni\xff.png,Mass,0,4,50,M,PA\nj.png,Mass,0,5,50,M,PA,\n')
    table = read("nih", path)
    assert table["record"].to_pylist() == ["a.png", "f.png", "j.png"]
    assert left_out(table)["row has more or fewer fields than the header"] == 2
    assert left_out(table)["row is not UTF-8"] == 1
    same(table, NihSource(LocalTree(str(tmp_path)), vocabulary=V).records())


def test_line_ends_quotes_byte_order_marks_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    rows = [NIH, [" a.png ", "Mass", 0, 1, 50, "M", "PA"], ['b "1", 2.png', "Edema|Mass", 0, 1, 50, "F", "AP"]]
    plain = rows_of(read("nih", write(tmp_path / "a" / "Data_Entry_2017.csv", rows)))
    for name, change in {"crlf": lambda b: b.replace(b"\n", b"\r\n"), "bom": lambda b: b"\xef\xbb\xbf" + b,
                         "blank": lambda b: b.replace(b"\n", b"\n\n"), "no end": lambda b: b.rstrip(b"\n"),
                         "mixed": lambda b: b.replace(b"\n", b"\r\n", 1)}.items():
        path = tmp_path / name / "Data_Entry_2017.csv"
        path.parent.mkdir()
        path.write_bytes(change((tmp_path / "a" / "Data_Entry_2017.csv").read_bytes()))
        assert rows_of(read("nih", path)) == plain, name
    odd = write(tmp_path / "nul" / "Data_Entry_2017.csv", [*rows, ["c.png", "Mass", 0, 1, 50, "\0", "PA"]])
    assert [row[SAID.index("sex")] for row in rows_of(read("nih", odd))] == ["M", "F", None]
    packed = write(tmp_path / "gz" / "Data_Entry_2017.csv.gz", rows)
    assert rows_of(read("nih", packed)) == plain
    assert [row[SAID.index("record")] for row in plain] == ["a.png", 'b "1", 2.png']


def test_a_file_beside_one_whose_name_looks_like_a_pattern_is_not_read_with_it(tmp_path: Path) -> None:
    write(tmp_path / "Data_Entry_2017b.csv", [NIH, ["b.png", "Mass", 0, 1, 50, "M", "PA"]])
    path = write(tmp_path / "Data_Entry_2017*.csv", [NIH, ["a.png", "Mass", 0, 1, 50, "M", "PA"]])
    assert read("nih", path)["record"].to_pylist() == ["a.png"]


CELLS = st.sampled_from(["Mass", "Edema|Mass", "No Finding", "No Finding|Mass", "mass", "", "Hernia|Hernia"])
NAMES = st.sampled_from(["a.png", "b.png", "c.png", "", "../x.png", "a/../../y.png", "C:z.png", "d..png", "/e.png"])


@settings(max_examples=60)
@given(st.lists(st.tuples(
    NAMES, CELLS, st.sampled_from(["1", "001", "1.0", "", "x7"]), st.sampled_from(["50", "050Y", "121", "-1", "9M"]),
    st.sampled_from(["M", "female", "", "O"]), st.sampled_from(["PA", "ap", "LL", "", "?"]), st.sampled_from(
        [0, 0, 0, -1, 1])), min_size=1, max_size=12))
def test_whatever_the_rows_hold_ingest_and_the_table_agree(tmp_path_factory: pytest.TempPathFactory,
                                                           rows: list[tuple[Any, ...]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    cells = [[name, labels, 0, patient, age, sex, view] for name, labels, patient, age, sex, view, _ in rows]
    ragged = [row[:-1] if cut < 0 else row + ["more"] * cut for row, (*_, cut) in zip(cells, rows, strict=True)]
    path = write(folder / "Data_Entry_2017.csv", [NIH, *ragged])
    records = list(NihSource(LocalTree(str(folder)), vocabulary=V).records())
    if as_ingest(records)[0]:
        same(read("nih", path), records)
    else:
        with pytest.raises(BadInput, match="no film that can be used"):
            read("nih", path)


def chexpert_row(path: str, *, side: str = "Frontal", position: str = "AP", age: object = 60, sex: str = "Female",
                 **labels: str) -> list[object]:
    return [path, sex, age, side, position, *(labels.get(name.replace(" ", "_"), "") for name in LABELS)]


CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]


def test_chexpert_rows_of_every_kind_read_as_ingest_reads_them(tmp_path: Path) -> None:
    film = "CheXpert-v1.0-small/train/patient{:05d}/study1/view1_{}.jpg"
    path = write(tmp_path / "train.csv", [
        CHEXPERT, chexpert_row(film.format(1, "frontal"), Edema="1.0", Pneumonia="-1.0", Fracture="0.0"),
        chexpert_row(film.format(2, "lateral"), side="Lateral", position=""),
        chexpert_row(film.format(3, "frontal"), position="LL"), chexpert_row(film.format(4, "frontal"), Edema="2"),
        chexpert_row(film.format(5, "frontal"), Edema="1.0\x1f1.0"), chexpert_row("train/other.jpg"), chexpert_row(""),
        chexpert_row("../train/patient00006/study1/view1_frontal.jpg"),
        chexpert_row(film.format(7, "frontal"), age=0, sex="Unknown", No_Finding="1.0", Support_Devices="1.0"),
        chexpert_row(film.format(8, "frontal"), side="", position=""), chexpert_row(film.format(1, "frontal")),
        [*chexpert_row(film.format(9, "frontal")), "more"], chexpert_row(film.format(9, "frontal"))])
    table = read("chexpert", path)
    same(table, ChexpertSource(LocalTree(str(tmp_path)), vocabulary=V).records())
    first = table.slice(0, 1).to_pylist()[0]
    assert first["uncertain"] == V.mask(["pneumonia"])
    assert first["present"] == V.mask(["edema", "lung_opacity"])
    assert table["view"].to_pylist() == ["AP", None, "AP", "FRONTAL", "AP"]  # called frontal, yet LL: one is wrong
    assert left_out(table)["lateral view"] == 1


def test_a_row_that_names_a_study_is_one_film_without_a_view(tmp_path: Path) -> None:
    path = write(tmp_path / "groundtruth.csv", [["Study", *LABELS], [
        "CheXpert-v1.0/test/patient64741/study1", *("1" if name == "Edema" else "0" for name in LABELS)]])
    row, = read("chexpert", path).to_pylist()
    assert (row["record"], row["patient"], row["split"], row["view"]) == ("test/patient64741/study1", "64741", "test",
                                                                           None)
    assert row["present"] == V.mask(["edema"])  # an opacity is denied by its own label


def test_chexpert_plus_reads_from_its_table_and_from_its_label_file(tmp_path: Path) -> None:
    columns = ["path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "age", "sex", "split"]
    views = [("train", "Frontal"), ("train", "Lateral"), ("valid", "Frontal")]
    rows = [[f"{part}/patient0000{i}/study1/view1_{side.lower()}.jpg", side, "AP", f"patient0000{i}", 50 + i, "Male",
             part] for i, (part, side) in enumerate(views)]
    table = write(tmp_path / "df_chexpert_plus_240401.csv", [columns, *rows])
    labels = tmp_path / "labels" / "impression_fixed.json"
    labels.parent.mkdir()
    said = {name: 1.0 if name == "Edema" else None for name in LABELS}
    labels.write_text("".join(json.dumps({"path_to_image": row[0], **said}) + "\n" for row in rows))
    source = ChexpertPlusSource(LocalTree(str(tmp_path)), vocabulary=V)
    for path in (table, labels):
        same(read("chexpert", path), source.records())
    assert read("chexpert", table)["split"].to_pylist() == ["train", "validate"]


def mimic_tree(root: Path, *, beside: Sequence[str] = ("metadata", "split", "patients")) -> Path:
    stem = "mimic-cxr-2.0.0-"
    states = {1: {"Edema": "1.0"}, 2: {"Edema": "-1.0"}, 3: {"Edema": "5"}, 4: {"No Finding": "1.0"}}
    labels = write(root / f"{stem}chexpert.csv.gz", [["subject_id", "study_id", *LABELS], *(
        [10000000 + study // 3, 50000000 + study, *(said.get(name, "") for name in LABELS)]
        for study, said in states.items()), [10000000, 50000001, *("0.0" for _ in LABELS)]])
    rows = [["d1", 10000000, 50000001, "PA", 21800506, ""], ["d2", "10000000.0", "050000001", "LATERAL", 21800506, ""],
            ["d3", 10000000, 50000002, "", 21810101, "antero-posterior"],
            ["d4", 10000001, 50000003, "AP", 21810101, ""],
            ["d5", 10000001, 50000004, "", "", ""], ["d6", 10000002, 50000009, "AP", 21810101, ""],
            ["", 10000002, 50000009, "AP", 21810101, ""], ["d1", 10000001, 50000004, "AP", 21810101, ""],
            ["../d7", 10000000, 50000001, "AP", 21810101, ""], ["d8", "", 50000001, "AP", 21810101, ""],
            ["d9", 10000000, 50000001, "LAO", 21810101, ""], ["d10", 10000003, 50000001, "PA", 21810101, ""]]
    if "metadata" in beside:
        write(root / f"{stem}metadata.csv", [METADATA, *rows])
    if "split" in beside:
        write(root / f"{stem}split.csv.gz", [["dicom_id", "study_id", "subject_id", "split"], *(
            [name, study, subject, "validate" if name == "d3" else "mars" if name == "d10" else "train"]
            for name, subject, study, *_ in rows if name != "d5")])
    if "patients" in beside:
        write(root / "patients.csv", [["subject_id", "gender", "anchor_age", "anchor_year"],
                                      [10000000, "F", 60, 2180], [10000001, "M", "x", 2180]])
    return labels


def test_mimic_films_take_labels_views_parts_sexes_and_ages_from_the_tables_beside(tmp_path: Path) -> None:
    labels = mimic_tree(tmp_path)
    table = read("mimic", labels)
    same(table, MimicSource(LocalTree(str(tmp_path)), vocabulary=V).records())
    first, third, fifth = table.to_pylist()
    assert (first["sex"], first["age"], first["view"], first["split"]) == ("F", 60, "PA", "train")
    assert first["present"] == V.mask(["edema", "lung_opacity"])  # of a study labelled twice the first row counts
    assert (third["record"], third["view"], third["split"]) == ("d3", "AP", "validate")
    assert (fifth["record"], fifth["view"], fifth["split"], fifth["age"]) == ("d5", None, "train", None)


def test_mimic_labels_alone_give_one_row_a_study(tmp_path: Path) -> None:
    table = read("mimic", mimic_tree(tmp_path, beside=()))
    assert table["record"].to_pylist() == ["50000001", "50000002", "50000004"]
    assert table["patient"].to_pylist() == ["10000000", "10000000", "10000001"]
    assert table["view"].null_count == table["age"].null_count == table["sex"].null_count == 3
    assert left_out(table) == {"a label is not 1, 0, -1 or empty": 1, "this image is listed before": 1}
    with_parts = read("mimic", mimic_tree(tmp_path / "parts", beside=("split", "patients")))
    assert with_parts["split"].to_pylist() == ["train"] * 3
    assert with_parts["sex"].to_pylist() == ["F", "F", "M"]


def test_padchest_reads_as_ingest_reads_it(tmp_path: Path) -> None:
    def row(image: str, labels: str, projection: str = "PA") -> list[str]:
        return [image, "1", "20140915", "s1", "70000", "1930.0", "F", projection, labels]

    path = write(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", [
        list(PADCHEST), row("a.png", "['pleural effusion', ' rib fracture']"), row("b.png", "['normal']", "AP"),
        row("c.png", "['normal']", "L"), row("d.png", "['dragon']"), row("e.png", "['unchanged']"),
        row("a.png", "['normal']")])
    table = read("padchest", path)
    same(table, PadchestSource(LocalTree(str(tmp_path)), vocabulary=V).records())
    assert table["age"].to_pylist() == [84, 84]
    assert sum(left_out(table).values()) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_such_label_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "c.csv").write_bytes(b"")
    (tmp_path / "d.csv.gz").write_bytes(b"no gzip")
    for name in ("a.csv", "b.csv", "c.csv", "d.csv.gz"):
        with pytest.raises(BadInput):
            read(kind, tmp_path / name)
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(BadInput, match="a file on this machine"):
            read(kind, path)
    with pytest.raises(BadInput, match="a file on this machine"):
        read_label_file(kind, "s3://bucket/labels.csv", vocabulary=V)


def test_a_column_that_is_missing_and_a_kind_that_does_not_exist_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "Data_Entry_2017.csv", [[c for c in NIH if c != "Patient Gender"], ["a"] * 6])
    with pytest.raises(BadInput, match=r"Data_Entry_2017\.csv: column Patient Gender"):
        read("nih", path)
    with pytest.raises(BadInput, match="nih, chexpert, mimic, vindr, padchest"):
        read("nihh", path)


def test_a_file_cut_off_in_transfer_is_refused_and_not_half_read(tmp_path: Path) -> None:
    rows = [NIH, *([f"{i:08d}.png", "Mass", 0, i, 50, "M", "PA"] for i in range(20_000))]
    path = write(tmp_path / "Data_Entry_2017.csv.gz", rows)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(BadInput, match="readable CSV"):
        read("nih", path)


def test_nothing_usable_names_the_commonest_reason_and_shows_no_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "Data_Entry_2017.csv", [NIH, ["a.png", "Jane Doe", 0, 1, 50, "M", "PA"]])
    with pytest.raises(BadInput, match="labels are not NIH findings") as refused:
        read("nih", path)
    assert "Jane" not in str(refused.value)
