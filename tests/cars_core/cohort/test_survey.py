"""A finished cohort is never opened again, so its digest must change with anything that would change a row."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cars_core.cohort.sources.record import Record
from cars_core.cohort.sources.tree import LocalTree, Tree
from cars_core.cohort.survey import Survey, survey
from cars_core.vectors import Vector
from schemas.errors import BadInput

BASE = Record(name="a", patient="10000032", line=2, vector=Vector(present=4), sex="F", age=50, view="PA",
              licence="CC BY", where="f.csv line 2", place="a.png", study="s", date=datetime.date(2180, 5, 6))


class Said:
    """A source that says what it is told to."""

    def __init__(self, tree: Tree, *records: Record) -> None:
        self.tree, self._records = tree, records

    def origin(self) -> list[str]:
        return []

    def records(self) -> Iterator[Record]:
        yield from self._records


def looked(root: Path, *records: Record, key: bytes = b"k" * 16, files: bool = True) -> Survey:
    return survey(Said(LocalTree(str(root)), *records), name="said", key=key, files=files)


@pytest.mark.parametrize("change", [
    {"vector": Vector(present=8)}, {"patient": "10000033"}, {"age": 51}, {"split": "test"}, {"view": "AP"},
    {"fault": "no"}, {"aside": "lateral view"}, {"licence": "CC0"}, {"date": datetime.date(2180, 5, 7)}, {"name": "b"},
])
def test_whatever_a_record_says_makes_another_cohort(tmp_path: Path, change: dict[str, Any]) -> None:
    """A DICOM replaced by another patient's of equal length, a lexicon mended, a report rewritten."""
    (tmp_path / "a.png").write_bytes(b"1234")
    assert looked(tmp_path, BASE).digest == looked(tmp_path, BASE).digest
    assert looked(tmp_path, BASE).digest != looked(tmp_path, dataclasses.replace(BASE, **change)).digest


def test_a_film_that_comes_later_makes_another_cohort(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"1")
    two = [BASE, dataclasses.replace(BASE, name="b", place="b.png")]
    before = looked(tmp_path, *two)
    (tmp_path / "a.png").write_bytes(b"1234")
    assert looked(tmp_path, *two).digest != before.digest
    assert looked(tmp_path, *two, files=False).digest not in (before.digest, looked(tmp_path, *two).digest)


def test_the_digest_is_keyed_and_tells_nothing_of_who_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1234")
    one = looked(tmp_path, BASE)
    assert one.digest != looked(tmp_path, BASE, key=b"q" * 16).digest
    assert "10000032" not in repr(one)
    assert one.days.of("10000032", BASE.date) == 0


def test_a_mistyped_root_stops_before_the_first_film(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none of 1 is there"):
        looked(tmp_path, BASE)
    with pytest.raises(BadInput, match="no records"):
        looked(tmp_path)
