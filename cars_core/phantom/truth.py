"""The truth of a simulated film as one line of JSON, and what the film would be with other findings."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from cars_core.phantom.body.patient import Patient, patient_from
from cars_core.phantom.film import Film, render
from cars_core.phantom.placed import Device, Placed, check_findings
from schemas.errors import BadInput

_MODEL = "cars.phantom/2"


def truth_of(patient: Patient, placed: tuple[Placed, ...], *, size: int, noise_seed: int,
             devices: tuple[Device, ...] = ()) -> str:
    """JSON that holds all `render_truth` needs.

    Raises:
        BadInput: findings that cannot be on one film.
    """
    check_findings(placed)
    return json.dumps({"model": _MODEL, "patient": asdict(patient), "findings": [asdict(p) for p in placed],
                       "devices": [asdict(d) for d in devices], "size": size, "noise_seed": noise_seed},
                      sort_keys=True, separators=(",", ":"))


def render_truth(truth: str, *, bits: int = 8) -> Film:
    """Render a film from its truth.

    Raises:
        BadInput: the truth is not one of this phantom's.
    """
    t = read_truth(truth)
    return render(t.patient, t.placed, size=t.size, noise_seed=t.noise_seed, devices=t.devices, bits=bits)


@dataclass(frozen=True)
class Truth:
    """The arguments of `render`."""

    patient: Patient
    placed: tuple[Placed, ...]
    devices: tuple[Device, ...]
    size: int
    noise_seed: int


def counterfactual(truth: str, *, delete: Collection[str] = (), insert: Sequence[Placed] = ()) -> str:
    """Truth of the same patient, position and noise with other findings.

    Args:
        delete: findings that go, on both sides: a target vector that states one absent allows no rest.
        insert: findings that come. One takes the place of the same finding on the same side.

    Raises:
        BadInput: malformed truth, a deletion of what is not there, findings that cannot be on one film.
    """
    t = read_truth(truth)
    there = {p.finding for p in t.placed}
    for finding in delete:
        if finding not in there:
            raise BadInput("counterfactual: delete", finding, "a finding this film has: " + ", ".join(sorted(there)))
    placed = [p for p in t.placed if p.finding not in delete]
    for one in insert:
        placed = [rest for p in placed for rest in _beside(p, one)] + [one]
    return truth_of(t.patient, tuple(placed), size=t.size, noise_seed=t.noise_seed, devices=t.devices)


def _beside(there: Placed, new: Placed) -> tuple[Placed, ...]:
    """What is left of a finding when a new one takes its place."""
    if there.finding != new.finding or {there.side, new.side} == {"left", "right"}:
        return (there,)
    if there.side == "both" and new.side != "both":
        return (replace(there, side="left" if new.side == "right" else "right"),)
    return ()


def read_truth(truth: str) -> Truth:
    """Read what `truth_of` wrote.

    Raises:
        BadInput: the truth is not one of this phantom's.
    """
    try:
        raw = json.loads(truth)
        if raw["model"] != _MODEL:
            raise BadInput("truth: model", raw["model"], _MODEL)
        placed = tuple(Placed(str(p["finding"]), str(p["side"]), float(p["severity"]), int(p["seed"]),
                              str(p.get("form", ""))) for p in raw["findings"])
        devices = tuple(Device(str(d["kind"]), str(d["side"]), int(d["seed"])) for d in raw["devices"])
        size, noise_seed, patient = int(raw["size"]), int(raw["noise_seed"]), raw["patient"]
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput("truth", str(truth)[:60], f"the JSON of a simulated film ({type(e).__name__}: {e})") from e
    return Truth(patient_from(patient), placed, devices, size, noise_seed)
