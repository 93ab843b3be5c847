"""The table of an evaluation, and the sentence read from it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from cars_core.digest import bytes_digest
from cars_core.evaluate.compare import COLUMNS, compare, evaluate, plain_sentence
from cars_core.evaluate.data import FilmSet
from schemas.errors import BadInput
from schemas.recipe import Evaluation

FINDINGS = ["effusion", "nodule", "mass"]
PAIR = [["effusion", "nodule"]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads waiting for each other on a busy machine make these small networks slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**changes: Any) -> Evaluation:
    return Evaluation(**{"backbone": "mobilenetv3_small_050", "image_size": 32, "steps": 6, "batch": 4,
                         "seeds": [0, 1], "bootstrap": 50} | changes)


def predictions(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Labels, and two arms of which the second knows more; two films a patient."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.4).astype(np.float32)
    noise = rng.random((2, n, 3))
    weak, strong = (np.clip(s * labels + (1 - s) * noise, 0, 1).astype(np.float32) for s in (0.1, 0.45))
    return labels, weak, strong, [f"p{i // 2}" for i in range(n)]


def table(real: np.ndarray, other: np.ndarray, labels: np.ndarray, patients: list[str], **changes: Any) -> pa.Table:
    return compare(real, other, labels=labels, patients=patients, findings=FINDINGS, combinations=PAIR,
                   settings=settings(**changes))


def pick(rows: pa.Table, arm: str, finding: str, measure: str) -> dict[str, Any]:
    found = [r for r in rows.to_pylist() if (r["arm"], r["finding"], r["measure"]) == (arm, finding, measure)]
    assert len(found) == 1
    return dict(found[0])


def test_rows_have_the_tables_columns_and_every_arm_finding_and_measure_once() -> None:
    labels, weak, strong, patients = predictions()
    rows = table(weak, strong, labels, patients)
    assert rows.schema.equals(COLUMNS)
    assert rows.num_rows == 3 * (3 + 2) * 3
    for r in rows.to_pylist():
        assert r["low"] <= r["high"]
        assert r["n"] == 40
        assert r["seeds"] == 2


def test_values_are_means_over_seeds_of_scikit_learns_numbers() -> None:
    labels, weak, strong, patients = predictions()
    rows = table(weak, strong, labels, patients)
    each = [[average_precision_score(labels[:, k], p[:, k]) for k in range(3)] for p in strong]
    assert pick(rows, "real+subset", "nodule", "AUPRC")["value"] == pytest.approx(np.mean([e[1] for e in each]))
    assert pick(rows, "real+subset", "macro", "AUPRC")["value"] == pytest.approx(np.mean(each))
    p = strong.mean(axis=0)[:, 0].astype(float)
    bits = np.mean([-x * np.log2(x) - (1 - x) * np.log2(1 - x) if 0 < x < 1 else 0.0 for x in p])
    assert pick(rows, "real+subset", "effusion", "entropy")["value"] == pytest.approx(bits)
    product = [average_precision_score(labels[:, 0] * labels[:, 1], q[:, 0].astype(float) * q[:, 1]) for q in strong]
    gaps = pick(rows, "real+subset", "gaps", "AUPRC")
    assert gaps["value"] == pytest.approx(np.mean(product))
    assert gaps["positives"] == int((labels[:, 0] * labels[:, 1]).sum())
    assert pick(rows, "real", "mass", "AUPRC")["positives"] == int(labels[:, 2].sum())


def test_the_difference_is_paired() -> None:
    """Unpaired resamples would drown a small steady gain in the films' own spread."""
    labels, weak, strong, patients = predictions()
    rows = table(weak, strong, labels, patients)
    d, a, b = (pick(rows, arm, "macro", "AUPRC") for arm in ("difference", "real", "real+subset"))
    assert d["value"] == pytest.approx(b["value"] - a["value"])
    same = pick(table(weak, weak, labels, patients), "difference", "macro", "AUPRC")
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_unknown_labels_are_left_out_and_the_arm_cannot_win_by_them() -> None:
    labels, weak, strong, patients = predictions()
    labels[:30, 1] = np.nan
    before = pick(table(weak, strong, labels, patients), "real", "nodule", "AUPRC")
    weak[:, :30, 1] = 1.0
    after = pick(table(weak, strong, labels, patients), "real", "nodule", "AUPRC")
    assert before == after
    assert before["n"] == 25
    kept = [average_precision_score(labels[30:, 1], p[30:, 1]) for p in weak]
    assert before["value"] == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(("label", "word"), [(0, "positive"), (1, "negative")])
def test_a_finding_the_test_films_cannot_judge_is_null_and_left_out_of_macro(label: int, word: str) -> None:
    """A 0 or a 1 in its place would move the macro by as much as any subset could."""
    labels, weak, strong, patients = predictions()
    labels[:, 2] = label
    rows = table(weak, strong, labels, patients)
    for arm in ("real", "real+subset", "difference"):
        for measure in ("AUPRC", "ECE", "entropy"):
            row = pick(rows, arm, "mass", measure)
            assert row["value"] is row["low"] is row["high"] is None
            assert row["note"] == f"undefined: no {word} film in test"
    macro = pick(rows, "real", "macro", "AUPRC")
    assert macro["note"].startswith("mean of 2 of 3 findings")
    assert macro["value"] == pytest.approx(
        np.mean([[average_precision_score(labels[:, k], p[:, k]) for k in (0, 1)] for p in weak]))


def test_combinations_nobody_shows_are_undefined_not_zero() -> None:
    labels, weak, strong, patients = predictions()
    labels[labels[:, 0] == 1, 1] = 0
    row = pick(table(weak, strong, labels, patients), "real", "gaps", "AUPRC")
    assert row["value"] is None
    assert row["positives"] == 0
    assert row["note"].startswith("undefined: 0 of 1 combinations")


def test_the_bootstrap_of_a_usual_evaluation_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 8)) < 0.2).astype(np.float32)
    arms = [rng.random((2, 500, 8)).astype(np.float32) for _ in range(2)]
    names = [f"f{k}" for k in range(8)]
    start = time.process_time()
    compare(arms[0], arms[1], labels=labels, patients=[str(i) for i in range(500)], findings=names,
            combinations=[names[:2]], settings=settings(bootstrap=200))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(("better", "verdict"), [(True, "The subset helps"), (False, "The subset harms")])
def test_the_sentence_names_the_direction_with_the_numbers(better: bool, verdict: str) -> None:
    labels, weak, strong, patients = predictions(200)
    rows = table(*((weak, strong) if better else (strong, weak)), labels, patients)
    said = plain_sentence(rows)
    d = pick(rows, "difference", "macro", "AUPRC")
    assert said.startswith(verdict)
    for number in (f"{d['value']:+.3f}", f"{d['low']:+.3f}", f"{d['high']:+.3f}", "100 test patients"):
        assert number in said


def test_an_interval_with_zero_in_it_is_no_difference_shown() -> None:
    labels, weak, _, patients = predictions()
    rows = table(weak, np.roll(weak, 1, axis=0), labels, patients)  # the same seeds in another order
    assert plain_sentence(rows).startswith("No difference shown")
    two = pa.concat_tables([rows, rows])
    with pytest.raises(BadInput, match="two macro AUPRC rows"):
        plain_sentence(two)


def films(n: int, seed: int, who: str) -> FilmSet:
    rng = np.random.default_rng(seed)
    store = {}
    for _ in range(n):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (40, 36), np.uint8)).save(out, "PNG")
        store[bytes_digest(out.getvalue())] = out.getvalue()
    labels = (np.arange(n)[:, None] % np.array([2, 3, 4]) == 0).astype(np.float32)
    return FilmSet(list(store), store.__getitem__, labels, [f"{who}{i}" for i in range(n)])


def run(tmp_path: Path, **changes: Any) -> pa.Table:
    sets = {"real": films(16, 1, "a"), "subset": films(6, 2, "a"), "validate": films(8, 3, "v"),
            "test": films(12, 4, "t")}
    given = {"findings": FINDINGS, "combinations": PAIR, "settings": settings(), "workdir": tmp_path / "w",
             "progress": lambda done, total: None}
    return evaluate(**(sets | given | changes))  # type: ignore[arg-type]


def test_evaluate_trains_both_arms_and_counts_its_work(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    rows = run(tmp_path, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (42 + 2 * 2 * 6,) * 2
    assert [d for d, _ in heard] == sorted(d for d, _ in heard)
    assert "6 subset films fill 27.3 % of the batch slots" in pick(rows, "real+subset", "macro", "AUPRC")["note"]
    assert rows.equals(run(tmp_path))
    assert pick(rows, "difference", "macro", "entropy")["value"] != 0


@pytest.mark.parametrize(("side", "other"), [("test", "real"), ("test", "subset"), ("test", "validate"),
                                             ("validate", "real"), ("validate", "subset")])
def test_a_patient_on_both_sides_is_refused_by_count_and_name(side: str, other: str, tmp_path: Path) -> None:
    """Leaked patients make any subset look helpful."""
    base = {"real": films(16, 1, "a"), "subset": films(6, 2, "a"), "validate": films(8, 3, "v"),
            "test": films(12, 4, "t")}
    leaky = base[side]
    shared = base[other].patients[2:4]
    leaky = FilmSet(leaky.objects, leaky.fetch, leaky.labels, [*shared, *leaky.patients[2:]])
    # a subset patient is a training patient, so that either of the two may be named
    where = "(real|subset)" if other in ("real", "subset") else other
    with pytest.raises(BadInput, match=rf"{side}: got 2 patients also in {where}, {min(shared)} among them"):
        run(tmp_path, **{side: leaky})


@pytest.mark.parametrize("name", ["real", "subset", "validate", "test"])
def test_an_empty_arm_is_refused(name: str, tmp_path: Path) -> None:
    empty = FilmSet([], lambda n: b"", np.zeros((0, 3), np.float32), [])
    with pytest.raises(BadInput, match=f"{name}: got no films"):
        run(tmp_path, **{name: empty})


def test_a_combination_of_findings_nobody_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"effusion\+hernia"):
        run(tmp_path, combinations=[["effusion", "hernia"]])
