"""A small editor with random weights: what is tested here holds for any weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cars_core import weights
from cars_core.generate.denoiser import Denoiser, build_unet
from cars_core.generate.pairs import TRAINED, Base
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.vocabulary import load_vocabulary


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    folder = tmp_path_factory.mktemp("editor")
    vocabulary = load_vocabulary()
    torch.manual_seed(0)
    net = build_unet(len(TRAINED), channels=(32, 32))
    card = {
        "kind": "editor",
        "findings": [(f, vocabulary[f].bit) for f in TRAINED],
        "channels": [32, 32],
        "offers": {"insert": list(TRAINED), "delete": ["effusion", "mass"]},
    }
    weights.save_weights(folder, net, card)
    return Denoiser(folder)


@pytest.fixture(scope="session")
def base() -> Base:
    made = render(draw_patient(5), (), size=192, noise_seed=2)
    return Base(made.pixels, made.anatomy, 0, "0" * 64, "p5")


@pytest.fixture(scope="session")
def weights_folder(denoiser: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(next(p for p in tmp_path_factory.getbasetemp().glob("editor*") if (p / "model.json").is_file()))
