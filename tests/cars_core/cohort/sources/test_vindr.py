"""What VinDr's readers say must arrive as they say it together, and a bad row must cost its film and nothing else."""

from __future__ import annotations

import csv
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree
from cars_core.cohort.sources.vindr import VindrSource, combine
from cars_core.phantom.layouts.dicom import TEST_CLASSES, TRAIN_CLASSES
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import FilmSpec, films
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
LABELS = V.label_set("vindr")
EVERY = V.mask([f.name for f in LABELS.values()])

#: What the phantom can draw that VinDr labels, and what that implies.
LABELS_DRAWN = ("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "emphysema", "fibrosis",
                "infiltration", "lung_lesion", "lung_opacity", "pleural_thickening", "pneumothorax", "rib_fracture",
                "fracture", "pleural_other", "enlarged_cardiomediastinum")


def source(root: Path, **settings: Any) -> VindrSource:
    return VindrSource(LocalTree(str(root)), vocabulary=V, **settings)


def row(image: str, *labels: str, reader: str | None = "R1", **values: str) -> list[str]:
    """A row of a label file; no labels: No finding."""
    classes = TRAIN_CLASSES if reader is not None else TEST_CLASSES
    marks = {name: "1" if name in labels else "0" for name in classes} | {"No finding": "0" if labels else "1"}
    return [image, *([] if reader is None else [reader]), *(marks | values).values()]


def write(root: Path, rows: list[list[str]], *, part: str = "train", columns: list[str] | None = None,
          encoding: str = "utf-8") -> Path:
    names = ["image_id", "rad_id", *TRAIN_CLASSES] if part == "train" else ["image_id", *TEST_CLASSES]
    path = root / "annotations" / f"image_labels_{part}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as f:
        csv.writer(f).writerows([columns or names, *rows])
    return path


def three(image: str, *marks: tuple[str, ...]) -> list[list[str]]:
    return [row(image, *labels, reader=f"R{i}") for i, labels in enumerate(marks)]


def one(root: Path, rows: list[list[str]], **settings: Any) -> Record:
    write(root, rows)
    got, = source(root, **settings).records()
    return got


def names(vector: Vector, state: str) -> set[str]:
    return set(V.unpack(getattr(vector, state)))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def split_of(patient: str) -> str:
        return ("train", "test", "validate")[int(patient.rsplit("-", 1)[1]) % 3]

    # Patients who add a finding to those seen, and the first six: every finding on few films.
    chosen: list[FilmSpec] = []
    seen = 0
    population = films(n=300, seed=5, size=64, withheld=[], split_of=split_of, vocabulary=V)
    for count, (_, group) in enumerate(itertools.groupby(population, key=lambda spec: spec.patient)):
        own = list(group)
        shown = functools.reduce(int.__or__, (spec.vector.present for spec in own))
        if count < 6 or shown & ~seen:
            chosen, seen = [*chosen, *own], seen | shown
    out = tmp_path_factory.mktemp("vindr") / "sim"
    write_cohort(chosen, out=out, layout="dicom")
    return out


def test_every_simulated_film_arrives_with_its_truth(simulated: Path) -> None:
    truth = {r["path"]: r for r in pq.read_table(simulated / "truth/truth.parquet").to_pylist()}
    got = list(source(simulated).records())
    assert {r.place for r in got} == set(truth)
    findings = set()
    for r in got:
        t = truth[r.place]
        assert (r.fault, r.aside, r.labels) == (None, None, "radiologists")
        assert (r.split, r.sex, r.age, r.view) == ("train" if t["split"] == "train" else "test", t["sex"], t["age"],
                                                   t["view"])
        shown = set(V.unpack(t["film_present"])) - {"support_devices"}
        # VinDr has one label for nodule and mass, none for a hernia, and the simulated fractures are of ribs.
        expected = shown - {"nodule", "mass", "hernia"} | ({"rib_fracture"} if "fracture" in shown else set())
        assert names(r.vector, "present") == expected
        assert r.vector.uncertain == 0 and r.vector.absent == EVERY & ~r.vector.present
        assert not r.vector.absent & t["film_present"]
        findings |= expected
    assert findings == set(LABELS_DRAWN)


def test_without_headers_only_labels_are_read(simulated: Path) -> None:
    class Unread(LocalTree):
        def open(self, path: str) -> Any:
            assert path.endswith(".csv")
            return super().open(path)

    bare = list(VindrSource(Unread(str(simulated)), vocabulary=V, headers=False).records())
    assert [(r.sex, r.age, r.view) for r in bare] == [(None, None, "PA")] * len(bare)
    assert [r.vector for r in bare] == [r.vector for r in source(simulated).records()]


def test_a_film_that_is_lateral_by_its_header_is_set_aside(simulated: Path, tmp_path: Path) -> None:
    film = pydicom.dcmread(next((simulated / "train").glob("*.dicom")))
    film.ViewPosition, film.PatientSex, film.PatientAge = "LL", "O", "009M"
    (tmp_path / "train").mkdir()
    film.save_as(tmp_path / "train" / "a.dicom")
    got = one(tmp_path, [row("a")])
    assert (got.aside, got.view, got.sex, got.age, got.fault) == ("lateral view", "LATERAL", None, 0, None)


@pytest.mark.parametrize(("rule", "present", "uncertain"), [
    ("majority", {"effusion"}, {"calcification"}), ("any", {"effusion", "calcification"}, set()),
    ("all", set(), {"effusion", "calcification"}),
])
def test_a_rule_says_what_two_of_three_and_one_of_three_mean(tmp_path: Path, rule: str, present: set[str],
                                                             uncertain: set[str]) -> None:
    got = one(tmp_path, three("a", ("Pleural effusion", "Calcification"), ("Pleural effusion",), ()), rule=rule).vector
    assert (names(got, "present"), names(got, "uncertain")) == (present, uncertain)
    assert names(got, "absent") == {f.name for f in LABELS.values()} - present - uncertain


def test_two_readers_of_two_opacities_agree_on_an_opacity(tmp_path: Path) -> None:
    """Else the wider finding that both see would be lost, or even called absent."""
    got = one(tmp_path, three("a", ("Consolidation",), ("Atelectasis",), ())).vector
    assert names(got, "present") == {"lung_opacity"}
    assert names(got, "uncertain") == {"consolidation", "atelectasis"}


def test_what_vindr_does_not_label_is_never_absent(tmp_path: Path) -> None:
    got = one(tmp_path, three("a", (), (), ())).vector
    assert got == Vector(absent=EVERY)
    assert not got.absent & V.mask(["hernia", "nodule", "mass", "support_devices", "enlarged_cardiomediastinum"])


@given(st.lists(st.sets(st.sampled_from(sorted({f.name for f in LABELS.values()}))), min_size=1, max_size=5),
       st.sampled_from(["majority", "any", "all"]))
def test_readers_are_combined_as_counting_finding_by_finding_does(readers: list[set[str]], rule: Any) -> None:
    got = combine([V.mask(tuple(r)) for r in readers], rule, every=EVERY, vocabulary=V)

    def says(reader: set[str], name: str) -> bool:
        return name in reader or any(name in V[x].parents and says(reader, x) for x in V.names)

    for finding in V.findings:
        votes = sum(says(r, finding.name) for r in readers)
        if not votes:
            state = "absent" if finding in LABELS.values() else "unmentioned"
        elif rule == "any" or (rule == "majority" and votes * 2 > len(readers)) or votes == len(readers):
            state = "present"
        else:
            state = "uncertain"
        assert got.state(finding.bit) == state


def test_readers_rows_need_not_stand_together(tmp_path: Path) -> None:
    a, b = three("a", ("ILD",), ("ILD",), ()), three("b", (), (), ())
    write(tmp_path, [a[0], b[0], b[1], a[1], b[2], a[2]])
    got = list(source(tmp_path).records())
    assert [r.name for r in got] == ["a", "b"]
    assert "interstitial_lung_disease" in names(got[0].vector, "present") and got[1].vector.present == 0
    assert [r.where for r in got] == [f"annotations/image_labels_train.csv line {n}" for n in (2, 3)]


def test_a_film_is_a_patient_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, [*three("a", (), (), ()), *three("b", (), (), ())])
    assert [r.patient for r in source(tmp_path).records()] == ["a", "b"]


BAD: list[tuple[Callable[[], list[list[str]]], str]] = [
    (lambda: [*three("a", ("ILD",), ()), row("a", "ILD", reader="R9", **{"No finding": "1"})],
     "No finding stands beside a finding"),
    (lambda: [row("a", "Other lesion", **{"No finding": "1"})], "No finding stands beside a finding"),
    (lambda: [row("a", **{"No finding": "0"})], "neither a finding nor No finding is marked"),
    (lambda: [row("a", ILD="2", **{"No finding": "0"})], "a label is neither 0 nor 1"),
    (lambda: [row("a", "ILD", **{"Other lesion": "70000"})], "a label is neither 0 nor 1"),
    (lambda: [row("a", "ILD", **{"Edema": ""})], "a label is neither 0 nor 1"),
    (lambda: [row("a", "ILD"), row("a", "ILD")], "one reader is there twice"),
    (lambda: [row("a", "ILD")[:9], row("a", "ILD"), row("a", "ILD", reader="R2")],
     "row has more or fewer fields than the header"),
    (lambda: [row("a", "ILD", reader="")], "no reader is named"),
    (lambda: [row("", "ILD")], "no image is named"),
    (lambda: [row("a", "ILD")[:9]], "row has more or fewer fields than the header"),
    (lambda: [["70000", *row("a", "ILD")]], "row has more or fewer fields than the header"),
    (lambda: [row("../70000", "ILD")], "path leads out of the source's folder"),
    (lambda: [row("x/70000", "ILD")], "path leads out of the source's folder"),
    (lambda: [row("/70000", "ILD")], "path leads out of the source's folder"),
]


@pytest.mark.parametrize(("rows", "fault"), BAD)
def test_a_bad_row_costs_its_film_alone_and_repeats_nothing(tmp_path: Path, rows: Callable[[], list[list[str]]],
                                                            fault: str) -> None:
    write(tmp_path, [*rows(), *three("good", ("ILD",), ("ILD",), ("ILD",))])
    bad, good = source(tmp_path).records()
    assert bad.fault == fault and bad.place is None and bad.vector == Vector()
    assert "70000" not in f"{bad.fault}{bad.where}"
    assert good.fault is None and "interstitial_lung_disease" in names(good.vector, "present")


def test_rows_that_name_no_film_stay_apart(tmp_path: Path) -> None:
    """Else many bad rows would hide behind one."""
    write(tmp_path, [row("", "ILD"), row("", "ILD")])
    assert [r.name for r in source(tmp_path).records()] == ["train line 2", "train line 3"]


def test_a_row_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path, [row("a", "ILD"), row("b", "ILD")])
    path.write_bytes(path.read_bytes().replace(b"\na,", b"\n\xe9a,"))
    assert [r.fault for r in source(tmp_path).records()] == ["row is not UTF-8", None]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, [row("a")], encoding="utf-8-sig")
    assert [r.name for r in source(tmp_path).records()] == ["a"]


@pytest.mark.parametrize("ending", [".dicom", ".dcm", ".png", ".jpg", ".jpeg"])
def test_films_of_every_ending_are_found(tmp_path: Path, ending: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"a{ending}").write_bytes(b"no film at all")
    write(tmp_path, [row("a"), row("b")])
    there, missing = source(tmp_path).records()
    assert (there.place, there.fault) == (f"train/a{ending}", None), "an unreadable film is for ingest to judge"
    assert missing.place == "train/b.dicom"


def test_consensus_rows_are_films_and_a_film_twice_is_left_to_ingest(tmp_path: Path) -> None:
    write(tmp_path, [row("a", "COPD", reader=None), row("a", reader=None), row("b", "Lung tumor", reader=None)],
          part="test")
    got = list(source(tmp_path).records())
    assert [(r.name, r.split, r.place) for r in got] == [(n, "test", f"test/{n}.dicom") for n in ("a", "a", "b")]
    assert names(got[2].vector, "present") == {"lung_tumor", "lung_lesion"}


def test_train_comes_before_test_and_limit_counts_films(tmp_path: Path) -> None:
    write(tmp_path, [row("b", reader=None), row("c", reader=None)], part="test")
    write(tmp_path, three("a", (), (), ()))
    assert [r.name for r in source(tmp_path).records()] == ["a", "b", "c"]
    assert [r.name for r in source(tmp_path, limit=2).records()] == ["a", "b"]


@pytest.mark.parametrize("column", ["image_id", "No finding", "Pleural effusion"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    write(tmp_path, [], columns=[c for c in ("image_id", "rad_id", *TRAIN_CLASSES) if c != column])
    with pytest.raises(BadInput, match=f"column {column}"):
        source(tmp_path)


def test_an_unknown_label_is_named(tmp_path: Path) -> None:
    """Passed over, a new release's finding would silently count as absent."""
    write(tmp_path, [], columns=["image_id", "rad_id", *TRAIN_CLASSES, "Bronchiectasis"])
    with pytest.raises(BadInput, match="'Bronchiectasis'"):
        source(tmp_path)


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"image_labels_train\.csv"):
        source(tmp_path)
    write(tmp_path, [])
    (tmp_path / "annotations/image_labels_train.csv").write_bytes(b"")
    with pytest.raises(BadInput, match="no header"):
        source(tmp_path)


def test_another_rule_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [])
    with pytest.raises(BadInput, match="majority, any or all"):
        source(tmp_path, rule="most")


def test_what_changes_the_records_changes_the_origin(tmp_path: Path) -> None:
    """Else a cohort made by one rule would pass for that of another."""
    write(tmp_path, three("a", ("ILD",), (), ()))
    seen = {str(source(tmp_path, **s).origin()) for s in ({}, {"rule": "any"}, {"headers": False})}
    write(tmp_path, three("a", (), (), ()))
    seen.add(str(source(tmp_path).origin()))
    assert len(seen) == 4
