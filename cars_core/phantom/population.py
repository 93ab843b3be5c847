"""A cohort of simulated patients whose findings go together as they do in a real cohort.

Combinations come from `nih_combinations.csv`: counts over NIH ChestX-ray14, restricted to the findings the
phantom draws (other labels are dropped and the counts of equal remainders added). As in the NIH table
more than half of the films would be normal and many combinations would be missing from a few hundred
films; so counts are tempered, weight = films ** TEMPER, and normal films get a fixed share NORMAL_SHARE.
A withheld combination is one that training must never see and the test is to ask for: patients of the split
`train` never carry it, and RAISED_SHARE of the films of `test` do.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cars_core.digest import seed_from
from cars_core.phantom.film import SHOWN, truth_of
from cars_core.phantom.findings import Placed
from cars_core.phantom.patient import draw_patient, position
from cars_core.vectors import Vector, close_upwards
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

COMBINATIONS = Path(__file__).resolve().parent / "nih_combinations.csv"

TEMPER = 0.6
NORMAL_SHARE = 0.35
RAISED_SHARE = 0.25
#: Films of a patient: 1, 2, 3, 4; the mean is 1.40.
FILMS_SHARES = (0.72, 0.19, 0.06, 0.03)

#: How often a sided finding lies on both sides (about as often as effusions are reported bilateral on
#: portable films); the rest is shared 53 : 47 between the right and the left. Lesions are single.
BOTH_SHARE = {"effusion": 0.30, "infiltration": 0.30, "atelectasis": 0.20, "consolidation": 0.15,
              "pneumonia": 0.15, "pleural_thickening": 0.15, "fibrosis": 0.40, "mass": 0.0, "nodule": 0.0,
              "pneumothorax": 0.0}
RIGHT_SHARE = 0.53

Combination = frozenset[str]


@dataclass(frozen=True)
class FilmSpec:
    """One film of the cohort: identifiers, what its label file would say, and the truth that renders it."""

    record: str
    patient: str
    sex: str
    age: int
    view: str
    vector: Vector
    truth: str


@lru_cache(maxsize=4)
def combinations(shown: Combination = SHOWN) -> dict[Combination, int]:
    """NIH films per combination of the findings in `shown`; the empty combination is included.

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
    return dict(out)


def weights(split: str, withheld: list[Combination]) -> tuple[list[Combination], np.ndarray]:
    """Combinations a film of `split` may show and the probability of each, float64, sum 1."""
    counts = dict(combinations())
    for w in withheld:
        counts.setdefault(w, 1)
    names = sorted(counts, key=lambda c: (len(c), sorted(c)))
    share = np.array([counts[c] ** TEMPER if c else 0.0 for c in names])
    held = np.array([any(w <= c for w in withheld) for c in names])
    if split == "train":
        share[held] = 0
    elif split == "test" and held.any():
        share[held] *= RAISED_SHARE / share[held].sum()
        free = ~held & (share > 0)
        share[free] *= (1 - NORMAL_SHARE - RAISED_SHARE) / max(share[free].sum(), 1e-12)
    if not share.any():
        raise BadInput("cohort: withheld", [sorted(w) for w in withheld], "combinations that leave a finding to draw")
    share *= (1 - NORMAL_SHARE) / share.sum()
    share[names.index(frozenset())] = NORMAL_SHARE
    return names, share


def films(*, n: int, seed: int, size: int, withheld: list[list[str]], split_of: Callable[[str], str],
          vocabulary: Vocabulary) -> Iterator[FilmSpec]:
    """Yield `n` films, patient by patient, the first k the same for every n >= k.

    Args:
        n: films.
        seed: of the whole cohort.
        size: side of a film in pixels.
        withheld: combinations kept from training patients, as lists of findings.
        split_of: patient -> train | validate | test.
        vocabulary: gives the vector its bits. A vector states every finding the phantom draws, present or
            absent, and what follows upwards from those present; it says nothing of other findings.

    Raises:
        BadInput: a withheld finding the phantom cannot draw, an empty combination, n or seed below 0.
    """
    if n < 0:
        raise BadInput("cohort: films", n, "0 or more")
    held = []
    for combination in withheld:
        for finding in combination:
            if finding not in SHOWN:
                raise BadInput("cohort: withheld", finding, "one of " + ", ".join(sorted(SHOWN)))
        if not combination:
            raise BadInput("cohort: withheld", combination, "at least one finding a combination")
        held.append(frozenset(combination))
    tables = {split: weights(split, held) for split in ("train", "validate", "test")}
    return _films(n=n, seed=seed, size=size, tables=tables, split_of=split_of, vocabulary=vocabulary)


def _films(*, n: int, seed: int, size: int, tables: dict[str, tuple[list[Combination], np.ndarray]],
           split_of: Callable[[str], str], vocabulary: Vocabulary) -> Iterator[FilmSpec]:
    made = number = 0
    while made < n:
        own = seed_from("population", seed, number)
        name = f"sim{seed}-{number:06d}"
        split = split_of(name)
        if split not in tables:
            raise BadInput(f"split of {name}", split, "train, validate or test")
        names, share = tables[split]
        rng = np.random.default_rng(own)
        person = draw_patient(own)
        for k in range(min(int(rng.choice(len(FILMS_SHARES), p=FILMS_SHARES)) + 1, n - made)):
            shown = names[int(rng.choice(len(names), p=share))]
            patient = person if k == 0 else position(person, seed_from("follow-up", own, k))
            placed = tuple(_place(f, vocabulary, rng) for f in sorted(shown))
            yield FilmSpec(
                record=f"{name}_{k:03d}", patient=name, sex=patient.sex, age=patient.age, view=patient.view,
                vector=_vector(shown, vocabulary),
                truth=truth_of(patient, placed, size=size, noise_seed=seed_from("noise", own, k)))
            made += 1
        number += 1


def _place(finding: str, vocabulary: Vocabulary, rng: np.random.Generator) -> Placed:
    """Side, severity (most often moderate, never invisible) and place of one finding."""
    both, right, severity = rng.random(), rng.random(), 0.25 + 0.75 * rng.beta(2.0, 2.2)
    seed = int(rng.integers(2**62))
    if not vocabulary[finding].sided or both < BOTH_SHARE.get(finding, 0.15):
        side = "both"
    else:
        side = "right" if right < RIGHT_SHARE else "left"
    return Placed(finding=finding, side=side, severity=round(float(severity), 4), seed=seed)


def _vector(shown: Combination, vocabulary: Vocabulary) -> Vector:
    present = vocabulary.mask(sorted(shown))
    return close_upwards(Vector(present=present, absent=vocabulary.mask(sorted(SHOWN)) & ~present), vocabulary)
