"""`cars gaps` as a user types it: figures that are known, refusals that help, statements that can be checked."""

from __future__ import annotations

import csv
import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from cars_core.coverage.survey import survey
from cars_core.lake.lake import Lake
from cars_core.lake.sql import query
from cars_core.vocabulary import load_vocabulary
from flows.gaps import cohort_digest, default_findings, draft_plans, gaps_command, label_films, parse_source
from schemas.errors import BadInput
from schemas.policy import Gaps
from schemas.tables import COHORT

ROOT = Path(__file__).resolve().parents[2]
V = load_vocabulary()
NIH = "Data_Entry_2017_v2020.csv.gz"
HEADER = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender",
          "View Position"]


def cars_gaps(*words: str | Path) -> Result:
    """The command in this process; a wrong word is `result.exception`, a BadInput."""
    app = typer.Typer()
    app.command()(gaps_command(Console(stderr=True, width=200), lambda given: given or "no-lake"))
    return CliRunner().invoke(app, [str(w) for w in words])


def said(*words: str | Path) -> dict[str, Any]:
    done = cars_gaps(*words, "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)  # the whole of it: one document and nothing else
    return found


def refused(*words: str | Path) -> str:
    done = cars_gaps(*words)
    assert isinstance(done.exception, BadInput), done.exception
    return str(done.exception)


def labels(path: Path, rows: list[tuple[str, int, str, str]]) -> Path:
    """An NIH label file of (labels, age, sex, view)."""
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(HEADER)
        for i, (text, age, sex, view) in enumerate(rows):
            writer.writerow([f"{i:08d}_000.png", text, 0, i, age, sex, view])
    return path


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    return labels(tmp_path / "ward.csv", [
        *[("Effusion|Mass", 30, "F", "AP")] * 3, *[("Effusion", 50, "M", "PA")] * 20, *[("Mass", 70, "F", "PA")] * 12,
        *[("Nodule|Edema|Mass", 85, "M", "AP")] * 11, *[("No Finding", 40, "F", "PA")] * 30])


# Known figures

def test_the_nih_table_gives_the_figures_the_project_promises(open_films: Path) -> None:
    found = said(f"nih:{open_films / 'labels' / NIH}", "--order", "3", "--min-count", "10")
    assert (found["films"], found["distinct_vectors"]) == (112_120, 801)
    assert found["orders"]["2"] == {"patterns": 91, "below": 9, "absent": 0}
    assert found["orders"]["3"] == {"patterns": 364, "below": 177, "absent": 58}
    assert found["source"].endswith(NIH) and found["split"] == "all"
    assert len(found["gaps"]) == 9 + 177 and found["uncovered"]
    assert all(g["deficit"] == 10 - g["observed"] > 0 for g in found["gaps"])


def test_the_figures_are_printed_by_the_installed_command(open_films: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "flows.cli", "gaps", f"nih:{open_films / 'labels' / NIH}", "--json"],
                          capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["orders"]["3"]["absent"] == 58


def test_attributes_are_kept_apart_and_add_up(ward: Path) -> None:
    found = said(f"nih:{ward}", "--by", "sex,view", "--order", "2", "--min-count", "5")
    assert found["films"] == 76
    assert {c: v["films"] for c, v in found["cells"].items()} == {
        "sex=F": 45, "sex=M": 31, "view=AP": 14, "view=PA": 62, "sex=F,view=AP": 3, "sex=F,view=PA": 42,
        "sex=M,view=AP": 11, "sex=M,view=PA": 20}
    women = [g for g in found["gaps"] if g.get("cell") == "sex=F" and g["findings"] == ["effusion", "mass"]]
    assert [(g["observed"], g["deficit"]) for g in women] == [(3, 2)]


def test_combinations_of_absent_findings_are_counted_when_asked(ward: Path) -> None:
    words = [f"nih:{ward}", "--findings", "effusion,edema", "--order", "2", "--min-count", "25"]
    assert not any("no edema" in g["findings"] for g in said(*words)["gaps"])
    full = {tuple(g["findings"]): g["observed"] for g in said(*words, "--full")["gaps"]}
    assert full["effusion", "no edema"] == 23


def test_rows_that_could_not_be_read_are_counted_not_dropped_in_silence(tmp_path: Path) -> None:
    file = labels(tmp_path / "some.csv", [("Effusion", 50, "M", "PA")] * 4 + [("Scurvy", 50, "M", "PA")] * 2)
    found = said(f"nih:{file}")
    assert found["films"] == 4 and sum(found["left_out"].values()) == 2
    assert "left out" in cars_gaps(f"nih:{file}").stderr


def test_a_reader_of_the_terminal_sees_counts_rarest_and_uncovered(ward: Path) -> None:
    done = cars_gaps(f"nih:{ward}", "--findings", "effusion,mass,edema", "--order", "2", "--min-count", "5")
    assert not done.stdout
    for words in ("76 films", "pairs", "effusion + mass", "Uncovered at level 2"):
        assert words in done.stderr


# A lake

def lake_of(uri: Path, digest: str, rows: list[dict[str, Any]]) -> Lake:
    lake = Lake(str(uri))
    base = {"cohort": digest, "source": "nih", "dataset": "nih", "status": "accepted", "flags": [], "split": "train",
            "absent": 0, "uncertain": 0, "labels": "labels", "licence": "CC0", "sex": "F", "age": 50, "view": "AP"}
    full = [{**base, "record": f"{digest[:4]}{i}", "patient": f"p{i}", "image_id": f"{digest[:4]}i{i}",
             "object": f"o{i}", **r} for i, r in enumerate(rows)]
    lake.append("cohort", pa.Table.from_pylist(full, COHORT), key=digest)
    return lake


FIRST, SECOND = "a1" + "0" * 62, "a2" + "0" * 62


def films() -> list[dict[str, Any]]:
    """Films of every state, sex, age band and view, also unstated ones; some of another split or set aside."""
    e, m, n = (1 << V[f].bit for f in ("effusion", "mass", "nodule"))
    rows = []
    vectors = [(e | m, 0, 0)] * 3 + [(e, 0, m)] * 4 + [(e, m, 0)] * 9 + [(m, 0, n)] * 5 + [(n, e, 0)] * 7
    for i, (present, absent, uncertain) in enumerate([*vectors, *[(0, 0, e)] * 8]):
        rows.append({"present": present, "absent": absent, "uncertain": uncertain, "sex": ["F", "M", None][i % 3],
                     "age": [None, 5, 17, 18, 44, 79, 80, 99][i % 8], "view": ["AP", "PA", "", None][i % 4],
                     "dataset": ["ward", "O'Hara, <b>two</b>"][i % 2],
                     "status": "accepted" if i % 5 else "unread"})
    all_three = {"present": e | m | n}
    return [*rows, *[all_three | {"split": "test"}] * 30, *[all_three | {"status": "set_aside"}] * 30]


@pytest.fixture
def two_cohorts(tmp_path: Path) -> Path:
    lake_of(tmp_path / "lake", FIRST, films())
    lake_of(tmp_path / "lake", SECOND, [{"present": 1 << V["effusion"].bit}] * 7)
    return tmp_path / "lake"


def test_the_cohort_last_taken_in_is_meant_unless_another_is_named(two_cohorts: Path) -> None:
    assert said("cohort", "--lake", two_cohorts)["films"] == 7
    assert said(f"cohort:{FIRST[:2]}", "--lake", two_cohorts)["films"] == 36, "training films, accepted or unread"
    assert said(f"cohort:{FIRST[:5]}", "--lake", two_cohorts, "--split", "all")["films"] == 66
    assert cohort_digest(Lake(str(two_cohorts)), "") == SECOND


@pytest.mark.parametrize("words", [[], ["--uncertain", "present"], ["--uncertain", "ignore"], ["--full"],
                                   ["--full", "--uncertain", "ignore", "--by", "sex,age,view,dataset"],
                                   ["--split", "all", "--min-count", "40"]])
def test_the_sql_of_every_row_gives_its_number_in_cars_sql(two_cohorts: Path, words: list[str]) -> None:
    """Beside films of another cohort, another split, and films that were set aside."""
    done = cars_gaps(f"cohort:{FIRST[:2]}", "--lake", two_cohorts, "--findings", "effusion,mass,nodule", "--order", "2",
                     "--page", *words, *([] if "--min-count" in words else ["--min-count", "9"]))
    assert done.exit_code == 0, done.exception
    page = (two_cohorts / "pages" / f"gaps-{FIRST[:12]}.html").read_text()
    rows = re.findall(r"<tr data-cell.*?</tr>", page, re.S)
    assert len(rows) > 2
    for row in rows[::max(1, len(rows) // 25)]:
        numbers = re.findall(r'<td class="num">([\d,]+)', row)
        [statement] = re.findall(r"<code>(.*?)</code>", row)
        counted = query(Lake(str(two_cohorts)), html.unescape(statement)).to_pylist()
        assert [list(r.values()) for r in counted] == [[int(numbers[1].replace(",", ""))]], statement


def test_no_value_of_a_film_becomes_markup_on_the_page(two_cohorts: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "page.html"
    cars_gaps(f"cohort:{FIRST[:2]}", "--lake", two_cohorts, "--by", "dataset", "--order", "2", "--out", out)
    page = out.read_text()
    assert "<b>two" not in page and "O&#39;Hara" in page
    assert not (two_cohorts / "pages").exists(), "--out is instead of the lake"


def test_a_label_file_gets_its_page_here_and_its_name_is_no_markup(ward: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = ward.rename(tmp_path / "<i>ward<.csv")
    done = cars_gaps(f"nih:{named}", "--page")
    assert done.exit_code == 0, done.exception
    page = (tmp_path / "gaps-nih.html").read_text()
    assert "&lt;i&gt;ward&lt;.csv" in page and "<i>ward" not in page and str(tmp_path) not in page


def test_the_page_shows_what_the_plan_would_change_gap_by_gap(ward: Path, tmp_path: Path) -> None:
    words = [f"nih:{ward}", "--findings", "effusion,mass,nodule", "--order", "2", "--min-count", "5"]
    page = (tmp_path / "page.html")
    assert cars_gaps(*words, "--out", page).exit_code == 0
    films = label_films("nih", str(ward), split="all", vocabulary=V)
    found = survey(films.rows, Gaps(findings=["effusion", "mass", "nodule"], min_count=5), vocabulary=V)
    plans = draft_plans(films, found, None, vocabulary=V)
    section = page.read_text().split('<section id="plan">')[1].split("</section>")[0]
    assert len(plans) == 2
    for plan, part in zip(plans.values(), section.split("<h3>")[1:], strict=True):
        assert not isinstance(plan, str) and plan.summary.planned > 0
        numbers = [int(n.replace(",", "")) for n in re.findall(r"<dd>([\d,]+)</dd>", part)]
        assert numbers[:4] == [plan.summary.planned, plan.summary.closed, plan.summary.filled, plan.summary.bound]
        for g in plan.gaps.to_pylist():
            if g["fillable"]:
                assert f"{g['observed']} → {g['observed'] + g['planned']} of {g['needed']}" in part


@pytest.mark.parametrize(("words", "told"), [
    (["--split", "all"], "only training films are edited"), (["--split", "test"], "only training films are edited"),
    (["--min-count", "1", "--findings", "effusion"], "nothing is missing")])
def test_where_nothing_can_be_planned_the_page_says_why(two_cohorts: Path, tmp_path: Path, words: list[str],
                                                        told: str) -> None:
    page = tmp_path / "page.html"
    done = cars_gaps(f"cohort:{FIRST[:2]}", "--lake", two_cohorts, "--out", page, *words)
    assert done.exit_code == 0, done.exception
    assert page.read_text().lower().count(told) == 2


def test_findings_are_those_the_source_labels_or_that_its_films_show() -> None:
    table = pa.table({"source": ["phantom", "phantom"], "present": [1 << V["effusion"].bit, 1 << V["hernia"].bit]})
    assert default_findings(table, vocabulary=V) == ["effusion", "hernia"]
    nih = pa.table({"source": ["nih"], "present": [1]})
    assert set(default_findings(nih, vocabulary=V)) == {f.name for f in V.label_set("nih").values()}
    mimic = pa.table({"source": ["mimic"], "present": [1]})
    assert set(default_findings(mimic, vocabulary=V)) == {f.name for f in V.label_set("chexpert").values()}


def test_a_recipe_gives_the_policy_and_options_go_over_it(ward: Path) -> None:
    recipe = ROOT / "flows" / "recipes" / "nih-open.yaml"  # pairs of seven findings, 12 films
    found = said(f"nih:{ward}", "--recipe", recipe)
    assert max(found["orders"]) == "2" and found["orders"]["1"]["patterns"] == 7
    assert {g["needed"] for g in found["gaps"]} == {12}
    over = said(f"nih:{ward}", "--recipe", recipe, "--min-count", "2", "--order", "1")
    assert list(over["orders"]) == ["1"] and {g["needed"] for g in over["gaps"]} == {2}


# Refusals

@pytest.mark.parametrize(("words", "told"), [
    (["--order", "9"], ["--order: got 9", "4"]), (["--order", "0"], ["--order: got 0", "1"]),
    (["--min-count", "0"], ["--min-count: got 0", "1"]), (["--min-share", "2"], ["--min-share: got 2", "1"]),
    (["--by", "sex,colour"], ["--by: got colour", "'sex'", "'view'"]),
    (["--by", "sex,sex"], ["--by: got sex,sex", "once"]),
    (["--by", "age,sex,view,source,split"], ["--by", "4"]),
    (["--findings", "mass,scurvy"], ["--findings: got scurvy", "effusion"]),
    (["--findings", "mass,mass"], ["--findings: got mass,mass", "once"]), (["--findings", ","], ["--findings", "1"]),
    (["--uncertain", "maybe"], ["--uncertain: got maybe", "'ignore'"]),
    (["--level", "0"], ["--level: got 0", "1 to 6"]),
    (["--split", "half"], ["--split: got half", "validate"]),
    (["--split", "train"], ["--split: got train", "no splits"]),
    (["--top", "-1"], ["--top", "0 or more"]), (["--recipe", "none.yaml"], ["none.yaml", "readable"]),
])
def test_what_is_wrong_is_named_with_what_is_allowed(ward: Path, words: list[str], told: list[str]) -> None:
    text = refused(f"nih:{ward}", *words)
    assert all(word in text for word in told), text


def test_an_attribute_of_thousands_of_values_is_refused(tmp_path: Path) -> None:
    lake_of(tmp_path / "lake", FIRST, [{"present": 4, "dataset": f"d{i}"} for i in range(500)])
    text = refused("cohort", "--lake", tmp_path / "lake", "--by", "dataset")
    assert "dataset" in text and "500" in text and "at most" in text


@pytest.mark.parametrize(("source", "told"), [
    ("ward.csv", "padchest:FILE"), ("tif:ward.csv", "nih:FILE"), ("nih:", "nih:FILE"), ("cohort:", "cohort:DIGEST"),
    ("nih:no-such-file.csv", "no-such-file.csv"), ("chexpert:README.md", "README.md"), ("", "nih:FILE"),
])
def test_a_source_of_no_known_form_is_refused_with_the_forms_there_are(source: str, told: str,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert told in refused(source)


def test_a_cohort_that_is_not_one_is_refused_with_those_there_are(two_cohorts: Path, tmp_path: Path) -> None:
    unknown, several = refused("cohort:ff", "--lake", two_cohorts), refused("cohort:a", "--lake", two_cohorts)
    assert FIRST[:12] in unknown and SECOND[:12] in unknown and "cohort:a" in several and FIRST[:12] in several
    assert "test" in refused(f"cohort:{SECOND}", "--lake", two_cohorts, "--split", "test")
    assert "cars ingest" in refused("cohort", "--lake", tmp_path / "empty")
    assert not (tmp_path / "empty").exists(), "looking for a cohort makes no lake"


def test_a_cohort_without_a_finding_needs_to_be_told_what_to_count(tmp_path: Path) -> None:
    lake_of(tmp_path / "lake", FIRST, [{"present": 0, "source": "folder"}] * 3)
    assert "--findings" in refused("cohort", "--lake", tmp_path / "lake")


def test_a_page_that_cannot_be_written_is_one_line(ward: Path) -> None:
    assert "--out" in refused(f"nih:{ward}", "--out", ward / "page.html")


def test_sources_are_read_apart_at_their_first_colon(ward: Path) -> None:
    assert parse_source("nih:odd:name.csv") == ("nih", "odd:name.csv") and parse_source("cohort") == ("cohort", "")
    assert label_films("nih", str(ward), split="all", vocabulary=V).name == "nih:ward.csv"
