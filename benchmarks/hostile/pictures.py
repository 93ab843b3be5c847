"""PNG, JPEG and JPEG 2000 streams whose own headers lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

from numpy.random import Generator

from hostile.raw import pick

_SIDES = (0, 1, 63, 64, 8192, 65_500, 65_535, 2**31 - 1, 2**32 - 1)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunks = list[tuple[bytes, bytes]]


@cache
def zeros(megabytes: int, raw: bool = False) -> bytes:
    """A zlib (or raw deflate) stream of so many MB of zeros: a thousandth of its size.

    Blocks that end at a byte (a full flush) can be repeated, so that it is made in a moment.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = block * megabytes + b"\x03\x00"
    if raw:
        return body
    check = 1  # Adler-32 of zeros: a stays 1, b counts the bytes
    check |= ((megabytes << 20) % 65_521) << 16
    return b"\x78\xda" + body + struct.pack(">I", check)


def chunks(png: bytes) -> Chunks:
    """(type, data) of each chunk; what follows a damaged one is left out."""
    out, at = [], 8
    while at + 12 <= len(png):
        size, = struct.unpack(">I", png[at:at + 4])
        out.append((png[at + 4:at + 8], png[at + 8:at + 8 + size]))
        at += 12 + size
    return out


def png(parts: Chunks) -> bytes:
    """A PNG of these chunks with right check sums."""
    return _SIGNATURE + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                                 for kind, data in parts)


def _png_header(rng: Generator, parts: Chunks) -> Chunks:
    width, height, *rest = struct.unpack(">2I5B", parts[0][1])
    field = int(rng.integers(5))
    if field < 3:
        width = pick(rng, (*_SIDES, width)) if field != 1 else width
        height = pick(rng, (*_SIDES, height)) if field != 0 else height
    else:
        rest[int(rng.integers(5))] = pick(rng, (0, 1, 2, 3, 4, 6, 7, 8, 16, 32, 255))
    return [(b"IHDR", struct.pack(">2I5B", width, height, *rest)), *parts[1:]]


def _png_bomb(rng: Generator, parts: Chunks) -> Chunks:
    """Few bytes that inflate to hundreds of MB, in the picture or in what is written beside it."""
    kind, bomb = int(rng.integers(4)), zeros(int(pick(rng, (64, 300, 2000))))
    if kind == 0:
        return [parts[0], (b"IDAT", bomb), (b"IEND", b"")]
    if kind == 1:
        side = pick(rng, (7900, 30_000))
        header = (side, side, pick(rng, (8, 16)), pick(rng, (0, 2, 6)), 0, 0, pick(rng, (0, 1)))
        return [(b"IHDR", struct.pack(">2I5B", *header)), (b"IDAT", bomb), (b"IEND", b"")]
    extra = (b"zTXt", b"CANARY\0\0" + bomb) if kind == 2 else (b"iCCP", b"CANARY\0\0" + bomb)
    return [parts[0], extra, *parts[1:]]


def _png_order(rng: Generator, parts: Chunks) -> Chunks:
    order = list(parts)
    for _ in range(int(rng.integers(1, 4))):
        a, b = (int(rng.integers(len(order))) for _ in range(2))
        order[a], order[b] = order[b], order[a]
    if rng.random() < 0.3:
        order.pop(int(rng.integers(len(order))))
    return order


def _png_extra(rng: Generator, parts: Chunks) -> Chunks:
    kind = pick(rng, (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iTXt", b"zTXt",
                      b"tEXt", b"iCCP", b"sRGB", b"IDAT", b"IHDR", b"abcD"))
    at = int(rng.integers(len(parts)))
    return [*parts[:at], (kind, rng.bytes(int(2 ** rng.integers(0, 12)))), *parts[at:]]


def _png_data(rng: Generator, parts: Chunks) -> Chunks:
    """Other scan lines, well packed: filter types that do not exist, too few, too many."""
    at = next((i for i, (kind, _) in enumerate(parts) if kind == b"IDAT"), 0)
    return [*parts[:at], (b"IDAT", zlib.compress(rng.bytes(int(2 ** rng.integers(0, 18))))), *parts[at + 1:]]


def _of_chunks(change: Callable[[Generator, Chunks], Chunks]) -> Callable[[Generator, bytes], bytes]:
    return lambda rng, data: png(change(rng, chunks(data)))


PNG: dict[str, Callable[[Generator, bytes], bytes]] = {
    "IHDR": _of_chunks(_png_header), "zlib bomb": _of_chunks(_png_bomb), "chunk order": _of_chunks(_png_order),
    "strange chunk": _of_chunks(_png_extra), "other scan lines": _of_chunks(_png_data)}


def _marker(data: bytes, markers: range | tuple[int, ...]) -> int | None:
    """Where the first of the JPEG markers stands, from the stream's start; None without one."""
    at = data.find(b"\xff\xd8")
    at = -1 if at < 0 else at + 2
    while 0 < at < len(data) - 4 and data[at] == 0xFF:
        if data[at + 1] in markers:
            return at
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return None


_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)


def jpeg_frame(rng: Generator, data: bytes) -> bytes:
    """Another precision, size, number of components or process in the frame header."""
    at = _marker(data, _FRAMES)
    if at is None:
        return data
    out = bytearray(data)
    field = int(rng.integers(5))
    if field == 0:
        out[at + 4] = pick(rng, (0, 1, 2, 8, 9, 12, 16, 255))
    elif field in (1, 2):
        struct.pack_into(">2H", out, at + 5, pick(rng, (0, 1, 65_500, 65_535)), pick(rng, (0, 1, 65_500, 65_535)))
    elif field == 3:
        out[at + 9] = pick(rng, (0, 1, 2, 3, 4, 5, 255))
    else:
        out[at + 1] = pick(rng, _FRAMES)
    return bytes(out)


def jpeg_segment(rng: Generator, data: bytes) -> bytes:
    """A table or comment that is too long, too short, filled with rubbish, or not known."""
    start = data.find(b"\xff\xd8") + 2
    size = int(2 ** rng.integers(0, 12))
    told = pick(rng, (0, 1, 2, size + 2, 65_535))
    kind = pick(rng, (0xC4, 0xDB, 0xDA, 0xDC, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xF8, 0xFE, 0x01, 0xD0, 0xD9))
    body = pick(rng, (b"", b"Exif\0\0II*\0\x08\0\0\0", b"ICC_PROFILE\0\x01\x01", b"Adobe\0d\0\0\0\0",
                      b"MPF\0II*\0\x08\0\0\0"))
    return data[:start] + bytes([0xFF, kind]) + struct.pack(">H", told) + body + rng.bytes(size) + data[start:]


def jpeg_scans(rng: Generator, data: bytes) -> bytes:
    """The first scan many times over."""
    at = _marker(data, (0xDA,))
    if at is None:
        return data
    end = data.find(b"\xff\xd9", at)
    scan = data[at:end if end > 0 else len(data)]
    return data[:at] + scan * min(int(2 ** rng.integers(1, 12)), 4_000_000 // max(len(scan), 1) + 1) + b"\xff\xd9"


JPEG = {"frame header": jpeg_frame, "strange segment": jpeg_segment, "scans repeated": jpeg_scans}


def j2k_sizes(rng: Generator, data: bytes) -> bytes:
    """Another size, tile, component number or depth in the SIZ segment (ISO 15444-1, A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return data
    out = bytearray(data)
    at += 4
    if rng.random() < 0.6:
        for place in rng.integers(0, 8, int(rng.integers(1, 3))):
            struct.pack_into(">I", out, at + 4 + 4 * int(place), pick(rng, (0, 1, 2, 64, 4096, 2**31 - 1, 2**32 - 1)))
    elif rng.random() < 0.5:
        struct.pack_into(">H", out, at + 36, pick(rng, (0, 2, 3, 255, 16_384, 65_535)))
    else:
        out[at + 38 + int(rng.integers(3))] = pick(rng, (0, 1, 37, 127, 128, 255))
    return bytes(out)


def j2k_coding(rng: Generator, data: bytes) -> bytes:
    """Other coding parameters (COD) or quantisation (QCD): layers, levels, block sizes."""
    at = data.find(pick(rng, (b"\xff\x52\x00", b"\xff\x5c\x00")), max(data.find(b"\xff\x4f\xff\x51"), 0))
    if at < 0:
        return data
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = at + 4 + int(rng.integers(10))
        if place < len(out):
            out[place] = pick(rng, (0, 1, 32, 33, 127, 255))
    return bytes(out)
