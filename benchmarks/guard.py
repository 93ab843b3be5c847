"""What guarded reading costs: the same simulated DICOM films read directly and through cohort.guard.

    python benchmarks/guard.py [--rounds 5] [--films 100]

In every round each size of film is read directly, through one process and through two, one after the other. Speeds are
ratios within a round, so that a busy machine slows both sides; the median, least and most of the rounds are shown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import cache
from statistics import median

from cars_core.cohort.films import decode_bytes, normalise
from cars_core.cohort.guard import Guard
from cars_core.phantom.layouts.dicom import dicom_bytes
from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary

SIZES = (256, 512)  # pixels a side


@cache
def film(size: int) -> bytes:
    """A simulated 12-bit DICOM file."""
    specs = films(n=1, seed=1, size=size, withheld=[], split_of=lambda _: "train", vocabulary=load_vocabulary())
    return dicom_bytes(draw(next(iter(specs)), number=1, bits=12))


def read(item: tuple[int, str]) -> int:
    """Read the film of that size, given the place of its file, as ingest does."""
    size, place = item
    with open(place, "rb") as f:
        data = f.read()
    return len(normalise(decode_bytes(data), size=min(size, 512)).png)


def nothing(item: tuple[int, str]) -> int:
    """As large an item and result as `read` has, and no work."""
    return item[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--films", type=int, default=100)
    args = parser.parse_args()
    with Guard(1, nothing) as guard:
        items = [(512, "/films/00000001_000.png")] * 20_000
        next(guard.results(items[:1], in_flight=1))
        began = time.perf_counter()
        list(guard.results(items, in_flight=8))
        print(f"an item without work: {(time.perf_counter() - began) / len(items) * 1e6:.0f} microseconds")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            place = f"{folder}/{size}.dcm"
            with open(place, "wb") as f:
                f.write(film(size))
            compare(size, place, rounds=args.rounds, count=args.films)


def compare(size: int, place: str, *, rounds: int, count: int) -> None:
    """Print the rounds of one size of film."""
    times: dict[str, list[float]] = {"one process": [], "two processes": []}
    alone: list[float] = []
    items = [(size, place)] * count
    with Guard(1, read) as one, Guard(2, read) as two:
        for guard in (one, two):
            list(guard.results(items[:8], in_flight=8))
        read(items[0])
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            for item in items:
                read(item)
            direct = time.perf_counter() - began
            alone.append((time.process_time() - used) / count * 1000)
            for name, guard, workers in (("one process", one, 1), ("two processes", two, 2)):
                began = time.perf_counter()
                list(guard.results(items, in_flight=4 * workers))
                times[name].append(direct / (time.perf_counter() - began))
    print(f"{size} px, {median(alone):.1f} ms of processor time a film; times as fast as that (median, least, most): "
          + "; ".join(f"{n} {median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for n, t in times.items()), flush=True)


if __name__ == "__main__":
    from guard import main as importable_main  # so that the guard's processes find `read` in a module of its own

    importable_main()
