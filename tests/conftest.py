"""What several folders of tests need: an offline, private Prefect, and where the open films lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at every run, so that a change is blamed for what it broke and nothing else. To look for new ones:
# HYPOTHESIS_PROFILE=explore.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", settings.get_profile("default"))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Before anything imports Prefect: no telemetry, and a start-up limit for a busy machine.
for _key, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(_key, _value)

ROOT = Path(__file__).resolve().parent.parent
OPEN_FILMS = ROOT.parent / "shared" / "data" / "cxr-open"


@pytest.fixture(scope="session")
def open_films() -> Path:
    """The folder of openly licensed real films; tests that need it skip where it is absent."""
    if not OPEN_FILMS.is_dir():
        pytest.skip("the open films (../shared/data/cxr-open) are not here")
    return OPEN_FILMS


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of the test session's own, on a database that is thrown away."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
