"""Classifiers to fine-tune: any timm backbone with one input channel and one logit a finding."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from schemas.errors import BadInput


@dataclass(frozen=True)
class Backbone:
    """A network float32 [B, 1, S, S] -> logits [B, K], and the mean and deviation its input expects
    (of grey levels scaled to 0..1)."""

    net: nn.Module
    mean: float
    std: float


def build_backbone(name: str, *, outputs: int, image_size: int, seed: int, pretrained: str | None = None) -> Backbone:
    """A timm model for one-channel films, started from `seed` or from a safetensors file.

    The caller's random state is left as it was. A pretrained stem for three channels has its weights
    summed over them, which is exact for a grey film repeated three times.

    Args:
        name: a timm model name, with or without its weight tag.
        outputs: findings, one logit each.
        image_size: height and width of the films in pixels.
        seed: of the initial weights (of the head alone, with `pretrained`).
        pretrained: safetensors file with the backbone's weights; its head is ignored.

    Raises:
        BadInput: no such model, a model that cannot take such films, a file that does not fit it.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4, cutoff=0.5)
        raise BadInput("evaluation.backbone", name, "a timm model name; near ones: " + (", ".join(near) or "none"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _create(name, outputs, image_size)
    if pretrained is not None:
        _load(net, name, Path(pretrained))
    config = _config(net)
    return Backbone(net, float(np.mean(config.get("mean", 0.5))), float(np.mean(config.get("std", 0.25))))


def _create(name: str, outputs: int, image_size: int) -> nn.Module:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    # Models with position tables are built for one size; the others take any and refuse the argument.
    fixed: dict[str, Any] = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    try:
        net = timm.create_model(name, pretrained=False, in_chans=1, num_classes=outputs, **fixed)
        with torch.no_grad():
            shape = tuple(net.eval()(torch.zeros(2, 1, image_size, image_size)).shape)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as e:
        raise BadInput("evaluation.backbone", f"{name} ({' '.join(str(e).split())[:160]})",
                       f"a classifier for one-channel films of {image_size} x {image_size}") from e
    if shape != (2, outputs):
        raise BadInput("evaluation.backbone", f"{name}, which returns {shape} for two films",
                       f"a classifier returning (2, {outputs})")
    return net


def _load(net: nn.Module, name: str, path: Path) -> None:
    where = "evaluation.pretrained"
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as e:
        raise BadInput(where, str(path), f"a readable safetensors file ({e})") from e
    config = _config(net)
    heads = _names(config.get("classifier"))
    own = net.state_dict()
    for layer in _names(config.get("first_conv")):
        key = f"{layer}.weight"
        if key in given and key in own and given[key].ndim == 4 and given[key].shape != own[key].shape:
            given[key] = adapt_input_conv(1, given[key])

    def is_head(key: str) -> bool:
        return any(key.startswith(f"{h}.") for h in heads)

    given = {k: v for k, v in given.items() if not is_head(k)}
    wanted = {k: v for k, v in own.items() if not is_head(k)}
    # Files written without batch counts are common; nothing that is computed depends on them.
    missing = sorted(k for k in wanted.keys() - given.keys() if not k.endswith("num_batches_tracked"))
    if missing:
        raise BadInput(where, str(path), f"weights of {name}; {len(missing)} are missing, first {missing[0]}")
    extra = sorted(given.keys() - wanted.keys())
    if extra:
        raise BadInput(where, str(path), f"weights of {name} only; {len(extra)} do not belong to it, first {extra[0]}")
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            raise BadInput(where, str(path), f"{key} of shape {tuple(wanted[key].shape)}, not {tuple(value.shape)}")
    net.load_state_dict(given, strict=False)


def _config(net: nn.Module) -> dict[str, Any]:
    """timm's description of the weights: where stem and head are, and how inputs were normalised."""
    return dict(getattr(net, "pretrained_cfg", None) or {})


def _names(value: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
