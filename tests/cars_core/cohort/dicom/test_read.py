"""A DICOM film must reach the lake with the values its file holds, in every encoding hospitals use, and its
header must tell what ingest needs."""

from __future__ import annotations

import base64
import datetime
import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import JPEG, compressed, dataset, film, gdcm_stream, saved, scene
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from cars_core.cohort.dicom.read import decode_dicom, read_header
from cars_core.cohort.films import UnusableFilm, decode_bytes, image_id, normalise
from cars_core.phantom.layouts.dicom import dicom_bytes
from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary

NATIVE = [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
          uid.DeflatedExplicitVRLittleEndian]
# 64 x 64 of 12 bits, 2048 + y * x // 2 - 11 * y + 5 * x, encoded by OpenJPH 0.21
HTJ2K = base64.b64decode(
    "/0//UQApQAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQ"
    "kJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAUIAAf+TwAArAP9vI/OR7nvsAoG0AMAAE8AAE8AAEoC2"
    "pP4AglQAkRX+AGNUAEwAY9QAwAAVMAAFVAABOFo2YBOpHEJVAMealsDAxAZ3dgAAgPShAcQAwAAWjAABaEAAFUAsRNf4xBjA/OdScWU9"
    "HCJZAGGfyFJ20P2BBAz54YLXegAAgPz5gDJaRicAwAAW9AABbcAAFojmBuKCQnGmiwMUABLP+f1CBTnUnUyenp6ejyfCcQHv+epEcgNx"
    "QbH+/3hgIQPecET37JM9sEHssQEAAPz5vN3dgAAfdttskkkuAMAALqIAAXUAEA1ChsoOBDFIMQcltVhzDwiE8f6//Tyenp6enp6enk9P"
    "T08np0J1AXXiu7wDIRqEDJUdCGL+/3/bAAAB798nv3ye/ZJ7932XDaSW++S0ugH/2Q==")


def stored(values: np.ndarray, bits: int) -> np.ndarray:
    """Values from 0 up, as the id is taken of them."""
    lowest = -(1 << (bits - 1)) if values.dtype.kind == "i" else 0
    return (values.astype(np.int64) - lowest).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless,
                                    f"{JPEG}.57", f"{JPEG}.70", "1.2.840.10008.1.2.1.98"])
def test_lossless_encodings_keep_every_stored_value(syntax: str, signed: bool, bits: int) -> None:
    values = scene(bits, signed=signed, width=101)
    if syntax in NATIVE:
        data = film(values, syntax, bits=bits)
    elif syntax.startswith((f"{JPEG}.57", f"{JPEG}.70")):
        codes = values.view(f"u{values.itemsize}") & ((1 << bits) - 1)  # JPEG knows no sign
        data = film(values, syntax, bits=bits, stream=gdcm_stream(codes, syntax, bits=bits))
    elif syntax.endswith(".98"):
        data = film(values, syntax, bits=bits, stream=values.tobytes())
    else:
        data = compressed(values, syntax, bits=bits)
    got = decode_bytes(data, bits=16)
    assert got.image_id == image_id(stored(values, bits)), "other values than were written"
    whole = stored(values, bits).astype(float)
    if bits == 8:
        np.testing.assert_array_equal(got.pixels, whole * 257)
    else:
        low, high = np.percentile(whole, (0.5, 99.5))
        want = ((whole - low) / (high - low)).clip(0, 1) * 65_535
        assert np.abs(got.pixels - want).max() < 0.51


def test_a_stream_with_other_bits_than_the_header_says_keeps_its_values() -> None:
    out = io.BytesIO()
    Image.fromarray(scene(16)).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    assert decode_bytes(film(scene(12), f"{JPEG}.90", stream=out.getvalue())).image_id == image_id(scene(16))
    values = scene(10, signed=True)
    ds = pydicom.dcmread(io.BytesIO(compressed(values, uid.JPEGLSLossless, bits=10)))
    ds.BitsStored, ds.HighBit = 12, 11
    assert decode_bytes(saved(ds, uid.JPEGLSLossless)).image_id == image_id(stored(values, 10))


def test_bytes_in_big_endian_words_are_not_swapped_in_pairs() -> None:
    ds = dataset(scene(8), bits=8)
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    assert decode_bytes(saved(ds, uid.ExplicitVRBigEndian)).image_id == image_id(scene(8))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_an_odd_number_of_pixels_is_padded_nowhere_in_the_film(syntax: str, bits: int) -> None:
    values = scene(bits, height=71, width=91)
    data = film(values, syntax, bits=bits) if syntax in NATIVE else compressed(values, syntax, bits=bits)
    assert decode_bytes(data).image_id == image_id(values)


def test_htj2k_keeps_every_stored_value() -> None:
    y, x = np.mgrid[:64, :64]
    values = (2048 + y * x // 2 - 11 * y + 5 * x).astype(np.uint16)
    for syntax in (f"{JPEG}.201", f"{JPEG}.202", f"{JPEG}.203"):
        assert decode_bytes(film(values, syntax, stream=HTJ2K)).image_id == image_id(values)


@pytest.mark.parametrize(("syntax", "bits", "worst"), [
    (uid.JPEGLSNearLossless, 12, 3), (uid.JPEG2000, 12, 40), (f"{JPEG}.51", 12, 8), (f"{JPEG}.50", 8, 4),
])
def test_lossy_encodings_come_close(syntax: str, bits: int, worst: int) -> None:
    values = scene(bits)
    full = {"WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    if syntax == f"{JPEG}.50":
        out = io.BytesIO()
        Image.fromarray(values).save(out, "JPEG", quality=95)
        data = film(values, syntax, bits=bits, stream=out.getvalue(), **full)
    elif syntax == f"{JPEG}.51":
        data = film(values, syntax, bits=bits, stream=gdcm_stream(values, syntax), **full)
    else:
        data = compressed(values, syntax, settings={"jls_error": 3} if syntax == uid.JPEGLSNearLossless else
                          {"j2k_cr": [8]}, **full)
    got = decode_bytes(data, bits=16).pixels.astype(float) * ((1 << bits) - 1) / 65_535
    assert np.abs(got - values).max() <= worst + 0.1


@pytest.mark.parametrize("way", ["native", "planar", "rle", "jls", "j2k", "lossless", "jpeg", "jpeg-rgb", "jpeg-ids",
                                 "jpeg-bare", "ybr"])
def test_colour_captures_become_the_luma_a_png_of_them_has(way: str) -> None:
    rgb = np.stack([scene(8), scene(8, seed=1)[::-1], 255 - scene(8, seed=2)], axis=-1)
    want = np.asarray(Image.fromarray(rgb).convert("L"))
    slack = 0
    if way == "native":
        data = film(rgb, bits=8)
    elif way == "planar":
        ds = dataset(rgb, bits=8, PlanarConfiguration=1)
        ds.PixelData = np.moveaxis(rgb, -1, 0).tobytes()
        data = saved(ds)
    elif way == "rle":
        data = compressed(rgb, uid.RLELossless, bits=8)
    elif way == "jls":
        data = compressed(rgb, uid.JPEGLSLossless, bits=8)
    elif way == "j2k":
        data = compressed(rgb, uid.JPEG2000Lossless, bits=8, PhotometricInterpretation="RGB",
                          settings={"use_mct": False})
    elif way == "lossless":
        data = film(rgb, f"{JPEG}.70", bits=8, stream=gdcm_stream(rgb, f"{JPEG}.70", bits=8))
    elif way == "ybr":
        ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
        data, slack = film(ycc, bits=8, PhotometricInterpretation="YBR_FULL"), 1
    else:
        # named RGB by a marker, by the components' names alone, or by the header alone
        out = io.BytesIO()
        picture = Image.frombytes("YCbCr", (100, 80), rgb.tobytes()) if way == "jpeg-bare" else Image.fromarray(rgb)
        picture.save(out, "JPEG", quality=98, keep_rgb=way in ("jpeg-rgb", "jpeg-ids"), subsampling=0)
        stream = out.getvalue()
        if way in ("jpeg-ids", "jpeg-bare"):
            at = stream.index(b"\xff\xee" if way == "jpeg-ids" else b"\xff\xe0")
            stream = stream[:at] + stream[at + 2 + int.from_bytes(stream[at + 2:at + 4], "big"):]
            assert b"Adobe" not in stream and b"JFIF" not in stream
        kind = "YBR_FULL_422" if way == "jpeg" else "RGB"
        data, slack = film(rgb, f"{JPEG}.50", bits=8, stream=stream, PhotometricInterpretation=kind), 4
    got = decode_bytes(data).pixels
    assert np.abs(got.astype(int) - want).max() <= slack


def test_a_film_is_one_film_whatever_it_is_stored_as() -> None:
    """A duplicate under another encoding, polarity, sign, window or file format would count a patient's film twice."""
    deep, plain = scene(12), scene(8)
    inverse = (4095 - deep).astype(np.uint16)
    garbage = deep | np.uint16(0xA000)
    ids = {decode_bytes(d, bits=b).image_id for b in (8, 16) for d in (
        film(deep), film(deep, WindowCenter=900, WindowWidth=500), compressed(deep, uid.JPEG2000Lossless),
        film(inverse, PhotometricInterpretation="MONOCHROME1"), film(garbage),
        film((deep.astype(np.int16) - 2048), PixelRepresentation=1),
        film((deep << 4).astype(np.uint16), HighBit=15))}
    assert ids == {image_id(deep)}
    out = io.BytesIO()
    Image.fromarray(plain).save(out, "PNG")
    ids = {decode_bytes(d, bits=b).image_id for b in (8, 16) for d in (
        out.getvalue(), film(plain, bits=8), film(plain.astype(np.uint16), bits=8))}
    assert ids == {image_id(plain)}
    assert decode_bytes(film(deep[:, ::-1].copy())).image_id != image_id(deep)


def test_simulated_films_are_the_truth_whichever_way_grey_runs() -> None:
    kinds = set()
    specs = films(n=12, seed=5, size=192, withheld=[], split_of=lambda _: "train", vocabulary=load_vocabulary())
    for number, spec in enumerate(specs):
        drawn = draw(spec, number=number, bits=12)
        data = dicom_bytes(drawn)
        header, got = read_header(data), decode_bytes(data, bits=16)
        kinds.add(header.photometric)
        assert np.abs(got.pixels / 65_535 - drawn.film.pixels / 4095).max() < 1e-5
        assert np.abs(decode_bytes(data).pixels / 255 - drawn.film.pixels / 4095).max() <= 0.501 / 255
        assert got.image_id == image_id(drawn.film.pixels)
        assert (header.sex, header.age_years, header.view) == (spec.sex, spec.age, spec.view) and got.view == spec.view
        assert got.spacing_mm == pytest.approx((drawn.spacing, drawn.spacing), rel=1e-3)
        assert header.patient_id == spec.patient.upper() and header.study_date == drawn.taken.date()
        assert (header.body_part, header.burned_in, header.patient_orientation) == ("CHEST", "NO", ("L", "F"))
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_real_films_show_dark_lungs_between_bright_mediastinum_and_chest_wall(open_films: Path) -> None:
    for name in ("nih_dx_chest_implicit_le.dcm", "nema_cr_chest_pa_mono1_j2k_lossy.dcm"):
        data = (open_films / "dicom" / name).read_bytes()
        shown = np.asarray(Image.open(io.BytesIO(normalise(decode_bytes(data), size=128).png))).astype(float)
        h, w = shown.shape
        band = shown[h // 4:h * 6 // 10].mean(axis=0)
        lungs, middle = band[[int(w * 0.28), int(w * 0.72)]], band[w // 2]
        assert (lungs < middle - 30).all(), "lungs are not dark"
        assert decode_bytes(data, bits=16).spacing_mm is None  # 0\0, and none
        assert np.ptp(np.percentile(shown, (1, 99))) > 120


# ---- the header

def test_the_header_tells_what_ingest_needs() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "272479007", "SCT", "postero-anterior"
    ds = dataset(scene(), PatientID="山田", SpecificCharacterSet="ISO_IR 192", PatientBirthDate="19501231",
                 StudyDate="20200630", PatientSex="F", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4",
                 AccessionNumber="A 1", BodyPartExamined="PORT CHEST", ImageLaterality="U", BurnedInAnnotation="YES",
                 PresentationIntentType="FOR PROCESSING", PixelSpacing=[0, 0], ImagerPixelSpacing=[0.2, 0.1],
                 ViewCodeSequence=[code], PatientOrientation=["L", "F"])
    h = read_header(saved(ds))
    assert (h.patient_id, h.study_uid, h.series_uid) == ("山田", "1.2.3", "1.2.4")
    assert h.sop_instance_uid == ds.SOPInstanceUID
    assert (h.accession, h.sex, h.age_years, h.study_date) == ("A 1", "F", 69, datetime.date(2020, 6, 30))
    assert (h.view, h.body_part, h.laterality, h.burned_in) == ("PA", "CHEST", "U", "YES")
    assert (h.presentation, h.spacing, h.photometric) == ("FOR PROCESSING", (0.2, 0.1), "MONOCHROME2")
    assert (h.rows, h.columns, h.bits_stored, h.frames) == (80, 100, 12, 1)
    assert h.transfer_syntax == "explicit little endian" and "1950" not in repr(h)


def test_what_a_code_names_fills_in_and_does_not_overrule() -> None:
    def code(value: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
        return item

    codes = {"ViewCodeSequence": [code("399348003", "antero-posterior")],
             "AnatomicRegionSequence": [code("51185008", "Chest")]}
    h = read_header(film(scene(), **codes))
    assert (h.view, h.body_part) == ("AP", "CHEST")
    h = read_header(film(scene(), **codes, ViewPosition="PA", BodyPartExamined="KNEE"))
    assert (h.view, h.body_part) == ("PA", "LEG")
    h = read_header(film(scene(), ViewCodeSequence=[code("0", "left lateral")], SeriesDescription="CHEST PA"))
    assert (h.view, h.body_part) == ("LL", None)
    assert read_header(film(scene(), SeriesDescription="CHEST PA", BodyPartExamined="XYZ")).body_part == "OTHER"


@pytest.mark.parametrize("syntax", NATIVE[:3])
def test_data_sets_without_preamble_are_read_when_asked(syntax: str) -> None:
    values = scene()
    data = film(values, syntax)
    length = int.from_bytes(data[140:144], "little")
    for bare in (data[132:], data[144 + length:]):  # with and without file meta information
        assert decode_bytes(bare, dicom=True).image_id == image_id(values)
        with pytest.raises(UnusableFilm, match="not a PNG"):
            decode_bytes(bare)


def test_the_header_of_a_deflated_file_is_read_without_inflating_the_rest() -> None:
    ds = dataset(np.zeros((1200, 2000), np.uint16))
    data = saved(ds, uid.DeflatedExplicitVRLittleEndian)
    assert read_header(data).rows == 1200 and decode_bytes(data).pixels.shape == (1200, 2000)


def test_fragments_and_offset_tables_of_any_make_are_joined() -> None:
    ds = dataset(scene())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.compress(uid.JPEGLSLossless, generate_instance_uid=False, encoding_plugin="pyjpegls")
    stream = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    for table in (True, False):
        ds.PixelData = encapsulate([stream], fragments_per_frame=5, has_bot=table)
        assert decode_dicom(saved(ds, uid.JPEGLSLossless), bits=8).image_id == image_id(scene())
