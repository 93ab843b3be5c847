"""Training: the same seed gives the same model, labels nobody gave do not teach, a lost loss stops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cars_core.evaluate.backbones import Backbone
from cars_core.evaluate.finetune import CHECKPOINTS, Labelled, masked_loss, positive_weights, predict, train_arm
from cars_core.evaluate.metrics import auroc
from schemas.errors import BadInput
from schemas.recipe import Evaluation

SETTINGS = Evaluation(backbone="mobilenetv3_small_050", image_size=32, steps=25, batch=8, lr=3e-3, seeds=[0])


def squares(n: int, seed: int) -> Labelled:
    """Noise with a bright square at the picture's left (finding 0) or right (finding 1)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.5).astype(np.float32)
    pixels = rng.integers(40, 90, (n, 32, 32), np.uint8)
    for film, (left, right) in zip(pixels, labels, strict=True):
        film[10:20, 3:13] += np.uint8(120 * left)
        film[10:20, 19:29] += np.uint8(120 * right)
    return Labelled(pixels, labels)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads waiting for each other on a busy machine make these small networks slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_film_without_a_label_teaches_nothing_and_a_known_one_does() -> None:
    """Reading "not mentioned" as absent teaches the model to miss findings."""
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], requires_grad=True)
    labels = torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])
    weights = torch.tensor([4.0, 2.0])
    loss = masked_loss(logits, labels, weights)
    loss.backward()
    by_hand = (4 * np.log1p(np.exp(-0.3)) + np.log1p(np.exp(0.5))) / 2
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False], [False, True]]
    assert masked_loss(logits, torch.full((2, 2), float("nan")), weights).item() == 0


def test_class_weights_are_the_odds_of_absence_and_clipped() -> None:
    nan = float("nan")
    labels = np.array([[1, 1, 0, 1], [0, 1, 0, nan], [0, 1, 0, nan], [nan, 0, 0, 0]] + [[nan, nan, 0, 0]] * 30,
                      np.float32)
    assert positive_weights(labels) == pytest.approx([2.0, 1 / 3, 10.0, 10.0])


def test_the_same_seed_twice_gives_identical_predictions_and_learns_which_side() -> None:
    """A comparison of arms is worth nothing when a rerun moves it."""
    real, validate, test = squares(120, 1), squares(40, 2), squares(60, 3)
    run = [train_arm(real=real, subset=None, validate=validate, test=test.pixels, settings=SETTINGS, seed=s)
           for s in (5, 5, 6)]
    assert (run[0].probabilities == run[1].probabilities).all()
    assert (run[0].probabilities != run[2].probabilities).any()
    assert run[0].step in {round(c * SETTINGS.steps) for c in CHECKPOINTS}
    assert run[0].validation > 0.8  # prevalence, which is chance for AUPRC, is 0.5
    for k in range(2):
        assert auroc(test.labels[:, k] == 1, run[0].probabilities[:, k]) > 0.75


def test_the_subset_reaches_the_model_and_its_labels_count() -> None:
    """Two arms that saw the same films would always show no difference."""
    real, validate, test = squares(40, 1), squares(20, 2), squares(20, 3)
    added = squares(20, 4)
    contrary = Labelled(added.pixels, 1 - added.labels)
    got = [train_arm(real=real, subset=s, validate=validate, test=test.pixels, settings=SETTINGS, seed=0).probabilities
           for s in (None, added, contrary)]
    assert np.abs(got[0] - got[1]).max() > 1e-3
    assert np.abs(got[1] - got[2]).max() > 1e-3


class Constant(torch.nn.Module):
    """The same logits for every film."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


def test_probabilities_mean_the_arms_prevalence_not_the_class_weights() -> None:
    """Without information in the films the honest answer is the prevalence; a balanced loss says 0.5."""
    labels = np.zeros((100, 2), np.float32)
    labels[:15, 0] = labels[:60, 1] = 1
    weights, target, net = torch.from_numpy(positive_weights(labels)), torch.from_numpy(labels), Constant(2)
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=50)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = masked_loss(net(target), target, weights)
        value.backward()
        return value

    optimiser.step(loss)
    assert torch.sigmoid(net.logits).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    got = predict(Backbone(net, 0.5, 0.25), np.zeros((5, 8, 8), np.uint8), weights, batch=2)
    assert got.shape == (5, 2)
    assert got[4].tolist() == pytest.approx([0.15, 0.6], abs=1e-3)


def test_a_loss_that_is_lost_stops_the_run_and_names_the_step() -> None:
    """Weights of NaN would come back as a plausible-looking table of chance results."""
    films = squares(16, 0)
    settings = SETTINGS.model_copy(update={"lr": 1e30})
    with pytest.raises(BadInput, match=r"evaluation\.lr.*seed 3, step \d+"):
        train_arm(real=films, subset=None, validate=films, test=films.pixels, settings=settings, seed=3)


def test_validation_without_positives_keeps_the_last_checkpoint() -> None:
    films = squares(16, 0)
    blank = Labelled(films.pixels, np.zeros_like(films.labels))
    got = train_arm(real=films, subset=None, validate=blank, test=films.pixels, settings=SETTINGS, seed=0)
    assert got.step == SETTINGS.steps
    assert np.isnan(got.validation)
