"""The region model: diffusion over the *change* an edit makes, not over the picture.

In log attenuation a finding adds or takes away thickness, so an edit is close to additive. The model
denoises the change of attenuation inside a square region around the edit mask, given the region of the
source film, the mask, and the finding vectors before and after. The patient's texture stays because it
is never repainted, and the change can be laid over the film at any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch.nn import functional as F

from cars_core import weights

DEFAULT = weights.BUILT_IN / "editor"

#: Side of the square region the model sees, in its own pixels.
REGION = 96
#: Space-to-depth factor: the UNet runs at REGION / FOLD.
FOLD = 6
#: A change of this many display units is 1 for the model.
SCALE = 1.0


@dataclass(frozen=True)
class Condition:
    """What one pass asks for. Vectors are packed masks over the vocabulary's bits."""

    kind: str
    finding: str
    severity: float
    side: str
    source_present: int
    target_present: int
    box_share: float  # size of the region relative to the film's height


def scheduler() -> Any:  # a DDIMScheduler
    """The noise schedule of training and sampling: zero terminal SNR and trailing steps (Lin et al. 2024),
    since a change is mostly zero and the last noise must hold no trace of it.

    The model predicts the change itself, not noise or velocity: a change is smooth, so what the model gets
    wrong is smooth too. Predicting velocity over folded pixels left speckle that no sampling step took away.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )


def encode(conditions: list[Condition], findings: list[tuple[str, int]]) -> torch.Tensor:
    """Condition vectors float32 [B, 4 K + 7] over the editor's K (finding, bit): before, after, inserted
    and deleted severity per finding, then side (3), size (2), view of the operation (2)."""
    rows = []
    for c in conditions:
        row: list[float] = []
        for name, bit in findings:
            here = name == c.finding
            row += [
                float(c.source_present >> bit & 1),
                float(c.target_present >> bit & 1),
                (0.3 + c.severity) if here and c.kind == "insert" else 0.0,
                1.0 if here and c.kind == "delete" else 0.0,
            ]
        row += [float(c.side == s) for s in ("left", "right", "both")]
        row += [c.box_share, math.log(max(c.box_share, 0.05)), float(c.kind == "insert"), float(c.kind == "delete")]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


def build_unet(findings: int, *, channels: tuple[int, ...] = (96, 128, 192)) -> Any:
    """Convolutional UNet over the folded region; the condition enters beside the time embedding.

    Returns a UNet2DConditionModel (diffusers ships no types a checker could use).
    """
    return UNet2DConditionModel(
        sample_size=REGION // FOLD,
        in_channels=3 * FOLD * FOLD,
        out_channels=FOLD * FOLD,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        mid_block_type="UNetMidBlock2D",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=4 * findings + 7,
    )


class Denoiser:
    """A loaded region model. `digest` names its weights, `offers` what it may be asked to do."""

    def __init__(self, folder: str | Path | None = None) -> None:
        folder = Path(folder) if folder else DEFAULT
        self.card: dict[str, Any] = weights.read_card(folder, kind="editor")
        self.digest: str = self.card["sha256"]
        weights.require_keys(self.card, folder, "findings", "channels", "offers")
        self.findings = [(str(n), int(b)) for n, b in self.card["findings"]]
        self.unet = build_unet(len(self.findings), channels=tuple(self.card["channels"]))
        weights.load_weights(self.unet, folder)
        self.unet.to(memory_format=torch.channels_last)

    @property
    def offers(self) -> dict[str, frozenset[str]]:
        """Operations that passed the card's own test: {"insert": findings, "delete": findings}."""
        return {kind: frozenset(self.card["offers"][kind]) for kind in ("insert", "delete")}

    @torch.inference_mode()
    def sample(
        self, *, source: torch.Tensor, mask: torch.Tensor, condition: Condition, steps: int, guidance: float, seed: int
    ) -> torch.Tensor:
        """The change for one region.

        Args:
            source: attenuation of the source region, float32 [REGION, REGION].
            mask: 1 edit, 0.5 band, 0 keep, float32 [REGION, REGION].
            guidance: 1 is the conditional model alone (classifier-free guidance, Ho and Salimans 2022).

        Returns:
            Change of attenuation in display units, float32 [REGION, REGION].

        One edit runs alone, always in the same shapes: its pixels cannot depend on the batch it came in.
        """
        plan = scheduler()
        plan.set_timesteps(steps)
        known = torch.stack([source / 2, mask])
        vector = encode([condition], self.findings)
        classes = torch.cat([vector, torch.zeros_like(vector)]) if guidance != 1 else vector
        x = torch.randn(1, 1, REGION, REGION, generator=torch.Generator().manual_seed(seed % 2**63))
        for t in plan.timesteps:
            inputs = F.pixel_unshuffle(torch.cat([x, known[None]], 1), FOLD).repeat(classes.shape[0], 1, 1, 1)
            out = self.unet(inputs.contiguous(memory_format=torch.channels_last), t, None, class_labels=classes).sample
            clean = F.pixel_shuffle(out, FOLD)
            if guidance != 1:
                clean = clean[1:] + guidance * (clean[:1] - clean[1:])
            x = plan.step(clean, t, x, eta=0.0).prev_sample
        return clean[0, 0] * SCALE  # the last prediction, without the trace of noise of a last step above t = 0


@lru_cache(maxsize=2)
def load_denoiser(folder: str | None = None) -> Denoiser:
    """One load a process for each folder."""
    return Denoiser(folder)
