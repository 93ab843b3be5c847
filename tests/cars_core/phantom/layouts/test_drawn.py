"""What a report says of a film must be judged on the film as it was taken, its edges and border included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.body.thorax import build
from cars_core.phantom.devices.courses import COURSES, Landmarks, Strand, generator
from cars_core.phantom.layouts.drawn import cut_off, draw
from cars_core.phantom.placed import SHOWN, Device
from cars_core.phantom.population import FilmSpec, films
from cars_core.phantom.truth import counterfactual, read_truth, render_truth, truth_of
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary

SIZE = 96
V = load_vocabulary()


def tube(person: int, border: str) -> tuple[str, Device]:
    """Truth of someone with a nasogastric tube, on a film that is up to 4 cm too high."""
    device = Device("nasogastric_tube", "both", person)
    patient = draw_patient(person)
    patient = replace(patient, border=border, shift_y=patient.shift_y + person % 5)
    return truth_of(patient, (), size=SIZE, noise_seed=1, devices=(device,)), device


def test_a_tube_is_cut_off_when_its_course_ends_beyond_the_film() -> None:
    cut = []
    for person in range(70):
        truth, device = tube(person, "")
        t = read_truth(truth)
        thorax = build(t.patient, SIZE)
        course = COURSES[device.kind](Landmarks(thorax), generator(device), 1)[0]
        assert isinstance(course, Strand)
        off = np.hypot(thorax.x - course.line[-1, 0], thorax.y - course.line[-1, 1]).min() * SIZE / t.patient.field
        beyond = cut_off(render_truth(truth), t) != ()
        if off > 1.5 or (off < 0.75 and course.line[-1, 1] < thorax.y[-3].min()):  # on the very edge, either is right
            assert beyond == (off > 1.5), person
            cut.append(beyond)
    assert cut.count(True) >= 10 and cut.count(False) >= 25


def test_a_tip_under_the_border_is_not_seen() -> None:
    """Under a border there is no noise: there, films with other noise are alike."""
    kind = "nasogastric_tube"
    truth, device = tube(5, "")
    patient = read_truth(truth).patient
    row = np.flatnonzero(render_truth(truth).device_masks[kind].any(axis=1))[-1]
    lower = replace(patient, border="black", shift_y=patient.shift_y + (SIZE - 4 - row) * patient.field / SIZE)
    cut = []
    for look in range(80):
        films = [render_truth(truth_of(replace(lower, look=look), (), size=SIZE, noise_seed=k, devices=(device,)))
                 for k in range(3)]
        tip = films[0].device_masks[kind]
        row = np.flatnonzero(tip.any(axis=1))[-1]
        assert row < SIZE - 1
        column = int(np.flatnonzero(tip[row]).mean())
        near = np.ptp([film.pixels[row - 1 : row + 2, column - 3 : column + 4] for film in films], axis=0) > 0
        if near.mean() > 0.6 or not near.any():  # the border's edge is elsewhere
            seen = read_truth(truth_of(replace(lower, look=look), (), size=SIZE, noise_seed=0, devices=(device,)))
            assert (cut_off(films[0], seen) == (kind,)) == (not near.any()), look
            cut.append(not near.any())
    assert cut.count(True) >= 2 and cut.count(False) >= 20


def test_the_report_follows_the_film() -> None:
    said = set()
    for person in range(40):
        truth, _ = tube(person, "")
        t = read_truth(truth)
        spec = FilmSpec("sim0-000000_000", "sim0-000000", "train", t.patient.sex, t.patient.age, t.patient.view, 1, 0,
                        Vector(), truth)
        drawn = draw(spec, number=1, bits=8)
        cut = cut_off(drawn.film, t) != ()
        text = drawn.report.text
        assert not ("stomach" in text if cut else "not included" in text or "off the film" in text)
        said.add(cut)
    assert said == {True, False}


def test_a_film_without_such_a_tube_has_nothing_to_cut() -> None:
    truth = truth_of(draw_patient(1), (), size=SIZE, noise_seed=1, devices=(Device("central_line", "left", 1),))
    assert cut_off(render_truth(truth), read_truth(truth)) == ()


def test_what_nobody_could_see_on_a_film_is_neither_labelled_nor_reported_nor_masked() -> None:
    """A nodule drowned in a large effusion: the truth keeps it, labels and words that claimed it would teach noise."""
    hidden = 0
    for spec in films(n=160, seed=11, size=96, withheld=[], split_of=lambda patient: "test", vocabulary=V):
        drawn = draw(spec, number=1, bits=8)
        placed = {p.finding for p in drawn.truth.placed}
        shown = set(V.unpack(drawn.vector.present)) & SHOWN
        assert shown | drawn.hidden == placed
        assert not shown & drawn.hidden
        assert not drawn.hidden & drawn.film.finding_masks.keys()
        told = {s.finding for s in drawn.report.statements if s.state == "present"}
        assert not told & drawn.hidden
        for finding in drawn.hidden:
            without = render_truth(counterfactual(spec.truth, delete=[finding]))
            mask = render_truth(spec.truth).finding_masks[finding]
            change = np.abs(drawn.film.pixels.astype(int) - without.pixels)[mask]
            assert change.size == 0 or np.percentile(change, 90) < 8, (spec.record, finding)
            hidden += 1
    assert 0 < hidden < 12
