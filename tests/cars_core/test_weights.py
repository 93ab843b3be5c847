"""Weights: what is loaded is what the card says, and nothing is unpickled."""

import json
from pathlib import Path

import pytest
import torch

from cars_core import weights
from schemas.errors import BadInput


def _folder(tmp_path: Path) -> Path:
    weights.save_weights(tmp_path, torch.nn.Linear(3, 2), {"kind": "test"}, half=False)
    return tmp_path


def test_round_trip(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    weights.save_weights(tmp_path, model, {"kind": "test"}, half=False)
    again = torch.nn.Linear(3, 2)
    weights.load_weights(again, tmp_path)
    assert torch.equal(model.weight, again.weight)
    assert weights.read_card(tmp_path, kind="test")["kind"] == "test"


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadInput, match="sha256"):
        weights.read_card(folder, kind="test")


def test_weights_of_another_shape_are_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        weights.load_weights(torch.nn.Linear(4, 2), _folder(tmp_path))


def test_a_pickle_in_its_place_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    torch.save({"weight": torch.zeros(2, 3)}, folder / "model.safetensors")
    with pytest.raises(BadInput):
        weights.load_weights(torch.nn.Linear(3, 2), folder)


def test_a_card_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    with pytest.raises(BadInput, match="kind"):
        weights.read_card(folder, kind="editor")
    (folder / "model.json").write_text(json.dumps([]))
    with pytest.raises(BadInput, match="kind"):
        weights.read_card(folder, kind="test")
