"""The layout of NIH ChestX-ray14 (Wang et al., CVPR 2017; label file of 2020): PNG films and one label file."""

from __future__ import annotations

from typing import ClassVar

from cars_core.phantom.layouts.drawn import Drawn, Laid, png
from cars_core.vocabulary import load_vocabulary

LABELS = "Data_Entry_2017_v2020.csv"
TRAIN, TEST = "train_val_list.txt", "test_list.txt"
COLUMNS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender",
           "View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]")


class Nih:
    """Labels are the film's own truth, in the set's 14 names: what lies outside them (a fracture, devices) is not said,
    and a film that shows nothing else is "No Finding"."""

    name = "nih"
    bits = (8,)
    like = ("NIH ChestX-ray14: images/ and Data_Entry_2017_v2020.csv. train_val_list.txt holds the films of train and "
            "validate, test_list.txt those of test. Labels say what the film shows, not what its report says.")
    tables: ClassVar[dict[str, tuple[str, ...]]] = {LABELS: COLUMNS, TRAIN: (), TEST: ()}

    def lay(self, drawn: Drawn) -> Laid:
        """Files and rows of one film."""
        vocabulary, spec, size = load_vocabulary(), drawn.spec, drawn.truth.size
        names = {f.name: label for label, f in vocabulary.label_set("nih").items()}
        found = sorted(names[x] for x in vocabulary.unpack(drawn.vector.present) if x in names)
        file = f"{drawn.number:08d}_{spec.study - 1:03d}.png"
        row = dict(zip(COLUMNS, (file, "|".join(found) or vocabulary.no_finding["nih"], spec.study - 1, drawn.number,
                                 spec.age, spec.sex, spec.view, size, size, drawn.spacing, drawn.spacing), strict=True))
        part = TEST if spec.split == "test" else TRAIN
        return Laid(f"images/{file}", {f"images/{file}": png(drawn.film.pixels)}, {LABELS: [row], part: [{"": file}]})
