"""A look over a source before its films are read: how many, from what, and what only all of them tell."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cars_core.cohort.sources.record import FirstDays, Source
from cars_core.digest import digest
from schemas.errors import BadInput


@dataclass(frozen=True)
class Survey:
    """What all records of a source tell together.

    films: number of records. digest: of all that the records say, and of every film's presence and size. days: each
    patient's first day. published: the parts the source publishes (train, validate, test), as far as records name them.
    """

    films: int
    digest: str
    days: FirstDays = field(default_factory=FirstDays, repr=False)  # holds patients' own numbers
    published: frozenset[str] = frozenset()


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
    said, days, published = hmac.new(key, b"survey", "sha256"), FirstDays(), set()
    for record in source.records():
        count += 1
        days.add(record.patient, record.date)
        if record.split is not None:
            published.add(record.split)
        size = None
        if source.tree is None:
            found += 1
        elif files:
            size = None if record.place is None else source.tree.size(record.place)
            found += size is not None
        said.update(f"{record!r} {size}\n".encode("utf-8", "surrogatepass"))
    if not count:
        raise BadInput(f"source {name}", "no records", "one a film at least")
    if files and not found:
        root = source.tree.root if source.tree else ""
        raise BadInput("recipe: cohort.root", root, f"the films that the records of {name} name (none of {count} is "
                       "there)")
    return Survey(count, digest([source.origin(), count, said.hexdigest()]), days, frozenset(published))
