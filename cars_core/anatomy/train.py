"""Training of the segmenter on simulated films and on real lung masks (patients kept apart)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from cars_core import weights
from cars_core.anatomy.masks import dice
from cars_core.anatomy.network import CHANNELS, SegmenterNet
from cars_core.anatomy.segment import Segmenter, standardise
from cars_core.digest import digest, seed_from
from schemas.errors import BadInput


@dataclass
class Masked:
    """One film with its masks, uint8 [S, S] and float32 [3, S, S]; `known` is 1 where a channel's mask
    was drawn. `never_heart` marks pixels known not to be heart although the heart itself was not drawn."""

    film: NDArray[np.uint8]
    masks: NDArray[np.float32]
    known: NDArray[np.float32]
    patient: str
    never_heart: NDArray[np.float32] | None = field(default=None)


def _resized(image: Image.Image, size: int, method: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L").resize((size, size), method), np.uint8)


def _split_lungs(lungs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One mask of both lungs [S, S] -> left and right (the patient's) by connected parts' sides."""
    from scipy import ndimage

    labels, n = ndimage.label(lungs > 127)
    out = np.zeros((2, *lungs.shape), np.float32)
    whole = np.flatnonzero((lungs > 127).any(axis=0))
    middle = 0.5 * (whole[0] + whole[-1]) if whole.size else lungs.shape[1] / 2
    for i in range(1, n + 1):
        part = labels == i
        out[0 if np.mean(np.nonzero(part)[1]) > middle else 1][part] = 1
    return out


def real_masks(root: Path, size: int) -> list[Masked]:
    """The openly licensed lung masks of a `covid_cxr_open` folder: V7 Labs' (both lungs in one mask) and
    the radiologists' (left and right lung; cardiomediastinum bounds where a heart can be).

    Raises:
        BadInput: labels.csv is missing or lacks a column.
    """
    table = root / "labels.csv"
    if not table.is_file():
        raise BadInput("mask folder", str(root), "a folder with labels.csv, images_512 and lung_masks_v7")
    with open(table, newline="", encoding="utf-8-sig") as f:
        rows = list(csv.DictReader(f))
    for column in ("file", "patient_id", "v7_lung_mask"):
        if not rows or column not in rows[0]:
            raise BadInput(str(table), f"no column {column}", "columns file, patient_id, v7_lung_mask")
    out = []
    for row in rows:
        film_at = root / "images_512" / Path(row["file"]).name
        drawn = {p.stem.split("__")[1]: p for p in sorted((root / "masks_radiologist").glob(film_at.stem + "__*.png"))}
        v7 = root / "lung_masks_v7" / (film_at.stem + ".png")
        if not v7.is_file() and not {"left_lung", "right_lung"} <= drawn.keys():
            continue
        with Image.open(film_at) as im:
            film = _resized(im, size, Image.Resampling.BOX if im.width > size else Image.Resampling.BILINEAR)
        masks, known = np.zeros((3, size, size), np.float32), np.zeros(3, np.float32)
        if {"left_lung", "right_lung"} <= drawn.keys():
            for i, name in enumerate(("left_lung", "right_lung")):
                with Image.open(drawn[name]) as im:
                    masks[i] = _resized(im, size, Image.Resampling.BILINEAR) > 127
        else:
            with Image.open(v7) as im:
                masks[:2] = _split_lungs(_resized(im, size, Image.Resampling.BILINEAR))
        known[:2] = 1
        never = None
        if "cardiomediastinum" in drawn:
            with Image.open(drawn["cardiomediastinum"]) as im:
                never = (_resized(im, size, Image.Resampling.BILINEAR) < 128).astype(np.float32)
        out.append(Masked(film, masks, known, row["patient_id"] or film_at.stem, never))
    return out


def simulated_masks(n: int, *, seed: int, size: int) -> list[Masked]:
    """Films of the simulator, each another patient with up to three findings and some devices, with all masks known."""
    from cars_core.phantom.body.patient import draw_patient
    from cars_core.phantom.film import render
    from cars_core.phantom.placed import DEVICES, SHOWN, UNSIDED, USUALLY_BOTH, Device, Placed

    out, names = [], sorted(SHOWN)
    for i in range(n):
        at = seed_from("segmenter", seed, i)
        rng = np.random.default_rng(at)
        chosen = rng.choice(names, size=int(rng.integers(0, 4)), replace=False)
        placed = tuple(
            Placed(
                str(f),
                "both" if f in UNSIDED + USUALLY_BOTH else ("left", "right")[int(rng.integers(2))],
                float(rng.uniform(0.1, 1)),
                int(rng.integers(2**62)),
            )
            for f in chosen
        )
        devices = tuple(
            Device(kind, str(rng.choice(sides)), int(rng.integers(2**62)))
            for kind, sides in DEVICES.items()
            if rng.random() < 0.2
        )
        made = render(draw_patient(at), placed, size=size, noise_seed=at, devices=devices)
        masks = np.stack([getattr(made.anatomy, c) for c in CHANNELS]).astype(np.float32)
        out.append(Masked(made.pixels, masks, np.ones(3, np.float32), f"simulated-{at}"))
    return out


def _augment(film: torch.Tensor, masks: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pose, grey curve, blur and noise; never mirrored, since sides are part of the answer."""
    b = film.shape[0]

    def u(lo: float, hi: float, *shape: int) -> torch.Tensor:
        return lo + (hi - lo) * torch.rand(b, *shape, generator=rng)

    turn, zoom, stretch = u(-0.14, 0.14), u(0.78, 1.2), u(0.92, 1.09)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(turn) / zoom * stretch, -torch.sin(turn) / zoom
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(turn) / zoom, torch.cos(turn) / zoom / stretch
    theta[:, :, 2] = u(-0.10, 0.10, 2)
    grid = F.affine_grid(theta, list(film.shape), align_corners=False)
    film = F.grid_sample(
        film,
        grid,
        mode="bilinear",
        padding_mode="border" if torch.rand(1, generator=rng) < 0.5 else "zeros",
        align_corners=False,
    )
    masks = F.grid_sample(masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    x = (film / 255).clamp(0.003, 0.997) ** u(0.55, 1.7, 1, 1, 1)
    x = torch.where(u(0, 1, 1, 1, 1) < 0.3, F.avg_pool2d(x, 3, 1, 1), x)
    x = x + u(0, 0.05, 1, 1, 1) * torch.randn(x.shape, generator=rng)
    # A patch of haze, as an opacity or a device would cast: outlines must be found through it.
    field = F.interpolate(torch.randn(b, 1, 6, 6, generator=rng), x.shape[-2:], mode="bicubic", align_corners=False)
    return 255 * (x + u(0, 0.16, 1, 1, 1) * field.clamp(-1.5, 1.5)), masks


def train_segmenter(
    out: Path,
    *,
    masks_root: Path,
    steps: int = 1500,
    batch: int = 12,
    simulated: int = 300,
    size: int = 256,
    width: int = 32,
    seed: int = 0,
    command: str = "cars train segmenter",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train, measure on patients held out, write weights and card to `out`; returns the card.

    A fifth of the real patients (by digest) is held out; their lung Dice is in the card, with the
    simulated held-out films' beside it.
    """
    real = real_masks(masks_root, size)
    held = {p for p in {m.patient for m in real} if int(digest(["segmenter", p], length=8), 16) % 5 == 0}
    train = [m for m in real if m.patient not in held]
    test = [m for m in real if m.patient in held]
    phantom = simulated_masks(simulated, seed=seed, size=size)
    kept_out = {m.patient for m in phantom if int(digest(["segmenter", m.patient], length=8), 16) % 10 == 0}
    sim_train, sim_test = (
        [m for m in phantom if m.patient not in kept_out],
        [m for m in phantom if m.patient in kept_out],
    )

    torch.manual_seed(seed)
    rng, pick = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    net = SegmenterNet(width=width).to(memory_format=torch.channels_last)
    ema = SegmenterNet(width=width)
    ema.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        chosen = [train[i] for i in pick.integers(len(train), size=(batch * 2) // 3)]
        chosen += [sim_train[i] for i in pick.integers(len(sim_train), size=batch - len(chosen))]
        film = torch.from_numpy(np.stack([m.film for m in chosen])).float()[:, None]
        never = np.stack(
            [m.never_heart if m.never_heart is not None else np.zeros((size, size), np.float32) for m in chosen]
        )
        target = torch.from_numpy(np.concatenate([np.stack([m.masks for m in chosen]), never[:, None]], 1))
        known = torch.from_numpy(np.stack([m.known for m in chosen]))[:, :, None, None]
        film, target = _augment(film, target, rng)
        target, not_heart = target[:, :3], target[:, 3:] > 0.5
        weight = known.expand_as(target).clone()
        weight[:, 2:] = torch.maximum(weight[:, 2:], not_heart.float() * (1 - known[:, 2:]))
        logits = net(standardise(film).contiguous(memory_format=torch.channels_last))
        loss = (
            F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
        ).sum() / weight.sum().clamp_min(1)
        p = torch.sigmoid(logits)
        overlap = 1 - (2 * (p * target).sum((2, 3)) + 1) / ((p + target).sum((2, 3)) + 1)
        loss = loss + (overlap * known[:, :, 0, 0]).sum() / known.sum().clamp_min(1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for a, b in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
                a.lerp_(b, 1 - min(0.995, (step + 1) / (step + 10)))
        progress(step + 1, steps)
    card = {
        "kind": "segmenter",
        "size": size,
        "width": width,
        "channels": list(CHANNELS),
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "command": command,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": f"{len(train)} real films with lung masks (V7 Labs CC BY 4.0; General Blockchain Inc. CC BY 4.0), "
        f"{len(sim_train)} simulated films",
        "licence": "Apache-2.0",
        "use": "research software for data building, never for diagnosis",
    }
    weights.save_weights(out, ema, card)
    scores = score_segmenter(Segmenter(out), test, sim_test)
    weights.save_weights(out, ema, {**card, "scores": scores})
    return json.loads((out / "model.json").read_text())  # type: ignore[no-any-return]


def score_segmenter(segmenter: Segmenter, real: list[Masked], simulated: list[Masked]) -> dict[str, Any]:
    """Dice of both lungs (and of the heart on simulated films) at the segmenter's size, on held-out films."""
    out: dict[str, Any] = {}
    for name, films in (("real", real), ("simulated", simulated)):
        lungs, hearts = [], []
        for m in films:
            a = segmenter(m.film)
            lungs.append(dice(a.lungs, (m.masks[0] + m.masks[1]) > 0.5))
            if m.known[2]:
                hearts.append(dice(a.heart, m.masks[2] > 0.5))
        if lungs:
            out[name] = {
                "films": len(lungs),
                "lung_dice_mean": round(float(np.mean(lungs)), 4),
                "lung_dice_p10": round(float(np.percentile(lungs, 10)), 4),
            }
        if hearts:
            out[name]["heart_dice_mean"] = round(float(np.mean(hearts)), 4)
    return out
