"""Three-valued finding vectors, packed in integers.

A vector is (present, absent, uncertain): disjoint bit masks. A finding in none of them was not
mentioned, which is not the same as absent: a CheXpert blank stays "not mentioned" to the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput


@dataclass(frozen=True)
class Vector:
    present: int = 0
    absent: int = 0
    uncertain: int = 0

    def __post_init__(self) -> None:
        clash = self.present & self.absent | self.present & self.uncertain | self.absent & self.uncertain
        if clash or min(self.present, self.absent, self.uncertain) < 0:
            raise BadInput(
                "finding vector", f"{self.present:b}/{self.absent:b}/{self.uncertain:b}", "disjoint, non-negative masks"
            )

    def state(self, bit: int) -> str:
        """present | absent | uncertain | unmentioned."""
        for name in ("present", "absent", "uncertain"):
            if getattr(self, name) >> bit & 1:
                return name
        return "unmentioned"

    def with_state(self, bit: int, state: str) -> Vector:
        """The same vector with one finding set to another state."""
        keep = ~(1 << bit)
        masks = {n: getattr(self, n) & keep for n in ("present", "absent", "uncertain")}
        if state != "unmentioned":
            masks[state] |= 1 << bit
        return Vector(**masks)


def close_upwards(v: Vector, vocabulary: Vocabulary) -> Vector:
    """Add what positive findings imply: a mass makes `lung_lesion` present, unless stated otherwise."""
    out, todo = v, vocabulary.unpack(v.present)
    while todo:
        for parent in vocabulary[todo.pop()].parents:
            bit = vocabulary[parent].bit
            if out.state(bit) == "unmentioned":
                out = out.with_state(bit, "present")
                todo.append(parent)
    return out


def from_nih(labels: str, vocabulary: Vocabulary, *, where: str = "Finding Labels") -> Vector:
    """NIH ChestX-ray14's `A|B` string. All 14 labels are stated in it: what is not named is absent.

    Raises:
        BadInput: a label outside the NIH set, or "No Finding" beside a finding.
    """
    known = vocabulary.label_set("nih")
    none = vocabulary.no_finding.get("nih")
    given = [part.strip() for part in labels.split("|") if part.strip()]
    if not given:
        raise BadInput(where, labels, "NIH finding labels joined by |, or No Finding")
    for name in given:
        if name not in known and name != none:
            raise BadInput(where, name, "one of " + ", ".join([*known, str(none)]))
    if none in given and len(given) > 1:
        raise BadInput(where, labels, f"{none} to stand alone")
    present = sum(1 << known[n].bit for n in set(given) if n != none)
    every = sum(1 << f.bit for f in known.values())
    return close_upwards(Vector(present=present, absent=every & ~present), vocabulary)


def from_chexpert(row: Mapping[str, object], vocabulary: Vocabulary, *, where: str = "row") -> Vector:
    """CheXpert / MIMIC-CXR label columns: 1 present, 0 absent, -1 uncertain, blank not mentioned.

    "No Finding" = 1 makes every disease finding of the label set that is not mentioned absent
    (devices may still be there).

    Raises:
        BadInput: a value other than these.
    """
    known = vocabulary.label_set("chexpert")
    none = vocabulary.no_finding.get("chexpert")
    masks = {1.0: 0, 0.0: 0, -1.0: 0}

    def read(column: str) -> float | None:
        raw = row.get(column)
        if raw is None or raw == "" or raw != raw:
            return None
        try:
            value = float(raw)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            value = 2.0
        if value not in masks:
            raise BadInput(f"{where}: {column}", str(raw), "1, 0, -1 or empty")
        return value

    for column, finding in known.items():
        value = read(column)
        if value is not None:
            masks[value] |= 1 << finding.bit
    if none and read(none) == 1.0:
        disease = sum({1 << f.bit for f in known.values() if f.name != "support_devices"})
        masks[0.0] |= disease & ~(masks[1.0] | masks[-1.0])
    return close_upwards(Vector(present=masks[1.0], absent=masks[0.0], uncertain=masks[-1.0]), vocabulary)
