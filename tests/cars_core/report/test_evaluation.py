"""Arranging results must neither lose a number nor turn one round."""

from __future__ import annotations

import pytest

from cars_core.report.evaluation import evaluation_groups


@pytest.mark.parametrize(("measure", "interval", "effect"), [
    ("AUPRC", (0.05, 0.01, 0.09), "better"), ("AUPRC", (-0.05, -0.09, -0.01), "worse"),
    ("ECE", (0.05, 0.01, 0.09), "worse"), ("ECE", (-0.05, -0.09, -0.01), "better"),
    ("entropy", (-0.05, -0.09, -0.01), "lower"), ("entropy", (0.05, 0.01, 0.09), "higher"),
    ("AUPRC", (0.05, 0.0, 0.09), ""), ("AUPRC", (0.05, -0.01, 0.09), ""), ("AUPRC", (0.05, None, None), ""),
])
def test_effect_follows_the_measures_direction_and_needs_an_interval_off_zero(build, measure, interval, effect):
    """Calling a worse calibration better, or surer the same as truer, would mislead."""
    build.result("difference", "macro", measure, *interval)
    assert evaluation_groups(build.tables()["evaluations"])[0].headline[0].rows[0].effect == effect


def test_an_interval_of_an_arm_is_never_marked(build):
    """An arm's AUPRC is always off zero; that says nothing."""
    build.result("real", "macro", "AUPRC", 0.4, 0.3, 0.5)
    assert not evaluation_groups(build.tables()["evaluations"])[0].headline[0].rows[0].cells["real"].excludes_zero


def test_difference_is_the_last_column_and_headline_rows_come_first(build):
    for finding in ("effusion", "gaps", "macro"):
        for arm in ("difference", "real", "real+subset"):
            build.result(arm, finding, "AUPRC", 0.1, 0.0, 0.2)
    group = evaluation_groups(build.tables()["evaluations"])[0]
    assert group.arms == ["real", "real+subset", "difference"]
    assert [b.title for b in group.headline] == ["all findings (macro)", "the filled combinations"]
    assert [b.title for b in group.findings] == ["effusion"]


def test_undefined_values_keep_their_note(build):
    build.result("real", "hernia", "AUPRC", float("nan"), None, None, note="no positive test patient")
    row = evaluation_groups(build.tables()["evaluations"])[0].findings[0].rows[0]
    assert row.cells["real"].text == "–"
    assert row.notes == ("no positive test patient",)


def test_plots_of_one_measure_share_a_scale(build):
    """Two intervals drawn to different scales could not be compared by eye."""
    build.result("difference", "macro", "AUPRC", 0.1, -0.1, 0.2)
    build.result("difference", "effusion", "AUPRC", 0.2, 0.0, 0.4)
    group = evaluation_groups(build.tables()["evaluations"])[0]
    assert group.headline[0].rows[0].plot == pytest.approx((-0.25, 0.25, 0.5))
    assert group.findings[0].rows[0].plot == pytest.approx((0.0, 0.5, 1.0))
