"""How fast ingest is, and what memory it takes.

    python benchmarks/ingest.py films [films, default 300] [side in pixels, default 1024]
        simulated DICOM films taken in with one worker and with two, in turn: films a second and their ratio, with the
        screens and without
    python benchmarks/ingest.py labels
        a MIMIC-CXR-sized set of label tables (377,110 films) becomes the cohort table, no film read
    python benchmarks/ingest.py memory [films, default 20000]
        resident memory of the ingesting process and its readers while a cohort of small films grows

Needs OPENBLAS_NUM_THREADS=1 for the simulated films; figures are of this machine, and nothing is asserted.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cars_core.cohort.ingest import ingest
from cars_core.lake.lake import Lake
from cars_core.phantom.layouts.write import write_cohort
from cars_core.phantom.population import films as population
from cars_core.vocabulary import load_vocabulary
from schemas.recipe import Cohort

OFF = dict.fromkeys(("view", "chest", "rotated", "blank", "photo", "text", "near"), "off")


def taken(root: Path, **settings: Any) -> tuple[dict[str, Any], float]:
    """Ingest into a lake that is thrown away; the summary and the seconds."""
    with tempfile.TemporaryDirectory() as lake:
        began = time.perf_counter()
        found = ingest(Cohort(root=str(root), public_ids=True, **settings), seed=0, vocabulary=load_vocabulary(),
                       lake=Lake(lake), progress=lambda done, total: None)
        return found, time.perf_counter() - began


def films(n: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "films")
        specs = population(n=n, seed=7, size=size, withheld=[], split_of=lambda patient: "train",
                           vocabulary=load_vocabulary())
        write_cohort(specs, out=root, layout="dicom", workers=min(8, os.cpu_count() or 1))
        for words, screen in (("with screens", {}), ("without", OFF)):
            pairs = []
            for _ in range(3):
                seconds = [taken(root, source="dicom", size=512, workers=w, screen=screen)[1] for w in (1, 2)]
                pairs.append((seconds[0] / seconds[1], n / seconds[0], n / seconds[1]))
            ratio, one, two = (statistics.median(p[i] for p in pairs) for i in range(3))
            spread = f"{min(p[0] for p in pairs):.2f} to {max(p[0] for p in pairs):.2f}"
            print(f"{words}: {one:.1f} films/s with one worker, {two:.1f} with two; ratio {ratio:.2f} "
                  f"({spread}, 3 pairs, {n} films of {size} px)")


def labels() -> None:
    from label_table import write_tables

    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder))
        for _ in range(2):
            found, seconds = taken(Path(folder), source="mimic", read_films=False, published_splits=True)
            print(f"{found['unread']:,} rows of {found['patients']:,} patients in {seconds:.1f} s "
                  f"({found['set_aside']:,} set aside, {found['quarantined']:,} quarantined)")


def memory(n: int) -> None:
    """Small noise films, so that their number is what grows."""
    with tempfile.TemporaryDirectory() as folder:
        root, rng = Path(folder), np.random.default_rng(0)
        (root / "images").mkdir()
        with open(root / "labels.csv", "w", encoding="utf-8") as table:
            table.write("file,patient\n")
            for i in range(n):
                coarse = rng.integers(0, 256, (16, 16), dtype=np.uint8)
                Image.fromarray(np.kron(coarse, np.ones((4, 4), np.uint8))).save(root / f"images/{i}.png")
                table.write(f"images/{i}.png,{i}\n")
        seen: list[tuple[int, float]] = []

        def progress(done: int, total: int) -> None:
            seen.append((done, _resident()))

        with tempfile.TemporaryDirectory() as lake:
            ingest(Cohort(source="folder", root=str(root), labels="labels.csv", public_ids=True, size=64,
                          columns={"image": "file", "patient": "patient"}, screen=OFF | {"blank": "set_aside"}),
                   seed=0, vocabulary=load_vocabulary(), lake=Lake(lake), progress=progress)
        for done, megabytes in seen[:: max(1, len(seen) // 10)] + seen[-1:]:
            print(f"{done:>8,} films: {megabytes:,.0f} MB")


def _resident() -> float:
    """MB held by this process and its readers."""
    total = 0
    for pid in [os.getpid(), *_children(os.getpid())]:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(c) for c in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def main() -> None:
    what, *rest = sys.argv[1:] or ["films"]
    numbers = [int(x) for x in rest]
    if what == "labels":
        labels()
    elif what == "memory":
        memory(*numbers or [20_000])
    else:
        films(*(numbers + [300, 1024][len(numbers):]))


if __name__ == "__main__":
    main()
