"""From an ingested cohort to a written plan: the build's identity, its gaps, its edits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cars_core.anatomy.segment import load_segmenter
from cars_core.cohort.ingest import split_rows
from cars_core.coverage.gaps import find_gaps, group_training
from cars_core.coverage.plan import Planned, plan_edits
from cars_core.coverage.planning.draw import SEVERITY, load_presentation
from cars_core.coverage.plausible import training_plausibility
from cars_core.coverage.reference import load_reference
from cars_core.digest import digest
from cars_core.generate.denoiser import Denoiser, load_denoiser
from cars_core.generate.shard import render_key
from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Recipe

#: Change it when the same recipe and cohort give another plan or other verdicts.
CODE = "build-2"


def build_digest(recipe: Recipe, cohort: str, vocabulary: Vocabulary, *, editor: Denoiser, segmenter: str) -> str:
    """Names a build by all that decides its samples (not where the lake is, nor how it is scheduled)."""
    drawn = load_presentation()
    return digest(
        [
            CODE,
            recipe.name,
            recipe.seed,
            cohort,
            recipe.gaps.model_dump(),
            [_read(name, vocabulary) for name in (recipe.gaps.target, recipe.gaps.plausible.reference)],
            recipe.plan.model_dump(),
            recipe.gates.model_dump(),
            render_key(recipe.editor, editor=editor.digest, segmenter=segmenter),
            {kind: sorted(names) for kind, names in editor.offers.items()},
            [
                [f.name, list(f.parents), f.outline, f.sided, sorted(f.excludes), {k: sorted(v) for k, v in
                                                                                   f.aliases.items()}]
                for f in vocabulary.findings
            ],
            [SEVERITY, {k: list(v) for k, v in drawn.sides.items()}, {k: list(v) for k, v in drawn.degrees.items()}],
        ],
        length=16,
    )


def _read(name: str | None, vocabulary: Vocabulary) -> list[list[int]] | None:
    """What a reference says, not where it lies: a file of the same name may say something else tomorrow."""
    if name is None:
        return None
    found = load_reference(name, vocabulary=vocabulary)
    return [found.masks.tolist(), found.films.tolist()]


def draft_plan(lake: Lake, recipe: Recipe, *, cohort: str, vocabulary: Vocabulary) -> Planned:
    """The gaps of a cohort's training films and the edits that a build of the recipe would make of them.

    Nothing is rendered or written. A cohort whose films were not read (`read_films: false`) can be planned over too.

    Raises:
        BadInput: the editor was trained on films of this cohort's validation or test patients, or there
            is nothing to plan.
    """
    denoiser, segmenter = load_denoiser(recipe.editor.weights), load_segmenter(recipe.editor.segmenter)
    build = build_digest(recipe, cohort, vocabulary, editor=denoiser, segmenter=segmenter.digest)
    refuse_strangers(lake, cohort, denoiser, vocabulary)
    train = split_rows(lake, cohort)
    if not train.num_rows:
        unread = lake.read("cohort", where={"cohort": cohort, "split": "train", "status": "unread"})
        train = unread.drop_columns(["image_id", "object"]).sort_by("record")
    return _plan(train, recipe, vocabulary=vocabulary, denoiser=denoiser, segmenter=segmenter.digest, build=build)


def _plan(
    train: pa.Table, recipe: Recipe, *, vocabulary: Vocabulary, denoiser: Denoiser, segmenter: str, build: str
) -> Planned:
    if not train.num_rows:
        raise BadInput("cohort", "no accepted training film", "training films to find gaps in")
    grouped = group_training(train, recipe.gaps, vocabulary=vocabulary)
    plausible = training_plausibility(train, recipe.gaps, vocabulary=vocabulary)
    found = find_gaps(grouped, recipe.gaps, vocabulary=vocabulary, plausible=plausible)
    if not found.num_rows:
        raise BadInput(
            "recipe: gaps.min_count",
            recipe.gaps.min_count,
            "a count some combination stays under; nothing is missing",
        )
    return plan_edits(
        train,
        found,
        recipe.plan,
        offered=denoiser.offers,
        vocabulary=vocabulary,
        seed=recipe.seed,
        build=build,
        render_key=render_key(recipe.editor, editor=denoiser.digest, segmenter=segmenter),
        editor=denoiser.digest,
        segmenter=segmenter,
        uncertain=recipe.gaps.uncertain,
        plausible=plausible,
    )


def write_plan(lake: Lake, recipe: Recipe, *, cohort: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """Find the gaps of the training films and plan edits for them, or find the plan already there.

    Returns build, planned, gaps (count), fillable.

    Raises:
        BadInput: as `draft_plan`, or no edit could be planned.
    """
    denoiser, segmenter = load_denoiser(recipe.editor.weights), load_segmenter(recipe.editor.segmenter)
    build = build_digest(recipe, cohort, vocabulary, editor=denoiser, segmenter=segmenter.digest)
    refuse_strangers(lake, cohort, denoiser, vocabulary)
    gaps = lake.read("gaps", where={"build": build})
    if not gaps.num_rows:
        train = split_rows(lake, cohort)
        made = _plan(train, recipe, vocabulary=vocabulary, denoiser=denoiser, segmenter=segmenter.digest, build=build)
        gaps = made.gaps
        lake.append("plan", made.plan, key=digest(["plan", build]))
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
