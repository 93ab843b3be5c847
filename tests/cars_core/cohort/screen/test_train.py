"""Training the screen: held-out patients stay out, and what is saved is what was trained."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cars_core.cohort.screen import others, train
from cars_core.cohort.screen.augment import POOL_SIDE, varied
from cars_core.cohort.screen.judge import judge
from cars_core.cohort.screen.network import OUTPUTS, SIDE, Layer, Network, load_network, view, weight_shapes
from schemas.errors import BadInput


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as the open films lie, holding simulated ones: 30 patients, one of them among the rotated films, and one
    article film under non-commercial terms."""
    root = tmp_path_factory.mktemp("films")
    made = train.simulated_films(30, seed=3, size=128)
    for name, n in (("nih14", 18), ("covid_cxr_open", 12)):
        (root / name / "images_512").mkdir(parents=True)
        with open(root / name / "labels.csv", "w", newline="", encoding="utf-8") as f:
            table = csv.writer(f)
            table.writerow(["file", "patient_id", "noncommercial"])
            for i in range(n):
                at = f"{name}/images_512/{i}.png"
                Image.fromarray(made.pop()).save(root / at)
                table.writerow([at, i, int(name != "nih14" and i == 2)])
    (root / "nih14_rotated_qc").mkdir()
    (root / "nih14_rotated_qc" / "labels.csv").write_text("file,patient_id\nx.jpg,4\n")
    return root


def test_patients_of_the_rotated_films_and_non_commercial_films_are_left_out(films: Path):
    real = train.real_films(films)
    assert (len(real["nih14"]), len(real["covid_cxr_open"])) == (17, 11)
    assert all(0 < sum(f.held_out for f in each) < len(each) for each in real.values())


def test_a_folder_without_the_rotated_films_is_refused(films: Path, tmp_path: Path):
    (tmp_path / "nih14").symlink_to(films / "nih14")
    (tmp_path / "covid_cxr_open").symlink_to(films / "covid_cxr_open")
    with pytest.raises(BadInput, match="nih14_rotated_qc"):  # without them their patients could be trained on
        train.train_screen(tmp_path / "out", films=tmp_path)


def test_a_short_training_writes_weights_that_load_and_a_card_that_says_how(
        films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "SCORED", (8, 6, 10))
    seen = []
    card = train.train_screen(tmp_path, films=films, steps=4, batch=16, simulated=20, command="the command",
                              progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 4) for i in range(1, 5)]
    network = load_network(tmp_path)
    assert network.card == card and card["command"] == "the command" and card["seed"] == 0
    assert {"nih14", "covid_cxr_open", "simulated", "simulated_lateral", "simulated_other"} == set(card["scores"])
    assert 0 <= judge(np.eye(80, dtype=np.uint8), weights=tmp_path).chest <= 1


def test_whole_numbers_say_what_the_trained_network_said():
    torch.manual_seed(0)
    net = train.ScreenNet()
    pictures = train.simulated_films(12, seed=5, size=POOL_SIDE) + train.lateral_films(12, seed=5, size=POOL_SIDE)
    views = torch.from_numpy(np.stack([view(p) for p in pictures])).float()[:, None] / 255
    net.train()
    for _ in range(30):  # running means and variances of real activations, and a head that says something
        net(views)
    with torch.no_grad():
        net.head.weight.mul_(20)
        wanted = net.eval()(views).numpy()
    network = Network(tuple(train.quantised(net, views)), {})
    got = network.sums((255 * views[:, 0]).round().numpy().astype(np.uint8)) * network.scale
    assert np.abs(got - wanted).max() < 0.05 * np.ptp(wanted, axis=0).max()
    assert all(np.corrcoef(got[:, i], wanted[:, i])[0, 1] > 0.99 for i in range(wanted.shape[1]))


def test_weights_are_read_back_as_they_were_written(tmp_path: Path):
    rng = np.random.default_rng(0)
    layers = []
    for rows, columns in weight_shapes():
        weight = rng.integers(-9, 10, (columns, rows)).T.astype(np.float32)  # lies in memory column by column
        bias, scale = rng.integers(-99, 100, columns), rng.uniform(0.001, 0.002, columns)
        layers.append(Layer(weight, bias.astype(np.float32), scale.astype(np.float32)))
    train.save_network(tmp_path, layers, {"kind": "screen", "outputs": list(OUTPUTS)})
    for wrote, read in zip(layers, load_network(tmp_path).layers, strict=True):
        assert all(np.array_equal(getattr(wrote, part), getattr(read, part)) for part in ("weight", "bias", "scale"))


def test_the_same_seed_draws_the_same_pictures_and_another_seed_others():
    chests = train.simulated_films(3, seed=1, size=96)
    for draw in (lambda s: train.lateral_films(3, seed=s, size=64),
                 lambda s: train.other_pictures(6, chests, seed=s, size=64)):
        assert all(np.array_equal(a, b) for a, b in zip(draw(0), draw(0), strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(draw(0), draw(1), strict=True))


def test_every_kind_of_picture_is_a_picture():
    rng = np.random.default_rng(0)
    chests = train.simulated_films(3, seed=1, size=96)
    for _ in range(12):
        for made in (others.body_part(rng, 64), others.no_projection(rng, 64), others.lateral(rng, 64),
                     others.spoilt(rng, 64, chests)):
            assert made.shape == (64, 64) and made.dtype == np.uint8 and made.flags.c_contiguous


def test_a_film_cut_in_four_never_stays_a_chest():
    quarters = np.kron([[10, 90], [160, 240]], np.ones((32, 32))).astype(np.uint8)
    rng, cut = np.random.default_rng(0), 0
    for _ in range(400):
        made = others.spoilt(rng, 64, [quarters])
        tiles = [made[i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)]
        if all(np.ptp(tile) == 0 for tile in tiles) and len({int(tile[0, 0]) for tile in tiles}) == 4:
            cut += 1
            assert {int(tile[0, 0]) for tile in tiles[:2]} != {10, 90}  # its upper half above would be a chest still
    assert cut > 5


def test_variation_keeps_films_upright_and_uses_the_networks_own_contrast():
    up = np.zeros((40, POOL_SIDE, POOL_SIDE), np.uint8)
    up[:, : POOL_SIDE // 2] = 220  # bright above, dark below
    views, inverted = varied(torch.from_numpy(up), torch.zeros(40, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert views.shape == (40, 1, SIDE, SIDE) and float(views.min()) >= 0 and float(views.max()) <= 1
    assert torch.equal(views, torch.round(views * 255) / 255)
    middle = views[:, 0, :, 16:48]
    above = middle[:, 12:26].mean((1, 2)) > middle[:, 38:52].mean((1, 2))
    assert bool(torch.all(above != inverted)) and 0 < int(inverted.sum()) < 20
