"""A folder of DICOM files, as a hospital's archive writes it: patient, study, sex, age, view and date from the headers,
labels from a CSV keyed by an identifier of the header, where there is one.

A file is DICOM by its content ("DICM" at byte 128), whatever it is called. Other files and directories of media
(DICOMDIR) are passed over and counted. Neither file names nor header values get into reasons: both may name somebody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cars_core.cohort.dicom.read import Header, read_header
from cars_core.cohort.films import MAX_BYTES, UnusableFilm
from cars_core.cohort.sources.folder import LICENCE, Absent, LabelNames, Labels, check_keys, split_code
from cars_core.cohort.sources.record import LATERAL, Record
from cars_core.cohort.sources.tables import Row, Table
from cars_core.cohort.sources.tree import Tree, away
from cars_core.cohort.sources.values import sex_letter, view_code
from cars_core.digest import digest
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

#: Attributes that the CSV of labels can be keyed by.
KEYS = ("SOPInstanceUID", "StudyInstanceUID", "AccessionNumber")
RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG", "RF", "XA"})
#: What BodyPartExamined may tell of a film that is taken in; it is often wrong, so the unknown is left to the screens.
PERHAPS_CHEST = frozenset({None, "CHEST", "OTHER", "WHOLEBODY"})

#: Bytes read of a file, one after the other, until its header is whole.
HEADS = (1 << 16, 1 << 20, 1 << 24, MAX_BYTES + 1)
_DIRECTORY = b"1.2.840.10008.1.3.10"  # Media Storage Directory Storage (DICOM PS3.4, annex I.4)
_META = 1 << 10                        # bytes within which the file meta information names the storage class
_NOTHING = Vector()


@dataclass(frozen=True, slots=True)
class _Labelled:
    vector: Vector = _NOTHING
    aside: str | None = None
    fault: str | None = None
    split: str | None = None
    licence: str = ""


class DicomFolderSource:
    """Every DICOM file below the root, in the tree's order.

    Args:
        labels: a CSV of labels, or None: vectors are then empty.
        columns: its column map: one of KEYS -> the column that holds it, and `labels`, `finding.NAME`, `split` and
            `licence` as in folder.FolderSource.
        label_names, absent: see folder.Labels.
        licence: the films' terms of use in one line.
        limit: the first `limit` DICOM files only.

    A film that the CSV does not name is set aside. After a pass over records(), `passed_over` is the number of files
    that are not DICOM, or are directories.

    Raises:
        BadInput: a key that is none; no or several of KEYS in the map; a column missing; a finding outside the
            vocabulary; a map and no CSV.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labels: Table | None = None,
                 columns: Mapping[str, str | None] | None = None, label_names: LabelNames | None = None,
                 absent: Absent = "unmentioned", licence: str | None = None, limit: int | None = None) -> None:
        self.tree = tree
        self.passed_over = 0
        self._limit, self._licence, self._table = limit, licence or LICENCE, labels
        self._columns = {key: column for key, column in (columns or {}).items() if column}
        self._settings = digest([sorted(self._columns.items()), sorted((label_names or {}).items()), absent])
        if labels is None:
            if self._columns:
                raise BadInput("recipe: cohort.columns", "a column map", "a file for it in cohort.labels")
            return
        check_keys(self._columns, (*KEYS, "labels", "split", "licence"))
        keys = [key for key in KEYS if key in self._columns]
        if len(keys) != 1:
            raise BadInput("recipe: cohort.columns", " and ".join(keys) or "no key", "one of " + ", ".join(KEYS))
        self._key = keys[0]
        labels.require(*self._columns.values())
        self._labels = Labels(labels, columns=self._columns, label_names=label_names, absent=absent,
                              vocabulary=vocabulary)

    def origin(self) -> list[str]:
        """Digests of the label file and of the settings."""
        return [self._settings, *([self._table.digest()] if self._table else [])]

    def records(self) -> Iterator[Record]:
        """A record for each DICOM file; what is wrong with one is in `fault`. Reads headers, no pixels."""
        table = None if self._table is None else self._read(self._table)
        self.passed_over = number = 0
        for path in self.tree.walk():
            if self._limit is not None and number >= self._limit:
                return
            header, fault = self._header(path)
            if header is None and fault is None:
                self.passed_over += 1
                continue
            number += 1
            if header is None:
                yield Record(name=f"file {number}", patient=f"file {number}", line=number, vector=_NOTHING, sex=None,
                             age=None, view=None, licence=self._licence, where=_where(number), place=path, fault=fault)
            else:
                yield self._record(number, path, header, table)

    def _record(self, number: int, path: str, header: Header, table: Mapping[str, _Labelled] | None) -> Record:
        labelled = _Labelled()
        if table is not None:
            key = {"SOPInstanceUID": header.sop_instance_uid, "StudyInstanceUID": header.study_uid,
                   "AccessionNumber": header.accession}[self._key]
            labelled = table.get(key or "", _Labelled(aside="no labels for it"))
        fault = labelled.fault
        if not header.patient_id:
            fault = "no patient is named"
        elif not header.sop_instance_uid:
            fault = "no SOPInstanceUID"
        return Record(
            name=header.sop_instance_uid or f"file {number}", patient=header.patient_id or f"file {number}",
            line=number, vector=labelled.vector, sex=sex_letter(header.sex or ""), age=header.age_years,
            view=view_code(header.view or ""), licence=labelled.licence or self._licence, where=_where(number),
            place=path, fault=fault, aside=set_aside(header) or labelled.aside, study=header.study_uid or None,
            date=header.study_date, split=labelled.split, labels="none" if table is None else "labels")

    def _header(self, path: str) -> tuple[Header | None, str | None]:
        """The header of a file, or what is wrong with it; neither where it is no DICOM file."""
        header, fault = None, None
        try:
            for most in HEADS:
                head = self.tree.head(path, most=most)
                if head[128:132] != b"DICM" or _DIRECTORY in head[132:_META]:
                    return None, None
                header, fault = _read_header(head)
                # All that is asked of it comes before Rows.
                if len(head) < most or (header is not None and header.rows is not None):
                    break
        except OSError as e:
            if away(e, self.tree):
                raise
            return None, "file cannot be read"
        return header, fault

    def _read(self, table: Table) -> dict[str, _Labelled]:
        """Key -> what the CSV says of it."""
        found: dict[str, _Labelled] = {}
        for row in table.rows():
            key = row.values[self._columns[self._key]]
            made = self._labelled(row)
            if key and found.setdefault(key, made) != made:
                found[key] = _Labelled(fault="its rows of labels disagree")
        return found

    def _labelled(self, row: Row) -> _Labelled:
        if row.fault is not None:
            return _Labelled(fault=row.fault)
        vector, fault = self._labels.read(row.values)
        split, unknown = split_code(row.values[self._columns["split"]] if "split" in self._columns else "")
        licence = row.values[self._columns["licence"]] if "licence" in self._columns else ""
        return _Labelled(vector, None, fault or unknown, split, licence)


def set_aside(header: Header) -> str | None:
    """Why a file is no frontal film of a chest by its header; None where it is, or where the header does not say."""
    if header.modality is not None and header.modality not in RADIOGRAPHS:
        return "not a radiograph"
    if header.body_part not in PERHAPS_CHEST:
        return "not a chest by its header"
    if header.presentation == "FOR PROCESSING":
        return "raw values of the detector, not for presentation"
    return LATERAL if view_code(header.view or "") == "LATERAL" else None


def _read_header(head: bytes) -> tuple[Header | None, str | None]:
    try:
        return read_header(head), None
    except UnusableFilm as e:
        return None, str(e)


def _where(number: int) -> str:
    return f"DICOM file {number} of the folder"
