"""Backbones: which are taken, and how weights get into them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from cars_core.evaluate.backbones import build_backbone
from schemas.errors import BadInput

NAME = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A three-channel 10-class model, and its weights in a file."""
    torch.manual_seed(4)
    net = timm.create_model(NAME, num_classes=10).eval()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(net.state_dict(), path)
    return net, path


def test_pretrained_colour_weights_see_a_grey_film_as_that_film_in_three_channels(
        coloured: tuple[torch.nn.Module, Path]) -> None:
    """A stem that is cut to its first channel throws most of the pretraining away."""
    net, path = coloured
    ours = build_backbone(NAME, outputs=3, image_size=64, seed=0, pretrained=str(path)).net.eval()
    film = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        got, wanted = ours.forward_features(film), net.forward_features(film.repeat(1, 3, 1, 1))  # type: ignore[operator]
    assert torch.allclose(got, wanted, atol=1e-4)
    assert wanted.abs().max() > 1e-3


def test_the_seed_decides_the_weights_and_the_callers_random_state_is_kept() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (build_backbone(NAME, outputs=2, image_size=64, seed=s).net.state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["conv_stem.weight"], other["conv_stem.weight"])


def test_a_misspelt_name_is_met_with_near_ones() -> None:
    with pytest.raises(BadInput, match=r"near ones:.*resnet10t"):
        build_backbone("resnet10", outputs=2, image_size=64, seed=0)


def test_a_model_with_a_position_table_takes_the_recipes_size() -> None:
    """Vision transformers are built for 224 pixels unless told otherwise."""
    net = build_backbone("vit_tiny_patch16_224", outputs=2, image_size=96, seed=0).net
    assert net(torch.zeros(1, 1, 96, 96)).shape == (1, 2)


def test_a_size_the_model_cannot_take_is_an_error_of_the_recipe() -> None:
    with pytest.raises(BadInput, match=r"inception_v3.*32 x 32"):
        build_backbone("inception_v3", outputs=2, image_size=32, seed=0)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "absent", "garbage"])
def test_weights_that_do_not_fit_are_refused_not_half_loaded(
        fault: str, coloured: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    """A partly loaded backbone trains from noise and looks like a bad subset."""
    state = {k: v.clone() for k, v in coloured[0].state_dict().items()}
    path, expected = tmp_path / "w.safetensors", fault
    if fault == "missing":
        del state["conv_head.weight"]
        expected = "first conv_head.weight"
    elif fault == "extra":
        state["stray.weight"] = torch.zeros(2)
        expected = "first stray.weight"
    elif fault == "shape":
        state["conv_head.weight"] = torch.zeros(3, 3, 1, 1)
        expected = "conv_head.weight of shape"
    if fault == "garbage":
        path.write_bytes(b"not weights at all, no")
    elif fault != "absent":
        save_file(state, path)
    with pytest.raises(BadInput, match=expected if fault in ("missing", "extra", "shape") else "readable safetensors"):
        build_backbone(NAME, outputs=3, image_size=64, seed=0, pretrained=str(path))
