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
from cars_core.phantom.placed import SHOWN
from cars_core.phantom.population import (
    CHRONIC,
    KEPT_SHARE,
    MEDIAN_DAYS,
    NORMAL_SHARE,
    RAISED_SHARE,
    SETTLED_DAYS,
    FilmSpec,
    combinations,
    films,
    weights,
)
from cars_core.phantom.truth import Truth, read_truth, render_truth
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open"
HELD = ["cardiomegaly", "effusion"]
DISEASE = V.mask(sorted(SHOWN))


def split_of(patient: str) -> str:
    return ("train", "train", "train", "validate", "test")[int(patient.rsplit("-", 1)[1]) % 5]


def draw(n: int, *, withheld: list[list[str]] | None = None, seed: int = 4,
         thinned: list[tuple[list[str], float]] | None = None) -> list[FilmSpec]:
    return list(films(n=n, seed=seed, size=64, withheld=withheld or [], split_of=split_of, vocabulary=V,
                      thinned=thinned or []))


@pytest.fixture(scope="module")
def large() -> list[tuple[FilmSpec, Truth]]:
    return [(f, read_truth(f.truth)) for f in draw(6000)]


def test_the_table_counts_what_the_label_file_says() -> None:
    source = REAL / "labels" / "Data_Entry_2017_v2020.csv.gz"
    if not source.exists():
        pytest.skip("the NIH label table is not beside this checkout (../shared/data/cxr-open)")
    names = {label: f.name for label, f in V.label_set("nih").items()}
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
    normal = sum(f.vector.present & DISEASE == 0 for f in cohort) / 600
    assert 0.29 <= normal <= 0.41  # 0.35 with three standard errors
    rare = {"fracture", "hernia"}  # 2 % by design, 0.2 % of the NIH films
    assert min(seen[name] for name in SHOWN - rare) >= 25, seen
    assert min(seen[name] for name in rare) >= 4, seen


def test_findings_go_together_as_in_the_nih_table() -> None:
    """Tempering moves how often a combination is seen, not which pairs go together: rank correlation of lifts."""
    cohort = draw(4000)
    counts = combinations()
    total = sum(counts.values())

    def lift(sets: list[tuple[frozenset[str], float]], a: str, b: str) -> float:
        whole = sum(n for _, n in sets)
        share = [sum(n for s, n in sets if k <= s) / whole for k in ({a}, {b}, {a, b})]
        return share[2] / (share[0] * share[1])

    ours = [(frozenset(V.unpack(f.vector.present)) & SHOWN, 1.0) for f in cohort if f.vector.present & DISEASE]
    nih = [(s, n / total) for s, n in counts.items() if s]
    pairs = list(itertools.combinations(sorted(SHOWN - {"fracture"}), 2))
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
    normal = np.mean([f.vector.present & DISEASE == 0 for f in cohort if split_of(f.patient) == "test"])
    assert abs(normal - NORMAL_SHARE) < 0.09


def test_a_combination_nih_never_saw_can_be_withheld_too() -> None:
    rare = sorted(SHOWN)
    cohort = draw(300, withheld=[rare])
    assert any(f.vector.present & V.mask(rare) == V.mask(rare) for f in cohort if split_of(f.patient) == "test")


def test_the_vector_says_what_the_film_shows_and_is_silent_on_what_the_phantom_lacks() -> None:
    for f in draw(25):
        shown = {name for name, mask in render_truth(f.truth).finding_masks.items() if mask.any()}
        assert {n for n in SHOWN if f.vector.state(V[n].bit) == "present"} == shown
        assert all(f.vector.state(V[n].bit) == "absent" for n in SHOWN - shown)
        assert f.vector.state(V["pneumonia"].bit) == "unmentioned"
        devices = "present" if read_truth(f.truth).devices else "absent"
        assert f.vector.state(V["support_devices"].bit) == devices
        if shown & {"mass", "nodule"}:
            assert f.vector.state(V["lung_lesion"].bit) == "present"


def near(count: int, n: int, share: float) -> bool:
    """A binomial count is within four standard errors of its share."""
    return abs(count - n * share) <= 4 * (n * share * (1 - share)) ** 0.5


def test_fractures_come_beside_anything_and_pneumonia_never(large: list[tuple[FilmSpec, Truth]]) -> None:
    shown = [{p.finding for p in t.placed} for _, t in large]
    assert near(sum("fracture" in s for s in shown), len(shown), 0.02)
    broken = [s for s in shown if "fracture" in s]
    assert near(sum(s == {"fracture"} for s in broken), len(broken), NORMAL_SHARE)  # it does not choose its company
    assert not any("pneumonia" in s for s in shown)


def test_a_follow_up_is_drawn_like_any_film(large: list[tuple[FilmSpec, Truth]]) -> None:
    """Repeating the film before must not make the cohort drift from the table."""
    names, share = weights("train", [])
    table = dict(zip(names, share, strict=True))
    second = [frozenset(p.finding for p in t.placed) for f, t in large if f.study == 2]
    assert len(second) > 1000
    for finding in SHOWN - {"hernia", "fracture"}:
        expected = sum(p for c, p in table.items() if finding in c)
        assert near(sum(finding in c for c in second), len(second), expected), finding
    assert near(sum(not c for c in second), len(second), table[frozenset()])


def test_a_follow_up_often_shows_the_same_findings_grown_or_shrunk(large: list[tuple[FilmSpec, Truth]]) -> None:
    repeats = pairs = 0
    for (before, old), (after, new) in itertools.pairwise(large):
        if after.patient != before.patient:
            assert (after.study, after.days, after.prior) == (1, 0, None)
            continue
        assert after.study == before.study + 1 and before.days < after.days <= 360
        assert after.prior == before.truth
        assert new.patient.seed == old.patient.seed and after.split == before.split
        lasting = [{(p.finding, p.side, p.seed) for p in t.placed if p.finding in CHRONIC} for t in (old, new)]
        assert lasting[0] == lasting[1]  # no mass is gone within days, and none comes
        for a, b in itertools.product(old.placed, new.placed):
            if a.seed == b.seed:
                assert (a.finding, a.side, a.form) == (b.finding, b.side, b.form)
                limit = 0.1 if a.finding in CHRONIC else 0.35
                assert abs(a.severity - b.severity) <= limit + 1e-4 and b.severity >= 0.15
        if any(p.finding not in CHRONIC for p in old.placed):
            pairs += 1
            repeats += {p.seed for p in old.placed} == {p.seed for p in new.placed}
    assert near(repeats, pairs, KEPT_SHARE)


def test_forms_come_as_often_as_stated(large: list[tuple[FilmSpec, Truth]]) -> None:
    placed = [p for _, t in large for p in t.placed]
    for finding, form, share in (("pneumothorax", "tension", 0.12), ("consolidation", "lobar", 0.35)):
        own = [p for p in placed if p.finding == finding]
        assert abs(sum(p.form == form for p in own) / len(own) - share) < 0.05
    lobar = [p for p in placed if p.form == "lobar" and p.finding == "atelectasis"]
    assert lobar and all(p.side != "both" for p in lobar)
    assert min(p.severity for p in placed if p.form == "tension") >= 0.7


def test_devices_are_those_of_the_bed_and_the_person(large: list[tuple[FilmSpec, Truth]]) -> None:
    def share(kind: str, view: str, supine: bool) -> float:
        own = [t for _, t in large if (t.patient.view, t.patient.supine) == (view, supine)]
        return sum(kind in {d.kind for d in t.devices} for t in own) / len(own)

    assert abs(share("endotracheal_tube", "AP", True) - 0.45) < 0.07
    assert abs(share("nasogastric_tube", "AP", True) - 0.40) < 0.07
    assert abs(share("central_line", "AP", True) - 0.50) < 0.07
    assert share("endotracheal_tube", "PA", False) == 0 < share("endotracheal_tube", "AP", False) < 0.15
    assert abs(share("central_line", "PA", False) - 0.05) < 0.02
    assert 0.01 < share("pacemaker", "PA", False) < 0.05
    for _, own in itertools.groupby(large, key=lambda x: x[0].patient):
        implants = {tuple(d for d in t.devices if d.kind in ("pacemaker", "sternal_wires")) for _, t in own}
        assert len(implants) == 1


def pairs(large: list[tuple[FilmSpec, Truth]]) -> list[tuple[int, Truth, Truth]]:
    """Days between a film and the patient's next, and their truths."""
    return [(b.days - a.days, x, y) for (a, x), (b, y) in itertools.pairwise(large) if a.patient == b.patient]


def where(t: Truth) -> tuple[str, bool]:
    return t.patient.view, t.patient.supine


def test_who_lay_in_bed_mostly_lies_there_days_later(large: list[tuple[FilmSpec, Truth]]) -> None:
    for view, alike in (("AP", 0.4), ("PA", 0.6)):
        stays = [(np.exp(-days / SETTLED_DAYS), y.patient.view == view)
                 for days, x, y in pairs(large) if x.patient.view == view]
        expected = sum(p + (1 - p) * alike for p, _ in stays)
        assert abs(sum(same for _, same in stays) - expected) < 4 * (len(stays) * 0.25) ** 0.5
        assert np.mean([same for p, same in stays if p >= np.exp(-MEDIAN_DAYS / SETTLED_DAYS)]) > 0.8
    later = [t for f, t in large if f.study > 1]
    for place, share in ((("PA", False), 0.60), (("AP", False), 0.24), (("AP", True), 0.16)):
        assert abs(np.mean([where(t) == place for t in later]) - share) < 0.06, place
    assert all(x.patient.look != y.patient.look for _, x, y in pairs(large))  # another film, not a copy


def test_tubes_stay_for_days_with_their_course(large: list[tuple[FilmSpec, Truth]]) -> None:
    for kind in ("endotracheal_tube", "nasogastric_tube", "central_line"):
        soon = [(x, y) for days, x, y in pairs(large) if days <= 2 and where(x) == where(y) == ("AP", True)]
        kept = [set(x.devices) & set(y.devices) for x, y in soon if kind in {d.kind for d in x.devices}]
        stays = [any(d.kind == kind for d in both) for both in kept]
        assert len(stays) >= 20 and 0.55 < np.mean(stays) < 1, kind
        late = [(x, y) for days, x, y in pairs(large) if days > 60]
        assert not any(d.kind == kind for x, y in late for d in set(x.devices) & set(y.devices))
    stood = [y for _, x, y in pairs(large) if where(x) == ("AP", True) and y.patient.view == "PA"]
    assert stood and not any(d.kind == "endotracheal_tube" for t in stood for d in t.devices)


def test_a_follow_up_has_the_tubes_of_its_position(large: list[tuple[FilmSpec, Truth]]) -> None:
    """Keeping tubes must not pile them up on later films."""
    supine = [t for f, t in large if f.study > 1 and where(t) == ("AP", True)]
    for kind, share in (("endotracheal_tube", 0.45), ("nasogastric_tube", 0.40), ("central_line", 0.50)):
        assert abs(np.mean([kind in {d.kind for d in t.devices} for t in supine]) - share) < 0.12, kind


def test_a_device_that_was_out_comes_back_as_another(large: list[tuple[FilmSpec, Truth]]) -> None:
    for _, own in itertools.groupby(large, key=lambda x: x[0].patient):
        shown = [set(t.devices) for _, t in own]
        for device in set().union(*shown):
            there = [k for k, devices in enumerate(shown) if device in devices]
            assert there == list(range(there[0], there[-1] + 1)), device


def test_a_drain_lies_where_there_is_something_to_drain(large: list[tuple[FilmSpec, Truth]]) -> None:
    drained = [(d, t) for _, t in large for d in t.devices if d.kind == "chest_drain"]
    assert len(drained) > 50
    for drain, t in drained:
        assert any(p.finding in ("pneumothorax", "effusion") and p.side in (drain.side, "both") for p in t.placed)
        assert not any(p.form == "tension" for p in t.placed)


def test_a_thinned_combination_is_rarer_in_training_and_nowhere_else() -> None:
    names, before = weights("train", [])
    _, after = weights("train", [], [(frozenset(HELD), 0.1)])
    holds = np.array([frozenset(HELD) <= c for c in names])
    odds = [w[holds].sum() / w[np.array([bool(c) for c in names]) & ~holds].sum() for w in (before, after)]
    assert odds[1] == pytest.approx(0.1 * odds[0])
    for split in ("validate", "test"):
        np.testing.assert_array_equal(weights(split, [])[1], weights(split, [], [(frozenset(HELD), 0.1)])[1])
    mask = V.mask(["effusion"])
    thin, full = (sum(f.vector.present & mask != 0 for f in draw(600, thinned=t) if split_of(f.patient) == "train")
                  for t in ([(["effusion"], 0.1)], []))
    assert 0 < thin < 0.35 * full


def test_what_is_withheld_stays_so_when_it_is_thinned_too() -> None:
    names, share = weights("train", [frozenset(HELD)], [(frozenset(["effusion"]), 0.5)])
    assert share[[frozenset(HELD) <= c for c in names]].sum() == 0


@pytest.mark.parametrize(("thinned", "says"), [
    ([(["pneumonia"], 0.1)], "pneumonia.*one of"),
    ([([], 0.1)], "at least one"),
    ([(["mass"], 1.5)], "keep of mass: got 1.5; expected 0 to 1"),
    ([(["mass"], float("nan"))], "0 to 1"),
    ([(["mass", "edema"], 0.1), (["edema", "mass"], 0.2)], "edema . mass; expected each combination once"),
])
def test_thinning_that_cannot_be_is_named(thinned: list[tuple[list[str], float]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        draw(3, thinned=thinned)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_a_negative_count_or_seed_is_refused(n: int, seed: int) -> None:
    with pytest.raises(BadInput, match="expected 0 or more"):
        draw(n, seed=seed)


@pytest.mark.parametrize(("withheld", "says"), [([["pneumonia"]], "pneumonia"), ([[]], "at least one")])
def test_a_combination_that_cannot_be_withheld_is_named(withheld: list[list[str]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        draw(3, withheld=withheld)


ALL = sorted(SHOWN)


@pytest.mark.parametrize(("withheld", "thinned", "key"), [
    (ALL, [], "withheld"), ([], ALL, "thinned"), (ALL[:7], ALL[7:], "thinned and withheld"),
    (ALL, ["mass"], "withheld"), (["mass"], ALL, "thinned")])
def test_leaving_nothing_to_draw_is_blamed_on_the_key_that_did_it(withheld: list[str], thinned: list[str],
                                                                  key: str) -> None:
    with pytest.raises(BadInput, match=f"cohort: {key}: got .*leave a finding") as caught:
        draw(3, withheld=[[name] for name in withheld], thinned=[([name], 0.0) for name in thinned])
    assert all(name in str(caught.value) for name in (withheld if key == "withheld" else thinned))


def test_nobody_can_write_in_the_table_that_all_share() -> None:
    with pytest.raises(TypeError):
        combinations()[frozenset()] = 0  # type: ignore[index]


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
