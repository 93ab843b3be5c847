"""Edits must show findings as real films do: a plan that puts every effusion on the left, or makes every heart huge,
teaches a model what is not so; and a draw that hangs on other rows would remake every film at the smallest change."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cars_core.coverage.planning.draw import FACTS, FEWEST, SIDES, degree_weights, draw, load_presentation, side_weights
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
N = 4000
TABLE: dict[str, Any] = yaml.safe_load(FACTS.read_text(encoding="utf-8"))["findings"]


def drawn(finding: str, *, kind: str = "insert", n: int = N, vocabulary: Vocabulary = V) -> list[dict[str, Any]]:
    return [draw([(kind, finding)], seed=7, image_id=f"{i:064x}", copy=0, vocabulary=vocabulary)[0][0]
            for i in range(n)]


def within_sampling_error(seen: int, share: float, n: int = N) -> bool:
    """Five standard deviations: by chance less than once in a million."""
    return abs(seen - n * share) <= 5 * math.sqrt(n * share * (1 - share)) + 1e-9


def table_sides(finding: str) -> dict[str, float]:
    """Shares by hand: of both among the sources that can say so, of left and right of all of them for the rest."""
    frame = pd.DataFrame(TABLE[finding]["sides"])
    whole = frame[frame["both"].notna()] if "both" in frame else frame.iloc[:0]
    both = whole["both"].sum() / whole["films"].sum()
    left = frame["left"].sum() / (frame["left"].sum() + frame["right"].sum())
    return {"left": (1 - both) * left, "right": (1 - both) * (1 - left), "both": both}


@pytest.mark.parametrize("finding", ["effusion", "pneumothorax", "mass", "infiltration", "rib_fracture"])
def test_sides_come_as_often_as_on_real_films(finding: str) -> None:
    seen = Counter(d["side"] for d in drawn(finding))
    for side, share in table_sides(finding).items():
        assert within_sampling_error(seen[side], share), (side, seen, share)


@pytest.mark.parametrize("finding", ["effusion", "cardiomegaly", "hernia", "calcification"])
def test_degrees_come_as_often_as_reports_name_them_and_fill_their_third_evenly(finding: str) -> None:
    severities = [round(100 * d["severity"]) for d in drawn(finding)]
    facts = TABLE[finding]["degrees"][0]
    for degree, low in (("mild", 40), ("moderate", 57), ("severe", 74)):
        of_degree = [s for s in severities if low <= s < low + 17]
        assert within_sampling_error(len(of_degree), facts[degree] / facts["films"]), degree
        if len(of_degree) > 17 * 20:
            counts = np.bincount(np.array(of_degree) - low, minlength=17)
            expected = len(of_degree) / 17
            assert ((counts - expected) ** 2 / expected).sum() < 45.1  # chi-squared, 16 degrees, p = 1.4e-4


def test_a_severity_is_a_hundredth_from_040_to_090_and_both_ends_come() -> None:
    severities = {d["severity"] for d in drawn("pneumothorax")}  # degrees unknown: even over the range
    assert severities == {round(i / 100, 2) for i in range(40, 91)}


def test_of_a_finding_without_data_every_severity_is_as_likely() -> None:
    counts = np.bincount([round(100 * d["severity"]) - 40 for d in drawn("mediastinal_shift")], minlength=51)
    assert ((counts - N / 51) ** 2 / (N / 51)).sum() < 98.4  # chi-squared, 50 degrees, p = 5e-5


@pytest.mark.parametrize("finding", [f.name for f in V.findings])
def test_only_findings_that_have_a_side_get_one(finding: str) -> None:
    sides = {d["side"] for d in drawn(finding, n=60)}
    assert sides <= set(SIDES)
    assert V[finding].sided or sides == {"both"}


def test_a_deletion_is_on_both_sides_because_no_label_says_where_the_finding_lies() -> None:
    assert {d["side"] for d in drawn("effusion", kind="delete", n=200)} == {"both"}


def test_too_few_films_give_way_to_the_parent_and_without_one_to_even_sides() -> None:
    facts = TABLE["clavicle_fracture"]["sides"]
    assert sum(c["films"] for c in facts) < FEWEST
    assert side_weights("clavicle_fracture", vocabulary=V) == side_weights("fracture", vocabulary=V)
    assert "lung_cavity" not in TABLE
    assert side_weights("lung_cavity", vocabulary=V) == side_weights("lung_lesion", vocabulary=V)
    assert side_weights("bronchiectasis", vocabulary=V) == (1, 1, 0)  # three films, implies nothing
    assert degree_weights("consolidation", vocabulary=V) == degree_weights("lung_opacity", vocabulary=V)
    assert degree_weights("pneumothorax", vocabulary=V) == (1, 1, 1)


def test_findings_of_another_vocabulary_are_drawn_too() -> None:
    own = [Finding("halo", 0, {}, (), outline=False, sided=True),
           Finding("effusion", 1, {}, (), outline=True, sided=True),
           Finding("splash", 2, {}, ("ripple",), outline=False, sided=True),
           Finding("ripple", 3, {}, ("effusion",), outline=False, sided=True),
           Finding("haze", 4, {}, (), outline=False, sided=False)]
    vocabulary = Vocabulary(tuple(own), {})
    seen = Counter(d["side"] for d in drawn("halo", vocabulary=vocabulary))
    assert within_sampling_error(seen["left"], 0.5) and seen["both"] == 0
    assert side_weights("splash", vocabulary=vocabulary) == side_weights("effusion", vocabulary=V)  # two steps up
    assert {d["side"] for d in drawn("haze", n=50, vocabulary=vocabulary)} == {"both"}
    with pytest.raises(BadInput, match="pneumonia"):
        draw([("insert", "pneumonia")], seed=1, image_id="a", copy=0, vocabulary=vocabulary)


@given(st.lists(st.tuples(st.text("0123456789abcdef", min_size=4, max_size=8), st.integers(0, 3)), unique=True,
                min_size=1, max_size=8), st.randoms())
def test_a_draw_hangs_on_its_own_row_and_on_no_other(rows: list[tuple[str, int]], shuffle: Any) -> None:
    def every(order: list[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        return {(i, c): draw([("insert", "nodule"), ("delete", "edema")], seed=3, image_id=i, copy=c, vocabulary=V)
                for i, c in order}

    alone = {row: every([row])[row] for row in rows}
    shuffle.shuffle(rows)
    assert every(rows) == alone


def test_copies_films_seeds_and_operations_each_get_a_draw_of_their_own() -> None:
    base = {"seed": 1, "image_id": "ab", "copy": 0}
    seeds = {draw([("insert", "mass")], **{**base, **change}, vocabulary=V)[1]  # type: ignore[arg-type]
             for change in ({}, {"seed": 2}, {"image_id": "ac"}, {"copy": 1})}
    seeds.add(draw([("insert", "mass"), ("delete", "edema")], **base, vocabulary=V)[1])  # type: ignore[arg-type]
    assert len(seeds) == 5
    copies = [draw([("insert", "effusion")], seed=1, image_id="ab", copy=i, vocabulary=V)[0][0] for i in range(60)]
    assert {c["side"] for c in copies} == set(SIDES)  # what is planned for a film again looks another way
    assert len({c["severity"] for c in copies}) > 20
    assert all(0 <= s < 1 << 63 for s in seeds)


def test_side_and_severity_are_drawn_apart() -> None:
    table = pd.DataFrame(drawn("effusion")).assign(mild=lambda t: t["severity"] < 0.57)
    overall = float(table["mild"].mean())
    for _, of_side in table.groupby("side"):
        assert within_sampling_error(int(of_side["mild"].sum()), overall, len(of_side))


def test_every_count_of_the_table_adds_up_and_names_a_finding() -> None:
    for name, facts in TABLE.items():
        assert name in V.names
        for row in (*facts.get("sides", []), *facts.get("degrees", [])):
            assert row["films"] == sum(n for key, n in row.items() if key not in ("films", "source"))
        assert V[name].sided or "sides" not in facts
    assert set(load_presentation().sides) <= set(TABLE)


def source_rows(source: str) -> dict[str, dict[str, int]]:
    return {name: {k: v for k, v in row.items() if k != "source"} for name, facts in TABLE.items()
            for row in facts.get("sides", []) if row["source"] == source}


def test_the_table_says_of_the_boxes_what_pandas_counts_in_them(open_films: Path) -> None:
    boxes = pd.read_csv(open_films / "labels" / "BBox_List_2017.csv.gz", usecols=range(6))
    boxes.columns = pd.Index(["image", "label", "x", "y", "w", "h"])
    assert not boxes.duplicated(["image", "label"]).any()  # the table says so: nothing of both sides is in them
    boxes["side"] = np.where(boxes["x"] + boxes["w"] / 2 < 512, "right", "left")
    names = {"Infiltrate": "infiltration"} | {n: n.lower() for n in boxes["label"].unique() if n != "Infiltrate"}
    counted = boxes.assign(finding=boxes["label"].map(names)).groupby(["finding", "side"]).size().unstack()
    table = source_rows("nih_boxes")
    for finding in counted.index.drop("cardiomegaly"):  # which has no side
        left, right = (int(counted.loc[finding, side]) for side in ("left", "right"))
        assert table[finding] == {"films": left + right, "left": left, "right": right}
    assert set(table) == set(counted.index) - {"cardiomegaly"} | {"lung_lesion", "lung_opacity"}  # what they imply


def test_the_table_says_of_chestx_det_what_a_recount_gives(open_films: Path) -> None:
    films = [film for part in ("train", "test") for film in json.loads(
        gzip.decompress((open_films / "labels" / f"ChestX_Det_{part}.json.gz").read_bytes()))]
    rows = pd.DataFrame([(film["file_name"], name, (x0 + x1) / 2 < 512) for film in films
                         for name, (x0, _, x1, _) in zip(film["syms"], film["boxes"], strict=True)],
                        columns=["film", "label", "on_right"])
    table = source_rows("chestx_det")
    for labels, finding in ((["Effusion"], "effusion"), (["Nodule", "Diffuse Nodule"], "nodule"), (["Mass"], "mass"),
                            (["Mass", "Nodule", "Diffuse Nodule"], "lung_lesion"),
                            (["Atelectasis", "Consolidation"], "lung_opacity"), (["Fracture"], "fracture")):
        shares = rows[rows["label"].isin(labels)].groupby("film")["on_right"].mean()
        assert table[finding] == {"films": len(shares), "left": int((shares == 0).sum()),
                                  "right": int((shares == 1).sum()), "both": int(((shares > 0) & (shares < 1)).sum())}
