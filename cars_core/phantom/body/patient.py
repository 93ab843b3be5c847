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
#: Of AP films, those taken lying down; the rest are sitting or propped up.
SUPINE_PERCENT = 40
#: Cardiothoracic ratio of an enlarged heart at severity 0 and 1.
CARDIOMEGALY_CTR = (0.52, 0.68)


#: What each number may be: wider than anyone is drawn, within what the models can draw.
LIMITS: dict[str, tuple[float, float]] = {
    "age": (0, 120), "half_width": (6, 22), "depth": (6, 28), "lung_height": (10, 45), "wall": (0.5, 10),
    "breast": (0, 14), "ctr": (0.35, 0.55), "right_share": (0.15, 0.5), "aorta": (0, 4), "mediastinum": (1, 6),
    "taper": (0.2, 0.5), "dome": (1, 9), "dome_step": (-3, 6), "rib_slope": (4, 18), "bone": (0.3, 2.5),
    "vessels": (0.4, 2.5), "gas": (0, 5), "inspiration": (0.7, 1), "rotation": (-4, 4), "tilt": (-15, 15),
    "field": (16, 80), "shift_x": (-8, 8), "shift_y": (-2, 20), "arm": (0, 30), "chin": (0, 40), "lungs_at": (-3, 1.5),
    "soft_at": (0.3, 4), "local": (0, 1.5), "sharp": (0, 3), "grain": (0, 5),
}


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
    taper: float  # how fast the chest widens below the apices, 0.26 (barrel) to 0.39 (bell)
    dome: float  # how high the right dome stands over its costophrenic angle, cm
    dome_step: float  # how much higher the right dome stands than the left, cm
    rib_slope: float  # drop of a mid-chest rib from back to front, cm
    bone: float  # cortical bone relative to a young adult
    vessels: float  # calibre of the lung vessels relative to the mean
    gas: float  # size of the stomach bubble, cm; 0 for none
    view: str  # PA | AP
    supine: bool  # lying on the back, AP only: fluid layers out, air rises to the front
    inspiration: float  # 0.8..1 of the full lung height
    rotation: float  # -1..1, positive: the patient turned so that the left half looks wider
    tilt: float  # in the picture's plane, degrees
    field: float  # side of the square film, cm
    shift_x: float  # cm
    shift_y: float  # cm from the film's upper edge to the lung apices
    arm: float  # distance of the arms from the chest wall, cm
    chin: float  # its height over the lung apices, cm
    marker: str  # the lead letter L or R beside that shoulder; "" for none
    border: str  # around the exposed field: "" (none on the film) | black | white
    look: int  # seed of the marker's and the border's form and place
    lungs_at: float  # the display unit at which aerated lung is shown
    soft_at: float  # and the abdomen
    local: float  # gain of local contrast over the mean of the surroundings
    sharp: float  # gain of edge enhancement
    grain: float  # noise relative to the mean

    def __post_init__(self) -> None:
        if self.sex not in ("M", "F"):
            raise BadInput("patient: sex", self.sex, "M or F")
        if self.view not in ("PA", "AP"):
            raise BadInput("patient: view", self.view, "PA or AP")
        if self.marker not in ("", "L", "R"):
            raise BadInput("patient: marker", self.marker, "L, R or empty")
        if self.border not in ("", "black", "white"):
            raise BadInput("patient: border", self.border, "black, white or empty")
        if self.supine and self.view != "AP":
            raise BadInput("patient: supine", f"on a {self.view} film", "an AP film: PA films are taken erect")
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:  # also refuses what is not a number
                raise BadInput(f"patient: {name}", getattr(self, name), f"{low} to {high}")

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
    t = np.clip(y / (0.9 * patient.height), 0, 1)
    late = np.clip(y / patient.height - 1.0, 0, 1.2)
    return 0.30 + 0.70 * (1 - (1 - t) ** 1.5) ** patient.taper - 0.22 * late**1.5


def enlarged_ratio(patient: Patient, severity: float) -> float:
    """Cardiothoracic ratio with cardiomegaly of `severity` 0..1: more than 0.5, growing with severity."""
    low, high = CARDIOMEGALY_CTR
    return low + (high - low) * severity + 0.2 * (patient.ctr - 0.43)


def draw_patient(seed: int) -> Patient:
    """Draw a person and a first position. A pure function of `seed`."""
    rng = np.random.default_rng(seed_from("patient", seed))
    male = bool(rng.random() < 0.56)
    age = int(np.clip(rng.normal(49, 16), 18, 92))
    build = float(np.clip(rng.normal(1.0 if male else 0.92, 0.04), 0.82, 1.12))
    fat = float(np.clip(rng.gamma(3.0, 0.33), 0.2, 2.8))
    person = Patient(
        seed=seed_from("tissue", seed), sex="M" if male else "F", age=age,
        half_width=_round(13.7 * build * rng.normal(1, 0.045)),
        depth=_round(15.5 * build * rng.normal(1, 0.06)),
        lung_height=_round(25.8 * build * np.clip(rng.normal(1, 0.075), 0.82, 1.2)),
        wall=_round(1.2 + 1.25 * fat),
        breast=0.0 if male else _round(np.clip(4.4 + 1.4 * fat + rng.normal(0, 0.9), 3.2, 9.0)),
        ctr=_round(np.clip(rng.normal(0.436 + 0.0003 * (age - 50), 0.018), 0.402, 0.46)),
        right_share=_round(np.clip(rng.normal(0.31, 0.03), 0.23, 0.39)),
        aorta=_round(np.clip(rng.normal(0.7 + 0.02 * (age - 50), 0.3), 0.1, 2.2)),
        mediastinum=_round(np.clip(rng.normal(2.7 + 0.2 * fat, 0.35), 2.0, 4.0)),
        taper=_round(np.clip(rng.normal(0.32, 0.03), 0.26, 0.39)),
        dome=_round(np.clip(rng.normal(4.8, 1.0), 2.4, 6.4)),
        dome_step=_round(rng.normal(1.2, 0.7)), rib_slope=_round(np.clip(rng.normal(10.8, 1.5), 7.5, 14.0)),
        bone=_round(np.clip(rng.normal(1.17 - 0.005 * (age - 45), 0.14) * (1.0 if male else 0.92), 0.65, 1.55)),
        vessels=_round(np.clip(rng.normal(1, 0.14), 0.7, 1.35)),
        gas=_round(rng.uniform(0.8, 2.6)) if rng.random() < 0.5 else 0.0,
        view="PA", supine=False, inspiration=1.0, rotation=0.0, tilt=0.0, field=38.0, shift_x=0.0, shift_y=4.0, arm=3.0,
        chin=12.0, marker="", border="", look=0, lungs_at=-0.8, soft_at=1.6, local=0.35, sharp=0.15, grain=1.0)
    return position(person, seed_from("position", seed))


def position(person: Patient, seed: int) -> Patient:
    """The same person before the detector another time: view, breath, turn, field. A pure function of both."""
    rng = np.random.default_rng(seed_from("position", seed))
    view = "PA" if rng.random() < 0.60 else "AP"
    erect = view == "PA"
    breath = rng.uniform(0.9, 1.0) if erect else rng.uniform(0.82, 0.99)
    # The lungs' share of the film's breadth. NIH films have 0.77 PA, 0.70 AP (medians, as the segmenter finds them);
    # frames a little tighter than those lie nearer to them in the features of `benchmarks/realism.py`.
    share = np.clip(rng.normal(0.81 if erect else 0.765, 0.06), 0.6, 0.93)
    field = max(2 * person.half_width / share, person.lung_height * breath * 1.16)
    above = np.clip(rng.normal(0.12, 0.042), 0.03, 0.24) * field
    above = max(min(above, field - person.lung_height * breath * 1.03), 0.03 * field)
    supine = view == "AP" and seed_from("supine", seed) % 100 < SUPINE_PERCENT
    lungs_at, soft_at, local = _display(rng, erect)
    return replace(
        person, view=view, supine=supine, inspiration=_round(breath),
        rotation=_round(rng.normal(0, 0.35 if erect else 0.7)),
        tilt=_round(rng.normal(0, 1.2 if erect else 2.2)), field=_round(field),
        shift_x=_round(rng.normal(0, 0.021) * field), shift_y=_round(above),
        arm=_round(rng.uniform(5.0, 20.0) if erect else rng.uniform(2.0, 15.0)),
        chin=_round(max(rng.normal(12.5, 1.5) if erect else rng.normal(8.5, 3.0), 2.5)),
        marker=str(rng.choice(["L", "R", ""], p=[0.82, 0.06, 0.12])),
        border=str(rng.choice(["", "black", "white"], p=[0.5, 0.32, 0.18])), look=int(rng.integers(2**31)),
        lungs_at=lungs_at, soft_at=soft_at, local=local, sharp=_round(np.clip(rng.gamma(2.0, 0.32), 0, 1.8)),
        grain=_round(np.clip(rng.lognormal(-0.1, 0.35), 0.4, 2.2)))


def _display(rng: np.random.Generator, erect: bool) -> tuple[float, float, float]:
    """How a film is shown: lungs and abdomen in display units, and the gain of local contrast.

    Two kinds are found in archives: films with dark lungs, and films processed so that the lungs are mid grey.
    """
    if rng.random() < (0.66 if erect else 0.42):
        lungs, soft = rng.normal(-0.85, 0.2), rng.normal(1.75, 0.35)
        local = rng.uniform(0.12, 0.5)
    else:
        lungs, soft = rng.normal(-0.05, 0.25), rng.normal(1.9, 0.35)
        local = rng.uniform(0.25, 0.75)
    lungs, soft = np.clip(lungs, -1.5, 0.5), np.clip(soft, 1.0, 2.8)
    return _round(lungs), _round(soft), _round(local)


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
