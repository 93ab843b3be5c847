"""Hostile films and label files get a reason and nothing else: no exception, crash, hang or text of theirs comes out.

A short run of benchmarks/fuzz.py; docs/hostile-input.md has the long one.
"""

from __future__ import annotations

import importlib
import pickle
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from cars_core.cohort.films import decode_bytes

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
INPUTS = 400


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """benchmarks/fuzz.py as a module that the guard's processes can import too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("fuzz")


@pytest.fixture(scope="module")
def base(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, list[bytes]]]:
    files = fuzz.make(64)
    path = tmp_path_factory.mktemp("base") / "base"
    path.write_bytes(pickle.dumps(files))
    return str(path), files


@pytest.fixture(scope="module")
def outcomes(fuzz: ModuleType, base: tuple[str, dict[str, list[bytes]]]) -> list[Any]:
    path, files = base
    return [o for _, o in fuzz.run(range(INPUTS), seed=4, base=path, workers=2, base_files=files)]


def test_nothing_but_a_film_or_a_reason_comes_out(outcomes: list[Any]) -> None:
    assert [(at, o) for at, o in enumerate(outcomes) if o.state == "failed"] == []
    assert len(outcomes) == INPUTS


def test_the_damage_reaches_every_reader_and_leaves_some_films_readable(outcomes: list[Any]) -> None:
    """A fuzzer whose inputs are all refused at the door tests the door alone."""
    kinds = Counter(o.kind for o in outcomes)
    syntaxes = {"explicit", "implicit", "big endian", "deflated", "RLE", "JPEG", "JPEG-LS", "JPEG 2000"}
    assert set(kinds) == {"PNG", "JPEG", "label file", *(f"DICOM {s}" for s in syntaxes)}
    assert sum(o.state == "read" for o in outcomes) > INPUTS / 10
    assert len({o.text for o in outcomes if o.state == "refused"}) > 10


def test_reasons_are_few_so_they_hold_no_values(outcomes: list[Any]) -> None:
    assert len({o.text for o in outcomes if o.state == "refused"}) < 60


def test_an_input_is_the_same_in_every_run(fuzz: ModuleType, base: tuple[str, dict[str, list[bytes]]]) -> None:
    files = base[1]
    assert [fuzz.damaged(4, i, files) for i in range(40)] == [fuzz.damaged(4, i, files) for i in range(40)]
    assert fuzz.damaged(4, 0, files) != fuzz.damaged(5, 0, files)


def test_the_undamaged_films_are_read_and_all_transfer_syntaxes_hold_one_picture(
        fuzz: ModuleType, base: tuple[str, dict[str, list[bytes]]]) -> None:
    """Else the damage would be done to files that are refused anyway."""
    for kind, files in base[1].items():
        for data in files:
            assert decode_bytes(data).pixels.shape == (64, 64), kind
    dicoms = {k: dcmread(BytesIO(files[0])).pixel_array for k, files in base[1].items() if k.startswith("DICOM")}
    for kind, pixels in dicoms.items():
        np.testing.assert_array_equal(pixels, dicoms["DICOM explicit"], err_msg=kind)


def test_a_fault_in_a_reader_is_seen_as_one(fuzz: ModuleType, base: tuple[str, dict[str, list[bytes]]],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(data: bytes, *, bits: int) -> None:
        raise fuzz.UnusableFilm("PatientName CANARY is too long")

    def broken(data: bytes, *, bits: int) -> None:
        raise RecursionError

    film = next(i for i in range(20) if fuzz.damaged(4, i, base[1])[0] == "PNG")
    for reader in (leaky, broken):
        monkeypatch.setattr(fuzz, "decode_bytes", reader)
        assert fuzz.check(4, base[0], film).state == "failed"
