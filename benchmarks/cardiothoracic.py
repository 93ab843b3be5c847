"""How well the segmenter's cardiothoracic ratio tells large hearts: on NIH films by label, on simulated ones by truth.

    python benchmarks/cardiothoracic.py ../shared/data/cxr-open/nih14 [weights folder, default the committed ones]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from cars_core.anatomy.masks import cardiothoracic_ratio
from cars_core.anatomy.segment import Segmenter
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed

MOST = 60  # films a group


def main() -> None:
    torch.set_num_threads(1)
    root, segmenter = Path(sys.argv[1]), Segmenter(sys.argv[2] if len(sys.argv) > 2 else None)
    with open(root / "labels.csv", newline="", encoding="utf-8") as f:
        adults = [r for r in csv.DictReader(f) if int(r["age"]) >= 18]
    groups = {"cardiomegaly": [r for r in adults if r["Cardiomegaly"] == "1"][:MOST],
              "no finding": [r for r in adults if r["no_finding"] == "1"][:MOST]}
    ratios = {}
    for name, rows in groups.items():
        films = (np.asarray(Image.open(root.parent / r["file"]).convert("L")) for r in rows)
        ratios[name] = np.array([cardiothoracic_ratio(segmenter(film)) for film in films])
        low, middle, high = np.nanpercentile(ratios[name], [10, 50, 90])
        print(f"NIH, {name}: {len(rows)} films, ratio {middle:.3f} ({low:.3f} to {high:.3f})")
    known = np.isfinite(both := np.concatenate(list(ratios.values())))
    label = np.repeat([1, 0], [len(r) for r in ratios.values()])
    print(f"AUROC {roc_auc_score(label[known], both[known]):.3f}; not measured: {int((~known).sum())}")
    errors = []
    for i in range(40):
        film = render(draw_patient(9000 + i), (Placed("cardiomegaly", "both", 0.2 + 0.08 * (i % 10), i),), size=256,
                      noise_seed=i)
        errors.append(cardiothoracic_ratio(segmenter(film.pixels)) - cardiothoracic_ratio(film.anatomy))
    print(f"simulated cardiomegaly: {len(errors)} films, measured less true {np.nanmean(errors):+.3f}")


if __name__ == "__main__":
    main()
