"""What a source says of its films, before anything is keyed, and what ingest asks of a source."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from cars_core.cohort.sources.tree import Tree
from cars_core.vectors import Vector

#: Words that several sources say and ingest looks for.
LATERAL = "lateral view"
CLIMBS = "path leads out of the source's folder"


@dataclass(frozen=True, slots=True)
class Record:
    """What a source says of one film.

    name, patient, study: the source's own identifiers; they must not leave ingest. date: when the film was taken; it
    leaves as days since the patient's first. where: finds the record at its source (a line), without identifiers.
    place: the film's path in the source's tree, None for a film that is drawn. split: train, validate or test as the
    source publishes it; "train" of a source that publishes no validation part. labels: where the vector comes from.
    aside: why the film is set aside unread although nothing is wrong with it (a lateral view). fault: why the record
    cannot be used. truth: of simulated films.
    """

    name: str
    patient: str
    line: int | None
    vector: Vector
    sex: str | None
    age: int | None
    view: str | None
    licence: str
    where: str
    truth: str | None = None
    place: str | None = None
    fault: str | None = None
    aside: str | None = None
    study: str | None = None
    date: datetime.date | None = None
    split: str | None = None
    labels: str = "labels"


class Source(Protocol):
    """A source of films."""

    @property
    def tree(self) -> Tree | None:
        """Where the films lie; None for films that are drawn."""

    def origin(self) -> list[str]:
        """What the records come from, for a digest: those of label files, settings. Opens no film."""

    def records(self) -> Iterator[Record]:
        """All records, as a stream, in one order, the same every time. Whether a record's file is there is asked by
        ingest, not here."""


@dataclass
class FirstDays:
    """The first day of each patient among some records: what day offsets count from."""

    first: dict[str, int] = field(default_factory=dict, repr=False)

    def add(self, patient: str, date: datetime.date | None) -> None:
        """Take note of one film."""
        if date is not None:
            day = date.toordinal()
            if day < self.first.get(patient, day + 1):
                self.first[patient] = day

    def of(self, patient: str, date: datetime.date | None) -> int | None:
        """Days since the patient's first film; None without a date."""
        if date is None or patient not in self.first:
            return None
        return date.toordinal() - self.first[patient]
