"""What Prefect costs: the same build with and without it, in one run, each in a fresh lake.

    python benchmarks/orchestration.py [RECIPE] [--set KEY=VALUE ...]

The scheduled build's seconds are counted inside the flow, so once its server is up. The plain build calls
the library's functions one after the other. Models are loaded before either, and the order alternates.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from cars_core.cohort.ingest import ingest
from cars_core.coverage.build import write_plan
from cars_core.evaluate.build import evaluate_subset
from cars_core.generate.shard import render_shard, shards
from cars_core.quality.check import check_shard, samples_of
from cars_core.report import artifacts
from cars_core.report.build import build_page
from cars_core.report.pictures import contact_sheet
from cars_core.version import CODE_VERSION
from schemas.recipe import public_recipe
from tasks.job import open_job, read_job


def plain(recipe: str, overrides: list[str], lake: str) -> float:
    """The build without Prefect; seconds."""
    began = time.monotonic()

    def silent(done: int, total: int) -> None:
        pass

    job = read_job(recipe, overrides, lake)
    j = open_job(job)
    r, vocabulary = j.recipe, j.vocabulary
    cohort = ingest(r.cohort, seed=r.seed, vocabulary=vocabulary, lake=j.lake, progress=silent)["digest"]
    plan = write_plan(j.lake, r, cohort=cohort, vocabulary=vocabulary)
    build = plan["build"]
    artifacts.gap_markdown(j.lake.read("gaps", where={"build": build}))
    for start, stop in shards(plan["planned"], r.editor.shard):
        span = {"build": build, "start": start, "stop": stop, "vocabulary": vocabulary}
        render_shard(j.lake, settings=r.editor, **span)
        check_shard(j.lake, gates=r.gates, segmenter=r.editor.segmenter, **span)
    samples = samples_of(j.lake, build)
    rows = samples.filter([v == "accepted" for v in samples["verdict"].to_pylist()])
    artifacts.verdict_markdown(samples)
    sheet = contact_sheet(rows.slice(0, 8).to_pylist(), j.lake.get)
    artifacts.image_markdown(sheet, "samples")
    version = j.lake.publish(
        subset=r.name, build=build, cohort=cohort, rows=rows, planned=samples.num_rows,
        rejected=samples.num_rows - rows.num_rows, recipe=public_recipe(r),
        code=CODE_VERSION, created=datetime.now(UTC)).version
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate_subset(j.lake, r, build=build, cohort=cohort, version=version, vocabulary=vocabulary,
                                workdir=Path(folder), progress=silent)
    artifacts.evaluation_markdown(j.lake.read("evaluations", where={"evaluation": found["evaluation"]}))
    build_page(j.lake, r, build=build, cohort=cohort, version=version, evaluation=found["evaluation"],
               sentence=found["sentence"], vocabulary=vocabulary, seconds={}, code=CODE_VERSION,
               created=datetime.now(UTC).isoformat())
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="flows/recipes/demo.yaml")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--pairs", type=int, default=2)
    args = parser.parse_args()
    from flows.build import build as scheduled

    with tempfile.TemporaryDirectory() as folder:
        warm = [*args.set, "cohort.films=40", "plan.max_edits=2", "editor.steps=1", "evaluation.steps=2",
                "evaluation.bootstrap=20"]
        scheduled(args.recipe, warm, f"{folder}/warm")  # server up, models loaded
        ratios = []
        for i in range(args.pairs):
            runs = [("prefect", lambda at: float(scheduled(args.recipe, args.set, at)["seconds"])),
                    ("plain", lambda at: plain(args.recipe, args.set, at))]
            took = {name: run(f"{folder}/{name}{i}") for name, run in (runs if i % 2 == 0 else runs[::-1])}
            ratios.append(took["prefect"] / took["plain"])
            print(f"pair {i + 1}: with Prefect {took['prefect']:.1f} s, without {took['plain']:.1f} s, "
                  f"ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {median(ratios):.3f}: orchestration costs {100 * (median(ratios) - 1):.1f} % of the build")


if __name__ == "__main__":
    main()
