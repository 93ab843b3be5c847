"""Without these, a build could make films that cannot be, or that a clinician ruled out, or refuse those that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage import plausible as module
from cars_core.coverage.plausible import Plausibility, held_apart, impossible, training_plausibility
from cars_core.coverage.reference import load_reference
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps, Plausible

VOCABULARY = load_vocabulary()
NONE = np.zeros(0, np.int64)

# child -> parent -> grandparent, a second child of parent, two that exclude each other, each above another.
SMALL = Vocabulary((
    Finding("child", 0, {}, ("parent",), False, True), Finding("parent", 1, {}, ("grand",), False, True),
    Finding("grand", 2, {}, (), False, True), Finding("other", 3, {}, ("parent",), False, True),
    Finding("left_out", 4, {}, (), False, True, excludes=("base",)), Finding("base", 5, {}, (), False, True),
    Finding("on_base", 6, {}, ("base",), False, True), Finding("free", 7, {}, (), False, True),
    Finding("on_left", 8, {}, ("left_out",), False, True)), {})
UP = {"child": {"parent", "grand"}, "other": {"parent", "grand"}, "parent": {"grand"}, "on_base": {"base"},
      "on_left": {"left_out"}}
NAMES = [f.name for f in SMALL.findings]
names_lists = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)
sets_of_names = st.lists(st.sets(st.sampled_from(NAMES)), max_size=6)


def masks(sets: list[set[str]], vocabulary: Vocabulary = SMALL) -> np.ndarray:
    return np.array([vocabulary.mask(sorted(s)) for s in sets], np.int64)


def closed(names: set[str]) -> set[str]:
    return names.union(*(UP.get(n, set()) for n in names))


def excluded(names: set[str]) -> bool:
    return {"left_out", "base"} <= closed(names)


def plausibility(real: list[set[str]], **settings: object) -> Plausibility:
    return Plausibility(Plausible.model_validate({"reference": None, **settings}), real=masks(real), vocabulary=SMALL)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("reference") / "published.csv"
    path.write_text("findings,films\nchild|free,4\nbase,2\n,9\n")
    return str(path)


PUBLISHED = [{"child", "free"}, {"base"}, set[str]()]


@given(real=sets_of_names, allow=st.lists(names_lists, max_size=2), deny=st.lists(names_lists, max_size=2),
       rule=st.sampled_from(["seen", "any"]), referred=st.booleans(), asked=sets_of_names)
@settings(max_examples=200, deadline=None)
def test_films_and_gaps_are_judged_as_a_loop_over_sets_of_names_judges_them(
        reference: str, real: list[set[str]], allow: list[list[str]], deny: list[list[str]], rule: str,
        referred: bool, asked: list[set[str]]) -> None:
    given_ = {"rule": rule, "reference": reference if referred else None, "allow": allow, "deny": deny}
    if any(set(d) <= closed(set(a)) for a in allow for d in deny):
        with pytest.raises(ValueError, match="allow"):
            plausibility(real, **given_)
        return
    found = plausibility(real, **given_)
    seen = [closed(s) for s in [*real, *(PUBLISHED if referred else []), *map(set, allow), set[str]()]]
    denied = {n: any(set(d) <= closed(s) for d in deny) for n, s in enumerate(asked)}
    unseen = {n: rule == "seen" and not any(closed(s) <= other for other in seen) for n, s in enumerate(asked)}
    fine = [not (denied[n] or unseen[n] or excluded(s)) for n, s in enumerate(asked)]
    assert found.films(masks(asked)).tolist() == fine
    for n, s in enumerate(asked):
        own = s - set().union(*(UP.get(name, set()) for name in s))  # without what the others imply
        why = found.why_not(SMALL.mask(sorted(own)))
        assert (why is None) == fine[n]
        if why is not None:
            start = "the vocabulary excludes" if excluded(s) else "denied: " if denied[n] else "never seen on a real"
            assert why.startswith(start)


@given(gap=st.sets(st.sampled_from(NAMES)), without=st.sets(st.sampled_from(NAMES)))
@settings(max_examples=200, deadline=None)
def test_the_vocabulary_rules_out_exactly_what_no_closed_set_of_findings_shows(
        gap: set[str], without: set[str]) -> None:
    reason = impossible(SMALL.mask(sorted(gap)), SMALL.mask(sorted(without)), vocabulary=SMALL)
    cannot = excluded(gap) or bool(closed(gap) & without)
    said_twice = any(UP.get(n, set()) & gap for n in gap) or any(UP.get(n, set()) & without for n in without)
    assert (reason is not None) == (cannot or said_twice)


@pytest.mark.parametrize(("gap", "without", "reason"), [
    (["mass", "effusion"], [], None),
    (["mass"], ["lung_lesion"], "mass implies lung_lesion"),
    (["mass", "lung_lesion"], [], "mass implies lung_lesion"),
    ([], ["mass", "lung_lesion"], "without lung_lesion there is no mass"),
    (["mass"], ["mass"], "mass is either present or absent"),
    (["lung_lesion"], ["mass", "nodule"], None),
    ([], ["edema"], None)])
def test_reasons_are_in_words(gap: list[str], without: list[str], reason: str | None) -> None:
    pair = VOCABULARY.mask(gap), VOCABULARY.mask(without)
    assert impossible(*pair, vocabulary=VOCABULARY) == reason
    free = Plausibility(Plausible(rule="any"), real=NONE, vocabulary=VOCABULARY)
    assert free.exists(*pair) == reason == free.why_not(*pair)


def test_a_gap_never_seen_says_where_was_looked(reference: str) -> None:
    gap = SMALL.mask(["other", "base"])
    assert plausibility([]).why_not(gap) == (
        "never seen on a real film: other + base (no training film shows it)")
    assert plausibility([], reference=reference).why_not(SMALL.mask(["child", "base"])) == (
        "never seen on a real film: child + base (neither a training film nor one of published.csv shows it)")
    assert plausibility([], reference=reference).why_not(gap) == (
        "never seen on a real film: other + base (no training film shows it, and published.csv says nothing of other)")


def test_reasons_do_not_tell_where_a_reference_lies(reference: str) -> None:
    why = plausibility([], reference=reference).why_not(SMALL.mask(["other", "base"]))
    assert why is not None and str(Path(reference).parent) not in why


def test_training_films_prove_what_the_reference_does_not_know(reference: str) -> None:
    found = plausibility([{"other", "base", "free"}], reference=reference)
    assert found.why_not(SMALL.mask(["other", "base"])) is None
    assert found.films(masks([{"other", "base"}, {"other", "child"}])).tolist() == [True, False]


def test_absent_findings_need_no_real_film() -> None:
    found = plausibility([{"child", "free"}])
    assert found.why_not(SMALL.mask(["child"]), SMALL.mask(["free", "base", "other"])) is None


def test_a_combination_denied_by_what_it_implies_is_refused_in_the_denials_words() -> None:
    found = plausibility([{"child", "free"}], deny=[["free", "parent", "free"]])
    assert found.why_not(SMALL.mask(["child", "free"])) == "denied: free + parent"
    assert found.films(masks([{"child", "free"}, {"child"}])).tolist() == [False, True]


def test_an_allowed_combination_may_be_made_in_part_but_not_with_more() -> None:
    found = plausibility([], allow=[["child", "free"]])
    asked = masks([{"child", "free"}, {"parent", "free"}, {"free"}, {"child", "free", "base"}])
    assert found.films(asked).tolist() == [True, True, True, False]


def test_a_contradiction_hidden_by_the_hierarchy_is_refused() -> None:
    with pytest.raises(BadInput, match=r"mass \+ effusion.*lung_lesion \+ effusion"):
        Plausibility(Plausible(allow=[["mass", "effusion"]], deny=[["lung_lesion", "effusion"]]), real=NONE,
                     vocabulary=VOCABULARY)
    # The other way round they agree: a lung lesion beside an effusion need be no mass.
    Plausibility(Plausible(allow=[["lung_lesion", "effusion"]], deny=[["mass", "effusion"]]), real=NONE,
                 vocabulary=VOCABULARY)


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_a_name_the_vocabulary_lacks_is_refused(key: str) -> None:
    with pytest.raises(BadInput, match="cavitation"):
        Plausibility(Plausible.model_validate({key: [["mass", "cavitation"]]}), real=NONE, vocabulary=VOCABULARY)


def test_a_reference_that_is_not_there_is_refused_unless_nothing_asks_for_it() -> None:
    with pytest.raises(BadInput, match="reference"):
        Plausibility(Plausible(reference="absent.csv"), real=NONE, vocabulary=VOCABULARY)
    Plausibility(Plausible(rule="any", reference="absent.csv"), real=NONE, vocabulary=VOCABULARY)


def test_a_film_without_findings_is_always_possible() -> None:
    assert plausibility([]).films(np.array([0, 0], np.int64)).tolist() == [True, True]
    assert plausibility([]).why_not(0, SMALL.mask(["free"])) is None


def test_no_film_gives_no_verdict() -> None:
    assert plausibility([{"free"}]).films(NONE).shape == (0,)


def test_every_published_film_stays_possible_and_stranger_ones_do_not() -> None:
    reference = load_reference("nih", vocabulary=VOCABULARY)
    found = Plausibility(Plausible(), real=NONE, vocabulary=VOCABULARY)
    assert found.films(reference.masks).all()
    labels = [f.bit for f in VOCABULARY.label_set("nih").values()]
    rng = np.random.default_rng(3)
    asked = np.zeros(4000, np.int64)
    for _ in range(4):
        asked |= np.int64(1) << rng.choice(labels, len(asked))
    expected = [any(a & ~m == 0 for m in reference.masks.tolist()) for a in asked.tolist()]
    assert found.films(asked).tolist() == expected and 0 < sum(expected) < len(expected)
    assert [found.why_not(a) is None for a in asked.tolist()] == expected


def test_many_real_sets_and_films_are_judged_alike_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    free = Vocabulary(tuple(Finding(f"f{i}", i, {}, (), False, True) for i in range(62)), {})

    def draw(n: int, k: int) -> np.ndarray:
        out = np.zeros(n, np.int64)
        for _ in range(k):
            out |= np.int64(1) << rng.integers(0, 62, n)
        return out

    real, asked = draw(700, 9), draw(900, 2)
    asked[0] = (1 << 62) - 1
    found = Plausibility(Plausible(reference=None), real=real, vocabulary=free)
    expected = [any(a & ~m == 0 for m in real.tolist()) for a in asked.tolist()]
    assert found.films(asked).tolist() == expected and 0 < sum(expected) < len(expected)
    monkeypatch.setattr(module, "_CHUNK_WORDS", 64)
    assert found.films(asked).tolist() == expected


def test_a_pacemaker_does_not_stand_in_the_way_of_findings_it_says_nothing_of() -> None:
    """No reference knows of devices: without this no film with one could be edited at all."""
    device, wanted = VOCABULARY.mask(["support_devices"]), VOCABULARY.mask(["effusion", "nodule"])
    either = Plausibility(Plausible(), real=np.array([device]), vocabulary=VOCABULARY)
    judged = Plausibility(Plausible(), real=np.array([device]), vocabulary=VOCABULARY,
                          findings=["effusion", "nodule", "fracture"])
    strange = VOCABULARY.mask(["fracture", "effusion"])
    assert either.films(np.array([wanted, wanted | device])).tolist() == [True, False]
    assert judged.films(np.array([wanted, wanted | device, strange | device])).tolist() == [True, True, False]


def test_an_uncertain_finding_speaks_for_a_combination_where_the_policy_counts_it() -> None:
    mass, edema = VOCABULARY.mask(["mass"]), VOCABULARY.mask(["edema"])
    films = pa.table({"present": [mass], "uncertain": [edema], "source": ["phantom"]})
    for policy, seen in (("absent", False), ("ignore", False), ("present", True)):
        settings = Gaps(findings=["mass", "edema"], uncertain=policy, plausible=Plausible(reference=None))
        found = training_plausibility(films, settings, vocabulary=VOCABULARY)
        assert found.films(np.array([mass | edema])).tolist() == [seen]


def test_a_table_that_counts_held_out_patients_does_not_say_what_is_seen() -> None:
    """Else the labels of this cohort's validation and test films would decide which edits are planned."""
    rare = VOCABULARY.mask(["cardiomegaly", "emphysema", "fibrosis"])
    settings = Gaps(findings=["cardiomegaly", "emphysema", "fibrosis"])
    for source, seen in (("phantom", True), ("mimic", True), ("nih", False)):
        films = pa.table({"present": [0], "uncertain": [0], "source": [source]})
        assert training_plausibility(films, settings, vocabulary=VOCABULARY).films(np.array([rare])).tolist() == [seen]
    assert held_apart(Plausible(reference="own.csv"), ["nih"]).reference == "own.csv"
