"""From an ingested cohort to a written plan: the build's identity, its gaps, its edits."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from cars_core.anatomy.segment import load_segmenter
from cars_core.cohort.ingest import split_rows
from cars_core.coverage.gaps import find_gaps
from cars_core.coverage.plan import plan_edits
from cars_core.digest import digest
from cars_core.generate.denoiser import Denoiser, load_denoiser
from cars_core.generate.shard import render_key
from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Recipe

#: Change it when the same recipe and cohort give another plan or other verdicts.
CODE = "build-1"


def build_digest(recipe: Recipe, cohort: str, vocabulary: Vocabulary, *, editor: Denoiser, segmenter: str) -> str:
    """Names a build by all that decides its samples (not where the lake is, nor how it is scheduled)."""
    return digest(
        [
            CODE,
            recipe.name,
            recipe.seed,
            cohort,
            recipe.gaps.model_dump(),
            recipe.plan.model_dump(),
            recipe.gates.model_dump(),
            render_key(recipe.editor, editor=editor.digest, segmenter=segmenter),
            {kind: sorted(names) for kind, names in editor.offers.items()},
            [[f.name, list(f.parents), f.outline, f.sided, sorted(f.excludes)] for f in vocabulary.findings],
        ],
        length=16,
    )


def write_plan(lake: Lake, recipe: Recipe, *, cohort: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """Find the gaps of the training films and plan edits for them, or find the plan already there.

    Returns build, planned, gaps (count), fillable.

    Raises:
        BadInput: the editor was trained on films of this cohort's validation or test patients, or there
            is nothing to plan.
    """
    denoiser, segmenter = load_denoiser(recipe.editor.weights), load_segmenter(recipe.editor.segmenter)
    build = build_digest(recipe, cohort, vocabulary, editor=denoiser, segmenter=segmenter.digest)
    refuse_strangers(lake, cohort, denoiser, vocabulary)
    gaps = lake.read("gaps", where={"build": build})
    if not gaps.num_rows:
        train = split_rows(lake, cohort)
        found = find_gaps(train, recipe.gaps, vocabulary=vocabulary)
        if not found.num_rows:
            raise BadInput(
                "recipe: gaps.min_count",
                recipe.gaps.min_count,
                "a count some combination stays under; nothing is missing",
            )
        plan, gaps = plan_edits(
            train,
            found,
            recipe.plan,
            offered=denoiser.offers,
            vocabulary=vocabulary,
            seed=recipe.seed,
            build=build,
            render_key=render_key(recipe.editor, editor=denoiser.digest, segmenter=segmenter.digest),
            editor=denoiser.digest,
            segmenter=segmenter.digest,
            uncertain=recipe.gaps.uncertain,
        )
        lake.append("plan", plan, key=digest(["plan", build]))
        lake.append("gaps", gaps, key=digest(["gaps", build]))  # after the plan: gaps there means both are
    planned = lake.read("plan", columns=["edit_id"], where={"build": build}).num_rows
    if planned == 0:
        raise BadInput("plan", "no edit", f"gaps the editor can fill; first reason: {gaps['reason'][0].as_py()}")
    return {
        "build": build,
        "planned": planned,
        "gaps": gaps.num_rows,
        "fillable": pc.sum(gaps["fillable"]).as_py() or 0,
    }


def refuse_strangers(lake: Lake, cohort: str, denoiser: Denoiser, vocabulary: Vocabulary) -> None:
    """Law 1: an editor may not have seen an evaluation patient; and its findings must be this vocabulary's.

    Its card names the films it was trained on, by the first 12 digits of their `image_id`.
    """
    for name, bit in denoiser.findings:
        if vocabulary[name].bit != bit:
            raise BadInput(
                f"editor weights: {name}", f"bit {bit}", f"bit {vocabulary[name].bit}, as in this vocabulary"
            )
    if "trained_on" not in denoiser.card:
        raise BadInput(
            "editor card", "no trained_on", "the films the editor was trained on, so that a leak can be seen"
        )
    seen = set(denoiser.card["trained_on"])
    for split in ("validate", "test"):
        held = {i[:12] for i in split_rows(lake, cohort, split)["image_id"].to_pylist()}
        if seen & held:
            raise BadInput(
                "editor weights",
                f"trained on {len(seen & held)} films of the {split} split",
                "an editor that has seen training patients only (cars train editor RECIPE makes one)",
            )
