"""Edits of a simulated build against the true counterfactual, an operation a line.

    python benchmarks/truth.py LAKE

The control is the unedited source: its mean absolute error to the truth inside edit and band, in grey levels,
stands beside the edit's. The truth is placed by true anatomy, the edit by the segmenter's: thin findings that
are right but a few pixels off count as wrong.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np

from cars_core.generate.truth import true_edit
from cars_core.lake.lake import Lake
from cars_core.png import read_png
from cars_core.quality.check import samples_of


def main() -> None:
    lake = Lake(sys.argv[1])
    build = lake.read("subsets").sort_by("created")["build"][-1].as_py()
    plan = {r["edit_id"]: r for r in lake.read("plan", where={"build": build}).to_pylist()}
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for s in samples_of(lake, build).to_pylist():
        if not (s["object"] and s["truth"]):
            continue
        row = plan[s["edit_id"]]
        truth = true_edit(s["truth"], operations=row["operations"], seed=row["seed"]).pixels.astype(float)
        source, edit, mask = (read_png(lake.get(s[k])).astype(float) for k in ("source_object", "object", "mask"))
        errors = [float(np.abs(x - truth)[mask > 0].mean()) for x in (source, edit)]
        found[" + ".join(f"{o['kind']} {o['finding']}" for o in row["operations"])].append((errors[0], errors[1]))
    for name, pairs in sorted(found.items()):
        before, after = np.array(pairs).T
        print(f"{name:44} n {len(pairs):3}  source {before.mean():5.1f}  edit {after.mean():5.1f}  "
              f"closer {int((after < before).sum())} of {len(pairs)}")


if __name__ == "__main__":
    main()
