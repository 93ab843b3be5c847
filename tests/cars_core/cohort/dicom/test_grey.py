"""A wrong window, sign or polarity shows a film burnt out, empty or inverted, and a model learns that."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, film, saved, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cars_core.cohort.films import decode_bytes


def shown(ds: Dataset) -> np.ndarray:
    """Greys 0..1 as the film is read at 16 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(ds)
    deep, plain = decode_bytes(data, bits=16).pixels, decode_bytes(data).pixels
    assert deep.dtype == np.uint16 and plain.dtype == np.uint8
    assert np.abs(deep / 65_535 - plain / 255).max() <= 0.51 / 255
    return deep / 65_535


def by_pydicom(ds: Dataset) -> np.ndarray:
    """Greys 0..1 as pydicom windows the same values."""
    values = np.frombuffer(ds.PixelData, f"{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}")
    out = apply_voi_lut(apply_modality_lut(values.reshape(ds.Rows, ds.Columns), ds), ds).astype(float)
    if "VOILUTSequence" in ds:
        return out / (2**ds.VOILUTSequence[0].LUTDescriptor[2] - 1)
    lowest = -(2**(ds.BitsStored - 1)) if ds.PixelRepresentation else 0
    ends = [(lowest + x) * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
            for x in (0, 2**ds.BitsStored - 1)]
    return (out - ends[0]) / (ends[1] - ends[0])


def lut(entries: np.ndarray, first: int, *, depth: int, signed: bool = False, packed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(entries) % 65_536, first, depth])
    if packed:
        item.add_new(0x00283006, "OW", entries.astype(np.uint8).tobytes())
    else:
        item.add_new(0x00283006, "US", [int(x) for x in entries])
    return item


@settings(max_examples=60, deadline=None)
@given(function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", None]), bits=st.integers(8, 16),
       signed=st.booleans(), center=st.floats(0.2, 0.8), width=st.floats(0.1, 1.5),
       slope=st.sampled_from([None, 1.0, 0.5, 2.0]), intercept=st.sampled_from([0, -1024, 10.5]))
def test_windows_are_pydicoms(function: str | None, bits: int, signed: bool, center: float, width: float,
                              slope: float | None, intercept: float) -> None:
    scale, shift = (1.0, 0.0) if slope is None else (slope, intercept)
    top = (1 << bits) - 1
    lowest = -(1 << (bits - 1)) if signed else 0
    more: dict[str, Any] = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": intercept}
    ds = dataset(scene(bits, signed=signed), bits=bits, VOILUTFunction=function,
                 WindowCenter=round((lowest + center * top) * scale + shift, 3),
                 WindowWidth=round(width * top * scale + 2, 3), **more)
    np.testing.assert_allclose(shown(ds), by_pydicom(ds).clip(0, 1), atol=0.51 / 65_535)


def test_the_first_of_several_windows_counts() -> None:
    two = dataset(scene(), WindowCenter=[2000, 100], WindowWidth=[3000, 50])
    np.testing.assert_array_equal(shown(two), shown(dataset(scene(), WindowCenter=2000, WindowWidth=3000)))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_tables_are_pydicoms(depth: int, signed: bool) -> None:
    curve = np.rint((np.linspace(0, 1, 3000) ** 2) * (2**depth - 1)).astype(int)
    values = scene(12, signed=signed)
    ds = dataset(values, VOILUTSequence=[lut(curve, -1500 if signed else 500, depth=depth, signed=signed)],
                 WindowCenter=10, WindowWidth=20)  # where both are, the table is what the maker meant
    if depth == 8:  # pydicom counts entries in the table's own 8 bits and wraps round (3.0.2)
        want = curve[(values.astype(int) - (-1500 if signed else 500)).clip(0, 2999)] / 255
    else:
        want = by_pydicom(ds)
    np.testing.assert_allclose(shown(ds), want, atol=0.51 / 65_535)


@pytest.mark.parametrize("signed", [False, True])
def test_modality_tables_come_before_the_window(signed: bool) -> None:
    table, first, values = np.arange(4096)[::-1] // 2, -2048 if signed else 0, scene(12, signed=signed)
    ds = dataset(values, ModalityLUTSequence=[lut(table, first, depth=16, signed=signed)], WindowCenter=1024,
                 WindowWidth=2048)
    want = ((table[values.astype(int) - first] - 1023.5) / 2047 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown(ds), want, atol=0.51 / 65_535)


def test_tables_that_use_fewer_bits_than_they_say_are_not_dark() -> None:
    ds = dataset(scene(), VOILUTSequence=[lut(np.arange(4096), 0, depth=16)])
    np.testing.assert_allclose(shown(ds), scene() / 4095, atol=0.51 / 65_535)


def test_tables_of_bytes_are_read_as_bytes() -> None:
    ds = dataset(scene(), VOILUTSequence=[lut(np.arange(4096) // 16, 0, depth=8, packed=True)])
    np.testing.assert_allclose(shown(ds), scene() // 16 / 255, atol=0.51 / 65_535)


@pytest.mark.parametrize("window", [
    {}, {"WindowCenter": 60_000, "WindowWidth": 10}, {"WindowCenter": -9000, "WindowWidth": 100},
    {"WindowCenter": 2000, "WindowWidth": 0}, {"WindowCenter": 2000, "WindowWidth": -5},
    {"WindowCenter": 2000}, {"WindowCenter": 2000, "WindowWidth": 2000, "VOILUTFunction": "CURVE"},
    {"WindowCenter": "", "WindowWidth": ""},
])
def test_without_a_usable_window_the_middle_99_percent_of_the_film_are_shown(window: dict[str, Any]) -> None:
    values = scene()
    low, high = np.percentile(values, (0.5, 99.5))
    want = ((values - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(shown(dataset(values, **window)), want, atol=0.51 / 65_535)


def test_a_film_of_8_bits_without_a_window_is_as_a_png_of_it() -> None:
    np.testing.assert_array_equal(decode_bytes(film(scene(8), bits=8)).pixels, scene(8))


@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
def test_monochrome1_is_inverted_once_whatever_the_presentation_shape_says(shape: str | None) -> None:
    full = {"WindowCenter": 2048, "WindowWidth": 4096}
    for kind, want in (("MONOCHROME2", scene() / 4095), ("MONOCHROME1", 1 - scene() / 4095)):
        ds = dataset(scene(), PhotometricInterpretation=kind, PresentationLUTShape=shape, **full)
        np.testing.assert_allclose(shown(ds), want, atol=0.51 / 65_535)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_black_and_does_not_stretch_the_film(kind: str, signed: bool) -> None:
    inner = (scene() // 8 + 1000).astype(np.int32) - (2048 if signed else 0)
    padded = np.full((80, 160), -2000 if signed else 4000, np.int32)
    padded[:, 30:130] = inner
    values = padded.astype(np.int16 if signed else np.uint16)
    ds = dataset(values, PhotometricInterpretation=kind)
    ds.add_new(0x00280120, "SS" if signed else "US", int(values[0, 0]))
    got = shown(ds)
    low, high = np.percentile(inner, (0.5, 99.5))
    want = ((inner - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(got[:, 30:130], want if kind == "MONOCHROME2" else 1 - want, atol=0.51 / 65_535)
    assert not got[:, :30].any() and not got[:, 130:].any()


def test_a_window_is_judged_by_the_film_and_not_by_its_padding() -> None:
    values = np.zeros((80, 400), np.uint16)
    values[:, :24] = np.linspace(1000, 3000, 24).astype(np.uint16)
    ds = dataset(values, WindowCenter=2500, WindowWidth=1000)
    ds.add_new(0x00280120, "US", 0)
    want = ((values[:, :24] - 2499.5) / 999 + 0.5).clip(0, 1)  # half of the film is black, as its maker meant
    np.testing.assert_allclose(shown(ds)[:, :24], want, atol=0.51 / 65_535)


def test_a_padding_range_is_padding_too() -> None:
    values = scene().clip(0, 3000)
    values[:, :20] = np.linspace(3900, 4000, 80).astype(np.uint16)[:, None]
    ds = dataset(values)
    ds.add_new(0x00280120, "US", 4000)
    ds.add_new(0x00280121, "US", 3900)
    assert not shown(ds)[:, :20].any() and shown(ds)[:, 20:].max() == 1


def test_a_padding_value_that_is_the_film_is_no_padding() -> None:
    values = np.full((80, 100), 700, np.uint16)
    values[40, 40:43] = 800
    ds = dataset(values, WindowCenter=750, WindowWidth=1000)
    ds.add_new(0x00280120, "US", 700)
    assert shown(ds).min() > 0.3


def test_a_blank_film_does_not_divide_by_nothing() -> None:
    assert not shown(dataset(np.full((80, 100), 700, np.uint16))).any()
