"""Training the editor: what the card promises is what was done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cars_core.digest import digest
from cars_core.generate.denoiser import FOLD, REGION, Condition, Denoiser, scheduler
from cars_core.generate.pairs import Base
from cars_core.generate.train import train_editor
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
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


def test_what_the_model_says_is_clean_is_what_the_sampler_returns(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler and the training target speak of the same thing: fed the true change, it returns just that."""
    truth = torch.linspace(-1, 2, REGION * REGION).reshape(1, 1, REGION, REGION)

    class Perfect:
        def __call__(self, x: torch.Tensor, *_: object, **__: object) -> object:
            return type("Out", (), {"sample": F.pixel_unshuffle(truth, FOLD).repeat(len(x), 1, 1, 1)})

    monkeypatch.setattr(denoiser, "unet", Perfect())
    asked = Condition("insert", "mass", 0.5, "left", 0, 16, 0.4)
    flat = torch.zeros(REGION, REGION)
    for steps in (1, 7, 20):
        made = denoiser.sample(source=flat, mask=flat, condition=asked, steps=steps, guidance=2.0, seed=1)
        assert torch.allclose(made, truth[0, 0], atol=1e-4)
