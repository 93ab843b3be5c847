"""A plain folder of films with any CSV beside it, read by a column map that the recipe gives.

Columns of the map (key -> column of the CSV):

- `image`: the film's path, from the root or from the folder above it. `patient`: the patient's identifier; mapped to
  nothing (null or ""), every image is a patient of its own, which is only right where nobody has two films.
- `name` (else the path), `study`, `date`, `age`, `sex`, `view`, `split`, `licence`: as far as the CSV has them. A
  split is train, validate (val, valid, validation, dev) or test; a blank one is none, any other word is a fault.
- `labels`: one column of names joined by | or ; or , (the first of these that the cell holds).
- `finding.NAME`: a column that states the finding NAME: 1 present, 0 absent, -1 uncertain, blank not mentioned.

Without `labels` and `finding.` columns vectors are empty: films only.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from cars_core.cohort.sources.record import CLIMBS, LATERAL, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, leads_out
from cars_core.cohort.sources.values import age_years, date_of, sex_letter, view_code
from cars_core.digest import digest
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import LABEL_SETS, Vocabulary
from schemas.errors import BadInput

LICENCE = "not stated"
KEYS = ("image", "patient", "name", "study", "date", "age", "sex", "view", "split", "licence", "labels")
FINDING = "finding."
NO_FINDING = "no finding"
LabelNames = Mapping[str, str | list[str] | None]
Absent = Literal["unlisted", "unmentioned"]

_SPLITS = {"": None, "train": "train", "training": "train", "val": "validate", "valid": "validate",
           "validate": "validate", "validation": "validate", "dev": "validate", "test": "test", "testing": "test"}
_STATES = {"": "", "1": "present", "1.0": "present", "0": "absent", "0.0": "absent", "-1": "uncertain",
           "-1.0": "uncertain"}
_KNOWN = 100_000  # distinct cells remembered: a hostile file has a new one in every row
_OUTSIDE = "label outside the vocabulary"
_NOTHING = Vector()


class FolderSource:
    """Films and their CSV.

    Args:
        labels: the CSV's path in the tree.
        columns: the column map.
        licence: the films' terms of use in one line, for rows that have no `licence` of their own.
        label_names, absent: see Labels.
        limit: read the first `limit` rows only.

    Raises:
        BadInput: no such CSV; a key that is none; `image` or `patient` not in the map; a column missing; a finding
            outside the vocabulary.
    """

    def __init__(self, tree: Tree, *, labels: str, columns: Mapping[str, str | None], vocabulary: Vocabulary,
                 licence: str | None = None, label_names: LabelNames | None = None, absent: Absent = "unmentioned",
                 limit: int | None = None) -> None:
        self.tree = tree
        self._limit, self._licence = limit, licence or LICENCE
        for key in ("image", "patient"):
            if key not in columns or (key == "image" and not columns[key]):
                raise BadInput(f"recipe: cohort.columns.{key}", "nothing", f"the column that holds the {key}")
        self._columns = {key: column for key, column in columns.items() if column}
        check_keys(self._columns, KEYS)
        self._table = Table(tree, labels)
        self._table.require(*self._columns.values())
        self._settings = digest([sorted(self._columns.items()), sorted((label_names or {}).items()), absent])
        self._labels = Labels(self._table, columns=self._columns, label_names=label_names, absent=absent,
                              vocabulary=vocabulary)
        # A path may be given from the folder above the root.
        above = tree.root.rstrip("/").rsplit("/", 1)[-1]
        self._above = "" if above in tree.children()[0] else above + "/"

    def origin(self) -> list[str]:
        """Digests of the label file and of the settings."""
        return [self._table.digest(), self._settings]

    def records(self) -> Iterator[Record]:
        """Every row of the CSV as a record, in its order; what is wrong with one is in `fault`."""
        for row in itertools.islice(self._table.rows(), self._limit):
            yield self._record(row)

    def _record(self, row: Row) -> Record:
        def read(key: str) -> str:
            return row.values[columns[key]] if key in columns else ""

        columns = self._columns
        image, (split, unknown) = read("image"), split_code(read("split"))
        name = (read("name") if "name" in columns else image) or f"line {row.line}"
        patient = read("patient") if "patient" in columns else name
        vector, place, fault = _NOTHING, None, row.fault
        if fault is None:
            vector, wrong = self._labels.read(row.values)
            if not image:
                fault = "no image is named"
            elif not patient:
                fault = "no patient is named"
            elif leads_out(image):
                fault = CLIMBS
            else:
                fault, place = wrong or unknown, self._place(image)
            if fault is None and read("date") and date_of(read("date")) is None:
                fault = "date is not written YYYY-MM-DD or YYYYMMDD"
        view = view_code(read("view"))
        return Record(name=name, patient=patient or f"line {row.line}", line=row.line, vector=vector,
                      sex=sex_letter(read("sex")), age=age_years(read("age")), view=view,
                      licence=(fault is None and read("licence")) or self._licence,
                      where=f"{self._table.path} line {row.line}", place=place, fault=fault,
                      aside=LATERAL if view == "LATERAL" else None,
                      study=read("study") or None, date=date_of(read("date")), split=split)

    def _place(self, image: str) -> str:
        path = image.replace("\\", "/")
        return path.removeprefix(self._above) if self._above else path


class Labels:
    """The labels of a CSV's rows as vectors.

    A label is matched, whatever its case, to `label_names`, then to the vocabulary's names (with spaces or
    underscores), then to the names of the nih, chexpert, vindr and padchest label sets in this order. "No Finding" in
    any of their spellings states the absence of all findings this CSV speaks of, devices apart.

    Args:
        columns: the keys `labels` and `finding.NAME` of the map are read, others passed over.
        label_names: the source's label -> finding or findings it states, "no finding", or None for a label that states
            nothing of ours.
        absent: whether a finding that is not listed in a row's `labels`, but in some other row's or in `label_names`,
            is "unmentioned", or by "unlisted" absent. A blank cell states nothing either way.

    Raises:
        BadInput: a finding outside the vocabulary, another word for `absent`, a label twice in `label_names`.
    """

    def __init__(self, table: Table, *, columns: Mapping[str, str], label_names: LabelNames | None, absent: Absent,
                 vocabulary: Vocabulary) -> None:
        if absent not in ("unlisted", "unmentioned"):
            raise BadInput("recipe: cohort.absent", str(absent), "unlisted or unmentioned")
        self._table, self._vocabulary, self._absent = table, vocabulary, absent
        self._column = columns.get("labels")
        self._stated = {vocabulary[key.removeprefix(FINDING)].bit: column
                        for key, column in columns.items() if key.startswith(FINDING)}
        self._devices = 1 << vocabulary["support_devices"].bit if "support_devices" in vocabulary.names else 0
        self._names, self._named = _label_masks(vocabulary, label_names or {})
        self._cells: dict[tuple[str, ...], tuple[Vector, str | None]] = {}
        self._listed: int | None = None

    def read(self, values: Mapping[str, str]) -> tuple[Vector, str | None]:
        """The vector of a row, and what is wrong with its labels, or None. Their text is left out of the fault."""
        cells = (values[self._column] if self._column else "", *(values[column] for column in self._stated.values()))
        if cells not in self._cells:
            made = self._make(cells)
            if len(self._cells) >= _KNOWN:
                return made
            self._cells[cells] = made
        return self._cells[cells]

    def _make(self, cells: tuple[str, ...]) -> tuple[Vector, str | None]:
        found = self._parse(cells[0])
        if found is None:
            return _NOTHING, _OUTSIDE
        listed, none = found
        masks = {"present": 0, "absent": 0, "uncertain": 0, "": 0}
        for bit, cell in zip(self._stated, cells[1:], strict=True):
            if cell not in _STATES:
                return _NOTHING, "a finding's column is none of 1, 0, -1 and empty"
            masks[_STATES[cell]] |= 1 << bit
        denied = masks["absent"] | masks["uncertain"]
        if none and (listed | masks["present"]) & ~self._devices:
            return _NOTHING, "no finding stands beside a finding"
        if listed & denied:
            return _NOTHING, "labels and a finding's column disagree"
        stated = close_upwards(Vector(listed | masks["present"], masks["absent"], masks["uncertain"]), self._vocabulary)
        silent = 0
        if none:
            silent = (self._spoken_of() | sum(1 << bit for bit in self._stated)) & ~self._devices
        if cells[0] and self._absent == "unlisted":
            silent |= self._spoken_of()
        silent &= ~(stated.present | stated.absent | stated.uncertain)
        # What an uncertain finding implies is no less likely than the finding.
        doubt = silent & self._vocabulary.ancestors(stated.uncertain)
        return Vector(stated.present, stated.absent | silent & ~doubt, stated.uncertain | doubt), None

    def _parse(self, cell: str) -> tuple[int, bool] | None:
        """(findings listed, whether no finding is stated) by the `labels` cell; None for a label outside."""
        whole = _plain(cell)
        if not whole:
            return 0, False
        parts: Sequence[str] = [whole]
        if whole not in self._names:
            mark = next((m for m in "|;," if m in whole), None)
            parts = [p for p in map(_plain, whole.split(mark)) if p] if mark else parts
        listed, none = 0, False
        for part in parts:
            if part not in self._names:
                return None
            mask = self._names[part]
            listed |= mask or 0
            none = none or mask is None
        return listed, none

    def _spoken_of(self) -> int:
        """Findings that the `labels` column lists in some row or could by `label_names`: one reading of the file."""
        if self._listed is None:
            listed = self._named
            seen: set[str] = set()
            if self._column:
                for row in self._table.rows():
                    cell = row.values[self._column] if row.fault is None else ""
                    if cell not in seen:
                        if len(seen) < _KNOWN:
                            seen.add(cell)
                        found = self._parse(cell)
                        listed |= found[0] if found else 0
            self._listed = listed
        return self._listed


def split_code(text: str) -> tuple[str | None, str | None]:
    """train, validate or test, or None for a blank; and what is wrong with any other word."""
    word = text.lower()
    return _SPLITS.get(word), None if word in _SPLITS else "split is none of train, validate and test"


def check_keys(columns: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises BadInput for a key of a column map that is neither one of `known` nor `finding.NAME`."""
    for key in columns:
        if key not in known and not key.startswith(FINDING):
            raise BadInput("recipe: cohort.columns", key, ", ".join([*known, FINDING + "NAME"]))


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").lower().split())


def _label_masks(vocabulary: Vocabulary, label_names: LabelNames) -> tuple[dict[str, int | None], int]:
    """Plain label -> mask of what it states, None for "no finding"; and all findings `label_names` states."""
    names: dict[str, int | None] = {_plain(NO_FINDING): None}
    for finding in vocabulary.findings:
        names.setdefault(_plain(finding.name), 1 << finding.bit)
    for which in LABEL_SETS:
        for label, finding in vocabulary.label_set(which).items():
            names.setdefault(_plain(label), 1 << finding.bit)
        if which in vocabulary.no_finding:
            names.setdefault(_plain(vocabulary.no_finding[which]), None)
    given: dict[str, int | None] = {}
    for label, means in label_names.items():
        plain = _plain(label)
        if plain in given:
            raise BadInput("recipe: cohort.label_names", label, "each label once, whatever its case")
        if isinstance(means, str) and _plain(means) == NO_FINDING:
            given[plain] = None
        else:
            findings = [means] if isinstance(means, str) else means or []
            for meant in findings:
                if meant not in vocabulary.names:
                    near = difflib.get_close_matches(meant, list(vocabulary.names), n=1)
                    raise BadInput(f"recipe: cohort.label_names.{label}", meant, "a finding of the vocabulary, "
                                   f'"no finding" or null{f" (nearest: {near[0]})" if near else ""}')
            given[plain] = vocabulary.mask(findings)
    named = 0
    for mask in given.values():
        named |= mask or 0
    return names | given, named
