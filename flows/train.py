"""Training of the editor on the training patients of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cars_core.anatomy.segment import load_segmenter
from cars_core.cohort.ingest import ingest
from cars_core.generate.bases import cohort_bases, simulated_bases
from cars_core.generate.train import train_editor as train
from tasks.job import open_job, read_job


def train_editor(
    recipe: str,
    overrides: list[str],
    lake: str | None,
    *,
    out: Path,
    steps: int,
    batch: int,
    pairs: int,
    simulated: int,
    seed: int,
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Ingest the recipe's cohort if need be, train, and return the card."""
    job = open_job(read_job(recipe, overrides, lake))
    cohort = ingest(
        job.recipe.cohort,
        seed=job.recipe.seed,
        vocabulary=job.vocabulary,
        lake=job.lake,
        progress=lambda done, total: report("ingest", done, total),
    )
    bases = cohort_bases(
        job.lake,
        cohort["digest"],
        load_segmenter(job.recipe.editor.segmenter),
        progress=lambda done, total: report("masks", done, total),
    )
    real = len(bases)
    bases += simulated_bases(
        simulated, seed=seed, vocabulary=job.vocabulary, progress=lambda done, total: report("simulate", done, total)
    )
    stage = {"name": "pairs"}
    source = f"{Path(recipe).name} ({job.recipe.cohort.source})"
    return train(
        out,
        bases=bases,
        vocabulary=job.vocabulary,
        steps=steps,
        batch=batch,
        pairs=pairs,
        seed=seed,
        data=f"{real} films of training patients of {source}, {simulated} simulated films; findings laid over them "
        "by cars_core.phantom.findings.overlay",
        command=f"cars train editor {recipe} --steps {steps} --batch {batch} --pairs {pairs} "
        f"--simulated {simulated} --seed {seed}",
        progress=lambda done, total: report(stage["name"], done, total),
        stage=lambda name: stage.update(name=name),
    )
