"""What a film's finding vector becomes when findings are inserted into it or deleted from it."""

from __future__ import annotations

from collections.abc import Iterable

from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

#: Sources whose labels are another's set.
LABEL_SET = {"mimic": "chexpert", "chexpert-plus": "chexpert"}

#: (insert | delete, name of the finding)
Operation = tuple[str, str]


def stated_by(source: str, vocabulary: Vocabulary) -> int:
    """Mask of the findings that a source's labels state themselves; the rest of a vector is implied.

    `nih` states its 14 labels. A source without a label set of its own (simulated films, a folder) states leaves
    only, so that everything above them is implied: 0.
    """
    return vocabulary.mask(sorted({f.name for f in vocabulary.label_set(LABEL_SET.get(source, source)).values()}))


def target_vector(source: Vector, operations: Iterable[Operation], *, vocabulary: Vocabulary,
                  stated: int = 0) -> Vector:
    """The vector of the edited film.

    A deleted finding becomes absent. What it implied goes with it when nothing on the film supports it
    any more: a finding above it that the label set does not state (`stated`) turns absent, or uncertain
    where an uncertain finding below it is left. One that the label set does state stays: the label may
    have been given for its own sake. An inserted finding becomes present, and so does all it implies,
    even where the source says absent: that was said of the film before the edit. The rest is kept.

    Args:
        source: the film's vector.
        operations: (insert | delete, finding) pairs; their order does not matter.
        vocabulary: names and implications.
        stated: mask of the findings the label set states itself (`stated_by`).

    Raises:
        BadInput: inserting what is present or uncertain, deleting what is not present or what a finding
        left on the film implies, or one finding both ways.
    """
    inserted = deleted = 0
    for kind, name in operations:
        bit = 1 << vocabulary[name].bit
        if kind == "insert" and not (source.present | source.uncertain | inserted) & bit:
            inserted |= bit
        elif kind == "delete" and source.present & ~deleted & bit:
            deleted |= bit
        else:
            raise BadInput(f"{kind} {name}", source.state(vocabulary[name].bit),
                           "insert of an absent or unmentioned finding, or delete of a present one, once")
    present, absent, uncertain = source.present & ~deleted, source.absent | deleted, source.uncertain
    for name in vocabulary.unpack(deleted):
        if left := vocabulary.unpack(vocabulary.descendants(1 << vocabulary[name].bit) & present):
            raise BadInput(f"delete {name}", f"{left[0]} stays", "a finding that nothing left on the film implies")
    # Whether a finding is supported from below is settled by leaves and stated findings, so no order is needed:
    # an implied one that is itself unsupported supports nothing above it.
    implied = vocabulary.ancestors(deleted) & present & ~stated
    for name in vocabulary.unpack(implied):
        bit = 1 << vocabulary[name].bit
        below = vocabulary.descendants(bit)
        if not below & present & ~implied:
            present &= ~bit
            if below & uncertain:
                uncertain |= bit
            else:
                absent |= bit
    up = inserted | vocabulary.ancestors(inserted)
    if up & deleted:
        raise BadInput("operations", vocabulary.unpack(up & deleted)[0], "a finding either inserted or deleted")
    return Vector(present | up, absent & ~up, uncertain & ~up)
