"""VinDr-CXR: 18,000 frontal (PA) films from two hospitals in Hanoi, labelled by radiologists: 22 findings, 6 diseases.

Access: PhysioNet, credentialed (https://physionet.org/content/vindr-cxr/1.0.0/).
Cite: Nguyen HQ, Lam K, Le LT, et al. VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations.
Scientific Data 9, 2022, 429.

Labels: of each of the 15,000 training films by three radiologists on their own, of the 3,000 test films by the
consensus of five. A reader who marks what implies another finding (Consolidation: lung opacity) has marked that too;
then the readers are combined by a rule. What no reader marks is absent, of the findings that VinDr labels.

Known limits: no patient is published, so every film counts as a patient of its own, and a patient with two films cannot
be told; no part is for validation; sex and age are in some films' headers only. Lung Opacity and Nodule/Mass are wider
than other sets' labels of these names.

Layout: annotations/image_labels_{train,test}.csv; films at {train,test}/IMAGE.dicom, .dcm, .png or .jpg. One part alone
is read as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cars_core.cohort.dicom.read import read_header
from cars_core.cohort.films import UnusableFilm
from cars_core.cohort.sources.record import CLIMBS, LATERAL, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, away, leads_out
from cars_core.cohort.sources.values import sex_letter, view_code
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

LICENCE = "PhysioNet Credentialed Health Data License 1.5.0 (VinDr-CXR, Nguyen et al., 2022)"
PARTS = ("train", "test")
RULES = ("majority", "any", "all")
ENDINGS = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
HEAD = 1 << 16  # bytes of a film that hold its header
Rule = Literal["majority", "any", "all"]

_NOTHING = Vector()
_NEITHER = "a label is neither 0 nor 1"


@dataclass(slots=True)
class _Film:
    """What the readers say of one film. `line` of its first row; `marks`: findings each reader marks, as masks."""

    line: int
    marks: list[int]
    readers: set[str]
    fault: str | None = None


class VindrSource:
    """VinDr-CXR's films and image labels.

    Args:
        rule: how readers are combined, finding by finding. majority: present where over half of them mark it,
            uncertain where fewer do (one of three). any: present where one does. all: present where all do, uncertain
            where fewer do. Where there is one row a film, the rules are the same.
        headers: whether to read sex, age and view from the first 64 KiB of each DICOM film.
        limit: the first `limit` films only.

    Raises:
        BadInput: no label file of either part; a label of the vocabulary's VinDr set missing among its columns, or a
            column that is none of VinDr's; another rule.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, rule: Rule = "majority", headers: bool = True,
                 limit: int | None = None) -> None:
        if rule not in RULES:
            raise BadInput("VinDr: rule", str(rule), "majority, any or all")
        self.tree = tree
        self._vocabulary, self._rule, self._headers, self._limit = vocabulary, rule, headers, limit
        self._findings = {name: 1 << f.bit for name, f in vocabulary.label_set("vindr").items()}
        self._none = vocabulary.no_finding.get("vindr", "No finding")
        self._passed = vocabulary.passed_over.get("vindr", frozenset())
        self._every = 0
        for mask in self._findings.values():
            self._every |= mask
        paths = {part: f"annotations/image_labels_{part}.csv" for part in PARTS}
        self._tables = {part: Table(tree, path) for part, path in paths.items() if tree.size(path) is not None}
        if not self._tables:
            raise BadInput("recipe: cohort.root", tree.root, " or ".join(paths.values()) + " in it")
        for table in self._tables.values():
            table.require("image_id", self._none, *self._findings)
            known = {"image_id", "rad_id", self._none, *self._findings, *self._passed}
            for column in table.columns:
                if column and column not in known:
                    raise BadInput(table.path, f"column {column!r}", "VinDr's: " + ", ".join(sorted(known)))
        self._vectors: dict[tuple[int, ...], Vector] = {}

    def origin(self) -> list[str]:
        """Digests of the label files, the rule, whether headers are read."""
        return [*(table.digest() for table in self._tables.values()), ",".join(self._tables), self._rule,
                f"headers {self._headers}"]

    def records(self) -> Iterator[Record]:
        """Every film of the train part, then of the test part, each in the order of its label file."""
        yield from itertools.islice(itertools.chain.from_iterable(map(self._part, self._tables)), self._limit)

    def _part(self, part: str) -> Iterator[Record]:
        table = self._tables[part]
        names = self.tree.children(part)[1]
        files: dict[str, str] = {}
        for ending in ENDINGS:
            for name in names:
                if name.endswith(ending):
                    files.setdefault(name.removesuffix(ending), name)
        for image, film in self._films(table):
            yield self._record(part, image, film, files)

    def _films(self, table: Table) -> Iterator[tuple[str, _Film]]:
        """Rows by film: readers' rows need not stand together. About 10 MB for the whole set."""
        if "rad_id" not in table.columns:
            for row in table.rows():
                mask, fault = self._marks(row)
                yield row.values["image_id"], _Film(row.line, [mask], set(), fault)
            return
        films: dict[str, _Film] = {}
        for row in table.rows():
            image, reader = row.values["image_id"], row.values["rad_id"]
            # What is wrong with a row that names no film stays a row of its own.
            film = films.setdefault(image or f"\n{row.line}", _Film(row.line, [], set()))
            mask, fault = self._marks(row)
            if fault is None and not reader:
                fault = "no reader is named"
            elif fault is None and reader in film.readers:
                fault = "one reader is there twice"
            film.marks.append(mask)
            film.readers.add(reader)
            film.fault = film.fault or fault
        for image, film in films.items():
            yield "" if image.startswith("\n") else image, film

    def _marks(self, row: Row) -> tuple[int, str | None]:
        """Findings that a row marks, with what they imply, and what is wrong with it."""
        read = row.values
        if row.fault is not None:
            return 0, row.fault
        mask = 0
        for label, bit in self._findings.items():
            if (value := read[label]) in ("1", "1.0"):
                mask |= bit
            elif value not in ("0", "0.0"):
                return 0, _NEITHER
        other = False
        for label in self._passed:
            if (value := read.get(label, "0")) not in ("0", "0.0"):
                if value not in ("1", "1.0"):
                    return 0, _NEITHER
                other = True
        if (none := read[self._none]) not in ("0", "0.0", "1", "1.0"):
            return 0, _NEITHER
        if none.startswith("1") and (mask or other):
            return 0, f"{self._none} stands beside a finding"
        if none.startswith("0") and not mask and not other:
            return 0, f"neither a finding nor {self._none} is marked"
        return mask, None

    def _vector(self, marks: list[int]) -> Vector:
        key = tuple(sorted(marks))
        if key not in self._vectors:
            self._vectors[key] = combine(marks, self._rule, every=self._every, vocabulary=self._vocabulary)
        return self._vectors[key]

    def _record(self, part: str, image: str, film: _Film, files: Mapping[str, str]) -> Record:
        fault, place = film.fault, None
        if not image:
            fault = fault or "no image is named"
        elif leads_out(image) or "/" in image or "\\" in image:
            fault = fault or CLIMBS
        elif fault is None:
            place = f"{part}/{files.get(image, image + ENDINGS[0])}"
        name = image or f"{part} line {film.line}"
        record = Record(name=name, patient=name, line=film.line, vector=_NOTHING if fault else self._vector(film.marks),
                        sex=None, age=None, view="PA", licence=LICENCE,
                        where=f"{self._tables[part].path} line {film.line}", place=place, fault=fault, split=part,
                        labels="radiologists")
        return self._with_header(record) if self._headers and image in files and place else record

    def _with_header(self, record: Record) -> Record:
        """The record with what its film's header tells; a film that cannot be read is left to ingest."""
        assert record.place is not None
        if not record.place.endswith(ENDINGS[:2]):
            return record
        try:
            header = read_header(self.tree.head(record.place, most=HEAD))
        except (OSError, UnusableFilm) as e:
            if isinstance(e, OSError) and away(e, self.tree):
                raise
            return record
        view = view_code(header.view or "") or record.view
        return replace(record, sex=sex_letter(header.sex or ""), age=header.age_years, view=view,
                       aside=LATERAL if view == "LATERAL" else None)


def combine(marks: list[int], rule: Rule, *, every: int, vocabulary: Vocabulary) -> Vector:
    """One vector of several readers' marks, each a mask of findings.

    Args:
        every: the findings a reader could mark: what nobody marks is absent only among them.
    """
    implied = [mark | vocabulary.ancestors(mark) for mark in marks]
    some, present = 0, 0
    for mark in implied:
        some |= mark
    needed = {"majority": len(marks) // 2 + 1, "any": 1, "all": len(marks)}[rule]
    for finding in vocabulary.findings:
        bit = 1 << finding.bit
        if some & bit and sum(1 for mark in implied if mark & bit) >= needed:
            present |= bit
    return Vector(present, every & ~some, some & ~present)
