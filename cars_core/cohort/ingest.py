"""Ingest: a cohort's records become rows, its films normalised objects in the lake.

Films stream through: at most a few a worker and one chunk of rows are held at once. A chunk is one
append keyed by what is in it, so a run that was cut off goes on where it stopped, and a run of a
finished cohort opens no film.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cars_core.cohort.films import UnusableFilm
from cars_core.cohort.guard import Guard
from cars_core.cohort.identity import key_fingerprint, pseudonym_key, split_of
from cars_core.cohort.intake import Intake, Kept, SetAside
from cars_core.cohort.rows import Keyed, RowMaker, Seen, bits_of, patient_pseudonym
from cars_core.cohort.screen.judge import screen_digest
from cars_core.cohort.sources.open import open_source
from cars_core.cohort.sources.phantom import PhantomSource
from cars_core.cohort.sources.record import Record, Source
from cars_core.cohort.survey import Survey, survey
from cars_core.digest import digest
from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary
from cars_core.workers import process_pool
from schemas import recipe
from schemas.errors import BadInput
from schemas.recipe import Cohort
from schemas.tables import COHORT

CODE = 3  # raise it when the same source would give other rows or pixels: that is another cohort
SPLITS = ("train", "validate", "test")
STATUSES = ("accepted", "set_aside", "quarantined", "unread")
_CHUNK = 64          # rows an append: what a run that is cut off may lose
_MAX_APPENDS = 256   # of a cohort; a larger one has larger chunks, for each commit lengthens the table's log
_UNREAD_CHUNK = 32_768  # rows an append where no film is read
_POOL_FILMS = 128    # under this many films to draw, starting processes (seconds) costs more than it saves
_IN_FLIGHT = 4       # films a worker, so that none waits while rows are appended

Outcome = Kept | SetAside | str | None


@dataclass(frozen=True)
class _Part:
    """One source of the cohort, opened and surveyed."""

    asked: recipe.Source
    source: Source
    survey: Survey


def ingest(cohort: Cohort, *, seed: int, vocabulary: Vocabulary, lake: Lake, progress: Callable[[int, int], None],
           storage: Mapping[str, str] | None = None, secret: str | None = None) -> dict[str, Any]:
    """Bring a cohort into the lake, or the rest of it when some is there already.

    Rows and objects are the same whatever `cohort.workers` is and however often the run was cut off.
    Identifiers go no further than here: rows hold keyed pseudonyms, and reasons name lines.

    Args:
        progress: called with (records done, all records), after each append.
        storage: lake.storage.STORAGE_KEYS -> value, for sources on S3.
        secret: the pseudonym key, where `cohort.key_secret` names one.

    Returns:
        digest (64 hex, of the cohort), accepted, set_aside, quarantined, unread (films), patients (with an accepted
        or unread film), films_per_split (accepted, by split).

    Raises:
        BadInput: no source where the recipe says, a label file that cannot be read, an unusable key file, or not one
            usable film.
        OSError: the disk is full, or a store is away. What was appended stays, and the next run goes on from there.
    """
    key = pseudonym_key(cohort, seed=seed, secret=secret)
    parts = [_open(s, cohort, key=key, seed=seed, vocabulary=vocabulary, storage=storage) for s in cohort.sources]
    name = _name(cohort, parts, key=key, seed=seed, vocabulary=vocabulary)
    total = sum(p.survey.films for p in parts)
    done, seen = _there(lake, name, cohort)
    progress(len(done), total)
    if len(done) < total:
        chunk = max(_CHUNK, -(-total // _MAX_APPENDS)) if cohort.read_films else _UNREAD_CHUNK
        rows: list[dict[str, Any]] = []

        def append(at: int) -> None:
            if rows:
                table = pa.Table.from_pylist(rows, schema=COHORT)
                lake.append("cohort", table, key=digest(["cohort", name, [r["record"] for r in rows]]))
                rows.clear()
                progress(at, total)

        at = 0
        for part in parts:
            maker = RowMaker(part.asked, cohort, name=name, key=key, survey=part.survey, seen=seen)
            items = (maker.key(_with_file(r, part, cohort), i) for i, r in enumerate(part.survey.records))
            for item, film in _films(items, part, cohort, lake=lake, done=done, left=total - len(done)):
                at += 1
                if item.keyed not in done:
                    rows.append(maker.row(item, film))
                if at % chunk == 0:  # a place in the source: the same in every run
                    append(at)
        append(total)
    return _summary(lake, name)


def split_rows(lake: Lake, cohort: str, split: str = "train") -> pa.Table:
    """Accepted rows of one split of a cohort (given by its digest), ordered by `record`.

    Raises:
        BadInput: no such split, or a cohort the lake does not hold.
    """
    if split not in SPLITS:
        raise BadInput("split", split, "one of " + ", ".join(SPLITS))
    rows = lake.read("cohort", where={"cohort": cohort, "split": split, "status": "accepted"})
    if not rows.num_rows and not lake.read("cohort", columns=["record"], where={"cohort": cohort}).num_rows:
        raise BadInput("cohort", cohort, "the digest of a cohort in the lake")
    return rows.sort_by("record")


def _open(asked: recipe.Source, cohort: Cohort, *, key: bytes, seed: int, vocabulary: Vocabulary,
          storage: Mapping[str, str] | None) -> _Part:
    source: Source
    if asked.source == "phantom":
        source = PhantomSource(
            n=cohort.films, limit=asked.limit, seed=seed, size=cohort.size, withheld=cohort.withheld,
            thinned=[(t.findings, t.keep) for t in cohort.thinned], vocabulary=vocabulary,
            split_of=lambda patient: split_of(patient_pseudonym(key, asked.patients_of, patient), cohort.splits))
    else:
        source = open_source(asked, vocabulary=vocabulary, storage=storage)
    return _Part(asked, source, survey(source, name=asked.name, key=key, files=cohort.read_films))


def _name(cohort: Cohort, parts: list[_Part], *, key: bytes, seed: int, vocabulary: Vocabulary) -> str:
    """Digest of the cohort: of all that decides its rows and pixels."""
    return digest([
        CODE, seed, key_fingerprint(key), cohort.size, cohort.bits, cohort.read_films, cohort.published_splits,
        cohort.splits.model_dump(), cohort.screen.model_dump(), screen_digest() if cohort.read_films else None,
        [[p.survey.digest, *(getattr(p.asked, k) for k in ("source", "name", "patients_of", "licence", "public_ids"))]
         for p in parts],
        [vocabulary.no_finding, *([f.name, f.aliases, list(f.parents)] for f in vocabulary.findings)],
    ])


def _there(lake: Lake, name: str, cohort: Cohort) -> tuple[set[str], Seen]:
    """(records the lake has, what they decide about the others)."""
    columns = ["record", "status", "image_id", "phash", "patient", "split"]
    there = lake.read("cohort", columns=columns, where={"cohort": name})
    seen = Seen()
    accepted = there.filter(pc.equal(there["status"], "accepted"))
    seen.pixels.update(map(bits_of, accepted["image_id"].to_pylist()))
    hashed = accepted.filter(pc.is_valid(accepted["phash"]))
    seen.near.extend(hashed["phash"].to_pylist(), hashed["record"].to_pylist())
    if cohort.published_splits:
        for patient, split in zip(there["patient"].to_pylist(), there["split"].to_pylist(), strict=True):
            seen.parts[bits_of(patient[1:])] = split
    return set(there["record"].to_pylist()), seen


def _with_file(record: Record, part: _Part, cohort: Cohort) -> Record:
    """The record, at fault where its film's file is not there."""
    tree = part.source.tree
    if tree is None or not cohort.read_films or record.fault or record.aside:
        return record
    if record.place is None or tree.size(record.place) is None:
        return replace(record, fault="image is missing")
    return record


def _films(items: Iterable[Keyed], part: _Part, cohort: Cohort, *, lake: Lake, done: set[str],
           left: int) -> Iterator[tuple[Keyed, Outcome]]:
    """What reading each film gave, in the records' order, a bounded number at once. Nothing is read for items done, at
    fault or set aside."""
    def skipped(item: Keyed) -> bool:
        return (not cohort.read_films or item.fault is not None or item.record.aside is not None
                or item.keyed in done)

    take = Intake(part.source.tree, lake.objects, cohort.size, cohort.bits, cohort.screen.of(part.asked))
    if part.source.tree is None:
        yield from _drawn(items, take, skipped, workers=cohort.workers if left >= _POOL_FILMS else 1)
        return
    if not cohort.read_films:
        yield from ((item, None) for item in items)
        return
    with Guard[Keyed, Kept | SetAside](cohort.workers, take) as guard:
        for item, film in guard.results(items, in_flight=cohort.workers * _IN_FLIGHT, skip=skipped):
            yield item, str(film) if isinstance(film, UnusableFilm) else film


def _drawn(items: Iterable[Keyed], take: Intake, skipped: Callable[[Keyed], bool],
           workers: int) -> Iterator[tuple[Keyed, Outcome]]:
    """Simulated films: nothing hostile, so a plain pool of processes."""
    if workers == 1:
        yield from ((item, None if skipped(item) else take(item)) for item in items)
        return
    pool = process_pool(workers)
    waiting: deque[tuple[Keyed, Future[Kept | SetAside] | None]] = deque()

    def first() -> tuple[Keyed, Outcome]:
        item, future = waiting.popleft()
        return item, future.result() if future else None

    try:
        for item in items:
            waiting.append((item, None if skipped(item) else pool.submit(take, item)))
            if len(waiting) >= workers * _IN_FLIGHT:
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _summary(lake: Lake, name: str) -> dict[str, Any]:
    rows = lake.read("cohort", columns=["patient", "split", "status", "reason"], where={"cohort": name})
    counts = Counter(rows["status"].to_pylist())
    usable = rows.filter(pc.is_in(rows["status"], pa.array(["accepted", "unread"])))
    if not usable.num_rows:
        reason = rows["reason"][0].as_py() if rows.num_rows else "it is empty"
        raise BadInput("cohort", f"no usable film among {rows.num_rows} (one of them: {reason})", "at least one")
    split = usable.filter(pc.equal(usable["status"], "accepted"))["split"]
    return {
        "digest": name, **{s: counts[s] for s in STATUSES},
        "patients": pc.count_distinct(usable["patient"]).as_py(),
        "films_per_split": {s: pc.sum(pc.equal(split, s)).as_py() or 0 for s in SPLITS},
    }
