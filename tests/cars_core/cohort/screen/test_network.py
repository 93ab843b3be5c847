"""The screen's network: the same pixels, the same answer, on any machine and without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

from cars_core.cohort.screen.judge import DEFAULT
from cars_core.cohort.screen.network import (
    CONVOLUTIONS,
    HIDDEN,
    OUTPUTS,
    SIDE,
    Layer,
    Network,
    four_turns,
    load_network,
    probe,
    view,
    weight_shapes,
)
from cars_core.digest import file_digest
from schemas.errors import BadInput


def _by_torch(network: Network, views: np.ndarray) -> np.ndarray:
    """The same layers by torch's convolutions in float64, layer by layer as the model would be written there."""
    x = torch.from_numpy(views.astype(np.float64))[:, None]
    channels = 1
    for (out, kernel, stride), layer in zip(CONVOLUTIONS, network.layers, strict=False):
        weight = torch.from_numpy(layer.weight).double().reshape(kernel, kernel, channels, out).permute(3, 2, 0, 1)
        sums = F.conv2d(x, weight, torch.from_numpy(layer.bias).double(), stride, kernel // 2)
        x = torch.round(sums.float() * torch.from_numpy(layer.scale)[:, None, None]).clamp(0, 255).double()
        channels = out
    hidden, head = network.layers[-2:]
    x = x.permute(0, 2, 3, 1).flatten(1)
    sums = x @ torch.from_numpy(hidden.weight).double() + torch.from_numpy(hidden.bias).double()
    x = torch.round(sums.float() * torch.from_numpy(hidden.scale)).clamp(0, 255).double()
    return (x @ torch.from_numpy(head.weight).double() + torch.from_numpy(head.bias).double()).numpy()


def test_numpy_gives_what_torch_gives_to_the_last_digit():
    network, rng = load_network(DEFAULT), np.random.default_rng(0)
    views = np.concatenate([four_turns(view(probe())), rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)])
    assert np.array_equal(network.sums(views), _by_torch(network, views))


def test_this_machine_judges_as_the_one_that_trained():
    network = load_network(DEFAULT)
    assert network.sums(four_turns(view(probe()))).tolist() == network.card["probe"]


def test_a_film_is_judged_alike_alone_and_among_others():
    network, rng = load_network(DEFAULT), np.random.default_rng(1)
    views = rng.integers(0, 256, (9, SIDE, SIDE), dtype=np.uint8)
    together = network.sums(views)
    assert all(np.array_equal(network.sums(views[i : i + 1])[0], together[i]) for i in range(9))


def test_judging_a_film_does_not_load_torch():
    code = ("import sys, numpy as np; from cars_core.cohort.screen.judge import judge; "
            "judge(np.arange(90000, dtype=np.uint8).reshape(300, 300)); print('torch' in sys.modules)")
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"


def test_view_is_the_mean_over_areas_stretched_between_its_percentiles():
    film = np.random.default_rng(2).integers(0, 256, (150, 97), dtype=np.uint8)
    film[:70] //= 3
    means = np.array([[film[i * 150 // 64 : -(-(i + 1) * 150 // 64), j * 97 // 64 : -(-(j + 1) * 97 // 64)].mean()
                       for j in range(64)] for i in range(64)])
    dark, light = np.sort(means.ravel())[[40, 4095 - 40]]
    assert np.array_equal(view(film), np.rint(255 * np.clip((means - dark) / (light - dark), 0, 1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(64, 300), st.integers(64, 300), st.integers(0, 2**32 - 1))
def test_turning_a_film_turns_its_view_exactly(height: int, width: int, seed: int):
    film = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    for k, turned in enumerate(four_turns(view(film))):
        assert np.array_equal(view(np.rot90(film, k)), turned)


@pytest.mark.parametrize("shape", [(64, 64), (65, 1000), (2048, 64)])
def test_a_film_of_one_grey_gives_an_empty_view(shape: tuple[int, int]):
    assert not view(np.full(shape, 200, np.uint8)).any()


def test_a_large_white_film_does_not_overflow():
    film = np.full((4000, 4000), 255, np.uint8)
    film[:2000] = 0
    seen = view(film)
    assert (seen[:32] == 0).all() and (seen[32:] == 255).all()


def test_a_film_too_small_to_judge_is_refused():
    with pytest.raises(ValueError, match="64"):
        view(np.zeros((63, 100), np.uint8))


def test_weights_whose_sums_would_be_rounded_are_refused():
    weight = np.full((1536, 4), 127, np.float32)
    none = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="exactly"):
        Layer(weight, none, none).check()
    with pytest.raises(ValueError, match="whole"):
        Layer(weight / 2, none, none).check()


def _copy(tmp_path: Path) -> Path:
    shutil.copytree(DEFAULT, tmp_path / "screen")
    return tmp_path / "screen"


def _say(folder: Path, **said: object) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **said}))


def test_other_weights_than_the_card_describes_are_refused(tmp_path: Path):
    folder = _copy(tmp_path)
    _say(folder, sha256="0" * 64)
    with pytest.raises(BadInput, match="as its card says"):
        load_network(folder)


@pytest.mark.parametrize("said", [{"kind": "segmenter"}, {"outputs": ["upright"]}])
def test_another_models_card_is_refused(tmp_path: Path, said: dict[str, object]):
    folder = _copy(tmp_path)
    _say(folder, **said)
    with pytest.raises(BadInput, match="screen"):
        load_network(folder)


def test_damaged_or_missing_files_are_named(tmp_path: Path):
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        load_network(tmp_path)
    folder = _copy(tmp_path)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    _say(folder, sha256=file_digest(folder / "model.safetensors"))
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        load_network(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(BadInput, match="valid JSON"):
        load_network(folder)


def test_weights_of_another_shape_are_refused(tmp_path: Path):
    folder = _copy(tmp_path)
    state = load_file(folder / "model.safetensors")
    save_file({**state, "3.weight": state["3.weight"][:-1].copy()}, folder / "model.safetensors")
    _say(folder, sha256=file_digest(folder / "model.safetensors"))
    with pytest.raises(BadInput, match="shape"):
        load_network(folder)


def test_the_network_stays_small():
    parameters = sum(rows * columns + columns for rows, columns in weight_shapes())
    assert parameters < 300_000 and weight_shapes()[-1] == (HIDDEN, len(OUTPUTS))
    assert (DEFAULT / "model.safetensors").stat().st_size < 1_500_000
