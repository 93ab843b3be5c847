"""`cars phantom`: one command, a cohort; a wrong argument, one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.phantom import simulate
from schemas.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def cars(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flows.cli", *words], cwd=ROOT, capture_output=True, text=True,
                          timeout=300)


def test_one_command_writes_a_cohort_and_says_where(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    done = cars("phantom", "--n", "6", "--layout", "mimic", "--size", "64", "--seed", "5", "--out", str(out))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["films"], manifest["layout"], manifest["size"]) == (6, "mimic", 64)
    assert len(list(out.rglob("*.jpg"))) == len(list((out / "files").rglob("*.txt"))) == 6
    assert str(out) in done.stderr and "6 films" in done.stderr and "finding" in done.stderr
    again = cars("phantom", "--n", "6", "--layout", "mimic", "--size", "64", "--out", str(out))
    assert again.returncode == 2 and len(again.stderr.strip().splitlines()) == 1 and str(out) in again.stderr


@pytest.mark.parametrize(("words", "says"), [
    (["--n", "0"], "--n: got 0; expected 1 to"),
    (["--n", "2", "--size", "0"], "--size: got 0; expected 64 to 1024"),
    (["--n", "2", "--layout", "padchest"], "padchest; expected one of nih, chexpert, mimic, dicom"),
    (["--n", "2", "--layout", "mimic", "--bits", "12"], "got 12; expected 8"),
])
def test_a_wrong_argument_is_one_line_and_exit_2(words: list[str], says: str, tmp_path: Path) -> None:
    done = cars("phantom", *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("workers", 0), ("workers", 65), ("n", 1_000_001)])
def test_settings_out_of_range_are_named(name: str, value: int, tmp_path: Path) -> None:
    settings = {"n": 1, "size": 64, "seed": 0, "bits": None, "workers": 1, name: value}
    with pytest.raises(BadInput, match=f"--{name}: got {value}"):
        simulate(out=tmp_path / "out", layout="nih", progress=lambda done: None, **settings)  # type: ignore[arg-type]


def test_the_command_starts_no_scheduler() -> None:
    code = "import sys, flows.phantom, cars_core.phantom.layouts.write; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_seed_is_a_population(tmp_path: Path) -> None:
    made = [simulate(n=2, out=tmp_path / str(i), layout="nih", size=64, seed=seed, bits=None, workers=1,
                     progress=lambda done: None) for i, seed in enumerate((1, 1, 2))]
    assert made[0] == made[1] != made[2]
