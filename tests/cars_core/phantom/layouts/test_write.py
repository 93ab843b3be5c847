"""A written cohort must be whole or recognisably not, hold its truth, and not depend on who wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cars_core.phantom.layouts import LAYOUTS
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import FilmSpec
from cars_core.phantom.truth import read_truth, render_truth
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_truth_names_every_film_and_renders_it(layout: str, written: Any, specs: list[FilmSpec]) -> None:
    root, manifest = written(layout)
    table = pq.read_table(root / "truth/truth.parquet")
    rows = table.to_pylist()
    assert json.loads(table.schema.metadata[b"vocabulary"]) == list(V.names)
    assert [r["record"] for r in rows] == [s.record for s in specs]
    for row, spec in zip(rows, specs, strict=True):
        assert (root / row["path"]).stat().st_size > 1000
        assert (row["truth"], row["prior"], row["split"]) == (spec.truth, spec.prior, spec.split)
        assert (row["film_present"], row["film_absent"]) == (spec.vector.present, spec.vector.absent)
        assert all(s["text"] in row["report"] for s in json.loads(row["statements"]))
    assert manifest["films"] == len(specs) and manifest["patients"] == len({s.patient for s in specs})
    assert manifest == json.loads((root / "manifest.json").read_text())
    assert "no patient" in (root / "README.txt").read_text().lower()


def test_reports_never_claim_what_no_film_shows(written: Any) -> None:
    """Pneumonia apart, which a report may suspect."""
    for row in pq.read_table(written("mimic")[0] / "truth/truth.parquet").to_pylist():
        claimed = (row["report_present"] | row["report_uncertain"]) & ~V.mask(["pneumonia"])
        implied = V.mask(["lung_opacity", "lung_lesion", "pleural_other", "enlarged_cardiomediastinum"])
        assert not claimed & ~row["film_present"] & ~implied, V.unpack(claimed & ~row["film_present"])


def test_masks_are_those_of_the_render_and_one_bit_deep(written: Any, specs: list[FilmSpec]) -> None:
    root = written("nih")[0] / "truth/masks"
    for spec in specs:
        film = render_truth(spec.truth)
        expected = {"left_lung": film.anatomy.left_lung, "right_lung": film.anatomy.right_lung,
                    "heart": film.anatomy.heart, **film.finding_masks, **film.device_masks}
        files = {p.stem: p for p in (root / spec.record).iterdir()}
        assert files.keys() == expected.keys()
        for name, path in files.items():
            with Image.open(path) as image:
                assert (image.mode, image.size) == ("1", film.pixels.shape)
                np.testing.assert_array_equal(np.asarray(image), expected[name])
        columns = [np.flatnonzero(expected[f"{side}_lung"].any(axis=0)).mean() for side in ("right", "left")]
        assert columns[0] < columns[1]  # the patient's left is at the picture's right


def test_two_workers_write_the_same_bytes_as_one(written: Any, specs: list[FilmSpec], tmp_path: Path,
                                                 tree: Callable[[Path], dict[str, str]]) -> None:
    done: list[int] = []
    write_cohort(iter(specs), out=tmp_path / "two", layout="mimic", workers=2, progress=done.append)
    assert tree(tmp_path / "two") == tree(written("mimic")[0])
    assert done == list(range(1, len(specs) + 1))


def test_a_larger_cohort_begins_with_the_smaller_one(written: Any, specs: list[FilmSpec], tmp_path: Path,
                                                     tree: Callable[[Path], dict[str, str]]) -> None:
    write_cohort(specs[:5], out=tmp_path / "five", layout="dicom")
    whole = tree(written("dicom")[0])
    for path, digest in tree(tmp_path / "five").items():
        if path.endswith((".dicom", ".png")):
            assert whole[path] == digest


def test_a_folder_in_use_is_refused_and_left_alone(specs: list[FilmSpec], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"not empty.*new or empty folder"):
        write_cohort(specs, out=tmp_path, layout="nih")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(BadInput, match="a folder"):
        write_cohort(specs, out=tmp_path / "mine.txt", layout="nih")


def test_a_cohort_that_was_cut_off_has_no_manifest_and_is_called_so(specs: list[FilmSpec], tmp_path: Path) -> None:
    def broken() -> Iterator[FilmSpec]:
        yield from specs[:2]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_cohort(broken(), out=tmp_path, layout="chexpert")
    assert (tmp_path / "train.csv").exists() and not (tmp_path / "manifest.json").exists()
    with pytest.raises(BadInput, match="cut off"):
        write_cohort(specs, out=tmp_path, layout="chexpert")


@pytest.mark.parametrize(("changes", "says"), [
    ({"layout": "padchest"}, "padchest; expected one of nih, chexpert, mimic, dicom"),
    ({"layout": "mimic", "bits": 12}, "bits of layout mimic: got 12; expected 8"),
    ({"layout": "dicom", "bits": 16}, "got 16; expected 12 or 8"),
    ({"layout": "nih", "workers": 0}, "workers: got 0"),
    ({"layout": "nih", "specs": []}, "films: got 0; expected at least one"),
])
def test_bad_input_names_value_and_range(changes: dict[str, Any], says: str, specs: list[FilmSpec],
                                         tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        write_cohort(changes.pop("specs", specs), out=tmp_path / "out", **changes)


def test_films_out_of_order_or_of_two_sizes_are_refused(specs: list[FilmSpec], tmp_path: Path) -> None:
    later = next(s for s in specs if s.study == 2)
    with pytest.raises(BadInput, match=f"study of {later.record}"):
        write_cohort([later], out=tmp_path / "order", layout="nih")
    larger = replace(specs[1], patient="other", study=1,
                     truth=specs[1].truth.replace('"size":96', '"size":128'))
    assert read_truth(larger.truth).size == 128
    with pytest.raises(BadInput, match="got 128; expected 96"):
        write_cohort([specs[0], larger], out=tmp_path / "size", layout="nih")
