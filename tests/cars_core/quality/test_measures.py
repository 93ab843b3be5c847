"""What is measured on an edit, each number against another route to it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cars_core.anatomy.masks import Anatomy
from cars_core.quality.measures import PSNR_CAP, effect, grain, measure, seam, ssim_map
from schemas.errors import BadInput
from schemas.tables import MEASURES

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cxr-open" / "nih14" / "images_512"
SIZE = 64


def block(rows: slice, cols: slice, size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[rows, cols] = True
    return mask


def anatomy(left: np.ndarray | None = None, right: np.ndarray | None = None,
            heart: np.ndarray | None = None) -> Anatomy:
    return Anatomy(left_lung=block(np.s_[10:50], np.s_[36:56]) if left is None else left,
                   right_lung=block(np.s_[10:50], np.s_[8:28]) if right is None else right,
                   heart=block(np.s_[30:50], np.s_[24:44]) if heart is None else heart)


def texture(seed: int, size: int = SIZE) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 1.5)
    return np.clip(128 + 120 * noise, 0, 255).astype(np.uint8)


def painted(size: int = SIZE) -> np.ndarray:
    """An edit of 20 x 20 pixels in a band of 4."""
    mask = np.zeros((size, size), np.uint8)
    mask[20:48, 20:48] = 128
    mask[24:44, 24:44] = 255
    return mask


def measured(source: np.ndarray, edit: np.ndarray, mask: np.ndarray | None = None, before: Anatomy | None = None,
             after: Anatomy | None = None) -> dict[str, float]:
    return measure(source=source, edit=edit, mask=painted() if mask is None else mask,
                   source_anatomy=before or anatomy(), edit_anatomy=after or anatomy())


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:
    mean, full = structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                       data_range=255, full=True)
    return mean, full[5:-5, 5:-5]


# --- structural similarity

@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(11, 48), width=st.integers(11, 48),
       spread=st.sampled_from([0, 1, 8, 60, 255]), level=st.integers(0, 255))
def test_ssim_is_the_published_measure_so_values_compare_with_other_papers(seed, height, width, spread, level):
    rng = np.random.default_rng(seed)
    a, b = (np.clip(level + rng.integers(-spread, spread + 1, (height, width)), 0, 255).astype(np.uint8)
            for _ in range(2))
    mean, full = skimage_ssim(a, b)
    for dtype in (torch.float32, torch.float64):
        ours = ssim_map(*(torch.from_numpy(x).to(dtype)[None, None] for x in (a, b)))
        assert ours.dtype == dtype
        assert ours.shape == (1, 1, height - 10, width - 10)
        np.testing.assert_allclose(ours[0, 0].numpy(), full, rtol=0, atol=1e-4)
        assert float(ours.mean()) == pytest.approx(mean, abs=1e-4)


def test_ssim_of_a_batch_is_that_of_each_film_alone():
    a, b = (torch.from_numpy(np.stack([texture(s + k) for k in range(4)])).float()[:, None] for s in (0, 10))
    together = ssim_map(a, b)
    for i in range(4):
        np.testing.assert_allclose(together[i].numpy(), ssim_map(a[i:i + 1], b[i:i + 1])[0].numpy(), atol=1e-5)


def test_ssim_can_be_a_training_loss():
    """Its gradient against central differences, along one direction."""
    a, b, way = (torch.from_numpy(np.random.default_rng(k).uniform(size=(1, 1, 16, 16))) for k in range(3))
    a.requires_grad_()
    ssim_map(a, b, data_range=1.0).mean().backward()
    with torch.no_grad():
        up, down = (ssim_map(a + h * way, b, data_range=1.0).mean() for h in (1e-5, -1e-5))
    assert float((a.grad * way).sum()) == pytest.approx(float(up - down) / 2e-5, rel=1e-5)


@pytest.mark.parametrize(("a", "b", "span"), [
    (torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 17), 255.0),
    (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), 255.0),
    (torch.zeros(16, 16), torch.zeros(16, 16), 255.0),
    (torch.zeros(1, 1, 10, 16), torch.zeros(1, 1, 10, 16), 255.0),
    (torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16).double(), 255.0),
    (torch.zeros(1, 1, 16, 16).byte(), torch.zeros(1, 1, 16, 16).byte(), 255.0),
    (torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), 0.0),
])
def test_ssim_refuses_what_it_would_measure_wrongly(a, b, span):
    with pytest.raises(BadInput):
        ssim_map(a, b, data_range=span)


# --- the kept region

def test_ssim_outside_takes_the_windows_wholly_in_the_kept_region_only():
    source, edit, mask = texture(0), texture(1), painted()
    _, full = skimage_ssim(source, edit)
    inside = [full[i, j] for i, j in itertools.product(range(SIZE - 10), repeat=2)
              if not mask[i:i + 11, j:j + 11].any()]
    assert measured(source, edit)["ssim_outside"] == pytest.approx(np.mean(inside), abs=1e-4)


def test_a_change_inside_the_mask_is_never_blamed_on_the_kept_pixels():
    source = texture(0)
    edit = np.where(painted() > 0, 255 - source, source).astype(np.uint8)
    found = measured(source, edit)
    assert found["ssim_outside"] == 1
    assert found["kept_changed"] == 0
    assert found["psnr_outside"] == PSNR_CAP
    assert found["ssim_whole"] == pytest.approx(skimage_ssim(source, edit)[0], abs=1e-4)
    assert found["ssim_whole"] < 0.9


def test_psnr_and_the_count_of_changed_pixels_look_at_the_kept_region():
    source, mask = texture(0), painted()
    edit = texture(1)
    found = measured(source, edit)
    assert found["psnr_outside"] == pytest.approx(
        peak_signal_noise_ratio(source[mask == 0], edit[mask == 0], data_range=255))
    assert found["kept_changed"] == sum(int(source[p] != edit[p]) for p in np.ndindex(mask.shape) if mask[p] == 0)


def test_one_grey_level_in_one_pixel_of_a_large_film_is_told_from_identity():
    source = texture(0, size=512)
    edit = source.copy()
    edit[0, 0] ^= 1
    whole = np.zeros((512, 512), bool)
    found = measured(source, edit, np.zeros((512, 512), np.uint8), Anatomy(whole, whole, whole),
                     Anatomy(whole, whole, whole))
    assert found["kept_changed"] == 1
    assert found["psnr_outside"] == pytest.approx(10 * math.log10(255**2 * 512**2))
    assert found["psnr_outside"] < PSNR_CAP


def test_a_mask_over_the_whole_film_gives_nan_not_a_pass():
    found = measured(texture(0), texture(1), np.full((SIZE, SIZE), 255, np.uint8))
    for name in ("ssim_outside", "psnr_outside", "seam"):
        assert math.isnan(found[name])


def test_no_window_fits_beside_the_mask_gives_nan_for_ssim_alone():
    mask = np.full((SIZE, SIZE), 255, np.uint8)
    mask[:, :8] = 0
    found = measured(texture(0), texture(0), mask)
    assert math.isnan(found["ssim_outside"])
    assert found["psnr_outside"] == PSNR_CAP


# --- the seam

def test_the_seam_of_a_step_is_its_height_however_rough_the_film_is():
    """By hand: on a ramp of 2 grey levels a column, a step of +20 makes the border differences 22 and 18
    across columns (2 in the source), 20 across rows (0 in the source)."""
    ramp = np.tile(2 * np.arange(SIZE, dtype=np.uint8), (SIZE, 1))
    inside = block(np.s_[20:40], np.s_[20:40])
    edit = ramp + 20 * inside.astype(np.uint8)
    expected = (20 * (22 - 2) + 20 * (18 - 2) + 40 * (20 - 0)) / 80
    assert seam(ramp, edit, inside) == pytest.approx(expected)


def test_seam_by_a_loop_over_the_border():
    source, edit, inside = texture(0), texture(1), painted() > 0
    total, n = 0.0, 0
    for i, j in itertools.product(range(SIZE), repeat=2):
        for other in ((i + 1, j), (i, j + 1)):
            if max(other) < SIZE and inside[i, j] != inside[other]:
                total += abs(int(edit[i, j]) - int(edit[other])) - abs(int(source[i, j]) - int(source[other]))
                n += 1
    assert measured(source, edit)["seam"] == pytest.approx(total / n)


def test_a_soft_border_does_not_excuse_a_hard_one_elsewhere():
    source = np.full((SIZE, SIZE), 100, np.uint8)
    small, large = block(np.s_[2:8], np.s_[2:8]), block(np.s_[20:60], np.s_[20:60])
    edit = source + 10 * small.astype(np.uint8)
    assert seam(source, edit, small | large) == pytest.approx(10)


def test_smoothing_a_border_is_no_seam():
    source = np.where(block(np.s_[20:40], np.s_[20:40]), 200, 100).astype(np.uint8)
    flat = np.full_like(source, 100)
    assert seam(source, flat, source == 200) == pytest.approx(-100)


# --- the effect

def test_a_small_lesion_in_a_large_mask_still_counts():
    """20 of 400 pixels change by +30: the top tenth is those 20 and 20 unchanged ones."""
    change = np.zeros((SIZE, SIZE), np.int16)
    change[24:28, 24:29] = 30
    assert effect(change, painted() == 255) == pytest.approx(15)
    assert effect(-change, painted() == 255) == pytest.approx(-15)


def test_effect_is_the_mean_of_the_strongest_tenth():
    change = np.random.default_rng(3).permutation(np.arange(-100, 300, dtype=np.int16)).reshape(20, 20)
    whole = np.ones((20, 20), bool)
    assert effect(change, whole) == pytest.approx(np.mean(np.arange(260, 300)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_effect_does_not_hang_on_pixel_order(seed):
    rng = np.random.default_rng(seed)
    change = rng.integers(-3, 4, (12, 12)).astype(np.int16)
    shuffled = rng.permutation(change.ravel()).reshape(12, 12)
    whole = np.ones((12, 12), bool)
    assert effect(change, whole) == pytest.approx(effect(shuffled, whole))


def test_texture_painted_anew_is_no_effect():
    """A generator that only redraws noise must not pass for one that drew a finding."""
    change = np.random.default_rng(0).normal(0, 12, (200, 200)).astype(np.int16)
    assert abs(effect(change, np.ones((200, 200), bool))) < 3


def test_the_two_halves_of_a_swap_do_not_cancel():
    change = np.zeros((SIZE, SIZE), np.int16)
    change[5:25, 5:25], change[40:60, 40:60] = 20, -24
    assert effect(change, change != 0) == pytest.approx(-24)


def test_a_speck_beside_the_mask_does_not_stand_for_the_edit():
    change = np.zeros((SIZE, SIZE), np.int16)
    change[10:30, 10:30], change[50, 50] = 5, -200
    assert effect(change, change != 0) == pytest.approx(5)


def test_effect_reads_the_edit_not_the_band():
    source = np.full((SIZE, SIZE), 100, np.uint8)
    edit = np.where(painted() == 128, 200, source).astype(np.uint8)
    assert measured(source, edit)["effect"] == 0


def test_an_empty_mask_has_no_effect_and_no_seam():
    found = measured(texture(0), texture(0), np.zeros((SIZE, SIZE), np.uint8))
    assert math.isnan(found["effect"])
    assert math.isnan(found["seam"])


# --- anatomy

def test_dice_and_ctr_by_hand():
    """The left lung loses 10 of its 40 rows: 2 * 600 / (800 + 600). Both lungs: 2 * 1400 / (1600 + 1400).
    The thorax spans columns 8 to 55 (48), the heart 20 before and 30 after."""
    after = anatomy(left=block(np.s_[10:40], np.s_[36:56]), heart=block(np.s_[30:50], np.s_[19:49]))
    found = measured(texture(0), texture(0), after=after)
    assert found["dice_left_lung"] == pytest.approx(1200 / 1400)
    assert found["dice_right_lung"] == 1
    assert found["dice_lungs"] == pytest.approx(2800 / 3000)
    assert found["ctr_source"] == pytest.approx(20 / 48)
    assert found["ctr_edit"] == pytest.approx(30 / 48)


def test_a_lung_found_on_neither_film_is_nan_not_a_perfect_overlap():
    none = np.zeros((SIZE, SIZE), bool)
    lost = anatomy(left=none)
    found = measured(texture(0), texture(0), before=lost, after=lost)
    assert math.isnan(found["dice_left_lung"])
    assert found["dice_right_lung"] == 1
    assert measured(texture(0), texture(0), after=lost)["dice_left_lung"] == 0


def test_no_heart_gives_no_ratio():
    found = measured(texture(0), texture(0), after=anatomy(heart=np.zeros((SIZE, SIZE), bool)))
    assert math.isnan(found["ctr_edit"])
    assert math.isfinite(found["ctr_source"])


# --- the whole

def test_every_column_of_the_samples_table_is_measured():
    found = measured(texture(0), texture(1))
    assert list(found) == MEASURES
    assert all(type(v) is float for v in found.values())


def test_mirroring_the_film_swaps_the_sides_and_nothing_else():
    source, edit = texture(0), texture(1)
    after = anatomy(left=block(np.s_[10:40], np.s_[36:56]))
    def flip(a):
        return Anatomy(a.right_lung[:, ::-1], a.left_lung[:, ::-1], a.heart[:, ::-1])
    plain = measured(source, edit, after=after)
    mirrored = measured(source[:, ::-1], edit[:, ::-1], painted()[:, ::-1], flip(anatomy()), flip(after))
    plain["dice_left_lung"], plain["dice_right_lung"] = plain["dice_right_lung"], plain["dice_left_lung"]
    assert mirrored == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("change", [
    {"source": texture(0).astype(np.int16)}, {"edit": texture(0, size=65)}, {"mask": painted() > 0},
    {"mask": np.full((SIZE, SIZE), 7, np.uint8)}, {"source": texture(0)[:8]},
    {"source": np.zeros((SIZE, SIZE, 3), np.uint8)},
    {"edit_anatomy": anatomy(heart=np.zeros((65, 65), bool))},
    {"source_anatomy": anatomy(left=np.zeros((SIZE, SIZE), np.uint8))},
])
def test_what_cannot_be_measured_is_refused_by_name(change):
    given = {"source": texture(0), "edit": texture(0), "mask": painted(), "source_anatomy": anatomy(),
             "edit_anatomy": anatomy()}
    with pytest.raises(BadInput) as caught:
        measure(**(given | change))
    assert next(iter(change)) in caught.value.where


@pytest.mark.skipif(not REAL.is_dir(), reason="no real films beside the checkout (../shared/data/cxr-open)")
def test_real_films_are_measured_as_scikit_image_measures_them():
    names = sorted(REAL.glob("*"))[:2]
    a, b = (np.asarray(Image.open(n).convert("L").resize((256, 256))) for n in names)
    whole = np.zeros((256, 256), bool)
    found = measured(a, b, np.zeros((256, 256), np.uint8), Anatomy(whole, whole, whole), Anatomy(whole, whole, whole))
    assert found["ssim_whole"] == pytest.approx(skimage_ssim(a, b)[0], abs=1e-4)
    assert found["ssim_outside"] == found["ssim_whole"]


def test_grain_sees_speckle_and_blur_and_not_a_smooth_opacity() -> None:
    """Planted on textured film: noise raises grain above its gate, a blur drives it below, haze does neither."""
    rng = np.random.default_rng(5)
    film = np.clip(ndimage.gaussian_filter(rng.normal(0, 60, (96, 96)), 1) + 100, 0, 255).astype(np.uint8)
    inside = np.zeros(film.shape, bool)
    inside[24:72, 24:72] = True

    def lay(changed: np.ndarray) -> np.ndarray:
        return np.where(inside, np.clip(changed, 0, 255), film).astype(np.uint8)

    haze = 25 * ndimage.gaussian_filter(inside.astype(float), 6)
    assert grain(film, film.copy(), inside) == 1.0
    assert grain(film, lay(film + haze), inside) == pytest.approx(1, abs=0.1)
    assert grain(film, lay(film + rng.normal(0, 25, film.shape)), inside) > 1.5
    assert grain(film, lay(ndimage.gaussian_filter(film.astype(float), 3)), inside) < 0.35
