"""Weights on disk: a folder with `model.safetensors` and `model.json`. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cars_core.digest import file_digest
from schemas.errors import BadInput

if TYPE_CHECKING:
    import torch  # seconds to import, and cards are read where no network of torch's is

BUILT_IN = Path(__file__).resolve().parent / "weights"


def save_weights(folder: Path, model: torch.nn.Module, card: dict[str, Any], *, half: bool = True) -> str:
    """Write a model and its card; returns the weights' sha256. `half` stores float16 (half the size)."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kind = torch.float16 if half else torch.float32
    state = {
        k: v.detach().to("cpu", kind if v.is_floating_point() else v.dtype).contiguous()
        for k, v in model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors")
    sha = file_digest(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps({**card, "sha256": sha}, indent=1, sort_keys=True) + "\n")
    return sha


def read_card(folder: str | Path, *, kind: str) -> dict[str, Any]:
    """The card beside the weights, after checking that the weights are those it describes.

    Raises:
        BadInput: no such folder, not a card of this `kind`, or weights of another digest.
    """
    folder = Path(folder)
    card_file, weights = folder / "model.json", folder / "model.safetensors"
    if not card_file.is_file() or not weights.is_file():
        raise BadInput(f"{kind} weights", str(folder), "a folder with model.safetensors and model.json")
    try:
        card: dict[str, Any] = json.loads(card_file.read_text())
    except ValueError as e:
        raise BadInput(f"{kind} card", str(card_file), "valid JSON") from e
    if not isinstance(card, dict) or card.get("kind") != kind:
        raise BadInput(f"{card_file}: kind", str(card.get("kind")) if isinstance(card, dict) else "no card", kind)
    sha = file_digest(weights)
    if card.get("sha256") != sha:
        raise BadInput(str(weights), f"sha256 {sha[:12]}", f"sha256 {str(card.get('sha256'))[:12]} as its card says")
    return card


def require_keys(card: dict[str, Any], folder: str | Path, *keys: str) -> None:
    """Raises BadInput for a card that lacks one of `keys`."""
    for key in keys:
        if key not in card:
            raise BadInput(str(Path(folder) / "model.json"), f"no {key}", "a card with " + ", ".join(keys))


def load_weights(model: torch.nn.Module, folder: str | Path) -> None:
    """Fill a model, strictly.

    Raises:
        BadInput: the file is not safetensors, or its tensors do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / "model.safetensors"
    try:
        state = load_file(path)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (SafetensorError, RuntimeError) as e:
        raise BadInput(str(path), " ".join(str(e).split())[:160], "weights of this model's shape") from e
    model.eval()
