"""What lies in the way of each ray on one film while findings are laid into it.

A scene starts as the patient without disease and is changed by one model after another. Models give it new maps
and never write into old ones: the patient's own are shared and read-only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cars_core.anatomy.masks import Anatomy, Mask
from cars_core.phantom.body.thorax import AIR_SHARE, MU_BONE, MU_SOFT, Map, Thorax
from cars_core.phantom.findings.frame import Lung, lung_frame


@dataclass
class Scene:
    """Maps float32 [H, W]; lengths in cm along the ray unless said otherwise.

    heart, mediastinum: solid depth that takes the lung's place. lung: depth of the chest cavity on either side.
    body: soft tissue as if lungs and airways were solid. airways: air in trachea and main bronchi. spare: vessels,
    airway walls and grain inside the lungs. bone. filled: share 0..1 of the lung's air that tissue or fluid has
    replaced. free: share 0..1 of the cavity's depth that is bare air (pleural air, bullae), without lung tissue or
    vessels. added: soft tissue on top of all that. metal: log attenuation of devices (no unit).
    """

    thorax: Thorax
    heart: Map
    mediastinum: Map
    lung: Map
    body: Map
    airways: Map
    spare: Map
    bone: Map
    filled: Map
    free: Map
    added: Map
    metal: Map
    left_lung: Mask
    right_lung: Mask
    extents: dict[str, Mask] = field(default_factory=dict)  # of the findings laid in so far, bool [H, W]
    _frames: dict[str, Lung] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, thorax: Thorax, heart: Map) -> Scene:
        """The patient without disease, with a heart of that chord (see `thorax.heart_chord`)."""
        zero = np.zeros_like(thorax.body)
        zero.setflags(write=False)
        return cls(thorax=thorax, heart=heart, mediastinum=thorax.mediastinum, lung=thorax.lung, body=thorax.body,
                   airways=thorax.airways, spare=thorax.spare, bone=thorax.bone, filled=zero, free=zero, added=zero,
                   metal=zero, left_lung=thorax.left_lung, right_lung=thorax.right_lung)

    def attenuation(self) -> Map:
        """Log attenuation of the primary beam (Beer-Lambert), float32 [H, W]."""
        cavity = np.clip(self.lung - np.maximum(self.mediastinum, self.heart), 0, None)
        aerated = cavity * (1 - self.filled)
        share = aerated / np.maximum(self.lung, np.float32(1e-3)) * (1 - self.free)
        air = np.float32(AIR_SHARE) + np.float32(1 - AIR_SHARE) * self.free
        soft = np.clip(self.body - self.airways, 0, None) - air * aerated + self.spare * share + self.added
        out: Map = np.float32(MU_SOFT) * np.clip(soft, 0, None) + np.float32(MU_BONE) * self.bone + self.metal
        return out

    def anatomy(self) -> Anatomy:
        """Lung fields (with pleural air and what lies behind the heart; opacities do not show) and the heart."""
        return Anatomy(left_lung=self.left_lung, right_lung=self.right_lung, heart=self.heart > 0)

    def frame(self, side: str) -> Lung:
        """The frame of the left or right lung as it now stands."""
        mask = self.left_lung if side == "left" else self.right_lung
        known = self._frames.get(side)
        if known is None or known.mask is not mask:
            known = self._frames[side] = lung_frame(self.anatomy(), side)
        return known
