"""Fine-tune one backbone on one arm with one seed, and predict the test films."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from cars_core.evaluate.backbones import Backbone, build_backbone
from cars_core.evaluate.data import Batches, Pixels, augmented
from cars_core.evaluate.metrics import average_precision
from schemas.errors import BadInput
from schemas.recipe import Evaluation

CHECKPOINTS = (0.4, 0.6, 0.8, 1.0)  # parts of the schedule after which validation is read
WARMUP = 0.1                        # part of the schedule the learning rate rises over
WEIGHT_DECAY = 0.05
POSITIVE_WEIGHT = 10.0              # the class weight is clipped to 1/10 .. 10
CHECK_EVERY = 10                    # steps between looks at the loss: a look waits for the device


@dataclass(frozen=True)
class Labelled:
    """Pixels uint8 [N, S, S] and labels float32 [N, K] (1, 0, NaN)."""

    pixels: Pixels
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """Test probabilities float32 [N, K], the step whose weights gave them, and the validation macro
    AUPRC they were chosen by (NaN when no finding had both positives and negatives there)."""

    probabilities: NDArray[np.float32]
    step: int
    validation: float


def positive_weights(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Negatives over positives of each finding among its known labels, clipped to 1/10 .. 10: float32 [K]."""
    positives = (labels == 1).sum(axis=0)
    negatives = (labels == 0).sum(axis=0)
    ratio = np.divide(negatives, positives, out=np.full(labels.shape[1], POSITIVE_WEIGHT), where=positives > 0)
    return np.clip(ratio, 1 / POSITIVE_WEIGHT, POSITIVE_WEIGHT).astype(np.float32)


def masked_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Class-weighted binary cross-entropy over the known labels: mean of a [B, K] batch without its NaNs.

    A batch without a known label has loss 0.
    """
    known = ~torch.isnan(labels)
    loss = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(labels), pos_weight=weights, reduction="none")
    # `where`, not a product: a NaN logit must reach the loss, and an unknown label must not
    return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)


def train_arm(*, real: Labelled, subset: Labelled | None, validate: Labelled, test: Pixels, settings: Evaluation,
              seed: int, arm: str = "real", progress: Callable[[int], None] | None = None) -> Trained:
    """Train on `real`, or on `real` with `subset` mixed in, and predict `test`.

    AdamW, linear warmup then cosine to zero, class-balanced masked cross-entropy, the checkpoint with
    the best macro AUPRC on `validate`. Everything random comes from `seed`, and both arms of a seed
    share initial weights, real films and augmentation (`Batches`). Runs on a CUDA device under bf16
    autocast where there is one, else on the CPU in float32.

    The class weights w move the optimum of the logit by log w; probabilities are given with that taken
    back, so that they mean the prevalence of the arm's own films (Elkan 2001) and calibration is not
    judged on the weights.

    Args:
        progress: called with 1 after every step.

    Raises:
        BadInput: the loss is not finite any more, or the backbone or its weights do not fit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, outputs = real.pixels.shape[1], real.labels.shape[1]
    backbone = build_backbone(settings.backbone, outputs=outputs, image_size=size, seed=seed,
                              pretrained=settings.pretrained)
    net = backbone.net.to(memory_format=torch.channels_last).to(device)
    labels = real.labels if subset is None else np.concatenate([real.labels, subset.labels])
    weights = torch.from_numpy(positive_weights(labels)).to(device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings.steps))
    batches = Batches(real=len(real.labels), subset=0 if subset is None else len(subset.labels),
                      batch=settings.batch, steps=settings.steps, seed=seed)
    looks = {max(1, round(part * settings.steps)) for part in CHECKPOINTS}
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    losses: list[torch.Tensor] = []
    with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        torch.manual_seed(seed)  # dropout and stochastic depth
        net.train()
        for step, (indices, moves) in enumerate(batches, 1):
            pixels = _gather(real, subset, indices)
            images = augmented(_unit(pixels, device), moves.to(device))
            target = torch.from_numpy(labels[indices]).to(device)
            loss = masked_loss(_logits(backbone, images, device), target, weights)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
            if step % CHECK_EVERY == 0 or step in looks:
                _check_finite(losses, step, settings, arm, seed)
                losses.clear()
            if step in looks:
                value = _macro(validate.labels, predict(backbone, validate.pixels, weights, batch=settings.batch))
                if best is None or value > best[0] or math.isnan(best[0]):
                    state = {k: v.detach().clone() for k, v in net.state_dict().items()}
                    best = (value, step, state)
                net.train()
            if progress:
                progress(1)
    if best is None:  # looks always holds the last step
        raise BadInput("evaluation.steps", settings.steps, "at least 1")
    net.load_state_dict(best[2])
    return Trained(predict(backbone, test, weights, batch=settings.batch), best[1], best[0])


def predict(backbone: Backbone, pixels: Pixels, weights: torch.Tensor, *, batch: int) -> NDArray[np.float32]:
    """Probabilities float32 [N, K] of films uint8 [N, S, S], the class weights [K] taken back."""
    device = weights.device
    backbone.net.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            logits = _logits(backbone, _unit(np.asarray(pixels[start:start + batch]), device), device)
            out.append(torch.sigmoid(logits - torch.log(weights)).cpu().numpy())
    return np.concatenate(out)


def _rate(step: int, steps: int) -> float:
    """Part of the learning rate at a step: linear warmup, then cosine to zero."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _gather(real: Labelled, subset: Labelled | None, indices: NDArray[np.int64]) -> Pixels:
    if subset is None:
        return real.pixels[indices]
    out = np.empty((len(indices), *real.pixels.shape[1:]), np.uint8)
    own = indices < len(real.labels)
    out[own] = real.pixels[indices[own]]
    out[~own] = subset.pixels[indices[~own] - len(real.labels)]
    return out


def _unit(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """uint8 [B, S, S] -> float32 [B, 1, S, S] in 0..1 on the device (moved as bytes)."""
    return torch.from_numpy(np.array(pixels))[:, None].to(device).float().div_(255)


def _logits(backbone: Backbone, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    x = ((images - backbone.mean) / backbone.std).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        logits: torch.Tensor = backbone.net(x)
    return logits.float()


def _macro(labels: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
    values = []
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        if known.any():
            truth = labels[known, k] == 1
            values.append(average_precision(truth, probabilities[known, k], np.ones((1, len(truth))))[0])
    defined = [v for v in values if not math.isnan(v)]
    return float(np.mean(defined)) if defined else math.nan


def _check_finite(losses: list[torch.Tensor], step: int, settings: Evaluation, arm: str, seed: int) -> None:
    finite = torch.isfinite(torch.stack(losses)).tolist()
    if not all(finite):
        first = step - len(losses) + 1 + finite.index(False)
        raise BadInput("evaluation.lr", settings.lr,
                       f"a rate at which the loss stays finite: it did not with {settings.backbone}, arm {arm}, "
                       f"seed {seed}, step {first}")
