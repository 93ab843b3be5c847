"""DICOM films (PS3.3 CR, DX and secondary capture images): the header fields that ingest needs, and the pixels.

`read_header` gives identifiers, for ingest to key and forget. What goes further travels in `films.Decoded.header`, of
which every value is one of a list, a number in its range, or absent. No reason for a refusal holds a header's value.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from types import MappingProxyType

from cars_core.cohort.dicom import terms as terms
from cars_core.cohort.dicom.elements import Elements, Opened, open_dicom
from cars_core.cohort.dicom.frame import SYNTAXES, read_frame
from cars_core.cohort.dicom.grey import canonical, shades
from cars_core.cohort.films import Decoded, image_id

#: The header fields that may travel with a film.
HEADER = ("Modality", "ViewPosition", "BodyPartExamined", "PhotometricInterpretation", "BitsStored", "Rows", "Columns",
          "PixelSpacing", "PresentationIntentType", "TransferSyntax", "BurnedInAnnotation")


@dataclass(frozen=True)
class Header:
    """What ingest needs of a DICOM header. None, or "" for identifiers, where a field is missing or not valid.

    The first five are identifiers and must not leave ingest; so must not `study_date`. `age_years` is whole years
    0..120, by PatientAge or else the birth date, which is not kept. `view` is one of dicom_terms.VIEWS, from
    ViewPosition, ViewCodeSequence or the words of SeriesDescription. `burned_in`: YES or NO. `spacing` is
    millimetres between rows and between columns. `transfer_syntax` is a name, OTHER if it is not read here.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    accession: str
    sex: str | None
    age_years: int | None
    study_date: datetime.date | None
    view: str | None
    modality: str | None
    body_part: str | None
    laterality: str | None
    burned_in: str | None
    presentation: str | None
    patient_orientation: tuple[str, str] | None
    spacing: tuple[float, float] | None
    photometric: str | None
    rows: int | None
    columns: int | None
    bits_stored: int | None
    frames: int
    transfer_syntax: str


def read_header(data: bytes) -> Header:
    """Read the header of a DICOM file or bare data set; pixels are not touched.

    Raises:
        UnusableFilm: over 256 MiB; not DICOM, truncated or damaged before its pixels.
    """
    return _header(open_dicom(data, header=True))


def decode_dicom(data: bytes, *, bits: int) -> Decoded:
    """The film in a DICOM file or bare data set, as films.decode_bytes gives it.

    Args:
        bits: 8 or 16.

    Raises:
        UnusableFilm: as `read_header`; no pixels, several frames, over 64 million pixels, a kind of picture or
            transfer syntax that is not read here, damaged pixels.
    """
    opened = open_dicom(data)
    frame = read_frame(opened)
    header = _header(opened)
    return Decoded(pixels=shades(frame, opened.elements, bits=bits),
                   image_id=image_id(canonical(frame, opened.elements)), spacing_mm=header.spacing, view=header.view,
                   header=MappingProxyType(_allowed(header)))


def _header(opened: Opened) -> Header:
    e = opened.elements
    taken = terms.date(e.text("StudyDate"))
    frames = e.numbers("NumberOfFrames")
    burned, sex = e.word("BurnedInAnnotation"), e.word("PatientSex")
    presentation = terms.one_of(e.word("PresentationIntentType"), terms.PRESENTATION)
    laterality = e.word("ImageLaterality") or e.word("Laterality")
    return Header(
        patient_id=e.text("PatientID"), study_uid=terms.uid(e.text("StudyInstanceUID")) or "",
        series_uid=terms.uid(e.text("SeriesInstanceUID")) or "",
        sop_instance_uid=terms.uid(e.text("SOPInstanceUID")) or "", accession=e.text("AccessionNumber"),
        sex=sex if sex in ("M", "F", "O") else None,
        age_years=terms.age(e.text("PatientAge"), born=terms.date(e.text("PatientBirthDate")), taken=taken),
        study_date=taken, view=_view(e), modality=terms.one_of(e.word("Modality"), terms.MODALITIES),
        body_part=_body_part(e), laterality=laterality if laterality in terms.LATERALITIES else None,
        burned_in=burned if burned in ("YES", "NO") else None, presentation=presentation,
        patient_orientation=terms.orientation(e.words("PatientOrientation")),
        spacing=terms.spacing(e.numbers("PixelSpacing")) or terms.spacing(e.numbers("ImagerPixelSpacing")),
        photometric=terms.one_of(e.word("PhotometricInterpretation"), terms.PHOTOMETRIC),
        rows=e.integer("Rows"), columns=e.integer("Columns"), bits_stored=e.integer("BitsStored"),
        frames=int(frames[0]) if frames else 1, transfer_syntax=SYNTAXES.get(opened.syntax, "OTHER"))


def _view(e: Elements) -> str | None:
    found = terms.view(e.text("ViewPosition"))
    for item in e.items("ViewCodeSequence")[:1]:
        found = found or terms.view_of_code(item.text("CodeValue")) or terms.view(item.text("CodeMeaning"))
    return found or terms.view(e.text("SeriesDescription"))


def _body_part(e: Elements) -> str | None:
    found = terms.body_part(e.text("BodyPartExamined"))
    if found in (None, "OTHER"):
        for item in e.items("AnatomicRegionSequence")[:1]:
            found = terms.body_part(item.text("CodeMeaning")) or found
    return found


def _allowed(header: Header) -> dict[str, str]:
    spacing = header.spacing and f"{header.spacing[0]:g}\\{header.spacing[1]:g}"
    values = (header.modality, header.view, header.body_part, header.photometric, header.bits_stored, header.rows,
              header.columns, spacing, header.presentation, header.transfer_syntax,
              header.burned_in)
    return {name: str(value) for name, value in zip(HEADER, values, strict=True) if value is not None}
