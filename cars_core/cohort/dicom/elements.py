"""A DICOM data set read for a few of its elements, from bytes that may be anything.

pydicom walks the elements; their values are turned into numbers and words here, one at a time, since its own
conversions warn and log with the value in the text, and values can be identifiers. Pixel data are not copied.
"""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.charset import decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from cars_core.cohort.films import MAX_BYTES, UnusableFilm

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
_PREFIX = 128 + len(b"DICM")
_UNDEFINED = 0xFFFFFFFF
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # float, double float and integer pixel data
_MAX_INFLATED = 160 << 20  # 64 million pixels of 16 bits, and a header
_HEADER_BYTES = 4 << 20
_MAX_ELEMENTS = 100_000  # of one data set; a radiograph has some hundred
_DAMAGED = "file is truncated or damaged"
_STRINGS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"})
_EXPLICIT = _STRINGS | {"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV", "UL", "UN", "UR",
                        "US", "UV"}
_KEYWORDS = (
    "SpecificCharacterSet", "SOPInstanceUID", "StudyDate", "AccessionNumber", "Modality", "PresentationIntentType",
    "SeriesDescription", "AnatomicRegionSequence", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "BodyPartExamined", "ImagerPixelSpacing", "ViewPosition", "StudyInstanceUID", "SeriesInstanceUID",
    "PatientOrientation", "Laterality", "ImageLaterality", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "BurnedInAnnotation",
    "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "VOILUTFunction", "ModalityLUTSequence",
    "VOILUTSequence", "ViewCodeSequence", "CodeValue", "CodeMeaning", "LUTDescriptor", "LUTData",
)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


_TAGS = {k: _tag(k) for k in _KEYWORDS}
_WANTED: list[Any] = list(_TAGS.values())


class Elements:
    """The elements of one data set, or of one item of a sequence, asked for by keyword.

    Every method answers None or nothing where the element is missing, empty or not what was asked for.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        encoding = dataset.original_encoding
        self.implicit, self.little = encoding[0] is True, encoding[1] is not False

    def value(self, keyword: str) -> bytes:
        """The value's bytes as they stand in the file."""
        value = getattr(self._element(keyword), "value", None)
        return value if isinstance(value, bytes) else b""

    def text(self, keyword: str) -> str:
        """The value as text, in the data set's character set, without padding."""
        value = self.value(keyword)
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").strip("\0 \t\r\n")
        characters = self._dataset.original_character_set
        encodings = [characters] if isinstance(characters, str) else list(characters)
        try:
            with quiet():
                return decode_bytes(value, encodings, set(b"\\\r\n\t\f")).strip("\0 \t\r\n")
        except (LookupError, UnicodeError, ValueError):
            return value.decode("latin-1").strip("\0 \t\r\n")

    def words(self, keyword: str) -> list[str]:
        """Each of the values, upper case."""
        return [part.strip("\0 \t\r\n").upper() for part in self.text(keyword).split("\\")]

    def word(self, keyword: str) -> str:
        """The first value, upper case."""
        return self.words(keyword)[0]

    def numbers(self, keyword: str) -> list[float]:
        """The values of a DS or IS element; none of them where one is not a finite number."""
        out = []
        for part in self.text(keyword).split("\\"):
            if not re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*", part):
                return []
            out.append(float(part))
        return out if all(map(math.isfinite, out)) else []

    def integers(self, keyword: str, *, signed: bool = False) -> list[int]:
        """The values of a US or SS element (or of a string of numbers, where a writer gave it that kind)."""
        if getattr(self._element(keyword), "VR", None) in _STRINGS:
            return [int(x) for x in self.numbers(keyword) if x == int(x)]
        value = self.value(keyword)
        n = len(value) // 2
        return list(struct.unpack(f"{'<' if self.little else '>'}{n}{'h' if signed else 'H'}", value[:2 * n]))

    def integer(self, keyword: str) -> int | None:
        """The first of the values of a US element."""
        found = self.integers(keyword)
        return found[0] if found else None

    def items(self, keyword: str) -> list[Elements]:
        """The items of a sequence.

        Raises:
            UnusableFilm: it cannot be read.
        """
        value = getattr(self._element(keyword), "value", None)
        if isinstance(value, bytes):
            with _parsing():
                value = read_sequence(io.BytesIO(value), self.implicit, self.little, len(value),
                                      self._dataset.original_character_set)
        return [Elements(item) for item in value or () if isinstance(item, Dataset)]

    def _element(self, keyword: str) -> object:
        """The element as pydicom keeps it; None where it is missing or of a kind pydicom does not know."""
        try:
            return self._dataset.get_item(_TAGS[keyword])
        except Exception:  # it looks kinds up, and its errors hold what it found
            return None


@dataclass(frozen=True)
class PixelData:
    """Where the pixel data lie: `data[start:start + length]`; length None: to a delimiter, in fragments."""

    data: bytes
    start: int
    length: int | None
    kind: str


@dataclass(frozen=True)
class Opened:
    """A file's data set up to its pixel data. `syntax` is its transfer syntax UID."""

    elements: Elements
    syntax: str
    pixels: PixelData | None


def open_dicom(data: bytes, *, header: bool = False) -> Opened:
    """Read a DICOM file, or a bare data set without preamble or without file meta information.

    Args:
        header: no more than the first 4 MiB of a deflated data set are inflated, for its pixels are not wanted.

    Raises:
        UnusableFilm: over 256 MiB as it is, over 160 MiB inflated; not DICOM, truncated or damaged; more than
            100,000 elements.
    """
    if len(data) > MAX_BYTES:
        raise UnusableFilm(f"file is over {MAX_BYTES >> 20} MiB")
    start = _PREFIX if data[128:_PREFIX] == b"DICM" else 0
    try:
        syntax, start = _meta(data, start)
        if syntax == DEFLATED:
            data, start = _inflate(data[start:], header=header), 0
        if syntax is None:
            syntax = _guess(data, start)
    except struct.error:
        raise UnusableFilm(_DAMAGED) from None
    found: list[tuple[int, str | None, int]] = []
    seen = 0

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal seen
        seen += 1
        if seen > _MAX_ELEMENTS:
            raise UnusableFilm("file has over 100,000 elements")
        if tag not in _PIXELS:
            return False
        found.append((tag, vr, length))
        return True

    file = io.BytesIO(data)
    file.seek(start)
    with _parsing():
        dataset = read_dataset(file, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=at_pixels,
                               specific_tags=_WANTED)
    elements = Elements(dataset)
    if not found:
        return Opened(elements, syntax, None)
    tag, vr, length = found[-1]
    if tag != _PIXELS[-1]:
        raise UnusableFilm("pixels are floating point numbers")
    at = file.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    return Opened(elements, syntax, PixelData(data, at, None if length == _UNDEFINED else length, vr or "OW"))


def _meta(data: bytes, at: int) -> tuple[str | None, int]:
    """(transfer syntax UID, where the data set starts) from the file meta information, always explicit little endian.

    Where its VRs are missing, its elements are read as implicit.
    """
    syntax = None
    for _ in range(100):
        head = data[at:at + 12]
        if len(head) < 8 or head[:2] != b"\x02\x00":
            return syntax, at
        element, = struct.unpack_from("<H", head, 2)
        vr = head[4:6].decode("latin-1")
        if vr not in _EXPLICIT:
            (length,), skip = struct.unpack_from("<L", head, 4), 8
        elif vr in EXPLICIT_VR_LENGTH_32:
            (length,), skip = struct.unpack_from("<L", head, 8), 12
        else:
            (length,), skip = struct.unpack_from("<H", head, 6), 8
        if at + skip + length > len(data):
            raise UnusableFilm(_DAMAGED)
        if element == 0x10:
            syntax = data[at + skip:at + skip + length].strip(b"\0 ").decode("latin-1")
        at += skip + length
    raise UnusableFilm(_DAMAGED)


def _guess(data: bytes, at: int) -> str:
    """The transfer syntax of a data set that names none, by its first element, which is of group 0008."""
    group, vr = data[at:at + 2], data[at + 4:at + 6].decode("latin-1")
    if group == b"\x08\x00":
        return "1.2.840.10008.1.2.1" if vr in _EXPLICIT else IMPLICIT
    if group == b"\x00\x08" and vr in _EXPLICIT:
        return BIG_ENDIAN
    raise UnusableFilm("file is not DICOM")


def _inflate(data: bytes, *, header: bool) -> bytes:
    limit = _HEADER_BYTES if header else _MAX_INFLATED + 1
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = inflater.decompress(data, limit)
    except zlib.error:
        raise UnusableFilm(_DAMAGED) from None
    if len(out) == limit and header:
        return out
    if len(out) == limit:
        raise UnusableFilm(f"file inflates to over {_MAX_INFLATED >> 20} MiB")
    if not inflater.eof:
        raise UnusableFilm(_DAMAGED)
    return out


@contextmanager
def _parsing() -> Iterator[None]:
    """Round calls into pydicom's reader, which raises many kinds of error on damaged bytes, with values in them."""
    try:
        with quiet():
            yield
    except (UnusableFilm, MemoryError):
        raise
    except RecursionError:
        raise UnusableFilm("file has sequences nested too deep") from None
    except Exception:
        raise UnusableFilm(_DAMAGED) from None


_lock = threading.Lock()
_silent = 0
_before: tuple[warnings.catch_warnings[Any], int] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings from anywhere, and no word from pydicom's loggers, while any thread is in here.

    They show values of elements. Warning filters and log levels belong to the process, so the first thread in sets
    them and the last one out puts them back.
    """
    global _silent, _before
    logger = logging.getLogger("pydicom")
    with _lock:
        _silent += 1
        if _silent == 1:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _before = (caught, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _lock:
            _silent -= 1
            if not _silent and _before is not None:
                logger.setLevel(_before[1])
                _before[0].__exit__(None, None, None)
                _before = None
