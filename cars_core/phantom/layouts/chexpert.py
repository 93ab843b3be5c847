"""The layout of CheXpert v1.0 small (Irvin et al., AAAI 2019): JPEG films by patient and study, two label files."""

from __future__ import annotations

from typing import ClassVar

from cars_core.phantom.layouts.drawn import Drawn, Laid, jpeg
from cars_core.phantom.placed import SHOWN
from cars_core.phantom.words.statements import Report
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary, load_vocabulary

#: The label set in the order of CheXpert's columns.
LABELS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
          "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
          "Support Devices")
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
FOLDER = "CheXpert-v1.0-small"  # what every Path begins with
#: Findings without a label of their own -> the label whose list of phrases the CheXpert labeller finds them in. It
#: has lists for emphysema and hernia too, which give no label but rule out "No Finding".
MENTIONED_AS = {"infiltration": "lung_opacity", "mass": "lung_lesion", "nodule": "lung_lesion",
                "pleural_thickening": "pleural_other", "fibrosis": "pleural_other"}
#: With one of these about, a report's "no infiltrate" does not deny Lung Opacity.
OPACITIES = ("atelectasis", "consolidation", "edema", "mass", "nodule", "pneumonia")
PARTS = {"train": "train", "validate": "valid", "test": "test"}  # split -> folder and label file


class CheXpert:
    """train.csv states what the reports say (1.0, 0.0, -1.0 for uncertain, blank where nothing is said); valid.csv and
    test.csv what the films show, as radiologists stated it there: no blank but for pneumonia, a diagnosis no film
    settles."""

    name = "chexpert"
    bits = (8,)
    like = ("CheXpert-v1.0-small: train/ and train.csv hold the split train, valid/ and valid.csv validate, test/ and "
            "test.csv test (CheXpert's own test set came later, its labels apart; here all three tables have one "
            "form). Paths begin with CheXpert-v1.0-small/, which stands for this folder. train.csv labels what the "
            "reports mention; valid.csv and test.csv say what the films show, with Pneumonia blank. Pneumonia is never "
            "1.0: a report only suspects it, -1.0.")
    tables: ClassVar[dict[str, tuple[str, ...]]] = {f"{part}.csv": COLUMNS for part in PARTS.values()}

    def lay(self, drawn: Drawn) -> Laid:
        """Files and rows of one film."""
        vocabulary, spec = load_vocabulary(), drawn.spec
        part = PARTS[spec.split]
        path = f"{part}/patient{drawn.number:05d}/study{spec.study}/view1_frontal.jpg"
        if part == "train":
            labels = report_labels(drawn.report, vocabulary)
        else:
            labels = chexpert_labels(settled(drawn.vector, vocabulary), vocabulary)
            labels["No Finding"] = labels["No Finding"] or "0.0"
        row = {"Path": f"{FOLDER}/{path}", "Sex": {"M": "Male", "F": "Female"}[spec.sex], "Age": spec.age,
               "Frontal/Lateral": "Frontal", "AP/PA": spec.view, **labels}
        return Laid(path, {path: jpeg(drawn.film.pixels)}, {f"{part}.csv": [row]})


def report_labels(report: Report, vocabulary: Vocabulary) -> dict[str, str]:
    """Labels as the CheXpert labeller gives them to a report: of what is mentioned, without a hierarchy.

    A stated edema alone leaves Lung Opacity blank. MENTIONED_AS says where findings without a label go, denied ones
    too; a label mentioned in several states takes present before uncertain before absent.
    """
    stated = report.stated(vocabulary)
    masks = {"present": stated.present, "uncertain": stated.uncertain, "absent": stated.absent}
    for finding, label in MENTIONED_AS.items():
        state = stated.state(vocabulary[finding].bit)
        if state in masks:
            masks[state] |= 1 << vocabulary[label].bit
    masks["uncertain"] &= ~masks["present"]
    masks["absent"] &= ~(masks["present"] | masks["uncertain"])
    if (masks["present"] | masks["uncertain"]) & vocabulary.mask(OPACITIES):
        masks["absent"] &= ~vocabulary.mask(["lung_opacity"])  # an infiltrate gone beside a new consolidation
    labels = chexpert_labels(Vector(**masks), vocabulary)
    if (masks["present"] | masks["uncertain"]) & ~vocabulary.mask(["support_devices"]):
        labels[LABELS[0]] = ""
    return labels


def chexpert_labels(vector: Vector, vocabulary: Vocabulary) -> dict[str, str]:
    """Label -> "1.0", "0.0", "-1.0" or "". No Finding is 1.0 where nothing of the label set but devices is present or
    uncertain, blank otherwise (as the CheXpert labeller gives it)."""
    words = {"present": "1.0", "absent": "0.0", "uncertain": "-1.0", "unmentioned": ""}
    findings = vocabulary.label_set("chexpert")
    out = {label: words[vector.state(findings[label].bit)] for label in LABELS[1:]}
    disease = [out[label] for label in LABELS[1:-1]]
    return {LABELS[0]: "" if "1.0" in disease or "-1.0" in disease else "1.0", **out}


def settled(vector: Vector, vocabulary: Vocabulary) -> Vector:
    """A film's truth with what is not named but must be absent: a wider finding of which the film shows no kind.

    Pneumonia, which no film can settle, stays unmentioned.
    """
    out, shown = vector, vocabulary.mask(sorted(SHOWN))
    if out.present & vocabulary.mask(["lung_lesion"]):  # a kind of Lung Opacity in CheXpert's hierarchy
        out = out.with_state(vocabulary["lung_opacity"].bit, "present")
    for finding in vocabulary.findings:
        kinds = vocabulary.descendants(1 << finding.bit)
        if out.state(finding.bit) == "unmentioned" and kinds & shown and not kinds & vector.present:
            out = out.with_state(finding.bit, "absent")
    return out
