"""A layout like VinDr-CXR (Nguyen et al., Scientific Data 2022): DICOM films, readers' labels and boxes.

Unlike VinDr's, the files carry what identifies a patient and a place in a hospital's files, all of it invented and
saying so, so that de-identification has something to take away.
"""

from __future__ import annotations

import datetime
import io
from typing import Any, ClassVar

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from cars_core.anatomy.masks import Mask
from cars_core.digest import digest, seed_from
from cars_core.phantom.layouts.drawn import Drawn, Laid
from cars_core.phantom.placed import UNSIDED

#: VinDr-CXR's labels, its local findings first.
_LOCAL_AND_GLOBAL = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis")
#: Columns of its two image label files after image_id and rad_id: the last disease is spelt differently.
TRAIN_CLASSES = (*_LOCAL_AND_GLOBAL, "Other diseases", "No finding")
TEST_CLASSES = (*_LOCAL_AND_GLOBAL, "Other disease", "No finding")
CLASS_OF = {
    "atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation", "edema": "Edema",
    "effusion": "Pleural effusion", "emphysema": "Emphysema", "fibrosis": "Pulmonary fibrosis",
    "fracture": "Rib fracture", "hernia": "Other lesion", "infiltration": "Infiltration", "mass": "Nodule/Mass",
    "nodule": "Nodule/Mass", "pleural_thickening": "Pleural thickening", "pneumothorax": "Pneumothorax"}
READERS = ("R8", "R9", "R10")
_BOX = ("class_name", "x_min", "y_min", "x_max", "y_max")
MONOCHROME1_PERCENT = 15
CR_PERCENT = 30  # of patients, whose films come from computed radiography (storage plates)


class Dicom:
    """Three readers see each training film and agree; the test films have the readers' consensus, without names."""

    name = "dicom"
    bits = (12, 8)
    like = ("VinDr-CXR: train/ holds the split train, test/ validate and test, as DICOM; annotations/ the labels and "
            "boxes of three readers who agree, for test their consensus. Boxes are in pixels; x_max and y_max lie just "
            "beyond the finding. Names, identifiers and dates in the files are invented.")
    tables: ClassVar[dict[str, tuple[str, ...]]] = {
        "annotations/image_labels_train.csv": ("image_id", "rad_id", *TRAIN_CLASSES),
        "annotations/image_labels_test.csv": ("image_id", *TEST_CLASSES),
        "annotations/annotations_train.csv": ("image_id", "rad_id", *_BOX),
        "annotations/annotations_test.csv": ("image_id", *_BOX),
    }

    def lay(self, drawn: Drawn) -> Laid:
        """Files and rows of one film."""
        part = "train" if drawn.spec.split == "train" else "test"
        image_id = drawn.identity("image_id")[:32]
        path = f"{part}/{image_id}.dicom"
        found = {CLASS_OF[p.finding] for p in drawn.truth.placed}
        classes = TRAIN_CLASSES if part == "train" else TEST_CLASSES
        labels = {name: int(name in found) for name in classes} | {"No finding": int(not found)}
        marks = boxes(drawn) if found else [dict.fromkeys(_BOX, "") | {"class_name": "No finding"}]
        readers = [{"rad_id": r} for r in READERS] if part == "train" else [{}]
        own: list[dict[str, Any]] = [{"image_id": image_id, **r} for r in readers]
        rows = {f"annotations/image_labels_{part}.csv": [o | labels for o in own],
                f"annotations/annotations_{part}.csv": [o | m for o in own for m in marks]}
        return Laid(path, {path: dicom_bytes(drawn)}, rows)


def boxes(drawn: Drawn) -> list[dict[str, Any]]:
    """One box a finding and side, in pixels: from the first to just beyond the last row and column it shows in.

    An enlarged heart is boxed as a whole. A finding too faint to leave a mask has no box.
    """
    film = drawn.film
    columns = [np.flatnonzero(m.any(axis=0)).mean() for m in (film.anatomy.right_lung, film.anatomy.left_lung)]
    middle = round(float(np.mean(columns)))
    out = []
    for finding, mask in sorted(film.finding_masks.items()):
        sides = {p.side for p in drawn.truth.placed if p.finding == finding}
        parts = [film.anatomy.heart] if finding == "cardiomegaly" else [mask]
        if finding not in UNSIDED and ("both" in sides or len(sides) == 2):
            left, right = mask.copy(), mask.copy()
            left[:, :middle], right[:, middle:] = False, False  # the patient's left is at the picture's right
            parts = [right, left]
        out += [{"class_name": CLASS_OF[finding], **_box(m)} for m in parts if m.any()]
    return out


def _box(mask: Mask) -> dict[str, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {"x_min": int(columns[0]), "y_min": int(rows[0]), "x_max": int(columns[-1]) + 1, "y_max": int(rows[-1]) + 1}


def _born(drawn: Drawn) -> datetime.date:
    """A birthday a few days before the first film's day, so that the age holds on all films of a year."""
    spec = drawn.spec
    early = datetime.timedelta(days=spec.days + seed_from("birthday", spec.patient) % 4)
    day = drawn.taken.date() - early
    return day.replace(year=day.year - spec.age, day=min(day.day, 28) if day.month == 2 else day.day)


def dicom_bytes(drawn: Drawn) -> bytes:
    """A DICOM file of the film, Explicit VR Little Endian, 12 bits in 16 (or 8 in 8). The same film, the same bytes.

    MONOCHROME2, or for MONOCHROME1_PERCENT of films MONOCHROME1 with inverted values. The window is the whole range, so
    that applying it gives back the film.
    """
    spec, patient, taken, size = drawn.spec, drawn.truth.patient, drawn.taken, drawn.truth.size
    person, computed = spec.patient.upper(), seed_from("CR", spec.patient) % 100 < CR_PERCENT
    inverted = seed_from("MONOCHROME1", spec.truth) % 100 < MONOCHROME1_PERCENT
    storage = ComputedRadiographyImageStorage if computed else DigitalXRayImageStorageForPresentation
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", ""]  # computed, of no patient
    ds.DerivationDescription = "SIMULATED"
    ds.SOPClassUID = storage
    # The instance is the picture; study and series are the patient's, whose name holds the cohort's seed.
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["instance", drawn.identity("instance")])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", spec.patient, str(spec.study)])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", spec.patient, str(spec.study)])
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{taken:%Y%m%d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"{taken:%H%M%S}"
    ds.AccessionNumber = "SIM" + digest(["accession", spec.patient, spec.study], length=13).upper()  # 16 at most
    ds.Modality = "CR" if computed else "DX"
    ds.Manufacturer = "SIMULATED"
    ds.InstitutionName = "SIMULATED HOSPITAL"
    ds.InstitutionAddress = "1 SIMULATED STREET"
    ds.ReferringPhysicianName = "SIMULATED^REFERRER"
    ds.OperatorsName = "SIMULATED^OPERATOR"
    ds.StationName = "SIMULATED"
    ds.StudyDescription = f"CHEST {spec.view}"
    ds.SeriesDescription = f"{spec.view} {'SUPINE' if patient.supine else 'ERECT'}"
    ds.PatientName = f"SIMULATED^{person}"
    ds.PatientID = person
    ds.PatientBirthDate = f"{_born(drawn):%Y%m%d}"
    ds.PatientSex = spec.sex
    ds.PatientAge = f"{spec.age:03d}Y"
    ds.PatientAddress = f"{1 + seed_from('house', spec.patient) % 999} SIMULATED STREET"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = spec.view
    ds.PatientOrientation = ["L", "F"]  # columns run to the patient's left, rows to the feet
    ds.StudyID = str(spec.study)
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.PixelSpacing = ds.ImagerPixelSpacing = [drawn.spacing, drawn.spacing]
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"

    top = 2**drawn.bits - 1
    pixels = drawn.film.pixels
    stored = (top - pixels).astype(pixels.dtype) if inverted else pixels
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.Rows = ds.Columns = size
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = drawn.bits, drawn.bits - 1, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.WindowCenter, ds.WindowWidth, ds.WindowCenterWidthExplanation = (top + 1) // 2, top + 1, "FULL RANGE"
    ds.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"

    if not computed:
        _digital(ds, sign=1 if inverted else -1)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = storage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _digital(ds: Dataset, *, sign: int) -> None:
    """What the DX image has and the CR image lacks (PS3.3 A.26); what is unknown is there and empty, as type 2 asks."""
    chest = Dataset()
    chest.CodeValue, chest.CodingSchemeDesignator, chest.CodeMeaning = "51185008", "SCT", "Chest"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [chest]
    ds.AcquisitionContextSequence = []
    ds.DetectorType = None
    ds.PositionerType = None
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", sign
