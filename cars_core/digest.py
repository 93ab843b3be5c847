"""Content digests: the names of everything the factory makes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any, *, length: int = 64) -> str:
    """sha256 (hex) of a value's canonical JSON: sorted keys, no spaces, no NaN.

    Raises:
        TypeError, ValueError: the value is not plain JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def bytes_digest(data: bytes) -> str:
    """sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str | Path) -> str:
    """sha256 (hex) of a file, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def seed_from(*parts: Any) -> int:
    """A 63-bit seed that is a pure function of `parts` (fits a signed 64-bit column)."""
    return int(digest(list(parts), length=16), 16) >> 1
