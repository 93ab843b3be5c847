"""What the lake's tests share: processes to race."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Four processes, spawned: a fork would copy the runtime threads of delta-rs in an unknown state."""
    with multiprocessing.get_context("spawn").Pool(4) as started:
        yield started
