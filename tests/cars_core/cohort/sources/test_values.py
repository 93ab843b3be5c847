"""Ages, sexes, views and dates as sources write them; what is none of these is unknown and never passed on."""

from __future__ import annotations

import datetime

import pytest

from cars_core.cohort.sources.values import age_between, age_years, date_of, patient_number, sex_letter, view_code


@pytest.mark.parametrize(("text", "years"), [
    ("58", 58), ("058Y", 58), ("013M", 1), ("104W", 2), ("800D", 2), ("58.0", 58), (" 7y ", 7), ("120", 120),
    ("121", None), ("412", None), ("", None), ("-3", None), ("old", None), ("5 8", None),
])
def test_ages(text: str, years: int | None) -> None:
    assert age_years(text) == years


def test_years_between_birth_and_film_are_those_of_a_birthday_card() -> None:
    born = datetime.date(1950, 3, 1)
    for taken, years in [("2000-02-29", 49), ("2000-03-01", 50), ("2000-03-02", 50), ("1949-01-01", None)]:
        assert age_between(born, datetime.date.fromisoformat(taken)) == years
    assert age_between(None, born) is None


@pytest.mark.parametrize(("text", "code"), [
    ("PA", "PA"), ("ap", "AP"), ("AP Supine", "AP"), ("POSTERO-ANTERIOR", "PA"), ("LL", "LATERAL"),
    ("Lateral", "LATERAL"), ("", None), ("Mueller, Anna 1950", None), ("LLO", "LLO"), ("AP_horizontal", "AP"),
])
def test_views(text: str, code: str | None) -> None:
    """A name typed into the view must not get out."""
    assert view_code(text) == code


@pytest.mark.parametrize(("text", "date"), [
    ("20150914", "2015-09-14"), ("2015-09-14", "2015-09-14"), ("20150914.0", "2015-09-14"), ("20151399", None),
    ("", None), ("14.09.2015", None),
])
def test_dates(text: str, date: str | None) -> None:
    assert date_of(text) == (date and datetime.date.fromisoformat(date))


def test_patients_and_sexes() -> None:
    assert {patient_number(p) for p in ("00000100", "100", "100.0")} == {"100"}
    assert patient_number("p0100") == "p0100"
    assert [sex_letter(s) for s in ("Female", "m", "O", "", "Unknown")] == ["F", "M", None, None, None]
