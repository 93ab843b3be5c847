"""One small simulated cohort, laid out once in each way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import FilmSpec, films
from cars_core.vocabulary import load_vocabulary

SIZE, N, SEED = 96, 14, 12


def split_of(patient: str) -> str:
    return ("train", "test", "validate")[int(patient.rsplit("-", 1)[1]) % 3]


@pytest.fixture(scope="session")
def specs() -> list[FilmSpec]:
    return list(films(n=N, seed=SEED, size=SIZE, withheld=[], split_of=split_of, vocabulary=load_vocabulary()))


Written = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def written(specs: list[FilmSpec], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """layout -> (folder, manifest)."""

    @cache
    def write(layout: str) -> tuple[Path, dict[str, Any]]:
        out = tmp_path_factory.mktemp("cohort") / layout
        return out, write_cohort(iter(specs), out=out, layout=layout)

    return write


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    """Folder -> digest of every file in it."""
    return lambda root: {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
                         for p in sorted(root.rglob("*")) if p.is_file()}


#: CheXpert label -> the findings that its labeller reads as it, by their names in the statements.
_PHRASES = {
    "Enlarged Cardiomediastinum": {"enlarged_cardiomediastinum"}, "Cardiomegaly": {"cardiomegaly"},
    "Lung Opacity": {"lung_opacity", "infiltration"}, "Lung Lesion": {"lung_lesion", "mass", "nodule"},
    "Edema": {"edema"}, "Consolidation": {"consolidation"}, "Pneumonia": {"pneumonia"},
    "Atelectasis": {"atelectasis"}, "Pneumothorax": {"pneumothorax"}, "Pleural Effusion": {"effusion"},
    "Pleural Other": {"pleural_other", "pleural_thickening", "fibrosis"}, "Fracture": {"fracture"},
    "Support Devices": {"support_devices"}}


@pytest.fixture(scope="session")
def labelled() -> Callable[[str], dict[str, float | None]]:
    """Statements as JSON -> what a labeller without a hierarchy makes of them; None where it says nothing."""

    def read(statements: str) -> dict[str, float | None]:
        said = [(s["finding"], s["state"]) for s in json.loads(statements)]
        out: dict[str, float | None] = {}
        for label, findings in _PHRASES.items():
            states = {state for finding, state in said if finding in findings}
            order = (("present", 1.0), ("uncertain", -1.0), ("absent", 0.0))
            out[label] = next((value for state, value in order if state in states), None)
        found = any(finding != "support_devices" and state != "absent" for finding, state in said)
        return out | {"No Finding": None if found else 1.0}

    return read
