"""Times counting combinations and finding uncovered patterns, and the memory it takes; against pandas.

    python benchmarks/gaps.py [--labels ../shared/data/cxr-open/labels/Data_Entry_2017_v2020.csv.gz] [--every 1]

Films are rows of the NIH label table drawn with replacement: 14 findings, sex, age band, view. Each measurement is a
fresh process that reads a Parquet file, or a table in memory: all combinations of 1 to 3 findings in all cells with
expectations, intervals and gaps, and maximal uncovered patterns of up to 4 values. Seconds are wall time after the
imports, of the first run for the whole and of the best of three for its parts; memory is the process's peak, imports
(and the table in memory) included. `--every 10` gives the plain pandas way every tenth combination only, and
multiplies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq

from cars_core.coverage.gaps import all_counts, rank_gaps
from cars_core.coverage.group import film_levels, group_films
from cars_core.coverage.label_files import read_label_file
from cars_core.coverage.plausible import Plausibility
from cars_core.coverage.survey import survey
from cars_core.coverage.uncovered import uncovered
from cars_core.vocabulary import load_vocabulary
from schemas.policy import Gaps

LABELS = "../shared/data/cxr-open/labels/Data_Entry_2017_v2020.csv.gz"
BY = ("sex", "age", "view")
ORDER, LEVEL = 3, 4
ROWS = (1_000_000, 3_000_000, 10_000_000)
SEED = 1
VOCABULARY = load_vocabulary()
FINDINGS = [f.name for f in VOCABULARY.findings if "nih" in f.aliases]
#: (combination, cell) -> films
Answer = dict[tuple[tuple[str, ...], str], int]
T = TypeVar("T")


def policy(min_count: int) -> Gaps:
    return Gaps(findings=FINDINGS, order=ORDER, min_count=min_count, by=list(BY))


def draw(table: pa.Table, rows: int) -> pa.Table:
    """So many rows of the table, drawn with replacement."""
    chosen = np.random.default_rng(SEED).integers(0, table.num_rows, rows)
    return table.select(["present", "absent", "uncertain", *BY]).take(pa.array(chosen))


def measure(file: Path, *, memory: bool, min_count: int) -> dict[str, float]:
    """In this process: seconds of the whole survey, its peak memory in MB, then seconds of its parts (the best of
    three)."""
    films = pq.read_table(file) if memory else pds.dataset(file)
    wish = policy(min_count)

    def timed(what: Callable[[], T], times: int = 3) -> tuple[float, T]:
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            answer = what()
            seconds.append(time.perf_counter() - start)
        return min(seconds), answer

    whole, found = timed(lambda: survey(films, wish, vocabulary=VOCABULARY, level=LEVEL), times=1)
    peak = peak_memory()
    scan, grouped = timed(lambda: group_films(films, mask=VOCABULARY.mask(FINDINGS), by=BY))
    plausible = Plausibility(wish.plausible, real=np.unique(grouped.present), vocabulary=VOCABULARY)
    count, counts = timed(lambda: all_counts(grouped, wish, vocabulary=VOCABULARY, plausible=plausible))
    rank, gaps = timed(lambda: rank_gaps(counts, vocabulary=VOCABULARY))
    search, patterns = timed(lambda: uncovered(grouped, findings=FINDINGS, threshold=min_count, level=LEVEL,
                                               uncertain=wish.uncertain, vocabulary=VOCABULARY, plausible=plausible))
    assert found.counts.equals(counts) and found.gaps.equals(gaps) and found.uncovered.equals(patterns)
    return {"whole": whole, "peak": peak, "scan": scan, "counts": count + rank, "uncovered": search,
            "groups": len(grouped.films), "rows": counts.num_rows, "patterns": patterns.num_rows}


def peak_memory() -> float:
    """Of this program so far, in MB. getrusage would not do: its figure starts from that of the process that started
    this one, which made the films."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def ours(films: pa.Table) -> pa.Table:
    grouped = group_films(films, mask=VOCABULARY.mask(FINDINGS), by=BY)
    return all_counts(grouped, policy(10), vocabulary=VOCABULARY)


def answer_of(counts: pa.Table) -> Answer:
    keys = zip(map(tuple, counts["findings"].to_pylist()), counts["cell"].to_pylist(), strict=True)
    return dict(zip(keys, counts["observed"].to_pylist(), strict=True))


def frame(films: pa.Table) -> pd.DataFrame:
    """A boolean column a finding, a categorical one an attribute."""
    present = films["present"].to_numpy()
    columns = {name: present >> VOCABULARY[name].bit & 1 == 1 for name in FINDINGS}
    return pd.DataFrame(columns | {a: pd.Categorical([level[a] for level in film_levels(films, [a])]) for a in BY})


def chosen_attributes() -> list[list[str]]:
    return [list(chosen) for size in range(len(BY) + 1) for chosen in combinations(BY, size)]


def combos() -> list[tuple[str, ...]]:
    return [combo for size in range(1, ORDER + 1) for combo in combinations(FINDINGS, size)]


def plain(table: pd.DataFrame, every: int = 1) -> Answer:
    """As an analyst would write it: for each combination the films that show it, summed in each grouping."""
    out: Answer = {}
    for combo in combos()[::every]:
        shown = table[list(combo)].all(axis=1)
        out[combo, ""] = int(shown.sum())
        for chosen in chosen_attributes()[1:]:
            for values, films in shown.groupby([table[a] for a in chosen], observed=True).sum().items():
                out[combo, cell(chosen, values)] = int(films)
    return out


def grouped_first(table: pd.DataFrame) -> Answer:
    """The same with the thought that few different rows are there: those are counted first."""
    distinct = table.groupby([*FINDINGS, *BY], observed=True).size().rename("films").reset_index()
    out: Answer = {}
    for combo in combos():
        shown = distinct["films"].where(distinct[list(combo)].all(axis=1), 0)
        out[combo, ""] = int(shown.sum())
        for chosen in chosen_attributes()[1:]:
            for values, films in shown.groupby([distinct[a] for a in chosen], observed=True).sum().items():
                out[combo, cell(chosen, values)] = int(films)
    return out


def cell(chosen: list[str], values: object) -> str:
    levels = values if isinstance(values, tuple) else (values,)
    return ",".join(f"{a}={v}" for a, v in zip(chosen, levels, strict=True))


def against_pandas(films: pa.Table, every: int) -> None:
    ours(films.slice(0, 1000))  # what the first call loads is no part of either
    start = time.perf_counter()
    counts = ours(films)
    own = time.perf_counter() - start
    answer = answer_of(counts)
    table = frame(films)
    start = time.perf_counter()
    smart = grouped_first(table)
    smart_seconds = time.perf_counter() - start
    start = time.perf_counter()
    slow = plain(table, every)
    seconds = (time.perf_counter() - start) * len(combos()) / len(combos()[::every])
    assert smart == answer
    assert slow == {key: answer[key] for key in slow}
    part = "" if every == 1 else f", from every {every}th combination"
    cells = len(counts["cell"].unique())
    print(f"\n{films.num_rows:,} films, {len(combos())} combinations in {cells} cells, counts equal")
    print(f"{'this factory (with expectations, intervals, ranges)':55s} {own:8.2f} s")
    print(f"{'pandas, distinct rows first':55s} {smart_seconds:8.2f} s {smart_seconds / own:7.0f} times")
    print(f"{'pandas, plain' + part:55s} {seconds:8.2f} s {seconds / own:7.0f} times")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--labels", default=str(Path(__file__).resolve().parent.parent / LABELS))
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--min-count", type=int, default=10)
    options.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, memory=given.memory, min_count=given.min_count)))
        return
    table = read_label_file("nih", given.labels, vocabulary=VOCABULARY)
    print("films       from      whole s  peak MB | scan s  counts s  uncovered s | groups  counts  uncovered patterns")
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            file = Path(folder) / f"{rows}.parquet"
            pq.write_table(draw(table, rows), file)
            for memory in (False, True):
                command = [sys.executable, __file__, "--measure", str(file), "--min-count", str(given.min_count)]
                run = subprocess.run([*command, *(["--memory"] if memory else [])], check=True, capture_output=True)
                m = json.loads(run.stdout)
                print(f"{rows:<11,} {'memory' if memory else 'Parquet':8s} {m['whole']:8.2f} {m['peak']:8.0f} | "
                      f"{m['scan']:6.2f} {m['counts']:9.3f} {m['uncovered']:12.3f} | {m['groups']:6,} {m['rows']:7,} "
                      f"{m['patterns']:9,}", flush=True)
    against_pandas(draw(table, ROWS[0]), given.every)


if __name__ == "__main__":
    main()
