"""NIH ChestX-ray14: 112,120 frontal films of 30,805 patients, with 14 findings mined from reports.

Access: free, from the NIH Clinical Center (https://nihcc.app.box.com/v/ChestXray-NIHCC), no registration
and no restriction on use; attribution is required.
Cite: Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database
and Benchmarks on Weakly-Supervised Classification and Localization of Common Thorax Diseases. CVPR 2017.
Known faults: labels are text-mined and noisy; some ages are impossible (412 years); some 500 films are
stored as RGBA.

Two layouts are read, told apart by their header:

- as published: `Data_Entry_2017*.csv[.gz]`, one string of labels a film; images in the root, `images/`,
  `images_*/` or `images_*/images/`.
- one-hot: a path in `file` (from the root, or from the folder above it), one 0/1 column a finding.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cars_core.cohort.films import Film, Record, decode, normalise
from cars_core.digest import digest, file_digest
from cars_core.vectors import Vector, from_nih
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

LICENCE = "NIH Clinical Center: no restriction on use, attribution required (Wang et al., CVPR 2017)"
MAX_AGE = 120  # years
_PUBLISHED = {"name": "Image Index", "patient": "Patient ID", "age": "Patient Age", "sex": "Patient Gender",
              "view": "View Position"}
_ONE_HOT = {"name": "file", "patient": "patient_id", "age": "age", "sex": "sex", "view": "view"}
_NO_VECTOR = Vector()


class NihSource:
    """A folder of NIH films and its label file, read as a stream.

    Args:
        root: the folder; nothing outside it is read as an image.
        labels: the label file's path from `root`; None finds the only one there.
        limit: read the first `limit` rows only.

    Raises:
        BadInput: no such folder; no label file, or several and none named; a column missing.
    """

    processes = False  # decoding lets go of the interpreter's lock, so threads serve

    def __init__(self, root: str | None, *, labels: str | None, vocabulary: Vocabulary, limit: int | None) -> None:
        if root is None or not Path(root).is_dir():
            raise BadInput("recipe: cohort.root", root or "nothing", "the folder that holds the NIH films")
        self._root = Path(os.path.realpath(root))
        self._root_names = {Path(root).absolute().name, self._root.name}
        self._labels = _label_file(self._root, labels)
        self._limit = limit
        self._vocabulary = vocabulary
        self._findings = vocabulary.label_set("nih")
        header = next(_csv_rows(self._labels), (1, []))[1]
        self._columns = _PUBLISHED if _PUBLISHED["name"] in header else _ONE_HOT
        needed = list(self._columns.values())
        needed += ["Finding Labels"] if self._columns is _PUBLISHED else list(self._findings)
        if not {_PUBLISHED["name"], _ONE_HOT["name"]} & set(header):
            raise BadInput(self._labels, "neither", 'a column "Image Index" (as published) or "file" (one-hot)')
        for column in needed:
            if header.count(column) != 1:
                raise BadInput(f"{self._labels}: column {column}", f"{header.count(column)} of them", "it once")
        self._folders = _image_folders(self._root)
        self._index: dict[str, int] | None = None
        self._inside: dict[Path, bool] = {}

    def survey(self) -> tuple[int, str]:
        """Number of records, and a digest of the label file and of every image's presence and size.

        Decodes nothing. A film that was missing and is there now makes another digest, hence another cohort.

        Raises:
            BadInput: a path in the label file leads out of the root (by `..`, absolute or through a link);
                no image at all is there; the label file is not UTF-8 CSV.
        """
        count, missing, sizes = 0, 0, hashlib.sha256()
        for line, row in self._rows():
            size = self._find(self._name(row), line)[1]
            sizes.update(f"{size},".encode())
            count += 1
            missing += size is None
        if not count:
            raise BadInput(self._labels, "no rows", "one row a film below the header")
        if missing == count:
            raise BadInput("recipe: cohort.root", str(self._root),
                           f"images that {self._labels.name} names, in {', '.join(_shown(self._root, self._folders))}")
        return count, digest([file_digest(self._labels), count, sizes.hexdigest()])

    def records(self) -> Iterator[Record]:
        """Every row of the label file as a record, in its order; what is wrong with one is in `fault`."""
        for line, row in self._rows():
            yield self._record(line, row)

    @staticmethod
    def loader(size: int) -> Callable[[Record], Film]:
        """The function that reads a record's film and shrinks it to `size`; raises films.UnusableFilm."""
        def load(record: Record) -> Film:
            assert record.place is not None
            return normalise(decode(record.place), size=size)
        return load

    def _rows(self) -> Iterator[tuple[int, dict[str | None, str | None]]]:
        """(line where the row starts, row) for each row of the label file; under None where it is too long."""
        rows = _csv_rows(self._labels)
        header = next(rows, (1, []))[1]
        for line, fields in itertools.islice(rows, self._limit):
            row: dict[str | None, str | None] = dict(zip(header, fields, strict=False))
            if any(fields[len(header):]):  # one empty field after the last is how NIH's first release ends its rows
                row[None] = ""
            yield line, row

    def _name(self, row: dict[str | None, str | None]) -> str:
        return row.get(self._columns["name"]) or ""

    def _record(self, line: int, row: dict[str | None, str | None]) -> Record:
        def read(key: str) -> str:
            return row.get(self._columns[key]) or ""

        fault: str | None = None
        vector, place = _NO_VECTOR, None
        name, patient = self._name(row), _patient(read("patient"))
        if None in row or any(row.get(c) is None for c in self._columns.values()):
            fault = "row has more or fewer fields than the header"
        elif not name:
            fault = "no image is named"
        elif not patient:
            fault = "no patient is named"
        else:
            place, size = self._find(name, line)
            fault = "image is missing" if size is None else None
            try:
                vector = self._vector(row)
            except BadInput as e:
                fault = e.expected
        sex = read("sex").upper()[:1]
        return Record(name=name or f"line {line}", patient=patient or f"line {line}", line=line, vector=vector,
                      sex=sex if sex in ("M", "F") else None, age=_age(read("age")), view=_view(read("view")),
                      licence=row.get("licence") or LICENCE, place=place,
                      where=f"{self._labels.name} line {line}", fault=fault)

    def _vector(self, row: dict[str | None, str | None]) -> Vector:
        """Raises BadInput whose `expected` is the fault; values are left out, a shifted row holds identifiers."""
        none = self._vocabulary.no_finding.get("nih", "No Finding")
        if self._columns is _PUBLISHED:
            text = row.get("Finding Labels") or ""
        else:
            states = {c: row.get(c) or "" for c in [*self._findings, "no_finding"]}
            if "no_finding" not in row:
                states["no_finding"] = "0" if "1" in states.values() else "1"
            if any(s not in ("0", "1") for s in states.values()):
                raise BadInput("", "", "a finding's column is neither 0 nor 1")
            if states.pop("no_finding") == "1":
                states[none] = "1"
            text = "|".join(c for c, s in states.items() if s == "1")
        try:
            return from_nih(text, self._vocabulary)
        except BadInput:
            raise BadInput("", "", f"labels are not NIH findings, or {none} alone") from None

    def _find(self, name: str, line: int) -> tuple[Path | None, int | None]:
        """(path, bytes) of the image called `name`; bytes is None where there is no regular file."""
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or (parts[0] == "" and len(parts) > 1) or re.match(r"[A-Za-z]:", name):
            raise self._climbs(line)
        if len(parts) > 1:
            candidates = [self._root / name]
            if parts[0] in self._root_names:
                candidates.append(self._root.joinpath(*parts[1:]))
        else:
            if self._index is None:
                self._index = _index(self._folders)
            at = self._index.get(name)
            candidates = [] if at is None else [self._folders[at] / name]
        for path in candidates:
            try:
                info = os.lstat(path)
            except (OSError, ValueError):  # not there; a name the system cannot hold
                continue
            linked = stat.S_ISLNK(info.st_mode)
            if path.parent not in self._inside:
                self._inside[path.parent] = self._is_inside(path.parent)
            if not self._inside[path.parent] or (linked and not self._is_inside(path)):
                raise self._climbs(line)
            if linked:
                try:
                    info = os.stat(path)
                except OSError:  # a link to nothing
                    continue
            if stat.S_ISREG(info.st_mode):
                return path, info.st_size
        return None, None

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)

    def _climbs(self, line: int) -> BadInput:
        return BadInput(f"{self._labels} line {line}", "a path that leads out of cohort.root",
                        "a file inside it (links out of it are not followed)")


def _label_file(root: Path, labels: str | None) -> Path:
    if labels is not None:
        path = root / labels
        if not path.resolve().is_relative_to(root.resolve()):
            raise BadInput("recipe: cohort.labels", labels, "a file inside cohort.root")
        if not path.is_file():
            raise BadInput("recipe: cohort.labels", labels, f"a file in {root}")
        return path
    found = sorted(p for pattern in ("Data_Entry_2017*.csv", "Data_Entry_2017*.csv.gz", "labels.csv")
                   for p in root.glob(pattern))
    if not found:
        raise BadInput("recipe: cohort.root", str(root), "Data_Entry_2017*.csv[.gz] or labels.csv in it, "
                       "or another label file named by cohort.labels")
    if len(found) > 1:
        raise BadInput("recipe: cohort.labels", "nothing", "one of " + ", ".join(p.name for p in found))
    return found[0]


def _image_folders(root: Path) -> list[Path]:
    """Where images may lie, first come first; on one name in several, the first folder's counts."""
    parts = sorted(p for p in root.glob("images_*") if p.is_dir())
    folders = [root / "images", *(p / "images" for p in parts), *parts, root]
    return [f for f in folders if f.is_dir()]


def _shown(root: Path, folders: list[Path]) -> list[str]:
    return ["the folder itself" if f == root else str(f.relative_to(root)) for f in folders]


def _index(folders: list[Path]) -> dict[str, int]:
    """Image name -> its folder's place in the list. One entry a film: about 15 MB for the whole of NIH."""
    found: dict[str, int] = {}
    for i, folder in enumerate(folders):
        with os.scandir(folder) as entries:
            for entry in entries:
                found.setdefault(entry.name, i)
    return found


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line where it starts, stripped fields) of each row that is not empty, the header first.

    Raises:
        BadInput: not readable, not UTF-8 (a byte order mark is skipped), not CSV, a damaged gzip file.
    """
    line = 0
    try:
        raw = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115
        with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:  # type: ignore[type-var]
            rows = csv.reader(text)
            for row in rows:
                fields = [x.strip() for x in row]
                if any(fields):
                    yield line + 1, fields
                line = rows.line_num
    except UnicodeDecodeError as e:
        raise BadInput(f"{path} after line {line}", f"byte 0x{e.object[e.start]:02x}", "UTF-8 text") from None
    except csv.Error as e:
        raise BadInput(f"{path} line {line + 1}", str(e), "a CSV row") from None
    except (OSError, EOFError, zlib.error):
        raise BadInput("label file", str(path), "a readable CSV, gzip-compressed if its name ends in .gz") from None


def _patient(text: str) -> str:
    """The number without leading zeros or a decimal part: 00000100, 100 and 100.0 are one patient."""
    number = re.fullmatch(r"0*(\d+)(?:\.0+)?", text)
    return number[1] if number else text


def _age(text: str) -> int | None:
    """Years: `58`, or NIH's first release's `058Y` (M and D: months and days); None if not 0..120."""
    found = re.fullmatch(r"(\d{1,4})(?:\.0+)?\s*([YMD]?)", text.upper())
    if not found:
        return None
    years = int(found[1]) if found[2] in ("", "Y") else int(found[1]) // (12 if found[2] == "M" else 365)
    return years if years <= MAX_AGE else None


def _view(text: str) -> str | None:
    """An upper-case code such as PA, AP, LL; None for anything longer, which is no view position."""
    code = text.upper()
    return code if re.fullmatch(r"[A-Z]{1,10}", code) else None
