"""A film's record becomes a row: identifiers become keyed pseudonyms, dates become days, and nothing else gets out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from cars_core.cohort.identity import pseudonym, split_of
from cars_core.cohort.intake import Kept, SetAside
from cars_core.cohort.near import NearIndex
from cars_core.cohort.sources.record import LATERAL, Record
from cars_core.cohort.sources.values import patient_number
from cars_core.cohort.survey import Survey
from cars_core.vectors import Vector
from schemas.recipe import Cohort, Source, Splits

SAME, NEAR = "the same pixels as a film before it", "nearly the same pixels as a film before it"
#: Their numbers stand alone: the committed editor was trained on the training patients that this gives.
_BARE = frozenset({"nih", "phantom"})
_TERMS = re.compile(r"[A-Za-z][\w .,:;()/&+'-]{0,199}").fullmatch
OLDEST = 90  # years: HIPAA's safe harbour (45 CFR 164.514) has everyone older in one group


def bits_of(hexadecimal: str) -> int:
    """The first 64 bits of a digest: enough to tell a million films apart, small enough to hold them all."""
    return int(hexadecimal[:16], 16)


@dataclass
class Seen:
    """What earlier films of the cohort decide about later ones: pixels, likeness, and each patient's published part."""

    pixels: set[int] = field(default_factory=set)
    near: NearIndex[str] = field(default_factory=NearIndex)
    parts: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Keyed:
    """A record under way: its keyed name, its keyed patient, and why it is quarantined if it is."""

    record: Record
    keyed: str
    patient: str
    fault: str | None
    flags: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """What intake reads: the film's path, or a simulated film's truth."""
        return self.record.truth or self.record.place or ""


def patient_pseudonym(key: bytes, whose: str, patient: str) -> str:
    """Pseudonym of a patient number; `whose` says whose numbers these are (recipe.Source.patients_of)."""
    number = patient_number(patient)
    return pseudonym(key, "patient", number if whose in _BARE else f"{whose}\0{number}")


class RowMaker:
    """Rows of one source.

    Args:
        name: digest of the cohort. key: of the pseudonyms. seen: shared by the sources of a cohort.
    """

    def __init__(self, source: Source, cohort: Cohort, *, name: str, key: bytes, survey: Survey, seen: Seen) -> None:
        self._source, self._cohort, self._name, self._key = source, cohort, name, key
        self._survey, self._seen = survey, seen
        self._names: set[int] = set()
        self._hide_age = not source.public_ids and source.source != "phantom"
        self._of_patient = lru_cache(4096)(self._patient)
        self._of_study = lru_cache(64)(self._study)

    def _patient(self, patient: str) -> tuple[str, str]:
        """(pseudonym, split by shares): sources with the same `patients_of` share their patients."""
        keyed = patient_pseudonym(self._key, self._source.patients_of, patient)
        return keyed, split_of(keyed, self._cohort.splits)

    def _study(self, study: str) -> str:
        return pseudonym(self._key, "study", f"{self._source.patients_of}\0{study}")

    def key(self, record: Record, place: int) -> Keyed:
        """Key a record's name; one that comes again is a fault and is told apart by its place."""
        fault, flags = record.fault, ()  # type: str | None, tuple[str, ...]
        if record.aside == LATERAL and self._cohort.screen.view != "set_aside":
            flags = (LATERAL,) if self._cohort.screen.view == "flag" else ()
            record = replace(record, aside=None)
        keyed = pseudonym(self._key, "record", f"{self._source.name}\0{record.name}")
        if bits_of(keyed[1:]) in self._names:
            keyed = pseudonym(self._key, "record", f"{self._source.name}\0{record.name} again at {place}")
            fault = fault or "this image is listed before"
        self._names.add(bits_of(keyed[1:]))
        return Keyed(record, keyed, self._of_patient(record.patient)[0], fault, flags)

    def row(self, item: Keyed, film: Kept | SetAside | str | None) -> dict[str, Any]:
        """The row of a film. `film`: what reading it gave; a string says why it cannot be used, None that it was not
        read."""
        record, source = item.record, self._source
        kept = film if isinstance(film, Kept) else None
        fault = item.fault or (film if isinstance(film, str) else None)
        aside = record.aside or (film.reason if isinstance(film, SetAside) else None)
        split, crossing = self._split(item)
        fault = fault or crossing
        flags = [*item.flags, *(kept.flags if kept else ())]
        if kept is not None and fault is None and aside is None:
            aside, near = self._seen_before(kept, item.keyed)
            flags += near
        status = ("quarantined" if fault else "set_aside" if aside else "accepted" if kept else "unread")
        reason = fault or aside
        vector = record.vector if fault is None else Vector()
        age = record.age
        picture = film if isinstance(film, Kept | SetAside) else None
        return {
            "cohort": self._name, "record": item.keyed, "line": record.line, "source": source.source,
            "dataset": source.name, "status": status, "reason": reason and f"{record.where}: {reason}",
            "flags": flags if status == "accepted" else [],
            "image_id": picture and picture.image_id, "object": picture and picture.object,
            "phash": kept and kept.phash, "patient": item.patient,
            "study": record.study and self._of_study(record.study),
            "day": self._survey.days.of(record.patient, record.date), "split": split,
            "present": vector.present, "absent": vector.absent, "uncertain": vector.uncertain,
            "labels": record.labels, "sex": record.sex,
            "age": min(age, OLDEST) if age is not None and self._hide_age else age, "view": record.view,
            "width": picture and picture.width, "height": picture and picture.height,
            "spacing": kept and kept.spacing,
            "licence": source.licence or _terms(record.licence), "truth": record.truth,
        }

    def _seen_before(self, film: Kept, keyed: str) -> tuple[str | None, list[str]]:
        """(why a film like one before it is set aside, flags). Under two patients it could sit in two splits."""
        pixels = bits_of(film.image_id)
        if pixels in self._seen.pixels:
            return SAME, []
        near = self._seen.near.find(film.hashes) if film.hashes else None
        if near and self._cohort.screen.near == "set_aside":
            return NEAR, []
        self._seen.pixels.add(pixels)
        if film.phash is not None:
            self._seen.near.add(film.phash, keyed)
        return None, [NEAR] if near else []

    def _split(self, item: Keyed) -> tuple[str, str | None]:
        """(split, why the film cannot be in one)."""
        by_shares = self._of_patient(item.record.patient)[1]
        if not self._cohort.published_splits:
            return by_shares, None
        part = item.record.split
        if part == "train" and "validate" not in self._survey.published:
            part = self._train_or_validate(item.patient)
        # Whatever put the patient's first film where it is, the others follow or stay out.
        first = self._seen.parts.setdefault(bits_of(item.patient[1:]), part or by_shares)
        return first, None if part in (None, first) else "the patient is in two parts of the cohort"

    def _train_or_validate(self, patient: str) -> str:
        shares = self._cohort.splits
        both = shares.train + shares.validate_
        if not both:
            return "train"
        return split_of(patient, Splits(train=shares.train / both, validate=1 - shares.train / both, test=0.0))


def _terms(text: str) -> str:
    """Data-use terms as a label file gives them; what does not look like terms may be another column's."""
    return text if _TERMS(text) else "not stated"
