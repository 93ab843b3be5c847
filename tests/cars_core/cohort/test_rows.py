"""What stands in a row: pseudonyms, days and reasons, and never what the source called the patient."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from cars_core.cohort.intake import Kept, SetAside
from cars_core.cohort.near import perceptual_hash
from cars_core.cohort.rows import NEAR, SAME, RowMaker, Seen
from cars_core.cohort.sources.record import FirstDays, Record
from cars_core.cohort.survey import Survey
from cars_core.digest import digest
from cars_core.vectors import Vector
from schemas.recipe import Cohort
from schemas.tables import COHORT

KEY = b"k" * 32
NIGHT = datetime.date(2180, 5, 6)


def record(**changes: Any) -> Record:
    base = Record(name="film-1", patient="10000032", line=7, vector=Vector(present=4), sex="F", age=95, view="PA",
                  licence="terms", where="labels.csv line 7", study="50414267", date=NIGHT)
    return dataclasses.replace(base, **changes)


def kept(image_id: str = "a" * 64, *, hashes: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> Kept:
    return Kept(image_id=image_id, object="b" * 64, width=64, height=80, spacing=0.2, flags=flags, hashes=hashes)


def maker(survey: Survey | None = None, seen: Seen | None = None, **changes: Any) -> RowMaker:
    settings = {"source": "mimic", "key_file": "key", **changes}
    cohort = Cohort(**settings)
    days = FirstDays()
    days.add("10000032", NIGHT - datetime.timedelta(days=40))
    return RowMaker(cohort, cohort, name="0" * 64, key=KEY, survey=survey or Survey(1, "", days), seen=seen or Seen())


def test_identifiers_become_pseudonyms_and_dates_days() -> None:
    rows = maker()
    row = rows.row(rows.key(record(), 0), kept())
    text = str(row)
    assert not any(word in text for word in ("10000032", "50414267", "film-1", "2180", "05-06"))
    assert (row["day"], row["status"], row["reason"], row["spacing"]) == (40, "accepted", None, 0.2)
    assert row["study"][0] == "s" and row["patient"][0] == "p" and row["record"][0] == "r"
    pa.Table.from_pylist([row], schema=COHORT)


def test_the_very_old_are_one_group_unless_their_ages_are_public() -> None:
    """Above 89 an age singles people out (45 CFR 164.514)."""
    private, public = maker(), maker(source="nih", public_ids=True)
    ages = [m.row(m.key(record(age=a), 0), kept())["age"] for m in (private, public) for a in (89, 95)]
    assert ages == [89, 90, 89, 95]


def test_sources_share_patients_where_the_recipe_says_so_and_nowhere_else() -> None:
    """One patient's films in two splits would leak; two sources' patient 1 are two people."""
    def patient(**changes: Any) -> str:
        rows = maker(public_ids=True, key_file=None, **changes)
        return str(rows.key(record(), 0).patient)

    assert patient(source="nih") == patient(source="nih", dataset="rotated", ids="nih")
    assert patient(source="chexpert") == patient(source="chexpert-plus")
    assert len({patient(source=s) for s in ("nih", "mimic", "padchest")}) == 3
    wards = [{"source": "folder", "columns": {"image": "a", "patient": "b"}, "dataset": d} for d in ("north", "south")]
    assert patient(**wards[0]) != patient(**wards[1])
    assert patient(**wards[0], ids="nih") == patient(source="nih")
    padded = maker(source="nih", public_ids=True, key_file=None)
    assert padded.key(record(patient="00000001"), 0).patient == padded.key(record(name="b", patient="1"), 1).patient


def test_a_film_like_one_before_it_is_set_aside_once() -> None:
    seen = Seen()
    rows = maker(seen=seen)
    rng = np.random.default_rng(0)
    smooth = (rng.random((8, 8)) * 255).repeat(32, 0).repeat(32, 1).astype(np.uint8)
    first, near, far = (perceptual_hash(x) for x in (smooth, np.minimum(smooth, 250), smooth[::-1].copy()))
    a = rows.row(rows.key(record(name="a"), 0), kept("1" * 64, hashes=(first,)))
    b = rows.row(rows.key(record(name="b"), 1), kept("1" * 64, hashes=(far,)))
    c = rows.row(rows.key(record(name="c"), 2), kept("2" * 64, hashes=(far, near)))
    d = rows.row(rows.key(record(name="d"), 3), kept("3" * 64, hashes=(far,)))
    assert [r["status"] for r in (a, b, c, d)] == ["accepted", "set_aside", "set_aside", "accepted"]
    assert SAME in b["reason"] and NEAR in c["reason"]
    flagging = maker(screen={"near": "flag"}, seen=seen)
    assert flagging.row(flagging.key(record(name="e"), 4), kept("4" * 64, hashes=(near,)))["flags"] == [NEAR]


def test_reasons_name_the_place_and_faults_stand_over_the_rest() -> None:
    rows = maker()
    bad = rows.row(rows.key(record(fault="no patient is named"), 0), None)
    assert (bad["status"], bad["reason"]) == ("quarantined", "labels.csv line 7: no patient is named")
    assert bad["present"] == 0, "labels of a row that cannot be trusted"
    side = rows.row(rows.key(record(name="2", aside="lateral view"), 1), None)
    assert (side["status"], side["reason"]) == ("set_aside", "labels.csv line 7: lateral view")
    text = rows.row(rows.key(record(name="3"), 2), SetAside("words are burned into the picture", "c" * 64, None, 9, 9))
    assert (text["status"], text["object"], text["image_id"]) == ("set_aside", None, "c" * 64)
    read = rows.row(rows.key(record(name="4"), 3), "image is truncated or damaged")
    assert read["status"] == "quarantined"
    assert rows.row(rows.key(record(name="5"), 4), None)["status"] == "unread"
    again = rows.row(rows.key(record(name="5"), 5), None)
    assert again["status"] == "quarantined" and again["record"] != rows.key(record(name="5"), 9).keyed
    shown = maker(screen={"view": "flag"})
    assert shown.row(shown.key(record(aside="lateral view"), 0), kept())["flags"] == ["lateral view"]


def test_terms_that_look_like_another_column_are_not_passed_on() -> None:
    rows = maker(public_ids=True, source="nih", key_file=None)
    for terms, kept_as in [("CC BY-SA 4.0", "CC BY-SA 4.0"), ("DOE^JOHN", "not stated"), ("19400305", "not stated"),
                           ("NIH-CC: no restrictions, attribution required",) * 2, ("x" * 300, "not stated")]:
        assert rows.row(rows.key(record(name=terms, licence=terms), 0), kept())["licence"] == kept_as


def test_published_parts_are_kept_and_nobody_crosses_them() -> None:
    def split(rows: RowMaker, **changes: Any) -> tuple[str, str]:
        row = rows.row(rows.key(record(**changes), 0), kept(digest(changes["name"])))
        return row["split"], row["status"]

    whole = maker(Survey(3, "", FirstDays(), frozenset({"train", "validate", "test"})), published_splits=True)
    assert split(whole, name="1", patient="a", split="train") == ("train", "accepted")
    assert split(whole, name="2", patient="b", split="validate") == ("validate", "accepted")
    assert split(whole, name="3", patient="a", split="test") == ("train", "quarantined")
    half = maker(Survey(3, "", FirstDays(), frozenset({"train", "test"})), published_splits=True)
    parts = [split(half, name=chr(97 + i % 6), patient=str(i), split="train")[0] for i in range(200)]
    assert 10 < parts.count("validate") < 45, "a published train part is divided 70 : 10"
    assert set(parts) == {"train", "validate"}
    # A film without a published part follows its patient, whichever came first, in one run or in two.
    mixed = Survey(3, "", FirstDays(), frozenset({"train", "validate", "test"}))
    seen = Seen()
    rows = maker(mixed, seen, published_splits=True)
    outcome = {}
    for i in range(60):
        outcome[i] = split(rows, name=f"a{i}", patient=str(i), split=None)[0]
        assert split(rows, name=f"b{i}", patient=str(i), split=None)[0] == outcome[i]
        again, status = split(rows, name=f"c{i}", patient=str(i), split="test")
        assert (again, status == "accepted") == (outcome[i], outcome[i] == "test")
    unasked = maker(Survey(3, "", FirstDays(), frozenset({"train", "test"})))
    assert len({split(unasked, name=chr(97 + i % 6), patient=str(i), split="train")[0] for i in range(60)}) == 3
