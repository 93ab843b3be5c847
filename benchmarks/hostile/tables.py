"""Label files of NIH's two layouts that are broken, huge, or want to lead elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from numpy.random import Generator

from hostile.raw import MUTATIONS as RAW
from hostile.raw import pick

#: An image that is there; the rest of a table's names lead nowhere.
IMAGE = "CANARY_000.png"
_FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
             "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax")
_PATHS = ("../../etc/passwd", "/etc/passwd", "images/../../x.png", "..\\x.png", "C:\\x.png", "\\\\host\\x", "a\0b.png",
          "", ".", "images", "CANARY" * 1000, "images/" * 500 + "x.png", "%2e%2e/x.png", "\u202e.png", "CON", "~/x.png",
          " ", "\ud800", "file:///etc/passwd", "images//" + IMAGE, "./" + IMAGE)
_LABELS = ("", "CANARY", "No Finding|Mass", "Mass|Mass", "|", "mass", "Mass|", "Mass,Nodule", "\0", "Mass|CANARY",
           "M" * 100_000, "|".join(_FINDINGS), "=cmd()", "1", "-1", "nan", "2", "0.5", "TRUE")
Rows = list[list[str]]


def published(rng: Generator) -> Rows:
    head = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender",
            "View Position"]
    return [head, *([IMAGE, str(pick(rng, _FINDINGS)), "0", f"CANARY{i}", "58", "M", "PA"] for i in range(8))]


def one_hot(rng: Generator) -> Rows:
    return [["file", "patient_id", "age", "sex", "view", *_FINDINGS],
            *([IMAGE, f"CANARY{i}", "58", "F", "AP", *(str(int(x)) for x in rng.integers(0, 2, 14))] for i in range(8))]


def _cell(rng: Generator, rows: Rows) -> Rows:
    row = rows[int(rng.integers(1, len(rows)))]
    at = int(rng.integers(len(row)))
    row[at] = pick(rng, _PATHS if at == 0 else _LABELS)
    return rows


def _columns(rng: Generator, rows: Rows) -> Rows:
    """A column gone, twice, renamed, without a name, or all in another order."""
    at = int(rng.integers(len(rows[0])))
    change = int(rng.integers(5))
    if change == 0:
        return [r[:at] + r[at + 1:] for r in rows]
    if change == 1:
        return [[*r, r[at]] for r in rows]
    if change == 2:
        rows[0][at] = pick(rng, ("", "CANARY", rows[0][at].upper(), "\ufeff" + rows[0][at], "\0"))
        return rows
    if change == 3:
        return [r[::-1] for r in rows]
    return [rows[0], *(r[:at] for r in rows[1:4]), *([*r, "CANARY", "1"] for r in rows[4:])]


def _wide(rng: Generator, rows: Rows) -> Rows:
    extra = int(pick(rng, (5000, 100_000)))
    more = [f"c{i}" for i in range(extra)]
    return [[*rows[0], *more], *([*r, *["1"] * extra] if rng.random() < 0.3 else r for r in rows[1:])]


def _text(rows: Rows) -> bytes:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
    return "\r\n".join(",".join(quoted(c) for c in r) for r in rows).encode("utf-8", "surrogatepass") + b"\r\n"


def _quotes(rng: Generator, text: bytes) -> bytes:
    """A quote that is never closed, a field of 20 MB, quotes in the middle of fields."""
    at = int(rng.integers(len(text)))
    filler = pick(rng, (b'"', b'"' + b"CANARY" * 3_500_000, b"CANARY" * 3_500_000, b'""', b'"a"b', b"," * 100_000,
                        b"\n" * 100_000))
    return text[:at] + filler + text[at:]


def _encoding(rng: Generator, text: bytes) -> bytes:
    """Byte order marks, UTF-16, one row in another code, NUL bytes, old line ends."""
    choice = int(rng.integers(6))
    if choice < 3:
        return text.decode("utf-8", "replace").encode(("utf-8-sig", "utf-16", "utf-32")[choice])
    if choice == 3:
        lines = text.split(b"\r\n")
        lines[int(rng.integers(len(lines)))] += b"M\xfcller,\xff\xfe\x80"
        return b"\r\n".join(lines)
    return text.replace(b"\r\n", pick(rng, (b"\r", b"\n", b"\0\n", b"\x0b", b"\x85", "\u2028".encode())))


TABLES: dict[str, Callable[[Generator, Rows], Rows]] = {"cells": _cell, "columns": _columns, "too wide": _wide}
TEXTS: dict[str, Callable[[Generator, bytes], bytes]] = {"quotes": _quotes, "encoding": _encoding, **RAW}


def hostile_table(rng: Generator) -> tuple[str, str, bytes]:
    """(what was done, file name, its bytes)."""
    rows = (published if rng.random() < 0.6 else one_hot)(rng)
    name = "Data_Entry_2017_v2020.csv" if rows[0][0] == "Image Index" else "labels.csv"
    done = pick(rng, (*["cells"] * 4, *["columns"] * 3, "too wide", *TEXTS))
    text = _text(TABLES[done](rng, rows)) if done in TABLES else TEXTS[done](rng, _text(rows))
    if rng.random() < 0.1 and name != "labels.csv":
        text, name = gzip.compress(text, 1), name + ".gz"
        if rng.random() < 0.5:
            done, text = "gzip", RAW[pick(rng, tuple(RAW))](rng, text)
    return done, name, text
