"""Training of the screen's network: chest films turned every way, and simulated pictures that are no frontal film."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

from cars_core.cohort.screen import others
from cars_core.cohort.screen.augment import POOL_SIDE, varied
from cars_core.cohort.screen.judge import CHEST, judge, screen
from cars_core.cohort.screen.network import (
    CONVOLUTIONS,
    HIDDEN,
    KINDS,
    OUTPUTS,
    SIDE,
    Layer,
    four_turns,
    load_network,
    probe,
    view,
)
from cars_core.digest import digest, file_digest, seed_from
from schemas.errors import BadInput

Picture = NDArray[np.uint8]

#: Of a batch: real chest films, simulated ones, simulated lateral films; the rest is other pictures.
REAL, SIMULATED, LATERALS = 0.34, 0.16, 0.12
#: One patient in so many is held out.
HELD_OUT = 3
FRONTAL, LATERAL, OTHER = 0, 1, 2
#: Simulated films, lateral films and other pictures that the card's scores are measured on.
SCORED = (200, 200, 400)
#: Largest sum of products; float32 is exact to 16.8 million, rounding of weights and the bias take their share.
MOST_SUM = 14e6
_DETAIL_SIDE = 256  # pixels of the films that details are cut from


class ScreenNet(nn.Module):
    """Views [B, 1, 64, 64], 0..1 -> outputs [B, 5], in the order of `network.OUTPUTS`. What `quantised` makes of it is
    what runs; this form exists for training."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        channels, side = 1, SIDE
        for out, kernel, stride in CONVOLUTIONS:
            self.convolutions.append(nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(out))
            channels, side = out, side // stride
        self.hidden = nn.Linear(side * side * channels, HIDDEN)
        self.head = nn.Linear(HIDDEN, len(OUTPUTS))

    def activations(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What every hidden layer puts out, then the outputs."""
        out = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            out.append(x := F.relu(norm(convolution(x))))
        x = F.dropout(x.permute(0, 2, 3, 1).flatten(1), 0.15, self.training)  # rows, columns, channels: as network.py
        out.append(x := F.relu(self.hidden(x)))
        return [*out, self.head(x)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activations(x)[-1]


def quantised(net: ScreenNet, views: torch.Tensor) -> list[Layer]:
    """The trained network in whole numbers, normalisation folded into the convolutions.

    Args:
        views: [N, 1, 64, 64], 0..1, as met in training: activations are scaled so that all but 1 in 100,000 of theirs
            fit into 0..255.
    """
    net.eval()
    folded: list[tuple[torch.Tensor, torch.Tensor]] = []
    for convolution, norm in zip(net.convolutions, net.norms, strict=True):
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        rows = (convolution.weight * gain[:, None, None, None]).permute(2, 3, 1, 0).flatten(0, 2)
        folded.append((rows, norm.bias - norm.running_mean * gain))
    folded += [(net.hidden.weight.T, net.hidden.bias), (net.head.weight.T, net.head.bias)]
    with torch.no_grad():
        tops = [float(np.quantile(a.numpy(), 0.99999)) for a in net.activations(views)[:-1]]
    layers, before = [], 1 / 255
    for i, pair in enumerate(folded):
        weight, bias = (part.detach().double().numpy() for part in pair)
        amount = np.abs(weight)  # a step a channel: coarse enough for 8 bits and for exact sums
        step = np.maximum(np.maximum(amount.max(axis=0) / 127, 255 * amount.sum(axis=0) / MOST_SUM), 1e-9)
        after = tops[i] / 255 if i < len(tops) else 1.0
        layer = Layer(
            np.rint(weight / step).astype(np.float32),
            np.rint(bias / (before * step)).astype(np.float32),
            (before * step / after).astype(np.float32),
        )
        layer.check()
        layers.append(layer)
        before = after
    return layers


def save_network(folder: Path, layers: Sequence[Layer], card: dict[str, Any]) -> None:
    """Write `model.safetensors` (int8 weights, int32 biases, float32 scales) and `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, NDArray[Any]] = {}
    for i, layer in enumerate(layers):
        state[f"{i}.weight"] = layer.weight.astype(np.int8, order="C")  # safetensors writes memory as it lies
        state[f"{i}.bias"] = layer.bias.astype(np.int32)
        state[f"{i}.scale"] = layer.scale
    save_file(state, folder / "model.safetensors")
    sha = file_digest(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps({**card, "sha256": sha}, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class RealFilm:
    """A film uint8 [H, W], upright, and whether its patient is held out."""

    pixels: Picture
    held_out: bool


def real_films(root: Path) -> dict[str, list[RealFilm]]:
    """The open films under `root`, by set: `nih14`, without the patients of `nih14_rotated_qc`, and `covid_cxr_open`,
    without films of non-commercial terms. A patient is held out by a digest of the name.

    Raises:
        BadInput: one of the three label files is missing.
    """
    rotated = {row["patient_id"] for row in _rows(root / "nih14_rotated_qc" / "labels.csv")}
    out: dict[str, list[RealFilm]] = {}
    for name in ("nih14", "covid_cxr_open"):
        out[name] = []
        for row in _rows(root / name / "labels.csv"):
            patient = row["patient_id"] or row["file"]
            if (name == "nih14" and patient in rotated) or row.get("noncommercial") == "1":
                continue
            with Image.open(root / row["file"]) as image:
                pixels = np.asarray(image.convert("L"), np.uint8)
            held = int(digest(["screen", name, patient], length=8), 16) % HELD_OUT == 0
            out[name].append(RealFilm(pixels, held))
    return out


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise BadInput("--films", str(table), "a folder with nih14, covid_cxr_open and nih14_rotated_qc in it")
    with open(table, newline="", encoding="utf-8-sig") as f:
        return list(csv.DictReader(f))


def simulated_films(n: int, *, seed: int, size: int) -> list[Picture]:
    """Films of a simulated population, uint8 [size, size]: PA and AP, with its findings and devices."""
    from cars_core.phantom.population import films
    from cars_core.phantom.truth import render_truth
    from cars_core.vocabulary import load_vocabulary

    population = films(n=n, seed=seed, size=size, withheld=[], split_of=lambda _: "train", vocabulary=load_vocabulary())
    return [render_truth(film.truth).pixels for film in population]


def other_pictures(n: int, chests: Sequence[Picture], *, seed: int, size: int) -> list[Picture]:
    """Simulated pictures that are neither frontal nor lateral films; `chests` are cut up for two in five."""
    out = []
    for i in range(n):
        rng = np.random.default_rng(seed_from("screen other", seed, i))
        made = rng.random()
        out.append(others.spoilt(rng, size, chests) if made < 0.4
                   else others.body_part(rng, size) if made < 0.75 else others.no_projection(rng, size))
    return out


def lateral_films(n: int, *, seed: int, size: int) -> list[Picture]:
    """Simulated lateral chest films."""
    return [others.lateral(np.random.default_rng(seed_from("screen lateral", seed, i)), size) for i in range(n)]


def train_screen(
    out: Path, *, films: Path, steps: int = 1150, batch: int = 64, simulated: int = 600, seed: int = 0,
    command: str = "cars train screen", progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train, measure on held-out patients and other simulated pictures, write weights and card to `out`.

    Args:
        films: the folder of open films, see `real_films`.
        simulated: chest films to simulate; twice as many other pictures and half as many lateral ones.

    Returns the card.

    Raises:
        BadInput: as `real_films`.
    """
    real = real_films(films)
    learn = [f.pixels for each in real.values() for f in each if not f.held_out]
    pools = [
        [_square(f, POOL_SIDE) for f in learn],
        simulated_films(simulated, seed=seed_from("screen", seed), size=POOL_SIDE),
        lateral_films(simulated // 2, seed=seed, size=POOL_SIDE),
        other_pictures(2 * simulated, [_square(f, _DETAIL_SIDE) for f in learn], seed=seed, size=POOL_SIDE),
    ]
    sizes = [round(batch * share) for share in (REAL, SIMULATED, LATERALS)]
    sizes.append(batch - sum(sizes))
    kinds = torch.tensor([FRONTAL] * (sizes[0] + sizes[1]) + [LATERAL] * sizes[2] + [OTHER] * sizes[3])
    pick, rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = [pool[i] for pool, n in zip(pools, sizes, strict=True) for i in pick.integers(len(pool), size=n)]
        return varied(torch.from_numpy(np.stack(chosen)), kinds == OTHER, rng)

    torch.manual_seed(seed)
    net, mean = ScreenNet().to(memory_format=torch.channels_last), ScreenNet()
    mean.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.15)
    for step in range(steps):
        views, negative = drawn()
        said = net(_turned(views).contiguous(memory_format=torch.channels_last)).view(4, batch, len(OUTPUTS))
        loss = _loss(said, kinds, negative)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            keep = min(0.995, step / (step + 10))
            for a, b in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
                a.lerp_(b, 1 - keep) if a.is_floating_point() else a.copy_(b)
        progress(step + 1, steps)
    layers = quantised(mean, torch.cat([_turned(drawn()[0]) for _ in range(8)]))
    card = {
        "kind": "screen", "outputs": list(OUTPUTS), "side": SIDE, "steps": steps, "batch": batch, "seed": seed,
        "command": command, "parameters": sum(layer.weight.size + layer.bias.size for layer in layers),
        "data": f"{len(learn)} real frontal films (NIH Clinical Center, ChestX-ray8, Wang et al., CVPR 2017; article "
        f"films of Cohen et al., arXiv:2003.11597, CC BY and CC BY-SA), {len(pools[1])} simulated ones; all that is "
        f"not a frontal film is simulated or cut from those films: {len(pools[2])} lateral, {len(pools[3])} others",
        "held_out": "a third of the patients, by digest; patients of nih14_rotated_qc were not trained on at all",
        "licence": "Apache-2.0", "use": "research software for data building, never for diagnosis",
        "made_with": {"torch": torch.__version__, "numpy": np.__version__},
    }
    save_network(out, layers, card)
    card["probe"] = load_network(out).sums(four_turns(view(probe()))).tolist()
    save_network(out, layers, {**card, "scores": scores(out, real, seed=seed + 1)})
    return json.loads((out / "model.json").read_text())  # type: ignore[no-any-return]


def _square(film: Picture, size: int) -> Picture:
    return np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.BOX), np.uint8)


def _turned(views: torch.Tensor) -> torch.Tensor:
    """Views [B, 1, S, S] -> [4 B, 1, S, S]: all of them, then all turned once, and so on."""
    return torch.cat([torch.rot90(views, k, (2, 3)) for k in range(4)])


def _loss(said: torch.Tensor, kinds: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Outputs [4, B, 5] of the turns of upright pictures: the first turn should be called upright."""
    chest = kinds == FRONTAL
    turn = said[:, chest, 0].T
    whole = said.mean(dim=0)
    return (
        F.cross_entropy(turn, torch.zeros(len(turn), dtype=torch.long), label_smoothing=0.01)
        + F.cross_entropy(whole[:, KINDS], kinds, label_smoothing=0.01)
        + 0.3 * F.binary_cross_entropy_with_logits(whole[chest, 4], negative[chest].float())
    )


def scores(folder: Path, real: dict[str, list[RealFilm]], *, seed: int) -> dict[str, dict[str, float]]:
    """What the saved network makes of held-out films and of pictures simulated from another seed.

    For films: how many, the share that passes untouched; of each film's three other turns the share repaired in the
    right direction, and set aside. For pictures: how many, the share set aside, and the share called lateral.
    """
    held = {name: [f.pixels for f in each if f.held_out] for name, each in real.items()}
    held["simulated"] = simulated_films(SCORED[0], seed=seed_from("screen", seed), size=128)
    out: dict[str, dict[str, float]] = {}
    for name, each in held.items():
        upright = [screen(f, weights=folder).verdict == "upright" for f in each]
        turned = [(k, screen(np.rot90(f, k), weights=folder)) for f in each for k in (1, 2, 3)]
        out[name] = {
            "films": len(each), "upright_passed": round(float(np.mean(upright)), 4),
            "turned_repaired": round(float(np.mean([t.verdict == "repaired" and t.judgement.quarter_turns == 4 - k
                                                    for k, t in turned])), 4),
            "set_aside": round(float(np.mean([t.verdict == "set aside" for _, t in turned])), 4),
        }
    chests = [_square(f, _DETAIL_SIDE) for f in (held["nih14"] or held["simulated"])]
    for name, pictures in (("simulated_lateral", lateral_films(SCORED[1], seed=seed, size=128)),
                           ("simulated_other", other_pictures(SCORED[2], chests, seed=seed, size=128))):
        said = [judge(p, weights=folder) for p in pictures]
        out[name] = {"pictures": len(said), "set_aside": round(float(np.mean([s.chest < CHEST for s in said])), 4),
                     "lateral": round(float(np.mean([s.lateral > 0.5 for s in said])), 4)}
    return out
