"""The scores of report labelling are the quantities they are called."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from schemas.errors import BadInput

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "reports.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_reports", _PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


NAMES = ("a", "b", "c")


def _sets(table: np.ndarray) -> list[frozenset[str]]:
    return [frozenset(n for n, there in zip(NAMES, row, strict=True) if there) for row in table]


def _some(reports: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    so = rng.random((reports, 3)) < (0.5, 0.2, 0.1)
    return so, so ^ (rng.random(so.shape) < 0.2)


def test_precision_recall_and_f1_are_those_of_scikit_learn(bench: ModuleType) -> None:
    so, said = _some()
    t = bench.tally(_sets(so), _sets(said), NAMES)
    sums = [x.sum(axis=0) for x in (t.right, t.wrong, t.missed)]
    for average, got in ((None, bench.prf(*sums)), ("micro", bench.prf(*(s.sum() for s in sums)))):
        expected = precision_recall_fscore_support(so, said, average=average)[:3]
        np.testing.assert_allclose(np.array(got), np.array(expected), rtol=1e-12)


def test_what_is_left_out_counts_neither_for_nor_against(bench: ModuleType) -> None:
    stated = [frozenset("a"), frozenset("b"), frozenset()]
    found = [frozenset("b"), frozenset("b"), frozenset("c")]
    t = bench.tally(stated, found, NAMES, [frozenset("ab"), frozenset(), frozenset("c")])
    assert (t.right.sum(), t.wrong.sum(), t.missed.sum()) == (1, 0, 0)


def test_intervals_hold_the_score_narrow_with_more_reports_and_repeat(bench: ModuleType) -> None:
    widths = []
    for reports in (60, 960):
        so, said = _some(reports)
        t = bench.tally(_sets(so), _sets(said), NAMES)
        each, micro, macro = bench.f1_intervals(t, resamples=300)
        f1 = bench.prf(*(x.sum(axis=0) for x in (t.right, t.wrong, t.missed)))[2]
        assert (each[0] < f1).all() and (f1 < each[1]).all()
        pooled = float(bench.prf(t.right.sum(), t.wrong.sum(), t.missed.sum())[2])
        assert micro[0] < pooled < micro[1]
        assert macro[0] < f1.mean() < macro[1]
        np.testing.assert_array_equal(micro, bench.f1_intervals(t, resamples=300)[1])
        widths.append(micro[1] - micro[0])
    assert widths[1] < 0.4 * widths[0]


def test_a_finding_that_no_report_has_does_not_spoil_the_table(bench: ModuleType) -> None:
    t = bench.tally([frozenset("a")] * 5, [frozenset("a")] * 4 + [frozenset()], NAMES)
    text = bench.table(t, "few")
    assert text.splitlines()[2].split()[:6] == ["a", "5", "4", "0", "1", "100.0"]
    assert next(x for x in text.splitlines() if x.startswith("micro")).split()[5:8] == ["100.0", "80.0", "88.9"]


def test_simulated_reports_are_those_of_the_seed_and_speak_of_many_findings(bench: ModuleType) -> None:
    one, again, other = bench.simulated_reports(40, 5), bench.simulated_reports(40, 5), bench.simulated_reports(40, 6)
    assert [r.text for r in one] == [r.text for r in again]
    assert [r.text for r in one] != [r.text for r in other]
    assert len({s.finding for r in one for s in r.statements}) >= 10


def test_sides_are_joined_and_both_is_left_and_right(bench: ModuleType) -> None:
    assert bench._sides(["left", None, "right"]) == bench._sides(["both"]) == {"left", "right"}
    assert bench._sides([None]) == frozenset()


def test_a_page_keeps_what_stands_round_its_blocks_and_can_be_filled_again(bench: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n\n<!-- a -->\n<!-- /a -->\n\nTwo\n", encoding="utf-8")
    for text in ("first \\1", "second"):
        bench.write(page, {"a": text})
        assert page.read_text(encoding="utf-8") == (
            f"# One\n\n<!-- a -->\n\n```text\n{text}\n```\n\n<!-- /a -->\n\nTwo\n")
    for wrong in ("b", "/a"):
        with pytest.raises(BadInput, match="no block"):
            bench.write(page, {wrong: "text"})
    with pytest.raises(BadInput, match="as committed"):
        bench.write(tmp_path / "none.md", {"a": "text"})


def test_the_committed_page_has_every_block_the_benchmarks_fill(bench: ModuleType) -> None:
    page = (_PATH.parent.parent / "docs" / "reports.md").read_text(encoding="utf-8")
    for block in ("held-out", "all", "pooled", "shares", "speed", "simulated", "samples", "libraries"):
        page = bench.fill(page, block, "text")
    assert page.count("```text\ntext\n```") == 8
