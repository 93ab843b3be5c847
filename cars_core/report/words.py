"""Plain words and numbers for findings, operations and reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cars_core.vocabulary import Vocabulary, load_vocabulary


def finding_words(name: str) -> str:
    """`pleural_thickening` -> `pleural thickening`."""
    return name.replace("_", " ")


def combination_words(names: Sequence[str]) -> str:
    """Findings that stand together: `effusion + mass`."""
    return " + ".join(finding_words(n) for n in names) or "none"


def cell_words(cell: str) -> str:
    """Which films a pattern is about: `sex=F,age=80+` -> `sex F, age 80+`; "" for all films."""
    return ", ".join(part.replace("=", " ") for part in cell.split(",")) if cell else ""


def pattern_words(row: Mapping[str, Any]) -> str:
    """A row of the table `gaps`: `effusion + mass`, `edema, no effusion (sex F)`."""
    present = [n for n in row["findings"] if not n.startswith("no ")]
    lacking = [finding_words(n) for n in row["findings"] if n.startswith("no ")]
    words = ", ".join([*([combination_words(present)] if present else []), *lacking]) or "none"
    return f"{words} ({cell_words(row['cell'])})" if row["cell"] else words


def operation_words(operation: Mapping[str, Any], vocabulary: Vocabulary | None = None) -> str:
    """One operation of an edit: `insert effusion, left, severity 0.7`.

    The side is the patient's. It is left out for a finding that has no side in the vocabulary (the
    built-in one by default), the severity for a deletion.
    """
    vocabulary = vocabulary or load_vocabulary()
    name = str(operation["finding"])
    parts = [f"{operation['kind']} {finding_words(name)}"]
    if name not in vocabulary.names or vocabulary[name].sided:
        side = str(operation["side"])
        parts.append("both sides" if side == "both" else side)
    if operation["kind"] != "delete":
        parts.append(f"severity {float(operation['severity']):.2g}")
    return ", ".join(parts)


def operations_words(operations: Iterable[Mapping[str, Any]], vocabulary: Vocabulary | None = None) -> str:
    """Every operation of an edit, joined by `; `."""
    return "; ".join(operation_words(o, vocabulary) for o in operations)


# What a failed gate means to a reader, by the measure it is about.
_REASONS = {
    "error": "the edit could not be made",
    "ssim_outside": "the film outside the mask changed (SSIM)",
    "kept_changed": "pixels that were to be kept changed",
    "seam": "a seam shows at the mask's border",
    "effect": "the edit is too weak or goes the wrong way",
    "|effect|": "the edit is too weak",
    "dice_lungs": "the lungs' outline changed",
    "dice_left_lung": "the left lung's outline changed too much",
    "dice_right_lung": "the right lung's outline changed too much",
    "ctr_edit": "the heart did not change width as the finding asks",
    "|ctr_edit - ctr_source|": "the cardiothoracic ratio changed",
}


def reason_key(reason: str) -> str:
    """What a reason is counted and filtered by: its text before a colon, a parenthesis or its first number, so
    that `seam 3.1 > 2` and `seam 2.4 > 2` are one reason."""
    return re.split(r":|\(|\s[-+]?\d", reason, maxsplit=1)[0].strip() or "no reason given"


def reason_words(key: str) -> str:
    """A reason key in words; an unknown one as it is."""
    return _REASONS.get(key, finding_words(key))


def count_reasons(samples: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """(reason key, rejected samples it stopped), most frequent first; a sample counts once per key."""
    counts: Counter[str] = Counter()
    for row in samples:
        if row["verdict"] == "rejected":
            counts.update({reason_key(r) for r in row["reasons"]} or {reason_key("")})
    return sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))


def number(value: float | None, digits: int = 3) -> str:
    """A number to `digits` decimals, a dash where it is null or not finite; whole numbers with thousands marks."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """`number` with its sign, a true minus."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+,.{digits}f}".replace("-", "−")


def seconds_words(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
