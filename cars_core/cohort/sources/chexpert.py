"""CheXpert: 224,316 films of 65,240 patients of Stanford Hospital, with 14 labels mined from their reports.

Access: Stanford AIMI, by registration and the Research Use Agreement: non-commercial research, no sharing
(https://stanfordaimi.azurewebsites.net/datasets/8cbd9ed4-2eb9-4565-affc-111cf4f7ebe2).
Cite: Irvin J, Rajpurkar P, Ko M, et al. CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison. AAAI 2019, doi:10.1609/aaai.v33i01.3301590.
Published parts: train (223,414 films, labels of the CheXpert labeller: 1, 0, -1 for uncertain, blank for not
mentioned), valid (234 films, three radiologists), test (500 studies, five radiologists; published later, apart).
Known faults, counted in train.csv: 17 films are called frontal but have the view position LL or RL; three have the age
0 where the next oldest patient is 18, and one a sex that is Unknown; ages end at 90, which stands for more (7,579
films, against 2,024 of the age 89).

Layouts read, from the root or from a folder in it (two deep):

- `CheXpert-v1.0[-small]/train/patientNNNNN/studyN/viewN_frontal.jpg`, and valid and test beside train;
- the full set's four parts as they unpack: `... batch 2 (train 1)/patientNNNNN/...` and `... batch 1 ...)/valid`.

Label files: train.csv, valid.csv, test.csv; CheXlocalize's val_labels.csv and test_labels.csv; the test labels'
groundtruth.csv, one row a study.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter

from cars_core.cohort.sources.record import CLIMBS, LATERAL, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, leads_out
from cars_core.cohort.sources.values import age_years, sex_letter, view_code
from cars_core.digest import digest
from cars_core.vectors import Vector, close_upwards, from_chexpert
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

LICENCE = "Stanford University Dataset Research Use Agreement: non-commercial research, no sharing"
#: Part -> its label files; of several that are there, the first counts.
LABEL_FILES = {"train": ("train.csv",), "validate": ("valid.csv", "val_labels.csv"),
               "test": ("test.csv", "test_labels.csv", "groundtruth.csv")}
_PART = re.compile(r"(?:[A-Za-z]+_)?(train|valid|val|test)")
_BATCH = re.compile(r".*\((train|valid|test) \d+\)")
_FORMATS = ("jpg", "jpeg", "png", "dcm")  # first come, first served
_LOOK = 8         # patients whose folders are searched for the first film
_KNOWN = 1 << 16  # rows of labels that are remembered; train.csv has 23,707 different ones

#: (vector, why a film without labels is set aside, what is wrong with the labels).
Labeled = tuple[Vector, str | None, str | None]
_NO_LABELS: Labeled = Vector(), "no labels for it", None


class ChexpertLabels:
    """The columns of CheXpert's label set as vectors; equal rows are read once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        none = vocabulary.no_finding.get("chexpert")
        self.columns = (*vocabulary.label_set("chexpert"), *([none] if none else []))
        self._fields = itemgetter(*self.columns)

        @lru_cache(_KNOWN)
        def read(fields: tuple[object, ...]) -> Labeled:
            try:
                return from_chexpert(dict(zip(self.columns, fields, strict=True)), vocabulary), None, None
            except BadInput:
                return Vector(), None, "a label is not 1, 0, -1 or empty"

        self.of = read  # labels in the order of `columns`

    def read(self, row: Mapping[str, object]) -> Labeled:
        """The labels of a row, closed upwards. Every column has to be there."""
        return self.of(self._fields(row))


@dataclass(frozen=True)
class FilmName:
    """What a path such as CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg says. part: train, valid or
    test. patient: the number without leading zeros. key: part/patient/study/view, without an ending."""

    part: str
    patient: str
    study: str
    key: str


def film_name(path: str) -> FilmName | None:
    """Read a path as label files give it, of a film or of a study; None where it is neither."""
    found = _PATH(path)
    if found is None:
        return None
    part, patient, study, view = found.groups()
    part = "valid" if part == "val" else part
    key = f"{part}/patient{patient}/{study}"
    return FilmName(part, patient.lstrip("0") or "0", study, f"{key}/{view}" if view else key)


_PATH = re.compile(r"(?:[^/]+/)*(train|valid|val|test)/patient(\d+)/(study\d+)(?:/([^/]+?)(?:\.\w+)?)?").fullmatch


class FilmFolders:
    """Where a tree keeps the films of each part.

    Args:
        tree: searched two folders deep for folders train, valid and test, and for those of the full set's parts.
        inside: look in this folder of the tree only.
    """

    def __init__(self, tree: Tree, inside: str | None = None) -> None:
        self._tree = tree
        found: dict[str, list[tuple[str, str]]] = {}
        for part, folder in _part_folders(tree, (inside or "").strip("/"), 2):
            if ending := _first_ending(tree, folder):
                found.setdefault(part, []).append((folder, ending))
        # A tree may hold the films in two formats: one of them serves.
        best = {part: min(_FORMATS.index(e) for _, e in places) for part, places in found.items()}
        self._places = {part: [p for p in places if p[1] == _FORMATS[best[part]]] for part, places in found.items()}
        self._patients: dict[str, dict[str, int]] = {}

    def settings(self) -> list[str]:
        """What was found, for a digest."""
        return [f"{part} {folder} {ending}" for part, places in sorted(self._places.items())
                for folder, ending in places]

    def place(self, film: FilmName) -> str:
        """The path of a film in the tree; where no folder of its part was found, as published."""
        places = self._places.get(film.part)
        if not places:
            return f"{film.key}.jpg"
        at = 0
        if len(places) > 1:
            if film.part not in self._patients:
                folders = [self._tree.children(folder)[0] for folder, _ in places]
                self._patients[film.part] = {name: i for i in reversed(range(len(places))) for name in folders[i]}
            at = self._patients[film.part].get(film.key.split("/", 2)[1], 0)
        folder, ending = places[at]
        return f"{folder}/{film.key.partition('/')[2]}.{ending}"


class ChexpertSource:
    """A tree of CheXpert. Published parts: train, valid (here: validate) and, where its labels are there, test.

    Lateral views are set aside. `labels` of a record is chexpert for train, radiologists for the others, or external.

    Args:
        labels: path of another label file of train's form, for the part train (train_cheXbert.csv).
        external: path of a film or a study -> vector, as the other labeler states it.
        limit: read the first `limit` films only.

    Raises:
        BadInput: no label file; a column missing.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labels: str | None = None,
                 external: Mapping[str, Vector] | None = None, limit: int | None = None) -> None:
        self.tree = tree
        self._limit, self._external = limit, by_film(external)
        self._closed = lru_cache(None)(lambda v: close_upwards(v, vocabulary))
        self._labels = ChexpertLabels(vocabulary)
        self._tables = {}
        for part, names in LABEL_FILES.items():
            path = labels if labels and part == "train" else _find(tree, names)
            if path is not None:
                self._tables[part] = Table(tree, path)
        if not self._tables:
            raise BadInput(f"label files of CheXpert in {tree.root}", "none", "train.csv, valid.csv or test.csv")
        for table in self._tables.values():
            if "Study" not in table.columns:
                table.require("Path")
            table.require(*self._labels.columns)
        self._films = FilmFolders(tree)

    def origin(self) -> list[str]:
        """Digests of the label files, and the layout."""
        return [*(f"{part} {table.digest()}" for part, table in self._tables.items()), *self._films.settings(),
                digest_of(self._external)]

    def records(self) -> Iterator[Record]:
        """Every row of the label files: train, then validate, then test."""
        return itertools.islice((r for part, table in self._tables.items() for r in self._rows(part, table)),
                                self._limit)

    def _rows(self, part: str, table: Table) -> Iterator[Record]:
        labeler = "chexpert" if part == "train" else "radiologists"
        once = lru_cache(_KNOWN)
        seen, years, letter = once(frontal_view), once(known_age), once(sex_letter)
        optional = [c if c in table.columns else "" for c in ("Sex", "Age", "Frontal/Lateral", "AP/PA")]
        for row in table.rows():
            read = row.values
            sex, age, side, position = (read[c] if c else "" for c in optional)
            for path in self._paths(row):
                film = film_name(path)
                fault = row.fault or wrong_path(path, film)
                if film is None or fault:
                    yield bad_film(path, row, table, fault or "", labeler)
                    continue
                view, aside = seen(side or film.key.rpartition("_")[2], position)
                labeled, by = self._labels.read(read), labeler
                if self._external is not None:
                    given = self._external.get(film.key) or self._external.get(film.key.rpartition("/")[0])
                    labeled, by = (self._closed(given), None, None) if given else _NO_LABELS, "external"
                vector, unlabeled, wrong = labeled
                yield Record(name=film.key, patient=film.patient, line=row.line, vector=vector,
                             sex=letter(sex), age=years(age), view=view, licence=LICENCE,
                             where=f"{table.path} line {row.line}", place=self._films.place(film), fault=wrong,
                             aside=aside or unlabeled, study=f"{film.patient}/{film.study}", split=part, labels=by)

    def _paths(self, row: Row) -> list[str]:
        """The films of a row: one, or those that lie in the folder of a study."""
        if "Study" not in row.values:
            return [row.values["Path"]]
        path = row.values["Study"]
        film = film_name(path)
        if film is None or row.fault or leads_out(path):
            return [path]
        folder = self._films.place(replace(film, key=f"{film.key}/x")).rpartition("/")[0]
        return [f"{film.key}/{name}" for name in self.tree.children(folder)[1]] or [f"{film.key}/none.jpg"]


def bad_film(path: str, row: Row, table: Table, fault: str, labeler: str) -> Record:
    """The record of a row that cannot be used. Its patient may be anybody's, so it is nobody's."""
    return Record(name=path or f"line {row.line}", patient=f"line {row.line}", line=row.line, vector=Vector(), sex=None,
                  age=None, view=None, licence=LICENCE, where=f"{table.path} line {row.line}", fault=fault,
                  labels=labeler)


def wrong_path(path: str, film: FilmName | None) -> str | None:
    """Why a path names no film in the tree."""
    if leads_out(path):
        return CLIMBS
    if film is None:
        return "path is not one of train/patientNNNNN/studyN/viewN_frontal.jpg" if path else "no film is named"
    return None


def frontal_view(side: str, position: str) -> tuple[str | None, str | None]:
    """(view, why such a film is set aside) of the columns Frontal/Lateral and AP/PA. A film called frontal with a
    lateral position has no view: one of the two is wrong."""
    if side[:1].upper() == "L":
        return "LATERAL", LATERAL
    view = view_code(position)
    if side[:1].upper() == "F":
        return {None: "FRONTAL", "LATERAL": None}.get(view, view), None
    return view, LATERAL if view == "LATERAL" else None


def known_age(text: str) -> int | None:
    """Years; None for 0, which stands for an unknown age: all others are adults."""
    return age_years(text) or None


def by_film(external: Mapping[str, Vector] | None) -> dict[str, Vector] | None:
    """Another labeler's vectors by the keys of film_name, whatever comes before and after them in the paths given."""
    if external is None:
        return None
    return {film.key if (film := film_name(path)) else path: vector for path, vector in external.items()}


def digest_of(external: Mapping[str, Vector] | None) -> str:
    """A digest of another labeler's vectors; empty without them."""
    if external is None:
        return ""
    return digest([[key, v.present, v.absent, v.uncertain] for key, v in sorted(external.items())])


def _find(tree: Tree, names: tuple[str, ...]) -> str | None:
    """The first of some files that is there: in the root, else in one folder of it."""
    folders, files = tree.children()
    for name in names:
        if name in files:
            return name
    inside = {f: tree.children(f)[1] for f in folders if not _PART.fullmatch(f) and not _BATCH.fullmatch(f)}
    for name in names:
        found = [f"{folder}/{name}" for folder, there in inside.items() if name in there]
        if len(found) > 1:
            raise BadInput(f"{name} in {tree.root}", ", ".join(found), "one of them: name its folder as the root")
        if found:
            return found[0]
    return None


def _part_folders(tree: Tree, at: str, depth: int) -> Iterator[tuple[str, str]]:
    """(part, folder of its patients), in one order."""
    for name in tree.children(at)[0]:
        full = f"{at}/{name}" if at else name
        if found := _PART.fullmatch(name):
            inner = f"{full}/{found[1]}"  # DICOM_train/train
            yield "valid" if found[1] == "val" else found[1], inner if tree.children(inner)[0] else full
        elif found := _BATCH.fullmatch(name):
            yield found[1], full
        elif depth and not name.startswith("patient"):
            yield from _part_folders(tree, full, depth - 1)


def _first_ending(tree: Tree, folder: str) -> str | None:
    """The ending of the first films found under a part's folder, the first of _FORMATS among several."""
    patients = [f for f in tree.children(folder)[0] if f.startswith("patient")]
    for patient in patients[:_LOOK]:
        for study in tree.children(f"{folder}/{patient}")[0]:
            endings = {name.rpartition(".")[2] for name in tree.children(f"{folder}/{patient}/{study}")[1]}
            if ending := next((e for e in _FORMATS if e in endings), None):
                return ending
    return None
