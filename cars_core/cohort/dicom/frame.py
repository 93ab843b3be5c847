"""The pixel data of a DICOM file as stored values, whatever its transfer syntax.

The sizes a compressed stream claims are held against Rows and Columns before a decoder sees it, so that a small file
cannot ask for gigabytes. What decoders read beyond that, they read at their own risk: run them in a guarded process.

Decoders: Pillow (JPEG of 8 bits, the runs of RLE) and GDCM (all other JPEG, JPEG-LS, JPEG 2000 and HTJ2K).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import gdcm
import numpy as np
from PIL import Image

from cars_core.cohort.dicom.elements import BIG_ENDIAN, Elements, Opened, PixelData
from cars_core.cohort.films import MAX_PIXELS, Deep, Pixels, UnusableFilm

Codes = Pixels | Deep

_NATIVE = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    BIG_ENDIAN: "explicit big endian",
}
_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_RLE = "1.2.840.10008.1.2.5"
_STREAMS = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless, first-order",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless, RPCL",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
#: Transfer syntaxes that are read: UID -> name.
SYNTAXES = {**_NATIVE, _UNCOMPRESSED: "explicit little endian, encapsulated", _RLE: "RLE", **_STREAMS}

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_TRUNCATED = "PixelData are truncated"
_UNDECODABLE = "PixelData cannot be decoded"
_JPEG, _JPEG_LS, _J2K = b"\xff\xd8", 0xF7, b"\xff\x4f\xff\x51"
_ITEM, _END = 0xE000FFFE, 0xE0DDFFFE  # as little endian longs

for _word in ("Debug", "Warning", "Error", "Stream"):  # GDCM's messages would go to the terminal
    getattr(gdcm.Trace, f"{_word}Off", lambda: None)()


@dataclass(frozen=True, eq=False)
class Frame:
    """Stored values of one film.

    `codes` are uint8 (8 bits) or uint16 (9..16 bits) [H, W], every one under 2**bits: the two's complement of a value
    where `signed`. Where `colour`, they are the luma of a colour picture, to be shown as it is.
    """

    codes: Codes
    bits: int
    signed: bool
    colour: bool


@dataclass(frozen=True)
class _Shape:
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def values(self) -> int:
        return self.rows * self.columns * self.samples


@dataclass(frozen=True)
class _Stream:
    """What a compressed stream says of itself. `process` is a JPEG frame marker's second byte, None for JPEG 2000."""

    rows: int
    columns: int
    samples: int
    bits: int
    process: int | None
    rgb: bool = False  # a JPEG's components are named R, G, B

    @property
    def by_pillow(self) -> bool:
        return self.process in (0xC0, 0xC1, 0xC2) and self.bits == 8

    @property
    def by_precision(self) -> bool:
        """Whether the bits of a sample are the stream's own matter; in JPEG they are words the header explains."""
        return self.process in (None, _JPEG_LS)


def read_frame(opened: Opened) -> Frame:
    """Decode the one frame of a file.

    Raises:
        UnusableFilm: no pixel data, or more or less of them than Rows x Columns; over 64 million pixels; several
            frames; a palette, another kind of pixel or transfer syntax that is not read here; damaged.
    """
    if opened.syntax not in SYNTAXES:
        raise UnusableFilm("TransferSyntaxUID is not one that is read here")
    if opened.pixels is None:
        raise UnusableFilm("there are no PixelData")
    shape = _shape(opened.elements)
    if opened.syntax in _NATIVE:
        values = _native(opened, shape)
        return _frame(values, shape, bits=shape.stored, shift=shape.high + 1 - shape.stored)
    stream = _joined(opened.pixels)
    if opened.syntax == _UNCOMPRESSED:
        return _frame(_unpacked(memoryview(stream), shape, little=True), shape, bits=shape.stored,
                      shift=shape.high + 1 - shape.stored)
    if opened.syntax == _RLE:
        return _frame(_rle(stream, shape), shape, bits=shape.stored, shift=shape.high + 1 - shape.stored)
    says = _inspect(stream)
    if (says.rows, says.columns) != (shape.rows, shape.columns):
        raise UnusableFilm("the compressed picture's size is not Rows x Columns")
    if says.samples != shape.samples:
        raise UnusableFilm("the compressed picture's components are not SamplesPerPixel")
    if not 8 <= says.bits <= 16 or (shape.samples == 3 and says.bits != 8):  # GDCM aborts on one or two bits
        raise UnusableFilm("the compressed picture has not 8 to 16 bits, or not 8 in colour")
    decoded = _by_pillow(stream, shape, says) if says.by_pillow else _by_gdcm(stream, shape, says)
    return _frame(decoded, shape, bits=_depth(shape, says), shift=0)


def _shape(elements: Elements) -> _Shape:
    rows, columns = elements.integer("Rows"), elements.integer("Columns")
    if not rows or not columns:
        raise UnusableFilm("Rows or Columns is missing")
    if rows * columns > MAX_PIXELS:
        raise UnusableFilm(f"Rows x Columns is over {MAX_PIXELS // 1_000_000} million pixels")
    if elements.text("NumberOfFrames") and elements.numbers("NumberOfFrames") != [1.0]:
        raise UnusableFilm("NumberOfFrames is not 1")
    photometric = elements.word("PhotometricInterpretation")
    samples = elements.integer("SamplesPerPixel") or 1
    if photometric == "PALETTE COLOR":
        raise UnusableFilm("PhotometricInterpretation is PALETTE COLOR")
    if samples != (1 if photometric in _GRAY else 3) or photometric not in (*_GRAY, *_COLOUR):
        raise UnusableFilm("PhotometricInterpretation and SamplesPerPixel are not those of a gray or RGB picture")
    allocated = elements.integer("BitsAllocated")
    if allocated not in (8, 16):
        raise UnusableFilm("BitsAllocated is not 8 or 16")
    stored = elements.integer("BitsStored") or allocated
    high = elements.integer("HighBit")
    high = stored - 1 if high is None else high
    if not 8 <= stored <= allocated:
        raise UnusableFilm("BitsStored is not 8 to 16, or over BitsAllocated")
    if not stored - 1 <= high < allocated:
        raise UnusableFilm("HighBit does not fit BitsStored and BitsAllocated")
    if samples == 3 and (allocated, stored) != (8, 8):
        raise UnusableFilm("a colour picture has over 8 bits")
    return _Shape(rows=rows, columns=columns, samples=samples, allocated=allocated, stored=stored, high=high,
                  signed=elements.integer("PixelRepresentation") == 1, photometric=photometric,
                  planar=elements.integer("PlanarConfiguration") == 1)


def _depth(shape: _Shape, says: _Stream) -> int:
    """Bits that a decoded value has where the header and the stream differ; the highest is the sign where signed."""
    if says.by_precision:
        return says.bits if shape.signed else max(shape.stored, says.bits)
    return min(shape.stored, says.bits) if shape.signed else shape.stored


def _frame(values: Codes, shape: _Shape, *, bits: int, shift: int) -> Frame:
    """A frame of `bits` bits from decoded values [H, W] (gray) or [H, W, 3], the lowest `shift` bits left out."""
    if shape.samples == 3:
        if shape.photometric.startswith("YBR_FULL"):
            return Frame(cast(Pixels, np.ascontiguousarray(values[..., 0])), 8, signed=False, colour=True)
        luma = Image.fromarray(np.ascontiguousarray(values)).convert("L")  # ITU-R 601-2, as PNG and JPEG files'
        return Frame(np.asarray(luma), 8, signed=False, colour=True)
    codes: Codes = cast(Codes, values >> shift) if shift else values
    if bits > 8 * codes.itemsize:
        codes = codes.astype(np.uint16)
    if bits < 8 * codes.itemsize:  # what stands above BitsStored may be anything (PS3.5 8.1.1)
        codes = cast(Codes, codes & codes.dtype.type((1 << bits) - 1))
    return Frame(codes.astype(np.uint8, copy=False) if bits == 8 else codes, bits, signed=shape.signed, colour=False)


def _native(opened: Opened, shape: _Shape) -> Codes:
    pixels = opened.pixels
    assert pixels is not None
    if pixels.length is None:
        raise UnusableFilm("PixelData are in fragments, which TransferSyntaxUID says they are not")
    if pixels.start + pixels.length > len(pixels.data):
        raise UnusableFilm(_TRUNCATED)
    swapped = opened.syntax == BIG_ENDIAN and shape.allocated == 8 and pixels.kind == "OW"
    values = memoryview(pixels.data)[pixels.start:pixels.start + pixels.length]
    return _unpacked(values, shape, little=opened.syntax != BIG_ENDIAN, swapped=swapped)


def _unpacked(values: memoryview, shape: _Shape, *, little: bool, swapped: bool = False) -> Codes:
    """Uncompressed values, [H, W] or [H, W, 3]. `swapped`: bytes packed in big-endian words."""
    if shape.photometric == "YBR_FULL_422":
        raise UnusableFilm("a subsampled colour picture is not compressed")
    need = shape.values * shape.allocated // 8
    if len(values) < need:
        raise UnusableFilm("PixelData are shorter than Rows x Columns")
    if len(values) - need >= max(2, shape.columns * shape.allocated // 8):
        raise UnusableFilm("PixelData are longer than Rows x Columns")
    if swapped:
        words = np.frombuffer(values, ">u2", len(values) // 2).astype("<u2")
        values = memoryview(words.tobytes())
        if len(values) < need:
            raise UnusableFilm("PixelData are shorter than Rows x Columns")
    kind = "u1" if shape.allocated == 8 else "<u2" if little else ">u2"
    flat = np.frombuffer(values, kind, shape.values).astype(kind.replace(">", "<"), copy=False)
    return _shaped(flat, shape, planar=shape.planar)


def _shaped(flat: Codes, shape: _Shape, *, planar: bool) -> Codes:
    if shape.samples == 1:
        return flat.reshape(shape.rows, shape.columns)
    if planar:
        return np.moveaxis(flat.reshape(3, shape.rows, shape.columns), 0, -1)
    return flat.reshape(shape.rows, shape.columns, 3)


def _joined(pixels: PixelData) -> bytes:
    """The fragments of the one frame behind the offset table (PS3.5 A.4), joined."""
    data, at = pixels.data, pixels.start
    end = len(data) if pixels.length is None else min(len(data), at + pixels.length)
    parts: list[memoryview] = []
    view = memoryview(data)
    while at + 8 <= end:
        tag, length = struct.unpack_from("<LL", data, at)
        at += 8
        if tag == _END:
            break
        if tag != _ITEM:
            raise UnusableFilm("PixelData are not in fragments, which TransferSyntaxUID says they are")
        if at + length > end:
            raise UnusableFilm(_TRUNCATED)
        parts.append(view[at:at + length])
        at += length
    if len(parts) < 2:
        raise UnusableFilm(_TRUNCATED)
    return b"".join(parts[1:])


def _inspect(stream: bytes) -> _Stream:
    """Size, components and bits as a JPEG, JPEG-LS or JPEG 2000 stream gives them."""
    try:
        if stream[:2] == _JPEG:
            return _jpeg(stream)
        at = 0 if stream[:4] == _J2K else stream[:1024].find(_J2K)  # some writers leave the JP2 boxes in front
        if at >= 0:
            return _j2k(stream, at)
    except (struct.error, IndexError):
        raise UnusableFilm(_TRUNCATED) from None
    raise UnusableFilm("PixelData are no JPEG, JPEG-LS or JPEG 2000 stream")


def _jpeg(stream: bytes) -> _Stream:
    """The frame header of ITU-T T.81 B.2.2 (T.87 C.2.2 for JPEG-LS, which has the same)."""
    at = 2
    while True:
        if stream[at] != 0xFF:
            raise UnusableFilm(_UNDECODABLE)
        marker = stream[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in (0xD9, 0xDA):  # the end, or a scan before any frame
            raise UnusableFilm(_UNDECODABLE)
        length, = struct.unpack_from(">H", stream, at + 2)
        if marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, at + 4)
            return _Stream(rows=rows, columns=columns, samples=samples, bits=bits, process=marker,
                           rgb=stream[at + 10:at + 19:3] == b"RGB")
        at += 2 + max(length, 2)


def _j2k(stream: bytes, at: int) -> _Stream:
    """The SIZ segment of ITU-T T.800 A.5.1."""
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples = struct.unpack_from(">8LH", stream, at + 8)
    sizes = [struct.unpack_from("3B", stream, at + 42 + 3 * i) for i in range(min(samples, 3))]
    if not sizes or len(set(sizes)) != 1 or sizes[0][1:] != (1, 1):
        raise UnusableFilm("the compressed picture's components differ in size or bits")
    if not tile_x or not tile_y or x1 <= x0 or y1 <= y0:
        raise UnusableFilm(_UNDECODABLE)
    if -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y) > 65_535:
        raise UnusableFilm("the compressed picture has over 65,535 tiles")
    return _Stream(rows=y1 - y0, columns=x1 - x0, samples=samples, bits=(sizes[0][0] & 0x7F) + 1, process=None)


def _by_pillow(stream: bytes, shape: _Shape, says: _Stream) -> Pixels:
    """A JPEG of 8 bits: [H, W], or RGB [H, W, 3]."""
    try:
        with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
            size = image.size
            # Where nothing in the stream says so, Pillow takes RGB for luma and chroma. Asked for luma and chroma, it
            # hands the samples out as they are.
            unsaid = not says.rgb and not {"adobe_transform", "jfif"} & set(image.info)
            raw = shape.photometric == "RGB" and unsaid
            if raw:
                image.draft("YCbCr", size)
            mode = image.mode
            values = np.asarray(image)
    except MemoryError:
        raise
    except Exception:  # Pillow's readers raise many kinds on damaged data
        raise UnusableFilm(_UNDECODABLE) from None
    if size != (shape.columns, shape.rows) or mode not in ("L", "RGB", "YCbCr") or values.size != shape.values:
        raise UnusableFilm(_UNDECODABLE)
    if mode == "RGB" and shape.photometric.startswith("YBR_FULL"):
        values = np.asarray(Image.fromarray(values).convert("YCbCr"))
    return values


def _by_gdcm(stream: bytes, shape: _Shape, says: _Stream) -> Codes:
    if says.process == _JPEG_LS:
        syntax = "1.2.840.10008.1.2.4.80"
    elif says.process is None:
        syntax = "1.2.840.10008.1.2.4.90"
    else:
        syntax = "1.2.840.10008.1.2.4.57" if says.process == 0xC3 else "1.2.840.10008.1.2.4.51"
    size = 8 if says.bits <= 8 else 16
    try:
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(stream)
        fragments = gdcm.SequenceOfFragments.New()
        fragments.AddFragment(fragment)
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetValue(fragments.__ref__())
        image = gdcm.Image()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((shape.columns, shape.rows, 1))
        image.SetDataElement(element)
        kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2" if shape.samples == 1 else shape.photometric)
        image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
        if shape.samples == 3:
            image.SetPlanarConfiguration(0)
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        image.SetPixelFormat(gdcm.PixelFormat(shape.samples, size, says.bits, says.bits - 1, int(shape.signed)))
        values = image.GetBuffer().encode("utf-8", "surrogateescape")
    except MemoryError:
        raise
    except Exception:  # whatever the binding makes of a C++ exception
        raise UnusableFilm(_UNDECODABLE) from None
    if len(values) != shape.values * size // 8:
        raise UnusableFilm(_UNDECODABLE)
    return _shaped(np.frombuffer(values, "u1" if size == 8 else "<u2"), shape, planar=False)


def _rle(stream: bytes, shape: _Shape) -> Codes:
    """RLE (PS3.5 annex G): one segment of PackBits for each byte of each sample, highest byte first."""
    if len(stream) < 64:
        raise UnusableFilm(_TRUNCATED)
    count, *starts = struct.unpack_from("<16L", stream)
    size = shape.allocated // 8
    if count != shape.samples * size:
        raise UnusableFilm("RLE segments are not one for each byte of a pixel")
    starts = [*starts[:count], len(stream)]
    if starts[0] < 64 or any(a > b for a, b in pairwise(starts)):
        raise UnusableFilm(_UNDECODABLE)
    n = shape.rows * shape.columns
    planes = np.empty((shape.samples, n, size), np.uint8)
    for i in range(count):
        sample, byte = divmod(i, size)
        try:  # as one long row, for runs may cross rows; no more than n bytes are ever made
            plane = Image.frombytes("L", (n, 1), stream[starts[i]:starts[i + 1]], "packbits", "L")
        except (ValueError, SyntaxError):
            raise UnusableFilm(_UNDECODABLE) from None
        planes[:, :, size - 1 - byte][sample] = np.asarray(plane).reshape(-1)
    return _shaped(planes.reshape(-1).view("u1" if size == 1 else "<u2"), shape, planar=True)
