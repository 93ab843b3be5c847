"""The chest as thickness maps along the ray: what each tissue puts in the way, cm, float32 [H, W].

x grows to the picture's right (the patient's left) from the midline, y downwards from the lung apices, cm.
Solids of smooth outline use their chord (an ellipse's falls off as a square root, which gives the sharp
borders of the heart and the domes); bones and vessels are drawn by `tubes`, soft tissue outside the chest by `soft`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from cars_core.anatomy.masks import Mask
from cars_core.digest import seed_from
from cars_core.phantom.body import bones, soft, tubes, vessels
from cars_core.phantom.body.grid import ACROSS, DOWN, Grid
from cars_core.phantom.body.patient import Patient, chest_profile

Map = NDArray[np.float32]
Points = NDArray[np.float64]

#: Linear attenuation near 70 keV effective, 1/cm (NIST XCOM: soft tissue 0.19-0.20; cortical bone about 0.5,
#: here what it adds to the soft tissue it displaces), and the share of a lung that is air.
MU_SOFT, MU_BONE, AIR_SHARE = 0.195, 0.33, 0.74

#: The heart's outline on a frontal film, in units of its width right of the midline and its height downwards:
#: pulmonary trunk, left appendage, left ventricle to the apex; then back along the floor and up the right atrium.
_HEART = np.array([(0.0, -0.05), (0.17, -0.01), (0.26, 0.09), (0.34, 0.22), (0.44, 0.36), (0.56, 0.52), (0.645, 0.67),
                   (0.68, 0.81), (0.655, 0.94), (0.54, 1.03), (0.36, 1.06), (0.1, 1.04), (-0.15, 1.01), (-0.29, 0.88),
                   (-0.325, 0.69), (-0.32, 0.5), (-0.285, 0.33), (-0.22, 0.17)])
#: The same of a globular heart.
_ROUND = np.array([(0.0, -0.03), (0.18, 0.0), (0.32, 0.07), (0.45, 0.19), (0.56, 0.33), (0.64, 0.49), (0.68, 0.65),
                   (0.665, 0.81), (0.59, 0.95), (0.47, 1.04), (0.31, 1.07), (0.1, 1.05), (-0.13, 1.02), (-0.27, 0.92),
                   (-0.34, 0.75), (-0.35, 0.56), (-0.31, 0.36), (-0.22, 0.17)])


@dataclass(frozen=True)
class Thorax:
    """Thickness maps of one positioned patient, everything but the heart (see `heart_chord`).

    body (as if lungs and airways were solid), airways, lung, mediastinum, spare and bone are float32 [H, W] in cm;
    `lung` is the chest's aerated depth were there no mediastinum or heart; `spare` is soft tissue inside the
    lungs (vessels, airway walls, the descending aorta, grain).
    """

    patient: Patient
    x: Map
    y: Map
    body: Map
    airways: Map
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


@lru_cache(maxsize=2)
def build(patient: Patient, size: int) -> Thorax:
    """All maps of a patient on a square film of `size` pixels. Pure; the arrays are read-only."""
    rng = np.random.default_rng(patient.seed)
    grid = Grid(patient, size)
    canvas = tubes.Canvas(patient, size, grid.step, grid.turn)
    step = grid.step
    lung, left, right, recess = _lungs(patient, grid)
    body = soft.body(patient, grid, dome_peaks(patient))
    body -= soft.gas(patient, grid, rng, dome_peaks(patient))
    body -= np.float32(AIR_SHARE) * recess
    np.clip(body, 0, None, out=body)
    airways = np.minimum(_airways(patient, grid), body)
    lung = np.minimum(lung, np.clip(body - airways - np.float32(1.5), 0, None))
    bone = canvas.draw(bones.ribs(patient, rng, step) + bones.shoulders(patient, step))
    bone += bones.spine(patient, grid, rng)
    bones.add_round(patient, grid, bone)
    bone *= np.clip(body, 0, 1)
    spare = canvas.draw(vessels.trees(patient, rng, step))
    spare += _aorta(patient, grid)
    spare += _grain(rng, size, step) * np.float32(0.012) * lung
    maps = {"body": body, "airways": airways, "lung": lung, "mediastinum": _mediastinum(patient, grid), "spare": spare,
            "bone": bone, "x": grid.x, "y": grid.y}
    out = Thorax(patient=patient, left_lung=left, right_lung=right,
                 **{k: np.ascontiguousarray(v, np.float32) for k, v in maps.items()})
    for array in (getattr(out, k) for k in (*maps, "left_lung", "right_lung")):
        array.setflags(write=False)
    return out


def heart_chord(thorax: Thorax, ratio: float) -> Map:
    """Front-to-back thickness of a heart as wide as `ratio` of the inner chest: cm, float32 [H, W], 0 outside."""
    p, width = thorax.patient, ratio * thorax.width
    normal = p.heart_ratio * thorax.width
    rng = np.random.default_rng(seed_from("heart", p.seed))
    outline = _HEART + rng.uniform(0.0, 1.0) * (_ROUND - _HEART)
    right, left = -outline[:, 0].min(), outline[:, 0].max()
    outline[:, 0] *= np.where(outline[:, 0] < 0, p.right_share / right, (1 - p.right_share) / left)
    height = min(0.98 * normal, 0.56 * p.height) * (width / normal) ** 0.4 * rng.uniform(0.84, 1.04)
    bottom = dome_peaks(p)[1] + 0.9
    centre = np.array([0.12, 0.6])
    dense = _closed(outline, 720)
    dense[:, 0] = -p.right_share + (dense[:, 0] - dense[:, 0].min()) / np.ptp(dense[:, 0])
    arms = (dense - centre) * (width, height)
    angle, reach = np.arctan2(arms[:, 1], arms[:, 0]), np.hypot(arms[:, 0], arms[:, 1])
    order = np.argsort(angle)
    x0, y0 = centre[0] * width + 0.35 * p.rotation, bottom - height + centre[1] * height
    out = np.zeros_like(thorax.x)
    far = np.float32(reach.max())
    dx, dy = thorax.x - np.float32(x0), thorax.y - np.float32(y0)
    near = (np.abs(dx) < far) & (np.abs(dy) < far)
    dx, dy = dx[near], dy[near]
    around = np.interp(np.linspace(-np.pi, np.pi, 4097), angle[order], reach[order], period=2 * np.pi)
    at = ((np.arctan2(dy, dx) + np.float32(np.pi)) * np.float32(4096 / (2 * np.pi))).astype(np.intp)
    edge = around.astype(np.float32)[np.clip(at, 0, 4096)]
    r2 = (dx * dx + dy * dy) / (edge * edge)
    out[near] = np.float32(0.66 * p.depth) * np.sqrt(np.clip(1 - r2 * np.sqrt(np.sqrt(r2)), 0, None))
    return out


def _closed(points: Points, n: int) -> Points:
    """A smooth closed curve through points [k, 2], sampled n times."""
    ring = np.vstack([points, points[:1]])
    return CubicSpline(np.linspace(0, 1, len(ring)), ring, bc_type="periodic")(np.linspace(0, 1, n, endpoint=False))


def dome_peaks(p: Patient) -> tuple[float, float]:
    """y of the right and the left dome, cm."""
    peak = p.height - p.dome
    return peak - p.dome_step / 2, peak + p.dome_step / 2


def _lungs(p: Patient, grid: Grid) -> tuple[Map, Mask, Mask, Map]:
    """Depth of both lungs (cm), the masks of the left and the right one, and the depth of the recess that reaches
    down behind the domes."""
    depth, recess = np.zeros_like(grid.x), np.zeros_like(grid.x)
    masks = []
    profile = chest_profile(p, DOWN)
    low = 0.42 * p.height
    for side in (1, -1):
        half = p.half(side)
        border = half * profile
        apex = 0.34 * half
        upper = p.mediastinum * (0.95 if side > 0 else 0.85)
        medial = upper + (1.6 - upper) * np.clip((DOWN - low) / 5, 0, 1)
        round_top = 1 - np.sqrt(1 - np.clip(1 - DOWN / (0.22 * p.height), 0, 1) ** 2)
        medial = medial + (apex - medial) * round_top - 0.2 * side * p.rotation
        deep = p.depth * (0.30 + 0.70 * (1 - np.exp(-np.clip(DOWN, 0, None) / 6)))
        deep = np.where(DOWN > 0, deep, 0) * np.sqrt(np.clip(DOWN / 1.2, 0, 1))
        out = side * ACROSS
        peak = dome_peaks(p)[0 if side < 0 else 1]
        crest = (0.40 if side < 0 else 0.48) * half
        aside = np.clip((out - crest) / (half - crest), 0, 1)
        inward = np.clip((crest - out) / crest, 0, 1)
        dome = peak + (p.height - peak) * (0.75 * aside**1.9 + 0.25 * aside**6) + 1.6 * inward**2

        at = grid.x if side > 0 else -grid.x
        box = grid.box(0 if side > 0 else -half - 1, half + 1 if side > 0 else 0, 0, p.height + 8)
        x, y = at[box], grid.y[box]
        edge, mid = grid.down(border)[box], grid.down(medial)[box]
        floor = grid.across(dome)[box]
        r = x / edge
        full = grid.down(deep)[box] * np.sqrt(np.clip(1 - r * r, 0, None))
        # Beside the midline the lungs thin out towards the mediastinum, over the apices towards the neck.
        full *= np.sqrt(np.clip((x - np.float32(0.6)) / np.float32(3.5), 0, 1))
        over = grid.down(np.interp(DOWN, [0.16 * p.height, 0.30 * p.height], [1, 0]))[box]
        full *= 1 - over * np.clip((mid - x) / np.float32(0.7), 0, 1)
        # The dome is a vault: just above its crest the ray already leaves less and less air.
        above = np.sqrt(np.clip((floor + np.float32(0.35) - y) / np.float32(0.8), 0, 1))
        depth[box] += full * above
        behind = np.clip(1 - (y - floor) / np.float32(0.9 * p.dome + 1.5), 0, 1)
        recess[box] += np.float32(0.22) * full * behind * behind * (1 - above)
        mask = np.zeros(grid.x.shape, bool)
        mask[box] = (y > 0) & (x > mid) & (x < edge) & (y < floor)
        masks.append(_one(mask))
    return depth, masks[0], masks[1], recess


def _one(mask: Mask) -> Mask:
    """The largest piece: a costophrenic angle thinner than a pixel may hang by nothing."""
    pieces, n = ndimage.label(mask, np.ones((3, 3)))
    if n < 2:
        return mask
    largest: Mask = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return largest


def _mediastinum(p: Patient, grid: Grid) -> Map:
    """Great vessels and upper mediastinum, less the air of trachea and main bronchi: cm in the way of the lungs."""
    h = p.height / 25
    knob = (6.6 + 0.02 * (p.age - 50)) * h
    narrow = 0.78 + 0.22 * np.clip((DOWN + 1) / 6, 0, 1)
    turn = 0.35 * p.rotation
    wide = p.mediastinum * narrow * (1.16 if p.view == "AP" else 1.0)
    rng = np.random.default_rng(seed_from("mediastinum", p.seed))
    cava, trunk, ascending = (float(rng.uniform(*r)) for r in ((0.86, 1.16), (0.1, 1.2), (0.0, 0.7)))
    ascending += 0.015 * max(p.age - 45, 0)
    # Left: subclavian artery, arch, the window under it, pulmonary trunk. Right: veins, azygos, ascending aorta.
    arch = np.sqrt(np.clip(1 - ((DOWN - knob) / 1.9) ** 2, 0, 1)) ** 1.4
    window = np.exp(-((DOWN - knob - 2.7 * h) / 1.0) ** 2)
    left = (wide * np.interp(DOWN - knob, [-4, -1, 1, 4 * h], [0.98, 0.84, 0.84, 1.0]) + (0.25 + 0.8 * p.aorta) * arch
            - 0.35 * window + trunk * np.exp(-((DOWN - knob - 4.8 * h) / 2.2) ** 2)) + turn
    right = (cava * wide + 0.35 * np.exp(-((DOWN - knob - 1.8) / 0.9) ** 2)
             + ascending * np.exp(-((DOWN - knob - 3.5 * h) / 2.6) ** 2)) - turn
    deep = p.depth * (0.34 + 0.30 * np.clip((DOWN - 1.0) / 9, 0, 1))
    box = grid.box(-7, 7, -20, 52)
    out = np.zeros_like(grid.x)
    x = grid.x[box]
    r = np.where(x > 0, x / grid.down(left)[box], -x / grid.down(np.maximum(right, 0.5))[box])
    out[box] = grid.down(deep)[box] * np.sqrt(np.clip(1 - r * r, 0, None))
    return out


def _aorta(p: Patient, grid: Grid) -> Map:
    """The descending aorta beside the spine, as the aerated lung around it shows it: cm."""
    h = p.height / 25
    centre = np.interp(DOWN, [6 * h, 11 * h, 22 * h], [1.5, 1.15 + 0.25 * p.aorta, 0.3]) + 0.3 * p.rotation
    radius = 1.3 + 0.006 * (p.age - 50)
    box = grid.box(-2, 5, 6 * h, 30 * h)
    out = np.zeros_like(grid.x)
    u = (grid.x[box] - grid.down(centre)[box]) / np.float32(radius)
    rise = np.clip((DOWN - 6 * h) / 2, 0, 1)
    out[box] = np.float32(2 * radius) * grid.down(rise)[box] * np.sqrt(np.clip(1 - u * u, 0, None))
    return out


def _airways(p: Patient, grid: Grid) -> Map:
    """Air in trachea and main bronchi: cm."""
    carina = 8.4 * p.height / 25
    bend = -0.35 - 0.15 * (p.aorta - 1) + 0.3 * p.rotation
    out = np.zeros_like(grid.x)
    parts = [(grid.capsule((0.1, -10), (bend, carina), 0.8, 0.85), 1.0),
             (grid.capsule((bend, carina), (-3.4, carina + 3.4), 0.72, 0.55), 0.65),
             (grid.capsule((bend, carina), (3.8, carina + 4.0), 0.62, 0.45), 0.65)]
    for (box, chord), share in parts:
        out[box] = np.maximum(out[box], np.float32(0.95 * share) * chord)
    return out


def _grain(rng: np.random.Generator, size: int, step: float) -> Map:
    """Fine structure below what is drawn, of unit variance: power falls as 1/f^2.2 from 0.7 to 3.4 line pairs a cm."""
    seed = int(rng.integers(2**31))
    white = np.random.default_rng(seed_from("grain", seed)).standard_normal((size, size), np.float32)
    fy = scipy.fft.fftfreq(size, step).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(size, step).astype(np.float32)[None]
    f2 = fx * fx + fy * fy
    gain = (np.float32(0.7**2) + f2) ** np.float32(-0.55) * np.exp(-f2 / np.float32(3.4**2))
    gain[0, 0] = 0
    out = scipy.fft.irfft2(scipy.fft.rfft2(white) * gain, s=(size, size))
    return (out / out.std()).astype(np.float32)
