"""Training the editor: what the card promises is what was done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cars_core.digest import digest
from cars_core.generate.denoiser import Denoiser, scheduler
from cars_core.generate.pairs import Base
from cars_core.generate.train import train_editor
from cars_core.phantom.film import render
from cars_core.phantom.patient import draw_patient
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

VOCABULARY = load_vocabulary()


def bases(n: int) -> list[Base]:
    out = []
    for i in range(n):
        made = render(draw_patient(400 + i), (), size=128, noise_seed=i)
        out.append(Base(made.pixels, made.anatomy, 0, digest(["film", i]), f"p{i}"))
    return out


def test_a_short_training_writes_a_loadable_editor_that_offers_only_what_it_can(tmp_path: Path) -> None:
    films = bases(20)
    card = train_editor(
        tmp_path, bases=films, vocabulary=VOCABULARY, steps=2, batch=2, pairs=8, channels=(32, 32), each=1
    )
    assert card["trained_on"] == sorted(f.image_id[:12] for f in films)
    assert card["scores"] and card["scores"]["sham"]["n"] > 0
    # After two steps it can do nothing, so nothing may be offered.
    assert card["offers"] == {"insert": [], "delete": []}
    assert Denoiser(tmp_path).digest == card["sha256"]


def test_too_few_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="training films"):
        train_editor(tmp_path, bases=bases(3), vocabulary=VOCABULARY, steps=2, pairs=2)


def test_the_last_training_noise_hides_the_change_entirely() -> None:
    """Sampling starts from pure noise; a schedule that leaves a trace there makes every edit too weak."""
    plan = scheduler()
    last = torch.tensor([plan.config.num_train_timesteps - 1])
    noise = torch.randn(1, 1, 8, 8)
    assert torch.allclose(plan.add_noise(torch.ones(1, 1, 8, 8), noise, last), noise, atol=1e-3)


def test_a_perfect_denoiser_is_recovered_by_the_sampler() -> None:
    """The sampler and the training target speak of the same thing: fed the true change, it returns it."""
    plan, truth = scheduler(), torch.rand(1, 1, 12, 12)
    plan.set_timesteps(7)
    x = torch.randn(1, 1, 12, 12)
    for t in plan.timesteps:
        x = plan.step(truth, t, x, eta=0.0).prev_sample
    assert torch.allclose(x, truth, atol=1e-4)
