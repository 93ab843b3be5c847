"""Training of the region model on counterfactual pairs, and the test that decides what it offers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from cars_core import weights
from cars_core.digest import digest
from cars_core.generate.denoiser import FOLD, REGION, SCALE, Denoiser, build_unet, encode, scheduler
from cars_core.generate.pairs import JITTER, OPERATIONS, TRAINED, Base, Pair, make_pair, make_pairs
from cars_core.phantom.display import to_attenuation
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Progress = Callable[[int, int], None]

#: An operation is offered when, on films held out, this share of edits is closer to the truth than the
#: source is, and the median gain in PSNR is at least this many dB.
OFFER_CLOSER, OFFER_GAIN = 0.75, 1.5

#: Largest weight a little-noised example gets in the loss.
MAX_LEVEL = 6.0


def _batch(
    pairs: list[Pair], rng: np.random.Generator, *, sham: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[Pair]]:
    """Source attenuation, change and mask [B, 1, REGION, REGION] under one random cut and grey curve a pair."""
    before, after, mask, used = [], [], [], []
    for p in pairs:
        dy, dx = rng.integers(0, JITTER + 1, 2)
        at = (slice(dy, dy + REGION), slice(dx, dx + REGION))
        gamma, lift = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(-12, 12)

        def curve(grey: np.ndarray, gamma: float = gamma, lift: float = lift) -> np.ndarray:
            return np.clip(255 * (grey / 255.0) ** gamma + lift, 0, 255).astype(np.float32)

        still = rng.random() < sham
        before.append(to_attenuation(curve(p.before[at])))
        after.append(before[-1] if still else to_attenuation(curve(p.after[at])))
        mask.append(p.mask[at].astype(np.float32) / 255)
        c = p.condition
        used.append(
            p
            if not still
            else Pair(
                p.before,
                p.before,
                p.mask,
                type(c)(
                    kind="insert",
                    finding="",
                    severity=0.0,
                    side=c.side,
                    source_present=c.source_present,
                    target_present=c.source_present,
                    box_share=c.box_share,
                ),
            )
        )
    source = torch.from_numpy(np.stack(before))[:, None]
    change = (torch.from_numpy(np.stack(after))[:, None] - source) / SCALE
    return source, change, torch.from_numpy(np.stack(mask))[:, None], used


def train_editor(
    out: Path,
    *,
    bases: list[Base],
    vocabulary: Vocabulary,
    steps: int = 6000,
    batch: int = 16,
    pairs: int = 6000,
    lr: float = 4e-4,
    seed: int = 0,
    channels: tuple[int, ...] = (96, 128, 192),
    each: int = 16,
    data: str = "",
    command: str = "cars train editor",
    progress: Progress = lambda done, total: None,
    stage: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Train on `bases` (training patients only), test on a tenth of the patients kept aside, write weights and card.

    Returns the card; `each` held-out edits an operation are scored in it. Its `trained_on` names every film
    used, by the first 12 digits of its `image_id`, so that a build can refuse an editor that has seen its
    evaluation patients.

    Raises:
        BadInput: too few films with usable lungs.
    """
    aside = [b for b in bases if _kept_aside(b)]
    train = [b for b in bases if not _kept_aside(b)]
    if len(train) < 8 or not aside:
        raise BadInput("training films", len(bases), "at least some twenty films with both lungs found")
    stage("pairs")
    pool = make_pairs(train, pairs, seed=seed, vocabulary=vocabulary, progress=progress)
    findings = [(f, vocabulary[f].bit) for f in TRAINED]
    torch.manual_seed(seed)
    unet = build_unet(len(findings), channels=channels).to(memory_format=torch.channels_last)
    ema = build_unet(len(findings), channels=channels)
    ema.load_state_dict(unet.state_dict())
    plan, rng, noise_rng = scheduler(), np.random.default_rng(seed + 1), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.05)
    card: dict[str, Any] = {
        "kind": "editor",
        "findings": findings,
        "channels": list(channels),
        "region": REGION,
        "fold": FOLD,
        "scale": SCALE,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "steps": steps,
        "batch": batch,
        "pairs": pairs,
        "seed": seed,
        "lr": lr,
        "data": data,
        "command": command,
        "licence": "Apache-2.0",
        "trained_on": sorted({b.image_id[:12] for b in bases}),
        "offers": {"insert": [], "delete": []},  # nothing, until it has been tested
        "use": "research software for data building, never for diagnosis",
    }
    stage("steps")
    losses: list[float] = []
    for step in range(steps):
        source, change, mask, used = _batch([pool[i] for i in rng.integers(len(pool), size=batch)], rng, sham=0.08)
        classes = encode([p.condition for p in used], findings)
        classes[torch.from_numpy(rng.random(batch) < 0.1)] = 0  # classifier-free guidance
        t = torch.randint(0, plan.config.num_train_timesteps, (batch,), generator=noise_rng)
        noise = torch.randn(change.shape, generator=noise_rng)
        noisy = plan.add_noise(change, noise, t)
        inputs = F.pixel_unshuffle(torch.cat([noisy, source / 2, mask], 1), FOLD).contiguous(
            memory_format=torch.channels_last
        )
        clean = F.pixel_shuffle(unet(inputs, t, None, class_labels=classes).sample, FOLD)
        weight = 0.15 + (mask > 0).float()  # outside the mask the change is thrown away
        weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True)
        # The velocity loss, written for a model that predicts the clean change, and capped near t = 0.
        level = (1 / (1 - plan.alphas_cumprod[t])).clamp(max=MAX_LEVEL)[:, None, None, None]
        loss = ((clean - change) ** 2 * weight * level).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            decay = min(0.999, (step + 1) / (step + 10))
            for a, b in zip(ema.state_dict().values(), unet.state_dict().values(), strict=True):
                a.lerp_(b, 1 - decay)
        losses.append(loss.item())
        if (step + 1) % 500 == 0:  # what is there can be used should the run be ended
            weights.save_weights(out, ema, {**card, "steps": step + 1, "loss": round(float(np.mean(losses[-200:])), 5)})
        progress(step + 1, steps)
    card["loss"] = round(float(np.mean(losses[-200:])), 5)
    weights.save_weights(out, ema, card)
    stage("test")
    scores = score_editor(Denoiser(out), aside, vocabulary=vocabulary, each=each, progress=progress)
    good = [(kind, f) for kind, f in OPERATIONS if _good(scores.get(f"{kind} {f}"))]
    offers = {kind: [f for k, f in good if k == kind] for kind in ("insert", "delete")}
    weights.save_weights(out, ema, {**card, "offers": offers, "scores": scores})
    return json.loads((out / "model.json").read_text())  # type: ignore[no-any-return]


def _kept_aside(base: Base) -> bool:
    return int(digest(["editor", base.patient], length=8), 16) % 10 == 0


def _good(score: dict[str, float] | None) -> bool:
    return bool(score) and score["closer"] >= OFFER_CLOSER and score["gain_db"] >= OFFER_GAIN  # type: ignore[index]


def score_editor(
    denoiser: Denoiser,
    bases: list[Base],
    *,
    vocabulary: Vocabulary,
    each: int = 16,
    steps: int = 20,
    guidance: float = 1.5,
    seed: int = 77,
    progress: Progress = lambda done, total: None,
) -> dict[str, dict[str, float]]:
    """Edits of held-out films against the true counterfactual, per operation.

    `psnr_source` and `psnr_edit` are median PSNR (dB) in attenuation inside edit and band, the former of the
    unedited source: what doing nothing scores. `gain_db` is the median of their difference, `closer` the
    share of edits nearer to the truth than the source. A `sham` row asks for nothing: its `change` is the
    median of mean absolute change there, beside `asked`, what the true edits change.
    """
    rng, out = np.random.default_rng(seed), {}
    crop = slice(JITTER // 2, JITTER // 2 + REGION)
    sham, asked = [], []
    for done, (kind, finding) in enumerate(OPERATIONS):
        before_db: list[float] = []
        after_db: list[float] = []
        for _ in range(20 * each):
            if len(before_db) == each:
                break
            try:
                pair = make_pair(bases[int(rng.integers(len(bases)))], finding, kind, rng=rng, vocabulary=vocabulary)
            except BadInput:
                continue
            source = torch.from_numpy(to_attenuation(pair.before[crop, crop]))
            truth = torch.from_numpy(to_attenuation(pair.after[crop, crop])) - source
            mask = torch.from_numpy(pair.mask[crop, crop]).float() / 255
            made = denoiser.sample(
                source=source,
                mask=mask,
                condition=pair.condition,
                steps=steps,
                guidance=guidance,
                seed=int(rng.integers(2**62)),
            )
            inside = mask > 0
            before_db.append(_psnr(torch.zeros_like(truth), truth, inside))
            after_db.append(_psnr(made, truth, inside))
            if len(before_db) <= 2:
                c = pair.condition
                nothing = type(c)(
                    kind="insert",
                    finding="",
                    severity=0.0,
                    side=c.side,
                    source_present=c.source_present,
                    target_present=c.source_present,
                    box_share=c.box_share,
                )
                still = denoiser.sample(
                    source=source,
                    mask=mask,
                    condition=nothing,
                    steps=steps,
                    guidance=guidance,
                    seed=int(rng.integers(2**62)),
                )
                sham.append(float(still.abs()[inside].mean()))
                asked.append(float(truth.abs()[inside].mean()))
        if before_db:
            gain = np.subtract(after_db, before_db)
            out[f"{kind} {finding}"] = {
                "n": len(gain),
                "psnr_source": round(float(np.median(before_db)), 2),
                "psnr_edit": round(float(np.median(after_db)), 2),
                "gain_db": round(float(np.median(gain)), 2),
                "closer": round(float((gain > 0).mean()), 3),
            }
        progress(done + 1, len(OPERATIONS))
    out["sham"] = {
        "n": len(sham),
        "change": round(float(np.median(sham)), 4),
        "asked": round(float(np.median(asked)), 4),
    }
    return out


def _psnr(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
    """PSNR (dB) of attenuation over `where`; the peak is the 5 display units between black and white."""
    mse = float(((a - b)[where] ** 2).mean())
    return 10 * float(np.log10(25 / max(mse, 1e-8)))
