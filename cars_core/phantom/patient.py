"""Who is on the simulated film: the anatomy of one person and how that person stands before the detector.

Lengths are centimetres at the detector. Ranges are those of adults on frontal films: inner thoracic width
24-31 cm, cardiothoracic ratio 0.40-0.49 without disease (Danzer 1919), the heart 5-8 % wider antero-posterior (AP).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_core.digest import seed_from
from schemas.errors import BadInput

#: How much an AP film magnifies the heart, which then lies far from the detector.
AP_MAGNIFICATION = 1.06
#: Cardiothoracic ratio of an enlarged heart at severity 0 and 1.
CARDIOMEGALY_CTR = (0.53, 0.68)


@dataclass(frozen=True)
class Patient:
    """One person, positioned for one film. Every field is plain JSON.

    Fields down to `gas` are the person and stay between films; the rest is the position and how the film is displayed.
    """

    seed: int  # of the branching of vessels and the grain of tissue
    sex: str  # M | F
    age: int  # years
    half_width: float  # of the inner chest at its widest, cm
    depth: float  # of the inner chest, front to back, cm
    lung_height: float  # apex to costophrenic angle at full inspiration, cm
    wall: float  # soft tissue outside the ribs, cm
    breast: float  # radius, cm; 0 for none
    ctr: float  # cardiothoracic ratio on a PA film, without disease
    right_share: float  # share of the heart's width right of the midline
    aorta: float  # how far the aortic knob stands out, cm
    mediastinum: float  # half width of the upper mediastinum, cm
    dome_step: float  # how much higher the right dome stands than the left, cm
    rib_slope: float  # drop of a mid-chest rib from back to front, cm
    bone: float  # cortical bone relative to a young adult
    vessels: float  # calibre of the lung vessels relative to the mean
    gas: float  # radius of the stomach bubble, cm; 0 for none
    view: str  # PA | AP
    inspiration: float  # 0.8..1 of the full lung height
    rotation: float  # -1..1, positive: the patient turned so that the left half looks wider
    tilt: float  # in the picture's plane, degrees
    field: float  # side of the square film, cm
    shift_x: float  # cm
    shift_y: float  # cm from the film's upper edge to the lung apices
    arm: float  # distance of the arms from the chest wall, cm
    marker: bool  # a lead letter L at the patient's left shoulder
    contrast: float  # of the display, relative to the mean
    brightness: float  # shift of the display, in its unit

    def __post_init__(self) -> None:
        if self.sex not in ("M", "F"):
            raise BadInput("patient: sex", self.sex, "M or F")
        if self.view not in ("PA", "AP"):
            raise BadInput("patient: view", self.view, "PA or AP")

    @property
    def heart_ratio(self) -> float:
        """Cardiothoracic ratio as this film shows it, without disease: 0.40-0.49."""
        return self.ctr * (AP_MAGNIFICATION if self.view == "AP" else 1.0)

    @property
    def height(self) -> float:
        """Apex to costophrenic angle on this film, cm."""
        return self.lung_height * self.inspiration

    def half(self, side: int) -> float:
        """Half width of the inner chest on one side, as the turn shows it: cm; side +1 is the patient's left."""
        return self.half_width * (1 + 0.025 * side * self.rotation)


def chest_profile(patient: Patient, y: NDArray[Any]) -> NDArray[Any]:
    """Width of the inner chest at heights y (cm below the apices) relative to its widest, 0..1; keeps y's type."""
    t = np.clip(y / (0.86 * patient.height), 0, 1)
    late = np.clip(y / patient.height - 0.8, 0, None)
    return 0.38 + 0.62 * (1 - (1 - t) ** 2.3) ** 0.58 - 0.5 * late**2


def enlarged_ratio(patient: Patient, severity: float) -> float:
    """Cardiothoracic ratio with cardiomegaly of `severity` 0..1: more than 0.5, growing with severity."""
    low, high = CARDIOMEGALY_CTR
    return low + (high - low) * severity + 0.2 * (patient.ctr - 0.43)


def draw_patient(seed: int) -> Patient:
    """Draw a person and a first position. A pure function of `seed`."""
    rng = np.random.default_rng(seed_from("patient", seed))
    male = bool(rng.random() < 0.56)
    age = int(np.clip(rng.normal(50, 17), 18, 92))
    build = float(np.clip(rng.normal(1.0 if male else 0.93, 0.04), 0.82, 1.12))
    fat = float(np.clip(rng.gamma(4.0, 0.25), 0.3, 2.4))
    person = Patient(
        seed=seed_from("tissue", seed), sex="M" if male else "F", age=age,
        half_width=_round(13.9 * build * rng.normal(1, 0.035)),
        depth=_round(15.5 * build * rng.normal(1, 0.06)),
        lung_height=_round(26.5 * build * rng.normal(1, 0.05)),
        wall=_round(2.0 + 1.5 * fat),
        breast=0.0 if male else _round(np.clip(4.2 + 1.5 * fat + rng.normal(0, 0.6), 3.5, 8.0)),
        ctr=_round(np.clip(rng.normal(0.432 + 0.0003 * (age - 50), 0.017), 0.402, 0.46)),
        right_share=_round(np.clip(rng.normal(0.33, 0.03), 0.25, 0.40)),
        aorta=_round(np.clip(rng.normal(0.8 + 0.02 * (age - 50), 0.3), 0.2, 2.2)),
        mediastinum=_round(np.clip(rng.normal(2.5 + 0.15 * fat, 0.25), 2.0, 3.6)),
        dome_step=_round(rng.normal(1.2, 0.5)), rib_slope=_round(np.clip(rng.normal(8.0, 1.2), 5.5, 11.0)),
        bone=_round(np.clip(rng.normal(1.05 - 0.005 * (age - 45), 0.1) * (1.0 if male else 0.92), 0.65, 1.3)),
        vessels=_round(np.clip(rng.normal(1, 0.12), 0.75, 1.3)),
        gas=_round(rng.uniform(1.2, 3.0)) if rng.random() < 0.7 else 0.0,
        view="PA", inspiration=1.0, rotation=0.0, tilt=0.0, field=38.0, shift_x=0.0, shift_y=4.0, arm=3.0, marker=False,
        contrast=1.0, brightness=0.0)
    return position(person, seed_from("position", seed))


def position(person: Patient, seed: int) -> Patient:
    """The same person before the detector another time: view, breath, turn, field. A pure function of both."""
    rng = np.random.default_rng(seed_from("position", seed))
    view = "PA" if rng.random() < 0.65 else "AP"
    breath = rng.uniform(0.9, 1.0) if view == "PA" else rng.uniform(0.8, 0.96)
    field = max(2 * person.half_width * rng.uniform(1.16, 1.38), person.lung_height * breath + 7.5)
    return replace(
        person, view=view, inspiration=_round(breath), rotation=_round(rng.normal(0, 0.3 if view == "PA" else 0.5)),
        tilt=_round(rng.normal(0, 1.2)), field=_round(field), shift_x=_round(rng.normal(0, 0.5)),
        shift_y=_round(rng.uniform(2.5, 5.0)), arm=_round(rng.uniform(1.5, 6.0)), marker=bool(rng.random() < 0.6),
        contrast=_round(np.clip(rng.normal(1, 0.1), 0.75, 1.25)),
        brightness=_round(np.clip(rng.normal(0, 0.14), -0.3, 0.3)))


def patient_from(values: dict[str, Any]) -> Patient:
    """A Patient from its JSON fields.

    Raises:
        BadInput: a field is missing, unknown or of another type.
    """
    known = {f.name: f.type for f in fields(Patient)}
    if not isinstance(values, dict) or values.keys() != known.keys():
        odd = sorted(values.keys() ^ known.keys()) if isinstance(values, dict) else [type(values).__name__]
        raise BadInput("truth: patient", ", ".join(map(str, odd)), "exactly the fields of Patient")
    types: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "bool": (bool,), "float": (int, float)}
    for name, kind in known.items():
        value = values[name]
        if not isinstance(value, types[str(kind)]) or (isinstance(value, bool) and kind != "bool"):
            raise BadInput(f"truth: patient: {name}", value, f"a value of type {kind}")
    return Patient(**values)


def _round(x: float | np.floating) -> float:
    """Four decimals: the truth stays short and reads back to the same number."""
    return round(float(x), 4)
