"""NIH ChestX-ray14: 112,120 frontal films of 30,805 patients, with 14 findings mined from reports.

Access: free, from the NIH Clinical Center (https://nihcc.app.box.com/v/ChestXray-NIHCC), no registration
and no restriction on use; attribution is required.
Cite: Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database
and Benchmarks on Weakly-Supervised Classification and Localization of Common Thorax Diseases. CVPR 2017.
Known faults: labels are text-mined and noisy; some ages are impossible (412 years); some 500 films are
stored as RGBA, some rotated.

Two layouts are read, told apart by their header:

- as published: `Data_Entry_2017*.csv[.gz]`, one string of labels a film; images in the root, `images/`,
  `images_*/` or `images_*/images/`; the published parts from train_val_list.txt and test_list.txt where both are there
  (the set publishes no validation part).
- one-hot: a path in `file` (from the root, or from the folder above it), one 0/1 column a finding.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fnmatch import fnmatch

from cars_core.cohort.sources.record import CLIMBS, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, leads_out
from cars_core.cohort.sources.values import age_years, patient_number, sex_letter, view_code
from cars_core.vectors import Vector, from_nih
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

LICENCE = "NIH Clinical Center: no restriction on use, attribution required (Wang et al., CVPR 2017)"
LABEL_FILES = ("Data_Entry_2017*.csv", "Data_Entry_2017*.csv.gz", "labels.csv")
PARTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_PUBLISHED = {"name": "Image Index", "patient": "Patient ID", "age": "Patient Age", "sex": "Patient Gender",
              "view": "View Position"}
_ONE_HOT = {"name": "file", "patient": "patient_id", "age": "age", "sex": "sex", "view": "view"}
_NO_VECTOR = Vector()


class NihSource:
    """A folder of NIH films and its label file, read as a stream.

    Args:
        tree: nothing outside it is read as an image.
        labels: the label file's path in it; None finds the only one there.
        limit: read the first `limit` rows only.

    Raises:
        BadInput: no label file, or several and none named; a column missing.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labels: str | None = None,
                 limit: int | None = None) -> None:
        self.tree = tree
        self._limit = limit
        self._vocabulary = vocabulary
        self._findings = vocabulary.label_set("nih")
        self._none = vocabulary.no_finding.get("nih", "No Finding")
        self._table = Table(tree, label_file(tree, labels, LABEL_FILES))
        self._columns = _PUBLISHED if _PUBLISHED["name"] in self._table.columns else _ONE_HOT
        if not {_PUBLISHED["name"], _ONE_HOT["name"]} & set(self._table.columns):
            raise BadInput(self._table.path, "neither", 'a column "Image Index" (as published) or "file" (one-hot)')
        self._table.require(*self._columns.values())
        self._table.require(*(["Finding Labels"] if self._columns is _PUBLISHED else list(self._findings)))
        self._folders = _image_folders(tree)
        self._known: dict[str, tuple[Vector, str | None]] = {}

    def origin(self) -> list[str]:
        """Digests of the label file and of the lists of the published parts."""
        parts = self._parts()
        return [self._table.digest(), *(",".join(sorted(parts.get(p, ()))) for p in PARTS)]

    def records(self) -> Iterator[Record]:
        """Every row of the label file as a record, in its order; what is wrong with one is in `fault`."""
        index = self._index()
        parts = {name: part for part, names in self._parts().items() for name in names}
        for row in itertools.islice(self._table.rows(), self._limit):
            yield self._record(row, index, parts)

    def _record(self, row: Row, index: dict[str, str], parts: dict[str, str]) -> Record:
        read, columns = row.values, self._columns
        vector, place, fault = _NO_VECTOR, None, row.fault
        name, patient = read[columns["name"]], patient_number(read[columns["patient"]])
        if fault is None and not name:
            fault = "no image is named"
        elif fault is None and not patient:
            fault = "no patient is named"
        elif fault is None:
            if leads_out(name):
                fault = CLIMBS
            else:
                place = self._place(name, index)
            vector, wrong = self._vector(row)
            fault = fault or wrong
        terms = (fault is None and row.values.get("licence")) or LICENCE  # a shifted row has another cell there
        return Record(name=name or f"line {row.line}", patient=patient or f"line {row.line}", line=row.line,
                      vector=vector, sex=sex_letter(read[columns["sex"]]), age=age_years(read[columns["age"]]),
                      view=view_code(read[columns["view"]]), licence=terms, place=place,
                      where=f"{self._table.path} line {row.line}", fault=fault, split=parts.get(name))

    def _vector(self, row: Row) -> tuple[Vector, str | None]:
        """The vector of a row, and what is wrong with its labels; their text is left out, for a shifted row holds
        identifiers there."""
        if self._columns is _PUBLISHED:
            text = row.values["Finding Labels"]
        else:
            states = {c: row.values[c] for c in self._findings}
            none = row.values.get("no_finding") or ("0" if "1" in states.values() else "1")
            if any(s not in ("0", "1") for s in (*states.values(), none)):
                return _NO_VECTOR, "a finding's column is neither 0 nor 1"
            named = [c for c, s in states.items() if s == "1"] + ([self._none] if none == "1" else [])
            text = "|".join(named)
        if text not in self._known:
            try:
                self._known[text] = from_nih(text, self._vocabulary), None
            except BadInput:
                fault = f"labels are not NIH findings, or {self._none} alone"
                if len(self._known) > 100_000:  # a hostile file has a new fault in every row
                    return _NO_VECTOR, fault
                self._known[text] = _NO_VECTOR, fault
        return self._known[text]

    def _place(self, name: str, index: dict[str, str]) -> str:
        path = name.replace("\\", "/")
        head, sep, rest = path.partition("/")
        if not sep:
            return index.get(path, "images/") + path
        # A path may be given from the folder above the root.
        if head == self.tree.root.rstrip("/").rsplit("/", 1)[-1] and self.tree.size(path) is None:
            return rest
        return path

    def _index(self) -> dict[str, str]:
        """Image name -> its folder. One entry a film: about 15 MB for the whole of NIH."""
        found: dict[str, str] = {}
        for folder in self._folders:
            for name in self.tree.children(folder)[1]:
                found.setdefault(name, f"{folder}/" if folder else "")
        return found

    def _parts(self) -> dict[str, set[str]]:
        """The published parts' image names; nothing where not both lists are there."""
        if any(self.tree.size(path) is None for path in PARTS.values()):
            return {}
        return {part: set(_lines(self.tree, path)) for part, path in PARTS.items()}


def label_file(tree: Tree, labels: str | None, patterns: tuple[str, ...]) -> str:
    """The label file's path in the tree: the one named, or the only one in the root that fits a pattern.

    Raises:
        BadInput: none, or several and none named.
    """
    if labels is not None:
        if leads_out(labels):
            raise BadInput("recipe: cohort.labels", labels, "a file inside cohort.root")
        if tree.size(labels) is None:
            raise BadInput("recipe: cohort.labels", labels, f"a file in {tree.root}")
        return labels
    found = [name for name in tree.children()[1] if any(fnmatch(name, p) for p in patterns)]
    if not found:
        raise BadInput("recipe: cohort.root", tree.root,
                       " or ".join(patterns) + " in it, or another label file named by cohort.labels")
    if len(found) > 1:
        raise BadInput("recipe: cohort.labels", "nothing", "one of " + ", ".join(found))
    return found[0]


def _image_folders(tree: Tree) -> list[str]:
    """Where images may lie, first come first; on one name in several, the first folder's counts."""
    parts = [name for name in tree.children()[0] if fnmatch(name, "images_*")]
    return ["images", *(f"{part}/images" for part in parts), *parts, ""]


def _lines(tree: Tree, path: str) -> Iterator[str]:
    with tree.open(path) as file:
        for line in io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace"):
            if line.strip():
                yield line.strip()
