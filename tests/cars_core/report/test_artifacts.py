"""Markdown shown in the scheduler: the same facts as the page, in short."""

from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cars_core.report.artifacts import evaluation_markdown, gap_markdown, image_markdown, verdict_markdown
from cars_core.report.pictures import png
from schemas.errors import BadInput


def test_gaps_are_ranked_by_deficit_and_say_how_many_are_left_out(full):
    full.gap("mass", "edema", observed=1, deficit=9)
    text = gap_markdown(full.tables()["gaps"], limit=2)
    assert re.findall(r"^\| (\w+ \+ \w+) \|", text, re.M) == ["hernia + edema", "mass + edema"]
    assert "**3 combinations missing**, 2 of them fillable" in text
    assert "1 more are not shown" in text
    assert "no editor for hernia" in text


def test_verdicts_are_counted_with_reasons(full):
    text = verdict_markdown(full.tables()["samples"])
    assert "**1 of 4 accepted** (25%)" in text
    assert text.count("| 1 |") == 4


def test_evaluation_bolds_only_what_excludes_zero(full):
    text = evaluation_markdown(full.tables()["evaluations"])
    assert "**+0.040 [+0.010, +0.070]** better" in text
    assert "| −0.020 [−0.050, +0.010] |" in text


def test_nothing_is_said_as_nothing(build):
    tables = build.tables()
    assert gap_markdown(tables["gaps"]) == "No combination of findings is missing."
    assert verdict_markdown(tables["samples"]) == "No sample was made."
    assert evaluation_markdown(tables["evaluations"]) == "Not evaluated."


def test_text_cannot_break_the_table_or_become_markup(build):
    """A pipe or a tag in a reason would shift columns or run in the scheduler's page."""
    build.gap("mass", "edema", observed=0, deficit=9, fillable=False, reason="a | b\n<script>x</script> [l](u)")
    row = gap_markdown(build.tables()["gaps"]).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "<script>" not in row
    assert "[l](" not in row.replace("\\[", "").replace("\\]", "")


def test_picture_fits_its_limit_and_stays_a_picture():
    """Scheduler databases refuse or choke on artifacts of megabytes."""
    noisy = png(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8))
    text = image_markdown(noisy, "edits ]( of [x]", max_bytes=60_000)
    assert len(text) < 60_100
    found = re.fullmatch(r"!\[(?:[^\[\]]|\\[\[\]])*\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)", text)
    assert found
    with Image.open(BytesIO(base64.b64decode(found[1]))) as im:
        assert im.width / im.height == pytest.approx(4 / 3, rel=0.02)


def test_a_limit_no_picture_can_meet_is_an_error():
    with pytest.raises(BadInput, match="max_bytes"):
        image_markdown(png(np.zeros((99, 99), np.uint8)), "x", max_bytes=100)
