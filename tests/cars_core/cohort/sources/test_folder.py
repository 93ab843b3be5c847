"""Anybody's CSV must be read as its map says, claim nothing the map does not, and reach nothing outside."""

from __future__ import annotations

import csv
import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.sources.folder import LICENCE, FolderSource
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films
from cars_core.vectors import Vector, from_nih
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
MAP: dict[str, str | None] = {"image": "file", "patient": "who"}


def write(root: Path, rows: list[dict[str, str]], *, columns: list[str] | None = None, encoding: str = "utf-8") -> Path:
    with open(root / "t.csv", "w", encoding=encoding, newline="") as f:
        out = csv.DictWriter(f, columns or list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return root / "t.csv"


def source(root: Path, columns: dict[str, str | None] | None = None, **settings: Any) -> FolderSource:
    return FolderSource(LocalTree(str(root)), **{"labels": "t.csv", "columns": MAP | (columns or {}), "vocabulary": V,
                                                 **settings})


def vectors(root: Path, cells: list[str], **settings: Any) -> list[tuple[Vector, str | None]]:
    """What a `labels` column with these cells says."""
    write(root, [{"file": f"{i}.png", "who": "p", "said": cell} for i, cell in enumerate(cells)])
    return [(r.vector, r.fault) for r in source(root, {"labels": "said"}, **settings).records()]


def one(root: Path, row: dict[str, str], columns: dict[str, str | None] | None = None, **settings: Any) -> Record:
    write(root, [{"file": "a.png", "who": "p", **row}])
    got, = source(root, columns, **settings).records()
    return got


def test_every_column_of_the_map_arrives(tmp_path: Path) -> None:
    columns = {k: k.upper() for k in ("name", "study", "date", "age", "sex", "view", "split", "licence", "labels")}
    row = {"NAME": "film 1", "STUDY": "s", "DATE": "2015/09/14", "AGE": "058Y", "SEX": "female", "VIEW": "ap supine",
           "SPLIT": "Val", "LICENCE": "CC BY 4.0", "LABELS": "Mass"}
    got = one(tmp_path, row, dict(columns), licence="other")
    assert (got.name, got.patient, got.study, got.date) == ("film 1", "p", "s", datetime.date(2015, 9, 14))
    assert (got.age, got.sex, got.view, got.split, got.licence) == (58, "F", "AP", "validate", "CC BY 4.0")
    assert (got.place, got.where, got.fault, got.aside) == ("a.png", "t.csv line 2", None, None)
    assert V.unpack(got.vector.present) == ["mass", "lung_lesion"]


def test_without_label_columns_there_are_films_only(tmp_path: Path) -> None:
    got = one(tmp_path, {})
    assert (got.name, got.vector, got.licence, got.split, got.fault) == ("a.png", Vector(), LICENCE, None, None)
    assert one(tmp_path, {}, licence="mine").licence == "mine"


@pytest.mark.parametrize("nobody", [None, ""])
def test_without_patients_every_image_is_one(tmp_path: Path, nobody: str | None) -> None:
    write(tmp_path, [{"file": "a.png", "who": "p"}, {"file": "b.png", "who": "p"}])
    assert [r.patient for r in source(tmp_path, {"patient": nobody}).records()] == ["a.png", "b.png"]


@pytest.mark.parametrize(("text", "findings"), [
    ("Mass", ["mass", "lung_lesion"]), ("MASS|effusion", ["effusion", "mass", "lung_lesion"]),
    ("edema; hernia", ["edema", "hernia", "lung_opacity"]), ("edema, hernia", ["edema", "hernia", "lung_opacity"]),
    ("pleural_thickening", ["pleural_thickening", "pleural_other"]),
    ("Pleural  Thickening", ["pleural_thickening", "pleural_other"]),
    ("Pleural Effusion", ["effusion"]), ("Nodule/Mass", ["lung_lesion"]), ("hiatal hernia", ["hernia"]),
    ("enlarged PA", ["enlarged_pulmonary_artery"]), ("|Mass|", ["mass", "lung_lesion"]), ("", []),
])
def test_names_of_every_label_set_are_known_whatever_their_case(tmp_path: Path, text: str, findings: list[str]) -> None:
    (vector, fault), = vectors(tmp_path, [text])
    assert (V.unpack(vector.present), vector.absent, vector.uncertain, fault) == (findings, 0, 0, None)


def test_every_name_of_every_label_set_is_read(tmp_path: Path) -> None:
    """But for names that two sets give to different findings, where the first counts."""
    for which in ("nih", "chexpert", "vindr", "padchest"):
        for label, finding in V.label_set(which).items():
            (vector, fault), = vectors(tmp_path, [label])
            assert fault is None and vector.present >> finding.bit & 1, label


def test_the_recipe_says_what_a_label_means(tmp_path: Path) -> None:
    means: dict[str, str | list[str] | None] = {
        "COVID-19": ["pneumonia", "infection"], "todo": None, "Healthy": "no finding", "mass": "nodule",
        "fluid, a lot": "effusion"}
    got = vectors(tmp_path, ["covid-19", "TODO", "healthy", "Mass", "todo|Edema", "fluid, a lot"], label_names=means)
    assert [V.unpack(v.present) for v, _ in got] == [
        ["pneumonia", "lung_opacity", "infection"], [], [], ["nodule", "lung_lesion"], ["edema", "lung_opacity"],
        ["effusion"]]
    assert [f for _, f in got] == [None] * 6
    assert got[2][0].absent == V.mask(["pneumonia", "infection", "nodule", "edema", "effusion"])
    assert got[1][0] == Vector()


@pytest.mark.parametrize(("text", "fault"), [
    ("Mass|70000", "label outside the vocabulary"), ("No Finding|Mass", "no finding stands beside a finding"),
    ("normal, edema", "no finding stands beside a finding"),
])
def test_faulty_labels_are_told_without_repeating_them(tmp_path: Path, text: str, fault: str) -> None:
    assert vectors(tmp_path, [text]) == [(Vector(), fault)]


def test_no_finding_denies_what_the_table_speaks_of_and_no_more(tmp_path: Path) -> None:
    """A list of three diseases says nothing of a fourth, and a healthy chest may have a pacemaker."""
    got = vectors(tmp_path, ["No Finding", "Mass", "Edema|support devices", "normal"])
    spoken = V.mask(["mass", "edema"])
    assert got[0] == got[3] == (Vector(absent=spoken), None)
    assert got[1] == (Vector(present=V.mask(["mass", "lung_lesion"])), None)
    got = vectors(tmp_path, ["No Finding|Pacemaker"])
    assert got == [(Vector(present=V.mask(["support_devices"])), None)]


def test_unlisted_is_absent_only_when_the_recipe_says_so(tmp_path: Path) -> None:
    cells = ["Mass", "Edema|lung opacity", "rib fracture|fracture", "", "No Finding", "support devices"]
    spoken = V.mask(["mass", "edema", "lung_opacity", "rib_fracture", "fracture", "support_devices"])
    for vector, _ in vectors(tmp_path, cells)[:4]:
        assert vector.absent == 0
    got = [v for v, _ in vectors(tmp_path, cells, absent="unlisted")]
    assert got[0] == Vector(V.mask(["mass", "lung_lesion"]), spoken & ~V.mask(["mass"]))
    assert got[1] == Vector(V.mask(["edema", "lung_opacity"]), spoken & ~V.mask(["edema", "lung_opacity"]))
    assert got[3] == Vector(), "an empty cell may have been forgotten"
    assert got[4] == Vector(absent=spoken)
    assert got[5] == Vector(V.mask(["support_devices"]), spoken & ~V.mask(["support_devices"]))
    edema_alone = vectors(tmp_path, ["Edema", "lung opacity"], absent="unlisted")[0][0]
    assert edema_alone == Vector(V.mask(["edema", "lung_opacity"])), "an edema is a lung opacity, listed or not"


STATES = {"1": "present", "0": "absent", "-1": "uncertain", "": "unmentioned", "1.0": "present", "0.0": "absent",
          "-1.0": "uncertain"}


@given(st.tuples(*[st.sampled_from(sorted(STATES))] * 3))
def test_finding_columns_state_three_values(tmp_path_factory: pytest.TempPathFactory, cells: tuple[str, ...]) -> None:
    root = tmp_path_factory.mktemp("f")
    of = ("effusion", "pneumothorax", "support_devices")
    got = one(root, dict(zip("EPD", cells, strict=True)),
              {f"finding.{f}": c for f, c in zip(of, "EPD", strict=True)})
    assert [got.vector.state(V[f].bit) for f in of] == [STATES[c] for c in cells]


def test_a_stated_parent_stays_as_stated_and_an_open_one_follows(tmp_path: Path) -> None:
    columns: dict[str, str | None] = {"finding.edema": "E", "finding.lung_opacity": "O"}
    assert one(tmp_path, {"E": "1", "O": ""}, columns).vector == Vector(V.mask(["edema", "lung_opacity"]))
    assert one(tmp_path, {"E": "1", "O": "0"}, columns).vector == Vector(V.mask(["edema"]), V.mask(["lung_opacity"]))


def test_what_a_doubtful_finding_implies_is_not_denied(tmp_path: Path) -> None:
    write(tmp_path, [{"file": "a.png", "who": "p", "said": "mass", "E": "-1"},
                     {"file": "b.png", "who": "p", "said": "lung opacity", "E": ""}])
    got = next(source(tmp_path, {"labels": "said", "finding.edema": "E"}, absent="unlisted").records()).vector
    assert got == Vector(V.mask(["mass", "lung_lesion"]), 0, V.mask(["edema", "lung_opacity"]))


@pytest.mark.parametrize(("row", "fault"), [
    ({"E": "2"}, "a finding's column is none of 1, 0, -1 and empty"),
    ({"E": "70000"}, "a finding's column is none of 1, 0, -1 and empty"),
    ({"E": "yes"}, "a finding's column is none of 1, 0, -1 and empty"),
    ({"E": "0", "said": "Edema"}, "labels and a finding's column disagree"),
    ({"E": "-1", "said": "Edema"}, "labels and a finding's column disagree"),
    ({"E": "1", "said": "normal"}, "no finding stands beside a finding"),
    ({"split": "70000"}, "split is none of train, validate and test"),
    ({"file": ""}, "no image is named"), ({"who": ""}, "no patient is named"),
    ({"file": "../70000.png"}, "path leads out of the source's folder"),
    ({"file": "/etc/70000.png"}, "path leads out of the source's folder"),
    ({"file": "x\\..\\70000.png"}, "path leads out of the source's folder"),
    ({"file": "C:/70000.png"}, "path leads out of the source's folder"),
])
def test_a_faulty_row_is_told_without_repeating_it(tmp_path: Path, row: dict[str, str], fault: str) -> None:
    got = one(tmp_path, {"E": "", "said": "", "split": "", **row},
              {"finding.edema": "E", "labels": "said", "split": "split"})
    assert got.fault == fault
    assert "70000" not in f"{got.fault}{got.where}"


def test_shifted_rows_and_other_encodings_are_faults_of_their_own(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbffile,who", b"a.png,p", b"b.png", b"c.png,p,q", b"\xe9.png,p", b"d.png,p"]
    (tmp_path / "t.csv").write_bytes(b"\r\n".join(lines))
    got = list(source(tmp_path, {"labels": "who"}, label_names={"p": "mass"}).records())
    assert [r.fault for r in got] == [None, *["row has more or fewer fields than the header"] * 2, "row is not UTF-8",
                                      None]
    assert [r.vector.present != 0 for r in got] == [True, False, False, False, True]


def test_a_lateral_film_is_set_aside(tmp_path: Path) -> None:
    assert one(tmp_path, {"v": "Lateral"}, {"view": "v"}).aside == "lateral view"


@pytest.mark.parametrize(("path", "place"), [
    ("films/a.png", "a.png"), ("films/x/a.png", "x/a.png"), ("other/a.png", "other/a.png"), ("x\\a.png", "x/a.png")])
def test_paths_may_be_given_from_the_folder_above(tmp_path: Path, path: str, place: str) -> None:
    root = tmp_path / "films"
    root.mkdir()
    assert one(root, {"file": path}).place == place


def test_a_folder_named_as_the_root_is_not_mistaken_for_it(tmp_path: Path) -> None:
    (tmp_path / "films" / "films").mkdir(parents=True)
    assert one(tmp_path / "films", {"file": "films/a.png"}).place == "films/a.png"


@pytest.mark.parametrize(("settings", "told"), [
    ({"columns": {"image": "file"}}, "columns.patient"), ({"columns": {"patient": "who"}}, "columns.image"),
    ({"columns": {**MAP, "image": None}}, "columns.image"), ({"columns": {**MAP, "sexe": "who"}}, "sexe"),
    ({"columns": {**MAP, "age": "years"}}, "column years"), ({"columns": {**MAP, "finding.efusion": "who"}}, "efusion"),
    ({"label_names": {"x": "efusion"}}, "efusion"), ({"label_names": {"x": "mass", "X": "nodule"}}, "each label once"),
    ({"absent": "never"}, "unlisted or unmentioned"), ({"labels": "u.csv"}, "u.csv"),
])
def test_a_wrong_map_is_told_at_once(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    write(tmp_path, [{"file": "a.png", "who": "p"}])
    with pytest.raises(BadInput, match=told):
        FolderSource(LocalTree(str(tmp_path)), **{"labels": "t.csv", "columns": MAP, "vocabulary": V, **settings})


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(BadInput, match="no header"):
        source(tmp_path)


def test_what_changes_the_records_changes_the_origin(tmp_path: Path) -> None:
    write(tmp_path, [{"file": "a.png", "who": "p", "said": "x"}])
    settings: list[dict[str, Any]] = [{}, {"absent": "unlisted"}, {"label_names": {"x": None}},
                                      {"label_names": {"x": "mass"}}, {"columns": {"labels": "said"}}]
    seen = {str(source(tmp_path, **s).origin()) for s in settings}
    write(tmp_path, [{"file": "a.png", "who": "p", "said": "y"}])
    seen.add(str(source(tmp_path).origin()))
    assert len(seen) == len(settings) + 1


def test_a_simulated_nih_table_says_by_a_map_what_its_truth_says(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    write_cohort(films(n=16, seed=5, size=64, withheld=[], split_of=lambda p: "train", vocabulary=V), out=out,
                 layout="nih")
    table, = (p.name for p in out.glob("Data_Entry*.csv"))
    columns = {"image": "Image Index", "patient": "Patient ID", "age": "Patient Age", "sex": "Patient Gender",
               "view": "View Position", "labels": "Finding Labels"}
    every: dict[str, str | list[str] | None] = {label: f.name for label, f in V.label_set("nih").items()}
    got = list(FolderSource(LocalTree(str(out)), labels=table, columns=columns, vocabulary=V, label_names=every,
                            absent="unlisted").records())
    truth = {Path(r["path"]).name: r for r in pq.read_table(out / "truth/truth.parquet").to_pylist()}
    with open(out / table, newline="") as f:
        said = {r["Image Index"]: r["Finding Labels"] for r in csv.DictReader(f)}
    assert len(got) == len(truth) == 16
    for r in got:
        t = truth[r.name]
        assert (r.age, r.sex, r.view, r.fault) == (t["age"], t["sex"], t["view"], None)
        assert r.vector == from_nih(said[r.name], V)


COVID: dict[str, str | list[str] | None] = {"COVID-19": "pneumonia", "Pneumocystis": "pneumonia", "ARDS": "edema",
                                            "Unknown": None, "todo": None}


def test_the_open_covid_films_are_read(open_films: Path) -> None:
    root = open_films / "covid_cxr_open"
    got = list(FolderSource(LocalTree(str(root)), labels="labels.csv", vocabulary=V, label_names=COVID, columns={
        "image": "file", "patient": "patient_id", "age": "age", "sex": "sex", "view": "view", "licence": "licence",
        "labels": "finding"}).records())
    with open(root / "labels.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(got) == len(rows) and all(r.fault is None and (root / str(r.place)).is_file() for r in got)
    assert Counter(V.unpack(r.vector.present)[0] for r in got if r.vector.present) == {
        "pneumonia": sum(r["finding"] in ("COVID-19", "Pneumocystis") for r in rows), "edema": 1}
    assert [r.licence for r in got] == [r["licence"] for r in rows]
    assert Counter(r.view for r in got) == {"AP": 64, "PA": 48}


def test_the_open_paediatric_films_are_read(open_films: Path) -> None:
    root = open_films / "kermany_paediatric"
    tree = LocalTree(str(root))
    columns = {"image": "file", "patient": "patient_id", "split": "orig_split", "licence": "licence"}
    by_column = list(FolderSource(tree, labels="labels.csv", vocabulary=V,
                                  columns={**columns, "finding.pneumonia": "pneumonia"}).records())
    by_name = list(FolderSource(tree, labels="labels.csv", vocabulary=V, columns={**columns, "labels": "label"},
                                label_names={"virus": "pneumonia", "bacteria": "pneumonia"}).records())
    assert [r.vector for r in by_column] == [r.vector for r in by_name]
    assert Counter(r.vector.state(V["pneumonia"].bit) for r in by_column) == {"present": 240, "absent": 120}
    assert Counter(r.split for r in by_column) == {"train": 326, "test": 34}
    assert all(r.fault is None and (root / str(r.place)).is_file() for r in by_column)


def test_the_open_rotated_films_are_read(open_films: Path) -> None:
    root = open_films / "nih14_rotated_qc"
    got = list(FolderSource(LocalTree(str(root)), labels="labels.csv", vocabulary=V, columns={
        "image": "file", "patient": "patient_id", "view": "view", "labels": "finding_labels", "licence": "licence"},
        label_names={label: f.name for label, f in V.label_set("nih").items()}, absent="unlisted").records())
    with open(root / "labels.csv", newline="") as f:
        assert [r.vector for r in got] == [from_nih(r["finding_labels"], V) for r in csv.DictReader(f)]
    assert all(r.fault is None and (root / str(r.place)).is_file() for r in got)
