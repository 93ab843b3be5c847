"""From thickness maps to a film: scatter, detector, local contrast, display, findings, noise.

What spreads over the whole film (scatter, local contrast, the display's window) is computed once for the
patient without disease. Findings and a wider heart are then added in the display's unit, so that each
changes only the pixels within its own reach and a counterfactual film differs from its fellow nowhere else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.digest import seed_from
from cars_core.phantom.display import to_grey
from cars_core.phantom.findings import SIMULATED, Placed, added_attenuation
from cars_core.phantom.patient import Patient, enlarged_ratio, patient_from
from cars_core.phantom.thorax import Map, Thorax, build, heart_chord
from schemas.errors import BadInput

#: Every finding a simulated film can show; the heart's is in its outline, the others are laid over.
SHOWN: frozenset[str] = SIMULATED | {"cardiomegaly"}

_SCATTER_SHARE = 0.42  # of the mean detector signal behind a chest, with a grid
_SCATTER_CM = 5.0  # standard deviation of the scatter's spread
_LOCAL_CM, _LOCAL_GAIN = 2.2, 0.35  # local contrast: radius and gain over the local mean
_EDGE_PX, _EDGE_GAIN = 1.2, 0.15  # edge enhancement
_DETECTOR_PX = 0.55  # standard deviation of the detector's blur
_LUNG_AT, _SOFT_AT = -0.75, 1.55  # where aerated lung and the abdomen are shown (grey 82 and 210)
_NOISE = 0.025  # of the display unit behind aerated lung
_TRUTH = "cars.phantom/1"


@dataclass(frozen=True)
class Film:
    """pixels uint8 [H, W]; anatomy of the person shown (masks do not see opacities, the heart is as drawn);
    finding_masks: where each finding changed the film, bool [H, W]."""

    pixels: NDArray[np.uint8]
    anatomy: Anatomy
    finding_masks: dict[str, Mask]


@dataclass(frozen=True)
class _Base:
    """A patient's film without disease, float32 [H, W]: the heart's chord (cm), the scattered signal, the log
    attenuation measured and as shown (display unit), the noise's size there; and display units per log."""

    thorax: Thorax
    heart: Map
    scatter: Map
    log: Map
    shown: Map
    noise: Map
    gain: float


def render(patient: Patient, placed: tuple[Placed, ...], *, size: int, noise_seed: int) -> Film:
    """The film of a patient with findings. Same arguments, same bytes (on one stack).

    Args:
        patient: the person, positioned.
        placed: findings of SHOWN, laid over in the order given.
        size: side in pixels, 64 to 2048.
        noise_seed: of the quantum noise, which is drawn from it alone.

    Raises:
        BadInput: a finding the phantom cannot draw, cardiomegaly twice, or a size out of range.
    """
    _check(placed, size)
    base = _base(patient, size)
    thorax, gain = base.thorax, np.float32(base.gain * (1 + _LOCAL_GAIN))
    anatomy = healthy = thorax.anatomy(base.heart)
    shown, log = base.shown, base.log
    masks: dict[str, Mask] = {}
    for one in placed:
        if one.finding == "cardiomegaly":
            heart = heart_chord(thorax, enlarged_ratio(patient, one.severity))
            log = _measured(thorax.attenuation(heart), base.scatter)
            shown = shown + (log - base.log) * gain
            anatomy = thorax.anatomy(heart)
            masks[one.finding] = anatomy.heart & ~healthy.heart
    overlays = [one for one in placed if one.finding != "cardiomegaly"]
    if overlays:
        # What filling the air with tissue would add, pixel by pixel: little over the heart, nothing beside the lungs.
        airless = _measured(thorax.attenuation(np.full_like(log, np.inf)), base.scatter)
        contrast = np.clip(airless - log, 0, None) * gain
    for one in overlays:
        change, mask = added_attenuation(one, healthy, contrast=contrast)
        shown = shown + change
        contrast = contrast - change  # air that is filled cannot be filled again
        masks[one.finding] = masks[one.finding] | mask if one.finding in masks else mask
    grain = np.random.default_rng(noise_seed).standard_normal((size, size), np.float32)
    pixels = np.rint(to_grey(shown + base.noise * grain)).astype(np.uint8)
    return Film(pixels=pixels, anatomy=anatomy, finding_masks=masks)


def _check(placed: tuple[Placed, ...], size: int) -> None:
    if not 64 <= size <= 2048:
        raise BadInput("phantom: size", size, "64 to 2048 pixels")
    for one in placed:
        if one.finding not in SHOWN:
            raise BadInput("phantom: finding", one.finding, "one of " + ", ".join(sorted(SHOWN)))
    if sum(one.finding == "cardiomegaly" for one in placed) > 1:
        raise BadInput("phantom: finding", "cardiomegaly twice", "one heart")


def _detector(image: Map) -> Map:
    return ndimage.gaussian_filter(image, _DETECTOR_PX, truncate=3.0)


def _measured(primary: Map, scatter: Map) -> Map:
    """Log attenuation the detector measures: primary beam and scatter together, blurred."""
    total = np.exp(-primary) * np.float32(1 - _SCATTER_SHARE) + scatter
    return -np.log(np.maximum(_detector(total), np.float32(1e-6)))


def _wide(image: Map, sigma: float) -> Map:
    """Gaussian blur by many pixels, computed on a coarser grid."""
    coarse = max(1, int(sigma // 3))
    if coarse == 1:
        return ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    size = image.shape[0]
    n = -(-size // coarse)
    padded = np.pad(image, (0, n * coarse - size), mode="edge")
    small = padded.reshape(n, coarse, n, coarse).mean((1, 3))
    small = ndimage.gaussian_filter(small, sigma / coarse, mode="nearest", truncate=3.0)
    at = (np.arange(size) + 0.5) / coarse - 0.5
    low = np.clip(np.floor(at).astype(int), 0, n - 2)
    w = np.clip(at - low, 0, 1).astype(np.float32)
    rows = small[low] * (1 - w[:, None]) + small[low + 1] * w[:, None]
    return rows[:, low] * (1 - w) + rows[:, low + 1] * w


@lru_cache(maxsize=4)
def _base(patient: Patient, size: int) -> _Base:
    thorax = build(patient, size)
    heart = heart_chord(thorax, patient.heart_ratio)
    primary = thorax.attenuation(heart)
    signal = np.exp(-primary)
    px = size / patient.field
    # Scatter follows the signal of the rays around; free air beside the body sends none.
    tissue = np.where(thorax.body > 0.5, signal, np.float32(0.0))
    scatter = _wide(tissue, _SCATTER_CM * px) * np.float32(_SCATTER_SHARE)
    log = _measured(primary, scatter)

    lungs, hearts = (thorax.left_lung | thorax.right_lung), heart > 0
    open_lung = np.median(log[lungs & ~hearts])
    below = (thorax.y > 0.9 * patient.height) & (thorax.lung <= 0)
    dense = np.median(log[below & (np.abs(thorax.x) < 0.7 * patient.half_width)])
    gain = patient.contrast * (_SOFT_AT - _LUNG_AT) / max(float(dense - open_lung), 0.3)
    x = (log - open_lung) * np.float32(gain) + np.float32(_LUNG_AT + patient.brightness)

    x = np.maximum(x, np.float32(-4.2))
    inside = x - _wide(x, _LOCAL_CM * px)
    edges = x - ndimage.gaussian_filter(x, _EDGE_PX * max(1.0, size / 384), truncate=3.0)
    shown = x + np.float32(_LOCAL_GAIN) * np.clip(inside, -1.2, 1.2) + np.float32(_EDGE_GAIN) * edges
    # Quantum noise: its size in log attenuation grows as 1 / sqrt(signal).
    noise = np.float32(_NOISE * np.sqrt(size / 256)) * np.exp(np.clip(0.5 * (log - open_lung), -1.0, 1.5))
    return _Base(thorax, heart, scatter, log, shown.astype(np.float32), noise.astype(np.float32), float(gain))


# --- truth ------------------------------------------------------------------------------------------------------------

def truth_of(patient: Patient, placed: tuple[Placed, ...], *, size: int, noise_seed: int) -> str:
    """JSON that holds all `render_truth` needs."""
    _check(placed, size)
    return json.dumps({"model": _TRUTH, "patient": asdict(patient), "findings": [asdict(p) for p in placed],
                       "size": size, "noise_seed": noise_seed}, sort_keys=True, separators=(",", ":"))


def render_truth(truth: str) -> Film:
    """Render a film from its truth.

    Raises:
        BadInput: the truth is not one of this phantom's.
    """
    patient, placed, size, noise_seed = _read(truth)
    return render(patient, placed, size=size, noise_seed=noise_seed)


def counterfactual(truth: str, operations: list[dict[str, Any]]) -> str:
    """Truth of the same patient, position and noise after edits.

    An operation is {kind: insert | delete, finding, side, severity}. Inserting a finding that is there
    already replaces it. Deleting clears the finding on both sides, whatever its `side` says: a target
    vector that states it absent allows no rest. Place and shape of an inserted finding follow from the
    patient, the finding and the side.

    Raises:
        BadInput: malformed truth or operation, or a deletion of what is not there.
    """
    patient, placed, size, noise_seed = _read(truth)
    for i, op in enumerate(operations):
        kind, finding = op.get("kind"), str(op.get("finding"))
        if finding not in SHOWN:
            raise BadInput(f"operation {i}: finding", finding, "one of " + ", ".join(sorted(SHOWN)))
        rest = tuple(p for p in placed if p.finding != finding)
        if kind == "delete":
            if len(rest) == len(placed):
                raise BadInput(f"operation {i}: delete", finding, "a finding this film has")
            placed = rest
        elif kind == "insert":
            try:
                side, severity = str(op["side"]), float(op["severity"])
            except (KeyError, TypeError, ValueError) as e:
                raise BadInput(f"operation {i}", op, "side and severity beside kind and finding") from e
            placed = (*rest, Placed(finding, side, severity, seed_from("insert", patient.seed, finding, side)))
        else:
            raise BadInput(f"operation {i}: kind", kind, "insert or delete")
    return truth_of(patient, placed, size=size, noise_seed=noise_seed)


def _read(truth: str) -> tuple[Patient, tuple[Placed, ...], int, int]:
    try:
        raw = json.loads(truth)
        if raw["model"] != _TRUTH:
            raise BadInput("truth: model", raw["model"], _TRUTH)
        placed = tuple(Placed(str(p["finding"]), str(p["side"]), float(p["severity"]), int(p["seed"]))
                       for p in raw["findings"])
        size, noise_seed, patient = int(raw["size"]), int(raw["noise_seed"]), raw["patient"]
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput("truth", str(truth)[:60], f"the JSON of a simulated film ({type(e).__name__}: {e})") from e
    return patient_from(patient), placed, size, noise_seed
