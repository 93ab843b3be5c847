"""The heat map is the first thing a reader sees of the gaps; a wrong tile is a wrong claim."""

from __future__ import annotations

from cars_core.report.heatmap import CELL, LEFT, TOP, pair_heatmap
from cars_core.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
FINDINGS = ["nodule", "effusion", "mass"]


def heatmap(build):
    return pair_heatmap(build.gaps, findings=FINDINGS, min_count=10, vocabulary=VOCABULARY)


def test_a_tile_stands_where_its_two_labels_meet(build):
    build.gap("nodule", "effusion", observed=4, deficit=6)
    heat = heatmap(build)
    row = next(i for i, (label, _, _) in enumerate(heat.rows) if label == "nodule")
    column = next(i for i, (label, _, _) in enumerate(heat.columns) if label == "effusion")
    tile = next(t for t in heat.tiles if t.text == "4")
    assert (tile.x, tile.y) == (LEFT + column * CELL, TOP + row * CELL)
    assert tile.state == "deficit"
    assert len(heat.tiles) == 3


def test_states_tell_fillable_from_closed_from_enough(build):
    build.gap("nodule", "effusion", observed=4, deficit=6)
    build.gap("nodule", "mass", observed=0, deficit=10, fillable=False, reason="no editor")
    heat = heatmap(build)
    assert sorted(t.state for t in heat.tiles) == ["closed", "deficit", "enough"]
    assert heat.summary.startswith("2 of 3 pairs")
    assert next(t for t in heat.tiles if t.state == "closed").title.endswith("cannot be filled: no editor")


def _luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_counts_are_readable_on_every_tile_and_rarer_is_stronger(build):
    """WCAG AA: 4.5 to 1 between the count and its tile."""
    ink = _luminance("#1b2733")
    fills = []
    for seen in range(11):
        build.gaps.clear()
        build.gap("nodule", "effusion", observed=seen, deficit=10 - seen)
        tile = next(t for t in heatmap(build).tiles if t.text == str(seen))
        assert (_luminance(tile.fill) + 0.05) / (ink + 0.05) > 4.5
        fills.append(_luminance(tile.fill))
    assert fills[:10] == sorted(fills[:10])


def test_triples_alone_make_no_heat_map(build):
    build.gap("nodule", "effusion", "mass", observed=0, deficit=10)
    assert heatmap(build) is None
