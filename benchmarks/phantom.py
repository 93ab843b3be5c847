"""Simulated films a second on one core, each of another patient (no cache helps), with one finding.

    python benchmarks/phantom.py [size in pixels, default 256] [films, default 60]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.phantom.film import render
from cars_core.phantom.findings import Placed
from cars_core.phantom.patient import draw_patient


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    patients = [draw_patient(i) for i in range(n + 1)]
    placed = (Placed("effusion", "left", 0.5, 1),)
    render(patients[n], placed, size=size, noise_seed=0)
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(n):
        render(patients[i], placed, size=size, noise_seed=i)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{size} px: {n / wall:.1f} films/s (wall), {n / cpu:.1f} films/s of processor time, {n} films")


if __name__ == "__main__":
    main()
