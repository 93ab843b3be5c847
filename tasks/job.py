"""What every task is told: the recipe and the lake, as plain JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Recipe, load_recipe, parse_recipe

#: Storage settings a lake may take from the environment of whoever runs the task; never put in a job.
_STORAGE = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ALLOW_HTTP",
)


@dataclass(frozen=True)
class Job:
    """The recipe with its lake and vocabulary opened."""

    recipe: Recipe
    lake: Lake
    vocabulary: Vocabulary


def open_lake(uri: str) -> Lake:
    """A lake with the storage settings of this process's environment."""
    return Lake(uri, storage={k: os.environ[k] for k in _STORAGE if k in os.environ})


def read_job(recipe: str, overrides: list[str], lake: str | None) -> dict[str, Any]:
    """Check everything a build needs before anything is scheduled; returns the job as JSON.

    Raises:
        BadInput: a fault in the recipe, a finding the vocabulary lacks, a lake that cannot be written.
    """
    checked = load_recipe(recipe, overrides, lake=lake)
    vocabulary = load_vocabulary(checked.vocabulary)
    for name in [*checked.gaps.findings, *(f for combination in checked.cohort.withheld for f in combination)]:
        if name not in vocabulary.names:
            raise BadInput(f"{recipe}: findings", name, "one of " + ", ".join(vocabulary.names))
    if checked.cohort.source != "phantom" and not checked.cohort.root:
        raise BadInput(f"{recipe}: cohort.root", "nothing", "the folder of the films, as in --set cohort.root=FOLDER")
    open_lake(checked.lake).ensure_writable()
    return checked.model_dump(mode="json", by_alias=True)


def open_job(job: dict[str, Any]) -> Job:
    """Open a job inside a task."""
    recipe = parse_recipe(job)
    return Job(recipe, open_lake(recipe.lake), load_vocabulary(recipe.vocabulary))
