"""Published label files as tables of films: a set's combinations can be counted before a single film is at hand.

What a row says of its film is read by the functions that ingest reads it with, once for each distinct text, so that a
table gives the vectors, views, sexes and ages that ingest would. A row that ingest would quarantine or set aside is
left out and counted. Whether a film is there is not asked.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cars_core.cohort.sources import chexpert, mimic, nih
from cars_core.cohort.sources.chexpert import ChexpertLabels, Labeled, film_name, frontal_view, known_age, wrong_path
from cars_core.cohort.sources.chexpert_plus import ChexpertPlusSource
from cars_core.cohort.sources.mimic import frontal_position
from cars_core.cohort.sources.nih import NihSource
from cars_core.cohort.sources.padchest import PadchestSource
from cars_core.cohort.sources.record import CLIMBS, Record
from cars_core.cohort.sources.tables import Table
from cars_core.cohort.sources.tree import LocalTree, Tree, leads_out
from cars_core.cohort.sources.values import MAX_AGE, age_years, date_of, patient_number, sex_letter, view_code
from cars_core.cohort.sources.vindr import VindrSource
from cars_core.vectors import Vector, from_nih
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Ints = NDArray[np.int64]
_TEXT = pa.string()
_MASKS = ("present", "absent", "uncertain")
_LICENCES = {"nih": nih.LICENCE, "chexpert": chexpert.LICENCE, "mimic": mimic.LICENCE}
_SEPARATOR = "\x1f"  # between the cells of one row's labels; a row with one inside a cell has no labels

KINDS = ("nih", "chexpert", "mimic", "vindr", "padchest")
#: Key of the schema's metadata under which JSON {reason: rows} says what was left out.
LEFT_OUT = b"left_out"
PARTS = {"train": "train", "valid": "validate", "test": "test"}  # CheXpert's folder -> split
FILMS = pa.schema([
    *(pa.field(mask, pa.int64(), nullable=False) for mask in _MASKS),
    *(pa.field(text, pa.string(), nullable=False) for text in ("patient", "record", "source", "dataset")),
    pa.field("split", pa.string()), pa.field("licence", pa.string(), nullable=False),
    pa.field("sex", pa.string()), pa.field("view", pa.string()), pa.field("age", pa.int32())])


def read_label_file(kind: str, path: str, *, vocabulary: Vocabulary) -> pa.Table:
    """Read a label file as it is published, plain or gzip-compressed.

    - nih: `Data_Entry_2017*.csv`, or one 0/1 column a finding. It names no published part: `split` is null.
    - chexpert: train.csv, valid.csv, test.csv and others of their columns; of CheXpert Plus its table, with
      impression_fixed.json beside it, or one of its label files, with the table beside it or a folder above. Lateral
      views are left out. A row that names a study instead of a film stands for one film without a view.
    - mimic: `mimic-cxr-2.X.X-chexpert.csv` or `-negbio.csv`. With `-metadata` beside it the rows are its films, of
      which lateral ones are left out; without, one row a study, the view null. `-split` beside it gives the parts,
      MIMIC-IV's `patients.csv` sexes and, with the metadata, ages.
    - vindr: `image_labels_train.csv` or `_test.csv`, the readers' majority; films' headers are not read, so the view is
      PA, sex and age null.
    - padchest: the table of labels.

    Args:
        kind: one of KINDS.
        path: of a local file.

    Returns:
        One row a film (FILMS): packed vectors int64, closed upwards; `patient` and `record` as the set numbers them,
        which are identifiers: they must not be printed or kept; `source` and `dataset` the kind; `split` train,
        validate, test or null; `sex` F, M or null; `view` PA, AP, another frontal one or null; `age` int32, years. The
        schema's metadata holds LEFT_OUT.

    Raises:
        BadInput: another kind, no such local file, not a CSV, a column missing, or no row that can be used.
    """
    if kind not in KINDS:
        raise BadInput("kind of label file", kind, "one of " + ", ".join(KINDS))
    if "://" in path or not Path(path).is_file():
        raise BadInput(f"label file of {kind}", path, "a file on this machine")
    read = {"nih": _nih, "chexpert": _chexpert, "mimic": _mimic, "vindr": _vindr, "padchest": _padchest}[kind]
    table = read(Path(path), vocabulary).table(kind)
    if not table.num_rows:
        said = json.loads(table.schema.metadata[LEFT_OUT])
        raise BadInput(path, f"no film that can be used ({next(iter(said), 'no rows')})", "at least one")
    return table


class _Left:
    """Why rows are left out: the first reason given for each row counts.

    code: int64 [rows], index into `reasons`; 0, the empty reason, where a row stays.
    """

    def __init__(self, rows: int) -> None:
        self.code: Ints = np.zeros(rows, np.int64)
        self.reasons: list[str] = [""]

    def mark(self, rows: NDArray[np.bool_], reason: str) -> None:
        """One reason for some rows, bool [rows]."""
        self.each(["", reason], rows.astype(np.int64))

    def each(self, reasons: Sequence[str | None], of: Ints) -> None:
        """Reasons (none or empty: the row stays) and the index into them of each row, int64 [rows]."""
        self.reasons += [reason for reason in dict.fromkeys(reasons) if reason and reason not in self.reasons]
        codes = np.array([self.reasons.index(reason or "") for reason in reasons], np.int64)
        if len(codes):
            self.code = np.where(self.code > 0, self.code, codes[of])

    def say(self, reasons: Iterable[str | None]) -> None:
        """One reason, or none, a row."""
        texts, of = _distinct(pa.array([reason or "" for reason in reasons], pa.string()))
        self.each(texts.to_pylist(), of)


@dataclass
class _Films:
    """Columns of FILMS by name (one not given is the kind's own, or null), and which rows are left out."""

    columns: dict[str, pa.Array]
    left: _Left

    def table(self, kind: str) -> pa.Table:
        """The rows that stay. A name that comes again is left out, as ingest does."""
        name = self.columns["record"]
        distinct, number = _distinct(name)
        if len(distinct) < len(number):
            # Names are numbered as they come, so one that is new exceeds all before it.
            before = np.concatenate([[-1], np.maximum.accumulate(number)[:-1]])
            self.left.mark((number <= before) & ~_empty(name), "this image is listed before")
        constant = {"source": kind, "dataset": kind, "licence": _LICENCES.get(kind)}
        given = {c: pa.repeat(value, len(name)) for c, value in constant.items()} | self.columns
        stays = pa.array(self.left.code == 0)
        kept = [given[f.name].filter(stays) if f.name in given else pa.nulls(stays.true_count, f.type) for f in FILMS]
        n = np.bincount(self.left.code, minlength=len(self.left.reasons))
        said = {self.left.reasons[i]: int(n[i]) for i in np.argsort(-n, kind="stable") if i and n[i]}
        return pa.table(kept, schema=FILMS.with_metadata({LEFT_OUT: json.dumps(said)}))


def _nih(file: Path, vocabulary: Vocabulary) -> _Films:
    if "Image Index" not in Table(_One(file), file.name).columns:  # one-hot
        return _recorded(NihSource(_One(file), vocabulary=vocabulary, labels=file.name).records())
    rows, left = _read(file, ("Image Index", "Patient ID", "Patient Age", "Patient Gender", "View Position",
                              "Finding Labels"))
    name, patient = rows["Image Index"], rows["Patient ID"]
    left.mark(_empty(name), "no image is named")
    left.mark(_empty(patient), "no patient is named")
    left.mark(_climbing(name), CLIMBS)

    def read(text: str) -> Labeled:
        try:
            return from_nih(text, vocabulary), None, None
        except BadInput:  # its words show what stands there, which may be another column
            return Vector(), None, f"labels are not NIH findings, or {vocabulary.no_finding.get('nih')} alone"

    return _Films({**_vectors(rows["Finding Labels"], read, left), "record": name, "patient": _numbers(patient),
                   "sex": _mapped(rows["Patient Gender"], sex_letter),
                   "view": _mapped(rows["View Position"], view_code),
                   "age": _mapped(rows["Patient Age"], age_years, pa.int32())}, left)


def _chexpert(file: Path, vocabulary: Vocabulary) -> _Films:
    if file.suffix == ".json":
        above = file.resolve().parents[:2]
        root = next((folder for folder in above if any(folder.glob("df_chexpert_plus*.csv*"))), above[0])
        return _recorded(ChexpertPlusSource(LocalTree(str(root)), vocabulary=vocabulary, labeler=file.stem).records())
    columns, labels = Table(_One(file), file.name).columns, ChexpertLabels(vocabulary)
    if "path_to_image" in columns:
        tree = LocalTree(str(file.parent))
        return _recorded(ChexpertPlusSource(tree, vocabulary=vocabulary, labels=file.name).records())
    named = "Study" if "Study" in columns else "Path"
    rows, left = _read(file, (named, *labels.columns), ("Frontal/Lateral", "AP/PA", "Sex", "Age"))
    seen = lru_cache(1 << 10)(frontal_view)
    films, faults, views = [], [], []  # type: list[tuple[str, str, str | None]], list[str | None], list[Any]
    texts = (rows[c].to_pylist() for c in (named, "Frontal/Lateral", "AP/PA"))
    suspect = (left.code > 0) | _climbing(rows[named])
    for bad, path, side, position in zip(suspect.tolist(), *texts, strict=True):
        film = None if bad else film_name(path)
        faults.append(None if film else wrong_path(path, film))
        films.append((film.key, film.patient, PARTS[film.part]) if film else (path, "", None))
        views.append(seen(side or films[-1][0].rpartition("_")[2], position))
    left.say(faults)
    vectors = _chexpert_vectors(rows, labels, left)
    left.say(aside for _, aside in views)
    said = {c: pa.array([film[i] for film in films], _TEXT) for i, c in enumerate(("record", "patient", "split"))}
    return _Films({**vectors, **said, "view": pa.array([view for view, _ in views], _TEXT),
                   "sex": _mapped(rows["Sex"], sex_letter), "age": _mapped(rows["Age"], known_age, pa.int32())}, left)


def _mimic(file: Path, vocabulary: Vocabulary) -> _Films:
    labels = ChexpertLabels(vocabulary)
    rows, faults = _read(file, ("subject_id", "study_id", *labels.columns))
    labelled, vectors, left = _numbers(rows["study_id"]), _chexpert_vectors(rows, labels, faults), faults
    if metadata := _beside(file, "metadata"):  # then the rows are films
        rows, left = _read(metadata, ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"),
                           ("ViewCodeSequence_CodeMeaning",))
    subject, study = _numbers(rows["subject_id"]), _numbers(rows["study_id"])
    name, blank = rows.get("dicom_id", study), pa.repeat("", len(study))
    left.mark(_empty(name), "no film is named")
    left.mark(_empty(subject) | _empty(study), "no patient or no study is named")
    left.mark(_climbing(name) | _climbing(subject) | _climbing(study), CLIMBS)
    at = pc.index_in(study, value_set=labelled)  # of a study that comes twice the first row counts
    unlabelled = _mask(at.is_null())
    left.each([*faults.reasons, None], np.where(unlabelled, -1, np.append(faults.code, 0)[at.fill_null(-1).to_numpy()]))
    part = _mimic_parts(file, name, subject, left)
    position = rows.get("ViewPosition", blank)
    position = pc.if_else(pc.equal(position, ""), rows.get("ViewCodeSequence_CodeMeaning", blank), position)
    texts, of = _distinct(position)
    left.each([frontal_position(text)[1] for text in texts.to_pylist()], of)
    left.mark(unlabelled, "no labels for its study")
    sex, born = _mimic_people(file, subject)
    year = _mapped(rows.get("StudyDate", blank), lambda text: getattr(date_of(text), "year", None), pa.int32())
    age = pc.subtract(year, born)
    age = pc.if_else(pc.is_in(age, value_set=pa.array(range(MAX_AGE + 1), pa.int32())), age, None)
    return _Films({**{mask: values.take(at).fill_null(0) for mask, values in vectors.items()}, "record": name,
                   "patient": subject, "split": part, "sex": sex, "age": age,
                   "view": _mapped(position, lambda text: frontal_position(text)[0])}, left)


def _mimic_parts(file: Path, name: pa.Array, subject: pa.Array, left: _Left) -> pa.Array:
    """Each film's own part in the table of splits, where it is not its subject's first, else that; null without one."""
    beside = _beside(file, "split")
    if beside is None:
        return pa.nulls(len(name), pa.string())
    rows, faults = _read(beside, ("dicom_id", "subject_id", "split"))
    sound = pa.array(faults.code == 0)
    films, subjects, parts = (c.filter(sound) for c in (rows["dicom_id"], _numbers(rows["subject_id"]), rows["split"]))
    own = pc.not_equal(parts, parts.take(pc.index_in(subjects, value_set=subjects)))
    part = pc.coalesce(parts.filter(own).take(pc.index_in(name, value_set=films.filter(own))),
                       parts.take(pc.index_in(subject, value_set=subjects)))
    strange = pc.and_not(part.is_valid(), pc.is_in(part, value_set=pa.array(mimic.SPLITS)))
    left.mark(_mask(strange), "its part is not train, validate or test")
    return part


def _mimic_people(file: Path, subject: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(sex, year from which age counts) of each subject, by MIMIC-IV's table of patients; null without it."""
    beside = _beside(file, "patients")
    if beside is None:
        return pa.nulls(len(subject), pa.string()), pa.nulls(len(subject), pa.int32())
    rows, faults = _read(beside, ("subject_id", "gender", "anchor_age", "anchor_year"))
    at = pc.index_in(subject, value_set=pc.if_else(pa.array(faults.code == 0), _numbers(rows["subject_id"]), None))
    year, age = (_mapped(rows[c], lambda text: int(text) if text.isdecimal() and len(text) <= 4 else None, pa.int32())
                 for c in ("anchor_year", "anchor_age"))
    return _mapped(rows["gender"], sex_letter).take(at), pc.subtract(year, age).take(at)


def _vindr(file: Path, vocabulary: Vocabulary) -> _Films:
    tree = _One(file, f"annotations/image_labels_{'test' if 'test' in file.name else 'train'}.csv")
    return _recorded(VindrSource(tree, vocabulary=vocabulary, headers=False).records())


def _padchest(file: Path, vocabulary: Vocabulary) -> _Films:
    return _recorded(PadchestSource(_One(file), vocabulary=vocabulary, labels=file.name).records())


def _recorded(records: Iterable[Record]) -> _Films:
    """Films of a source's records: some 10 microseconds a film, for sets of some 200,000."""
    rows = list(records)
    left = _Left(len(rows))
    left.say(row.fault or row.aside for row in rows)
    said = {mask: f"vector.{mask}" for mask in _MASKS} | {"record": "name"} | {
        column: column for column in ("patient", "split", "licence", "sex", "view", "age")}
    return _Films({c: pa.array(map(attrgetter(of), rows), FILMS.field(c).type) for c, of in said.items()}, left)


class _One(Tree):
    """A tree that holds one file, at the path where a source looks for it; by default its name."""

    def __init__(self, file: Path, path: str | None = None) -> None:
        self.root, self._file, self._path = str(file.parent), file, path or file.name

    def size(self, path: str) -> int | None:
        return self._file.stat().st_size if path == self._path else None

    def open(self, path: str) -> BinaryIO:
        if path != self._path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        packed = self._file.name.endswith(".gz") and not path.endswith(".gz")
        return cast(BinaryIO, gzip.open(self._file)) if packed else open(self._file, "rb")

    def children(self, folder: str = "") -> tuple[list[str], list[str]]:
        return [], []  # a source is told the path


def _read(file: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> tuple[dict[str, pa.Array], _Left]:
    """Columns as stripped text (of an optional one that is not there, empty text), and the rows that are no rows.

    Raises:
        BadInput: a needed column missing, not readable.
    """
    table = Table(_One(file), file.name)
    table.require(*needed)
    names = [*needed, *(c for c in optional if c in table.columns)]
    several = re.search(r"[*?[]", str(file))  # DuckDB would read all files that fit
    rows, left = (not several and _by_duckdb(table, file, names)) or _by_line(table, names)
    columns = {c: pc.utf8_trim_whitespace(rows[f"c{i}"].combine_chunks()) for i, c in enumerate(names)}
    return columns | {c: pa.repeat("", len(left.code)) for c in optional if c not in columns}, left


def _by_duckdb(table: Table, file: Path, names: Sequence[str]) -> tuple[pa.Table, _Left] | None:
    """Columns c0, c1 ... of a file without a bad row; None where it has one, which `_by_line` tells."""
    types = ", ".join(f"'f{i}': 'VARCHAR'" for i in range(len(table.columns)))
    chosen = ", ".join(f"f{table.columns.index(name)} AS c{i}" for i, name in enumerate(names))
    packed = "gzip" if file.name.endswith(".gz") else "none"
    try:
        with duckdb.connect() as con:  # which gives an empty cell as an empty text
            rows = con.sql(
                f"SELECT {chosen} FROM read_csv($file, columns={{{types}}}, auto_detect=false, header=true, delim=',', "
                f"quote='\"', escape='\"', nullstr='\x00', compression='{packed}')",
                params={"file": str(file)}).to_arrow_table()
            return None if any(c.null_count for c in rows.columns) else (rows, _Left(rows.num_rows))
    except duckdb.Error:
        return None


def _by_line(table: Table, names: Sequence[str]) -> tuple[pa.Table, _Left]:
    """The same, read as ingest reads a file: at a fifth of the speed, and a bad row has its reason."""
    schema = pa.schema([(f"c{i}", pa.string()) for i in range(len(names))])
    batches, faults = [], []
    rows = table.pick(*names)
    while part := list(islice(rows, 1 << 16)):
        faults += [fault for *_, fault in part]
        cells = zip(*(values if fault is None else [v.encode("utf-8", "replace").decode() for v in values]
                      for _, values, fault in part), strict=True)  # what is not UTF-8 has a fault
        batches.append(pa.record_batch([pa.array(column, pa.string()) for column in cells], schema=schema))
    left = _Left(len(faults))
    left.say(faults)
    return pa.Table.from_batches(batches, schema), left


def _beside(file: Path, kind: str) -> Path | None:
    """MIMIC-CXR-JPG's table of another kind, of the label file's version, or MIMIC-IV's patients, in the file's folder;
    where it is there gzip-compressed and not, the published .gz."""
    version = re.match(r"mimic-cxr-2\.\d+\.\d+-", file.name)
    name = "patients.csv" if kind == "patients" else f"{version[0] if version else ''}{kind}.csv"
    return next((p for p in (file.with_name(f"{name}.gz"), file.with_name(name)) if p.is_file()), None)


def _chexpert_vectors(rows: Mapping[str, pa.Array], labels: ChexpertLabels, left: _Left) -> dict[str, pa.Array]:
    """_vectors of the columns of CheXpert's labels."""
    n = len(labels.columns)

    def read(text: str) -> Labeled:
        return labels.of(tuple(text.split(_SEPARATOR) if text.count(_SEPARATOR) < n else "?" * n))

    return _vectors(pc.binary_join_element_wise(*(rows[c] for c in labels.columns), _SEPARATOR), read, left)


def _vectors(texts: pa.Array, read: Callable[[str], Labeled], left: _Left) -> dict[str, pa.Array]:
    """Packed masks of labels, each distinct text read once; a fault of one leaves its rows out."""
    distinct, of = _distinct(texts)
    found = [read(text) for text in distinct.to_pylist()]
    left.each([fault for *_, fault in found], of)
    return {mask: pa.array([getattr(v, mask) for v, *_ in found], pa.int64()).take(pa.array(of)) for mask in _MASKS}


def _distinct(texts: pa.Array) -> tuple[pa.Array, Ints]:
    """(distinct texts in the order they come, index into them of each row)."""
    coded = texts.dictionary_encode()
    return coded.dictionary, coded.indices.to_numpy().astype(np.int64)


def _mapped(texts: pa.Array, read: Callable[[str], Any], to: pa.DataType = _TEXT) -> pa.Array:
    """What a function makes of each text, as an array of type `to`; it is called once for each distinct text."""
    distinct, of = _distinct(texts)
    return pa.array([read(text) for text in distinct.to_pylist()], to).take(pa.array(of))


def _numbers(texts: pa.Array) -> pa.Array:
    """Identifiers as ingest compares them (patient_number), which most already are."""
    plain = pc.match_substring_regex(texts, "^[1-9][0-9]*$")
    return texts if pc.all(plain).as_py() else _mapped(texts, patient_number)


def _climbing(paths: pa.Array) -> NDArray[np.bool_]:
    """Whether each path leads out. Asked of those alone that could."""
    out = _mask(pc.match_substring_regex(paths, r"\.\.|^[/\\]|^[A-Za-z]:"))
    for i in np.flatnonzero(out).tolist():
        out[i] = leads_out(paths[i].as_py())
    return out


def _empty(texts: pa.Array) -> NDArray[np.bool_]:
    return _mask(pc.equal(texts, ""))


def _mask(bools: pa.Array) -> NDArray[np.bool_]:
    return np.array(bools.fill_null(False).to_numpy(zero_copy_only=False), bool)  # a copy: Arrow's is read-only
