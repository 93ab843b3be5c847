"""What the columns of a table of labels tell of which finding."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cars_core.reports.csv_rows import near
from cars_core.reports.rows import SPEAK_FOR, concept_names
from cars_core.vectors import Vector, close_upwards, from_chexpert
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

#: Among so many CheXpert labels any other column is taken for one of something else.
MOST = 3
_STATES = {"1": "present", "1.0": "present", "0": "absent", "0.0": "absent", "-1": "uncertain", "-1.0": "uncertain"}
_PREFIXES = ("nih_", "chexpert_", "concept_")


@dataclass(frozen=True)
class Meaning:
    """How rows of some columns are read.

    columns: names, as many as a row has fields. chexpert: place -> CheXpert label. direct: place -> finding that an
    nih_ or concept_ column tells.

    A finding's nih_ and concept_ columns tell its state, the strongest first. Beside them CheXpert's labels are classes
    of several findings, so that one counts for its finding only as far as no narrower column explains it: a nodule
    denied denies no other lesion. (Of findings without columns nothing can be told: a metastasis denied is read as a
    lesion denied.) "No Finding" says there that nothing was found present, not what was looked for, and is not read. In
    a file of CheXpert labels alone it is read as `vectors.from_chexpert` does.
    """

    columns: tuple[str, ...]
    chexpert: dict[int, str]
    direct: dict[int, str]
    vocabulary: Vocabulary

    def unreadable(self, fields: list[str]) -> str | None:
        """The first column of labels that holds another value than 1, 0, -1 or nothing, or None."""
        for place in sorted({*self.chexpert, *self.direct}):
            if (value := fields[place].strip()) and value not in _STATES:
                return self.columns[place]
        return None

    def vector(self, fields: list[str]) -> Vector:
        """The vector of a row, closed upwards. Raises KeyError for a value that is unreadable."""
        given = {place: _STATES[value] for place, text in enumerate(fields)
                 if (place in self.chexpert or place in self.direct) and (value := text.strip())}
        if not self.direct:
            numbers = {"present": 1.0, "absent": 0.0, "uncertain": -1.0}
            return from_chexpert({self.chexpert[p]: numbers[state] for p, state in given.items()}, self.vocabulary)
        states: dict[str, str] = {}
        for place, finding in self.direct.items():
            if place in given:
                states[finding] = _stronger(states.get(finding), given[place])
        told = dict(states)
        known = self.vocabulary.label_set("chexpert")
        for place, label in self.chexpert.items():
            if place in given and label in known:
                finding = known[label].name
                if finding not in told and self._counts(label, finding, given[place], told):
                    states[finding] = given[place]
        vector = Vector()
        for name, state in states.items():
            vector = vector.with_state(self.vocabulary[name].bit, state)
        return close_upwards(vector, self.vocabulary)

    def _counts(self, label: str, finding: str, state: str, told: dict[str, str]) -> bool:
        """Whether a label's state holds for its own finding."""
        wider = SPEAK_FOR.get(label, ())
        if any(told.get(name) == state for name in wider):
            return False
        columned = set(self.direct.values())
        if finding not in columned:
            return True
        # Its own column is empty: something without a column speaks here, and counts where it implies the finding.
        below = self.vocabulary.unpack(self.vocabulary.descendants(self.vocabulary.mask([finding])))
        return state == "present" and all(name in below for name in wider if name not in columned)


def columns_meaning(path: Path, columns: list[str], skipped: Collection[str], vocabulary: Vocabulary) -> Meaning:
    """Read the names of columns; those in `skipped` mean nothing here.

    Raises:
        BadInput: no label column; a column that is none and might be one; a label twice. A name is told only where it
            is near a label's: without a row of names the first row may be a patient's.
    """
    known = vocabulary.label_set("chexpert")
    labels = {*known, vocabulary.no_finding.get("chexpert", "No Finding")}
    nih = {f"nih_{label}": finding.name for label, finding in vocabulary.label_set("nih").items()}
    concepts = {f"concept_{name}": name for name in concept_names(vocabulary)}
    chexpert: dict[int, str] = {}
    direct: dict[int, str] = {}
    others: list[int] = []
    for place, column in enumerate(columns):
        label = column.removeprefix("chexpert_")
        if column in skipped:
            continue
        if label in labels:
            if label in chexpert.values():
                raise BadInput(f"{path}: column", column, "each label once, with or without chexpert_ before it")
            chexpert[place] = label
        elif column in nih:
            direct[place] = nih[column]
        elif column in concepts:
            if concepts[column] in vocabulary.names:
                direct[place] = concepts[column]
        else:
            others.append(place)
    prefixed = any(column.startswith(_PREFIXES) for place, column in enumerate(columns) if place not in others)
    loose = prefixed or len(chexpert) >= MOST
    missing = sorted({*labels, *(f"chexpert_{label}" for label in labels), *nih, *concepts}
                     - {name for label in chexpert.values() for name in (label, f"chexpert_{label}")} - {*columns})
    for place in others:
        meant = next((label for label in missing if near(label, [columns[place]])), None)
        if meant is None and loose and not columns[place].startswith(_PREFIXES):
            continue
        said = f"{columns[place]}, near {meant}" if meant is not None else "another name"
        raise BadInput(f"{path}: column {place + 1} of {len(columns)}", said,
                       "a CheXpert label, or nih_, chexpert_ or concept_ before a name of those sets")
    if not chexpert and not direct:
        raise BadInput(str(path), "no column of labels", "columns " + ", ".join(sorted(labels)))
    return Meaning(tuple(columns), chexpert, direct, vocabulary)


def _stronger(one: str | None, other: str) -> str:
    return max((one or "absent", other), key=("absent", "uncertain", "present").index)
