"""MIMIC-CXR-JPG: 377,110 films of 227,835 studies of 65,379 patients, with 14 labels mined from their reports.

Access: PhysioNet, credentialed (https://physionet.org/content/mimic-cxr-jpg/): training in human research, a signed
agreement, no sharing, no attempt to identify anybody. Reports and DICOM files are MIMIC-CXR's
(https://physionet.org/content/mimic-cxr/), sexes and ages MIMIC-IV's (table `patients` of its module hosp), each under
its own agreement.
Cite: Johnson A, Lungren M, Peng Y, Lu Z, Mark R, Berkowitz S, Horng S. MIMIC-CXR-JPG (version 2.1.0). PhysioNet 2024,
doi:10.13026/jsn5-t979; Johnson AEW, Pollard TJ, Berkowitz SJ, et al. MIMIC-CXR. Scientific Data 6:317, 2019.
Known faults: 227,827 of the 227,835 studies have labels (version 2.0.0's page); the two label files were made by two
programs from one text and differ; some films have no view position, and lateral ones can be among those; dates are
shifted, each patient's by another span. Ages of patients over 89 are grouped by MIMIC-IV at 91 in the anchor year.

Read in one tree:

- `mimic-cxr-2.X.X-metadata.csv[.gz]`, `-split.csv[.gz]` and the labeler's `-chexpert.csv[.gz]` or `-negbio.csv[.gz]`;
- films at `files/pNN/pSUBJECT/sSTUDY/DICOM.jpg`, or .png, or .dcm as MIMIC-CXR has them, or the same without `files/`;
- reports at `files/pNN/pSUBJECT/sSTUDY.txt`, there or in a tree of their own (mimic-cxr-reports.zip unpacked);
- `patients.csv[.gz]`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from cars_core.cohort.sources.chexpert import ChexpertLabels, Labeled, digest_of
from cars_core.cohort.sources.record import CLIMBS, LATERAL, Record
from cars_core.cohort.sources.tables import Table
from cars_core.cohort.sources.tree import Tree, away, leads_out
from cars_core.cohort.sources.values import MAX_AGE, date_of, patient_number, sex_letter, view_code
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

LICENCE = "PhysioNet Credentialed Health Data License 1.5.0: credentialed users, no sharing, no re-identification"
LABELERS = ("chexpert", "negbio", "reports", "external")
SPLITS = ("train", "validate", "test")
_METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
_VIEW_CODE = "ViewCodeSequence_CodeMeaning"
_PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year")
_FORMATS = ("jpg", "jpeg", "png", "dcm")  # first come, first served
_REPORT_BYTES = 1 << 20
_LOOK = 8         # folders at each level where the first film is looked for
_KNOWN = 1 << 16  # texts of a column that are remembered with what they mean; shifted dates have some 36,000 values
_NO_LABELS: Labeled = Vector(), "no labels for its study", None


class MimicSource:
    """A tree of MIMIC-CXR-JPG. Published parts: train, validate, test.

    Lateral views are set aside, and films of studies without labels. A film whose header names no view stays, with
    none. `labels` of a record is the labeler.

    Args:
        labeler: chexpert or negbio, the published label files; reports, this library's labeller on the report texts;
            external, the vectors given.
        external: study_id (50414267 or s50414267) -> vector, as the other labeler states it.
        patients: path in the tree of MIMIC-IV's `patients.csv[.gz]`; None takes one in the root, if there is one.
        reports_tree: where reports lie, if not in the tree.
        limit: read the first `limit` films only.

    Raises:
        BadInput: no metadata, split or label file, or several; a column missing; no such labeler.
    """

    def __init__(self, tree: Tree, *, vocabulary: Vocabulary, labeler: str = "chexpert",
                 external: Mapping[str, Vector] | None = None, patients: str | None = None,
                 reports_tree: Tree | None = None, limit: int | None = None) -> None:
        if labeler not in LABELERS:
            raise BadInput("labeler", labeler, "one of " + ", ".join(LABELERS))
        if (labeler == "external") != (external is not None):
            raise BadInput("external labels", "none" if external is None else f"some, and labeler {labeler}",
                           "vectors by study_id with labeler external, and with no other")
        self.tree, self.labeler = tree, labeler
        self._vocabulary, self._limit, self._external = vocabulary, limit, external
        self._metadata = _table(tree, "metadata")
        self._metadata.require(*_METADATA)
        self._split = _table(tree, "split")
        self._split.require("dicom_id", "subject_id", "split")
        self._labels: Table | None = None
        if labeler in ("chexpert", "negbio"):
            self._labels = _table(tree, labeler)
            self._labels.require("study_id", *ChexpertLabels(vocabulary).columns)
        self._patients: Table | None = None
        here = [n for n in ("patients.csv.gz", "patients.csv") if n in tree.children()[1]]
        if patients or here:
            self._patients = Table(tree, patients or here[0])
            self._patients.require(*_PATIENTS)
        self._reports = reports_tree or tree
        self._folder, self._format = _layout(tree)

    def origin(self) -> list[str]:
        """Digests of the tables, and the settings. Report texts are not in it: to read them all takes as long as to
        read the films."""
        tables = [self._metadata, self._split, self._labels, self._patients]
        return [self.labeler, self._folder + self._format, *(t.digest() if t else "" for t in tables),
                digest_of(self._external)]

    def records(self) -> Iterator[Record]:
        """Every row of the metadata, in its order."""
        path, folder, form = self._metadata.path, self._folder, self._format
        parts, own_parts = self._parts()
        people = self._people(parts)
        labels = self._labeled()
        columns = [*_METADATA, *([_VIEW_CODE] if _VIEW_CODE in self._metadata.columns else [])]
        taken, seen = lru_cache(_KNOWN)(date_of), lru_cache(_KNOWN)(frontal_position)
        for line, (name, person, exam, position, day, *code), fault in itertools.islice(
                self._metadata.pick(*columns), self._limit):
            subject, study = _number(person), _number(exam)
            if fault is None and not (name and subject and study):
                fault = "no film is named" if not name else "no patient or no study is named"
            if fault is not None:
                yield Record(name=name or f"line {line}", patient=subject or f"line {line}", line=line,
                             vector=Vector(), sex=None, age=None, view=None, licence=LICENCE,
                             where=f"{path} line {line}", fault=fault, labels=self.labeler)
                continue
            home = f"p{subject[:2]}/p{subject}"
            place: str | None = f"{folder}{home}/s{study}/{name}.{form}"
            # Digits and dashes lead nowhere; only other names have to be looked at.
            plain = name.replace("-", "").isalnum() and subject.isdecimal() and study.isdecimal()
            if not plain and leads_out(place or ""):
                place, fault = None, CLIMBS
            date = taken(day)
            view, aside = seen(position or (code[0] if code else ""))
            vector, unlabeled, wrong = labels(study, home) if fault is None else _NO_LABELS
            sex, born = people.get(subject, (None, None))
            age = None if born is None or date is None else date.year - born
            split = own_parts.get(name) or parts.get(subject)
            if split is not None and split not in SPLITS:
                split, wrong = None, wrong or "its part is not train, validate or test"
            yield Record(name=name, patient=subject, line=line, vector=vector, sex=sex,
                         age=age if age is not None and 0 <= age <= MAX_AGE else None, view=view, licence=LICENCE,
                         where=f"{path} line {line}", place=place, fault=fault or wrong, aside=aside or unlabeled,
                         study=study, date=date, split=split, labels=self.labeler)

    def _parts(self) -> tuple[dict[str, str], dict[str, str]]:
        """(subject -> part, film -> part where it is not the subject's): the set keeps subjects in one part, so that
        the second is empty and the first small."""
        of_subject: dict[str, str] = {}
        of_film: dict[str, str] = {}
        for _, (film, subject, part), fault in self._split.pick("dicom_id", "subject_id", "split"):
            if fault is None and part != of_subject.setdefault(_number(subject), part):
                of_film[film] = part
        return of_subject, of_film

    def _people(self, subjects: Mapping[str, str]) -> dict[str, tuple[str | None, int | None]]:
        """Subject -> sex and the year from which age counts, of the subjects with films; MIMIC-IV has many more."""
        out: dict[str, tuple[str | None, int | None]] = {}
        for _, (number, gender, age, year), fault in self._patients.pick(*_PATIENTS) if self._patients else ():
            subject = _number(number)
            if fault is None and subject in subjects:
                known = age.isdecimal() and year.isdecimal() and max(len(age), len(year)) <= 4
                out[subject] = sex_letter(gender), int(year) - int(age) if known else None
        return out

    def _labeled(self) -> Callable[[str, str], Labeled]:
        """The function from a study and its patient's folder, pNN/pSUBJECT, to the study's labels."""
        if self.labeler == "reports":
            return _Reports(self._reports, self._vocabulary).of
        of_study: dict[str, Labeled] = {}
        if self._external is not None:
            closed = lru_cache(None)(lambda v: (close_upwards(v, self._vocabulary), None, None))
            of_study = {_number(study.removeprefix("s")): closed(vector) for study, vector in self._external.items()}
        elif self._labels is not None:
            labels = ChexpertLabels(self._vocabulary)
            for _, (study, *stated), fault in self._labels.pick("study_id", *labels.columns):
                of_study.setdefault(_number(study), (Vector(), None, fault) if fault else labels.of(tuple(stated)))
        return lambda study, home: of_study.get(study, _NO_LABELS)


class _Reports:
    """Vectors of report texts, read when their study comes up; a study's films lie together, so one is kept."""

    def __init__(self, tree: Tree, vocabulary: Vocabulary) -> None:
        self._tree, self._vocabulary = tree, vocabulary
        self._folder = next((f for f in ("files/", "", "mimic-cxr-reports/files/") if _groups(tree, f)), "files/")
        self._last: tuple[str, Labeled] | None = None

    def of(self, study: str, home: str) -> Labeled:
        """What the report of a study says."""
        path = f"{self._folder}{home}/s{study}.txt"
        if self._last is None or self._last[0] != path:
            self._last = path, self._read(path)
        return self._last[1]

    def _read(self, path: str) -> Labeled:
        from cars_core.reports.label import label_report  # a source that reads label files needs none of it

        try:
            text = self._tree.read(path, most=_REPORT_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return _NO_LABELS
        except OSError as e:
            if away(e, self._tree):
                raise
            return Vector(), None, "its report cannot be read"
        return close_upwards(label_report(text, self._vocabulary).vector, self._vocabulary), None, None


def frontal_position(text: str) -> tuple[str | None, str | None]:
    """(view, why such a film is set aside) of a ViewPosition: PA and AP stay, and what is not said."""
    view = view_code(text)
    if view == "LATERAL" or "LATERAL" in text.upper():
        return "LATERAL", LATERAL
    return view, None if view in ("PA", "AP") or not text else "neither a PA nor an AP view"


def _table(tree: Tree, kind: str) -> Table:
    """The only table of a kind in the root, gzip-compressed or not; where both are there, the published .gz."""
    pattern = re.compile(rf"mimic-cxr-2\.\d+\.\d+-{kind}\.csv(\.gz)?")
    there = tree.children()[1]
    found = [n for n in there if pattern.fullmatch(n) and f"{n}.gz" not in there]
    if len(found) != 1:
        raise BadInput(f"MIMIC-CXR-JPG {kind} table in {tree.root}", ", ".join(found) or "none",
                       f"one file mimic-cxr-2.X.X-{kind}.csv.gz")
    return Table(tree, found[0])


def _layout(tree: Tree) -> tuple[str, str]:
    """(what comes before pNN/, ending of the films) of the first film that is found, else as published."""
    for folder in ("files/", ""):
        for group in _groups(tree, folder):
            for subject in tree.children(f"{folder}{group}")[0][:_LOOK]:
                for study in tree.children(f"{folder}{group}/{subject}")[0][:_LOOK]:
                    files = tree.children(f"{folder}{group}/{subject}/{study}")[1]
                    endings = {name.rpartition(".")[2] for name in files}
                    if form := next((f for f in _FORMATS if f in endings), None):
                        return folder, form
    return "files/", "jpg"


def _groups(tree: Tree, folder: str) -> list[str]:
    """The first folders pNN, of the first digits of subjects, in a folder."""
    return [f for f in tree.children(folder.rstrip("/"))[0] if re.fullmatch(r"p\d\d", f)][:_LOOK]


def _number(text: str) -> str:
    """An identifier as the paths write it: 10000032, also where a table has 10000032.0."""
    return text if text.isdecimal() and text[0] != "0" else patient_number(text)
