"""A view or age read wrongly puts a film among the wrong ones; a word let through may be a name."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes

from cars_core.cohort.dicom import terms as terms


@pytest.mark.parametrize(("text", "want"), [
    ("PA", "PA"), (" ap ", "AP"), ("LL", "LL"), ("LATERAL", "LATERAL"), ("LAT", "LATERAL"), ("L LAT", "LL"),
    ("RIGHT LATERAL", "RL"), ("CHEST AP PORTABLE", "AP"), ("W033 Chest PA", "PA"), ("postero-anterior", "PA"),
    ("anteroposterior", "AP"), ("P.A.", "PA"), ("AP LLD", "LLD"), ("LEFT LATERAL DECUBITUS", "LLD"), ("AP AXIAL", "AP"),
    ("PA AND LATERAL", None), ("AP/PA", None), ("", None), ("SMITH^JOHN", None), ("LAO", "LAO"), ("PA OBLIQUE", None),
    ("XTABLE LATERAL", "LATERAL"), ("PATIENT", None), ("CAP", None), ("AP_SUPINE", "AP"),
])
def test_views(text: str, want: str | None) -> None:
    assert terms.view(text) == want


def test_view_codes_mean_what_the_standards_tables_say() -> None:
    for code, view in terms._VIEW_CODES.items():
        name = mapping["SCT"].get(code, None)
        if name is not None:
            assert terms._VIEW_CODES[name] == view  # the older code of the same view
            meaning = next(v.meaning for k in dir(codes.cid4010) if (v := getattr(codes.cid4010, k)) is not None
                           and getattr(v, "value", None) == code)
            assert terms.view(meaning) in (view, None), meaning
    assert terms.view_of_code("r-10214") == "PA" and terms.view_of_code("SMITH") is None


@given(st.text(max_size=40))
def test_nothing_but_its_own_words_comes_out(text: str) -> None:
    assert terms.view(text) in {*terms.VIEWS, None}
    assert terms.body_part(text) in {*terms.BODY_PARTS, None}
    assert terms.one_of(text, terms.MODALITIES) in {*terms.MODALITIES, "OTHER", None}


@pytest.mark.parametrize(("text", "want"), [
    ("CHEST", "CHEST"), ("Thorax", "CHEST"), ("PORT CHEST", "CHEST"), ("EXTREMITY", "EXTREMITY"), ("KNEE", "LEG"),
    ("SMITH", "OTHER"), ("", None), ("T SPINE", "SPINE"),
])
def test_body_parts(text: str, want: str | None) -> None:
    assert terms.body_part(text) == want


@pytest.mark.parametrize(("text", "want"), [
    ("034Y", 34), ("034y", 34), ("018M", 1), ("003W", 0), ("400D", 1), ("000Y", 0), ("412Y", None), ("", 49),
    ("34", 49), ("Y034", 49),
])
def test_ages(text: str, want: int | None) -> None:
    assert terms.age(text, born=datetime.date(1970, 7, 1), taken=datetime.date(2020, 6, 30)) == want
    assert terms.age("", born=datetime.date(2021, 1, 1), taken=datetime.date(2020, 6, 30)) is None
    assert terms.age("", born=None, taken=datetime.date(2020, 6, 30)) is None


@pytest.mark.parametrize(("text", "want"), [
    ("20200131", datetime.date(2020, 1, 31)), ("2020.01.31", datetime.date(2020, 1, 31)), ("20200231", None),
    ("2020", None), ("SMITH", None), ("00000000", None), ("٢٠٢٠0131", None),
])
def test_dates(text: str, want: datetime.date | None) -> None:
    assert terms.date(text) == want


@pytest.mark.parametrize(("numbers", "want"), [
    ([0.143, 0.15], (0.143, 0.15)), ([0.0, 0.0], None), ([0.1], None), ([], None), ([0.1, -0.1], None),
    ([3.0, 3.0], None), ([0.001, 0.001], None),
])
def test_spacings(numbers: list[float], want: tuple[float, float] | None) -> None:
    assert terms.spacing(numbers) == want


def test_orientations_and_uids() -> None:
    assert terms.orientation(["L", "F"]) == ("L", "F") and terms.orientation(["PL", "FR"]) == ("PL", "FR")
    assert terms.orientation(["JOHN", "F"]) is None and terms.orientation(["L"]) is None
    assert terms.uid("1.2.840") == "1.2.840" and terms.uid("SMITH") is None and terms.uid("1." + "2" * 70) is None
