"""The command line: a wrong argument is one line that names it, and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render

ROOT = Path(__file__).resolve().parents[2]


def cars(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], cwd=cwd, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build", "nope.yaml"], "nope.yaml"),
        (["build", "flows/recipes/demo.yaml", "--set", "gaps.ordr=3"], "ordr"),
        (["build", "flows/recipes/demo.yaml", "--set", "gaps.findings=[effusoin]"], "effusoin"),
        (["build", "flows/recipes/demo.yaml", "--set", "cohort.size"], "key.path=value"),
        (["build", "flows/recipes/demo.yaml", "--set", "cohort.withheld=[[scurvy]]"], "scurvy"),
        (["build", "flows/recipes/demo.yaml", "--set", "cohort.withheld=[[pneumonia]]"], "pneumonia"),
        (["build", "flows/recipes/demo.yaml", "--set", "cohort.thinned=[{findings: [pneumonia], keep: 1}]"],
         "pneumonia"),
        (["build", "flows/recipes/demo.yaml", "--set", "plan.max_edits=-1"], "-1"),
        (["build", "flows/recipes/nih-open.yaml"], "cohort.root"),
        (["build", "flows/recipes/demo.yaml", "--lake", "README.md/x"], "README.md/x"),
        (["sql", "SELECT 1", "--lake", "no-such-lake"], "no-such-lake"),
        (["build", "flows/recipes/demo.yaml", "--set", "evaluation.backbone=resnet10x"], "resnet10x"),
        (["build", "flows/recipes/demo.yaml", "--set", "editor.weights=no-such-folder"], "no-such-folder"),
        (["edit", "no-film.png", "--insert", "effusion", "--out", "x.png"], "no-film.png"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words: list[str], says: str) -> None:
    done = cars(*words)
    assert done.returncode == 2
    assert says in done.stderr and "expected" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"


def labels_folder(root: Path, text: str) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "Data_Entry_2017.csv").write_text(text)
    return root


def test_a_missing_column_is_named_before_anything_starts(tmp_path: Path) -> None:
    root = labels_folder(tmp_path / "nih", HEADER.replace("Finding Labels,", ""))
    done = cars(
        "build", "flows/recipes/nih-open.yaml", "--set", f"cohort.root={root}", "--lake", str(tmp_path / "lake")
    )
    assert done.returncode == 2 and "Finding Labels" in done.stderr and "Data_Entry_2017.csv" in done.stderr
    assert "Traceback" not in done.stderr and "Prefect" not in done.stderr


def test_a_cohort_without_a_usable_film_ends_in_one_line(tmp_path: Path) -> None:
    """A path that climbs out of the folder costs its film; here it was the only one."""
    root = labels_folder(tmp_path / "nih", HEADER + "../secret.png,No Finding,0,1,50,M,PA\n")
    (tmp_path / "secret.png").write_bytes(b"x")
    done = cars(
        "build", "flows/recipes/nih-open.yaml", "--set", f"cohort.root={root}", "--lake", str(tmp_path / "lake")
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "expected" in done.stderr.splitlines()[-1]
    assert "secret" not in done.stderr


def test_help_explains_itself_and_says_what_it_is_not_for() -> None:
    done = cars("--help")
    assert done.returncode == 0
    for word in ("build", "edit", "sql", "train", "Not for diagnosis"):
        assert word in done.stdout


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.png"
    Image.fromarray(render(draw_patient(11), (), size=256, noise_seed=1).pixels).save(path)
    return path


def test_edit_by_hand_changes_the_film_inside_its_mask_only(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "edit.png"
    done = cars(
        "edit", str(film), "--insert", "effusion:left:0.8", "--seed", "3", "--out", str(out), "--masks", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    before, after, mask = (np.asarray(Image.open(p)) for p in (film, out, tmp_path / "mask.png"))
    assert (before[mask == 0] == after[mask == 0]).all()
    assert (after.astype(int) - before)[mask == 255].mean() > 5  # fluid is brighter than lung
    assert "ssim_outside" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--insert", "effusoin"], "effusoin"),
        (["--insert", "effusion:middle"], "middle"),
        (["--insert", "effusion:left:7"], "severity"),
        (["--insert", "fracture"], "fracture"),
        ([], "no operation"),
        (["--insert", "mass", "--delete", "mass"], "mass"),
    ],
)
def test_edits_that_cannot_be_are_refused_by_name(film: Path, tmp_path: Path, words: list[str], says: str) -> None:
    done = cars("edit", str(film), "--out", str(tmp_path / "x.png"), *words)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "x.png").exists()


def test_a_film_without_lungs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leg.png"
    Image.fromarray(np.tile(np.linspace(0, 255, 256, dtype=np.uint8), (256, 1))).save(path)
    done = cars("edit", str(path), "--insert", "mass", "--out", str(tmp_path / "x.png"))
    assert done.returncode == 2 and "lung" in done.stderr
