"""A film's limits are kept by the kernel: which of them ended a process is told by its exit status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

_SCRIPT = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[1])
from cars_core.cohort.reading import Limits, paused
limits = Limits(0.2, 1 << 30)
{}
"""


def _status(body: str) -> int:
    return subprocess.run([sys.executable, "-c", _SCRIPT.format(body), json.dumps(sys.path)], timeout=120).returncode


@pytest.mark.parametrize(("body", "status"), [
    ("with limits:\n    while True: pass", -signal.SIGPROF),
    ("with limits:\n    time.sleep(100)", -signal.SIGALRM),
    ("with limits:\n    with paused():\n        time.sleep(1.5)\n    while True: pass", -signal.SIGPROF),
], ids=["computing", "waiting", "computing after a pause"])
def test_a_film_that_computes_is_ended_by_its_processor_time_and_one_that_waits_by_the_clock(body: str,
                                                                                           status: int) -> None:
    assert _status(body) == status


@pytest.mark.parametrize("body", [
    "with limits: pass\nwhile time.process_time() < 0.8: pass",
    "with limits:\n    with paused():\n        while time.process_time() < 0.8: pass",
    "for _ in range(5):\n    with limits: time.sleep(0.4)",
], ids=["after the film", "paused", "several films"])
def test_time_beside_a_films_own_is_not_counted(body: str) -> None:
    assert _status(body) == 0
