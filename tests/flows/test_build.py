"""The whole line under a real Prefect server: what a user gets, and what a second run does not do again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import RECIPE, SETTINGS

from cars_core.lake.lake import Lake
from cars_core.lake.sql import query
from schemas.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def run(lake: Path, *settings: str, recipe: str = RECIPE) -> dict[str, Any]:
    from flows.build import build

    return build(recipe, [*SETTINGS, *settings], str(lake))


@pytest.fixture(scope="module")
def built(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    os.chdir(ROOT)
    lake = tmp_path_factory.mktemp("lake")
    return lake, run(lake)


def test_a_build_publishes_what_passed_and_keeps_what_did_not(built: tuple[Path, dict[str, Any]]) -> None:
    lake, result = built
    store = Lake(str(lake))
    samples = store.read("samples").to_pylist()
    assert result["planned"] == len(samples) == store.read("plan").num_rows
    assert result["accepted"] + result["rejected"] == result["planned"] and result["accepted"] >= 1
    assert {s["verdict"] for s in samples} <= {"accepted", "rejected"}
    assert all(s["reasons"] for s in samples if s["verdict"] == "rejected")
    members = query(store, 'SELECT count(*) AS n FROM "demo@1"').to_pylist()[0]["n"]
    assert members == result["accepted"]


def test_only_training_patients_are_edited_and_none_crosses_splits(built: tuple[Path, dict[str, Any]]) -> None:
    store = Lake(str(built[0]))
    cohort = store.read("cohort").to_pylist()
    splits: dict[str, set[str]] = {}
    for row in cohort:
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(s) == 1 for s in splits.values())
    assert {r["patient"] for r in store.read("plan").to_pylist()} <= {p for p, s in splits.items() if s == {"train"}}


def test_a_second_run_renders_nothing_and_publishes_nothing(
    built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cars_core.evaluate import compare
    from cars_core.generate import shard
    from cars_core.quality import check

    def done_again(*_: Any, **__: Any) -> None:
        raise AssertionError("work that was done is done again")

    for module, name in ((shard, "render_edit"), (check, "check_edit"), (compare, "train_arm")):
        monkeypatch.setattr(module, name, done_again)
    lake, first = built
    store = Lake(str(lake))
    before = store.read("renders").num_rows
    second = run(lake)
    assert (second["version"], second["digest"], second["new"]) == (first["version"], first["digest"], False)
    assert Lake(str(lake)).read("renders").num_rows == before
    assert Lake(str(lake)).read("subsets").num_rows == 1


def test_another_shard_and_chunk_size_makes_the_same_pixels(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    lake, first = built
    other = run(tmp_path, "editor.shard=5", "editor.chunk=3", "editor.workers=2")
    assert other["digest"] == first["digest"]
    objects = [
        {r["edit_id"]: (r["object"], r["mask"]) for r in Lake(str(p)).read("renders").to_pylist()}
        for p in (lake, tmp_path)
    ]
    assert objects[0] == objects[1]


def test_the_run_carries_its_artifacts(built: tuple[Path, dict[str, Any]]) -> None:
    """What an engineer sees in the Prefect UI: gaps, verdicts, pictures, evaluation, page, progress."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = {a.key: a for a in client.read_artifacts(limit=200)}
    assert {
        "gaps",
        "verdicts",
        "contact-sheet",
        "evaluation",
        "page",
        "progress-ingest",
        "progress-evaluate",
    } <= found.keys()
    assert "progress-edit" in found
    assert "effusion" in str(found["gaps"].data)
    assert "data:image/" in str(found["contact-sheet"].data)


def test_the_page_is_one_offline_file_with_the_truth_beside_each_edit(built: tuple[Path, dict[str, Any]]) -> None:
    html = Path(built[1]["page"]).read_text()
    assert "Not for diagnosis" in html and "Truth" in html
    assert 'src="http' not in html and "@import" not in html


def nih_folder(root: Path, n: int = 60) -> Path:
    """A little ChestX-ray14: simulated films under NIH's file names and label table, one of them damaged."""
    from cars_core.phantom.population import films
    from cars_core.phantom.truth import render_truth
    from cars_core.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    names = {f.name: k for k, f in vocabulary.label_set("nih").items()}
    (root / "images").mkdir(parents=True)
    with open(root / "Data_Entry_2017.csv", "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(
            [
                "Image Index",
                "Finding Labels",
                "Follow-up #",
                "Patient ID",
                "Patient Age",
                "Patient Gender",
                "View Position",
            ]
        )
        specs = films(n=n, seed=3, size=128, withheld=[], split_of=lambda _: "train", vocabulary=vocabulary)
        for i, spec in enumerate(specs):
            name = f"{i:08d}_000.png"
            found = [names[x] for x in vocabulary.unpack(spec.vector.present) if x in names]
            out.writerow([name, "|".join(found) or "No Finding", 0, i, spec.age, spec.sex, spec.view])
            Image.fromarray(render_truth(spec.truth).pixels).save(root / "images" / name)
    (root / "images" / "00000004_000.png").write_bytes(b"not a film")
    return root


def test_real_layout_with_a_damaged_film_builds_and_shows_it(prefect: None, tmp_path: Path) -> None:
    """One bad film is a quarantined row with its reason, not a dead build; no file name leaves ingest."""
    root = nih_folder(tmp_path / "nih")
    result = run(tmp_path / "lake", f"cohort.root={root}", "cohort.size=128", recipe="flows/recipes/nih-open.yaml")
    rows = Lake(str(tmp_path / "lake")).read("cohort").to_pylist()
    bad = [r for r in rows if r["status"] == "quarantined"]
    assert len(rows) == 60 and len(bad) == 1 and bad[0]["line"] == 6
    assert "00000004" not in str(rows)
    assert "quarantine" in Path(result["page"]).read_text().lower()


def test_an_editor_that_saw_test_patients_is_refused(prefect: None, tmp_path: Path) -> None:
    """Law 1: were it used, every number of the evaluation would be worthless."""
    import json
    import shutil

    from cars_core.weights import BUILT_IN

    run(tmp_path / "lake")
    test = next(
        r for r in Lake(str(tmp_path / "lake")).read("cohort").to_pylist() if r["split"] == "test" and r["image_id"]
    )
    leaky = tmp_path / "leaky"
    shutil.copytree(BUILT_IN / "editor", leaky)
    card = json.loads((leaky / "model.json").read_text())
    (leaky / "model.json").write_text(json.dumps({**card, "trained_on": [test["image_id"][:12]]}))
    with pytest.raises(BadInput, match="trained on 1 films of the test split"):
        run(tmp_path / "lake", f"editor.weights={leaky}", "plan.max_edits=5")


def test_a_build_that_passes_too_little_publishes_nothing(prefect: None, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="min_accepted"):
        run(tmp_path, "gates.effect_min=200")
    store = Lake(str(tmp_path))
    assert store.read("subsets").num_rows == 0 and store.read("members").num_rows == 0
    assert store.read("samples").num_rows > 0  # rejected, and still to be seen
    assert len(list((tmp_path / "pages").iterdir())) == 1


def test_kill_9_in_mid_generation_loses_and_doubles_nothing(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    # 60 sampling steps: slow enough to be caught between two chunks.
    more = [x for s in [*SETTINGS, "editor.steps=60", "plan.max_edits=8", "editor.shard=8"] for x in ("--set", s)]
    command = [sys.executable, "-m", "flows.cli", "build", RECIPE, "--lake", str(lake), "--json", *more]
    env = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "OMP_NUM_THREADS": "1"}
    env.pop("PREFECT_API_URL", None)
    first = subprocess.Popen(
        command, cwd=ROOT, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = Lake(str(lake))
    deadline = time.monotonic() + 240
    while store.read("renders").num_rows == 0:
        assert first.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    survived = {r["edit_id"]: r for r in store.read("renders").to_pylist()}
    assert 0 < len(survived) < 8, "killed too late to prove anything"
    assert store.read("subsets").num_rows == 0

    second = subprocess.run(
        command, cwd=ROOT, env=env, start_new_session=True, capture_output=True, text=True, timeout=400
    )
    assert second.returncode == 0, second.stderr[-2000:]
    renders = store.read("renders").to_pylist()
    planned = {r["edit_id"] for r in store.read("plan").to_pylist()}
    assert sorted(r["edit_id"] for r in renders) == sorted(planned)  # all of them, each once
    assert all(r == survived[r["edit_id"]] for r in renders if r["edit_id"] in survived)  # not made again
    assert sorted(s["edit_id"] for s in store.read("samples").to_pylist()) == sorted(planned)
    assert store.read("subsets").num_rows == 1


def test_films_are_lossless_in_the_lake(built: tuple[Path, dict[str, Any]]) -> None:
    """Kept pixels equal the source's, bit for bit, in what was published and not only in memory."""
    from cars_core.png import read_png

    store = Lake(str(built[0]))
    for s in store.read("samples").to_pylist():
        source, edit, mask = (read_png(store.get(s[k])) for k in ("source_object", "object", "mask"))
        assert (source[mask == 0] == edit[mask == 0]).all()
        assert np.any(source != edit)
