"""Is it an upright frontal chest film? What the network says of a film, and what is done about it.

Whether a film is mirrored is not told: a mirrored film and one of a heart on the right (dextrocardia) look alike, and
only letters on the film could say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cars_core.cohort.screen.network import KINDS, Network, four_turns, load_network, view
from cars_core.weights import read_card

Pixels = NDArray[np.uint8]
Verdict = Literal["upright", "repaired", "flagged", "set aside"]

DEFAULT = Path(__file__).resolve().parents[2] / "weights" / "screen"

#: Least probability of a frontal chest film, below which a film is set aside, and below which it is flagged.
CHEST, DOUBTFUL = 0.2, 0.5
#: Least probability of a turn at which the film is turned by it, and of "upright" at which it passes unflagged. Even a
#: sure answer stays at 0.9925: training aims at targets smoothed by 0.01.
CERTAIN, UPRIGHT = 0.95, 0.5
#: Least probability of inverted grey at which a film is flagged.
NEGATIVE = 0.95

MAY_BE_ROTATED = "may be rotated"
MAY_BE_NEGATIVE = "may be a negative"
MAY_NOT_BE_FRONTAL = "may not be a frontal chest film"
NOT_FRONTAL = "not a frontal chest film"


@dataclass(frozen=True)
class Judgement:
    """What the network says of a film; probabilities 0..1, rounded to six places.

    Attributes:
        quarter_turns: 0..3, counter-clockwise turns by 90 degrees (as numpy.rot90) that would make it upright.
        turn_confidence: probability of that turn among the four. Means nothing where `chest` is low.
        chest: that it is one frontal chest film.
        lateral: that it is a chest film from the side; with `chest` at most 1. Learned from crude simulated ones only,
            so it decides nothing here: the open film of a leg is called lateral.
        negative: that its grey is inverted (bone dark), given that it is a chest film.
    """

    quarter_turns: int
    turn_confidence: float
    chest: float
    lateral: float
    negative: float


@dataclass(frozen=True)
class Screened:
    """A film after the screen.

    Attributes:
        verdict: "upright"; "repaired": `pixels` are turned; "flagged": kept as it is, `reason` says what it may be;
            "set aside": `reason` says why it cannot be used.
        pixels: uint8 [H, W], the input itself unless repaired.
        reason: None for an upright film; for a repaired one, by how much it was turned.
        judgement: what this was decided by.
    """

    verdict: Verdict
    pixels: Pixels
    reason: str | None
    judgement: Judgement


def judge(pixels: Pixels, *, weights: Path | None = None) -> Judgement:
    """Look at a film uint8 [H, W] of at least 64 pixels on a side.

    Turning the film by quarters turns the answer by as many, exactly, and changes no probability. The same pixels give
    the same answer on any machine.

    Raises:
        BadInput: the weights (default: the committed ones) cannot be read.
        ValueError: a side is under 64 pixels.
    """
    network = _network(weights)
    sums = network.sums(four_turns(view(pixels)))
    turns = _softmax(sums[:, 0] * network.scale[0])
    whole = sums.sum(axis=0) * (network.scale / 4)  # the mean over the turns, the same for every turn of the film
    chest, side, _ = _softmax(whole[KINDS])
    k = int(np.argmax(turns))
    return Judgement(k, *(round(float(p), 6) for p in (turns[k], chest, side, 1 / (1 + np.exp(-whole[4])))))


def screen(pixels: Pixels, *, weights: Path | None = None) -> Screened:
    """Judge a film uint8 [H, W] and decide: set aside what is no frontal chest film, turn what is certainly rotated,
    flag what may be one or the other or a negative, pass the rest.

    A negative keeps its pixels: which grey a film means is for its decoder to say.

    Raises:
        As `judge`.
    """
    said = judge(pixels, weights=weights)
    if said.chest < CHEST:
        return Screened("set aside", pixels, NOT_FRONTAL, said)
    if said.chest < DOUBTFUL:
        return Screened("flagged", pixels, MAY_NOT_BE_FRONTAL, said)
    if said.turn_confidence < (CERTAIN if said.quarter_turns else UPRIGHT):
        return Screened("flagged", pixels, MAY_BE_ROTATED, said)
    if said.negative >= NEGATIVE:
        return Screened("flagged", pixels, MAY_BE_NEGATIVE, said)
    if said.quarter_turns:
        turned = np.ascontiguousarray(np.rot90(pixels, said.quarter_turns))
        return Screened("repaired", turned, f"turned by {90 * said.quarter_turns} degrees counter-clockwise", said)
    return Screened("upright", pixels, None, said)


def screen_digest() -> str:
    """sha256 (hex) of the committed weights: other weights, other judgements."""
    return str(read_card(DEFAULT, kind="screen")["sha256"])


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max())
    return np.asarray(e / np.sort(e).sum())  # sorted, so that the order of the turns does not touch the last bit


def _network(folder: Path | None) -> Network:
    return _loaded(DEFAULT if folder is None else folder)


@lru_cache(maxsize=2)
def _loaded(folder: Path) -> Network:
    return load_network(folder)
