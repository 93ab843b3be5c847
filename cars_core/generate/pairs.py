"""Counterfactual pairs for training: a film with and without a finding laid over it by the simulator.

Both directions come from one overlay: without -> with is an insertion, with -> without a deletion whose
target is the real film itself. A finding the film's labels already name is never laid over it, since then
neither side of the pair would be what it claims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cars_core.anatomy.masks import Anatomy
from cars_core.anatomy.regions import Pass, crop_box, edit_region, grow, mask_picture
from cars_core.generate.denoiser import REGION, Condition
from cars_core.generate.edit import cut
from cars_core.phantom.display import add_attenuation
from cars_core.phantom.findings.overlay import overlay
from cars_core.phantom.placed import Placed
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

#: Findings the editor is trained on.
TRAINED = (
    "effusion",
    "consolidation",
    "infiltration",
    "nodule",
    "mass",
    "edema",
    "atelectasis",
    "pleural_thickening",
    "cardiomegaly",
)
#: Operations it is trained and tested on. Taking a large heart away would show lung nobody has seen.
OPERATIONS = tuple((k, f) for f in TRAINED for k in ("insert", "delete") if (k, f) != ("delete", "cardiomegaly"))
#: Pairs are cut a little larger than the model's region, so that training can jitter the cut.
JITTER = 16


@dataclass(frozen=True)
class Base:
    """A training film: uint8 [H, W], its masks, the findings it shows, its content's name, its patient."""

    film: NDArray[np.uint8]
    anatomy: Anatomy
    present: int
    image_id: str
    patient: str


@dataclass(frozen=True)
class Pair:
    """Regions uint8 [REGION + JITTER] squared before and after, mask (255/128/0), and what was asked."""

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    condition: Condition


def _draw(finding: str, rng: np.random.Generator) -> tuple[str, float, int]:
    side = "both" if finding == "cardiomegaly" else ("left", "right")[int(rng.integers(2))]
    return side, float(rng.uniform(0.15, 1.0)), int(rng.integers(2**62))


def make_pair(base: Base, finding: str, kind: str, *, rng: np.random.Generator, vocabulary: Vocabulary) -> Pair:
    """One pair.

    Raises:
        BadInput: the film already shows the finding, or its anatomy cannot hold it.
    """
    bit = 1 << vocabulary[finding].bit
    if base.present & bit:
        raise BadInput(finding, "already present", "a film without it")
    film, present = base.film, base.present
    if rng.random() < 0.25:  # beside another finding
        other = TRAINED[int(rng.integers(len(TRAINED)))]
        other_bit = 1 << vocabulary[other].bit
        if other != finding and not present & other_bit:
            side, severity, seed = _draw(other, rng)
            film = add_attenuation(film, overlay(film, Placed(other, side, severity, seed), base.anatomy)[0])
            present |= other_bit
    side, severity, seed = _draw(finding, rng)
    change, reach = overlay(film, Placed(finding, side, severity, seed), base.anatomy)
    if not reach.any():
        raise BadInput(finding, "no pixel", "a finding that shows on this film")
    shown = add_attenuation(film, change)
    if kind == "insert":
        before, after = film, shown
        region = edit_region(Pass("insert", finding, side, severity, seed), base.anatomy)
        vectors = (present, present | bit)
    else:
        before, after = shown, film
        vectors = (present | bit, present)
        region = grow(reach, (0.02 + 0.06 * rng.random()) * film.shape[0])
        if finding != "cardiomegaly" and rng.random() < 0.7:
            region |= edit_region(Pass("delete", finding, side, severity, seed), base.anatomy)
    mask = mask_picture(region)
    top, left, n = crop_box(mask)
    wide = round(n * (REGION + JITTER) / REGION)
    box = (top - (wide - n) // 2, left - (wide - n) // 2, wide)
    size = REGION + JITTER

    def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cut(picture, box, size).round().clamp(0, 255).to(torch.uint8).numpy()

    return Pair(
        grey(before),
        grey(after),
        cut(mask, box, size, nearest=True).to(torch.uint8).numpy(),
        Condition(
            kind=kind,
            finding=finding,
            severity=severity,
            side=side,
            source_present=vectors[0],
            target_present=vectors[1],
            box_share=n / film.shape[0],
        ),
    )


def make_pairs(bases: list[Base], n: int, *, seed: int, vocabulary: Vocabulary, progress: object = None) -> list[Pair]:
    """`n` pairs over random films, findings and directions; what a film cannot hold is drawn again."""
    rng = np.random.default_rng(seed)
    out: list[Pair] = []
    tries = 0
    while len(out) < n:
        tries += 1
        if tries > 20 * n + 100:
            raise BadInput("training films", f"{len(bases)} films", "films with lungs that can hold the findings")
        base = bases[int(rng.integers(len(bases)))]
        kind, finding = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        try:
            out.append(make_pair(base, finding, kind, rng=rng, vocabulary=vocabulary))
        except BadInput:
            continue
        if callable(progress):
            progress(len(out), n)
    return out
