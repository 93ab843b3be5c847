"""Simulated films a second on one core, drawn from the population with their whole truth: findings, devices, masks,
report. Each film is another patient's or another position's, so no cache helps. Peak memory beside it, and how many of
the findings placed cannot be seen on their film (`film.HIDDEN`).

    OPENBLAS_NUM_THREADS=1 python benchmarks/phantom.py [size in pixels, default 256] [films, default 60]

Without OPENBLAS_NUM_THREADS=1 idle threads of the linear algebra library spin and are counted as processor time.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    *specs, first = films(n=n + 1, seed=3, size=size, withheld=[], split_of=lambda patient: "train",
                          vocabulary=load_vocabulary())
    draw(first, number=1, bits=8)
    hidden = placed = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for i, spec in enumerate(specs):
        drawn = draw(spec, number=i, bits=8)
        hidden, placed = hidden + len(drawn.hidden), placed + len({p.finding for p in drawn.truth.placed})
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{size} px: {n / wall:.1f} films/s (wall), {n / cpu:.1f} films/s of processor time, {n} films, "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB; "
          f"hidden: {hidden} of {placed} findings")


if __name__ == "__main__":
    main()
