"""The main job on real films: the recipe of the README, on fewer films."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SETTINGS

from cars_core.lake.lake import Lake
from cars_core.png import read_png


@pytest.mark.timeout(900)
def test_the_nih_recipe_publishes_edits_of_real_films(prefect: None, open_films: Path, tmp_path: Path) -> None:
    from flows.build import build

    fewer = [s for s in SETTINGS if not s.startswith(("cohort.", "gates.", "editor.steps"))]
    settings = [*fewer, f"cohort.root={open_films / 'nih14'}", "cohort.limit=90", "editor.steps=10", "plan.max_edits=8"]
    result = build("flows/recipes/nih-open.yaml", settings, str(tmp_path))
    assert result["accepted"] >= 4  # by the recipe's own gates
    store = Lake(str(tmp_path))
    rows = store.read("samples").to_pylist()
    for row in rows:
        if row["verdict"] == "accepted":
            source, edit, mask = (read_png(store.get(row[k])) for k in ("source_object", "object", "mask"))
            assert (source[mask == 0] == edit[mask == 0]).all()
            assert min(source.shape) >= 256  # real films at their own size, not thumbnails
    # Names of the public set hold patient numbers; none may be in the lake's rows.
    names = [p.stem for p in (open_films / "nih14" / "images_512").iterdir()]
    text = str(store.read("cohort").to_pylist())
    assert not any(n in text for n in names)
