"""The gallery's cards: which samples are pictured, and their pictures within a byte budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from cars_core.report.pictures import U8, data_uri, decode, difference_image, difference_png, fit, jpeg, outline_png
from cars_core.report.words import number, operations_words, reason_key
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Get = Callable[[str], bytes]
Truth = Callable[[dict[str, Any]], bytes | None]

PICTURE_BUDGET = 10_500_000
"""Characters of data URIs a page may hold: with its tables the page stays under 12 MB."""

# Tried in turn until the pictures fit the budget: long side in px, JPEG quality.
_LADDER = ((512, 88), (512, 78), (448, 75), (384, 75), (320, 70), (256, 70), (192, 65), (128, 60))


_SMALL = 30_000   # bytes of a difference picture that are not worth a lossy try


@dataclass(frozen=True)
class Panel:
    """One picture of a card. outline: a transparent picture to lay over it, or ""."""

    label: str
    alt: str
    uri: str
    width: int
    height: int
    outline: str = ""


@dataclass(frozen=True)
class Card:
    edit_id: str
    operations: str
    verdict: str
    reasons: list[str]
    keys: list[str]                  # reason keys, for the filter
    findings: list[str]              # findings operated on, for the filter
    kinds: list[str]
    target: list[str]
    before: list[str]
    measures: list[tuple[str, str]]
    truth_note: str = ""
    panels: list[Panel] = field(default_factory=list)


@dataclass(frozen=True)
class _Films:
    source: U8
    edit: U8
    mask: U8 | None
    truth: U8 | None


def choose(samples: Sequence[dict[str, Any]], pairs: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Which samples are pictured: (accepted, rejected), at most `pairs` together, those with an edited film only.

    Rejects get at least a third of the places when there are as many. Within each, combinations (accepted) or
    first reasons (rejected) take turns, so that a rare one is not crowded out; ties go by edit_id.
    """
    shown = [s for s in samples if s["object"]]
    accepted = [s for s in shown if s["verdict"] == "accepted"]
    rejected = [s for s in shown if s["verdict"] != "accepted"]
    for_rejected = min(len(rejected), max(pairs // 3, pairs - len(accepted)))
    return (_in_turn(accepted, lambda s: str(s["gap"]))[:pairs - for_rejected],
            _in_turn(rejected, lambda s: reason_key(s["reasons"][0] if s["reasons"] else ""))[:for_rejected])


def _in_turn(rows: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda s: s["edit_id"]):
        groups.setdefault(key(row), []).append(row)
    return [row for turn in zip_longest(*(groups[k] for k in sorted(groups))) for row in turn if row is not None]


def make_cards(rows: Sequence[dict[str, Any]], *, get: Get, truth: Truth | None, vocabulary: Vocabulary,
               budget: int = PICTURE_BUDGET) -> list[Card]:
    """Cards with pictures, in the order given. All share one size and JPEG quality: the best at which they fit.

    Args:
        rows: sample rows with an edited film.
        get: object name -> bytes; what it raises for a missing object is passed on.
        truth: sample row -> PNG of the true counterfactual, or None where there is none.
        budget: characters of data URIs.

    Raises:
        BadInput: an object that is no picture, films of one sample that differ in shape, or a budget
            that even 128 px thumbnails overrun.
    """
    made = [(r, _read(r, get, truth)) for r in rows]
    probe = made[::max(1, len(made) // 6)]
    for limit, quality in _LADDER:
        # A few cards tell whether a step of the ladder can fit at all: encoding every card at each is slow.
        if _size([_panels(r, f, limit, quality, vocabulary) for r, f in probe]) * len(made) > 1.2 * budget * len(probe):
            continue
        panels = [_panels(r, f, limit, quality, vocabulary) for r, f in made]
        if _size(panels) <= budget:
            return [make_card(r, vocabulary, panels=p, truth_note=_truth_note(f))
                    for (r, f), p in zip(made, panels, strict=True)]
    raise BadInput("pairs", len(rows), "few enough pictures for the page's size")


def _size(panels: Sequence[Sequence[Panel]]) -> int:
    return sum(len(p.uri) + len(p.outline) for card in panels for p in card)


def make_card(row: Mapping[str, Any], vocabulary: Vocabulary, *, panels: Sequence[Panel] = (),
              truth_note: str = "") -> Card:
    """The words and numbers of one sample."""
    operations = row["operations"]
    return Card(
        edit_id=row["edit_id"], operations=operations_words(operations, vocabulary), verdict=row["verdict"],
        reasons=list(row["reasons"]), keys=sorted({reason_key(r) for r in row["reasons"]}),
        findings=sorted({o["finding"] for o in operations}), kinds=sorted({o["kind"] for o in operations}),
        target=vocabulary.unpack(row["present"]), before=vocabulary.unpack(row["source_present"]),
        measures=_measures(row), truth_note=truth_note, panels=list(panels))


def _measures(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    changed = row["kept_changed"]
    return [
        ("SSIM outside mask", number(row["ssim_outside"], 4)), ("SSIM whole", number(row["ssim_whole"], 4)),
        ("PSNR outside mask", number(row["psnr_outside"], 1) + (" dB" if row["psnr_outside"] is not None else "")),
        ("kept pixels changed", number(None if changed is None else int(changed))),
        ("seam", number(row["seam"], 2)), ("effect", number(row["effect"], 1)),
        ("Dice lungs", number(row["dice_lungs"])),
        ("cardiothoracic ratio", f"{number(row['ctr_source'], 2)} → {number(row['ctr_edit'], 2)}"),
    ]


def _read(row: dict[str, Any], get: Get, truth: Truth | None) -> _Films:
    where = f"edit {row['edit_id'][:12]}"
    true = truth(row) if truth else None
    films = _Films(decode(get(row["source_object"]), where=where), decode(get(row["object"]), where=where),
                   decode(get(row["mask"]), where=where) if row["mask"] else None,
                   decode(true, where=where) if true else None)
    for other in (films.edit, films.mask, films.truth):
        if other is not None and other.shape != films.source.shape:
            raise BadInput(where, other.shape, f"pictures of the source film's shape {films.source.shape}")
    return films


def _panels(row: Mapping[str, Any], films: _Films, limit: int, quality: int, vocabulary: Vocabulary) -> list[Panel]:
    words = operations_words(row["operations"], vocabulary)
    source, edit = fit(films.source, limit), fit(films.edit, limit)
    height, width = source.shape
    outline = ""
    if films.mask is not None:
        outline = data_uri(outline_png(fit(films.mask, limit, mask=True), width=max(1, round(max(source.shape) / 256))))

    def panel(label: str, alt: str, data: bytes, over: str = "") -> Panel:
        return Panel(label, alt, data_uri(data), width, height, over)

    panels = [panel("Before", f"Chest film before the edit: {words}", jpeg(source, quality=quality), outline),
              panel("After", f"The same film after the edit: {words}", jpeg(edit, quality=quality)),
              panel("Difference", f"What the edit changed: {words}", _smaller_difference(source, edit), outline)]
    if films.truth is not None:
        true = fit(films.truth, limit)
        panels += [panel("Truth", f"The true counterfactual: {words}", jpeg(true, quality=quality)),
                   panel("After − truth", f"Where the edit departs from the truth: {words}",
                         _smaller_difference(true, edit))]
    return panels


def _smaller_difference(source: U8, edit: U8) -> bytes:
    """Lossless where little changed; a film changed all over would be a huge PNG."""
    lossless = difference_png(source, edit)
    if len(lossless) <= _SMALL:
        return lossless
    lossy = jpeg(difference_image(source, edit), quality=88)
    return min(lossless, lossy, key=len)


def _truth_note(films: _Films) -> str:
    """Error inside the edit mask against the truth, beside that of leaving the film alone."""
    if films.truth is None:
        return ""
    region = films.mask == 255 if films.mask is not None else np.ones(films.source.shape, bool)
    if not region.any():
        return ""
    true = films.truth.astype(np.int16)[region]
    made, idle = (float(np.abs(f.astype(np.int16)[region] - true).mean()) for f in (films.edit, films.source))
    return f"Mean error to the truth in the mask: {made:.1f} grey levels (unedited film: {idle:.1f})"
