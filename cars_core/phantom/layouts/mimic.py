"""The layout of MIMIC-CXR-JPG 2.0.0 (Johnson et al., 2019), with MIMIC-CXR's reports and MIMIC-IV's table of ages."""

from __future__ import annotations

import textwrap
from typing import Any, ClassVar

from cars_core.digest import seed_from
from cars_core.phantom.layouts.chexpert import LABELS, report_labels
from cars_core.phantom.layouts.drawn import Drawn, Laid, jpeg
from cars_core.vocabulary import load_vocabulary

_STEM = "mimic-cxr-2.0.0-"
CHEXPERT, NEGBIO = f"{_STEM}chexpert.csv.gz", f"{_STEM}negbio.csv.gz"
METADATA, SPLIT = f"{_STEM}metadata.csv.gz", f"{_STEM}split.csv.gz"
LABEL_COLUMNS = ("subject_id", "study_id", *sorted(LABELS))
METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning")
SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
PATIENTS = "patients.csv.gz"  # of MIMIC-IV's module hosp
PATIENTS_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod")
#: The three years in which MIMIC-IV says a patient's anchor year truly lies.
YEAR_GROUPS = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019", "2020 - 2022")
_LINE = 78  # characters of a report's line
_STUDIES = 10  # numbers kept for the studies of one patient


class Mimic:
    """A study is one film. Both label files say what the report says: the two labellers agree."""

    name = "mimic"
    bits = (8,)
    like = ("MIMIC-CXR-JPG 2.0.0: files/pNN/pSUBJECT/sSTUDY/DICOM.jpg with mimic-cxr-2.0.0-{chexpert,negbio,metadata,"
            "split}.csv.gz, and the reports that MIMIC-CXR releases in the same tree, files/pNN/pSUBJECT/sSTUDY.txt. "
            "patients.csv.gz is MIMIC-IV's: an age in an anchor year, that of the first film; nobody dies. "
            "Label files say what the reports mention; NegBio's agree with CheXpert's. Splits keep their names. "
            "Subjects and studies are numbered anew in every cohort; a dicom_id is one picture's wherever it lies.")
    tables: ClassVar[dict[str, tuple[str, ...]]] = {CHEXPERT: LABEL_COLUMNS, NEGBIO: LABEL_COLUMNS,
              METADATA: METADATA_COLUMNS, SPLIT: SPLIT_COLUMNS, PATIENTS: PATIENTS_COLUMNS}

    def lay(self, drawn: Drawn) -> Laid:
        """Files and rows of one film."""
        vocabulary, spec, size = load_vocabulary(), drawn.spec, drawn.truth.size
        subject, study = 10_000_000 + drawn.number, 50_000_000 + (drawn.number - 1) * _STUDIES + spec.study
        hexadecimal = drawn.identity("dicom_id")
        dicom = "-".join(hexadecimal[i : i + 8] for i in range(0, 40, 8))
        folder = f"files/p{str(subject)[:2]}/p{subject}"
        image = f"{folder}/s{study}/{dicom}.jpg"
        own: dict[str, Any] = {"subject_id": subject, "study_id": study}
        labels = own | report_labels(drawn.report, vocabulary)
        portable = spec.view == "AP"
        metadata = {
            "dicom_id": dicom, **own,
            "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)" if portable else "CHEST (SINGLE VIEW)",
            "ViewPosition": spec.view, "Rows": size, "Columns": size,
            "StudyDate": f"{drawn.taken:%Y%m%d}", "StudyTime": f"{drawn.taken:%H%M%S}.000",
            "ProcedureCodeSequence_CodeMeaning": "CHEST (PORTABLE AP)" if portable else "CHEST (SINGLE VIEW)",
            "ViewCodeSequence_CodeMeaning": "antero-posterior" if portable else "postero-anterior",
            "PatientOrientationCodeSequence_CodeMeaning": "Recumbent" if drawn.truth.patient.supine else "Erect",
        }
        files = {image: jpeg(drawn.film.pixels), f"{folder}/s{study}.txt": report_file(drawn.report.text).encode()}
        rows: dict[str, list[dict[str, Any]]] = {CHEXPERT: [labels], NEGBIO: [labels], METADATA: [metadata],
                SPLIT: [{"dicom_id": dicom, **own, "split": spec.split}]}
        if spec.study == 1:  # a patient's films come from the first on
            group = YEAR_GROUPS[seed_from("anchor year group", spec.patient) % len(YEAR_GROUPS)]
            rows[PATIENTS] = [{"subject_id": subject, "gender": spec.sex, "anchor_age": spec.age,
                               "anchor_year": drawn.taken.year, "anchor_year_group": group, "dod": ""}]
        return Laid(image, files, rows)


def report_file(text: str) -> str:
    """A report as MIMIC-CXR's files hold it: a centred heading, wrapped lines set in by one space.

    A reader has to join lines before it can find a sentence; the truth holds the text unwrapped.
    """
    wrapped = (part for line in text.strip().splitlines() for part in textwrap.wrap(line, _LINE) or [""])
    lines = ["FINAL REPORT".rjust(44), *wrapped]
    return "".join(f" {line}".rstrip() + "\n" for line in lines)
