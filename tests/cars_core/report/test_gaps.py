"""The page of gaps: a wrong tile, count or statement there is a wrong claim about a cohort."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.group import AGE_BANDS, film_levels, group_films
from cars_core.coverage.survey import Survey, survey
from cars_core.report.gaps import films_sql, gaps_page, pattern_sql, uncovered_kind
from cars_core.report.matrix import SIDE, VIEWS, lift_words, pair_matrix
from cars_core.vocabulary import load_vocabulary
from schemas.policy import Gaps

V = load_vocabulary()
FINDINGS = ["effusion", "mass", "nodule", "edema"]
SEXES, VIEWS_OF_FILMS = ["F", "M", None, "", "O'Brien, x=y"], ["AP", "PA", None]
AGES = [None, -1, 0, 17, 18, 39, 40, 60, 79, 80, 101]


def counted(**changes: Any) -> dict[str, Any]:
    names = changes.pop("names", ["effusion", "mass"])
    row = {"gap": V.mask(names), "without": 0, "cell": "", "findings": names, "order": len(names), "films": 400,
           "observed": 3, "expected": 6.04, "lift": 0.497, "lift_low": 0.102, "lift_high": 1.45, "stated": 3,
           "with_uncertain": 3, "with_unmentioned": 3, "needed": 10, "deficit": 7, "fillable": True, "reason": None,
           "planned": 0}
    return row | changes


def table(films: list[tuple[int, int, str | None, int | None, str | None]]) -> pa.Table:
    """Films of (state of each of FINDINGS in base 4, copies, sex, age, view)."""
    rows = []
    for states, copies, sex, age, view in films:
        masks = {"absent": 0, "present": 0, "uncertain": 0}
        for name in FINDINGS:
            states, state = divmod(states, 4)
            if state:
                masks[list(masks)[state - 1]] |= 1 << V[name].bit
        rows += [{**masks, "sex": sex, "age": age, "view": view}] * copies
    masks_64 = [(m, pa.int64()) for m in ("present", "absent", "uncertain")]
    return pa.Table.from_pylist(rows, pa.schema([*masks_64, ("sex", pa.string()), ("age", pa.int32()),
                                                 ("view", pa.string())]))


FILMS = st.lists(st.tuples(st.integers(0, 4 ** len(FINDINGS) - 1), st.integers(1, 3), st.sampled_from(SEXES),
                           st.sampled_from(AGES), st.sampled_from(VIEWS_OF_FILMS)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(films=FILMS, uncertain=st.sampled_from(["absent", "present", "ignore"]),
       gap=st.integers(0, 15), without=st.integers(0, 15))
def test_the_statement_shown_counts_the_films_the_row_is_about(films: list[Any], uncertain: Any, gap: int,
                                                               without: int) -> None:
    """Every policy, present and absent findings, every cell; the other route is Python over films and their levels."""
    by, cohort = ("sex", "age", "view"), table(films)
    def bits(n: int) -> int:
        return V.mask([f for i, f in enumerate(FINDINGS) if n >> i & 1])

    want, lack = bits(gap), bits(without & ~gap)
    grouped = group_films(cohort, mask=V.mask(FINDINGS), by=by)
    levels, rows = film_levels(cohort, by), cohort.to_pylist()
    with duckdb.connect() as con:
        con.register("cohort", cohort)
        for cell, _ in grouped.cells():
            values = dict(part.split("=") for part in cell.split(",")) if cell else {}
            expected = 0
            for row, level in zip(rows, levels, strict=True):
                positive = row["present"] | (row["uncertain"] if uncertain == "present" else 0)
                left_open = row["uncertain"] if uncertain == "ignore" else 0
                expected += (positive & want == want and not positive & lack and not left_open & (want | lack)
                             and all(level[a] == v for a, v in values.items()))
            said = pattern_sql({"gap": want, "without": lack, "cell": cell}, uncertain=uncertain)
            assert con.sql(said).fetchall() == [(expected,)], said


def test_the_statement_is_short_enough_to_be_read() -> None:
    row = counted(cell=f"sex=F,age={AGE_BANDS[1][0]}-{AGE_BANDS[1][1]}")
    assert pattern_sql(row, uncertain="absent", films=films_sql(split="train")) == (
        f"SELECT count(*) FROM cohort WHERE split = 'train' AND present & {row['gap']} = {row['gap']} "
        "AND sex = 'F' AND age BETWEEN 18 AND 39")
    assert films_sql(split="all") == "" and "status IN" in films_sql(split="all", cohort="abc")


# The matrix

SINGLE = [counted(names=[n], observed=n_films, expected=float(n_films), deficit=0, lift=1.0)
          for n, n_films in (("effusion", 200), ("mass", 40), ("lung_lesion", 60))]


def test_a_pair_stands_twice_where_its_labels_meet_and_single_findings_between() -> None:
    matrix = pair_matrix([*SINGLE, counted(), counted(names=["effusion", "lung_lesion"], observed=30, deficit=0)],
                         vocabulary=V)
    assert matrix is not None
    names = [n for n, _, _ in matrix.labels]
    at = {(s.x, s.y): s for s in matrix.squares}
    places = [(names.index("effusion"), names.index("mass")), (names.index("mass"), names.index("effusion"))]
    for i, j in places:
        square = at[matrix.left + j * SIDE, matrix.top + i * SIDE]
        assert {k: square.texts[k] for k in "oed"} == {"o": "3", "e": "6.0", "d": "7"} and square.state == "short"
        assert "0.50 [0.10–1.4" in square.title and "missing 7" in square.title
    assert at[matrix.left, matrix.top].texts["o"] == "200"
    assert matrix.summary.startswith("1 of 2 pairs")


def test_what_cannot_be_filled_and_what_is_implied_are_told_apart() -> None:
    matrix = pair_matrix([*SINGLE, counted(fillable=False, reason="never seen on a real film"),
                          counted(names=["mass", "lung_lesion"], observed=40, deficit=0, fillable=False,
                                  reason="mass implies lung_lesion")], vocabulary=V)
    assert matrix is not None
    titles = {s.state: s.title for s in matrix.squares}
    assert set(titles) == {"enough", "closed", "implied"}
    assert titles["closed"].endswith("cannot be filled: never seen on a real film")
    assert "no combination of its own" in titles["implied"]


def _luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("observed", [0, 1, 9, 10, 500, 20_000])
@pytest.mark.parametrize("lift", [None, 0.0, 0.01, 0.6, 1.0, 3.0, 500.0])
def test_numbers_are_readable_on_every_square(observed: int, lift: float | None) -> None:
    """WCAG AA: 4.5 to 1 between the number and its square; five characters fit the square."""
    row = counted(observed=observed, expected=observed / lift if lift else 0.0, lift=lift,
                  deficit=max(0, 10 - observed))
    matrix = pair_matrix([*SINGLE, row], vocabulary=V)
    assert matrix is not None
    for square in matrix.squares:
        assert set(square.fills) == set(square.texts) == set(VIEWS)
        for key, fill in square.fills.items():
            assert (_luminance(fill) + 0.05) / (_luminance("#1b2733") + 0.05) > 4.5
            assert len(square.texts[key]) <= 5


def test_the_longest_name_fits_beside_and_above_the_matrix() -> None:
    names = ["effusion", "interstitial_lung_disease"]
    matrix = pair_matrix([counted(names=[n]) for n in names] + [counted(names=names)], vocabulary=V)
    assert matrix is not None
    assert matrix.left > 6.5 * len(names[1]) and matrix.top > 6.5 * len(names[1]) / 2**0.5


def test_no_pair_counted_is_no_matrix_and_lifts_read_as_numbers() -> None:
    assert pair_matrix(SINGLE, vocabulary=V) is None
    assert lift_words(counted(lift=0.0, lift_low=0.0, lift_high=0.0361)) == "0 [0–0.036]"
    assert lift_words(counted(lift=None, lift_low=None, lift_high=None)) == "–"
    assert lift_words(counted(lift=1234.5, lift_low=12.3, lift_high=99.9)) == "1,234 [12–100]"


# The page

def made(rows: list[tuple[int, int, str | None, int | None, str | None]] | None = None, **policy: Any) -> Survey:
    films = table(rows or [(0b01_10, 40, "F", 50, "AP"), (0b10_10, 3, "M", 20, "PA"), (0b10_00_00, 30, "F", 70, "AP"),
                           (0b10_11, 5, "F", 30, "PA"), (0b10_10_00_00, 20, "M", 81, None)])
    return survey(films, Gaps(**{"findings": FINDINGS, "order": 2, "min_count": 10} | policy), vocabulary=V)


def page(of: Survey, **changes: Any) -> str:
    given = {"source": "ward.csv", "split": "all", "plans": {}, "vocabulary": V, "code": "code 1",
             "created": "2026-11-24T07:00:00Z"}
    return gaps_page(of, **(given | changes)).decode()


def body_rows(text: str) -> list[str]:
    return re.findall(r"<tr data-cell.*?</tr>", text, re.S)


def test_every_short_combination_is_listed_with_its_count_its_deficit_and_its_statement() -> None:
    found = made()
    rows = body_rows(page(found))
    assert len(rows) == found.gaps.num_rows > 3
    for g in found.gaps.to_pylist():
        name = " + ".join(g["findings"])
        [row] = [r for r in rows if f">{name}<" in r]
        cells = re.findall(r'<td class="num(?: missing)?">([^<]*)', row)
        assert cells[1:4] == [str(g["observed"]), str(g["needed"]), str(g["deficit"])]
        assert html.escape(pattern_sql(g, uncertain="absent")) in row


def test_the_headline_names_the_rarest_that_can_be_made_and_whose_films_these_are() -> None:
    text = page(made(plausible={"rule": "any"}), split="train")
    lead = re.search(r'<p class="lead">(.*?)</p>', text, re.S)
    assert lead and "98 films of the train split" in lead[1] and "the rarest that can be made is" in lead[1]
    assert "Not for diagnosis" in text
    nothing = page(made([(0b10_10_10_10, 50, None, None, None)]))
    assert "None of 10 combinations" in nothing or "is short" in nothing
    assert "No combination is short." in nothing


def test_combinations_no_film_ever_showed_say_so_and_stand_apart() -> None:
    text = page(made(plausible={"reference": None}))
    fillable, closed = text.split("<h3>Cannot be filled")
    assert "never seen on a real film" in closed and "never seen on a real film" not in fillable.split("<h3>Can be")[1]


def test_names_from_outside_are_never_markup_and_nothing_is_fetched() -> None:
    evil = '<img src=x onerror="alert(1)">'
    text = page(made(), source=f"nih:{evil}", cohort=evil, code=evil, left_out={evil: 3},
                plans={evil: f"{evil} is no plan"})
    assert "<img" not in text and html.escape(evil, quote=False).split("&gt;")[0][:12] in text
    assert not re.search(r"https?://", text) and "@import" not in text and "url(" not in text.replace("url(#hatch)", "")


def test_values_of_attributes_are_never_markup() -> None:
    text = page(made([(0b10, 4, "<b>F</b>", 30, "AP"), (0b1000, 4, "M", 30, "AP")], by=["sex"]))
    assert "<b>F" not in text and "&lt;b&gt;F&lt;/b&gt;" in text


def test_the_page_needs_no_script_and_lets_only_its_own_run() -> None:
    text = page(made())
    [script] = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and html.unescape(policy[1]).endswith(f"script-src 'sha256-{digest}'")
    still = text.replace(script, "")
    assert all("hidden" not in row for row in body_rows(still)), "without script every row is in sight"
    assert re.search(r'<form [^>]*id="find" hidden', still), "a filter that would do nothing is not"
    assert still.count('type="radio"') == len(VIEWS), "the matrix is switched by style alone"


def test_cells_are_listed_with_their_films_and_shortages() -> None:
    found = made(by=["sex"])
    text = page(found)
    section = text.split('<section id="cells">')[1].split("</section>")[0]
    rows = [re.findall(r"<td[^>]*>([^<]*)", r) for r in re.findall(r"<tr><td.*?</tr>", section, re.S)]
    assert [(r[0], int(r[1])) for r in rows] == [("all films", 98), ("sex F", 75), ("sex M", 23)]
    orders = found.orders("sex=M")
    assert rows[2][2] == f"{orders['1']['below']} of {orders['1']['patterns']}"
    assert 'href="#cells"' in text and 'id="cells"' not in page(made())


def test_what_uncertain_and_unmentioned_findings_leave_open_is_shown() -> None:
    text = page(made([(0b11_10, 4, None, None, None), (0b10, 6, None, None, None), (0b10_00, 20, None, None, None)]))
    [row] = [r for r in body_rows(text) if ">effusion + mass<" in r]
    # Four films leave mass uncertain, six and twenty mention only one of the two.
    assert "<td class=\"num\">0–4 (30)</td>" in row
    assert "Could be on" not in page(made([(0b01_10, 4, None, None, None)], findings=["effusion", "mass"]))


def test_patterns_are_told_apart_by_whether_they_can_exist() -> None:
    row = {"possible": False, "reason": "mass implies lung_lesion"}
    assert uncovered_kind(row) == "cannot exist"
    assert uncovered_kind({"possible": True, "reason": None}) == "rare"
    found = survey(table([(0b10_00, 20, None, None, None), (0, 30, None, None, None)]), Gaps(
        findings=["mass", "lung_lesion"], order=2, min_count=10, plausible={"reference": None}), vocabulary=V)
    kinds = {uncovered_kind(r) for r in found.uncovered.to_pylist()}
    text = page(found)
    assert kinds and all(kind in text for kind in kinds)
