"""Ingest must lose no film, mix no patient between splits, name nobody, and survive being cut off."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from nih_folder import FILMS, cohort, film, folder, row, take, write_labels
from PIL import Image

from cars_core.cohort import ingest as module
from cars_core.cohort.films import decode, image_id
from cars_core.cohort.guard import Guard, R, T
from cars_core.cohort.ingest import ingest, split_rows
from cars_core.cohort.rows import RowMaker
from cars_core.lake.lake import Lake
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Splits
from schemas.tables import COHORT

VOCABULARY = load_vocabulary()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)


def test_every_film_arrives_with_its_labels_and_pixels(tmp_path: Path) -> None:
    root, lake = folder(tmp_path / "nih"), Lake(str(tmp_path / "lake"))
    result, rows = take(cohort(root), lake)
    assert rows.schema == COHORT
    assert (result["accepted"], result["quarantined"], result["patients"]) == (12, 0, 6)
    assert sum(result["films_per_split"].values()) == 12
    for i, r in enumerate(rows.to_pylist()):
        path = root / f"images_{i % 2 + 1:03d}" / "images" / f"{70000 + i // 2:08d}_{i % 2:03d}.png"
        assert r["image_id"] == image_id(decode(path))
        assert VOCABULARY.unpack(r["present"]) == [
            [], ["effusion", "mass", "lung_lesion"], ["edema", "lung_opacity"]][i % 3]
        with Image.open(io.BytesIO(lake.get(r["object"]))) as png:
            assert png.size == (r["width"], r["height"]) == (64, 71)


def test_no_identifier_leaves_ingest(tmp_path: Path) -> None:
    """Searched for in every value of every row, in the tables' files and in the objects."""
    root, lake = folder(tmp_path / "nih"), Lake(str(tmp_path / "lake"))
    (root / "images_001" / "images" / "00070001_000.png").write_bytes(b"damaged")
    (root / "images_001" / "images" / "00070002_000.png").unlink()
    _, rows = take(cohort(root), lake)
    assert rows.filter(pc.equal(rows["status"], "quarantined")).num_rows == 2
    raw = [str(p) for p in rows.to_pylist()]
    raw += [p.read_bytes().decode("latin-1") + p.name for p in (tmp_path / "lake").rglob("*") if p.is_file()]
    for text in raw:
        assert not any(str(70000 + i) in text for i in range(6))


def test_quarantine_says_why_and_where_and_the_rest_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "nih"
    for i, name in enumerate(["ok.png", "twin.png", "label.png", "cut.png", "small.png"]):
        film(root / "images" / name, seed=i, shape=(30, 30) if name == "small.png" else (80, 72))
    (root / "images" / "twin.png").write_bytes((root / "images" / "ok.png").read_bytes())
    cut = root / "images" / "cut.png"
    cut.write_bytes(cut.read_bytes()[:100])
    Image.fromarray(np.full((80, 80), 9, np.uint8)).save(root / "images" / "blank.png")
    names = ["ok.png", "ok.png", "twin.png", "label.png", "cut.png", "small.png", "blank.png", "none.png"]
    write_labels(root, [row(n, patient=i, labels="Gout" if n == "label.png" else "Mass") for i, n in enumerate(names)])
    result, rows = take(cohort(root), Lake(str(tmp_path / "lake")))
    assert (result["accepted"], result["set_aside"], result["quarantined"], result["patients"]) == (1, 2, 5, 1)
    told = rows["reason"].to_pylist()
    assert told[0] is None
    for line, (reason, why) in enumerate(zip(told[1:], [
            "listed before", "same pixels", "not NIH findings", "truncated or damaged", "under 64", "blank",
            "missing"], strict=True), start=3):
        assert reason.startswith(f"Data_Entry_2017_v2020.csv line {line}: "), reason
        assert why in reason
        assert ".png" not in reason
    assert len(set(rows["record"].to_pylist())) == 8, "rows of one name could not be told apart"
    assert rows["status"].to_pylist() == ["accepted", "quarantined", "set_aside", "quarantined", "quarantined",
                                          "quarantined", "set_aside", "quarantined"]
    shown = rows.filter(pc.equal(rows["status"], "set_aside"))
    assert shown["object"].null_count == 0, "what was set aside could not be looked at"


def test_no_patient_is_in_two_splits_and_later_films_move_nobody(tmp_path: Path) -> None:
    root = folder(tmp_path / "nih", 60, films_per_patient=3)
    lake = Lake(str(tmp_path / "lake"))
    splits = Splits(train=0.4, validate=0.3, test=0.3)
    few, first = take(cohort(root, splits=splits, limit=20), lake)
    every, rows = take(cohort(root, splits=splits), lake)
    assert few["digest"] != every["digest"]
    seen: dict[str, set[str]] = {}
    for r in [*rows.to_pylist(), *first.to_pylist()]:
        seen.setdefault(r["patient"], set()).add(r["split"])
    assert len(seen) == 20
    assert all(len(s) == 1 for s in seen.values())
    assert {next(iter(s)) for s in seen.values()} == {"train", "validate", "test"}
    assert first.num_rows == 20


class Failing(Lake):
    """A lake whose n-th append fails, before or after its commit."""

    def __init__(self, uri: str, *, at: int, after: bool) -> None:
        super().__init__(uri)
        self.left, self.after = at, after

    def append(self, table: str, rows: pa.Table, *, key: str) -> bool:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise ConnectionError("cut off")
        done = super().append(table, rows, key=key)
        if self.left == 0:
            raise ConnectionError("cut off")
        return done


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_cut_off_goes_on_to_the_same_table(tmp_path: Path, after: bool, workers: int,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "nih", 22)
    twin = root / "images_002" / "images" / "00070010_001.png"  # of a film in the first, finished chunk
    twin.write_bytes((root / "images_001" / "images" / "00070000_000.png").read_bytes())
    whole, want = take(cohort(root, workers=1), Lake(str(tmp_path / "undisturbed")))
    with pytest.raises(ConnectionError):
        take(cohort(root, workers=workers), Failing(str(tmp_path / "lake"), at=3, after=after))
    read: list[bool] = []
    monkeypatch.setattr(module, "Guard", counting(read))
    result, rows = take(cohort(root, workers=workers), Lake(str(tmp_path / "lake")))
    assert (result, rows) == (whole, want)
    assert result["set_aside"] == 1
    assert len(read) == 22 - (12 if after else 8), "finished chunks were read again"
    read.clear()
    again, rows = take(cohort(root, workers=workers), Lake(str(tmp_path / "lake")))
    assert (again, rows, read) == (whole, want, [])


def counting(read: list[bool]) -> type[Guard[Any, Any]]:
    """A guard that takes note of each film it reads."""
    class Counting(Guard[T, R]):
        def results(self, items: Any, **how: Any) -> Any:
            for item, got in super().results(items, **how):
                if got is not None:
                    read.append(True)
                yield item, got

    return Counting


@pytest.mark.usefixtures("small_chunks")
def test_workers_change_neither_rows_nor_order_of_commits(tmp_path: Path) -> None:
    root = folder(tmp_path / "nih", 22)
    got = []
    for workers in (1, 2, 5):
        lake = Lake(str(tmp_path / f"lake{workers}"))
        result = ingest(cohort(root, workers=workers), seed=3, vocabulary=VOCABULARY, lake=lake,
                        progress=lambda done, total: None)
        got.append((result, split_rows(lake, result["digest"]), len(lake.delta_table("cohort").file_uris())))
    assert got[0] == got[1] == got[2]
    assert got[0][2] == 6


def test_films_in_flight_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand decoded films waiting for their rows would fill the memory."""
    root = folder(tmp_path / "nih", 40)
    drawn, ahead = [0], []
    key, row_of = RowMaker.key, RowMaker.row

    def counted(self: RowMaker, *args: Any) -> Any:
        drawn[0] += 1
        return key(self, *args)

    def seen(self: RowMaker, *args: Any) -> dict[str, Any]:
        ahead.append(drawn[0] - len(ahead))
        return row_of(self, *args)

    monkeypatch.setattr(RowMaker, "key", counted)
    monkeypatch.setattr(RowMaker, "row", seen)
    take(cohort(root, workers=2), Lake(str(tmp_path / "lake")))
    assert max(ahead) <= 2 * 4


def test_progress_ends_at_the_total(tmp_path: Path, small_chunks: None) -> None:
    root, lake, calls = folder(tmp_path / "nih", 10), Lake(str(tmp_path / "lake")), []
    for _ in range(2):
        ingest(cohort(root), seed=3, vocabulary=VOCABULARY, lake=lake, progress=lambda *a: calls.append(a))
    assert calls == [(0, 10), (4, 10), (8, 10), (10, 10), (10, 10)]


def test_seed_and_size_make_another_cohort_and_the_key_other_names(tmp_path: Path) -> None:
    root, lake = folder(tmp_path / "nih"), Lake(str(tmp_path / "lake"))
    keyed = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 32)
        keyed.append(cohort(root, key_file=str(tmp_path / name)))
    runs = [take(c, lake, seed=s) for c, s in [(cohort(root), 3), (cohort(root), 4), (cohort(root, size=70), 3),
                                               (keyed[0], 3), (keyed[1], 3)]]
    assert len({r["digest"] for r, _ in runs}) == 5
    assert not set(runs[3][1]["patient"].to_pylist()) & set(runs[4][1]["patient"].to_pylist())
    assert lake.read("cohort").num_rows == 60


def test_a_cohort_without_a_usable_film_is_an_error(tmp_path: Path) -> None:
    film(tmp_path / "nih" / "a.png", seed=1)
    write_labels(tmp_path / "nih", [row("a.png", labels="Gout")])
    with pytest.raises(BadInput, match=r"no usable film among 1.*not NIH findings"):
        take(cohort(tmp_path / "nih"), Lake(str(tmp_path / "lake")))


def test_train_rows_gives_one_split_and_names_a_wrong_one(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    result, _ = take(cohort(folder(tmp_path / "nih", 40)), lake)
    for split, n in result["films_per_split"].items():
        got = split_rows(lake, result["digest"], split)
        assert got.num_rows == n
        assert set(got["split"].to_pylist()) <= {split}
    with pytest.raises(BadInput, match="train, validate, test"):
        split_rows(lake, result["digest"], "tests")
    with pytest.raises(BadInput, match="digest of a cohort"):
        split_rows(lake, "0" * 64)


def test_the_real_films_all_arrive(tmp_path: Path) -> None:
    """506 real films; positives of each finding as counted in the label file itself."""
    root = FILMS / "nih14"
    if not root.is_dir():
        pytest.skip("the real films (cxr-open) are not beside the checkout")
    with open(root / "labels.csv", encoding="utf-8") as f:
        table = list(csv.DictReader(f))
    result, rows = take(cohort(root, workers=2, screen={}), Lake(str(tmp_path / "lake")))
    assert (result["quarantined"], rows.num_rows) == (0, 506)
    assert result["accepted"] >= 496, "more than two in a hundred good films were set aside"
    for label, finding in VOCABULARY.label_set("nih").items():
        want = [int(r[label]) for r in table]
        assert [p >> finding.bit & 1 for p in rows["present"].to_pylist()] == want
        assert [a >> finding.bit & 1 for a in rows["absent"].to_pylist()] == [1 - w for w in want]
    assert rows["age"].to_pylist() == [int(r["age"]) for r in table]
    assert rows["licence"].to_pylist() == [r["licence"] for r in table]
    text = str(rows.to_pylist())
    assert not any(r["file"] in text or r["source_name"] in text for r in table)
