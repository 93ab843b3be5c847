"""A broken or treacherous DICOM file must cost one film and no more, and nothing typed into a header that could be a
person's name may leave ingest."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_files import JPEG, compressed, dataset, deflated, film, gdcm_stream, saved, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid

from cars_core.cohort.dicom.read import HEADER, read_header
from cars_core.cohort.films import UnusableFilm, decode_bytes, image_id

SECRET = "SMITH^JOHN"
EXPLICIT = b"1.2.840.10008.1.2.1\0"


def test_no_word_typed_into_a_header_leaves_ingest(caplog: pytest.LogCaptureFixture) -> None:
    """Technicians type names into any field."""
    fields = ("ViewPosition", "BodyPartExamined", "Modality", "SeriesDescription", "PatientName", "PatientSex",
              "PresentationIntentType", "Laterality", "Manufacturer", "StationName", "BurnedInAnnotation",
              "PresentationLUTShape", "VOILUTFunction")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(dataset(scene(), WindowCenter=2048, WindowWidth=4096, **dict.fromkeys(fields, SECRET),
                             StudyDate="20200101", PatientAge="034Y", SpecificCharacterSet="ISO_IR 100"))
    # fields pydicom does not let one write names into
    for good in (b"20200101", b"034Y", b"ISO_IR 100"):
        data = _patched(data, good, (SECRET.encode() + b"        ")[:len(good)])
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        got, header = decode_bytes(data), read_header(data)
        assert not warned and not caplog.records
    assert header.study_date is None and header.age_years is None
    assert set(got.header) <= set(HEADER)
    shown = repr((got.header, got.view, got.spacing_mm)).upper()
    assert "SMITH" not in shown and "JOHN" not in shown
    with pytest.raises(TypeError):
        got.header["PatientName"] = SECRET  # type: ignore[index]


def _bad(**more: Any) -> Callable[[], bytes]:
    return lambda: film(scene(), **more)


def _pixels(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    def make() -> bytes:
        ds = dataset(scene())
        ds.PixelData = change(ds.PixelData)
        return saved(ds)
    return make


def _jpeg_of(width: int, height: int, *, rows: int = 80) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(8)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", height, width)
    return film(scene(8), f"{JPEG}.50", bits=8, stream=bytes(data), Rows=rows)


def _lossless_of(precision: int) -> bytes:
    data = bytearray(gdcm_stream(scene(), f"{JPEG}.70"))
    data[data.index(b"\xff\xc3") + 4] = precision
    return film(scene(), f"{JPEG}.70", stream=bytes(data))


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) >= 1
    return data.replace(old, new, 1)


def _rle(*head: int) -> bytes:
    return film(scene(), uid.RLELossless, stream=struct.pack("<16L", *head) + b"\x81\0" * 50)


def _nested(levels: int) -> bytes:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    head = b"\x08\x00\x18\x22SQ\0\0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return film(scene())[:132] + (head + item) * levels + end * levels


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "rows x columns": (_bad(Rows=65_535, Columns=65_535), "Rows x Columns is over 64 million"),
    "no rows": (_bad(Rows=0), "Rows or Columns is missing"),
    "frames": (_bad(NumberOfFrames=10**9), "NumberOfFrames is not 1"),
    "frames that are words": (_bad(NumberOfFrames=None, SamplesPerPixel=7), "SamplesPerPixel"),
    "bits": (_bad(BitsAllocated=64), "BitsAllocated"),
    "one bit": (_bad(BitsAllocated=1, BitsStored=1, HighBit=0), "BitsAllocated"),
    "few bits": (_bad(BitsStored=4, HighBit=3), "BitsStored"),
    "more bits than there are": (_bad(BitsStored=17, HighBit=16), "BitsStored"),
    "high bit": (_bad(HighBit=200), "HighBit"),
    "palette": (_bad(PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR"),
    "another colour": (_bad(PhotometricInterpretation="CMYK"), "gray or RGB"),
    "short": (_pixels(lambda b: b[:-1000]), "shorter"),
    "long": (_pixels(lambda b: b + b), "longer"),
    "empty": (_pixels(lambda b: b""), "shorter"),
    "none": (lambda: film(scene())[:400], "PixelData|truncated"),
    "cut": (lambda: film(scene())[:-5000], "truncated"),
    "bogus syntax": (lambda: _patched(film(scene()), EXPLICIT, b"1.2.840.10008.9.9.9\0"), "TransferSyntax"),
    "not fragments": (lambda: _patched(film(scene()), EXPLICIT, b"1.2.840.10008.1.2.5\0"), "fragments"),
    "fragments": (lambda: _patched(compressed(scene(), uid.RLELossless), b"1.2.840.10008.1.2.5\0", EXPLICIT),
                  "fragments"),
    "jpeg bomb": (lambda: _jpeg_of(65_535, 65_535), "size is not Rows x Columns"),
    "jpeg of another size": (lambda: _jpeg_of(100, 79), "size is not Rows x Columns"),
    "one bit a sample": (lambda: _lossless_of(1), "8 to 16 bits"),
    "j2k bomb": (lambda: compressed(scene(), uid.JPEG2000Lossless).replace(struct.pack(">LL", 100, 80),
                                                                           struct.pack(">LL", 60_000, 60_000)),
                 "size is not Rows x Columns"),
    "j2k tiles": (lambda: _patched(compressed(scene(), uid.JPEG2000Lossless), struct.pack(">LL", 100, 80),
                                   struct.pack(">LL", 60_000, 60_000)), "tiles"),
    "j2k components": (lambda: _patched(compressed(scene(), uid.JPEG2000Lossless), b"\x00\x01\x0b\x01\x01",
                                        b"\x40\x00\x0b\x01\x01"), "components"),
    "no stream": (lambda: film(scene(), f"{JPEG}.90", stream=b"nothing like it at all"), "no JPEG"),
    "rle segments": (lambda: _rle(15, 64, *[65] * 14), "RLE segments"),
    "rle short": (lambda: _rle(2, 64, 70, *[0] * 13), "cannot be decoded"),
    "rle starts beyond the end": (lambda: _rle(2, 64, 2**32 - 1, *[0] * 13), "cannot be decoded"),
    "deep": (lambda: _nested(10_000), "nested too deep"),
    "deflate bomb": (lambda: deflated(bytes((160 << 20) + 64)), "inflates to over 160 MiB"),
    "deflate damage": (lambda: film(scene(), uid.DeflatedExplicitVRLittleEndian)[:-300], "truncated"),
    "not DICOM": (lambda: bytes(128) + b"DICM" + b"<html>not found</html>", "not DICOM"),
    "no element": (lambda: bytes(128) + b"DICM", "not DICOM"),
    "many elements": (lambda: film(scene())[:132] + b"\x08\0\x01\0\0\0\0\0" * 100_002, "100,000 elements"),
    "float pixels": (lambda: _patched(film(scene()), b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x08\0OF"), "floating point"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_costs_one_film_and_says_why_without_a_value(kind: str,
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    make, why = HOSTILE[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(UnusableFilm, match=why) as e:
            decode_bytes(data)
    assert not warned and not caplog.records
    assert e.value.__cause__ is None and len(str(e.value)) < 90
    for value in ("65535", "1000000000", "CMYK", "9.9.9", "html", "P1"):
        assert value not in str(e.value)


def test_a_two_gigabyte_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    from cars_core.cohort.films import read

    with open(tmp_path / "big.dcm", "wb") as f:
        f.truncate(2 << 30)
    with pytest.raises(UnusableFilm, match="over 256 MiB"):
        read(tmp_path / "big.dcm")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_in_an_uncompressed_file_is_a_film_or_a_refusal(data: st.DataObject) -> None:
    values = scene(height=64, width=64)
    kind = data.draw(st.sampled_from(["native", "implicit", "rle"]))
    base = bytearray(compressed(values, uid.RLELossless, PixelSpacing=[0.1, 0.1]) if kind == "rle" else
                     film(values, uid.ExplicitVRLittleEndian if kind == "native" else
                          uid.ImplicitVRLittleEndian, WindowCenter=2048, WindowWidth=4096, PatientAge="034Y"))
    head = len(base) - 4000 if kind == "rle" else len(base) - values.nbytes
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(132, max(133, head)))
        base[at:at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        got = decode_bytes(bytes(base), bits=data.draw(st.sampled_from([8, 16])))
        assert got.pixels.ndim == 2 and set(got.header) <= set(HEADER)
    except UnusableFilm:
        pass


def test_an_element_of_an_unknown_kind_is_passed_over() -> None:
    data = film(scene(), PatientID=SECRET, Laterality="")
    for element in (b"\x10\0\x20\0LO", b"\x20\0\x60\0CS"):  # with a value and without
        assert decode_bytes(_patched(data, element, element[:4] + b"C\0")).image_id == image_id(scene())
