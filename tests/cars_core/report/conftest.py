"""A small made-up build: films, edits, tables, and the store that holds its objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cars_core.report.page import BuildFacts, render_page
from cars_core.vocabulary import load_vocabulary
from schemas.tables import EVALUATIONS, GAPS, MEASURES, PLAN, SAMPLES

VOCABULARY = load_vocabulary()


@dataclass
class Build:
    """Rows of a build under construction; `html()` renders them."""

    objects: dict[str, bytes] = field(default_factory=dict)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[tuple[str, int]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def put(self, film: np.ndarray) -> str:
        buffer = BytesIO()
        Image.fromarray(film).save(buffer, "PNG")
        name = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.objects[name] = buffer.getvalue()
        return name

    def gap(self, *findings: str, observed: int, deficit: int, **more: Any) -> None:
        row = {"build": "b", "gap": VOCABULARY.mask(findings), "without": 0, "cell": "", "findings": list(findings),
               "order": len(findings), "films": 400, "observed": observed, "expected": 4.0, "lift": 0.5,
               "lift_low": 0.2, "lift_high": 0.9, "stated": observed, "with_uncertain": observed,
               "with_unmentioned": observed, "needed": observed + deficit, "deficit": deficit, "fillable": True,
               "reason": None, "planned": 2}
        self.gaps.append(row | more)

    def sample(self, *, finding: str = "effusion", kind: str = "insert", verdict: str = "accepted",
               reasons: tuple[str, ...] = (), size: int = 64, noise: float = 6.0, made: bool = True,
               before: tuple[str, ...] = ("mass",), **more: Any) -> dict[str, Any]:
        """Adds an edit that raises a square of a noisy ramp by 30 grey levels."""
        n = len(self.samples)
        rng = np.random.default_rng(n)
        source = np.clip(np.linspace(40, 200, size)[:, None] + rng.normal(0, noise, (size, size)), 0, 255)
        source = source.astype(np.uint8)
        box = slice(size // 4, size // 2)
        edit, mask = source.copy(), np.zeros_like(source)
        edit[box, box] = np.minimum(255, source[box, box].astype(int) + 30)
        mask[size // 4 - 3:size // 2 + 3, size // 4 - 3:size // 2 + 3] = 128
        mask[box, box] = 255
        had, has = VOCABULARY.mask(before), VOCABULARY.mask((*before, finding))
        row = {"build": "b", "edit_id": hashlib.sha256(f"edit {n}".encode()).hexdigest(), "image_id": f"image{n}",
               "source_object": self.put(source), "object": self.put(edit) if made else None,
               "mask": self.put(mask) if made else None, "patient": f"p{n}",
               "operations": [{"kind": kind, "finding": finding, "side": "left", "severity": 0.7}],
               "source_present": had, "present": has, "absent": 0, "uncertain": 0,
               "gap": has, "without": 0, "cell": "", "verdict": verdict, "reasons": list(reasons),
               "licence": "NIH-CC", "truth": None}
        row |= dict.fromkeys(MEASURES, 0.5 if made else None) | more
        self.samples.append(row)
        return row

    def result(self, arm: str, finding: str, measure: str, value: float | None, low: float | None,
               high: float | None, note: str | None = None) -> None:
        self.evaluations.append({
            "evaluation": "e", "subset": "pairs", "version": 3, "backbone": "resnet10t", "arm": arm,
            "finding": finding, "measure": measure, "value": value, "low": low, "high": high, "n": 101,
            "positives": 17, "seeds": 2, "note": note})

    def tables(self) -> dict[str, pa.Table]:
        plan = [{k: s[k] for k in ("build", "edit_id", "image_id", "patient", "operations", "source_present", "present",
                                   "absent", "uncertain", "gap", "without", "cell", "licence", "truth")}
                | {"rank": i, "object": s["source_object"], "cost": 1.0, "seed": i, "editor": "editor-digest",
                   "segmenter": "segmenter-digest"} for i, s in enumerate(self.samples)]
        return {"gaps": pa.Table.from_pylist(self.gaps, GAPS), "plan": pa.Table.from_pylist(plan, PLAN),
                "samples": pa.Table.from_pylist(self.samples, SAMPLES),
                "evaluations": pa.Table.from_pylist(self.evaluations, EVALUATIONS)}

    def html(self, *, truth: Callable[[dict[str, Any]], bytes | None] | None = None, **options: Any) -> str:
        verdicts = [s["verdict"] for s in self.samples]
        counts = {"films": 506, "patients": 480, "quarantined": sum(n for _, n in self.quarantined),
                  "planned": len(verdicts), "accepted": verdicts.count("accepted"),
                  "rejected": verdicts.count("rejected")}
        facts = {"name": "pairs", "subset": "pairs", "version": 3, "digest": "subset-digest", "build": "build-digest",
                 "seed": 7, "recipe": {"cohort": {"source": "nih"}, "gaps": {"min_count": 10}}, "code": "0.1.0",
                 "created": "2026-11-24T07:00:00Z", "counts": counts} | self.facts
        return render_page(build=BuildFacts(**facts), **self.tables(), quarantined=self.quarantined,
                           vocabulary=VOCABULARY, get=self.objects.__getitem__, truth=truth, **options)


@pytest.fixture
def build() -> Build:
    return Build()


@pytest.fixture
def full(build: Build) -> Build:
    """A build with something in every section."""
    build.gap("effusion", "mass", observed=3, deficit=7)
    build.gap("hernia", "edema", observed=0, deficit=10, fillable=False, reason="no editor for hernia", planned=0)
    build.gap("nodule", "edema", observed=30, deficit=0)
    build.sample()
    build.sample(finding="nodule", verdict="rejected", reasons=("seam 3.41 > 2",))
    build.sample(finding="pneumothorax", verdict="rejected",
                 reasons=("effect 1.2 < 3 (insert pneumothorax must darken)", "dice_left_lung 0.5 < 0.6"))
    build.sample(verdict="rejected", reasons=("error: no lung on this film",), made=False)
    build.quarantined = [("rotated by 90 degrees", 7), ("unreadable", 2)]
    for arm, v in (("real", (0.30, 0.25, 0.35)), ("real+subset", (0.34, 0.29, 0.39)),
                   ("difference", (0.04, 0.01, 0.07))):
        build.result(arm, "macro", "AUPRC", *v)
    for arm, v in (("real", (0.10, 0.05, 0.15)), ("real+subset", (0.08, 0.04, 0.12)),
                   ("difference", (-0.02, -0.05, 0.01))):
        build.result(arm, "macro", "ECE", *v)
        build.result(arm, "effusion", "ECE", *v)
    build.facts = {"sentence": "Macro AUPRC rises by 0.040.", "licences": ["NIH-CC"], "editor": {"parameters": 275_000},
                   "citation": ["Wang et al., CVPR 2017"], "stage_seconds": {"render": 184.6}}
    return build
