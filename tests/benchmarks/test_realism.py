"""The realism table's numbers are the quantities they are called, and the sheet's key tells the truth."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance

from schemas.errors import BadInput

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "realism.py"


@pytest.fixture(scope="module")
def realism() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_realism", _PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _two(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    mix = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mix, 0.7 * rng.normal(size=(m, d)) @ mix.T + 0.3


def test_frechet_distance_is_the_one_of_the_covariances_root(realism: ModuleType) -> None:
    a, b = _two(60, 45, 6)
    s, t = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert realism.frechet(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_films_than_features(realism: ModuleType) -> None:
    """Where a matrix root is unstable: films on one line, whose distance is known."""
    a, b = np.zeros((9, 40)), np.zeros((7, 40))
    a[:, 3], b[:, 3] = np.arange(9.0), 5 * np.arange(7.0)
    expected = (4 - 15) ** 2 + (a[:, 3].std(ddof=1) - b[:, 3].std(ddof=1)) ** 2
    assert realism.frechet(a, b) == pytest.approx(expected)
    assert realism.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_counts_every_pair_of_different_films_once(realism: ModuleType) -> None:
    a, b = _two(7, 5, 3)

    def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return float(np.mean([(x @ y / 3 + 1) ** 3 for x, y in pairs]))

    within = [mean([(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    expected = sum(within) - 2 * mean([(x, y) for x in a for y in b])
    assert realism.kernel_distance(a, b) == pytest.approx(expected)


def test_grey_distance_is_in_grey_levels(realism: ModuleType) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.dirichlet(np.ones(256), 4), rng.dirichlet(np.ones(256), 3)
    expected = wasserstein_distance(range(256), range(256), a.mean(0), b.mean(0))
    assert realism.grey_distance(a, b) == pytest.approx(expected)


def test_spectrum_shows_a_pattern_at_its_own_frequency_in_any_direction(realism: ModuleType) -> None:
    y, x = np.mgrid[:256, :256] / 256
    for fx, fy in ((40, 0), (0, 40), (24, 32)):
        power = realism.radial_power(100 + 20 * np.cos(2 * np.pi * (fx * x + fy * y)))
        assert realism.LOW + int(power.argmax()) == 40
        assert power.max() - power[-20:].max() > 6  # the window keeps it there


def test_spectrum_slope_of_noise_with_a_known_power_law(realism: ModuleType) -> None:
    rng = np.random.default_rng(2)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 1 / 256), np.fft.fftfreq(256, 1 / 256)))
    shape = np.maximum(f, 1) ** -1.5  # of the amplitude: the power falls with f ** -3
    films = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(256, 256))) * shape).real for _ in range(4)]
    assert realism.slope(np.array([realism.radial_power(x) for x in films])) == pytest.approx(-3, abs=0.05)


def test_a_film_is_cropped_not_squeezed(realism: ModuleType) -> None:
    film = np.zeros((100, 160), np.uint8)
    film[:, 30:130] = 200  # all that the centre square holds
    assert (realism.square(film, 50) == 200).all()


def test_the_key_names_what_each_place_of_the_sheet_shows(
    realism: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nih = []
    for i in range(30):
        path = tmp_path / f"film{i}.png"
        Image.fromarray(np.full((20, 20), 130 + 4 * i, np.uint8)).save(path)
        nih.append((path, "PA", 50))
    dark = SimpleNamespace(pixels=np.full((20, 20), 10, np.uint8))
    monkeypatch.setattr(realism, "simulated", lambda n, seed, size: (
        (SimpleNamespace(patient=f"p{i // 2}", view="AP"), dark) for i in range(n)))
    key = realism.sheet(nih, 7, 64, tmp_path / "out")
    pixels = np.asarray(Image.open(tmp_path / "out" / "side-by-side.jpg"))
    assert pixels.shape == (4 * 256, 6 * 256)
    cells = [row.split("|")[2:-1] for row in key.splitlines()[2:]]
    simulated = 0
    for r, row in enumerate(cells):
        for c, label in enumerate(row):
            grey = int(pixels[r * 256 + 128, c * 256 + 128])
            if "simulated, AP" in label:
                simulated += 1
                assert abs(grey - 10) <= 1
            else:
                number = int(label.split("film")[1].split("`")[0])
                assert abs(grey - (130 + 4 * number)) <= 1
    assert simulated == 12


def test_the_page_keeps_its_prose_and_a_page_without_its_blocks_is_refused(realism: ModuleType) -> None:
    page = "before\n<!-- key -->\nold\n<!-- /key -->\nafter"
    assert realism.filled(page, "key", "new") == "before\n<!-- key -->\n\nnew\n\n<!-- /key -->\nafter"
    with pytest.raises(BadInput, match="made"):
        realism.filled(page, "made", "x")


def test_the_committed_page_has_every_block(realism: ModuleType) -> None:
    page = (_PATH.parent.parent / "docs" / "realism.md").read_text(encoding="utf-8")
    for block in ("distances", "where", "anatomy", "made", "key"):
        assert "x1" in realism.filled(page, block, "x1")


def test_open_films_are_read_from_all_sets(realism: ModuleType, open_films: Path) -> None:
    sets = realism.real_sets(open_films)
    assert {name: len(films) for name, films in sets.items()} == {
        "real": 506, "covid": 112, "rotated": 50, "paediatric": 360}
    assert all(path.is_file() for films in sets.values() for path, _, _ in films)


def test_a_folder_without_the_films_is_named(realism: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--films"):
        realism.real_sets(tmp_path)
