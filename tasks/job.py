"""What every task is told: the recipe and the lake, as plain JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from cars_core import weights
from cars_core.cohort.sources.open import open_source
from cars_core.coverage.policy import check_policy
from cars_core.lake.lake import Lake
from cars_core.lake.storage import STORAGE_KEYS
from cars_core.phantom.population import films
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Cohort, Recipe, load_recipe, parse_recipe


@dataclass(frozen=True)
class Job:
    """The recipe with its lake and vocabulary opened."""

    recipe: Recipe
    lake: Lake
    vocabulary: Vocabulary


def storage_settings() -> dict[str, str]:
    """The storage settings of this process's environment, for lakes and sources on S3."""
    return {k: os.environ[k] for k in STORAGE_KEYS if k in os.environ}


def pseudonym_secret(cohort: Cohort) -> str | None:
    """The pseudonym key that `cohort.key_secret` names, from a Prefect Secret block; None where it names none.

    Raises:
        BadInput: there is no such block.
    """
    if cohort.key_secret is None:
        return None
    from prefect.blocks.system import Secret

    try:
        return str(Secret.load(cohort.key_secret).get())  # type: ignore[union-attr]
    except ValueError as e:
        raise BadInput("recipe: cohort.key_secret", cohort.key_secret, "the name of a Prefect Secret block") from e


def open_lake(uri: str) -> Lake:
    """A lake with the storage settings of this process's environment."""
    return Lake(uri, storage=storage_settings())


def read_job(recipe: str, overrides: list[str], lake: str | None) -> dict[str, Any]:
    """Check everything a build needs before anything is scheduled; returns the job as JSON.

    Raises:
        BadInput: a fault in the recipe, a finding the vocabulary lacks, a lake that cannot be written.
    """
    checked = load_recipe(recipe, overrides, lake=lake)
    vocabulary = load_vocabulary(checked.vocabulary)
    check_policy(checked, vocabulary)
    for name in (f for combination in checked.cohort.withheld for f in combination):
        if name not in vocabulary.names:
            raise BadInput(f"{recipe}: cohort.withheld", name, "one of " + ", ".join(vocabulary.names))
    for source in checked.cohort.sources:
        if source.source != "phantom" and not source.root:
            raise BadInput(f"{recipe}: cohort.root of {source.name}", "nothing",
                           "the folder of the films, as in --set cohort.root=FOLDER")
    if checked.cohort.source == "phantom":  # combinations that cannot be drawn are refused; none is drawn yet
        films(n=0, seed=checked.seed, size=checked.cohort.size, withheld=checked.cohort.withheld,
              thinned=[(t.findings, t.keep) for t in checked.cohort.thinned], split_of=str, vocabulary=vocabulary)
    for source in checked.cohort.sources:
        if source.source != "phantom":  # a label file that is not there is told before anything is scheduled
            open_source(source, vocabulary=vocabulary, storage=storage_settings())
    for split, share in (
        ("train", checked.cohort.splits.train),
        ("validate", checked.cohort.splits.validate_),
        ("test", checked.cohort.splits.test),
    ):
        if share == 0:
            raise BadInput(f"{recipe}: cohort.splits.{split}", share, "a share above 0")
    for kind in ("editor", "segmenter"):
        given = checked.editor.weights if kind == "editor" else checked.editor.segmenter
        weights.read_card(given or weights.BUILT_IN / kind, kind=kind)
    from cars_core.evaluate.backbones import build_backbone  # timm takes seconds, and not every command needs it

    evaluation = checked.evaluation
    build_backbone(
        evaluation.backbone,
        outputs=len(checked.gaps.findings),
        image_size=evaluation.image_size,
        seed=0,
        pretrained=evaluation.pretrained,
    )
    open_lake(checked.lake).ensure_writable()
    return checked.model_dump(mode="json", by_alias=True)


def require_splits(cohort: dict[str, Any]) -> None:
    """Raises BadInput when a split of an ingested cohort has no film: told before anything is generated."""
    for split in ("train", "validate", "test"):
        if not cohort["films_per_split"].get(split):
            raise BadInput(f"cohort: films of the {split} split", 0, "at least one; more films, or other cohort.splits")


def open_job(job: dict[str, Any]) -> Job:
    """Open a job inside a task."""
    recipe = parse_recipe(job)
    return Job(recipe, open_lake(recipe.lake), load_vocabulary(recipe.vocabulary))
