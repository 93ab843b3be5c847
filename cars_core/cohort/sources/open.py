"""The sources a recipe can name, opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cars_core.cohort.sources.chexpert import ChexpertSource
from cars_core.cohort.sources.chexpert_plus import ChexpertPlusSource
from cars_core.cohort.sources.dicom_folder import DicomFolderSource
from cars_core.cohort.sources.folder import FolderSource
from cars_core.cohort.sources.mimic import MimicSource
from cars_core.cohort.sources.nih import NihSource
from cars_core.cohort.sources.padchest import PadchestSource
from cars_core.cohort.sources.record import Source
from cars_core.cohort.sources.tables import Table
from cars_core.cohort.sources.tree import Tree, open_tree
from cars_core.cohort.sources.vindr import VindrSource
from cars_core.reports.external import read_labels
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas import recipe

#: Column of an external labeler's CSV that says of which study or film a row speaks.
KEY_COLUMN = {"mimic": "study_id", "chexpert": "Path", "chexpert-plus": "path_to_image"}

Storage = Mapping[str, str] | None
External = Mapping[str, Vector] | None


def open_source(asked: recipe.Source, *, vocabulary: Vocabulary, storage: Storage = None) -> Source:
    """Open one real source.

    Args:
        storage: lake.storage.STORAGE_KEYS -> value, for a root on S3.

    Raises:
        BadInput: no such place, or not the files this source has.
    """
    return _OPENED[asked.source](asked, open_tree(asked.root, storage=storage), vocabulary, storage)


def _external(asked: recipe.Source, vocabulary: Vocabulary) -> External:
    """Labels of another labeler by study or film, or None where the recipe names none."""
    if asked.external is None:
        return None
    # A row that cannot be read leaves its films without labels, and they are set aside for it; the rest goes on.
    return read_labels(Path(asked.external), key_column=KEY_COLUMN[asked.source], vocabulary=vocabulary,
                       passed_over=("subject_id", "dicom_id"), faults={})


def _chexpert(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    return ChexpertSource(tree, vocabulary=vocabulary, labels=asked.labels, limit=asked.limit,
                          external=_external(asked, vocabulary))


def _chexpert_plus(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    external = _external(asked, vocabulary)
    labeler = "impression_fixed" if asked.labeler == "published" else asked.labeler
    return ChexpertPlusSource(tree, vocabulary=vocabulary, labels=asked.labels, limit=asked.limit, external=external,
                              labeler="external" if external is not None else labeler)


def _dicom(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    labels = None if asked.labels is None else Table(tree, asked.labels)
    return DicomFolderSource(tree, vocabulary=vocabulary, labels=labels, columns=asked.columns,
                             label_names=asked.label_names, absent=asked.absent, licence=asked.licence,
                             limit=asked.limit)


def _folder(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    return FolderSource(tree, labels=asked.labels or "labels.csv", columns=asked.columns, vocabulary=vocabulary,
                        licence=asked.licence, label_names=asked.label_names, absent=asked.absent, limit=asked.limit)


def _mimic(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, storage: Storage) -> Source:
    external = _external(asked, vocabulary)
    labeler = "chexpert" if asked.labeler == "published" else asked.labeler
    return MimicSource(tree, vocabulary=vocabulary, labeler="external" if external is not None else labeler,
                       external=external, patients=asked.patients, limit=asked.limit,
                       reports_tree=None if asked.reports is None else open_tree(asked.reports, storage=storage))


def _nih(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    return NihSource(tree, vocabulary=vocabulary, labels=asked.labels, limit=asked.limit)


def _padchest(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    return PadchestSource(tree, vocabulary=vocabulary, labels=asked.labels, limit=asked.limit)


def _vindr(asked: recipe.Source, tree: Tree, vocabulary: Vocabulary, _: Storage) -> Source:
    return VindrSource(tree, vocabulary=vocabulary, limit=asked.limit)


_OPENED: dict[str, Callable[[recipe.Source, Tree, Vocabulary, Storage], Source]] = {
    "chexpert": _chexpert, "chexpert-plus": _chexpert_plus, "dicom": _dicom, "folder": _folder, "mimic": _mimic,
    "nih": _nih, "padchest": _padchest, "vindr": _vindr,
}
