"""From a scene to a film: scatter, detector, local contrast, display, findings, devices, noise.

What spreads over the whole film (scatter, local contrast, the display's window) is computed once for the
patient without disease. Findings and devices then change the beam's attenuation ray by ray and are shown on that
same display, so that each changes only the pixels within its own reach and a counterfactual film differs from its
fellow nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.digest import seed_from
from cars_core.phantom.body.grid import Grid
from cars_core.phantom.body.markings import markings
from cars_core.phantom.body.patient import Patient
from cars_core.phantom.body.thorax import Map, Thorax, build, heart_chord
from cars_core.phantom.devices import draw as device_models
from cars_core.phantom.display import to_grey
from cars_core.phantom.findings import opacities
from cars_core.phantom.findings.structure import STRUCTURAL
from cars_core.phantom.placed import FORMS, LEAST_SIZE, MOST_SIZE, Device, Placed, check_findings
from cars_core.phantom.scene import Scene
from schemas.errors import BadInput

_SCATTER_SHARE = 0.42  # of the mean detector signal behind a chest, with a grid
_SCATTER_CM = 5.0  # standard deviation of the scatter's spread
_LOCAL_CM = 2.4  # radius of local contrast
_EDGE_PX = 1.2  # radius of edge enhancement on a film of 384 px or less
_DETECTOR_PX = 0.38  # standard deviation of the detector's blur
_DETECTOR_REACH = 2  # pixels that blur reaches, see `_detector`
_TOE_BELOW, _TOE = 1.1, 1.2  # display units below the lungs where the curve turns steeper, and by how much
_NOISE = 0.014  # of the display unit behind aerated lung

#: Shapes first, then what lies in them: fluid must find the pleural air it levels with. What fills much of a lung comes
#: before what could be hidden in it.
_ORDER = ("emphysema", "cardiomegaly", "hernia", "atelectasis/lobar", "pneumothorax", "fracture", "effusion",
          "consolidation", "edema", "infiltration")

#: Grey levels of 255 that a finding must change within its extent to be seen.
HIDDEN = 3.0


#: Findings with a model that changes the shape of what is in the chest.
STRUCTURAL_FINDINGS = frozenset(name.split("/")[0] for name in STRUCTURAL)


@dataclass(frozen=True)
class Film:
    """pixels uint8 (8 bits) or uint16 (12 bits) [H, W]. anatomy: lung fields and heart of the person shown
    (opacities do not show in them). finding_masks: extent of each finding, as a reader would outline it;
    device_masks likewise; reaches: every pixel a finding may have changed. All masks bool [H, W]. contrast: how much a
    finding changes what is shown inside its extent, grey levels of 255 (95th percentile): below HIDDEN, as behind a
    large effusion, nobody could see it."""

    pixels: NDArray[Any]
    anatomy: Anatomy
    finding_masks: dict[str, Mask]
    device_masks: dict[str, Mask]
    reaches: dict[str, Mask]
    contrast: dict[str, float]


@dataclass(frozen=True)
class _Base:
    """A patient's film without disease, float32 [H, W]: the heart's chord (cm), the primary beam's attenuation, the
    scattered signal, the log attenuation measured and as shown (display unit), the noise's size there, and how many
    display units a change of log attenuation makes (0 where a border or a marker covers the patient)."""

    thorax: Thorax
    heart: Map
    primary: Map
    scatter: Map
    log: Map
    shown: Map
    noise: Map
    gain: Map


def render(patient: Patient, placed: tuple[Placed, ...], *, size: int, noise_seed: int,
           devices: tuple[Device, ...] = (), bits: int = 8) -> Film:
    """The film of a patient with findings and devices. Same arguments, same bytes (on one stack).

    Args:
        patient: the person, positioned.
        placed: findings; their order does not matter.
        size: side in pixels, 64 to 1024.
        noise_seed: of the quantum noise, which is drawn from it alone.
        bits: 8 or 12 of grey a pixel.

    Raises:
        BadInput: findings that cannot be (see `check_findings`), a size or bits out of range.
    """
    check_findings(placed)
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise BadInput("phantom: size", size, f"{LEAST_SIZE} to {MOST_SIZE} pixels")
    if bits not in (8, 12):
        raise BadInput("phantom: bits", bits, "8 or 12")
    base = _base(patient, size)
    scene = Scene.of(base.thorax, base.heart)
    laid: list[_Laid] = []
    contrast: dict[str, float] = {}
    primary, log, shown = base.primary, base.log, base.shown
    for one in sorted(placed, key=lambda one: _rank(one, patient)):
        before, outlines = primary, _outlines(scene)
        extent = _draw(scene, one)
        primary = scene.attenuation()
        reach = _around(primary != before)
        if one.finding in opacities.OPACITIES:  # its model draws over the lung's edge, where no air is to be replaced
            extent = extent & reach
        _join(scene.extents, one.finding, extent)
        moved = any(a is not b for a, b in zip(_outlines(scene), outlines, strict=True))
        laid.append(_Laid(one, reach, moved))
        was, log = log, _measured(primary, base.scatter)
        before, shown = shown, shown + _as_shown(log - was, base, patient)
        seen = np.abs(to_grey(shown[extent]) - to_grey(before[extent]))
        seen = float(np.percentile(seen, 95)) if seen.size else 0.0
        contrast[one.finding] = max(seen, contrast.get(one.finding, 0.0))
    if "cardiomegaly" in scene.extents:  # a heart that a dome let down has another shape than the one first drawn
        scene.extents["cardiomegaly"] = scene.extents["cardiomegaly"] & (scene.heart > 0)
    device_masks: dict[str, Mask] = {}
    chest = base.thorax
    if devices and any(one.moved for one in laid):  # tubes go where the windpipe, the heart and the domes went
        chest = replace(chest, left_lung=scene.left_lung, right_lung=scene.right_lung, airways=scene.airways)
    for device in devices:
        metal, mask = device_models.draw(device, chest)
        scene.metal = scene.metal + metal
        _join(device_masks, device.kind, mask)
        if chest is not base.thorax:
            elsewhere = _around(metal != device_models.draw(device, base.thorax)[0])
            laid = [replace(one, reach=one.reach | elsewhere) if one.moved else one for one in laid]
    if devices:
        shown = shown + (_measured(scene.attenuation(), base.scatter) - log) * base.gain * np.float32(1 + patient.local)
    grain = np.random.default_rng(noise_seed).standard_normal((size, size), np.float32)
    grey = to_grey(shown + base.noise * grain)
    pixels = np.rint(grey).astype(np.uint8) if bits == 8 else np.rint(grey * np.float32(4095 / 255)).astype(np.uint16)
    return Film(pixels, scene.anatomy(), scene.extents, device_masks, _joined(laid, scene), contrast)


def form_of(placed: Placed, patient: Patient) -> str:
    """The form a finding takes on this film: its own, or the one patient and position give it; "" if it has but one.

    Free fluid layers out behind the lung when the patient lies down.
    """
    forms = FORMS.get(placed.finding)
    if placed.form or not forms:
        return placed.form
    if placed.finding == "effusion":
        return "veil" if patient.supine else "meniscus"
    if placed.finding == "pleural_thickening":
        return ""  # its model chooses
    return forms[0]


def _rank(one: Placed, patient: Patient) -> tuple[int, str, str, int]:
    name = "atelectasis/lobar" if form_of(one, patient) == "lobar" and one.finding == "atelectasis" else one.finding
    first = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return first, one.finding, one.side, one.seed


def _draw(scene: Scene, placed: Placed) -> Mask:
    """Lay one finding into the scene; its extent."""
    form = form_of(placed, scene.thorax.patient)
    model = STRUCTURAL.get(f"{placed.finding}/{form}") or STRUCTURAL.get(placed.finding)
    if model is not None:
        return model(scene, placed)
    return opacities.fill(scene, placed, form)


def _join(masks: dict[str, Mask], name: str, mask: Mask) -> None:
    masks[name] = masks[name] | mask if name in masks else mask


@dataclass(frozen=True)
class _Laid:
    """A finding laid in: where it changed the beam, and whether it moved outlines or the windpipe."""

    placed: Placed
    reach: Mask
    moved: bool


def _outlines(scene: Scene) -> tuple[NDArray[Any], ...]:
    """What devices are laid by; models replace the arrays they change."""
    return scene.left_lung, scene.right_lung, scene.airways


def _joined(laid: list[_Laid], scene: Scene) -> dict[str, Mask]:
    """Every pixel that could be another without the finding, given what was laid in, in order.

    A finding also changes how a later one is shown: local contrast weighs the whole of a change, so one that it meets
    counts whole; and one that changes a lung's shape, its air or its outline decides where later ones lie in it.
    """
    out: dict[str, Mask] = {}
    for i, one in enumerate(laid):
        reach, later = one.reach, laid[i + 1 :]
        for other in later:
            if (one.reach & other.reach).any():
                reach = reach | other.reach
        if later and (one.moved or one.placed.finding in STRUCTURAL_FINDINGS):
            for side in ("left", "right") if one.moved or one.placed.side == "both" else (one.placed.side,):
                reach = reach | _around(_half(scene, side))
        _join(out, one.placed.finding, reach)
    return out


def _half(scene: Scene, side: str) -> Mask:
    """Rays through any lung on one side, as it is or was, with room for what is drawn over its edge, bool [H, W]."""
    thorax, sign = scene.thorax, 1 if side == "left" else -1
    own: Mask = ((scene.lung > 0) | (thorax.lung > 0)) & (sign * thorax.x > -1)
    return own | scene.anatomy().lung(side) | (thorax.left_lung if side == "left" else thorax.right_lung)


def _around(changed: Mask) -> Mask:
    """Pixels whose measured value depends on a changed one, through the detector's blur."""
    width = 2 * _DETECTOR_REACH + 1
    out: Mask = ndimage.maximum_filter(changed.view(np.uint8), width).view(bool)
    return out


def _as_shown(change: Map, base: _Base, patient: Patient) -> Map:
    """A change of log attenuation in display units, with the film's local contrast.

    Local contrast raises what is smaller than its radius over its surroundings and leaves large areas alone. The
    surroundings' share of a change is taken off again, but never more than the change itself: where nothing changed,
    nothing is shown to change.
    """
    wide = _wide(change, _LOCAL_CM * change.shape[0] / patient.field)
    level = np.sign(change) * np.clip(np.sign(change) * wide, 0, np.abs(change))
    return (change + np.float32(patient.local) * (change - level)) * base.gain


def _detector(image: Map) -> Map:
    return ndimage.gaussian_filter(image, _DETECTOR_PX, radius=_DETECTOR_REACH)


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


@lru_cache(maxsize=2)
def _base(patient: Patient, size: int) -> _Base:
    thorax = build(patient, size)
    heart = heart_chord(thorax, patient.heart_ratio)
    primary = Scene.of(thorax, heart).attenuation()
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
    gain = (patient.soft_at - patient.lungs_at) / max(float(dense - open_lung), 0.3)
    x = (log - open_lung) * np.float32(gain) + np.float32(patient.lungs_at)
    x += _uneven(patient, size)
    # Well below the lungs lies the toe of the curve: bare air is shown black.
    toe = np.float32(patient.lungs_at - _TOE_BELOW) - x
    x -= np.float32(_TOE) * np.maximum(toe, 0)
    x = np.maximum(x, np.float32(-4.8))
    inside = x - _wide(x, _LOCAL_CM * px)
    edges = x - ndimage.gaussian_filter(x, _EDGE_PX * max(1.0, size / 384), truncate=3.0)
    shown = x + np.float32(patient.local) * np.clip(inside, -1.2, 1.2) + np.float32(patient.sharp) * edges
    # Quantum noise: its size in log attenuation grows as 1 / sqrt(signal).
    noise = np.exp(np.clip(0.5 * (log - open_lung), -1.0, 1.5))
    noise *= np.float32(_NOISE * patient.grain * np.sqrt(size / 256))
    cover, value = markings(patient, Grid(patient, size))
    bare = 1 - cover
    shown = shown * bare + value * cover
    gains = np.float32(gain) * np.where(toe > 0, np.float32(1 + _TOE), np.float32(1)) * bare
    base = _Base(thorax, heart, primary, scatter, log, shown, noise * bare, gains)
    for array in (heart, primary, scatter, log, shown, base.noise, gains):
        array.setflags(write=False)  # kept for the patient's next film
    return base


def _uneven(patient: Patient, size: int) -> Map:
    """How unevenly the beam and the grid light the film: a slope across it, display units."""
    rng = np.random.default_rng(seed_from("uneven", patient.look))
    at = np.linspace(-1, 1, size, dtype=np.float32)
    across, down = np.float32(0.10) * rng.standard_normal(2, np.float32)
    return across * at[None] + down * at[:, None]
