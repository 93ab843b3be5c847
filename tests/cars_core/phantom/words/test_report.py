"""Reports: what they are said to state must be what a reader finds in them, and true of the film.

The reader here knows words for findings, denials, doubt, sides and change, and nothing of how reports are written.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.body.thorax import build
from cars_core.phantom.devices.courses import Landmarks
from cars_core.phantom.devices.draw import draw
from cars_core.phantom.film import render
from cars_core.phantom.placed import DEVICES, FORMS, SHOWN, UNSIDED, Device, Placed
from cars_core.phantom.words.phrases import how_it_lies
from cars_core.phantom.words.report import write_report
from cars_core.phantom.words.statements import Report, Statement
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
SECTIONS = ("EXAMINATION", "INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION")

NAMES = {
    "atelectasis": r"atelectasis|collapse", "cardiomegaly": r"cardiomegaly|heart|cardiac (silhouette|enlargement)",
    "effusion": r"effusions?|hydropneumothora", "infiltration": r"infiltrates?", "mass": r"mass(es)?\b",
    "nodule": r"nodules?", "pneumonia": r"pneumonia", "pneumothorax": r"pneumothora",
    "consolidation": r"consolidation", "edema": r"edema", "emphysema": r"emphysema", "fibrosis": r"fibrosis|fibrotic",
    "pleural_thickening": r"pleural thickening|thickening of the (apical )?pleura", "hernia": r"hernia",
    "fracture": r"fractures?", "lung_opacity": r"opacity|\bclear\b", "enlarged_cardiomediastinum": r"cardiomediastinal",
    "support_devices": r"tubes?\b|\blines?\b|catheter|wires|drain|pacemaker",
}
#: Looks like a denial and is none.
PSEUDO = r"no (significant )?change|not significantly changed|without change|not included"
DENIAL = (r"\bno\b|\bnot\b|without|negative for|neither|resolved|resolution|normal|unremarkable|clear\b|no longer|"
          r"removed|removal")
DOUBT = (r"possibl|\bmay\b|cannot be excluded|not excluded|suspicious|question of|could|concerning|versus|borderline")
TRENDS = {"new": r"\bnew\b|development", "increased": r"increase|worsen", "decreased": r"decrease|improv",
          "unchanged": r"unchanged|no (significant |)change|not significantly changed|stable|without change|"
                       r"no change"}


def has(words: str, text: str) -> bool:
    return re.search(words, text, re.I) is not None


def section(text: str, name: str) -> str:
    after = "|".join(SECTIONS[SECTIONS.index(name) + 1:]) or "$^"
    found = re.search(rf"^{name}:(.*?)(?=^(?:{after}):|\Z)", text, re.S | re.M)
    assert found is not None, name
    return found[1]


def sentences(text: str) -> list[str]:
    body = re.sub(r"(?m)^\d\. ", "", section(text, "FINDINGS") + "\n" + section(text, "IMPRESSION"))
    return [s.strip() for s in re.split(r"\.\s", body + " ") if s.strip()]


def reading(span: str, finding: str) -> str:
    """The state a reader gives a finding named in a span."""
    words = re.sub(PSEUDO, "", span, flags=re.I).replace("concerning for tension", "")
    if has(DOUBT, words) and finding != "lung_opacity":
        return "uncertain"
    return "absent" if has(DENIAL, words.replace("cannot", "")) else "present"


def placements() -> st.SearchStrategy[tuple[Placed, ...]]:
    """Findings that can be on one film; a finding on either side by itself, on both, or differing between sides."""
    def one(finding: str) -> st.SearchStrategy[tuple[Placed, ...]]:
        sides = [("both",)] if finding in UNSIDED else [("left",), ("right",), ("both",), ("left", "right")]

        def make(sides: tuple[str, ...], severities: list[float], seed: int, form: str) -> tuple[Placed, ...]:
            form = "" if form == "tension" and sides not in (("left",), ("right",)) else form
            return tuple(Placed(finding, side, s, seed, form) for side, s in zip(sides, severities, strict=False))

        hundredths = st.integers(0, 100).map(lambda k: k / 100)
        return st.builds(make, st.sampled_from(sides), st.lists(hundredths, min_size=2, max_size=2),
                         st.integers(0, 99), st.sampled_from(("", *FORMS.get(finding, ()))))

    chosen = st.lists(st.sampled_from(sorted(SHOWN)), unique=True, max_size=5)
    return chosen.flatmap(lambda names: st.tuples(*map(one, names))).map(lambda t: tuple(itertools.chain(*t)))


ALL_DEVICES = [(kind, side) for kind, sides in DEVICES.items() for side in sides]
DEVICE_SETS = st.lists(st.builds(lambda d, s: Device(d[0], d[1], s), st.sampled_from(ALL_DEVICES), st.integers(0, 40)),
                       max_size=3, unique_by=lambda d: (d.kind, d.side)).map(tuple)
PEOPLE = [draw_patient(seed) for seed in range(12)]
FILMS: dict[str, Any] = {"patient": st.sampled_from(PEOPLE), "placed": placements(), "devices": DEVICE_SETS,
                         "seed": st.integers(0, 10**6), "cut": st.sampled_from([(), ("nasogastric_tube",)])}
PRIORS = st.tuples(placements(), DEVICE_SETS)
some = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def sides_of(side: str | None) -> set[str]:
    return {"left", "right"} if side in ("both", None) else {str(side)}


def where(placed: tuple[Placed, ...]) -> dict[str, dict[str, Placed]]:
    out: dict[str, dict[str, Placed]] = {}
    for one in placed:
        for side in sides_of(one.side):
            out.setdefault(one.finding, {})[side] = one
    return out


def many(n: int = 200) -> list[tuple[tuple[Placed, ...], tuple[Placed, ...] | None, Report]]:
    rng = np.random.default_rng(5)
    out = []
    for seed in range(n):
        now, before = (tuple(
            Placed(f, "both" if f in UNSIDED else str(rng.choice(["left", "right", "both"])),
                   round(float(rng.random()), 2), seed) for f in sorted(SHOWN) if rng.random() < 0.15) for _ in "ab")
        kept = tuple(replace(p, severity=round(float(np.clip(p.severity + rng.normal(0, 0.2), 0, 1)), 2)) for p in now
                     if rng.random() < 0.7)
        before = kept + tuple(p for p in before if p.finding not in {k.finding for k in kept})
        prior = (before, ()) if seed % 2 else None
        report = write_report(patient=PEOPLE[seed % 12], placed=now, devices=(), seed=seed, prior=prior)
        out.append((now, before if prior else None, report))
    return out


MANY = many()


def in_sentences(report: Report) -> list[tuple[str, list[Statement]]]:
    """Each sentence of FINDINGS and IMPRESSION with the statements whose spans lie in it."""
    ends, at = [], report.text.index("FINDINGS:")
    for sentence in sentences(report.text):
        at = report.text.index(sentence, at) + len(sentence)
        ends.append((at, sentence))
    out: list[tuple[str, list[Statement]]] = [(sentence, []) for _, sentence in ends]
    at = report.text.index("FINDINGS:")
    for s in report.statements:
        while True:
            at = report.text.index(s.text, at)
            said = next(x for (end, _), (_, x) in zip(ends, out, strict=True) if at + len(s.text) <= end)
            if s not in said:  # else the impression repeats a sentence word for word
                break
            at += 1
        said.append(s)
    return out


# --- the statements are what the text says ----------------------------------------------------------------------------

@some
@given(prior=st.none() | PRIORS, **FILMS)
def test_a_reader_finds_in_each_span_the_finding_and_state_it_is_said_to_state(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    for s in report.statements:
        assert has(NAMES[s.finding], s.text), s
        if s.finding == "enlarged_cardiomediastinum":
            assert s.state == "absent" and has(r"normal|unremarkable", s.text)
        else:
            assert reading(s.text, s.finding) == s.state, s


@some
@given(prior=st.none() | PRIORS, **FILMS)
def test_no_finding_is_named_in_a_sentence_without_being_stated(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    for sentence, said in in_sentences(report):
        # Wires, tubes and leads may be described by what they lie on; the heart is no finding there.
        plain = re.sub(r"over the heart|overlying the cardiac silhouette", "", sentence)
        named = {f for f, words in NAMES.items() if has(words, plain)}
        assert named == {s.finding for s in said}, sentence


@some
@given(prior=st.none() | PRIORS, **FILMS)
def test_spans_lie_in_findings_and_impression_in_the_order_of_the_text(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    text = report.text
    assert tuple(re.findall(r"(?m)^([A-Z]+):", text)) == SECTIONS
    at = start = text.index("FINDINGS:")
    for s in report.statements:
        assert s.text == s.text.strip(" .,") and s.text
        at = text.find(s.text, at)
        assert at >= start, s
    assert len(section(text, "FINDINGS").strip()) > 0 and len(section(text, "IMPRESSION").strip()) > 0


@some
@given(prior=st.none() | PRIORS, **FILMS)
def test_the_words_name_the_side_that_is_stated(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    for sentence, said in in_sentences(report):
        words = re.sub("right main bronchus|both lungs are clear", "", sentence, flags=re.I)
        seen = {side for side in ("left", "right") if has(rf"\b{side}\b", words)}
        if has(r"bilateral|bibasilar|biapical|\bboth\b", words):
            seen |= {"left", "right"}
        for s in said:
            assert seen == (set() if s.side is None else sides_of(s.side)), (s, sentence)


# --- and true of the film ---------------------------------------------------------------------------------------------

@some
@given(prior=st.none() | PRIORS, **FILMS)
def test_every_finding_of_the_film_is_stated_and_none_it_lacks(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    truth = where(film["placed"])
    at_impression = report.text.index("IMPRESSION:")
    told: dict[str, set[str]] = {}
    at = report.text.index("FINDINGS:")
    for s in report.statements:
        at = report.text.index(s.text, at)
        if s.state == "absent":
            if s.finding == "support_devices":
                continue
            assert not (truth.get(s.finding, {}).keys() & sides_of(s.side)), s
            if s.finding == "lung_opacity":
                assert not truth.keys() & {"atelectasis", "consolidation", "edema", "infiltration", "mass", "nodule"}
            if s.finding == "enlarged_cardiomediastinum":
                assert "cardiomegaly" not in truth
            if s.finding == "pneumonia":
                assert not truth.keys() & {"consolidation", "infiltration"}
        elif s.finding in ("pneumonia", "lung_opacity"):
            opaque = [truth.get(f, {}) for f in ("consolidation", "infiltration", "atelectasis")]
            assert any(sides_of(s.side) <= sides.keys() for sides in opaque), s
            assert (s.finding, s.state) in {("pneumonia", "uncertain"), ("lung_opacity", "present")}
        elif s.finding != "support_devices":
            assert sides_of(s.side) <= truth.get(s.finding, {}).keys(), s
            if at < at_impression:
                told.setdefault(s.finding, set()).update(sides_of(s.side))
    assert told == {finding: set(sides) for finding, sides in truth.items()}


@some
@given(prior=PRIORS, **FILMS)
def test_comparisons_tell_the_truth_about_the_film_before(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    now, before = where(film["placed"]), where(prior[0])
    for s in report.statements:
        if s.finding in ("pneumonia", "support_devices", "lung_opacity", "enlarged_cardiomediastinum"):
            continue
        if s.state == "absent":
            if has(r"resol|prior study|previous", s.text):
                assert sides_of(s.side) <= before[s.finding].keys(), s
            continue
        said = [t for t, words in TRENDS.items() if has(words, re.sub("since the prior study", "", s.text))]
        assert len(said) <= 1, s
        for side in sides_of(s.side) if said else ():
            old = before.get(s.finding, {}).get(side)
            # In hundredths, as whole numbers: a route without the rounding of floats.
            change = round(100 * now[s.finding][side].severity) - round(100 * old.severity) if old else None
            true = ("new" if change is None else "increased" if change > 15 else "decreased" if change < -15
                    else "unchanged")
            assert said == [true], (s, change)


@pytest.mark.parametrize(("before", "now", "word"), [
    (0.25, 0.40, "unchanged"), (0.25, 0.41, "increased"), (0.40, 0.25, "unchanged"), (0.41, 0.25, "decreased"),
    (0.80, 0.80, "unchanged"), (0.0, 1.0, "increased")])
def test_a_change_is_called_one_only_beyond_the_stated_step(before: float, now: float, word: str) -> None:
    was, has_now = (Placed("effusion", "left", before, 1),), (Placed("effusion", "left", now, 1),)
    for seed in range(40):
        report = write_report(patient=PEOPLE[0], placed=has_now, devices=(), seed=seed, prior=(was, ()))
        body = " ".join(sentences(report.text)).replace("since the prior study", "")
        assert {t for t, words in TRENDS.items() if has(words, body)} <= {word}


def test_each_kind_of_comparison_is_made_and_what_is_gone_is_said_to_be_gone() -> None:
    compared = [r.text for _, before, r in MANY if before is not None]
    for words in TRENDS.values():
        assert sum(has(words, section(t, "FINDINGS")) for t in compared) >= 10, words
    for now, before, report in MANY:
        lost = {p.finding for p in before or ()} - {p.finding for p in now}
        denied = {s.finding for s in report.statements if s.state == "absent"}
        assert lost <= denied


def test_without_a_film_before_nothing_is_compared() -> None:
    for _, before, report in MANY:
        body = section(report.text, "FINDINGS") + section(report.text, "IMPRESSION")
        words = "|".join([*TRENDS.values(), "prior", "previous", "interval", "resol"])
        assert before is not None or not has(words, body)
        assert has("none|no prior", section(report.text, "COMPARISON")) == (before is None)


# --- what makes reports hard to read ----------------------------------------------------------------------------------

def test_no_change_in_a_finding_states_it_present() -> None:
    found = [s for _, _, r in MANY for s in r.statements if has(r"^(there has been )?no (significant )?change", s.text)]
    found += [s for _, _, r in MANY for s in r.statements if has("not significantly changed", s.text)]
    assert len(found) >= 15
    assert {s.state for s in found} == {"present"}


def test_denials_come_before_after_and_for_several_findings_at_once() -> None:
    denied = [s for _, _, r in MANY for s in r.statements if s.state == "absent"]
    for words in (r"^no ", r"not (seen|identified)$", r"neither .* nor", r" or ", r" and .* are not", "without"):
        assert sum(has(words, s.text) for s in denied) >= 3, words
    shared = [r for _, _, r in MANY if any(
        {"effusion", "pneumothorax"} <= {t.finding for t in r.statements if t.text == s.text} for s in r.statements)]
    assert len(shared) >= 40


def test_a_question_or_a_history_in_the_indication_states_nothing() -> None:
    asked = [(f, r) for _, _, r in MANY for f in ("pneumonia", "pneumothorax", "nodule", "fracture")
             if has(NAMES[f], section(r.text, "INDICATION"))]
    silent = [(f, r) for f, r in asked if not any(has(NAMES[f], s) for s in sentences(r.text))]
    assert len(silent) >= 10
    for finding, report in silent:
        assert report.vector(V).state(V[finding].bit) == "unmentioned"


def test_mild_findings_are_sometimes_left_open_and_severe_ones_never() -> None:
    def states(severity: float) -> list[str]:
        one = (Placed("effusion", "left", severity, 1),)
        reports = [write_report(patient=PEOPLE[0], placed=one, devices=(), seed=s) for s in range(60)]
        return [r.vector(V).state(V["effusion"].bit) for r in reports]

    assert set(states(0.9)) == {"present"}
    assert 10 < states(0.2).count("uncertain") < 50


def test_tension_is_doubted_without_doubting_the_pneumothorax() -> None:
    one = (Placed("pneumothorax", "right", 0.2, 1, "tension"),)
    reports = [write_report(patient=PEOPLE[0], placed=one, devices=(), seed=s) for s in range(30)]
    assert any("concerning for tension" in r.text for r in reports)
    assert {r.vector(V).state(V["pneumothorax"].bit) for r in reports} == {"present"}


def test_fluid_under_air_is_a_hydropneumothorax_and_does_not_swallow_the_other_side() -> None:
    here = (Placed("effusion", "left", 0.8, 1), Placed("pneumothorax", "left", 0.8, 1))
    erect = next(p for p in PEOPLE if not p.supine)
    joint = 0
    for seed in range(40):
        report = write_report(patient=erect, placed=here, devices=(), seed=seed)
        joint += "air-fluid level" in report.text
        report = write_report(patient=erect, placed=(*here, Placed("effusion", "right", 0.3, 1)), devices=(), seed=seed)
        assert any(s.finding == "effusion" and s.side in ("right", "both") for s in report.statements)
    assert joint > 10


def test_fluid_layers_only_when_the_patient_lies_down_and_air_rises_only_when_not() -> None:
    erect = next(p for p in PEOPLE if p.view == "AP" and not p.supine)
    both = (Placed("effusion", "left", 0.5, 1), Placed("pneumothorax", "right", 0.5, 1))
    for patient, wrong, right in ((replace(erect, supine=True), "apical|costophrenic|upright", "layering"),
                                  (erect, "layering|supine", "apical")):
        texts = [write_report(patient=patient, placed=both, devices=(), seed=s).text for s in range(40)]
        assert not any(has(wrong, t) for t in texts)
        assert sum(has(right, t) for t in texts) > 5


@pytest.mark.parametrize("finding", ["consolidation", "atelectasis"])
def test_the_lobe_named_is_the_lobe_drawn(finding: str) -> None:
    lobes = set()
    for seed in range(30):
        one = Placed(finding, "right", 0.9, seed, "lobar")
        film = render(PEOPLE[0], (one,), size=128, noise_seed=1)
        rows = np.flatnonzero(film.anatomy.right_lung.any(1))
        height = (np.nonzero(film.finding_masks[finding])[0].mean() - rows[0]) / np.ptp(rows)
        text = section(write_report(patient=PEOPLE[0], placed=(one,), devices=(), seed=seed).text, "FINDINGS")
        found = re.search(r"right (upper|middle|lower) lobe", text, re.I)
        assert found is not None, text
        lobes.add(found[1])
        assert height < 0.55 if found[1] == "upper" else height > 0.5, (found[1], height)
    assert len(lobes) >= 2


@pytest.mark.parametrize(("placed", "supine"), [
    ((Placed("pneumothorax", "left", 0.1, 1),), False), ((Placed("pneumothorax", "right", 0.9, 1, "tension"),), False),
    ((Placed("effusion", "right", 0.3, 1),), False), ((Placed("effusion", "both", 1.0, 1),), False),
    ((Placed("effusion", "left", 0.2, 1), Placed("effusion", "right", 0.5, 1)), False),
    ((Placed("effusion", "left", 0.1, 1),), True), ((Placed("effusion", "left", 0.1, 1, "veil"),), False)])
def test_lungs_are_not_called_clear_beside_what_a_reader_sees_in_them(placed: tuple[Placed, ...], supine: bool) -> None:
    patient = replace(next(p for p in PEOPLE if p.view == "AP"), supine=supine, inspiration=0.95)
    for seed in range(80):
        report = write_report(patient=patient, placed=placed, devices=(), seed=seed)
        assert not has(r"\bclear\b|well expanded", report.text), report.text
        assert "lung_opacity" not in {s.finding for s in report.statements if s.state == "absent"}


def test_a_blunted_angle_leaves_the_lungs_clear_but_not_well_expanded() -> None:
    fluid = (Placed("effusion", "right", 0.2, 1),)
    deep, shallow = (replace(next(p for p in PEOPLE if not p.supine), inspiration=i) for i in (0.95, 0.91))
    said = {who: [write_report(patient=patient, placed=placed, devices=(), seed=s).text for s in range(60)]
            for who, patient, placed in (("deep", deep, ()), ("shallow", shallow, ()), ("fluid", deep, fluid))}
    assert all(any(has(r"\bclear\b", text) for text in texts) for texts in said.values())
    assert {who for who, texts in said.items() if any(has("expanded", text) for text in texts)} == {"deep"}


def test_a_normal_film_is_called_clear_and_says_nothing_it_does_not_say() -> None:
    reports = [write_report(patient=PEOPLE[0], placed=(), devices=(), seed=s) for s in range(60)]
    for report in reports:
        assert report.vector(V).present == report.vector(V).uncertain == 0
        assert report.vector(V).absent
        impression = section(report.text, "IMPRESSION")
        assert has("No acute|pneumonia", impression)
        assert not [s for s in report.statements if has("no acute (cardio|intra|oss)", s.text)]
    assert any(has("clear", r.text) for r in reports)


# --- devices ----------------------------------------------------------------------------------------------------------

@some
@given(prior=PRIORS, **FILMS)
def test_each_device_is_named_with_its_side_and_those_taken_out_are_missed(prior: Any, **film: Any) -> None:
    report = write_report(prior=prior, **film)
    names = {"endotracheal_tube": r"endotracheal|ET tube|bronchus", "nasogastric_tube": "nasogastric|enteric",
             "central_line": "central", "pacemaker": "pacemaker", "sternal_wires": "wires",
             "chest_drain": "chest tube|chest drain|pleural drain"}
    said = [s for s in report.statements if s.finding == "support_devices"]
    here, were = ({(d.kind, d.side) for d in devices} for devices in (film["devices"], prior[1]))
    for state, expected in (("present", here), ("absent", were - here)):
        found = {(kind, s.side or "both") for s in said if s.state == state
                 for kind, words in names.items() if has(words, s.text)}
        assert found == expected
    assert report.vector(V).state(V["support_devices"].bit) == "present" or not here


@pytest.mark.parametrize("kind", ["endotracheal_tube", "chest_drain"])
def test_a_tip_is_said_to_lie_where_the_film_shows_it(kind: str) -> None:
    patient = replace(PEOPLE[0], field=1.15 * PEOPLE[0].field)  # all of the tube is on the film
    thorax = build(patient, 96)
    carina = Landmarks(thorax).carina
    seen = set()
    for seed in range(60):
        device = Device(kind, DEVICES[kind][-1], seed)
        _, mask = draw(device, thorax)
        how = how_it_lies(device)
        if kind == "endotracheal_tube":
            assert how == (f"{kind}/low" if thorax.y[mask].max() > carina else kind)
        else:
            assert how == (f"{kind}/apex" if thorax.y[mask].min() < 0.3 * patient.height else f"{kind}/base")
        seen.add(how)
    assert len(seen) == 2


def test_no_stomach_is_spoken_of_where_the_tip_of_the_tube_is_off_the_film() -> None:
    device = Device("nasogastric_tube", "both", 1)
    for cut, wrong, right in (((device.kind,), "stomach", "not included|off the film|below the lower edge"),
                              ((), "not included|off the film|below the lower edge", "stomach")):
        texts = [write_report(patient=PEOPLE[0], placed=(), devices=(device,), seed=s, cut=cut).text for s in range(30)]
        assert not any(has(wrong, text) for text in texts)
        assert sum(has(right, text) for text in texts) >= 10


def test_a_tube_in_a_bronchus_heads_the_impression() -> None:
    device = next(d for s in range(99) if how_it_lies(d := Device("endotracheal_tube", "both", s)).endswith("low"))
    report = write_report(patient=PEOPLE[0], placed=(), devices=(device,), seed=1, prior=((), (device,)))
    assert has("right main bronchus", section(report.text, "IMPRESSION"))
    assert not has("no acute|unchanged", report.text)


# --- a report as a value ----------------------------------------------------------------------------------------------

def test_stronger_statements_overrule_weaker_ones_and_imply_their_parents() -> None:
    def read(*said: tuple[str, str]) -> Vector:
        return Report("", tuple(Statement(f, state, None, "") for f, state in said)).vector(V)

    v = read(("mass", "absent"), ("mass", "present"), ("mass", "uncertain"), ("edema", "absent"),
             ("edema", "uncertain"))
    assert v == Vector(present=V.mask(["mass", "lung_lesion"]), uncertain=V.mask(["edema"]))
    assert read(("nodule", "absent")) == Vector(absent=V.mask(["nodule"]))
    assert read() == Vector()


def test_what_is_stated_infers_nothing() -> None:
    report = Report("", (Statement("mass", "present", "left", ""), Statement("edema", "uncertain", None, "")))
    assert report.stated(V) == Vector(present=V.mask(["mass"]), uncertain=V.mask(["edema"]))
    said = Report("", (Statement("lung_lesion", "absent", None, ""), Statement("lung_lesion", "uncertain", None, "")))
    assert said.stated(V) == Vector(uncertain=V.mask(["lung_lesion"]))


def test_the_same_film_and_seed_give_the_same_report_in_any_process_and_order() -> None:
    code = ("from cars_core.phantom.words.report import write_report as w\n"
            "from cars_core.phantom.placed import Placed as P\n"
            "from cars_core.phantom.body.patient import draw_patient\n"
            "p = (P('effusion', 'left', .2, 1), P('edema', 'both', .4, 2), P('mass', 'right', .4, 3))\n"
            "print(w(patient=draw_patient(3), placed=p, devices=(), seed=11, prior=(p[:1], ())).text, end='')")
    env = {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    placed = (Placed("effusion", "left", 0.2, 1), Placed("edema", "both", 0.4, 2), Placed("mass", "right", 0.4, 3))
    for order in itertools.permutations(placed):
        report = write_report(patient=draw_patient(3), placed=order, devices=(), seed=11, prior=(placed[:1], ()))
        assert report.text == other


def test_reports_of_one_film_differ_by_seed() -> None:
    one = (Placed("consolidation", "left", 0.5, 1), Placed("effusion", "left", 0.5, 1))
    texts = {section(write_report(patient=PEOPLE[0], placed=one, devices=(), seed=s).text, "FINDINGS")
             for s in range(100)}
    assert len(texts) > 95


def test_nothing_in_a_report_looks_like_an_identifier_or_a_date() -> None:
    for _, _, report in MANY:
        assert not re.search(r"\d", re.sub(r"(?m)^\d\. ", "", report.text))
        assert not has(r"\b(january|february|march|april|june|july|august|september|october|november|december)\b|Dr\.",
                       report.text)


def test_grammar_slips_do_not_betray_the_template() -> None:
    for _, _, report in MANY:
        assert not re.search(r"\{|\}|  |\.\.|,\.| ,|\ba [aeiou]|\ban [^aeiou]|\bis [a-z ]*s are\b", report.text)
        assert not has(r"(effusions|pneumothoraces|nodules|masses|infiltrates|fractures) (is|has)\b", report.text)
        assert not has(r"(there is|\ba) [a-z -]*(effusions|pneumothoraces|nodules|masses)\b", report.text)
        for sentence in sentences(report.text):
            assert sentence[0].isupper()


def test_findings_that_cannot_be_on_one_film_are_refused() -> None:
    twice = (Placed("effusion", "left", 0.2, 1), Placed("effusion", "both", 0.2, 1))
    with pytest.raises(BadInput, match="one a side"):
        write_report(patient=PEOPLE[0], placed=twice, devices=(), seed=1)
    with pytest.raises(BadInput, match="one a side"):
        write_report(patient=PEOPLE[0], placed=(), devices=(), seed=1, prior=(twice, ()))
