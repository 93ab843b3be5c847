"""The chest as thickness maps along the ray: what each tissue puts in the way, cm, float32 [H, W].

x grows to the picture's right (the patient's left) from the midline, y downwards from the lung apices, cm.
Solids of smooth outline use their chord (an ellipse's falls off as a square root, which gives the sharp
borders of the heart and the domes); bones and vessels are drawn by `tubes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.digest import seed_from
from cars_core.phantom import tubes
from cars_core.phantom.patient import Patient, chest_profile

Map = NDArray[np.float32]
Points = NDArray[np.float64]

#: Linear attenuation near 70 keV effective, 1/cm (NIST XCOM: soft tissue 0.19-0.20; cortical bone about 0.5,
#: here what it adds to the soft tissue it displaces), and the share of a lung that is air.
MU_SOFT, MU_BONE, AIR_SHARE = 0.195, 0.33, 0.74

#: The heart's outline on a frontal film, in units of its width right of the midline and its height downwards.
_HEART = np.array([(0.0, -0.04), (0.15, 0.0), (0.30, 0.18), (0.47, 0.4), (0.61, 0.66), (0.68, 0.86), (0.6, 1.0),
                   (0.36, 1.04), (0.1, 1.02), (-0.15, 0.98), (-0.28, 0.84), (-0.32, 0.6), (-0.29, 0.36), (-0.2, 0.14)])


@dataclass(frozen=True)
class Thorax:
    """Thickness maps of one positioned patient, everything but the heart (see `heart_chord`).

    body, lung, mediastinum, spare and bone are float32 [H, W] in cm; `lung` is the chest's aerated depth were
    there no mediastinum or heart; `spare` is soft tissue inside the lungs (vessels, airway walls, grain).
    """

    patient: Patient
    x: Map
    y: Map
    body: Map
    lung: Map
    mediastinum: Map
    spare: Map
    bone: Map
    left_lung: Mask
    right_lung: Mask

    @property
    def width(self) -> float:
        """Inner thoracic width as the lung masks have it, cm."""
        columns = np.flatnonzero((self.left_lung | self.right_lung).any(axis=0))
        return float(columns[-1] - columns[0] + 1) * self.patient.field / self.x.shape[1]

    def attenuation(self, heart: Map) -> Map:
        """Log attenuation of the primary beam (Beer-Lambert), with a heart of that chord (cm)."""
        solid = np.maximum(self.mediastinum, heart)
        aerated = np.clip(self.lung - solid, 0, None)
        share = aerated / np.maximum(self.lung, np.float32(1e-3))
        soft = self.body - np.float32(AIR_SHARE) * aerated + self.spare * share
        return np.float32(MU_SOFT) * np.clip(soft, 0, None) + np.float32(MU_BONE) * self.bone

    def anatomy(self, heart: Map) -> Anatomy:
        """Lung masks with the silhouette of that heart."""
        return Anatomy(left_lung=self.left_lung, right_lung=self.right_lung, heart=heart > 0)


@lru_cache(maxsize=4)
def build(patient: Patient, size: int) -> Thorax:
    """All maps of a patient on a square film of `size` pixels. Pure; the arrays are read-only."""
    rng = np.random.default_rng(patient.seed)
    step = patient.field / size
    at = ((np.arange(size) + 0.5) * step).astype(np.float32)
    px, py = np.meshgrid(at - patient.field / 2 - patient.shift_x, at - patient.shift_y)
    c, s = float(np.cos(np.radians(patient.tilt))), float(np.sin(np.radians(patient.tilt)))
    x, y = (c * px + s * (py - 14)).astype(np.float32), (c * (py - 14) - s * px + 14).astype(np.float32)
    canvas = tubes.Canvas(patient, size, step, (c, s))

    profile = chest_profile(patient, y).astype(np.float32)
    lung, left, right = _lungs(patient, x, y, profile)
    body = _body(patient, x, y, profile)
    body = np.clip(body - _gas(patient, x, y, rng) - _airways(patient, x, y), 0, None)
    lung = np.minimum(lung, np.clip(body - 1.5, 0, None))
    bone = canvas.draw(tubes.ribs(patient, rng, step) + tubes.shoulders(patient, step))
    bone += _spine(patient, x, y, rng) + _humeral_heads(patient, x, y)
    bone *= np.clip(body, 0, 1)
    if patient.marker:
        bone += canvas.draw(tubes.letter(patient))
    # A third is added for the bronchi and the branches too fine to follow.
    spare = canvas.draw(tubes.vessel_trees(patient, rng, step)) * np.float32(1.35) + _hila(patient, x, y)
    spare += _grain(rng, size, step) * np.float32(0.028) * lung
    maps = {"body": body, "lung": lung, "mediastinum": _mediastinum(patient, x, y), "spare": spare, "bone": bone,
            "x": x, "y": y}
    out = Thorax(patient=patient, left_lung=left, right_lung=right,
                 **{k: np.ascontiguousarray(v, np.float32) for k, v in maps.items()})
    for array in (getattr(out, k) for k in (*maps, "left_lung", "right_lung")):
        array.setflags(write=False)
    return out


def heart_chord(thorax: Thorax, ratio: float) -> Map:
    """Front-to-back thickness of a heart as wide as `ratio` of the inner chest: cm, float32 [H, W], 0 outside."""
    p, width = thorax.patient, ratio * thorax.width
    normal = p.heart_ratio * thorax.width
    outline = _HEART.copy()
    right, left = -outline[:, 0].min(), outline[:, 0].max()
    outline[:, 0] *= np.where(outline[:, 0] < 0, p.right_share / right, (1 - p.right_share) / left)
    height = 0.98 * normal * (width / normal) ** 0.4
    bottom = _dome_peaks(p)[1] + 0.9
    centre = np.array([0.12, 0.6])
    dense = _closed(outline, 720)
    dense[:, 0] = -p.right_share + (dense[:, 0] - dense[:, 0].min()) / np.ptp(dense[:, 0])
    arms = (dense - centre) * (width, height)
    angle, reach = np.arctan2(arms[:, 1], arms[:, 0]), np.hypot(arms[:, 0], arms[:, 1])
    order = np.argsort(angle)
    x0, y0 = centre[0] * width + 0.35 * p.rotation, bottom - height + centre[1] * height
    dx, dy = thorax.x - np.float32(x0), thorax.y - np.float32(y0)
    edge = np.interp(np.arctan2(dy, dx), angle[order], reach[order], period=2 * np.pi).astype(np.float32)
    r2 = (dx * dx + dy * dy) / (edge * edge)
    return (np.float32(0.66 * p.depth) * np.sqrt(np.clip(1 - r2 ** 1.3, 0, None))).astype(np.float32)


def _closed(points: Points, n: int) -> Points:
    """A smooth closed curve through points [k, 2], sampled n times."""
    ring = np.vstack([points, points[:1]])
    return CubicSpline(np.linspace(0, 1, len(ring)), ring, bc_type="periodic")(np.linspace(0, 1, n, endpoint=False))


def _dome_peaks(p: Patient) -> tuple[float, float]:
    """y of the right and the left dome, cm."""
    peak = p.height - 0.27 * p.half_width
    return peak - p.dome_step / 2, peak + p.dome_step / 2


def _lungs(p: Patient, x: Map, y: Map, profile: Map) -> tuple[Map, Mask, Mask]:
    """Depth of both lungs (cm) and the masks of the left and the right one."""
    depth = np.zeros_like(x)
    masks = []
    for side in (1, -1):
        out = side * x
        half = p.half(side)
        border = half * profile
        apex = 0.38 * half
        fall = np.clip(1 - y / 4.0, 0, 1) ** 2.2
        upper = p.mediastinum * (0.95 if side > 0 else 0.85)
        medial = np.where(y < 11, upper, upper + (1.7 - upper) * np.clip((y - 11) / 5, 0, 1))
        medial = medial + (apex - medial) * fall - 0.2 * side * p.rotation
        peak = _dome_peaks(p)[0 if side < 0 else 1]
        crest = 0.45 * half
        aside = np.clip((out - crest) / (half - crest), 0, 1.2)
        inward = np.clip((crest - out) / crest, 0, 1)
        dome = peak + (p.height - peak) * aside**2.4 + 1.3 * inward**2
        inside = (y > 0) & (out > medial) & (out < border)
        chord = np.sqrt(np.clip(1 - (out / border) ** 2, 0, None))
        deep = p.depth * (0.35 + 0.65 * (1 - np.exp(-np.clip(y, 0, None) / 6)))
        full = deep * chord * np.sqrt(np.clip((out - 0.6) / 3.5, 0, 1)) * (1 - fall * (out < medial))
        # The dome is a vault: just above its crest the ray already leaves less and less air.
        under = np.sqrt(np.clip((y - dome + 0.45) / 0.8, 0, 1))
        depth += np.where((y > 0) & (out > 0.6) & (out < border), full * (1 - under), 0).astype(np.float32)
        masks.append(inside & (y < dome))
    return depth, masks[0], masks[1]


def _capsule(x: Map, y: Map, a: tuple[float, float], b: tuple[float, float], ra: float, rb: float) -> Map:
    """Chord of a round limb from a to b, radii ra and rb: cm."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    d2 = (x - a[0] - t * dx) ** 2 + (y - a[1] - t * dy) ** 2
    return 2 * np.sqrt(np.clip((ra + (rb - ra) * t) ** 2 - d2, 0, None))


def _body(p: Patient, x: Map, y: Map, profile: Map) -> Map:
    """Front-to-back depth of all soft tissue, as if the lungs were solid: cm."""
    lateral = max(p.half(1), p.half(-1)) * profile
    edge = lateral + p.wall * (0.9 + 0.5 * np.clip(y / p.height, 0, 1.4)) + 3.0 * np.exp(-((y - 5) / 7) ** 2)
    deep = p.depth + 1.3 * p.wall
    rise = np.clip((y + 3.5) / 12, 0, 1)
    torso = deep * (0.5 + 0.5 * rise * (2 - rise)) * np.sqrt(np.clip(1 - (np.abs(x) / edge) ** 5, 0, None))
    torso *= np.sqrt(np.clip((y + 3.5) / 3, 0, 1))
    neck = 11.5 * np.sqrt(np.clip(1 - (x / (5.4 + 0.5 * p.wall)) ** 2, 0, None)) * np.clip((7 - y) / 4, 0, 1)
    total = torso**4 + neck**4
    w = p.half_width
    limb = 3.2 + 0.6 * p.wall
    for side in (1, -1):
        sx = side * x
        slope = _capsule(sx, y, (4.0, -1.4), (w + 3.8, 3.0), 4.6 + 0.4 * p.wall, limb + 2.6)
        arm = _capsule(sx, y, (w + 4.2, 3.0), (w + 4.0 + p.wall + p.arm, 34), limb + 1.6, limb + 0.2)
        total += slope**4 + arm**4
    body = total**0.25
    if p.breast:
        for side in (1, -1):
            dx = (side * x - 0.56 * w) / (1.2 * p.breast)
            dy = (y - p.height * 0.83) / p.breast
            dy = np.where(dy < 0, dy * 0.62, dy)
            body += 0.5 * p.breast * np.sqrt(np.clip(1 - dx * dx - dy * dy, 0, None)) * np.clip(1.0 + 0.5 * dy, 0.1, 1)
    return body.astype(np.float32)


def _gas(p: Patient, x: Map, y: Map, rng: np.random.Generator) -> Map:
    """Gas under the left dome (stomach, flat where it meets fluid) and in the colon: cm."""
    out = np.zeros_like(x)
    level = _dome_peaks(p)[1] + 1.3
    cx = rng.uniform(0.3, 0.5) * p.half_width
    if p.gas:
        bubble = 1 - ((x - cx) / (1.5 * p.gas)) ** 2 - ((y - level - p.gas) / p.gas) ** 2
        out += 2.4 * p.gas * np.sqrt(np.clip(bubble, 0, None)) * np.clip((level + 1.6 * p.gas - y) / 0.4, 0, 1)
    for _ in range(int(rng.integers(0, 4))):
        bx, by, r = rng.normal(0.4 * p.half_width, 3), level + rng.uniform(3, 8), rng.uniform(0.5, 1.2)
        out += 2.0 * r * np.sqrt(np.clip(1 - ((x - bx) / (1.4 * r)) ** 2 - ((y - by) / r) ** 2, 0, None))
    return out


def _mediastinum(p: Patient, x: Map, y: Map) -> Map:
    """Great vessels and upper mediastinum, less the air of trachea and main bronchi: cm in the way of the lungs."""
    knob = 7.2 + 0.02 * (p.age - 50)
    narrow = 0.72 + 0.28 * np.clip((y + 1) / 6, 0, 1)
    turn = 0.35 * p.rotation
    left = (p.mediastinum * narrow + p.aorta * np.exp(-((y - knob) / 1.5) ** 2)
            + 0.75 * np.exp(-((y - knob - 4.0) / 1.6) ** 2)) + turn
    right = p.mediastinum * narrow * 0.92 + 0.35 * np.exp(-((y - knob - 1.2) / 1.3) ** 2) - turn
    r = np.where(x > 0, x / left, -x / right)
    return (0.8 * p.depth * np.clip(1 - np.abs(r)**2, 0, None) ** 0.5).astype(np.float32)


def _airways(p: Patient, x: Map, y: Map) -> Map:
    """Air in trachea and main bronchi: cm."""
    carina = 9.0
    bend = -0.3 - 0.15 * (p.aorta - 1) + 0.3 * p.rotation
    tube = _capsule(x, y, (0.1, -9), (bend, carina), 0.85, 0.9)
    mains = _capsule(x, y, (bend, carina), (-3.2, carina + 3.4), 0.75, 0.6) + _capsule(
        x, y, (bend, carina), (3.6, carina + 4.2), 0.65, 0.5)
    return 1.2 * np.maximum(tube, 0.6 * mains)


def _spine(p: Patient, x: Map, y: Map, rng: np.random.Generator) -> Map:
    """Vertebral bodies with pedicles and spinous processes: cm of bone."""
    pitch = 2.15 + 0.012 * np.clip(y, -8, 40)
    phase = (y + 0.8 + float(rng.uniform(-0.6, 0.6))) / pitch
    within = phase - np.floor(phase) - 0.5  # -0.5..0.5 from disc to disc
    half = 1.55 + 0.016 * np.clip(y, -5, 40)
    waist = half * (0.92 + 0.35 * within**2)
    sx = x + 0.2 * p.rotation
    plate = np.clip((0.5 - np.abs(within)) / 0.09, 0, 1)
    body = 1.35 * np.sqrt(np.clip(1 - (sx / waist) ** 2, 0, None)) * (0.7 + 0.3 * plate)
    ends = 0.5 * np.exp(-((np.abs(within) - 0.4) / 0.05) ** 2) * (np.abs(sx) < waist)
    eyes: Map = np.zeros_like(x)
    for side in (1, -1):
        e = ((side * sx - 0.62 * half) / 0.38) ** 2 + ((within + 0.12) * pitch / 0.55) ** 2
        eyes += 0.9 * np.exp(-((e - 0.8) / 0.5) ** 2)
    process = 0.9 * np.exp(-((sx - 0.5 * p.rotation) / 0.28) ** 2 - ((within - 0.2) * pitch / 0.6) ** 2)
    transverse = 0.5 * np.exp(-((np.abs(sx) - 2.4) / 0.7) ** 2 - ((within + 0.15) * pitch / 0.4) ** 2)
    return (0.62 * p.bone * (body + ends + eyes + process + transverse)).astype(np.float32)


def _humeral_heads(p: Patient, x: Map, y: Map) -> Map:
    """Heads of the humeri: cm of bone."""
    w = p.half_width
    heads = [_capsule(s * x, y, (w + 4.6, 2.6), (w + 5.0, 4.2), 2.2, 1.7) for s in (1, -1)]
    return np.float32(0.42 * p.bone) * (heads[0] + heads[1])


def _hila(p: Patient, x: Map, y: Map) -> Map:
    """Soft tissue of the lung roots beyond the vessels drawn: cm."""
    out = np.zeros_like(x)
    for side, level in ((1, 11.2), (-1, 12.4)):
        d = ((side * x - 3.2) / 1.5) ** 2 + ((y - level) / 2.4) ** 2
        out += 1.5 * p.vessels * np.exp(-d)
    return out


def _grain(rng: np.random.Generator, size: int, step: float) -> Map:
    """Fine structure below what is drawn: power falling as 1/f^2.4 up to about 2.6 line pairs a cm; unit variance."""
    seed = int(rng.integers(2**31))
    white = np.random.default_rng(seed_from("grain", seed)).standard_normal((size, size), np.float32)
    fy = scipy.fft.fftfreq(size, step).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(size, step).astype(np.float32)[None]
    f = np.sqrt(fx * fx + fy * fy)
    gain = (0.35**2 + f * f) ** np.float32(-0.6) * np.exp(-((f / 2.6) ** 2))
    gain[0, 0] = 0
    out = scipy.fft.irfft2(scipy.fft.rfft2(white) * gain, s=(size, size))
    return (out / out.std()).astype(np.float32)
