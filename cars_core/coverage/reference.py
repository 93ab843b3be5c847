"""Real label sets beside the cohort: which findings have been seen together on real films, and how often."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Ints = NDArray[np.int64]

#: Reference name -> the table of it that ships with the factory (its head says where the counts come from).
SHIPPED = {"nih": Path(__file__).resolve().parent.parent / "phantom" / "nih_combinations.csv"}

MOST_FILMS = 10**12
"""Of one row; sums of rows then stay far inside 64 bits."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Distinct positive sets of real films, closed upwards: what their findings imply is in them.

    Attributes:
        masks: int64 [R], distinct, ascending; 0 is a film without findings.
        films: int64 [R], films that show exactly this set; at least 1.
        known: mask of the findings that some film shows; of others the reference says nothing, not even "absent".
    """

    masks: Ints
    films: Ints
    known: int

    def share(self, gap: int, without: int = 0) -> float:
        """Share of the films, 0..1, that show all findings of the mask `gap` and none of `without`.

        A finding outside `known` counts as shown by no film; whether that is an answer is the caller's to judge.
        """
        match = ((self.masks & gap) == gap) & ((self.masks & without) == 0)
        return float(self.films[match].sum() / self.films.sum())


def load_reference(name: str, *, vocabulary: Vocabulary) -> Reference:
    """Read a reference: one of SHIPPED by its name, else a CSV file by its path.

    The file has the columns `findings` (names of the vocabulary joined by |, nothing for a film without findings) and
    `films` (a whole number, at least 1); other columns are passed over, empty lines and lines from # on are comments.
    A set that stands there twice, also by what its findings imply, is added up. Of a shipped table, findings that the
    vocabulary lacks are left out of their sets: what is left of a set was still on those films.

    Raises:
        BadInput: a file that cannot be read, a missing column, a finding the vocabulary lacks, a bad number, no row;
            names file and line.
    """
    path = SHIPPED.get(name, Path(name))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as e:  # ValueError: not UTF-8, or a path no file can have
        why = e.strerror if isinstance(e, OSError) else "it is no UTF-8 text"
        raise BadInput("reference", name, f"{', '.join(SHIPPED)} or the path of a readable CSV file ({why})") from e
    places: tuple[int, int] | None = None
    width, films = 0, Counter[int]()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        cells = _cells(line, where)
        if places is None:
            places, width = _columns(cells, where), len(cells)
            continue
        if len(cells) != width:
            raise BadInput(where, f"{len(cells)} cells", f"{width}, as in the line of column names")
        names = [n.strip() for n in cells[places[0]].split("|") if n.strip()]
        if name in SHIPPED:
            names = [n for n in names if n in vocabulary.names]
        films[_closed(names, vocabulary, where)] += _count(cells[places[1]], where)
    if not films:
        raise BadInput(path, "no row", "columns findings and films, and at least one row")
    masks = np.array(sorted(films), np.int64)
    return Reference(masks, np.array([films[m] for m in masks.tolist()], np.int64), int(np.bitwise_or.reduce(masks)))


def _cells(line: str, where: str) -> list[str]:
    try:
        [cells] = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as e:
        raise BadInput(where, line[:80], "one line of comma-separated values") from e
    return [c.strip() for c in cells]


def _columns(names: list[str], where: str) -> tuple[int, int]:
    for wanted in ("findings", "films"):
        if names.count(wanted) != 1:
            raise BadInput(where, ",".join(names)[:80], "column names, among them findings and films, each once")
    return names.index("findings"), names.index("films")


def _closed(names: list[str], vocabulary: Vocabulary, where: str) -> int:
    """The mask of these findings and all they imply."""
    for n in names:
        if n not in vocabulary.names:
            raise BadInput(f"{where}: findings", n, "one of " + ", ".join(vocabulary.names))
    mask = vocabulary.mask(names)
    return mask | vocabulary.ancestors(mask)


def _count(text: str, where: str) -> int:
    fits = text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_FILMS))
    if not (fits and 1 <= int(text) <= MOST_FILMS):
        raise BadInput(f"{where}: films", text[:80], f"a whole number from 1 to {MOST_FILMS:,}")
    return int(text)
