"""Which devices a simulated patient has on a film: those of the person, and those of the bed the film is taken in.

Sternal wires and a pacemaker belong to the person and are on every film. The others depend on the film's position, far
more of them where films are taken in bed: most portable supine films are of intensive care, of whom about half are
ventilated and nearly all of those fed or drained through the nose; a patient who stands for a PA film has at most a
port or a dialysis line. The shares are round numbers for such wards, not counts of any cohort.

Tubes stay for days. Behind each lies a need, uniform in 0..1, and the device is in place where its need is below the
share of the film's position. After `d` days a need still holds with probability exp(-d / LASTING_DAYS), else it is
drawn anew. Either way it is uniform, so a follow-up has as many devices as any film in that position; and a device
whose need holds stays, with its course, wherever the position allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cars_core.phantom.body.patient import Patient
from cars_core.phantom.placed import Device, Placed

#: Of all people.
PACEMAKER_SHARE, WIRES_SHARE = 0.03, 0.05
PACEMAKER_LEFT = 0.85  # the side away from most people's writing hand
LINE_RIGHT = 0.7  # the straighter way into the superior vena cava

#: Mean days that the need for a device holds: about a week of intensive care.
LASTING_DAYS: dict[str, float] = {"endotracheal_tube": 7.0, "nasogastric_tube": 8.0, "central_line": 9.0,
                                  "chest_drain": 5.0}


@dataclass(frozen=True)
class Shares:
    """Of the films taken in one position: with an endotracheal tube; with a nasogastric tube beside one or without;
    with a central line; with a drain where there is an effusion or a pneumothorax."""

    endotracheal_tube: float
    nasogastric_beside: float
    nasogastric_alone: float
    central_line: float
    drain: float


SUPINE = Shares(0.45, 0.75, 0.12, 0.50, 0.30)  # nasogastric tubes on 40 % of them
SITTING = Shares(0.08, 0.75, 0.10, 0.30, 0.20)
STANDING = Shares(0.0, 0.0, 0.0, 0.05, 0.05)


@dataclass(frozen=True)
class Need:
    """For one kind of device: `level` and `aside` uniform in 0..1, `seed` of the course."""

    level: float
    aside: float
    seed: int


Needs = Mapping[str, Need]  # one for each kind of LASTING_DAYS


def draw_implants(seed: int) -> tuple[Device, ...]:
    """Devices that belong to the person."""
    rng = np.random.default_rng(seed)
    pacemaker, left, wires = rng.random(3)
    seeds = [int(s) for s in rng.integers(2**62, size=2)]
    out = []
    if pacemaker < PACEMAKER_SHARE:
        out.append(Device("pacemaker", "left" if left < PACEMAKER_LEFT else "right", seeds[0]))
    if wires < WIRES_SHARE:
        out.append(Device("sternal_wires", "both", seeds[1]))
    return tuple(out)


def draw_needs(seed: int) -> Needs:
    """What a patient is in need of on the first film. A pure function of `seed`."""
    rng = np.random.default_rng(seed)
    return {kind: Need(float(rng.random()), float(rng.random()), int(rng.integers(2**62))) for kind in LASTING_DAYS}


def later_needs(needs: Needs, there: tuple[Device, ...], *, days: int, seed: int) -> Needs:
    """What the patient is in need of `days` after a film that showed `there`.

    A device that was not in place comes with a course of its own, also where its need holds.
    """
    fresh = draw_needs(seed)
    rng = np.random.default_rng([seed, 1])
    kinds = {d.kind for d in there}
    out: dict[str, Need] = {}
    for kind, lasting in LASTING_DAYS.items():
        holds = rng.random() < math.exp(-days / lasting)
        kept = needs[kind] if kind in kinds else replace(needs[kind], seed=fresh[kind].seed)
        out[kind] = kept if holds else fresh[kind]
    return out


def draw_devices(patient: Patient, placed: tuple[Placed, ...], needs: Needs) -> tuple[Device, ...]:
    """Devices of one film, by the position it is taken in, what there is to drain and what the patient needs."""
    shares = STANDING if patient.view == "PA" else SUPINE if patient.supine else SITTING
    tube, nose, line, drain = (needs[kind] for kind in LASTING_DAYS)
    out = []
    intubated = tube.level < shares.endotracheal_tube
    if intubated:
        out.append(Device("endotracheal_tube", "both", tube.seed))
    if nose.level < (shares.nasogastric_beside if intubated else shares.nasogastric_alone):
        out.append(Device("nasogastric_tube", "both", nose.seed))
    if line.level < shares.central_line:
        out.append(Device("central_line", "right" if line.aside < LINE_RIGHT else "left", line.seed))
    drained = _drained(placed)
    if drained is not None and drain.level < shares.drain:
        where = drained if drained != "both" else "right" if drain.aside < 0.5 else "left"
        out.append(Device("chest_drain", where, drain.seed))
    return tuple(out)


def _drained(placed: tuple[Placed, ...]) -> str | None:
    """Side of what a chest drain would be for, air before fluid. Air under tension is air not drained yet."""
    if any(p.form == "tension" for p in placed):
        return None
    sides = {p.finding: p.side for p in placed}
    return sides.get("pneumothorax") or sides.get("effusion")
