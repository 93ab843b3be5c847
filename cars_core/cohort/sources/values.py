"""What label files and headers write in many ways, read in one: patients, ages, sexes, views."""

from __future__ import annotations

import datetime
import re

MAX_AGE = 120  # years
FRONTAL = ("PA", "AP")

#: What sources write -> the view. A closed list: a name typed into the column must not get out.
_VIEWS = {
    **dict.fromkeys(("PA", "POSTEROANTERIOR", "POSTERO-ANTERIOR", "POSTERIOR-ANTERIOR", "PA ERECT", "ERECT PA"), "PA"),
    **dict.fromkeys(("AP", "ANTEROPOSTERIOR", "ANTERO-POSTERIOR", "ANTERIOR-POSTERIOR", "AP_HORIZONTAL", "AP SUPINE",
                     "AP ERECT", "AP PORTABLE", "PORTABLE AP", "AP SEMI ERECT", "AP SITTING"), "AP"),
    **dict.fromkeys(("L", "LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LEFT LATERAL", "RIGHT LATERAL"), "LATERAL"),
    **{v: v for v in ("FRONTAL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "LORDOTIC")},
}


def patient_number(text: str) -> str:
    """The number without leading zeros or a decimal part: 00000100, 100 and 100.0 are one patient. What is no
    number stays as it is."""
    number = re.fullmatch(r"0*(\d+)(?:\.0+)?", text)
    return number[1] if number else text


def age_years(text: str) -> int | None:
    """Years: `58`, or `058Y` (M, W and D: months, weeks and days); None if not 0..120."""
    found = re.fullmatch(r"(\d{1,5})(?:\.\d*)?\s*([YMWD]?)", text.strip().upper())
    if not found:
        return None
    years = int(found[1]) // {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}[found[2]]
    return years if years <= MAX_AGE else None


def age_between(born: datetime.date | None, taken: datetime.date | None) -> int | None:
    """Whole years from birth to film; None where one is unknown or the result is not 0..120."""
    if born is None or taken is None:
        return None
    years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    return years if 0 <= years <= MAX_AGE else None


def sex_letter(text: str) -> str | None:
    """M or F; None for anything else."""
    letter = text.strip().upper()[:1]
    return letter if letter in ("M", "F") else None


def view_code(text: str) -> str | None:
    """PA, AP, LATERAL, or another view of a closed list; None for anything else."""
    return _VIEWS.get(" ".join(text.strip().upper().split()))


def date_of(text: str) -> datetime.date | None:
    """A date written 20150914, 2015-09-14 or 2015/09/14; None for anything else."""
    found = re.fullmatch(r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})(?:\.0+)?", text.strip())
    if not found:
        return None
    try:
        return datetime.date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
