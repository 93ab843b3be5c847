"""A shard: what is done is never done again, and one bad edit costs only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cars_core.anatomy.segment import load_segmenter
from cars_core.generate import shard as module
from cars_core.generate.denoiser import Denoiser, load_denoiser
from cars_core.generate.pairs import Base
from cars_core.generate.shard import render_key, render_shard, shards
from cars_core.lake.lake import Lake
from cars_core.png import png_bytes, read_png
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Editor
from schemas.tables import PLAN

VOCABULARY = load_vocabulary()


@pytest.fixture
def lake(tmp_path: Path, base: Base, denoiser: Denoiser) -> Lake:
    """A lake with one film and six planned edits of it; the third asks for what the editor does not offer."""
    lake = Lake(str(tmp_path / "lake"))
    film = lake.put(png_bytes(base.film))
    rows = []
    for i in range(6):
        finding = "fracture" if i == 2 else "mass"
        rows.append(
            {
                "build": "b",
                "edit_id": f"edit{i}",
                "rank": i,
                "image_id": "0" * 64,
                "object": film,
                "patient": "p1",
                "operations": [{"kind": "insert", "finding": finding, "side": "left", "severity": 0.5}],
                "source_present": 0,
                "present": 16,
                "absent": 0,
                "uncertain": 0,
                "gap": 16,
                "without": 0,
                "cell": "",
                "cost": 1.0,
                "seed": i,
                "editor": denoiser.digest,
                "segmenter": load_segmenter().digest,
                "licence": "CC0-1.0",
                "truth": None,
            }
        )
    lake.append("plan", pa.Table.from_pylist(rows, schema=PLAN), key="plan")
    return lake


def run(lake: Lake, weights_folder: Path, start: int = 0, stop: int = 6, chunk: int = 2) -> dict[str, int]:
    settings = Editor(weights=str(weights_folder), steps=2, chunk=chunk)
    return render_shard(lake, build="b", start=start, stop=stop, settings=settings, vocabulary=VOCABULARY)


def test_one_bad_edit_is_a_row_with_its_reason_and_the_rest_goes_on(lake: Lake, weights_folder: Path) -> None:
    assert run(lake, weights_folder) == {"made": 5, "failed": 1, "reused": 0}
    rows = {r["edit_id"]: r for r in lake.read("renders").to_pylist()}
    assert "fracture" in rows["edit2"]["error"] and rows["edit2"]["object"] is None
    assert all(read_png(lake.get(r["object"])).shape == (192, 192) for k, r in rows.items() if k != "edit2")


def test_a_second_run_makes_only_what_is_missing(lake: Lake, weights_folder: Path) -> None:
    assert run(lake, weights_folder, 0, 3)["made"] == 2
    assert run(lake, weights_folder, 0, 6, chunk=4) == {"made": 3, "failed": 0, "reused": 3}
    assert lake.read("renders").num_rows == 6


def test_a_crash_costs_the_chunk_it_hits_and_nothing_else(
    lake: Lake, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module.render_edit, []

    def failing(*a: Any, **k: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError
        return real(*a, **k)

    monkeypatch.setattr(module, "render_edit", failing)
    with pytest.raises(MemoryError):
        run(lake, weights_folder)
    assert {r["edit_id"] for r in lake.read("renders").to_pylist()} == {"edit0", "edit1"}
    assert run(lake, weights_folder)["reused"] == 2


def test_pixels_do_not_depend_on_shard_or_chunk(lake: Lake, weights_folder: Path, tmp_path: Path, base: Base) -> None:
    run(lake, weights_folder)
    other = Lake(str(tmp_path / "other"))
    other.put(png_bytes(base.film))
    other.append("plan", lake.read("plan"), key="plan")
    for start, stop in shards(6, 1):
        run(other, weights_folder, start, stop, chunk=1)
    objects = [{r["edit_id"]: r["object"] for r in x.read("renders").to_pylist()} for x in (lake, other)]
    assert objects[0] == objects[1]


def test_render_key_changes_with_all_that_changes_pixels() -> None:
    """Were one left out, a build would silently reuse another editor's pictures."""
    base = render_key(Editor(), editor="a", segmenter="b")
    assert (
        len(
            {
                base,
                render_key(Editor(steps=7), editor="a", segmenter="b"),
                render_key(Editor(guidance=3), editor="a", segmenter="b"),
                render_key(Editor(), editor="c", segmenter="b"),
                render_key(Editor(), editor="a", segmenter="c"),
            }
        )
        == 5
    )
    assert render_key(Editor(shard=5, chunk=1, workers=3), editor="a", segmenter="b") == base


def test_other_weights_than_the_plans_are_refused(
    lake: Lake, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor retrained in its folder between plan and shard would put other pixels under the same edit_id."""
    monkeypatch.setattr(load_denoiser(str(weights_folder)), "digest", "0" * 64)
    with pytest.raises(BadInput, match="editor weights"):
        run(lake, weights_folder)
    assert lake.read("renders").num_rows == 0


def test_shards_cover_the_plan_once() -> None:
    assert list(shards(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert list(shards(0, 3)) == []


def test_models_are_loaded_once_a_process(weights_folder: Path) -> None:
    assert load_denoiser(str(weights_folder)) is load_denoiser(str(weights_folder))
