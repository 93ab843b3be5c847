"""The simulated cohort: its gaps must be those of a real one, and training must not see what is withheld."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cars_core.phantom import population
from cars_core.phantom.film import SHOWN, render_truth
from cars_core.phantom.population import NORMAL_SHARE, RAISED_SHARE, FilmSpec, combinations, films
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open"
HELD = ["cardiomegaly", "effusion"]


def split_of(patient: str) -> str:
    return ("train", "train", "train", "validate", "test")[int(patient.rsplit("-", 1)[1]) % 5]


def draw(n: int, *, withheld: list[list[str]] | None = None, seed: int = 4) -> list[FilmSpec]:
    return list(films(n=n, seed=seed, size=64, withheld=withheld or [], split_of=split_of, vocabulary=V))


def test_the_table_counts_what_the_label_file_says() -> None:
    source = REAL / "labels" / "Data_Entry_2017_v2020.csv.gz"
    if not source.exists():
        pytest.skip("the NIH label table is not beside this checkout (../shared/data/cxr-open)")
    names = {f.aliases["nih"]: f.name for f in V.findings if "nih" in f.aliases}
    counted: Counter[frozenset[str]] = Counter()
    with gzip.open(source, "rt", newline="") as f:
        for row in csv.DictReader(f):
            found = {names[x] for x in row["Finding Labels"].split("|") if x != "No Finding"}
            counted[frozenset(found) & SHOWN] += 1
    assert combinations() == dict(counted)


def test_restricting_the_table_loses_no_film() -> None:
    assert sum(combinations().values()) == 112_120
    assert sum(combinations(frozenset({"effusion"})).values()) == 112_120
    assert combinations(frozenset({"effusion"}))[frozenset({"effusion"})] == 13_317  # of the NIH table


def test_a_cohort_is_a_prefix_of_a_larger_one_and_of_nothing_else() -> None:
    small, large = draw(30), draw(80)
    assert small == large[:30]
    assert draw(30, seed=5) != small
    assert len({f.record for f in large}) == 80


def test_patients_have_about_one_and_a_half_films_and_one_body() -> None:
    cohort = draw(600)
    per = Counter(f.patient for f in cohort)
    assert len(cohort) == 600
    assert 1.25 < 600 / len(per) < 1.55
    for _, own in itertools.groupby(cohort, key=lambda f: f.patient):
        assert len({(f.sex, f.age) for f in own}) == 1
    assert {f.view for f in cohort} == {"PA", "AP"}


def test_normal_films_are_a_third_and_every_finding_can_be_learnt_from_600() -> None:
    cohort = draw(600)
    seen = Counter(name for f in cohort for name in V.unpack(f.vector.present))
    normal = sum(f.vector.present == 0 for f in cohort) / 600
    assert 0.29 <= normal <= 0.41  # 0.35 with three standard errors
    assert min(seen[name] for name in SHOWN) >= 25, seen


def test_findings_go_together_as_in_the_nih_table() -> None:
    """Tempering moves how often a combination is seen, not which pairs go together: rank correlation of lifts."""
    cohort = draw(4000)
    counts = combinations()
    total = sum(counts.values())

    def lift(sets: list[tuple[frozenset[str], float]], a: str, b: str) -> float:
        whole = sum(n for _, n in sets)
        share = [sum(n for s, n in sets if k <= s) / whole for k in ({a}, {b}, {a, b})]
        return share[2] / (share[0] * share[1])

    ours = [(frozenset(V.unpack(f.vector.present)) & SHOWN, 1.0) for f in cohort if f.vector.present]
    nih = [(s, n / total) for s, n in counts.items() if s]
    pairs = list(itertools.combinations(sorted(SHOWN), 2))
    x = [lift(ours, a, b) for a, b in pairs]
    y = [lift(nih, a, b) for a, b in pairs]
    rank = [np.argsort(np.argsort(v)) for v in (x, y)]
    assert np.corrcoef(rank)[0, 1] > 0.6


def test_a_withheld_combination_is_never_seen_in_training_and_often_in_the_test() -> None:
    mask = V.mask(HELD)
    cohort = draw(1500, withheld=[HELD])
    carries = {s: [f.vector.present & mask == mask for f in cohort if split_of(f.patient) == s]
               for s in ("train", "validate", "test")}
    assert not any(carries["train"])
    assert abs(np.mean(carries["test"]) - RAISED_SHARE) < 0.08
    single = [f for f in cohort if split_of(f.patient) == "train" and f.vector.present & V.mask(["effusion"])]
    assert len(single) > 50  # only the combination is withheld, not its findings
    normal = np.mean([f.vector.present == 0 for f in cohort if split_of(f.patient) == "test"])
    assert abs(normal - NORMAL_SHARE) < 0.09


def test_a_combination_nih_never_saw_can_be_withheld_too() -> None:
    rare = sorted(SHOWN)
    cohort = draw(300, withheld=[rare])
    assert any(f.vector.present & V.mask(rare) == V.mask(rare) for f in cohort if split_of(f.patient) == "test")


def test_the_vector_says_what_the_film_shows_and_is_silent_on_what_the_phantom_lacks() -> None:
    for f in draw(25):
        shown = set(render_truth(f.truth).finding_masks)
        assert {n for n in SHOWN if f.vector.state(V[n].bit) == "present"} == shown
        assert all(f.vector.state(V[n].bit) == "absent" for n in SHOWN - shown)
        for name in ("hernia", "fracture", "support_devices"):
            assert f.vector.state(V[name].bit) == "unmentioned"
        if shown & {"mass", "nodule"}:
            assert f.vector.state(V["lung_lesion"].bit) == "present"


@pytest.mark.parametrize(("withheld", "says"), [([["hernia"]], "hernia"), ([[]], "at least one")])
def test_a_combination_that_cannot_be_withheld_is_named(withheld: list[list[str]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        draw(3, withheld=withheld)


def test_withholding_every_finding_leaves_nothing_to_draw() -> None:
    with pytest.raises(BadInput, match="leave a finding"):
        draw(3, withheld=[[name] for name in SHOWN])


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(BadInput, match="holdout"):
        next(films(n=1, seed=0, size=64, withheld=[], split_of=lambda p: "holdout", vocabulary=V))


def test_a_broken_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "table.csv"
    bad.write_text("findings,films\nmass,many\n")
    monkeypatch.setattr(population, "COMBINATIONS", bad)
    combinations.cache_clear()
    with pytest.raises(BadInput, match=r"table\.csv"):
        combinations()
    combinations.cache_clear()
