"""Words of DICOM headers, held against lists of what they may be.

A header's field can hold anything a person typed, a name included. Nothing passes from here that is not one of these
words, a number in its range, or a UID.
"""

from __future__ import annotations

import datetime
import re

MAX_AGE = 120  # years
_SPACING = (0.02, 2.0)  # mm; detectors have 0.1 to 0.2, shrunken films more

MODALITIES = frozenset({"CR", "CT", "DX", "DR", "ES", "IO", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "PX", "RF", "RG",
                        "SC", "SR", "US", "XA", "XC"})
PHOTOMETRIC = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT",
                         "YBR_PARTIAL_420", "YBR_RCT"})
PRESENTATION = frozenset({"FOR PRESENTATION", "FOR PROCESSING"})
LATERALITIES = frozenset({"L", "R", "B", "U"})
#: Views that `view` answers; the words of PS3.3 C.8.7.1.1.3, and LATERAL where the side is not said.
VIEWS = frozenset({"PA", "AP", "LL", "RL", "LATERAL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO"})
#: Codes of DICOM's CID 4010 for views of the chest, SNOMED CT and the older SRT.
_VIEW_CODES = {
    "272479007": "PA", "R-40888": "PA", "R-10214": "PA", "399348003": "AP", "R-10206": "AP",
    "399067008": "LATERAL", "R-102CD": "LATERAL", "399173006": "LL", "R-10236": "LL", "399198007": "RL",
    "R-10232": "RL", "399135007": "LAO", "R-10220": "LAO", "399356000": "RAO", "R-40985": "RAO",
    "399006002": "LPO", "R-10212": "LPO", "399038007": "RPO", "R-10210": "RPO",
}
_BODY_PARTS = {
    "CHEST": ("CHEST", "THORAX", "THORACIC", "TORAX", "LUNG", "LUNGS", "RIB", "RIBS", "STERNUM", "HEART"),
    "ABDOMEN": ("ABDOMEN", "ABDOMINAL", "KUB"),
    "PELVIS": ("PELVIS", "HIP", "HIPS", "SACRUM", "COCCYX"),
    "SPINE": ("SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "CERVICAL", "LUMBAR"),
    "SHOULDER": ("SHOULDER", "CLAVICLE", "SCAPULA"),
    "HEAD": ("HEAD", "SKULL", "BRAIN", "FACE", "JAW", "MANDIBLE", "SINUS", "TEETH"),
    "NECK": ("NECK",),
    "ARM": ("ARM", "HUMERUS", "ELBOW", "FOREARM", "WRIST", "HAND", "FINGER", "THUMB"),
    "LEG": ("LEG", "FEMUR", "THIGH", "KNEE", "PATELLA", "TIBIA", "FIBULA", "ANKLE", "FOOT", "HEEL", "CALCANEUS", "TOE"),
    "EXTREMITY": ("EXTREMITY", "EXTREMITIES"),
    "BREAST": ("BREAST",),
    "WHOLEBODY": ("WHOLEBODY",),
}
_PART_OF = {word: part for part, words in _BODY_PARTS.items() for word in words}
#: Body parts that `body_part` answers.
BODY_PARTS = frozenset({*_BODY_PARTS, "OTHER"})


def one_of(word: str, allowed: frozenset[str]) -> str | None:
    """The word if it is allowed, None if it is empty, OTHER if it is something else."""
    return word if word in allowed else "OTHER" if word else None


def view(text: str) -> str | None:
    """The view that words such as PA, `CHEST AP PORTABLE`, `postero-anterior` or `LEFT LATERAL` tell, one of VIEWS.

    None where they tell none, or several, as `PA AND LATERAL` does.
    """
    upper = text.upper()
    upper = re.sub(r"\bPOSTERO[- ]?ANTERIOR\b", "PA", re.sub(r"\bANTERO[- ]?POSTERIOR\b", "AP", upper))
    upper = re.sub(r"\bP\.A\.?(?![A-Z])", "PA", re.sub(r"\bA\.P\.?(?![A-Z])", "AP", upper))
    words = set(re.findall(r"[A-Z]+", upper))
    side = "L" if words & {"LEFT", "LT", "L"} else ""
    side += "R" if words & {"RIGHT", "RT", "R"} else ""
    found = words & (VIEWS - {"LATERAL"})
    if words & {"DECUBITUS", "DECUB"}:
        found = {f"{side}LD"} if side in ("L", "R") else found
    elif words & {"OBLIQUE", "OBL"}:
        found = found & {"LAO", "RAO", "LPO", "RPO", "LLO", "RLO"}
    elif words & {"LATERAL", "LAT"} and not found & {"LL", "RL", "LLD", "RLD"}:
        found = {*found, f"{side}L" if side in ("L", "R") else "LATERAL"}
    if found & {"LLD", "RLD"}:
        found -= {"AP", "PA"}  # how the beam ran through a patient who lies on the side
    return found.pop() if len(found) == 1 else None


def view_of_code(code: str) -> str | None:
    """The view of a code value of CID 4010."""
    return _VIEW_CODES.get(code.upper())


def body_part(text: str) -> str | None:
    """The part of the body that words such as CHEST or `Port Chest` name, one of BODY_PARTS; None for no words."""
    words = re.findall(r"[A-Z]+", text.upper())
    return next((_PART_OF[w] for w in words if w in _PART_OF), "OTHER") if words else None


def spacing(numbers: list[float]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; None unless both are 0.02 to 2."""
    if len(numbers) == 2 and all(_SPACING[0] <= x <= _SPACING[1] for x in numbers):
        return numbers[0], numbers[1]
    return None


def date(text: str) -> datetime.date | None:
    """A DA value: 20200131, or 2020.01.31 as ACR-NEMA had it."""
    found = re.fullmatch(r"(\d{4})(\.?)(\d\d)\2(\d\d)", text, re.ASCII)
    try:
        return datetime.date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None


def age(text: str, *, born: datetime.date | None, taken: datetime.date | None) -> int | None:
    """Whole years 0..120: from an AS value such as 034Y (M, W, D: months, weeks, days), else between two days."""
    found = re.fullmatch(r"(\d{1,3})([YMWD])", text.upper(), re.ASCII)
    if found:
        years = int(found[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[found[2]]
    elif born and taken:
        years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    else:
        return None
    return years if 0 <= years <= MAX_AGE else None


def orientation(words: list[str]) -> tuple[str, str] | None:
    """Where rows and columns run to, each by up to three of A, P, R, L, H, F."""
    if len(words) == 2 and all(re.fullmatch(r"[APRLHF]{1,3}", w) for w in words):
        return words[0], words[1]
    return None


def uid(text: str) -> str | None:
    """A UID of at most 64 characters, or None."""
    return text if re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) and len(text) <= 64 else None
