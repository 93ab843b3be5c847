"""The page is what a build is judged by: it must hold everything, alone, and hide nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from cars_core.report.words import operation_words
from schemas.errors import BadInput

VOID = {"meta", "link", "img", "input", "br", "rect", "line", "circle"}


class Reader(HTMLParser):
    """Collects tags, attributes, text and unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def cards(html: str) -> list[dict[str, str]]:
    return [a for t, a in Reader(html).tags if t == "article"]


def section(html: str, name: str) -> str:
    """Text of one section, spaces collapsed."""
    found = re.search(rf'<section id="{name}">(.*?)</section>', html, re.S)
    assert found
    return " ".join(Reader(found[1]).text.split())


def test_page_is_one_file_that_reaches_for_nothing(full):
    """A page mailed to a reviewer, or opened on an island, would be broken or call home."""
    html = full.html()
    assert not re.search(r"https?://|@import|url\(", html)
    for tag, attributes in Reader(html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in attributes:
                value = attributes[name]
                assert value == "" or value.startswith(("data:", "#")), (tag, value[:60])
    assert "default-src 'none'" in html


def test_page_markup_is_balanced_and_every_id_is_its_own(full):
    """A tag left open swallows the sections after it; a double id breaks the links to them."""
    page = Reader(full.html())
    assert page.faults == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.tags if t == "a"} <= set(ids)


def test_every_film_has_an_alternative_text(full):
    """A reader who cannot see the pictures would not know which edit is spoken of."""
    films = [a for t, a in Reader(full.html()).tags if t == "img" and "decoding" in a and a.get("class") != "outline"]
    assert len(films) == 9
    assert all(len(a["alt"]) > 20 and a["width"] for a in films)


@pytest.mark.parametrize(
    "place", ["gap reason", "reject reason", "quarantine", "sentence", "recipe", "note", "licence"])
def test_text_from_outside_cannot_become_markup(full, place):
    """A label file could plant a script in every page built from it."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    if place == "gap reason":
        full.gap("mass", "hernia", observed=0, deficit=10, fillable=False, reason=evil)
    elif place == "reject reason":
        full.sample(verdict="rejected", reasons=(evil,))
    elif place == "quarantine":
        full.quarantined.append((evil, 1))
    elif place == "note":
        full.result("real", "gaps", "AUPRC", None, None, None, note=evil)
    elif place == "licence":
        full.sample(licence=evil)
    else:
        full.facts[place] = evil if place == "sentence" else {evil: {"x": evil}}
    html = full.html()
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert html.count("<script>") == 1


def test_only_the_pages_own_script_may_run(full):
    """The policy's hash must be that of the script, or the filters would be dead in every browser."""
    html = full.html()
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    policy = re.search(r"script-src '(sha256-[^']+)'", html)
    assert script
    assert policy
    wanted = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert unescape(policy[1]) == f"sha256-{wanted}"


def test_every_gap_is_shown_with_its_numbers_and_its_reason(build):
    """A combination left off the table would look as if the cohort had it."""
    findings = ["atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "edema"]
    pairs = [(a, b) for i, a in enumerate(findings) for b in findings[:i]]
    for i, pair in enumerate(pairs):
        build.gap(*pair, observed=i, deficit=100 - i, expected=float(i), fillable=bool(i % 2),
                  reason=None if i % 2 else f"reason {i}.")
    text = section(build.html(), "missing")
    for i, (a, b) in enumerate(pairs):
        assert f"{a} + {b} {i} {i}.0 {100 - i} 2 0" in text
        assert i % 2 or f"reason {i}." in text


def test_a_combination_without_deficit_is_not_called_missing(full):
    text = section(full.html(), "missing")
    assert "nodule + edema 30" not in text
    assert "effusion + mass 3 4.0 7" in text


def test_filled_counts_accepted_edits_that_newly_carry_the_combination(build):
    """Counting rejected edits, or films that had it before, would overstate what the subset gives."""
    build.gap("effusion", "mass", observed=3, deficit=7, planned=9)
    build.sample()                                                     # mass -> mass + effusion
    build.sample(verdict="rejected", reasons=("seam 3 > 2",))
    build.sample(finding="nodule", before=("mass", "effusion"))        # had it
    build.sample(before=("nodule",))                                   # effusion, no mass
    build.sample(before=("mass", "nodule"))                            # carries it with one more
    assert "effusion + mass 3 4.0 7 9 2" in section(build.html(), "missing")


def test_every_reject_is_kept_visible_with_every_reason(full):
    """A reject that vanishes hides the editor's failure (law 5)."""
    html = full.html(pairs=2)
    text = section(html, "rejected")
    for row in full.samples:
        if row["verdict"] == "rejected":
            assert row["edit_id"][:12] in text
            assert all(reason in text for reason in row["reasons"])
    for gate, n in (("seam", 1), ("effect", 1), ("dice_left_lung", 1), ("error", 1)):
        assert f"{gate} {n}" in text


def test_reasons_of_one_gate_are_counted_together(build):
    for seam in ("2.1", "3.4", "9.9"):
        build.sample(verdict="rejected", reasons=(f"seam {seam} > 2",))
    assert "seam 3" in section(build.html(), "rejected")


def test_cards_carry_what_the_filters_ask_for(full):
    """A filter by reason that finds no card, though one has it, would hide rejects."""
    html = full.html()
    made = cards(html)
    assert [c["data-verdict"] for c in made] == ["accepted", "rejected", "rejected"]
    options = re.findall(r'<option value="(\d+)">', html)
    assert {k for c in made for k in c["data-reasons"].split()} == set(options)
    assert {f for c in made for f in c["data-findings"].split()} == {"effusion", "nodule", "pneumothorax"}


def test_the_truth_stands_beside_the_edit_with_its_error(build):
    """Simulated films: without the ceiling in sight, an edit has nothing to be compared with."""
    row = build.sample()
    other = build.sample(finding="mass", before=())
    true = build.objects[row["object"]]
    html = build.html(truth=lambda s: true if s["edit_id"] == row["edit_id"] else None)
    panels = [c.count("<figure>") for c in re.findall(r"<article.*?</article>", html, re.S)]
    assert sorted(panels) == [3, 5]
    # The truth is the edit itself; the source differs from it by 30 grey levels everywhere in the mask.
    assert "Mean error to the truth in the mask: 0.0 grey levels (unedited film: 30.0)" in Reader(html).text
    assert other["edit_id"][:12] in html


def test_only_a_difference_whose_interval_excludes_zero_is_marked(full):
    """Marking noise as a gain is the one lie this page must not tell."""
    html = full.html()
    marked = re.findall(r'<td class="num marked[^"]*">(.*?)</td>', html)
    assert len(marked) == 1
    assert "+0.040 [+0.010, +0.070]" in marked[0]
    assert "better" in marked[0]
    assert "−0.020 [−0.050, +0.010]" in section(html, "evaluation")


def test_sections_tell_where_the_data_came_from(full):
    text = section(full.html(), "lineage")
    for fact in ("subset-digest", "build-digest", "editor-digest", "segmenter-digest", "seed 7", "NIH-CC (4 edits)",
                 "Wang et al., CVPR 2017", "arXiv:2603.15525", "275000", "render 3 min 05 s"):
        assert fact in text
    assert "rotated by 90 degrees 7" in section(full.html(), "quarantine")


def test_not_for_diagnosis_is_said(full):
    assert "Research software for building data. Not for diagnosis." in Reader(full.html()).text


def test_a_build_with_nothing_in_it_still_has_a_page(build):
    """An empty subset is a result; a crash at the last step would lose the build's record."""
    build.facts = {"version": None, "digest": ""}
    html = build.html()
    text = " ".join(Reader(html).text.split())
    assert Reader(html).faults == []
    for words in ("not published", "No edit was accepted.", "No edit was rejected.", "has not been evaluated",
                  "No film was set aside or quarantined.", "No combination of findings is seen on too few"):
        assert words in text


def test_simulated_films_are_called_simulated(full):
    full.facts["recipe"] = {"cohort": {"source": "phantom"}}
    text = Reader(full.html()).text
    assert "The films are simulated." in text
    assert "real films" not in text.split("What was missing")[0]


def test_page_of_48_films_at_512_stays_under_12_mb_and_shrinks_pictures_to_do_so(build):
    """Grain does not compress: at full quality these films would make a page no mail takes."""
    for i in range(48):
        build.sample(size=512, noise=25.0) if i < 4 else build.samples.append(
            build.samples[i % 4] | {"edit_id": f"{i:064x}"})
    html = build.html(truth=lambda s: build.objects[s["object"]])
    assert len(html.encode()) < 12e6
    assert html.count("<article") == 48


def test_pictures_shrink_to_the_budget_and_keep_their_shape(build):
    for _ in range(3):
        build.sample(size=400, noise=25.0)
    sizes = []
    for budget in (10_000_000, 400_000, 100_000):
        html = build.html(picture_budget=budget)
        films = [a for t, a in Reader(html).tags if t == "img" and "decoding" in a]
        assert sum(len(a["src"]) for a in films) <= budget
        assert all(a["width"] == a["height"] for a in films)
        sizes.append(int(films[0]["width"]))
    assert sizes[0] == 400
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 400
    with pytest.raises(BadInput, match="pairs"):
        build.html(picture_budget=1000)


def test_rejects_get_pictures_however_many_are_accepted(build):
    for i in range(30):
        build.sample(size=16, verdict="accepted" if i < 20 else "rejected", reasons=() if i < 20 else ("seam 3 > 2",))
    verdicts = [c["data-verdict"] for c in cards(build.html(pairs=12))]
    assert (verdicts.count("accepted"), verdicts.count("rejected")) == (8, 4)


def test_a_rare_reason_is_pictured_before_the_common_one_again(build):
    for i in range(9):
        build.sample(size=16, verdict="rejected", reasons=("seam 3 > 2",) if i else ("effect 1 < 3",))
    pictured = re.findall(r'<ul class="reasons"><li>(.*?)</li>', build.html(pairs=2))
    assert {unescape(reason) for reason in pictured} == {"effect 1 < 3", "seam 3 > 2"}


def test_same_build_same_page(full):
    assert full.html() == full.html()


def test_a_missing_object_is_an_error_and_not_an_empty_panel(full):
    del full.objects[full.samples[0]["object"]]
    with pytest.raises(KeyError):
        full.html()


def test_wrong_input_is_named(full):
    with pytest.raises(BadInput, match="pairs"):
        full.html(pairs=-1)
    full.samples[0]["mask"] = full.put(np.zeros((8, 8), np.uint8))
    with pytest.raises(BadInput, match="source film's shape"):
        full.html()
    full.facts["counts"] = {"films": 3}
    with pytest.raises(BadInput, match=r"build\.counts"):
        full.html()


@pytest.mark.parametrize(("operation", "words"), [
    ({"kind": "insert", "finding": "effusion", "side": "left", "severity": 0.7}, "insert effusion, left, severity 0.7"),
    ({"kind": "insert", "finding": "effusion", "side": "both", "severity": 1.0},
     "insert effusion, both sides, severity 1"),
    ({"kind": "insert", "finding": "cardiomegaly", "side": "both", "severity": 0.25},
     "insert cardiomegaly, severity 0.25"),
    ({"kind": "delete", "finding": "pleural_thickening", "side": "right", "severity": 0.7},
     "delete pleural thickening, right"),
])
def test_operations_are_said_in_words(operation, words):
    assert operation_words(operation) == words
