"""A look over a source before its films are read: how many, from what, and what only all of them tell."""

from __future__ import annotations

import datetime
import hmac
import marshal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from cars_core.cohort.sources.record import FirstDays, Record, Source
from cars_core.digest import digest
from cars_core.vectors import Vector
from schemas.errors import BadInput

_BATCH = 1024  # records written at once


class Spool:
    """Records put by, in order, so that a source is read once: reports are labelled and headers read on the way.

    They lie in a file without a name, which is gone with the process whatever ends it; about 250 bytes a film.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the survey)
        self._held: list[tuple[object, ...]] = []

    def add(self, record: Record) -> tuple[object, ...]:
        """Put one by; returns all that it says, as plain values."""
        day, v = record.date, record.vector
        said = (
            record.name, record.patient, record.line, v.present, v.absent, v.uncertain, record.sex, record.age,
            record.view, record.licence, record.where, record.truth, record.place, record.fault, record.aside,
            record.study, day and day.toordinal(), record.split, record.labels)
        self._held.append(said)
        if len(self._held) == _BATCH:
            self._flush()
        return said

    def __iter__(self) -> Iterator[Record]:
        """All records put by so far, from the first."""
        self._flush()
        self._file.seek(0)
        vectors: dict[tuple[int, int, int], Vector] = {}
        while True:
            try:
                batch = marshal.load(self._file)
            except EOFError:
                return
            for (name, patient, line, present, absent, uncertain, sex, age, view, licence, where, truth, place, fault,
                 aside, study, day, split, labels) in batch:
                masks = (present, absent, uncertain)
                if masks not in vectors:
                    vectors[masks] = Vector(*masks)
                yield Record(name, patient, line, vectors[masks], sex, age, view, licence, where, truth, place, fault,
                             aside, study, None if day is None else datetime.date.fromordinal(day), split, labels)

    def _flush(self) -> None:
        if self._held:
            marshal.dump(self._held, self._file)
            self._held = []


@dataclass(frozen=True)
class Survey:
    """What all records of a source tell together.

    films: number of records. digest: of all that the records say, and of every film's presence and size. days: each
    patient's first day. published: the parts the source publishes (train, validate, test), as far as records name them.
    records: all of them.
    """

    films: int
    digest: str
    days: FirstDays = field(default_factory=FirstDays, repr=False)  # holds patients' own numbers
    published: frozenset[str] = frozenset()
    records: Spool = field(default_factory=Spool, repr=False)


def survey(source: Source, *, name: str, key: bytes, files: bool = True) -> Survey:
    """Survey a source; opens no film.

    The digest is keyed and covers all that the records say: another label, another patient, a film that was missing
    and is there now make another cohort.

    Args:
        name: of the source, for messages.
        key: of the pseudonyms, so that the digest tells nothing of the identifiers in it.
        files: whether to ask for each film's file.

    Raises:
        BadInput: no records, or not one of its films is there.
    """
    count = found = 0
    said, days, published, spool = hmac.new(key, b"survey", "sha256"), FirstDays(), set(), Spool()
    for record in source.records():
        count += 1
        plain = spool.add(record)
        days.add(record.patient, record.date)
        if record.split is not None:
            published.add(record.split)
        size = None
        if source.tree is None:
            found += 1
        elif files:
            size = None if record.place is None else source.tree.size(record.place)
            found += size is not None
        said.update(f"{plain!r} {size}\n".encode("utf-8", "surrogatepass"))
    if not count:
        raise BadInput(f"source {name}", "no records", "one a film at least")
    if files and not found:
        root = source.tree.root if source.tree else ""
        raise BadInput("recipe: cohort.root", root, f"the films that the records of {name} name (none of {count} is "
                       "there)")
    return Survey(count, digest([source.origin(), count, said.hexdigest()]), days, frozenset(published), spool)
