"""One build: from films to a published subset and its verdict."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from cars_core.generate.shard import shards
from tasks import stages
from tasks.progress import stage
from tasks.window import windowed


@flow(name="cars-build", log_prints=False, task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def build(recipe: str, overrides: list[str] = [], lake: str | None = None) -> dict[str, Any]:  # noqa: B006 (Prefect shows it as the form's default)
    """Build a subset.

    Args:
        recipe: path of a recipe file.
        overrides: `a.b=c` settings laid over it.
        lake: where tables and pictures go, instead of the recipe's own.
    """
    log, clock = get_run_logger(), Clock()
    job = stages.open_build(recipe, overrides, lake)

    # Read the films, turn labels into finding vectors, set bad films aside.
    cohort = clock("ingest", stages.ingest_cohort(job))
    log.info("%(accepted)s films, %(patients)s patients, %(set_aside)s set aside, %(quarantined)s quarantined", cohort)

    # Which combinations do the training films lack, and which edits would fill them?
    plan = clock("gaps and plan", stages.plan_edits(job, cohort["digest"]))
    log.info("%(gaps)s gaps, %(planned)s edits planned", plan)

    # Render the edits and judge them, a shard a task run; only what is missing is made.
    def submit(span: tuple[int, int]) -> Any:
        return stages.make_shard.submit(job, plan["build"], *span)

    edits, workers = plan["planned"], job["editor"]["workers"]
    with stage("edit", "edits") as report:
        report(0, edits)
        for span, shard in windowed(submit, shards(edits, job["editor"]["shard"]), width=workers):
            report(span[1], edits)
            log.info("edits %s-%s: %s accepted, %s rejected", *span, shard["accepted"], shard["rejected"])
    clock("edit and check", None)

    # Accepted samples become a version, by one commit.
    published = clock("publish", stages.publish(job, plan["build"], cohort["digest"]))

    # Does it help patients nobody else saw? And a page that shows all of it.
    evaluation = clock("evaluate", stages.evaluate(job, plan["build"], cohort["digest"], published["version"]))
    page = stages.page(job, plan["build"], cohort["digest"], published, evaluation, clock.seconds)
    return {
        **published,
        "build": plan["build"],
        "page": page,
        "sentence": evaluation["sentence"],
        "seconds": clock.total(),
    }


class Clock:
    """Seconds a stage took."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, result: Any) -> Any:
        now = time.monotonic()
        self.seconds[stage] = round(now - self.last, 1)
        self.last = now
        return result

    def total(self) -> float:
        return round(time.monotonic() - self.began, 1)
