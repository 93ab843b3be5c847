"""CheXpert Plus: CheXpert's films as DICOM and PNG with their 187,711 reports, demographics and labels.

Access: Stanford AIMI, by registration and the Research Use Agreement: non-commercial research, no sharing
(https://stanfordaimi.azurewebsites.net/datasets/5158c524-d3ab-4e02-96e9-6ee9efc110a1; since 2026 by Redivis,
doi:10.57761/fzna-pm76). 223,462 rows: train 223,228, valid 234; 64,725 patients.
Cite: Chambon P, Delbrouck J-B, Sounack T, et al. CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text
Radiology Reports, Patient Demographics and Additional Image Formats. arXiv:2405.19538, 2024.
Known faults, as users of the set report them: `path_to_image` ends in .jpg where the films are .png;
`section_accession_number` is no key; `patient_report_date_order` hardly follows the reports' own dates, so that records
here have no date; the column `section_findings` is empty in most rows (26.6 % have one), so that findings_fixed.json
says little of most films; report_fixed.json labels the whole report, which speaks of earlier films and of what was
asked. impression_fixed.json is the usual choice.

Read in one tree:

- `df_chexpert_plus_*.csv[.gz]`: path_to_image, frontal_lateral, ap_pa, deid_patient_id, report, age, sex, split;
- the labeler's `{report,impression,findings}_fixed.json`, one JSON object a line with path_to_image and the 14 labels
  (1, 0, -1 or null), in the root or a folder in it;
- the films in folders train and valid, or PNG_train and DICOM_train, up to two folders deep, as .jpg, .png or .dcm.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache

from cars_core.cohort.sources.chexpert import (
    LICENCE,
    ChexpertLabels,
    FilmFolders,
    Labeled,
    bad_film,
    by_film,
    digest_of,
    film_name,
    frontal_view,
    known_age,
    wrong_path,
)
from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tables import Table
from cars_core.cohort.sources.tree import Tree
from cars_core.cohort.sources.values import patient_number, sex_letter
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

FILES = ("report_fixed", "impression_fixed", "findings_fixed")
LABELERS = (*FILES, "reports", "external")
_COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "age", "sex", "split")
_SPLITS = {"train": "train", "valid": "validate", "validate": "validate", "test": "test"}
_MAX_LINE = 1 << 16  # bytes of a line of labels; a real one has some 400
_NO_LABELS: Labeled = Vector(), "no labels for it", None
_UNREADABLE: Labeled = Vector(), None, "a label is not 1, 0, -1 or null"


class ChexpertPlusSource:
    """A tree of CheXpert Plus. Published parts: train, valid (here: validate); no test part.

    Lateral views are set aside, and films without labels. `labels` of a record is the labeler.

    Args:
        labeler: the published label file; reports, this library's labeller on the column `report`; external, the
            vectors given.
        external: path of a film or a study -> vector, as the other labeler states it.
        labels: path of the table in the tree; None finds the only one in the root.
        films: folder of the tree that holds the films; None searches.
        limit: read the first `limit` films only.

    Raises:
        BadInput: no table, or several; no label file; a column missing; no such labeler.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labeler: str = "impression_fixed",
                 external: Mapping[str, Vector] | None = None, labels: str | None = None, films: str | None = None,
                 limit: int | None = None) -> None:
        if labeler not in LABELERS:
            raise BadInput("labeler", labeler, "one of " + ", ".join(LABELERS))
        if (labeler == "external") != (external is not None):
            raise BadInput("external labels", "none" if external is None else f"some, and labeler {labeler}",
                           "vectors by film with labeler external, and with no other")
        self.tree, self.labeler = tree, labeler
        self._vocabulary, self._limit, self._external = vocabulary, limit, by_film(external)
        self._table = Table(tree, labels or _only_table(tree))
        self._table.require(*_COLUMNS, *(["report"] if labeler == "reports" else []))
        self._labels = ChexpertLabels(vocabulary)
        self._label_file = _label_file(tree, labeler) if labeler in FILES else None
        if self._label_file is not None:
            self._check(self._label_file)
        self._films = FilmFolders(tree, films)

    def origin(self) -> list[str]:
        """Digests of the table and the label file, and the settings."""
        out = [self.labeler, self._table.digest(), *self._films.settings(), digest_of(self._external)]
        if self._label_file is not None:
            h = hashlib.sha256()
            for line in _lines(self.tree, self._label_file):
                h.update(line)
            out.append(h.hexdigest())
        return out

    def records(self) -> Iterator[Record]:
        """Every row of the table, in its order."""
        table, labeled = self._table, self._labeled()
        of_report = lru_cache(16)(self._of_report)
        seen = lru_cache(1024)(frontal_view)
        for row in itertools.islice(table.rows(), self._limit):
            read = row.values
            film = film_name(read["path_to_image"])
            fault = row.fault or wrong_path(read["path_to_image"], film)
            if film is None or fault:
                yield bad_film(read["path_to_image"], row, table, fault or "", self.labeler)
                continue
            view, aside = seen(read["frontal_lateral"] or film.key.rpartition("_")[2], read["ap_pa"])
            if self.labeler == "reports":
                vector, unlabeled, wrong = of_report(read["report"])
            else:
                vector, unlabeled, wrong = (labeled.get(film.key) or labeled.get(film.key.rpartition("/")[0])
                                            or _NO_LABELS)
            split = _SPLITS.get(read["split"].lower())
            if split is None:
                wrong = wrong or "its part is not train, valid or test"
            yield Record(name=film.key, patient=_patient(read["deid_patient_id"]) or film.patient, line=row.line,
                         vector=vector, sex=sex_letter(read["sex"]), age=known_age(read["age"]), view=view,
                         licence=LICENCE, where=f"{table.path} line {row.line}", place=self._films.place(film),
                         fault=wrong, aside=aside or unlabeled, study=f"{film.patient}/{film.study}", split=split,
                         labels=self.labeler)

    def _of_report(self, text: str) -> Labeled:
        from cars_core.reports.label import label_report  # a source that reads label files needs none of it

        if not text:
            return _NO_LABELS
        return close_upwards(label_report(text, self._vocabulary).vector, self._vocabulary), None, None

    def _labeled(self) -> dict[str, Labeled]:
        """Film or study -> its labels."""
        if self._external is not None:
            return {key: (close_upwards(v, self._vocabulary), None, None) for key, v in self._external.items()}
        out: dict[str, Labeled] = {}
        for line in _lines(self.tree, self._label_file) if self._label_file else ():
            row = _json(line)
            path = row.get("path_to_image")
            film = film_name(path) if isinstance(path, str) else None
            if film is not None:  # a line that names no film leaves its film without labels
                out.setdefault(film.key, self._labels_of(row))
        return out

    def _labels_of(self, row: Mapping[str, object]) -> Labeled:
        values = {c: row.get(c) for c in self._labels.columns}
        if all(v is None or type(v) in (int, float, str) for v in values.values()):
            vector, none, wrong = self._labels.read(values)
            return (vector, none, None) if wrong is None else _UNREADABLE
        return _UNREADABLE

    def _check(self, path: str) -> None:
        """Raises BadInput where the first line of a label file is not what such a file holds."""
        first = _json(next(_lines(self.tree, path), b""))
        for column in ("path_to_image", *self._labels.columns):
            if column not in first:
                raise BadInput(f"{path}: {column}", "none", "one JSON object a line, with path_to_image and the labels")


def _only_table(tree: Tree) -> str:
    there = tree.children()[1]
    found = [n for n in there if n.startswith("df_chexpert_plus") and n.endswith((".csv", ".csv.gz"))
             and f"{n}.gz" not in there]
    if len(found) != 1:
        raise BadInput(f"table of CheXpert Plus in {tree.root}", ", ".join(found) or "none",
                       "one file df_chexpert_plus_*.csv, or its name")
    return found[0]


def _label_file(tree: Tree, labeler: str) -> str:
    """Where the label file lies: in the root, or in a folder of it that is called after labels."""
    name = f"{labeler}.json"
    folders = [f for f in tree.children()[0] if "label" in f.lower()]
    for path in (name, *(f"{folder}/{name}" for folder in folders)):
        if tree.size(path) is not None:
            return path
    raise BadInput(f"labels of CheXpert Plus in {tree.root}", "none", f"{name}, there or in a folder chexbert_labels")


def _lines(tree: Tree, path: str) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, its pieces.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with tree.open(path) as file:
            while line := file.readline(_MAX_LINE):
                yield line
    except OSError as e:
        raise BadInput("label file", path, "a file that can be read") from e


def _json(line: bytes) -> dict[str, object]:
    """The object of a line; empty where it is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _patient(text: str) -> str:
    """The number of `patient00001`, as the paths of CheXpert give it."""
    return patient_number(text.removeprefix("patient"))
