"""Rows and small programs the lake's tests share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pyarrow as pa

from cars_core.lake.lake import Lake
from cars_core.lake.subsets import Published
from schemas.tables import RENDERS, SAMPLES

CREATED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def renders(*edits: str, failed: bool = False) -> pa.Table:
    return pa.Table.from_pylist(
        [{"edit_id": e, "object": None if failed else "0" * 64, "mask": None if failed else "1" * 64,
          "error": "out of memory" if failed else None, "stack": "test", "seconds": 0.5} for e in edits],
        schema=RENDERS)


def samples(*edits: str, build: str = "b1", verdict: str = "accepted", **change: Any) -> pa.Table:
    """Accepted samples with an insert of an effusion each; `change` replaces columns in every row."""
    row = {"build": build, "image_id": "source", "source_object": "2" * 64, "object": "3" * 64, "mask": "4" * 64,
           "patient": "p1", "operations": [{"kind": "insert", "finding": "effusion", "side": "left", "severity": 0.5}],
           "source_present": 0, "present": 0b100, "absent": 0b1, "uncertain": 0, "gap": 0b100, "without": 0, "cell": "",
           "verdict": verdict,
           "reasons": [], "psnr_outside": 60.0, "licence": "CC0-1.0", **change}
    return pa.Table.from_pylist([{**row, "edit_id": e} for e in edits], schema=SAMPLES)


def publish(lake: Lake, rows: pa.Table, *, subset: str = "effusions", **change: Any) -> Published:
    build = rows["build"][0].as_py() if rows.num_rows else "b1"
    return lake.publish(**{"subset": subset, "build": build, "cohort": "c1", "rows": rows, "planned": 10,
                           "rejected": 3, "recipe": {"name": subset}, "code": "0.1", "created": CREATED, **change})


def die() -> None:
    """End this process as a power cut would: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_start(start: Path) -> None:
    """Say that this process is ready and wait for the others."""
    (start / f"ready-{os.getpid()}").touch()
    while not (start / "go").exists():
        time.sleep(0.002)


def race(pool: Pool, start: Path, function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run a function once for each arguments, all at the same moment, in as many processes of the pool."""
    start.mkdir()
    jobs = [pool.apply_async(function, (*a, start)) for a in arguments]
    until = time.monotonic() + 120
    while len(list(start.glob("ready-*"))) < len(jobs):
        assert time.monotonic() < until, "the processes did not start"
        time.sleep(0.01)
    (start / "go").touch()
    return [j.get(timeout=120) for j in jobs]


def publish_in_process(uri: str, storage: dict[str, str], content: str, subset: str, dies: bool,
                       start: Path) -> tuple[int, bool]:
    """One publisher of several: waits for the folder `start` to open, publishes; returns (version, new)."""
    lake = Lake(uri, storage=storage)
    rows = samples(content + "-1", content + "-2", build=f"build-{content}")
    lake.append("samples", rows, key=f"samples:{content}")
    wait_for_start(start)
    done = publish(lake, rows, subset=subset, before_commit=die if dies else None)
    return done.version, done.new


def append_in_process(uri: str, storage: dict[str, str], keys: list[str], start: Path) -> int:
    """One appender of several; returns how many of its appends were the first of their key."""
    lake = Lake(uri, storage=storage)
    wait_for_start(start)
    return sum(lake.append("renders", renders(key), key=key) for key in keys)
