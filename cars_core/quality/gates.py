"""The gates: is an edit published, and if not, why not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gates
from schemas.tables import MEASURES

# Which way a finding moves the film's grey levels when it is inserted; deletion goes the other way.
# Fluid, cells, collapse, scar and a larger heart put more tissue or water in the beam's way, so that
# less of it reaches the detector: brighter on a film shown dense-is-white.
BRIGHTENS = frozenset({
    "atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "enlarged_cardiomediastinum",
    "fibrosis", "hernia", "infiltration", "lung_lesion", "lung_opacity", "mass", "nodule", "pleural_other",
    "pleural_thickening", "pneumonia", "support_devices",
})
# Air where lung or vessels were lets more of the beam through: darker.
DARKENS = frozenset({"pneumothorax", "emphysema"})
# A finding in neither (a fracture line is dark, its callus bright) must only show.

# Findings that rightly change the cardiothoracic ratio.
HEART = frozenset({"cardiomegaly", "enlarged_cardiomediastinum", "hernia"})

_CTR = ("ctr_source", "ctr_edit")


def verdict(measures: Mapping[str, float | None], operations: Sequence[Mapping[str, Any]], gates: Gates, *,
            vocabulary: Vocabulary) -> tuple[str, list[str]]:
    """Accept or reject one edit.

    Gates: kept pixels and their SSIM; the seam; the effect's direction and size; the lungs' outlines
    (unchanged, or where an operated finding rightly changes them, unchanged in the other lung and still
    recognisable in the operated one); the cardiothoracic ratio (steady, or where cardiomegaly is
    edited, moved the right way). A measure that is missing or not finite fails. So does a heart found on
    one film only; a heart found on neither fails only where cardiomegaly is edited.

    Args:
        measures: every name of `schemas.tables.MEASURES`, as `cars_core.quality.measures.measure` gives.
        operations: at least one of {kind: insert | delete, finding, side: left | right | both, severity}.
        gates: the recipe's thresholds. A value on its threshold passes.

    Returns:
        ("accepted", []) or ("rejected", reasons): every failed gate, with value and threshold, such as
        "ssim_outside 0.981 < 0.995".

    Raises:
        BadInput: no operation, an unknown kind, side or finding, or a measure left out.
    """
    _check(measures, operations, vocabulary)
    values = {m: math.nan if measures[m] is None else float(measures[m]) for m in MEASURES}  # type: ignore[arg-type]
    heartless = all(math.isnan(values[m]) for m in _CTR) and not _edits(operations, frozenset({"cardiomegaly"}))
    reasons = [f"{name} was not measured ({value})" for name, value in values.items()
               if not math.isfinite(value) and not (name in _CTR and heartless)]
    reasons += _at_most("kept_changed", values["kept_changed"], gates.kept_changed_max)
    reasons += _at_least("ssim_outside", values["ssim_outside"], gates.ssim_outside_min)
    reasons += _at_most("seam", values["seam"], gates.seam_max)
    reasons += _at_least("grain", values["grain"], gates.grain_min, note=" (texture lost)")
    reasons += _at_most("grain", values["grain"], gates.grain_max, note=" (speckle)")
    reasons += _effect(values["effect"], operations, gates)
    reasons += _lungs(values, operations, gates, vocabulary)
    reasons += _heart(values, operations, gates)
    return ("rejected" if reasons else "accepted"), reasons


def _effect(value: float, operations: Sequence[Mapping[str, Any]], gates: Gates) -> list[str]:
    """One number cannot be judged by sign when operations pull both ways (a swap): its size must do."""
    ways = {_way(o) for o in operations}
    what = " and ".join(f"{o['kind']} {o['finding']}" for o in operations)
    if ways == {1}:
        return _at_least("effect", value, gates.effect_min, note=f" ({what} must brighten)")
    if ways == {-1}:
        return _at_most("effect", value, -gates.effect_min, note=f" ({what} must darken)")
    return _at_least("|effect|", abs(value), gates.effect_min, note=f" ({what} must show)")


def _way(operation: Mapping[str, Any]) -> int:
    """1 when it must brighten, -1 when it must darken, 0 when either will do."""
    finding = operation["finding"]
    inserted = 1 if finding in BRIGHTENS else -1 if finding in DARKENS else 0
    return inserted if operation["kind"] == "insert" else -inserted


def _lungs(values: Mapping[str, float], operations: Sequence[Mapping[str, Any]], gates: Gates,
           vocabulary: Vocabulary) -> list[str]:
    reshaped: set[str] = set()
    for operation in operations:
        if vocabulary[operation["finding"]].outline:
            reshaped |= {"left", "right"} if operation["side"] == "both" else {operation["side"]}
    if not reshaped:
        return _at_least("dice_lungs", values["dice_lungs"], gates.dice_lungs_min)
    reasons = []
    for side in ("left", "right"):
        least = gates.dice_outline_min if side in reshaped else gates.dice_other_lung_min
        reasons += _at_least(f"dice_{side}_lung", values[f"dice_{side}_lung"], least)
    return reasons


def _heart(values: Mapping[str, float], operations: Sequence[Mapping[str, Any]], gates: Gates) -> list[str]:
    before, after = (values[m] for m in _CTR)
    if not _edits(operations, HEART):
        return _at_most("|ctr_edit - ctr_source|", abs(after - before), gates.ctr_change_max)
    kinds = {o["kind"] for o in operations if o["finding"] == "cardiomegaly"}
    if "insert" in kinds and after <= before:
        return [f"ctr_edit {_pair(after, before, '<=')} ctr_source (insert cardiomegaly must widen the heart)"]
    if "delete" in kinds and after >= before:
        return [f"ctr_edit {_pair(after, before, '>=')} ctr_source (delete cardiomegaly must narrow the heart)"]
    return []


def _edits(operations: Sequence[Mapping[str, Any]], findings: frozenset[str]) -> bool:
    return any(o["finding"] in findings for o in operations)


def _at_least(name: str, value: float, least: float, *, note: str = "") -> list[str]:
    # A comparison with NaN is False: what was not measured has its own reason already.
    return [f"{name} {_pair(value, least, '<')}{note}"] if value < least else []


def _at_most(name: str, value: float, most: float, *, note: str = "") -> list[str]:
    return [f"{name} {_pair(value, most, '>')}{note}"] if value > most else []


def _pair(value: float, threshold: float, relation: str) -> str:
    """`value relation threshold` in as few digits as tell them apart, at least three."""
    for digits in range(3, 17):
        a, b = f"{value:.{digits}g}", f"{threshold:.{digits}g}"
        if a != b or value == threshold:
            break
    return f"{a} {relation} {b}"


def _check(measures: Mapping[str, float | None], operations: Sequence[Mapping[str, Any]],
           vocabulary: Vocabulary) -> None:
    for name in MEASURES:
        if name not in measures:
            raise BadInput(f"measures: {name}", "nothing", "a number, or None where it could not be measured")
    if not operations:
        raise BadInput("operations", [], "at least one operation")
    for i, operation in enumerate(operations):
        for key, allowed in (("kind", ("insert", "delete")), ("side", ("left", "right", "both"))):
            if operation.get(key) not in allowed:
                raise BadInput(f"operations[{i}].{key}", operation.get(key), "one of " + ", ".join(allowed))
        vocabulary[operation.get("finding", "")]
