"""A labelled report as columns of labels: 1 present, 0 absent, -1 uncertain, None not mentioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cars_core.reports.labelled import Labelled, strongest
from cars_core.vocabulary import Vocabulary, load_vocabulary

VALUES = {"present": 1, "absent": 0, "uncertain": -1}
Row = dict[str, int | None]

#: CheXpert label -> the findings and remarks that speak for it, beside the finding that bears the label. After the
#: classes of Irvin et al. (AAAI 2019): congestion and a failing heart count as edema, infiltrates as opacities.
SPEAK_FOR: dict[str, tuple[str, ...]] = {
    "Edema": ("vascular_congestion",),
    "Fracture": ("rib_fracture", "clavicle_fracture"),
    "Lung Lesion": ("mass", "nodule", "lung_cavity", "lung_tumor"),
    "Lung Opacity": ("infiltration", "interstitial_lung_disease", "irregular_parenchyma"),
    "Pleural Effusion": ("pleural_fluid", "meniscus_sign"),
    "Pleural Other": ("pleural_thickening",),
}
#: A part of the body called normal speaks for these labels; "the lungs are clear" leaves Lung Opacity empty.
_NORMAL_COUNTS = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum"})
_DEVICES = "Support Devices"
#: The columns in the order in which the labeler writes them.
_ORDER = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema", "Consolidation",
          "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", _DEVICES)


def concept_names(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The concepts of a vocabulary, in the order of its labels, each once."""
    return tuple(dict.fromkeys(name for names in vocabulary.concepts.values() for name in names))


def nih_row(labelled: Labelled, vocabulary: Vocabulary | None = None) -> Row:
    """NIH label -> value, the 14 in the vocabulary's order (the built-in one's by default).

    What no word states stays None: NIH's own table has no such value, and calls it absent.
    """
    known = (vocabulary or load_vocabulary()).label_set("nih")
    return {label: VALUES.get(labelled.vector.state(finding.bit)) for label, finding in known.items()}


def chexpert_row(labelled: Labelled, vocabulary: Vocabulary | None = None) -> Row:
    """CheXpert label -> value, "No Finding" first, by the conventions of the CheXpert labeler.

    Each label is what its own mentions say, the strongest first; none implies another. "No Finding" is 1 where
    something was recognised and no label but Support Devices is 1 or -1; otherwise it is None: a report in another
    language, or full of misspellings, is not a normal one.
    """
    vocabulary = vocabulary or load_vocabulary()
    known = vocabulary.label_set("chexpert")
    named = strongest(one for one in labelled.evidence if not one.normal)
    states = labelled.states()
    row: Row = {vocabulary.no_finding.get("chexpert", "No Finding"): None}
    for label in sorted(known, key=lambda label: _ORDER.index(label) if label in _ORDER else len(_ORDER)):
        finding = known[label]
        said = states if label in _NORMAL_COUNTS else named
        values = [VALUES[said[name]] for name in (finding.name, *SPEAK_FOR.get(label, ())) if name in said]
        row[label] = _strongest(values)
    shown = any(row[label] in (1, -1) for label in known if label != _DEVICES)
    if labelled.evidence and not shown:
        row[next(iter(row))] = 1
    return row


def concept_row(labelled: Labelled, vocabulary: Vocabulary | None = None) -> Row:
    """Concept -> value, in the order of `concept_names`."""
    return {name: _value(labelled.concepts, name) for name in concept_names(vocabulary or load_vocabulary())}


def _value(states: Mapping[str, str], name: str) -> int | None:
    return VALUES[states[name]] if name in states else None


def _strongest(values: Iterable[int]) -> int | None:
    found = set(values)
    return next((value for value in (1, -1, 0) if value in found), None)
