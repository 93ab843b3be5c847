"""Findings that change the shape of the chest's contents, laid into a scene."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cars_core.anatomy.masks import Mask
from cars_core.phantom.body.patient import enlarged_ratio
from cars_core.phantom.body.thorax import heart_chord
from cars_core.phantom.findings import pneumothorax
from cars_core.phantom.findings.collapse import lobar
from cars_core.phantom.findings.emphysema import emphysema, hanging
from cars_core.phantom.findings.fracture import fracture
from cars_core.phantom.findings.hernia import hernia
from cars_core.phantom.findings.warp import pixels_per_cm
from cars_core.phantom.placed import Placed
from cars_core.phantom.scene import Scene

Model = Callable[[Scene, Placed], Mask]


def _cardiomegaly(scene: Scene, placed: Placed) -> Mask:
    """A wider heart, not a denser one; its extent is where it takes the lung's place."""
    before = scene.heart > 0
    wide = heart_chord(scene.thorax, enlarged_ratio(scene.thorax.patient, placed.severity))
    # Where overinflated lungs have lowered the domes, the wider heart reaches down to them like the one it replaces.
    rows = [np.flatnonzero(heart.any(axis=1))[-1] for heart in (scene.heart, wide > 0)]
    if rows[0] > rows[1]:
        wide = hanging(scene, wide, narrower=0.0, longer=float(rows[0] - rows[1]) / pixels_per_cm(scene))
    scene.heart = wide
    return (scene.heart > scene.mediastinum) & ~before & (scene.lung > scene.mediastinum)


#: finding -> what draws it into a scene and returns its extent, bool [H, W].
STRUCTURAL: dict[str, Model] = {
    "cardiomegaly": _cardiomegaly,
    "emphysema": emphysema,
    "hernia": hernia,
    "atelectasis/lobar": lobar,
    "fracture": fracture,
    "pneumothorax/simple": pneumothorax.simple,
    "pneumothorax/tension": pneumothorax.tension,
}
