"""Reports whose labels are known from elsewhere: the CheXpert labeler's own samples, and simulated ones."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cars_core.digest import seed_from
from cars_core.phantom.population import films
from cars_core.phantom.truth import read_truth
from cars_core.phantom.words.report import write_report
from cars_core.phantom.words.statements import Report
from cars_core.reports.label import chexpert_row, label_report, nih_row
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()


def test_the_chexpert_labelers_sample_reports_get_its_labels(open_films: Path) -> None:
    path = open_films / "reports" / "chexpert_labeler_labeled_reports.csv"
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 4
    for row in rows:
        expected = {k: int(float(v)) if v else None for k, v in row.items() if k != "Reports"}
        assert chexpert_row(label_report(row["Reports"], V)) == expected


def test_negbios_annotated_texts_are_read_as_annotated(open_films: Path) -> None:
    names = {"Cardiomegaly": "Cardiomegaly", "Infiltration": "Infiltration", "effusion": "Effusion",
             "Pneumothorax": "Pneumothorax"}
    states = {"00019248": {"Cardiomegaly": 1, "Infiltration": 0, "Effusion": 0, "Pneumothorax": 0},
              "00000086": {"Pneumothorax": 0}}  # the negations of the first are read off its text
    for document in ElementTree.parse(open_films / "reports" / "negbio_1.xml").getroot().findall("document"):
        row = nih_row(label_report(document.findtext("passage/text") or "", V))
        terms = {names[str(i.text)] for i in document.iterfind("passage/annotation/infon[@key='term']")}
        said = {k: v for k, v in row.items() if v is not None}
        assert set(said) == terms and said == states[str(document.findtext("id"))]


def simulated(n: int, seed: int) -> list[Report]:
    out = []
    for spec in films(n=n, seed=seed, size=256, withheld=[], split_of=lambda _: "train", vocabulary=V):
        truth = read_truth(spec.truth)
        before = None if spec.prior is None else read_truth(spec.prior)
        prior = None if before is None else (before.placed, before.devices)
        out.append(write_report(patient=truth.patient, placed=truth.placed, devices=truth.devices,
                                seed=seed_from("report", spec.truth), prior=prior))
    return out


def sides(given: list[str | None]) -> set[str]:
    return {x for side in given for x in (("left", "right") if side == "both" else (side,)) if x}


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return simulated(300, seed=90_210)


def test_simulated_reports_are_read_as_they_were_meant(reports: list[Report]) -> None:
    spoken = {s.finding for r in reports for s in r.statements}
    assert len(spoken) >= 17
    right = wrong = 0
    for report in reports:
        meant, read = report.stated(V), label_report(report.text, V).vector
        for name in spoken:
            bit = V[name].bit
            right += meant.state(bit) == read.state(bit)
            wrong += meant.state(bit) != read.state(bit)
    assert wrong <= 0.002 * right


def test_sides_of_simulated_findings_are_read(reports: list[Report]) -> None:
    right = wrong = 0
    for report in reports:
        evidence = label_report(report.text, V).evidence
        for name in {s.finding for s in report.statements}:
            meant = sides([s.side for s in report.statements if (s.finding, s.state) == (name, "present")])
            read = sides([e.side for e in evidence if (e.finding, e.state) == (name, "present")])
            right, wrong = right + (meant == read), wrong + (meant != read)
    assert wrong <= 0.005 * right
