"""The factory's steps as Prefect tasks. Each opens the job, calls one pure function, returns counts."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cars_core.cohort.ingest import ingest
from cars_core.coverage.build import write_plan
from cars_core.evaluate.build import evaluate_subset
from cars_core.generate.shard import render_shard
from cars_core.quality.check import check_shard, samples_of
from cars_core.report import artifacts
from cars_core.report.build import build_page
from cars_core.report.pictures import contact_sheet
from cars_core.version import CODE_VERSION
from schemas.errors import BadInput
from schemas.recipe import public_recipe
from tasks.job import Job, open_job, pseudonym_secret, read_job, require_splits, storage_settings
from tasks.progress import stage, tell

Json = dict[str, Any]


def _worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Bad input stays bad; anything else (a store that is away, a lost race) may pass."""
    try:
        state.result()
    except BadInput:
        return False
    except Exception:
        return True
    return False


_RETRIED: Json = {"retries": 2, "retry_delay_seconds": [2, 10], "retry_condition_fn": _worth_retrying}


@task(name="read recipe")
def open_build(recipe: str, overrides: list[str], lake: str | None) -> Json:
    """Recipe -> job; refuses faults before anything runs."""
    return read_job(recipe, overrides, lake)


@task(name="ingest", **_RETRIED)
def ingest_cohort(job: Json) -> Json:
    """Films and labels into the lake, a bad film as a quarantined row."""
    j = open_job(job)
    with stage("ingest", "films") as report:
        found = ingest(j.recipe.cohort, seed=j.recipe.seed, vocabulary=j.vocabulary, lake=j.lake, progress=report,
                       storage=storage_settings(), secret=pseudonym_secret(j.recipe.cohort))
    require_splits(found)
    return found


@task(name="gaps and plan", **_RETRIED)
def plan_edits(job: Json, cohort: str) -> Json:
    """What is missing, and the smallest edits that fill it."""
    j = open_job(job)
    planned = write_plan(j.lake, j.recipe, cohort=cohort, vocabulary=j.vocabulary)
    gaps = j.lake.read("gaps", where={"build": planned["build"]})
    create_markdown_artifact(
        key="gaps", markdown=artifacts.gap_markdown(gaps), description="Combinations the training films lack"
    )
    return planned


@task(name="shard", task_run_name="edits {start}-{stop}", **_RETRIED)
def make_shard(job: Json, build: str, start: int, stop: int) -> Json:
    """Render and judge the edits of plan ranks [start, stop): only what is missing is made."""
    j = open_job(job)
    made = render_shard(
        j.lake,
        build=build,
        start=start,
        stop=stop,
        settings=j.recipe.editor,
        vocabulary=j.vocabulary,
        progress=lambda done, total: tell(f"edits-{start}", done, total),
    )
    judged = check_shard(
        j.lake,
        build=build,
        start=start,
        stop=stop,
        gates=j.recipe.gates,
        segmenter=j.recipe.editor.segmenter,
        vocabulary=j.vocabulary,
        progress=lambda done, total: tell(f"check-{start}", done, total),
    )
    return {**made, **judged}


@task(name="publish", **_RETRIED)
def publish(job: Json, build: str, cohort: str) -> Json:
    """Accepted samples become `name@N` by one commit; equal content publishes nothing new.

    Where too few passed, the page of the rejects is written and nothing is published.
    """
    j = open_job(job)
    samples = samples_of(j.lake, build)
    accepted = samples.filter([v == "accepted" for v in samples["verdict"].to_pylist()])
    _show_samples(j, samples, accepted)
    if accepted.num_rows < j.recipe.min_accepted:
        where = _page(j, build, cohort, version=None, evaluation=None, sentence="", seconds={})
        raise BadInput(
            "recipe: min_accepted",
            j.recipe.min_accepted,
            f"no more than the {accepted.num_rows} of {samples.num_rows} edits that passed; nothing was published, "
            f"and {where} shows why",
        )
    rejected = samples.num_rows - accepted.num_rows
    made = j.lake.publish(
        subset=j.recipe.name,
        build=build,
        cohort=cohort,
        rows=accepted,
        planned=samples.num_rows,
        rejected=rejected,
        recipe=public_recipe(j.recipe),
        code=CODE_VERSION,
        created=datetime.now(UTC),
    )
    counts = {"planned": samples.num_rows, "accepted": accepted.num_rows, "rejected": rejected}
    return {"subset": made.subset, "version": made.version, "digest": made.digest, "new": made.new, **counts}


def _show_samples(j: Job, samples: pa.Table, accepted: pa.Table) -> None:
    create_markdown_artifact(
        key="verdicts", markdown=artifacts.verdict_markdown(samples), description="Verdicts and reasons"
    )
    if accepted.num_rows:
        sheet = contact_sheet(accepted.slice(0, 8).to_pylist(), j.lake.get)
        picture = artifacts.image_markdown(sheet, "source, edit and difference of 8 samples")
        create_markdown_artifact(key="contact-sheet", markdown=picture, description="Source, edit, difference")


@task(name="evaluate", **_RETRIED)
def evaluate(job: Json, build: str, cohort: str, version: int) -> Json:
    """Fine-tune with and without the subset; rows with intervals."""
    j = open_job(job)
    with stage("evaluate", "steps") as report, tempfile.TemporaryDirectory(prefix="cars-") as folder:
        found = evaluate_subset(
            j.lake,
            j.recipe,
            build=build,
            cohort=cohort,
            version=version,
            vocabulary=j.vocabulary,
            workdir=Path(folder),
            progress=report,
        )
    rows = j.lake.read("evaluations", where={"evaluation": found["evaluation"]})
    create_markdown_artifact(
        key="evaluation", markdown=artifacts.evaluation_markdown(rows), description=found["sentence"]
    )
    return found


@task(name="page", **_RETRIED)
def page(job: Json, build: str, cohort: str, published: Json, evaluation: Json, seconds: dict[str, float]) -> str:
    """One offline HTML file that tells the build's story."""
    return _page(
        open_job(job),
        build,
        cohort,
        version=published["version"],
        evaluation=evaluation["evaluation"],
        sentence=evaluation["sentence"],
        seconds=seconds,
    )


def _page(j: Job, build: str, cohort: str, **what: Any) -> str:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    uri = build_page(
        j.lake,
        j.recipe,
        build=build,
        cohort=cohort,
        vocabulary=j.vocabulary,
        code=CODE_VERSION,
        created=created,
        **what,
    )
    link = Path(uri).as_uri() if uri.startswith("/") else uri
    create_link_artifact(key="page", link=link, description="The build's page")
    return uri
