"""Quality control of a shard: every rendered edit is measured, judged and kept as a row, passed or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from cars_core.anatomy.segment import Segmenter, load_segmenter
from cars_core.digest import digest
from cars_core.generate.shard import plan_rows, renders_of
from cars_core.lake.lake import Lake
from cars_core.png import read_png
from cars_core.quality.gates import verdict
from cars_core.quality.measures import measure
from cars_core.vocabulary import Vocabulary
from schemas.recipe import Gates
from schemas.tables import MEASURES, SAMPLES

_CARRIED = (
    "build",
    "edit_id",
    "image_id",
    "patient",
    "operations",
    "source_present",
    "present",
    "absent",
    "uncertain",
    "gap",
    "without",
    "cell",
    "licence",
    "truth",
)


def samples_of(lake: Lake, build: str) -> pa.Table:
    """All samples of a build (schema SAMPLES), each edit once, sorted by edit_id.

    Two processes that judged the same edit at the same time leave two equal rows; one is read.
    """
    rows = lake.read("samples", where={"build": build}).sort_by("edit_id")
    ids = rows["edit_id"].to_pylist()
    return rows.filter([i == 0 or ids[i - 1] != e for i, e in enumerate(ids)]) if ids else rows


def check_shard(
    lake: Lake,
    *,
    build: str,
    start: int,
    stop: int,
    gates: Gates,
    segmenter: str | None,
    vocabulary: Vocabulary,
    chunk: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Judge what is not yet judged of a slice of the plan; returns counts accepted and rejected of all of it."""
    rows = plan_rows(lake, build, start, stop)
    ids = [r["edit_id"] for r in rows]
    there = lake.read("samples", columns=["edit_id", "verdict"], where={"build": build, "edit_id": ids}).to_pylist()
    verdicts = {r["edit_id"]: r["verdict"] for r in there}
    missing = [r for r in rows if r["edit_id"] not in verdicts]
    renders = renders_of(lake, [r["edit_id"] for r in missing]) if missing else {}
    masks = load_segmenter(segmenter) if missing else None
    progress(len(rows) - len(missing), len(rows))
    for at in range(0, len(missing), chunk):
        part = missing[at : at + chunk]
        judged = [
            check_edit(lake, r, renders.get(r["edit_id"]), gates=gates, segmenter=masks, vocabulary=vocabulary)  # type: ignore[arg-type]
            for r in part
        ]
        lake.append(
            "samples",
            pa.Table.from_pylist(judged, schema=SAMPLES),
            key=digest(["samples", build, [r["edit_id"] for r in part]]),
        )
        verdicts.update({r["edit_id"]: r["verdict"] for r in judged})
        progress(len(rows) - len(missing) + at + len(part), len(rows))
    mine = [verdicts[r["edit_id"]] for r in rows]
    return {"accepted": mine.count("accepted"), "rejected": len(mine) - mine.count("accepted")}


def check_edit(
    lake: Lake,
    row: dict[str, Any],
    render: dict[str, Any] | None,
    *,
    gates: Gates,
    segmenter: Segmenter,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Measure and judge one edit; returns its SAMPLES row."""
    out = {k: row[k] for k in _CARRIED} | {"source_object": row["object"], "object": None, "mask": None}
    if render is None or render["error"]:
        reason = render["error"] if render else "was not rendered"
        return out | {"verdict": "rejected", "reasons": [f"not made: {reason}"]} | dict.fromkeys(MEASURES)
    source, edit, mask = (read_png(lake.get(o)) for o in (row["object"], render["object"], render["mask"]))
    measures = measure(
        source=source, edit=edit, mask=mask, source_anatomy=segmenter(source), edit_anatomy=segmenter(edit)
    )
    said, reasons = verdict(measures, row["operations"], gates, vocabulary=vocabulary)
    kept = {k: (v if v is not None and math.isfinite(v) else None) for k, v in measures.items()}
    return out | {"object": render["object"], "mask": render["mask"], "verdict": said, "reasons": reasons} | kept
