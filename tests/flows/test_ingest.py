"""`cars ingest` as a user types it: a table, a page, a second run that reads nothing, and a full disk."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cars_core.lake.lake import Lake
from cars_core.lake.storage import LocalStorage

ROOT = Path(__file__).resolve().parents[2]


def cars(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flows.cli", *words], capture_output=True, text=True, cwd=ROOT,
                          timeout=300)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sim") / "mimic"
    done = cars("phantom", "--n", "5", "--size", "128", "--layout", "mimic", "--out", str(root))
    assert done.returncode == 0, done.stderr
    (root.parent / "key").write_text("a secret of sixteen bytes or more")
    bad = next(root.rglob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:200])
    return root


def asked(tree: Path, lake: Path) -> list[str]:
    return ["ingest", "flows/recipes/mimic.yaml", "--lake", str(lake), "--set", f"cohort.root={tree}", "--set",
            f"cohort.key_file={tree.parent / 'key'}", "--set", "cohort.size=64", "--json"]


def test_a_cohort_is_taken_in_and_shown_and_not_read_twice(tree: Path, tmp_path: Path) -> None:
    first = cars(*asked(tree, tmp_path / "lake"))
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout.splitlines()[-1])
    assert (said["accepted"], said["quarantined"]) == (4, 1)
    assert "image is truncated or damaged" in " ".join(first.stderr.split())
    assert "quarantined" in Path(said["page"]).read_text().lower()
    again = cars(*asked(tree, tmp_path / "lake"))
    assert json.loads(again.stdout.splitlines()[-1]) == said
    assert "5 of 5 done" in again.stderr
    subjects = {p.name for p in (tree / "files").glob("*/*")}
    text = first.stdout + first.stderr + str(Lake(str(tmp_path / "lake")).read("cohort").to_pylist())
    assert subjects and not any(s in text for s in subjects)


@pytest.mark.parametrize(("words", "told"), [
    (["cohort.root=none"], "none"), (["cohort.key_file=none"], "key_file"), (["cohort.labeler=best"], "labeler"),
    (["cohort.screen.words=off"], "text"), (["cohort.source=imaginary"], "source"),
])
def test_what_is_wrong_is_one_line_and_exit_2(tree: Path, tmp_path: Path, words: list[str], told: str) -> None:
    done = cars(*asked(tree, tmp_path / "lake"), *(w for word in words for w in ("--set", word)))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and told in done.stderr.splitlines()[-1]


def test_a_full_disk_says_so_and_the_same_command_goes_on(tree: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch,
                                                          capfd: pytest.CaptureFixture[str]) -> None:
    from flows import cli

    def full(self: LocalStorage, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", self.root)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["cars", *asked(tree, tmp_path / "lake")])
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "require_room", full)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 1
    told = " ".join(capfd.readouterr().err.split())
    assert "No space left on device" in told and "goes on where this one stopped" in told
    done = cars(*asked(tree, tmp_path / "lake"))
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["accepted"] == 4
