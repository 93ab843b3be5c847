"""A cohort of simulated patients whose findings go together as they do in a real cohort.

Combinations come from `nih_combinations.csv`: counts over NIH ChestX-ray14, restricted to the findings the
phantom draws (other labels are dropped and the counts of equal remainders added). Pneumonia is left out: it is a
diagnosis, not a sign on the film. Fracture is missing from the NIH labels: a film of any combination shows one
besides with probability FRACTURE_SHARE, independent of the rest. As in the NIH table more than half of the films
would be normal and many combinations would be missing from a few hundred films; so counts are tempered,
weight = films ** TEMPER, and films that are normal but for a fracture get a fixed share NORMAL_SHARE.

A withheld combination is one that training must never see and the test is to ask for: patients of the split
`train` never carry it, and RAISED_SHARE of the films of `test` do. A thinned combination is merely rarer in training:
there the weight of every combination that holds it is multiplied by `keep`.

A follow-up film repeats the combination of the film before with probability KEPT_SHARE, so that reports can compare;
otherwise what is CHRONIC stays and the rest is drawn anew from the table's combinations with that chronic part. Every
film still follows the table exactly: the first by its draw; a later one because repeating a draw changes nothing and
neither does drawing one part anew given the other (a Gibbs step leaves its distribution as it is), while the choice
between the two looks at neither. Only films of one patient depend on each other. The position follows the film before
in the same way: it is repeated with probability exp(-days / SETTLED_DAYS), else drawn anew; so do tubes (`implants`).
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cars_core.digest import seed_from
from cars_core.phantom.body.patient import Patient, draw_patient, position
from cars_core.phantom.devices.implants import draw_devices, draw_implants, draw_needs, later_needs
from cars_core.phantom.placed import SHOWN, Device, Placed
from cars_core.phantom.truth import truth_of
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

COMBINATIONS = Path(__file__).resolve().parent / "nih_combinations.csv"

TEMPER = 0.6
NORMAL_SHARE = 0.35
RAISED_SHARE = 0.25
FRACTURE_SHARE = 0.02
#: Films of a patient: 1, 2, 3, 4; the mean is 1.40.
FILMS_SHARES = (0.72, 0.19, 0.06, 0.03)
KEPT_SHARE = 0.45
#: What neither comes nor goes within the year that a patient's films span.
CHRONIC = frozenset({"cardiomegaly", "emphysema", "fibrosis", "fracture", "hernia", "mass", "nodule",
                     "pleural_thickening"})
#: How far a finding that is kept may grow or shrink, a chronic one in CHRONIC_CHANGE; and the severity below which it
#: would hardly be seen.
CHANGE, CHRONIC_CHANGE, LEAST = 0.35, 0.1, 0.15
#: Days between films: lognormal, median 4, as on a ward; at most MOST_DAYS, so that three gaps stay under a year and
#: a patient's age holds for all films.
MEDIAN_DAYS, SPREAD_DAYS, MOST_DAYS = 4.0, 1.3, 120
#: Mean days that a patient goes on to stand, sit up or lie for films: a stay in hospital. The same position is looked
#: for among at most POSITIONS draws, where the rarest (supine, one in six) is missing once in 10^5.
SETTLED_DAYS, POSITIONS = 14.0, 64

#: How often a sided finding lies on both sides (about as often as effusions are reported bilateral on
#: portable films); the rest is shared 53 : 47 between the right and the left. Lesions are single.
BOTH_SHARE = {"effusion": 0.30, "infiltration": 0.30, "atelectasis": 0.20, "consolidation": 0.15,
              "pneumonia": 0.15, "pleural_thickening": 0.15, "fibrosis": 0.40, "mass": 0.0, "nodule": 0.0,
              "pneumothorax": 0.0, "fracture": 0.0}
RIGHT_SHARE = 0.53
#: Share of the rarer form where a finding has two that do not follow from the position, and the other form. A lobe
#: collapses on one side only: on both sides atelectasis is plates.
RARE_FORMS = {"pneumothorax": ("tension", 0.12, "simple"), "atelectasis": ("lobar", 0.25, "plate"),
              "consolidation": ("lobar", 0.35, "patchy"), "pleural_thickening": ("apex", 0.35, "wall")}
TENSION_LEAST = 0.7  # severity: air under tension is much air

Combination = frozenset[str]


@dataclass(frozen=True)
class FilmSpec:
    """One film of the cohort: identifiers, what its label file would say, and the truth that renders it.

    `study` counts the patient's films from 1; `days` since the first of them; `prior` is the truth of the film before,
    None for the first.
    """

    record: str
    patient: str
    split: str
    sex: str
    age: int
    view: str
    study: int
    days: int
    vector: Vector
    truth: str
    prior: str | None = None


@lru_cache(maxsize=4)
def combinations(shown: Combination = SHOWN) -> Mapping[Combination, int]:
    """NIH films per combination of the findings in `shown`, read-only; the empty combination is included.

    Raises:
        BadInput: the table cannot be read or is malformed.
    """
    out: Counter[Combination] = Counter()
    try:
        with open(COMBINATIONS, encoding="utf-8", newline="") as f:
            for row in csv.DictReader(line for line in f if not line.startswith("#")):
                out[frozenset(row["findings"].split("|")) & shown] += int(row["films"])
    except (OSError, KeyError, ValueError) as e:
        raise BadInput(COMBINATIONS.name, str(e), "a table with columns findings and films") from e
    return MappingProxyType(dict(out))


def weights(split: str, withheld: Sequence[Combination],
            thinned: Sequence[tuple[Combination, float]] = ()) -> tuple[list[Combination], np.ndarray]:
    """Combinations a film of `split` may show and the probability of each, float64, sum 1.

    Raises:
        BadInput: nothing but normal films would be left; it names what is withheld or thinned so, or both where
            neither would do it alone.
    """
    share_of = {c: films**TEMPER for c, films in combinations(SHOWN - {"fracture"}).items() if c}
    share_of[frozenset()] = sum(share_of.values()) * NORMAL_SHARE / (1 - NORMAL_SHARE)
    for c, share in list(share_of.items()):
        share_of[c] = share * (1 - FRACTURE_SHARE)
        share_of[c | {"fracture"}] = share * FRACTURE_SHARE
    for w in withheld:
        share_of.setdefault(w, 1.0)
    names = sorted(share_of, key=lambda c: (len(c), sorted(c)))
    share = np.array([share_of[c] if c else 0.0 for c in names])
    held = np.array([any(w <= c for w in withheld) for c in names])
    normal = NORMAL_SHARE * (1 - FRACTURE_SHARE)
    if split == "train":
        kept = np.ones(len(names))
        for combination, keep in thinned:
            kept[[combination <= c for c in names]] *= keep
        _check_left(share, held, kept, withheld, thinned)
        share[held] = 0
        share *= kept
    elif split == "test" and held.any():
        share[held] *= RAISED_SHARE / share[held].sum()
        free = ~held & (share > 0)
        share[free] *= (1 - normal - RAISED_SHARE) / max(share[free].sum(), 1e-12)
    share *= (1 - normal) / share.sum()
    share[names.index(frozenset())] = normal
    return names, share


def _check_left(share: np.ndarray, held: np.ndarray, kept: np.ndarray, withheld: Sequence[Combination],
                thinned: Sequence[tuple[Combination, float]]) -> None:
    """Refuse a training table without a finding, by the key that empties it. share, kept float64 [n]; held bool [n]."""
    if (share * ~held * kept).any():
        return
    none = [c for c, keep in thinned if not keep]
    keys: dict[str, Sequence[Combination]] = {"withheld": withheld} if not share[~held].any() else {"thinned": none}
    if "thinned" in keys and (share * kept).any():
        keys["withheld"] = withheld
    raise BadInput("cohort: " + " and ".join(sorted(keys)),
                   "; ".join(" + ".join(sorted(c)) for key in sorted(keys) for c in keys[key]),
                   "combinations that leave a finding to draw")


def films(*, n: int, seed: int, size: int, withheld: Sequence[Sequence[str]], split_of: Callable[[str], str],
          vocabulary: Vocabulary, thinned: Sequence[tuple[Sequence[str], float]] = ()) -> Iterator[FilmSpec]:
    """Yield `n` films, patient by patient, the first k the same for every n >= k.

    Args:
        n: films.
        seed: of the whole cohort.
        size: side of a film in pixels.
        withheld: combinations kept from training patients, as lists of findings.
        split_of: patient -> train | validate | test.
        vocabulary: gives the vector its bits. A vector states every finding the phantom draws and
            `support_devices`, present or absent, and what follows upwards from those present; it says nothing of
            other findings.
        thinned: (combination, share kept 0..1): made rarer for training patients; 0 leaves none.

    Raises:
        BadInput: a withheld or thinned finding the phantom cannot draw, an empty combination, one that is thinned
            twice, a share outside 0..1, n or seed below 0.
    """
    if n < 0:
        raise BadInput("cohort: films", n, "0 or more")
    if seed < 0:
        raise BadInput("cohort: seed", seed, "0 or more")
    held = [_combination(c, "withheld") for c in withheld]
    thin = [(_combination(c, "thinned"), keep) for c, keep in thinned]
    for i, (combination, keep) in enumerate(thin):
        if not 0 <= keep <= 1:
            raise BadInput(f"cohort: thinned: keep of {' + '.join(sorted(combination))}", keep, "0 to 1")
        if combination in [c for c, _ in thin[:i]]:
            raise BadInput("cohort: thinned", " + ".join(sorted(combination)), "each combination once")
    tables = {split: weights(split, held, thin) for split in ("train", "validate", "test")}
    return _films(n=n, seed=seed, size=size, tables=tables, split_of=split_of, vocabulary=vocabulary)


def _combination(findings: Sequence[str], key: str) -> Combination:
    for finding in findings:
        if finding not in SHOWN:
            raise BadInput(f"cohort: {key}", finding, "one of " + ", ".join(sorted(SHOWN)))
    if not findings:
        raise BadInput(f"cohort: {key}", list(findings), "at least one finding a combination")
    return frozenset(findings)


def _films(*, n: int, seed: int, size: int, tables: dict[str, tuple[list[Combination], np.ndarray]],
           split_of: Callable[[str], str], vocabulary: Vocabulary) -> Iterator[FilmSpec]:
    made = number = 0
    while made < n:
        own = seed_from("population", seed, number)
        name = f"sim{seed}-{number:06d}"
        split = split_of(name)
        if split not in tables:
            raise BadInput(f"split of {name}", split, "train, validate or test")
        for spec in _patient(name, own, size=size, split=split, table=tables[split], vocabulary=vocabulary):
            if made == n:
                return
            yield spec
            made += 1
        number += 1


def _patient(name: str, own: int, *, size: int, split: str, table: tuple[list[Combination], np.ndarray],
             vocabulary: Vocabulary) -> Iterator[FilmSpec]:
    """All films of one patient; a pure function of its arguments, `own` being the patient's seed."""
    names, share = table
    rng = np.random.default_rng(own)
    person, implants = draw_patient(own), draw_implants(seed_from("implants", own))
    placed: tuple[Placed, ...] = ()
    patient, needs, devices = person, draw_needs(seed_from("needs", own)), implants
    days, prior = 0, None
    for k in range(int(rng.choice(len(FILMS_SHARES), p=FILMS_SHARES)) + 1):
        if k:
            gap = int(np.clip(round(rng.lognormal(np.log(MEDIAN_DAYS), SPREAD_DAYS)), 1, MOST_DAYS))
            patient = _later(person, patient, days=gap, seed=seed_from("follow-up", own, k))
            needs = later_needs(needs, devices, days=gap, seed=seed_from("needs", own, k))
            days += gap
        if k and rng.random() < KEPT_SHARE:
            placed = tuple(_changed(p, rng) for p in placed)
        else:
            stays = tuple(_changed(p, rng) for p in placed if p.finding in CHRONIC)
            chronic = frozenset(p.finding for p in stays)
            like = share if k == 0 else share * [c & CHRONIC == chronic for c in names]
            shown = names[int(rng.choice(len(names), p=like / like.sum()))]
            new = tuple(_place(f, vocabulary, rng) for f in sorted(shown - chronic))
            placed = tuple(sorted(stays + new, key=lambda p: p.finding))
        devices = implants + draw_devices(patient, placed, needs)
        truth = truth_of(patient, placed, size=size, noise_seed=seed_from("noise", own, k), devices=devices)
        yield FilmSpec(record=f"{name}_{k:03d}", patient=name, split=split, sex=patient.sex, age=patient.age,
                       view=patient.view, study=k + 1, days=days, vector=vector_of(placed, devices, vocabulary),
                       truth=truth, prior=prior)
        prior = truth


def _later(person: Patient, last: Patient, *, days: int, seed: int) -> Patient:
    """The person before the detector `days` after the film `last`."""
    draws = (position(person, seed_from(seed, i)) for i in range(POSITIONS))
    first = next(draws)
    if np.random.default_rng(seed).random() >= math.exp(-days / SETTLED_DAYS):
        return first
    same = (last.view, last.supine)
    return next((p for p in (first, *draws) if (p.view, p.supine) == same), first)


def _place(finding: str, vocabulary: Vocabulary, rng: np.random.Generator) -> Placed:
    """Side, form, severity (most often moderate, never invisible) and place of one finding."""
    both, right, severity = rng.random(), rng.random(), 0.25 + 0.75 * rng.beta(2.0, 2.2)
    rarer, seed = rng.random(), int(rng.integers(2**62))
    if not vocabulary[finding].sided or both < BOTH_SHARE.get(finding, 0.15):
        side = "both"
    else:
        side = "right" if right < RIGHT_SHARE else "left"
    form = ""
    if finding in RARE_FORMS:
        rare, share, common = RARE_FORMS[finding]
        form = rare if rarer < share and not (finding == "atelectasis" and side == "both") else common
    if form == "tension":
        severity = TENSION_LEAST + (1 - TENSION_LEAST) * severity
    return Placed(finding=finding, side=side, severity=round(float(severity), 4), seed=seed, form=form)


def _changed(placed: Placed, rng: np.random.Generator) -> Placed:
    """The same finding on a later film: same side, place and form, another severity."""
    least = TENSION_LEAST if placed.form == "tension" else LEAST
    change = CHRONIC_CHANGE if placed.finding in CHRONIC else CHANGE
    severity = np.clip(placed.severity + rng.uniform(-change, change), least, 1)
    return replace(placed, severity=round(float(severity), 4))


def vector_of(placed: tuple[Placed, ...], devices: tuple[Device, ...], vocabulary: Vocabulary) -> Vector:
    """What a film with these findings and devices shows: all that can be drawn is stated, present or absent."""
    present = vocabulary.mask([p.finding for p in placed] + ["support_devices"] * bool(devices))
    stated = vocabulary.mask([*sorted(SHOWN), "support_devices"])
    return close_upwards(Vector(present=present, absent=stated & ~present), vocabulary)
