"""The files that are damaged: simulated films as DICOM in several transfer syntaxes, PNG and JPEG, and real ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless, RLELossless

from cars_core.phantom.layouts.dicom import dicom_bytes
from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary
from hostile.dicom import BASELINE, BIG, DEFLATED, IMPLICIT, LOSSLESS, PIXELS, Parsed, encapsulate, parse, write

MOST = 4_000_000  # bytes of a real file that is taken


def make(size: int, real: Path | None = None) -> dict[str, list[bytes]]:
    """Kind -> whole files. `real`: a folder whose *.dcm, *.png and *.jpg of up to 4 MB are added, up to 8 a kind.

    Texts in the files are CANARY, so that a reason or a header that holds it has let something out.
    """
    out: dict[str, list[bytes]] = {}
    for bits in (12, 8):
        spec = next(iter(films(n=4, seed=bits, size=size, withheld=[], split_of=lambda _: "train",
                               vocabulary=load_vocabulary())))
        drawn = draw(spec, number=1, bits=bits)
        for kind, data in _dicoms(dicom_bytes(drawn), bits).items():
            out.setdefault(f"DICOM {kind}", []).append(data)
    gray = draw(spec, number=1, bits=8).film.pixels
    out["PNG"], out["JPEG"] = _pngs(gray), _jpegs(gray)
    for pattern, kind in (("*.dcm", "DICOM real"), ("*.png", "PNG"), ("*.jpg", "JPEG")):
        found = sorted(p for p in real.rglob(pattern) if p.stat().st_size <= MOST)[:8] if real else []
        if found:
            out.setdefault(kind, []).extend(p.read_bytes() for p in found)
    return out


def _dicoms(native: bytes, bits: int) -> dict[str, bytes]:
    plain = parse(native)
    marked = {tag: (vr, b"CANARY" if vr in (b"PN", b"LO", b"SH", b"ST", b"LT") else value)
              for tag, (vr, value) in plain.elements.items()}
    plain = Parsed(plain.syntax, marked)
    out = {"explicit": write(plain)}
    for name, syntax in (("implicit", IMPLICIT), ("big endian", BIG), ("deflated", DEFLATED)):
        out[name] = write(Parsed(syntax, plain.elements))
    for name, uid in (("RLE", RLELossless), ("JPEG-LS", JPEGLSLossless if bits == 12 else JPEGLSNearLossless),
                      ("JPEG 2000", JPEG2000Lossless if bits == 12 else JPEG2000)):
        ds = dcmread(io.BytesIO(out["explicit"]))
        extra = {"jls_error": 3} if uid == JPEGLSNearLossless else {"j2k_cr": [10]} if uid == JPEG2000 else {}
        ds.compress(uid, generate_instance_uid=False, **extra)
        made = io.BytesIO()
        ds.save_as(made)
        out[name] = made.getvalue()
    pixels = dcmread(io.BytesIO(out["explicit"])).pixel_array
    if bits == 8:
        packed, syntax = io.BytesIO(), BASELINE
        Image.fromarray(pixels).save(packed, "JPEG", quality=90)
        stream = packed.getvalue()
    else:
        stream, syntax = lossless_jpeg(pixels), LOSSLESS
    out["JPEG"] = write(Parsed(syntax, {**plain.elements, PIXELS: (b"OB", encapsulate(stream))}))
    return out


def lossless_jpeg(pixels: NDArray[np.integer]) -> bytes:
    """JPEG process 14, selection value 1 (ITU-T T.81, annex H): [H, W] of up to 15 bits. Slow; for small films."""
    height, width = pixels.shape
    wide = pixels.astype(np.int64)
    before = np.empty_like(wide)
    before[:, 1:], before[1:, 0], before[0, 0] = wide[:, :-1], wide[:-1, 0], 1 << 15
    bits = "".join(_coded(int(d)) for d in (wide - before).ravel())
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    lengths = bytes([0, 0, 0, 0, 17, *[0] * 11])  # categories 0..16 in five bits each
    table = b"\xff\xc4" + struct.pack(">HB", 36, 0) + lengths + bytes(range(17))
    frame = b"\xff\xc3" + struct.pack(">HB2HB3B", 11, 16, height, width, 1, 1, 0x11, 0)
    return b"\xff\xd8" + frame + table + b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0) + scan + b"\xff\xd9"


def _coded(difference: int) -> str:
    """A difference modulo 2^16 as its category (five bits) and its value within it (T.81, H.1.2.2)."""
    difference = (difference + 32_768) % 65_536 - 32_768
    if difference == -32_768:
        return f"{16:05b}"
    size = abs(difference).bit_length()
    value = difference if difference > 0 else difference + (1 << size) - 1
    return f"{size:05b}" + (f"{value:0{size}b}" if size else "")


def _pngs(gray: NDArray[np.uint8]) -> list[bytes]:
    """8-bit grey, 16-bit grey, colour, with alpha, with a palette, one bit, grey with alpha."""
    image, text = Image.fromarray(gray), PngImagePlugin.PngInfo()
    text.add_text("Comment", "CANARY")
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    modes = (image, deep, image.convert("RGB"), image.convert("RGBA"), image.convert("P"), image.convert("1"),
             image.convert("LA"))
    return [_saved(m, "PNG", pnginfo=text) for m in modes]


def _jpegs(gray: NDArray[np.uint8]) -> list[bytes]:
    image, exif = Image.fromarray(gray), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "CANARY"
    return [_saved(image, "JPEG", comment=b"CANARY"), _saved(image, "JPEG", progressive=True),
            _saved(image, "JPEG", exif=exif), _saved(image.convert("RGB"), "JPEG"),
            _saved(image.convert("CMYK"), "JPEG"), _saved(image.convert("RGB"), "JPEG", progressive=True)]


def _saved(image: Image.Image, form: str, **how: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)  # type: ignore[arg-type]
    return out.getvalue()
