"""Consolidation of a whole lobe, as a share of air replaced (see `opacities`).

On a frontal film only the minor fissure (between the right upper and middle lobes, about level with the hilum) is
seen edge-on and gives a sharp border. The lobes before it hide the border of the heart they touch; the lower lobes
lie behind, hide the dome and leave the heart's border.
"""

from __future__ import annotations

import numpy as np

from cars_core.phantom.display import Float
from cars_core.phantom.findings.frame import Lung, clouds, smooth_step, strokes
from cars_core.phantom.findings.pleura import full_reach

#: The lobes (and the lingula, the left upper lobe's part beside the heart) of each lung.
LOBES = {"left": ("upper", "lingula", "lower"), "right": ("upper", "middle", "lower")}

_HILUM = (0.03, 0.42)
_CENTRE = {"upper": (0.52, 0.22), "middle": (0.48, 0.68), "lingula": (0.90, 0.66), "lower": (0.52, 0.74)}


def lobe_of(side: str, seed: int) -> str:
    """The lobe a lobar consolidation of that seed lies in, one of LOBES[side]."""
    return _choose(side, np.random.default_rng([seed, side == "left"]))


def fissure(u: Float) -> Float:
    """Height v of the minor fissure along u: nearly horizontal, arched a little, lower towards the wall."""
    return (0.485 + 0.035 * u - 0.05 * u * (1 - u)).astype(np.float32)


def lobar(lung: Lung, severity: float, rng: np.random.Generator) -> Float:
    """A lobe filled, dense, with air bronchograms branching from the hilum; severity fills more of it."""
    lobe = _choose(lung.side, rng)
    patches = 0.6 * clouds(lung, rng, 6) + 0.4 * clouds(lung, rng, 13)
    body = _SHAPES[lobe](lung, severity, patches) * full_reach(lung)
    grain = 0.5 * patches + 0.5 * clouds(lung, rng, 26)
    body = body * (1 + (0.30 - 0.12 * severity) * grain) * (0.54 + 0.36 * severity)
    return np.clip(body * (1 - 0.36 * _bronchi(lung, _CENTRE[lobe], rng)), 0, 0.95)


def _choose(side: str, rng: np.random.Generator) -> str:
    return LOBES[side][int(rng.integers(3))]


def _upper(lung: Lung, severity: float, patches: Float) -> Float:
    """From the apex to the minor fissure; on the left, without one, fading out beside the heart."""
    top = smooth_step(lung.v[:, :1] - 0.22 * (1 - severity) ** 2 + 0.06 * patches, 0.20)
    if lung.side == "right":
        return top * _above(lung, fissure(lung.u[:1]) + 0.005 * patches)
    return top * smooth_step(0.52 - lung.v[:, :1] - 0.10 * lung.u[:1] + 0.08 * patches, 0.26) * (1 - 0.3 * lung.u[:1])


def _middle(lung: Lung, severity: float, patches: Float) -> Float:
    """Under the minor fissure, against the right border of the heart; the costophrenic angle stays clear."""
    under = 1 - _above(lung, fissure(lung.u[:1]) + 0.005 * patches)
    outer = 0.72 + 0.16 * severity - 1.0 * np.clip(lung.v[:, :1] - 0.5, 0, 1) + 0.16 * patches
    return under * smooth_step(outer - lung.u[:1], 0.40) * (1 - 0.35 * smooth_step(lung.v[:, :1] - 0.74, 0.14))


def _lingula(lung: Lung, severity: float, patches: Float) -> Float:
    """Against the left border of the heart, no fissure above."""
    outer = 0.84 + 0.10 * severity - 0.30 * np.clip(lung.v[:, :1] - 0.5, 0, 1) + 0.14 * patches
    body = smooth_step(lung.v[:, :1] - 0.50 + 0.08 * patches, 0.22) * smooth_step(outer - lung.u[:1], 0.30)
    return body * (1 - 0.6 * smooth_step(lung.v[:, :1] - 0.82, 0.12))


def _lower(lung: Lung, severity: float, patches: Float) -> Float:
    """Behind the heart and against the dome, fading upwards; the lung before it keeps the heart's border."""
    up = smooth_step(lung.v[:, :1] - (0.64 - 0.10 * severity) + 0.08 * patches, 0.28)
    dome = 0.50 + 0.65 * smooth_step(lung.v[:, :1] - 0.79, 0.12)
    return up * dome * (1 - 0.55 * smooth_step(lung.u[:1] - 0.86, 0.16))


def _above(lung: Lung, border: Float) -> Float:
    """1 above a border v(u), 0 below, sharp within a millimetre or a pixel and a half."""
    return smooth_step(border - lung.v[:, :1], max(0.1 * lung.cm, 1.5) / lung.height)


_SHAPES = {"upper": _upper, "middle": _middle, "lingula": _lingula, "lower": _lower}


def _bronchi(lung: Lung, to: tuple[float, float], rng: np.random.Generator) -> Float:
    """Air-filled bronchi from the hilum into the lobe, 0..1: bent, branching, 5 mm wide down to 2 mm, the finer the
    fainter, some of them filled."""
    dx, dy = (to[0] - _HILUM[0]) * lung.aspect, to[1] - _HILUM[1]
    length = 0.40 * float(np.hypot(dx, dy))
    tips = [(_HILUM, float(np.arctan2(dy, dx)))]
    out = np.zeros(lung.mask.shape, np.float32)
    for generation in range(4):
        grown, lines = [], []
        for at, aim in tips:
            for way in (1, -1) if generation else (0,):
                reached, bend = length * rng.uniform(0.7, 1.3), rng.uniform(-0.3, 0.3)
                turn = aim + way * rng.uniform(0.2, 0.7)
                if generation and rng.random() < 0.12:  # filled, and what lies beyond it too
                    continue
                middle = _onwards(lung, at, turn - bend, reached / 2)
                end = _onwards(lung, middle, turn + bend, reached / 2)
                lines += [(at, middle, 0.25 * 0.75**generation), (middle, end, 0.22 * 0.75**generation)]
                grown.append((end, turn + bend))
        np.maximum(out, strokes(lung, lines) * np.float32(0.82**generation), out=out)
        tips, length = grown, 0.78 * length
    return out


def _onwards(lung: Lung, at: tuple[float, float], aim: float, by: float) -> tuple[float, float]:
    """The point `by` lung heights from another in a direction (0 towards the wall, a quarter turn down)."""
    return at[0] + by * float(np.cos(aim)) / lung.aspect, at[1] + by * float(np.sin(aim))
