"""Progress of a stage: a Prefect progress artifact with rate and estimate, and whoever else listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from cars_core.progress import rate_words

#: Called with (stage, done, total) in this process; the command line draws its bars from it.
LISTENERS: list[Callable[[str, int, int], None]] = []

#: Seconds between updates sent to the server: progress must not cost more than the work.
_EVERY = 2.0


def tell(name: str, done: int, total: int) -> None:
    """Tell whoever listens in this process; a shard's own progress goes no further."""
    for listen in list(LISTENERS):
        listen(name, done, total)


@contextmanager
def stage(name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Report a stage: yields `report(done, total)`.

    A server that cannot take an update costs the update, never the work.
    """
    key, began, sent = f"progress-{name}", time.monotonic(), 0.0
    artifact: UUID | None = None

    def report(done: int, total: int) -> None:
        nonlocal artifact, sent
        tell(name, done, total)
        now = time.monotonic()
        if artifact is not None and now - sent < _EVERY and done < total:
            return
        sent = now
        share, words = 100.0 * done / max(total, 1), rate_words(unit, done, total, now - began)
        with suppress(Exception):
            if artifact is None:
                artifact = create_progress_artifact(progress=share, key=key, description=words)  # type: ignore[assignment]
            else:
                update_progress_artifact(artifact_id=artifact, progress=share, description=words)

    yield report
