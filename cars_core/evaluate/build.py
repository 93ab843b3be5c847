"""The evaluation of a published subset: films and labels out of the lake, rows back into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.cohort.ingest import split_rows
from cars_core.digest import digest, file_digest
from cars_core.evaluate.compare import evaluate, plain_sentence
from cars_core.evaluate.data import FilmSet
from cars_core.lake.lake import Lake
from cars_core.lake.subsets import subset_digest, subset_rows
from cars_core.vocabulary import Vocabulary
from schemas.recipe import Evaluation, Recipe
from schemas.tables import EVALUATIONS

CODE = "evaluation-1"


def labels_of(rows: pa.Table, bits: list[int], settings: Evaluation) -> NDArray[np.float32]:
    """1 present, 0 absent, NaN for what nothing is taught of, float32 [N, K]; the settings map what is uncertain or not
    mentioned."""
    present, absent, uncertain = (
        np.asarray(rows[c].to_numpy(), np.int64)[:, None] >> np.asarray(bits, np.int64) & 1 == 1
        for c in ("present", "absent", "uncertain")
    )
    out = np.where(present, 1.0, np.where(absent, 0.0, np.nan)).astype(np.float32)
    if settings.uncertain != "ignore":
        out[uncertain] = float(settings.uncertain == "present")
    if settings.unmentioned == "absent":
        out[~(present | absent | uncertain)] = 0.0
    return out


def film_set(lake: Lake, rows: pa.Table, bits: list[int], settings: Evaluation) -> FilmSet:
    """Films of COHORT or SAMPLES rows with the labels of some findings."""
    return FilmSet(
        objects=rows["object"].to_pylist(),
        fetch=lake.get,
        labels=labels_of(rows, bits, settings),
        patients=rows["patient"].to_pylist(),
    )


def filled_combinations(lake: Lake, build: str, members: pa.Table) -> list[list[str]]:
    """Combinations of two findings or more, over all films, that some published edit brought together, sorted."""
    vectors = [(r["present"], r["source_present"]) for r in members.select(["present", "source_present"]).to_pylist()]
    gaps = lake.read("gaps", where={"build": build}).to_pylist()
    return sorted(
        g["findings"]
        for g in gaps
        if g["order"] > 1
        and not g["without"]
        and not g["cell"]
        and any(after & g["gap"] == g["gap"] and before & g["gap"] != g["gap"] for after, before in vectors)
    )


def evaluate_subset(
    lake: Lake,
    recipe: Recipe,
    *,
    build: str,
    cohort: str,
    version: int,
    vocabulary: Vocabulary,
    workdir: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Fine-tune with and without `recipe.name@version`, or find the rows already there.

    Returns evaluation (digest), sentence, rows (count).
    """
    findings = recipe.gaps.findings
    members = subset_rows(lake, recipe.name, version)
    filled = filled_combinations(lake, build, members)
    pretrained = file_digest(recipe.evaluation.pretrained) if recipe.evaluation.pretrained else None
    settings = recipe.evaluation.model_dump(exclude={"pretrained"})
    key = digest([CODE, cohort, subset_digest(members), findings, filled, settings, pretrained])
    there = lake.read("evaluations", where={"evaluation": key})
    if not there.num_rows:
        bits = [vocabulary[f].bit for f in findings]
        splits = {
            s: film_set(lake, split_rows(lake, cohort, s), bits, recipe.evaluation)
            for s in ("train", "validate", "test")
        }
        rows = evaluate(
            real=splits["train"],
            subset=film_set(lake, members, bits, recipe.evaluation),
            validate=splits["validate"],
            test=splits["test"],
            findings=findings,
            combinations=filled,
            settings=recipe.evaluation,
            workdir=workdir,
            progress=progress,
        )
        fixed = {"evaluation": key, "subset": recipe.name, "version": version}
        there = pa.Table.from_pylist([{**fixed, **r} for r in rows.to_pylist()], schema=EVALUATIONS)
        lake.append("evaluations", there, key=digest(["evaluations", key]))
    return {"evaluation": key, "sentence": plain_sentence(there), "rows": there.num_rows}
