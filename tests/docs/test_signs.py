"""The page of signs in the documentation: what it shows must hold for other patients than the one on it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import SHOWN

SIZE = 128
DOCS = Path(__file__).resolve().parents[2] / "docs"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


signs = _load("signs")


def test_the_page_shows_every_finding_alone_and_six_combinations() -> None:
    assert sorted(s.placed[0].finding for s in signs.SINGLE) == sorted(SHOWN)
    assert len(signs.COMBINED) == 6


@pytest.mark.parametrize("sign", [*signs.SINGLE, *signs.COMBINED], ids=lambda s: s.name)
@pytest.mark.parametrize("patient", [4, 17])
def test_a_sign_is_seen_and_nothing_changes_beyond_its_reach(sign: signs.Sign, patient: int) -> None:
    person = draw_patient(patient)
    if sign.supine:
        person = replace(person, view="AP", supine=True)
    clean, sick = (render(person, placed, size=SIZE, noise_seed=5) for placed in ((), sign.placed))
    reach = np.logical_or.reduce(list(sick.reaches.values()))
    change = np.abs(sick.pixels.astype(int) - clean.pixels)
    assert not change[~reach].any()
    assert change[reach].max() > 12
    assert reach.mean() < 0.75  # no finding repaints the film
    for one in sign.placed:
        assert sick.finding_masks[one.finding].any()
        assert reach[sick.finding_masks[one.finding]].mean() > 0.4  # a fracture's extent is the place round the break
