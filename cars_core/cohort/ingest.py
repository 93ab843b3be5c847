"""Ingest: a source's records become cohort rows, its films normalised objects in the lake.

Films stream through: at most a few a worker and one chunk of rows are held at once. A chunk is one
append keyed by what is in it, so a run that was cut off goes on where it stopped, and a run of a
finished cohort opens no film.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cars_core.cohort.films import Film, Record, UnusableFilm
from cars_core.cohort.identity import key_fingerprint, pseudonym, pseudonym_key, split_of
from cars_core.cohort.nih import NihSource
from cars_core.cohort.phantom import PhantomSource
from cars_core.digest import digest
from cars_core.lake.lake import Lake
from cars_core.vocabulary import Vocabulary
from cars_core.workers import process_pool
from schemas.errors import BadInput
from schemas.recipe import Cohort
from schemas.tables import COHORT

CODE = 2  # raise it when the same source would give other rows or pixels: that is another cohort
SPLITS = ("train", "validate", "test")
_CHUNK = 64          # rows an append: what a run that is cut off may lose
_MAX_APPENDS = 256   # of a cohort; a larger one has larger chunks, for each commit lengthens the table's log
_POOL_FILMS = 128    # under this many films to draw, starting processes (seconds) costs more than it saves
_IN_FLIGHT = 4       # films a worker, so that none waits while rows are appended


class Source(Protocol):
    """What ingest asks of a source. Records come in one order, always the same."""

    @property
    def processes(self) -> bool:
        """Whether the loader holds the interpreter's lock, and can be sent to another process."""

    def survey(self) -> tuple[int, str]:
        """Number of records, digest of what they come from. Opens no film."""

    def records(self) -> Iterator[Record]:
        """All records, as a stream."""

    def loader(self, size: int) -> Callable[[Record], Film]:
        """What turns a record into its film; raises UnusableFilm."""


@dataclass(frozen=True)
class _Kept:
    """What is known of a film once it was read; `object` is None when it was not worth keeping."""

    image_id: str
    object: str | None
    width: int
    height: int


@dataclass(frozen=True)
class _Item:
    """A record under way: its keyed name, and why it is quarantined if it is."""

    record: Record
    keyed: str
    fault: str | None


def ingest(cohort: Cohort, *, seed: int, vocabulary: Vocabulary, lake: Lake,
           progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Bring a cohort into the lake, or the rest of it when some is there already.

    Rows and objects are the same whatever `cohort.workers` is and however often the run was cut off.
    Identifiers go no further than here: rows hold keyed pseudonyms, and reasons name lines.

    Args:
        progress: called with (records done, all records), after each append.

    Returns:
        digest (64 hex, of the cohort), accepted, quarantined (films), patients (with an accepted film),
        films_per_split (accepted, by split).

    Raises:
        BadInput: no source where the recipe says, a label file that cannot be read, a path that leads
            out of the source's folder, an unusable key file, or not one usable film.
    """
    key = pseudonym_key(cohort, seed=seed)
    source = _open(cohort, key=key, seed=seed, vocabulary=vocabulary)
    total, origin = source.survey()
    name = digest([
        CODE, cohort.source, cohort.size, cohort.limit, seed, key_fingerprint(key), origin,
        cohort.splits.model_dump(),
        [vocabulary.no_finding, *([f.name, f.aliases, list(f.parents)] for f in vocabulary.findings)],
    ])
    there = lake.read("cohort", columns=["record", "status", "image_id"], where={"cohort": name})
    done = set(there["record"].to_pylist())
    # 64 bits of the pixels' digest: enough to tell a million films apart, small enough to hold them all
    pixels = {_bits(i) for i, s in zip(there["image_id"].to_pylist(), there["status"].to_pylist(), strict=True)
              if s == "accepted"}
    del there
    progress(len(done), total)
    if len(done) < total:
        chunk = max(_CHUNK, -(-total // _MAX_APPENDS))
        items = _items(source.records(), key)
        with _workers(cohort.workers, processes=source.processes and total - len(done) >= _POOL_FILMS) as pool:
            store = partial(_store, source.loader(cohort.size), lake)
            rows: list[dict[str, Any]] = []

            def append(at: int) -> None:
                if rows:
                    table = pa.Table.from_pylist(rows, schema=COHORT)
                    lake.append("cohort", table, key=digest(["cohort", name, [r["record"] for r in rows]]))
                    rows.clear()
                    progress(at, total)

            for at, (item, film) in enumerate(_read(items, store, done, pool, cohort.workers), start=1):
                if item.keyed not in done:
                    rows.append(_row(item, film, pixels, cohort=cohort, name=name, key=key))
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


def _open(cohort: Cohort, *, key: bytes, seed: int, vocabulary: Vocabulary) -> Source:
    if cohort.source == "nih":
        return NihSource(cohort.root, labels=cohort.labels, vocabulary=vocabulary, limit=cohort.limit)
    return PhantomSource(n=cohort.films, limit=cohort.limit, seed=seed, size=cohort.size, withheld=cohort.withheld,
                         thinned=[(t.findings, t.keep) for t in cohort.thinned],
                         split_of=lambda patient: split_of(pseudonym(key, "patient", patient), cohort.splits),
                         vocabulary=vocabulary)


def _items(records: Iterable[Record], key: bytes) -> Iterator[_Item]:
    """Key the records' names; a name that comes again is a fault and is told apart by its line."""
    names: set[int] = set()
    for place, record in enumerate(records):
        keyed, fault = pseudonym(key, "record", record.name), record.fault
        if _bits(keyed[1:]) in names:
            keyed = pseudonym(key, "record", f"{record.name} again at {place}")
            fault = fault or "this image is listed before"
        names.add(_bits(keyed[1:]))
        yield _Item(record, keyed, fault)


def _read(items: Iterable[_Item], store: Callable[[Record], _Kept | str], done: set[str], pool: Executor | None,
          workers: int) -> Iterator[tuple[_Item, _Kept | str | None]]:
    """Films in the records' order, a bounded number at once. Nothing is read for items done or at fault."""
    waiting: deque[tuple[_Item, Future[_Kept | str] | None]] = deque()

    def first() -> tuple[_Item, _Kept | str | None]:
        item, future = waiting.popleft()
        return item, future.result() if future else None

    for item in items:
        skip = item.fault is not None or item.keyed in done
        if pool is None:
            yield item, None if skip else store(item.record)
            continue
        waiting.append((item, None if skip else pool.submit(store, item.record)))
        if len(waiting) >= workers * _IN_FLIGHT:
            yield first()
    while waiting:
        yield first()


def _store(load: Callable[[Record], Film], lake: Lake, record: Record) -> _Kept | str:
    """Read a film and keep its pixels in the lake: runs in a worker. A string says why it cannot be used."""
    try:
        film = load(record)
    except UnusableFilm as e:
        return str(e)
    return _Kept(film.image_id, None if film.blank else lake.put(film.png), film.width, film.height)


def _row(item: _Item, film: _Kept | str | None, pixels: set[int], *, cohort: Cohort, name: str,
         key: bytes) -> dict[str, Any]:
    record, kept, fault = item.record, film if isinstance(film, _Kept) else None, item.fault
    if isinstance(film, str):
        fault = film
    elif kept is not None and kept.object is None:
        fault = "the film is blank"
    elif kept is not None and _bits(kept.image_id) in pixels:
        fault = "the same pixels as a film before it"  # under two patients it could sit in two splits
    if fault is None and kept is not None:
        pixels.add(_bits(kept.image_id))
    patient = pseudonym(key, "patient", record.patient)
    return {
        "cohort": name, "record": item.keyed, "line": record.line, "source": cohort.source,
        "status": "accepted" if fault is None else "quarantined", "reason": fault and f"{record.where}: {fault}",
        "image_id": kept and kept.image_id, "object": kept.object if kept and fault is None else None,
        "patient": patient, "split": split_of(patient, cohort.splits),
        "present": record.vector.present, "absent": record.vector.absent, "uncertain": record.vector.uncertain,
        "sex": record.sex, "age": record.age, "view": record.view,
        "width": kept and kept.width, "height": kept and kept.height,
        "licence": record.licence, "truth": record.truth,
    }


def _bits(hexadecimal: str) -> int:
    return int(hexadecimal[:16], 16)


@contextmanager
def _workers(workers: int, *, processes: bool) -> Iterator[Executor | None]:
    """A pool for reading films; none for a single worker. What has not begun is dropped on an error."""
    if workers == 1:
        yield None
        return
    pool: Executor = process_pool(workers) if processes else ThreadPoolExecutor(workers, thread_name_prefix="ingest")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _summary(lake: Lake, name: str) -> dict[str, Any]:
    rows = lake.read("cohort", columns=["patient", "split", "status", "reason"], where={"cohort": name})
    accepted = rows.filter(pc.equal(rows["status"], "accepted"))
    if not accepted.num_rows:
        reason = rows["reason"][0].as_py() if rows.num_rows else "it is empty"
        raise BadInput("cohort", f"no usable film among {rows.num_rows} (one of them: {reason})", "at least one")
    split = accepted["split"]
    return {
        "digest": name, "accepted": accepted.num_rows, "quarantined": rows.num_rows - accepted.num_rows,
        "patients": pc.count_distinct(accepted["patient"]).as_py(),
        "films_per_split": {s: pc.sum(pc.equal(split, s)).as_py() or 0 for s in SPLITS},
    }
