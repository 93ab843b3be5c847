"""PadChest: 160,861 films of 67,625 patients from one Spanish hospital (2009-2017), labelled from reports.

Access: on request at BIMCV (https://bimcv.cipf.es/bimcv-projects/padchest/); users agree not to share the data and not
to try to identify anybody (https://github.com/auriml/Rx-thorax-automatic-captioning).
Cite: Bustos A, Pertusa A, Salinas JM, de la Iglesia-Vayá M. PadChest: A large chest x-ray image dataset with
multi-label annotated reports. Medical Image Analysis 66, 2020, 101797.

Labels: physicians read 39,053 films' reports, a recurrent network the other 121,808 (MethodLabel). What a report does
not name is taken as absent, and so is everything by `normal`. Not so where a report only compares (`unchanged`) or a
sentence of it has no label (an empty name): there what is named is present and the rest is not mentioned. No part is
published. An age is the year of the study less the year of birth, so it can be one too high.

Known faults, counted in the table of January 2019: 103 films have no labels (nan) and 777 an empty one only; 4,618 say
only `unchanged`, or that beside what names no finding here; 3,151 are labelled `exclude` or `suboptimal study`; 188 are
called normal beside a finding; names of labels may begin with a space; 21 images are missing, truncated or broken
(torchxrayvision's datasets.py lists them).

Layout: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv[.gz]` in the root; images at ImageDir/ImageID, or all
directly in the root.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from cars_core.cohort.sources.nih import label_file
from cars_core.cohort.sources.record import CLIMBS, LATERAL, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, leads_out
from cars_core.cohort.sources.values import MAX_AGE, date_of, sex_letter
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary

LICENCE = "PadChest (BIMCV): research use by agreement, no sharing, no re-identification (Bustos et al., 2020)"
LABEL_FILES = ("PADCHEST_chest_x_ray_images_labels_160K*.csv", "PADCHEST_chest_x_ray_images_labels_160K*.csv.gz")
COLUMNS = ("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
           "Projection", "Labels")
EXCLUDED = frozenset({"exclude", "suboptimal study"})

# Projection -> view, and why a film of that projection is set aside.
_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "LATERAL", "COSTAL": "COSTAL", "EXCLUDE": None,
          "UNK": None, "": None}
_ASIDE = {"L": LATERAL, "COSTAL": "view of the ribs", "EXCLUDE": "excluded by the source"}
_LABELLERS = {"Physician": "physicians", "RNN_model": "rnn"}
_LIST = re.compile(r"""\[\s*(?:(?:'[^'"\\\[\]]*'|"[^'"\\\[\]]*")\s*(?:,\s*|(?=\])))*\]""")
_NAME = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_KNOWN = 100_000  # distinct lists remembered (the set has 28,809): a hostile file has a new one in every row
_NOTHING = Vector()


class Labelled(NamedTuple):
    """What a `Labels` cell makes of its film."""

    vector: Vector = _NOTHING
    aside: str | None = None
    fault: str | None = None


class PadchestSource:
    """PadChest's films and label table, read as a stream.

    Args:
        labels: the label file's path in the tree; None finds the only one in the root.
        limit: read the first `limit` rows only.

    Raises:
        BadInput: no label file, or several and none named; a column missing.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labels: str | None = None,
                 limit: int | None = None) -> None:
        self.tree = tree
        self._limit = limit
        self._reader = _Reader(vocabulary)
        self._table = Table(tree, label_file(tree, labels, LABEL_FILES))
        self._table.require(*COLUMNS)
        self._folders = frozenset(tree.children()[0])

    def origin(self) -> list[str]:
        """Digest of the label file."""
        return [self._table.digest()]

    def records(self) -> Iterator[Record]:
        """Every row of the label table as a record, in its order; what is wrong with one is in `fault`."""
        for row in itertools.islice(self._table.rows(), self._limit):
            yield self._record(row)

    def _record(self, row: Row) -> Record:
        read = row.values
        name, patient, projection = read["ImageID"], read["PatientID"], read["Projection"]
        labelled, place, fault, date = Labelled(), None, row.fault, _date(read["StudyDate_DICOM"])
        if fault is None:
            labelled = self._reader.read(read["Labels"])
            path = f"{read['ImageDir']}/{name}" if read["ImageDir"] in self._folders else name
            if not name:
                fault = "no image is named"
            elif not patient:
                fault = "no patient is named"
            elif _suspect(path) and leads_out(path):
                fault = CLIMBS
            elif projection not in _VIEWS:
                fault = "projection is none of PadChest's"
            else:
                fault, place = labelled.fault, path
        return Record(name=name or f"line {row.line}", patient=patient or f"line {row.line}", line=row.line,
                      vector=labelled.vector, sex=sex_letter(read["PatientSex_DICOM"]),
                      age=_age(read["PatientBirth"], date), view=_VIEWS.get(projection), licence=LICENCE,
                      where=f"{self._table.path} line {row.line}", place=place, fault=fault,
                      aside=_ASIDE.get(projection) or labelled.aside, study=read["StudyID"] or None, date=date,
                      labels=_LABELLERS.get(read.get("MethodLabel", ""), "padchest"))


class _Reader:
    """`Labels` cells read once each."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._findings = {name: 1 << f.bit for name, f in vocabulary.label_set("padchest").items()}
        self._devices = 1 << vocabulary["support_devices"].bit if "support_devices" in vocabulary.names else 0
        self._passed = vocabulary.passed_over.get("padchest", frozenset()) | EXCLUDED | {"unchanged"}
        self._normal = vocabulary.no_finding.get("padchest", "normal")
        self._every = 0
        for mask in self._findings.values():
            self._every |= mask
        self._cells: dict[str, Labelled] = {}

    def read(self, cell: str) -> Labelled:
        """What a cell such as `['pleural effusion', ' pneumonia']` says."""
        if cell not in self._cells:
            made = self._make(cell)
            if len(self._cells) >= _KNOWN:
                return made
            self._cells[cell] = made
        return self._cells[cell]

    def _make(self, cell: str) -> Labelled:
        names = label_names(cell)
        if names is None:
            return Labelled(fault="labels are not a list of names")
        present = 0
        for name in names:
            present |= self._findings.get(name, 0)
            if name and name not in self._findings and name not in self._passed and name != self._normal:
                return Labelled(fault="label outside PadChest's")
        normal = self._normal in names
        if normal and present & ~self._devices:
            return Labelled(fault=f"{self._normal} stands beside a finding")
        present |= self._vocabulary.ancestors(present)
        partly = not normal and ("" in names or "unchanged" in names)
        aside = None
        if EXCLUDED & names:
            aside = "excluded by the source"
        elif not names - {""}:
            aside = "labels are empty"
        elif partly and not present:
            aside = "labels only say unchanged" if "unchanged" in names else "labels say nothing of our findings"
        return Labelled(Vector(present, 0 if partly else self._every & ~present), aside)


def label_names(cell: str) -> frozenset[str] | None:
    """The names in a list written as Python writes it, spaces round them taken off; none for `nan` and an empty cell.

    None where it is not such a list. Nothing is evaluated; nested lists and escapes are no names.
    """
    if cell in ("nan", ""):
        return frozenset()
    if not _LIST.fullmatch(cell):
        return None
    return frozenset((a or b).strip() for a, b in _NAME.findall(cell))


def _suspect(path: str) -> bool:
    """Whether leads_out, which takes longer, must be asked: true of every path that does lead out."""
    return ".." in path or ":" in path or not path[:1].isalnum()


@lru_cache(maxsize=1 << 14)
def _date(text: str) -> datetime.date | None:
    return date_of(text)


@lru_cache(maxsize=1 << 16)
def _age(born: str, taken: datetime.date | None) -> int | None:
    """Years from a year of birth, written 1930 or 1930.0, to the year of the study."""
    year = born.removesuffix(".0")
    if taken is None or not (year.isascii() and year.isdigit() and len(year) == 4):
        return None
    age = taken.year - int(year)
    return age if 0 <= age <= MAX_AGE else None
