"""Counts on which side findings lie and how severe they are called: cars_core/coverage/planning/presentation.yaml.

    python benchmarks/derive_presentation.py WHEEL BOXES DET... > cars_core/coverage/planning/presentation.yaml

WHEEL: the wheel file of the PyPI package torchxrayvision, with the Open-i reports (see openi.py). BOXES:
BBox_List_2017.csv.gz of ChestX-ray14. DET: ChestX_Det_train.json.gz and ChestX_Det_test.json.gz. Facts are counted;
no text, box or name of a file goes into the result.

Sides are the patient's: a film's left half shows the patient's right. A box lies where its centre does. Degrees are the
coders' words; a report that uses several for a finding counts with the highest, one that uses none does not count. A
finding counts for all that it implies as well.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openi import STATES, Code, read_openi

from cars_core.coverage.planning.draw import DEGREES, SIDES
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
MIDLINE = 512  # pixels; both sets give their boxes on films 1024 wide

HEADER = """\
# On which side findings lie and how severe they are, counted on real films. Sides are the patient's.
# Written by benchmarks/derive_presentation.py, which says how each is counted; findings are named as in
# schemas/findings.yaml.
# openi: reports of Indiana University whose manual MeSH codes state the finding and its side or degree (Demner-Fushman
#   et al., J Am Med Inform Assoc 2016, doi:10.1093/jamia/ocv080); small counts as mild, large as severe. Most reports
#   that state a finding name no degree; they are not counted.
# nih_boxes: films of ChestX-ray14 by the boxes of its BBox_List_2017 (Wang et al., CVPR 2017; NIH Clinical Center).
#   There is one box a finding and film, so that these tell nothing of both sides.
# chestx_det: films of ChestX-Det, of which every place of a finding is boxed (Lian et al., arXiv:2104.10326;
#   Apache-2.0).
"""

#: Codes of findings beyond the NIH names that STATES knows.
_NOT_LUNG = frozenset({"breast", "mediastinum", "paratracheal", "ribs", "adipose tissue", "abdomen"})
MORE = (
    Code(("lung_opacity",), ("Opacity", "Airspace Disease"), "the same concept", none_of=_NOT_LUNG),
    Code(("calcification",), ("Calcinosis",), "the finding is of lung tissue", any_of=frozenset({"lung"})),
    Code(("calcification",), ("Calcified Granuloma",), "a calcification by name", none_of=_NOT_LUNG),
    Code(("rib_fracture",), ("Fractures, Bone",), "the same concept", any_of=frozenset({"ribs"})),
    Code(("clavicle_fracture",), ("Fractures, Bone",), "the same concept", any_of=frozenset({"clavicle"})),
    Code(("fracture",), ("Fractures, Bone",), "the same concept, of any bone"),
    Code(("diaphragm_elevation",), ("Diaphragm",), "the same concept", any_of=frozenset({"elevated"})),
    Code(("diaphragm_elevation",), ("Diaphragmatic Eventration",), "a raised part of it"),
    Code(("irregular_diaphragm",), ("Diaphragm",), "the same concept", any_of=frozenset({"flattened"})),
    Code(("costophrenic_blunting",), ("Costophrenic Angle",), "the same concept", any_of=frozenset({"blunted"})),
    Code(("hyperinflation",), ("Lung",), "the same concept", any_of=frozenset({"hyperdistention"})),
    Code(("enlarged_cardiomediastinum",), ("Mediastinum",), "the same concept", any_of=frozenset({"enlarged"})),
    Code(("lung_collapse",), ("Volume Loss",), "the same concept"),
    Code(("bronchiectasis",), ("Bronchiectasis",), "the same concept"),
    Code(("interstitial_lung_disease",), ("Lung Diseases, Interstitial",), "the same concept"),
    Code(("adenopathy",), ("Lymph Nodes",), "the same concept", any_of=frozenset({"enlarged"})),
)
_SIDE_WORDS = {"left": {"left"}, "right": {"right"}, "bilateral": {"left", "right"}}
_DEGREE_WORDS = {"mild": "mild", "small": "mild", "moderate": "moderate", "severe": "severe", "large": "severe"}
#: Names of the two sets of boxes that are not NIH's label -> finding.
_BOXED = {"Infiltrate": "infiltration", "Calcification": "calcification", "Fracture": "fracture",
          "Pleural Thickening": "pleural_thickening", "Diffuse Nodule": "nodule"}

Marks = Mapping[str, frozenset[str]]


def finding_of(name: str) -> str:
    """The vocabulary's name of a label of either set of boxes.

    Raises:
        BadInput: another label.
    """
    known = {label: f.name for label, f in V.label_set("nih").items()} | _BOXED
    if name not in known:
        raise BadInput("boxes: label", name, "one of " + ", ".join(known))
    return known[name]


def implied(marks: Iterable[tuple[str, Iterable[str]]]) -> Marks:
    """(finding, what is said of it) pairs of one film -> all that is said of each finding and of what it implies."""
    out: dict[str, set[str]] = {}
    for name, said in marks:
        bit = 1 << V[name].bit
        for every in V.unpack(bit | V.ancestors(bit)):
            out.setdefault(every, set()).update(said)
    return {name: frozenset(said) for name, said in out.items()}


def side_of(left_edge: float, right_edge: float) -> str:
    """The patient's side of a box, by its centre."""
    return "right" if (left_edge + right_edge) / 2 < MIDLINE else "left"


def openi_marks(wheel: Path, read: Callable[[set[str]], set[str]]) -> Iterator[Marks]:
    """What the qualifiers of each report's manual codes say of its findings."""
    nih = {label: f.name for label, f in V.label_set("nih").items()}
    for report in read_openi(wheel):
        yield implied((nih.get(name, name), read({part.strip() for part in code.split("/")[1:]}))
                      for code in report.major for rule in (*STATES, *MORE) if rule.holds(code) for name in rule.names)


def box_marks(boxes: Path) -> Iterator[Marks]:
    """Sides of the findings of each film of BBox_List_2017."""
    films: dict[str, list[tuple[str, set[str]]]] = {}
    with gzip.open(boxes, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if next(rows, [""])[0] != "Image Index":
            raise BadInput(boxes, "another header", "Image Index,Finding Label,Bbox [x,y,w,h]")
        for image, name, x, _, width, *_ in rows:
            films.setdefault(image, []).append((finding_of(name), {side_of(float(x), float(x) + float(width))}))
    return map(implied, films.values())


def det_marks(files: Iterable[Path]) -> Iterator[Marks]:
    """Sides of the findings of each film of ChestX-Det."""
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for film in json.load(file):
                yield implied((finding_of(name), {side_of(box[0], box[2])})
                              for name, box in zip(film["syms"], film["boxes"], strict=True))


def counted_sides(films: Iterable[Marks]) -> dict[str, Counter[str]]:
    """Finding -> films by side, where one is said; of sided findings."""
    out: dict[str, Counter[str]] = {}
    for marks in films:
        for name, said in marks.items():
            if said and V[name].sided:
                out.setdefault(name, Counter())["both" if len(said) > 1 else min(said)] += 1
    return out


def counted_degrees(films: Iterable[Marks]) -> dict[str, Counter[str]]:
    """Finding -> films by degree, the highest where several are said."""
    out: dict[str, Counter[str]] = {}
    for marks in films:
        for name, said in marks.items():
            if said:
                out.setdefault(name, Counter())[max(said, key=DEGREES.index)] += 1
    return out


def _line(source: str, counts: Counter[str], columns: Sequence[str]) -> str:
    said = ", ".join(f"{column}: {counts[column]}" for column in columns)
    return f"      - {{source: {source}, films: {sum(counts[c] for c in columns)}, {said}}}"


def derive(wheel: Path, boxes: Path, det: Iterable[Path]) -> str:
    """The text of presentation.yaml."""
    sides = {
        "openi": counted_sides(openi_marks(wheel, lambda words: {s for w in words for s in _SIDE_WORDS.get(w, ())})),
        "nih_boxes": counted_sides(box_marks(boxes)),
        "chestx_det": counted_sides(det_marks(det))}
    degrees = counted_degrees(openi_marks(wheel, lambda words: {_DEGREE_WORDS[w] for w in words & set(_DEGREE_WORDS)}))
    lines = ["version: 1", "findings:"]
    for name in V.names:
        of_sides = [_line(source, counts[name], SIDES[:2] if source == "nih_boxes" else SIDES)
                    for source, counts in sides.items() if name in counts]
        of_degrees = [_line("openi", degrees[name], DEGREES)] if name in degrees else []
        lines += [f"  {name}:"] if of_sides or of_degrees else []
        lines += ["    sides:", *of_sides] if of_sides else []
        lines += ["    degrees:", *of_degrees] if of_degrees else []
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    wheel, boxes, *det = map(Path, sys.argv[1:])
    sys.stdout.write(derive(wheel, boxes, det))


if __name__ == "__main__":
    try:
        main()
    except BadInput as e:
        raise SystemExit(str(e)) from e
