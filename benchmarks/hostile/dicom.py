"""DICOM files whose elements lie. A small reader and writer of its own: pydicom's would mend what is to be broken."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.random import Generator
from pydicom.datadict import dictionary_VR

from hostile.pictures import j2k_coding, j2k_sizes, jpeg_frame, jpeg_scans, jpeg_segment, zeros
from hostile.raw import MUTATIONS as RAW
from hostile.raw import pick

IMPLICIT, EXPLICIT, DEFLATED, BIG = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99",
                                     "1.2.840.10008.1.2.2")
BASELINE, EXTENDED, LOSSLESS = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70")
PIXELS = 0x7FE00010
_SYNTAXES = (IMPLICIT, EXPLICIT, DEFLATED, BIG, BASELINE, EXTENDED, LOSSLESS, "1.2.840.10008.1.2.4.57",
             *(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81, 90, 91, 92, 100, 103, 110, 201, 202, 203)),
             "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98", "1.2.3.4.5", "CANARY", "")
_LONG = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))
_VRS = (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"OB", b"OD", b"OF", b"OW",
        b"PN", b"SH", b"SL", b"SQ", b"SS", b"ST", b"TM", b"UI", b"UL", b"UN", b"US", b"UT", b"??", b"\0\0", b"ox")
_WIDTH = {b"US": 2, b"SS": 2, b"OW": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OF": 4, b"FD": 8, b"OD": 8}
Elements = dict[int, tuple[bytes, bytes]]


@dataclass(frozen=True)
class Parsed:
    """A file's transfer syntax, and tag -> (VR, value) of its elements, little endian. Encapsulated pixels as they lie.
    """

    syntax: str
    elements: Elements

    @property
    def packed(self) -> bool:
        """Whether the pixels are encapsulated."""
        return self.syntax not in (IMPLICIT, EXPLICIT, DEFLATED, BIG)


def parse(data: bytes) -> Parsed:
    """Read a well-formed file, explicit or implicit little endian."""
    at, elements, syntax, implicit = 132, dict[int, tuple[bytes, bytes]](), "", False
    while at + 8 <= len(data):
        group, element = struct.unpack("<2H", data[at:at + 4])
        tag = group << 16 | element
        if group > 2 and implicit:
            try:
                vr = dictionary_VR(tag).encode()[:2]
            except KeyError:
                vr = b"UN"
            size, at = struct.unpack("<I", data[at + 4:at + 8])[0], at + 8
        else:
            vr, long = data[at + 4:at + 6], data[at + 4:at + 6] in _LONG
            size = struct.unpack("<I", data[at + 8:at + 12])[0] if long else struct.unpack("<H", data[at + 6:at + 8])[0]
            at += 12 if long else 8
        if size == 0xFFFFFFFF and tag != PIXELS:  # a sequence of undefined length: to its delimiter, and left out
            at = data.index(struct.pack("<2HI", 0xFFFE, 0xE0DD, 0), at) + 8
            continue
        value = data[at:] if size == 0xFFFFFFFF else data[at:at + size]
        at += len(value)
        if tag == 0x00020010:
            syntax = value.rstrip(b"\0 ").decode()
            implicit = syntax == IMPLICIT
        if group > 2:
            elements[tag] = (vr, value)
    return Parsed(syntax, elements)


def _element(tag: int, vr: bytes, value: bytes, *, size: int | None = None, implicit: bool = False,
             big: bool = False) -> bytes:
    order = ">" if big else "<"
    size = len(value) if size is None else size
    width = _WIDTH.get(vr, 1)
    if big and width > 1:
        whole = len(value) // width * width
        value = b"".join(value[i:i + width][::-1] for i in range(0, whole, width)) + value[whole:]
    head = struct.pack(order + "2H", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(order + "I", size) + value
    if vr in _LONG:
        return head + vr + b"\0\0" + struct.pack(order + "I", size) + value
    return head + vr + struct.pack(order + "H", size & 0xFFFF) + value


def write(parsed: Parsed, *, sizes: dict[int, int] | None = None, syntax: str | None = None, tail: bytes = b"",
          packed_body: bytes | None = None) -> bytes:
    """A file of the elements.

    Args:
        sizes: tag -> a length to claim instead of the value's.
        syntax: transfer syntax to claim; the file is written as its own says.
        tail: bytes after the last element.
        packed_body: a deflate stream to put in place of the data set.
    """
    own, sizes = parsed.syntax, sizes or {}
    claimed = (own if syntax is None else syntax).encode()
    meta = _element(0x00020010, b"UI", claimed + b"\0" * (len(claimed) % 2))
    meta = _element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta
    body = b""
    for tag, (vr, value) in sorted(parsed.elements.items()):
        size = sizes.get(tag, 0xFFFFFFFF if tag == PIXELS and parsed.packed else None)
        body += _element(tag, vr, value, size=size, implicit=own == IMPLICIT, big=own == BIG)
    body += tail
    if own == DEFLATED:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = (packer.compress(body) + packer.flush()) if packed_body is None else packed_body
    return bytes(128) + b"DICM" + meta + body


def encapsulate(*frames: bytes) -> bytes:
    """Frames as fragments after an empty offset table, with the closing delimiter."""
    items = b"".join(_item(f + b"\0" * (len(f) % 2)) for f in (b"", *frames))
    return items + struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)


def _item(value: bytes, size: int | None = None) -> bytes:
    return struct.pack("<2HI", 0xFFFE, 0xE000, len(value) if size is None else size) + value


def _frame(packed: bytes) -> bytes:
    """The one frame of encapsulated pixels, its fragments joined."""
    out, at = b"", 0
    while at + 8 <= len(packed):
        _, element, size = struct.unpack("<2HI", packed[at:at + 8])
        if element != 0xE000:
            break
        out += packed[at + 8:at + 8 + size] if at else b""  # the first item is the offset table
        at += 8 + size
    return out


def _short(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


_LAYOUT: dict[int, tuple[int, ...]] = {  # what says how the pixels lie -> values that do not fit
    0x00280010: (0, 1, 63, 8001, 65_535), 0x00280011: (0, 1, 63, 8001, 65_535),
    0x00280100: (0, 1, 3, 8, 12, 16, 24, 32, 64, 65_535),
    0x00280101: (0, 1, 7, 8, 16, 17, 32, 65_535), 0x00280102: (0, 3, 15, 16, 65_535), 0x00280103: (0, 1, 2, 65_535),
    0x00280002: (0, 2, 3, 4, 65_535), 0x00280006: (0, 1, 2)}
_WORDS: dict[int, tuple[bytes, ...]] = {
    0x00280004: (b"MONOCHROME1 ", b"RGB ", b"YBR_FULL", b"YBR_FULL_422", b"YBR_ICT ", b"PALETTE COLOR ", b"CANARY",
                 b""),
    0x00280008: (b"1000000000", b"0 ", b"-1", b"2 ", b"1.5 ", b"nan ", b"1\\2 ", b"9" * 300),
    0x00080060: (b"CANARY", b"CT", b"", b"DX\\CR ", b"\xff\xfe"),
    0x00185101: (b"CANARY", b"CANARY^JANE ", b"PA\\AP ", b"\0\0"),
    0x00080005: (b"CANARY", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149 ", b"GB18030 ", b"ISO_IR 192\\ISO_IR 100 "),
    0x20500020: (b"INVERSE ", b"IDENTITY", b"LIN OD", b"CANARY"), 0x00281056: (b"SIGMOID ", b"LINEAR_EXACT", b"CANARY"),
    0x00101010: (b"999Y", b"-01Y", b"CANARY", b"12", b"0000000000Y "),
    0x00100030: (b"00000000", b"CANARY", b"19991332", b"1\\2 "),
    0x00080020: (b"CANARY", b"99999999", b"20200230", b"2020.01.01")}
_NUMBERS = (b"0 ", b"-1", b"1e308 ", b"-1e308", b"1e-320", b"nan ", b"inf ", b"CANARY", b"", b"1\\2\\3 ", b"1,5 ",
            b"9" * 64, b"0\\0 ", b"\\ ", b"+-1 ", b"1e", b"0.143\\0.143 ", b"65535 ", b"-32768")
_SCALES = (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00280030, 0x00181164, 0x00280034, 0x00200013)


def _layout(rng: Generator, p: Parsed) -> bytes:
    changed = dict(p.elements)
    for _ in range(int(rng.integers(1, 4))):
        tag = pick(rng, tuple(_LAYOUT))
        changed[tag] = (b"US", _short(*([pick(rng, _LAYOUT[tag])] * int(rng.choice((1, 1, 1, 0, 2))))))
    return write(replace(p, elements=changed))


def _words(rng: Generator, p: Parsed) -> bytes:
    tag = pick(rng, tuple(_WORDS))
    vr = p.elements.get(tag, (dictionary_VR(tag).encode(),))[0]
    return write(replace(p, elements={**p.elements, tag: (vr, pick(rng, _WORDS[tag]))}))


def _scales(rng: Generator, p: Parsed) -> bytes:
    changed = {pick(rng, _SCALES): (b"DS", pick(rng, _NUMBERS)) for _ in range(int(rng.integers(1, 4)))}
    return write(replace(p, elements={**p.elements, **changed}))


def _tables(rng: Generator, p: Parsed) -> bytes:
    """Padding values and look-up tables for values of interest and for palettes, right and wrong."""
    described = _short(pick(rng, (0, 1, 256, 4096, 65_535)), pick(rng, (0, 100, 65_535)),
                       pick(rng, (0, 8, 12, 16, 17, 255)))
    data = rng.bytes(int(pick(rng, (0, 2, 511, 512, 8192))))
    lut = _item(_element(0x00283002, b"US", described) + _element(0x00283006, pick(rng, (b"OW", b"US")), data))
    tag = pick(rng, (0x00283010, 0x00283000, 0x00281101, 0x00280120, 0x00280121))
    extra: Elements = {tag: (b"SQ", lut)}
    if tag == 0x00281101:
        extra = {0x00280004: (b"CS", b"PALETTE COLOR ")}
        for colour in (1, 2, 3):
            extra |= {0x00281100 + colour: (b"US", described), 0x00281200 + colour: (b"OW", data)}
    elif tag in (0x00280120, 0x00280121):
        extra = {tag: (pick(rng, (b"US", b"SS")), _short(pick(rng, (0, 1, 4095, 65_535))))}
    return write(replace(p, elements={**p.elements, **extra}))


def _vr(rng: Generator, p: Parsed) -> bytes:
    tag = pick(rng, tuple(p.elements))
    value = p.elements[tag][1] if rng.random() < 0.7 else rng.bytes(int(2 ** rng.integers(0, 8)))
    return write(replace(p, elements={**p.elements, tag: (pick(rng, _VRS), value)}))


def _length(rng: Generator, p: Parsed) -> bytes:
    sizes = (0, 1, 3, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, int(rng.integers(2**32)))
    tags = tuple(p.elements) if rng.random() < 0.6 else (PIXELS, 0x00080060, 0x00280010)
    return write(p, sizes={pick(rng, tags): pick(rng, sizes)})


def _missing(rng: Generator, p: Parsed) -> bytes:
    gone = {pick(rng, tuple(p.elements) if rng.random() < 0.3 else (*_LAYOUT, PIXELS, 0x00280004))
            for _ in range(int(rng.integers(1, 4)))}
    return write(replace(p, elements={k: v for k, v in p.elements.items() if k not in gone}))


def _syntax(rng: Generator, p: Parsed) -> bytes:
    return write(p, syntax=pick(rng, _SYNTAXES))


def _deep(rng: Generator, p: Parsed) -> bytes:
    """Sequences in sequences, 100 to 10,000 levels, closed or not; or one sequence of 100,000 items."""
    levels = int(pick(rng, (100, 1000, 10_000)))
    implicit = p.syntax == IMPLICIT
    opening = _element(0x00081140, b"SQ", b"", size=0xFFFFFFFF, implicit=implicit) + _item(b"", 0xFFFFFFFF)
    closing = struct.pack("<2HI2HI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    nest = opening * levels + (closing * levels if rng.random() < 0.5 else b"")
    if rng.random() < 0.3:
        nest = _item(b"") * 100_000
    if rng.random() < 0.5:  # before the pixels
        return write(replace(p, elements={**p.elements, 0x00081140: (b"SQ", nest)}))
    return write(p, tail=nest)


def _many(rng: Generator, p: Parsed) -> bytes:
    """Thousands of private elements; or one text of 16 MB."""
    if rng.random() < 0.3:
        return write(replace(p, elements={**p.elements, 0x00204000: (b"UT", b"CANARY" * 2_700_000)}))
    extra = {0x00090000 | n: (b"LO", b"CANARY") for n in range(0x1000, 0x1000 + int(pick(rng, (1000, 30_000))))}
    return write(replace(p, elements={**p.elements, **extra}))


def _bomb(rng: Generator, p: Parsed) -> bytes:
    """A deflated data set that inflates to 64 MB - 2 GB: zeros, or well-formed elements followed by zeros."""
    size, deflated = int(pick(rng, (64, 300, 2000))), replace(p, syntax=DEFLATED)
    body = zeros(size, raw=True)
    if rng.random() < 0.5:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        head = _element(0x00080060, b"CS", b"DX") + _element(0x00204000, b"UT", b"", size=size << 20)
        body = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + body
    return write(deflated, packed_body=body)


def _pixels(rng: Generator, p: Parsed) -> bytes:
    """More or fewer pixels than said, or other bytes."""
    vr, value = p.elements.get(PIXELS, (b"OW", b""))
    changed = pick(rng, (value[:-1], value[:len(value) // 2], value + bytes(4096), b"", value * 3,
                         rng.bytes(len(value))))
    return write(replace(p, elements={**p.elements, PIXELS: (vr, changed)}))


def _fragments(rng: Generator, p: Parsed) -> bytes:
    """Encapsulation: offset tables that point nowhere, empty or endless fragments, no end, native pixels wrapped."""
    stream = p.elements.get(PIXELS, (b"OB", b""))[1]
    frame = _frame(stream) if p.packed else stream
    half = len(frame) // 4 * 2
    end = struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)
    wrong = pick(rng, (
        _item(rng.bytes(64)) + _item(frame) + end, _item(b"") + _item(b"") * 50_000 + _item(frame) + end,
        _item(b"") + _item(frame), _item(b"") + _item(frame[:half]) + _item(frame[half:]) + end,
        _item(b"") + _item(frame, 0xFFFFFFFE), _item(b"") + _item(frame, 0xFFFFFFFF) + end, _item(b"") + end, b"", end,
        _item(b"", 0xFFFFFFF0), encapsulate(frame, frame, frame), rng.bytes(64), _item(b"") + _item(b"\xff") + end,
        encapsulate(struct.pack("<16I", *(int(x) for x in rng.integers(0, 2**32, 16))) + frame[64:])))
    syntax = p.syntax if p.packed else pick(rng, _SYNTAXES[4:])
    return write(Parsed(syntax, {**p.elements, PIXELS: (b"OB", wrong)}))


def _stream(rng: Generator, p: Parsed) -> bytes:
    """The compressed stream itself, damaged; the container stays right."""
    if not p.packed:
        return _pixels(rng, p)
    frame = _frame(p.elements[PIXELS][1])
    aware = (jpeg_frame, jpeg_segment, jpeg_scans) if frame[:2] == b"\xff\xd8" else (j2k_sizes, j2k_coding)
    changed = pick(rng, aware if rng.random() < 0.5 else tuple(RAW.values()))(rng, frame)
    return write(replace(p, elements={**p.elements, PIXELS: (b"OB", encapsulate(changed))}))


def _bare(rng: Generator, p: Parsed) -> bytes:
    """Without preamble, without file meta information, with another preamble, or something before it."""
    data = write(p)
    return bytes(pick(rng, (data[132:], data[128:], b"II*\0" + data[4:], rng.bytes(7) + data, data[:132], data[:140])))


MUTATIONS: dict[str, Callable[[Generator, Parsed], bytes]] = {
    "pixel layout": _layout, "words": _words, "numbers": _scales, "look-up tables": _tables, "VR": _vr,
    "length": _length, "element missing": _missing, "transfer syntax": _syntax, "deep sequences": _deep,
    "many elements": _many, "deflate bomb": _bomb, "pixel data": _pixels, "fragments": _fragments,
    "codestream": _stream, "no preamble": _bare}
