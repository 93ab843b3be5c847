"""DICOM films must open anywhere, hold the film exactly, and agree with their readers' labels and boxes."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_windowing

from cars_core.phantom.layouts import LAYOUTS
from cars_core.phantom.layouts.dicom import dicom_bytes
from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import FilmSpec, films
from cars_core.phantom.truth import read_truth, render_truth
from cars_core.vocabulary import load_vocabulary

CLASSES = {"Atelectasis": "atelectasis", "Cardiomegaly": "cardiomegaly", "Consolidation": "consolidation",
           "Edema": "edema", "Pleural effusion": "effusion", "Emphysema": "emphysema",
           "Pulmonary fibrosis": "fibrosis", "Rib fracture": "fracture", "Other lesion": "hernia",
           "Infiltration": "infiltration", "Pleural thickening": "pleural_thickening", "Pneumothorax": "pneumothorax"}


@pytest.fixture
def root(written: Any) -> Path:
    folder: Path = written("dicom")[0]
    return folder


@pytest.fixture
def rows(root: Path) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = pq.read_table(root / "truth/truth.parquet").to_pylist()
    return out


def opened(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = pydicom.dcmread(path)
        list(ds.iterall())  # decodes every element
        return ds


def test_pixels_are_the_12_bit_film_exactly_whichever_way_grey_runs(root: Path, rows: list[dict[str, Any]]) -> None:
    kinds = set()
    for row in rows:
        ds = opened(root / row["path"])
        kinds.add(ds.PhotometricInterpretation)
        stored = ds.pixel_array
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, stored.dtype) == (16, 12, 11, np.uint16)
        grey = 4095 - stored if ds.PhotometricInterpretation == "MONOCHROME1" else stored
        np.testing.assert_array_equal(grey, render_truth(row["truth"], bits=12).pixels)
        np.testing.assert_allclose(apply_windowing(stored, ds), stored, atol=0.6)  # the window is the whole range
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_the_header_tells_the_patient_and_the_geometry(root: Path, rows: list[dict[str, Any]],
                                                       specs: list[FilmSpec]) -> None:
    for row, spec in zip(rows, specs, strict=True):
        ds, t = opened(root / row["path"]), read_truth(spec.truth)
        assert ds.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID and ds.SOPInstanceUID.is_valid
        assert (ds.PatientSex, ds.PatientAge, ds.ViewPosition) == (spec.sex, f"{spec.age:03d}Y", spec.view)
        assert ds.Modality in ("DX", "CR") and list(ds.PatientOrientation) == ["L", "F"]
        assert [float(x) * ds.Rows / 10 for x in ds.PixelSpacing] == pytest.approx([t.patient.field] * 2, abs=1e-3)
        born, taken = (datetime.datetime.strptime(d, "%Y%m%d") for d in (ds.PatientBirthDate, ds.StudyDate))
        years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
        assert years == spec.age


def test_what_identifies_is_there_and_says_that_it_is_invented(root: Path, rows: list[dict[str, Any]]) -> None:
    """A test of de-identification needs something to remove; nobody may take it for a person."""
    uids: set[str] = set()
    people: dict[str, str] = {}
    for row in rows:
        ds = opened(root / row["path"])
        for value in (ds.PatientName, ds.PatientAddress, ds.InstitutionName, ds.ReferringPhysicianName):
            assert "SIMULATED" in str(value)
        assert ds.PatientID.startswith("SIM") and ds.AccessionNumber.startswith("SIM")
        assert ds.StudyDate >= "2110"
        assert people.setdefault(row["patient"], ds.PatientID) == ds.PatientID
        uids |= {ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID}
    assert len(set(people.values())) == len(people)
    assert len(uids) == 3 * len(rows)


def test_an_identifier_names_one_picture_whatever_cohort_it_lies_in(specs: list[FilmSpec]) -> None:
    """Two cohorts merged must not make one patient of two, nor one file of two pictures."""
    def cohort(seed: int, size: int) -> list[FilmSpec]:
        return list(films(n=4, seed=seed, size=size, withheld=[], split_of=lambda p: "train",
                          vocabulary=load_vocabulary()))

    pictures: dict[str, set[bytes]] = {}
    people: dict[str, set[str]] = {}
    made = [(s, bits) for seed, size, bits in ((1, 64, 12), (1, 64, 8), (1, 80, 12), (2, 64, 12))
            for s in cohort(seed, size)]
    for number, (spec, bits) in enumerate([*made, *made[:2]]):
        drawn = draw(spec, number=number, bits=bits)
        data = dicom_bytes(drawn)
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        image = Path(LAYOUTS["dicom"].lay(drawn).image).stem
        jpg = Path(LAYOUTS["mimic"].lay(drawn).image).stem if bits == 8 else ""
        for name in (f"uid {ds.SOPInstanceUID}", f"image {image}", *([f"dicom_id {jpg}"] if jpg else [])):
            pictures.setdefault(name, set()).add(data)
        for name in (f"id {ds.PatientID}", f"name {ds.PatientName}"):
            people.setdefault(name, set()).add(spec.patient)
        for name in (f"study {ds.StudyInstanceUID}", f"series {ds.SeriesInstanceUID}", f"no {ds.AccessionNumber}"):
            people.setdefault(name, set()).add(spec.record)
        assert len(ds.AccessionNumber) <= 16
    assert all(len(data) == 1 for data in pictures.values())
    assert len([k for k in pictures if k.startswith("uid")]) == len(made)
    assert all(len(whose) == 1 for whose in people.values())


def test_a_simulated_picture_never_says_it_is_an_original(root: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert list(opened(root / row["path"]).ImageType)[:2] == ["DERIVED", "SECONDARY"]


#: Attributes that a DX image must have, empty or not (types 1 and 2 of PS3.3 A.26), and those no CR image has.
OF_BOTH = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
           "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "Manufacturer", "InstanceNumber", "ContentDate",
           "BodyPartExamined", "ViewPosition", "PatientOrientation", "BurnedInAnnotation", "LossyImageCompression",
           "PresentationLUTShape", "RescaleIntercept", "RescaleSlope", "RescaleType", "ImagerPixelSpacing")
OF_DX = ("PresentationIntentType", "ImageLaterality", "AnatomicRegionSequence", "AcquisitionContextSequence",
         "DetectorType", "PositionerType", "PixelIntensityRelationship", "PixelIntensityRelationshipSign")


def test_each_kind_of_image_has_the_attributes_of_its_kind(root: Path, rows: list[dict[str, Any]]) -> None:
    kinds = set()
    for row in rows:
        ds = opened(root / row["path"])
        kinds.add(ds.Modality)
        assert [name for name in OF_BOTH if name not in ds] == []
        assert [name for name in OF_DX if (name in ds) != (ds.Modality == "DX")] == []
        if ds.Modality == "DX":
            assert ds.AnatomicRegionSequence[0].CodeMeaning == "Chest"
            assert ds.PixelIntensityRelationshipSign == (1 if ds.PhotometricInterpretation == "MONOCHROME1" else -1)
    assert kinds == {"CR", "DX"}


def test_the_two_label_files_spell_the_last_disease_as_the_published_ones_do(root: Path) -> None:
    train, test = (list(pd.read_csv(root / f"annotations/image_labels_{part}.csv")) for part in ("train", "test"))
    assert train[-2:] == ["Other diseases", "No finding"] and test[-2:] == ["Other disease", "No finding"]
    assert train[2:-2] == test[1:-2] and len(train) == 2 + 28


def test_readers_label_what_is_on_the_film(root: Path, rows: list[dict[str, Any]]) -> None:
    seen = 0
    for part, readers in (("train", 3), ("test", 1)):
        labels = pd.read_csv(root / f"annotations/image_labels_{part}.csv")
        assert len(labels) == readers * len(list((root / part).glob("*.dicom")))
        for row in rows:
            own = labels[labels["image_id"] == Path(row["path"]).stem]
            if not row["path"].startswith(part):
                assert own.empty
                continue
            seen += 1
            assert len(own) == readers and len(own.drop(columns="rad_id", errors="ignore").drop_duplicates()) == 1
            shown = {p.finding for p in read_truth(row["truth"]).placed}
            marks = own.iloc[0]
            assert {f for c, f in CLASSES.items() if marks[c]} == shown - {"nodule", "mass"}
            assert bool(marks["Nodule/Mass"]) == bool({"nodule", "mass"} & shown)
            assert bool(marks["No finding"]) == (not shown)
    assert seen == len(rows)
    assert set(pd.read_csv(root / "annotations/image_labels_train.csv")["rad_id"]) == {"R8", "R9", "R10"}
    assert "rad_id" not in pd.read_csv(root / "annotations/image_labels_test.csv")


def test_boxes_frame_the_masks_on_the_right_side(root: Path, rows: list[dict[str, Any]]) -> None:
    found = pd.concat([pd.read_csv(root / f"annotations/annotations_{p}.csv") for p in ("train", "test")])
    framed = set()
    for row in rows:
        own = found[found["image_id"] == Path(row["path"]).stem].drop_duplicates(["class_name", "x_min", "y_min"])
        placed = read_truth(row["truth"]).placed
        if not placed:
            assert list(own["class_name"]) == ["No finding"] and own["x_min"].isna().all()
        for p in placed:
            name = next((c for c, f in CLASSES.items() if f == p.finding), None)
            if name is None or p.finding == "cardiomegaly":
                continue
            boxes = own[own["class_name"] == name]
            with Image.open(root / f"truth/masks/{row['record']}/{p.finding}.png") as image:
                mask = np.asarray(image)
            covered = np.zeros_like(mask)
            for b in boxes.itertuples():
                part = mask[int(b.y_min) : int(b.y_max), int(b.x_min) : int(b.x_max)]
                assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()  # tight
                covered[int(b.y_min) : int(b.y_max), int(b.x_min) : int(b.x_max)] = True
            assert not (mask & ~covered).any()
            centre = (boxes["x_min"] + boxes["x_max"]) / 2 / mask.shape[1]
            if p.finding in ("effusion", "infiltration", "atelectasis", "consolidation", "fibrosis", "edema"):
                assert len(boxes) == (2 if p.side == "both" else 1)
                framed.add(p.side)
                if p.side != "both":
                    assert (centre > 0.5).all() == (p.side == "left")  # the patient's left is at the picture's right
    assert framed == {"left", "right", "both"}


def test_a_large_heart_is_boxed_as_a_whole(root: Path, rows: list[dict[str, Any]]) -> None:
    found = pd.concat([pd.read_csv(root / f"annotations/annotations_{p}.csv") for p in ("train", "test")])
    large = [r for r in rows if "cardiomegaly" in {p.finding for p in read_truth(r["truth"]).placed}]
    assert large
    for row in large:
        box = found[(found["image_id"] == Path(row["path"]).stem) & (found["class_name"] == "Cardiomegaly")].iloc[0]
        with Image.open(root / f"truth/masks/{row['record']}/heart.png") as image:
            lines, columns = (np.flatnonzero(np.asarray(image).any(axis=axis)) for axis in (1, 0))
        assert (box["x_min"], box["x_max"]) == (columns[0], columns[-1] + 1)
        assert (box["y_min"], box["y_max"]) == (lines[0], lines[-1] + 1)
        assert row["ctr"] > 0.5


def test_8_bits_are_stored_in_8(specs: list[FilmSpec]) -> None:
    drawn = draw(specs[0], number=1, bits=8)
    ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_bytes(drawn)))
    assert (ds.BitsAllocated, ds.BitsStored, ds.pixel_array.dtype) == (8, 8, np.uint8)
    grey = 255 - ds.pixel_array if ds.PhotometricInterpretation == "MONOCHROME1" else ds.pixel_array
    np.testing.assert_array_equal(grey, drawn.film.pixels)
    assert dicom_bytes(drawn) == dicom_bytes(drawn) and 8 in LAYOUTS["dicom"].bits
