"""The page of signs: one simulated patient with each finding, beside the clean film and the difference.

    python docs/signs.py docs [--size 512] [--patient 47]

Writes signs.md and signs/*.jpg into the folder given. A row of pictures is the clean film, the film with the
finding, and their difference (orange brighter, blue darker; the thin line bounds the finding's reach, outside which
every pixel is the clean film's, which is checked here).
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from cars_core.phantom.body.patient import Patient, draw_patient
from cars_core.phantom.film import Film, render
from cars_core.phantom.placed import Placed

NOISE = 5


@dataclass(frozen=True)
class Sign:
    """One row: its name, what a radiologist looks for, what is placed, and whether the patient lies down."""

    name: str
    look_for: str
    placed: tuple[Placed, ...]
    supine: bool = False


def _one(finding: str, side: str, severity: float, seed: int = 3, form: str = "") -> Placed:
    return Placed(finding, side, severity, seed, form)


SINGLE = (
    Sign("Pleural effusion", "The angle is blunted, the dome lost under fluid that climbs the chest wall: a meniscus.",
         (_one("effusion", "left", 0.45),)),
    Sign("Pneumothorax", "A thin pleural line, convex to the wall, with no vessels beyond it.",
         (_one("pneumothorax", "right", 0.45, form="simple"),)),
    Sign("Consolidation", "Dense air spaces up to a lobe's border, with air-filled bronchi left dark in them.",
         (_one("consolidation", "right", 0.7, seed=11, form="lobar"),)),
    Sign("Infiltration", "Ill-defined patchy haze; vessels can still be followed through it.",
         (_one("infiltration", "left", 0.7),)),
    Sign("Edema", "Haze round both hila, wide upper vessels, short thin lines at the lateral bases (Kerley B).",
         (_one("edema", "both", 0.7),)),
    Sign("Atelectasis, lobar", "A dense collapsed lobe; dome and mediastinum are drawn to its side.",
         (_one("atelectasis", "left", 0.8, form="lobar"),)),
    Sign("Cardiomegaly", "The heart is wider than half the chest, and no denser than before.",
         (_one("cardiomegaly", "both", 0.6),)),
    Sign("Nodule", "A round density under 3 cm.", (_one("nodule", "right", 0.7, seed=8),)),
    Sign("Mass", "A round density over 3 cm.", (_one("mass", "left", 0.5),)),
    Sign("Emphysema", "Large dark lungs with few vessels, low flat domes, a narrow heart.",
         (_one("emphysema", "both", 0.8),)),
    Sign("Fibrosis", "A net of fine lines below the pleura, most at the bases.", (_one("fibrosis", "both", 0.7),)),
    Sign("Pleural thickening", "A band of soft tissue along the chest wall.",
         (_one("pleural_thickening", "right", 0.8, form="wall"),)),
    Sign("Hiatal hernia", "A round density behind the heart with air on a level.", (_one("hernia", "both", 0.6),)),
    Sign("Rib fracture", "A break with a step and a dark gap, here in three neighbouring ribs.",
         (_one("fracture", "left", 0.8),)),
)

COMBINED = (
    Sign("Hydropneumothorax", "Pleural air above fluid: the level is straight and has no meniscus.",
         (_one("pneumothorax", "left", 0.5, form="simple"), _one("effusion", "left", 0.35))),
    Sign("Tension pneumothorax with rib fracture", "Heart and trachea are pushed away; the dome is pressed down.",
         (_one("pneumothorax", "left", 0.85, form="tension"), _one("fracture", "left", 0.8))),
    Sign("Heart failure: cardiomegaly, edema, effusions", "A wide heart, haze round the hila, fluid on both sides.",
         (_one("cardiomegaly", "both", 0.6), _one("edema", "both", 0.6), _one("effusion", "both", 0.25))),
    Sign("Effusion and atelectasis, supine", "Fluid lies behind the lung: a veil that is densest below, no meniscus.",
         (_one("effusion", "right", 0.6), _one("atelectasis", "left", 0.6, form="plate")), supine=True),
    Sign("Mass and effusion", "The mass stays to be seen above the fluid.",
         (_one("mass", "right", 0.6), _one("effusion", "right", 0.3))),
    Sign("Emphysema and nodule", "A nodule in a large dark lung.",
         (_one("emphysema", "both", 0.7), _one("nodule", "left", 0.8))),
)


def difference(clean: Film, sick: Film, reach: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3]: signed difference over a dark copy of the film, the reach's border in grey."""
    change = sick.pixels.astype(np.float32) - clean.pixels
    level = np.clip(np.abs(change) / 70, 0, 1)[..., None]
    hue = np.where(change[..., None] > 0, (255.0, 150.0, 40.0), (60.0, 150.0, 255.0))
    out = 0.25 * clean.pixels[..., None] * (1 - level) + hue * level
    out[reach ^ ndimage.binary_erosion(reach)] = 150
    return np.rint(out).astype(np.uint8)


def row(sign: Sign, patient: Patient, size: int) -> Image.Image:
    """Clean film, film, difference.

    Raises:
        AssertionError: a pixel differs outside the reach.
    """
    if sign.supine:
        patient = replace(patient, view="AP", supine=True)
    clean = render(patient, (), size=size, noise_seed=NOISE)
    sick = render(patient, sign.placed, size=size, noise_seed=NOISE)
    reach = np.logical_or.reduce(list(sick.reaches.values()))
    outside = (sick.pixels != clean.pixels) & ~reach
    assert not outside.any(), f"{sign.name}: {int(outside.sum())} pixels differ outside the reach"
    films = [np.repeat(f.pixels[..., None], 3, axis=2) for f in (clean, sick)]
    return Image.fromarray(np.hstack([*films, difference(clean, sick, reach)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--patient", type=int, default=47)
    args = parser.parse_args()
    patient = draw_patient(args.patient)
    (args.out / "signs").mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    text.write("# Signs on one simulated patient\n\nSimulated films; research software, not for diagnosis. "
               "Clean film, the same film with the finding (same\npatient, position and noise), and the difference: "
               "orange brighter, blue darker. Outside the thin line every pixel\nis the clean film's. Made by "
               "`python docs/signs.py docs`.\n")
    for title, signs in (("Single findings", SINGLE), ("Combinations", COMBINED)):
        text.write(f"\n## {title}\n")
        for sign in signs:
            name = "-".join("".join(c if c.isalnum() else " " for c in sign.name.lower()).split()) + ".jpg"
            row(sign, patient, args.size).save(args.out / "signs" / name, quality=88)
            text.write(f"\n**{sign.name}.** {sign.look_for}\n\n![{sign.name}](signs/{name})\n")
    (args.out / "signs.md").write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
