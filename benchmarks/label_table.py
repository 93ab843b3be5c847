"""Times reading the labels of a whole MIMIC-CXR-JPG: tables as large as the set's, of invented patients, no films.

    python benchmarks/label_table.py [FILMS] [--keep FOLDER] [--unpacked]

FILMS is 377,110 unless given; studies and subjects keep their shares of it (227,835 and 65,379 of the whole set).
Prints the seconds of processor time and the memory that MimicSource.records() takes, and how many different vectors
come out. The tables go into a temporary folder, or into FOLDER; --unpacked writes them without gzip.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.cohort.sources.mimic import MimicSource
from cars_core.cohort.sources.tree import open_tree
from cars_core.phantom.layouts.mimic import (
    CHEXPERT,
    LABEL_COLUMNS,
    METADATA,
    METADATA_COLUMNS,
    PATIENTS,
    PATIENTS_COLUMNS,
    SPLIT,
    SPLIT_COLUMNS,
    YEAR_GROUPS,
)
from cars_core.vocabulary import load_vocabulary

FILMS, STUDIES, SUBJECTS = 377_110, 227_835, 65_379
#: MIMIC-IV 3.1 has 364,627 patients; most have no film.
PATIENTS_PER_SUBJECT = 364_627 / SUBJECTS
UNLABELED = 8  # studies without a row of labels, as in the set
#: Rough shares of views. States of labels as in CheXpert's train.csv, and mixed so that about as many different rows
#: come out as it has (23,707).
VIEWS, VIEW_SHARES = ("AP", "PA", "LATERAL", "LL", ""), (0.39, 0.255, 0.22, 0.093, 0.042)
STATES, STATE_SHARES = ("", "1.0", "0.0", "-1.0"), (0.728, 0.165, 0.062, 0.045)
FAMILIES = 40  # reports of one kind are labelled alike
SPLITS, SPLIT_SHARES = ("train", "validate", "test"), (0.977, 0.008, 0.015)
SEED = 1


def write_tables(root: Path, *, films: int = FILMS, packed: bool = True, seed: int = SEED) -> None:
    """The metadata, split, label and patient tables of a set with so many films, in `root`."""
    rng = np.random.default_rng(seed)
    studies, subjects = max(1, films * STUDIES // FILMS), max(1, films * SUBJECTS // FILMS)
    subject_of_study = np.sort(np.concatenate([np.arange(subjects), rng.integers(subjects, size=studies - subjects)]))
    study_of_film = np.sort(np.concatenate([np.arange(studies), rng.integers(studies, size=films - studies)]))
    study_ids = 50_000_000 + rng.permutation(9_999_999)[:studies]
    names = rng.bytes(20 * films).hex()
    first_day = rng.integers(20_000, 50_000, size=subjects)
    days = first_day[subject_of_study] + rng.integers(0, 1_500, size=studies)
    dates = np.datetime_as_string(np.datetime64("2060-01-01") + days, unit="D")
    views = rng.choice(VIEWS, size=films, p=VIEW_SHARES)
    parts = rng.choice(SPLITS, size=subjects, p=SPLIT_SHARES)

    def subject_id(i: int) -> int:
        return 10_000_000 + i * 151

    def film(i: int) -> tuple[str, int, int]:
        at = 40 * i
        study = study_of_film[i]
        return ("-".join(names[at + k:at + k + 8] for k in range(0, 40, 8)), subject_id(subject_of_study[study]),
                int(study_ids[study]))

    def metadata() -> Iterator[Sequence[object]]:
        for i in range(films):
            name, subject, study = film(i)
            yield (name, subject, study, "CHEST (PA AND LAT)", views[i], 2544, 3056,
                   dates[study_of_film[i]].replace("-", ""), "101530.937", "CHEST (PA AND LAT)", "postero-anterior",
                   "Erect")

    def split() -> Iterator[Sequence[object]]:
        for i in range(films):
            name, subject, study = film(i)
            yield name, study, subject, parts[subject_of_study[study_of_film[i]]]

    def labels() -> Iterator[Sequence[object]]:
        states = np.array(STATES)
        kinds = rng.dirichlet(STATE_SHARES, size=(FAMILIES, len(LABEL_COLUMNS) - 2)).cumsum(axis=2)
        families = rng.integers(FAMILIES, size=studies)
        for i in range(studies - min(UNLABELED, studies - 1)):
            drawn = (rng.random((len(LABEL_COLUMNS) - 2, 1)) > kinds[families[i]]).sum(axis=1)
            yield subject_id(subject_of_study[i]), study_ids[i], *states[np.minimum(drawn, len(STATES) - 1)]

    def patients() -> Iterator[Sequence[object]]:
        for i in range(round(subjects * PATIENTS_PER_SUBJECT)):
            known = i < subjects
            year = 2060 + (int(first_day[i]) // 365 if known else 90)
            yield (subject_id(i) if known else 30_000_000 + i, "MF"[i % 2], 18 + i % 70, year,
                   YEAR_GROUPS[i % len(YEAR_GROUPS)], "")

    for name, columns, rows in ((METADATA, METADATA_COLUMNS, metadata()), (SPLIT, SPLIT_COLUMNS, split()),
                                (CHEXPERT, LABEL_COLUMNS, labels()), (PATIENTS, PATIENTS_COLUMNS, patients())):
        _write(root / (name if packed else name.removesuffix(".gz")), columns, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "wb") as file:
        raw: IO[bytes] = file
        if path.suffix == ".gz":
            raw = gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=3)  # type: ignore[assignment]
        with io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("films", nargs="?", type=int, default=FILMS)
    options.add_argument("--keep", type=Path)
    options.add_argument("--unpacked", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        root = given.keep or Path(passing)
        root.mkdir(parents=True, exist_ok=True)
        if not any(root.iterdir()):
            write_tables(root, films=given.films, packed=not given.unpacked)
        measure(root)


def measure(root: Path) -> None:
    """Print what reading the tables of a folder costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, wall = time.process_time(), time.perf_counter()
    source = MimicSource(open_tree(str(root)), vocabulary=load_vocabulary())
    count = sum(1 for _ in source.records())
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sets, vectors = Counter[str](), set()
    for record in source.records():
        sets[record.fault or record.aside or "to be read"] += 1
        vectors.add(record.vector)
    print(f"{count:,} records, {len(vectors):,} different vectors: {seconds:.2f} s of processor time ({wall:.2f} s), "
          f"{seconds / count * 1e6:.1f} us a record; memory {peak / 1024:.0f} MB, {before / 1024:.0f} MB before")
    print(", ".join(f"{reason} {n:,}" for reason, n in sets.most_common()))


if __name__ == "__main__":
    main()
