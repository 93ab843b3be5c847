"""Seconds and memory of a plan of 100,000 edits from a cohort of a million films.

    python benchmarks/plan.py ../shared/data/cxr-open/labels/Data_Entry_2017_v2020.csv.gz [films] [edits]

The films are rows of the NIH label table drawn with replacement, each with a patient of its own. The policy asks for so
many films of each combination of up to three findings that about as many edits are needed as the budget has.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa

from cars_core.coverage.gaps import find_gaps, group_training
from cars_core.coverage.label_files import read_label_file
from cars_core.coverage.plan import plan_edits
from cars_core.coverage.plausible import Plausibility
from cars_core.vocabulary import load_vocabulary
from schemas.policy import Gaps, Plan


def main() -> None:
    films = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    edits = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
    vocabulary = load_vocabulary()
    train = cohort(read_label_file("nih", sys.argv[1], vocabulary=vocabulary), films)
    findings = [f.name for f in vocabulary.findings if "nih" in f.aliases]
    offered = {"insert": frozenset(findings), "delete": frozenset(findings)}
    real = np.unique(train["present"].to_numpy())
    print("| films wanted of each | by | gaps | fillable | edits | bound | gaps found in | planned in | peak memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for share, by in ((0.0015, []), (0.0004, ["sex", "view"])):
        wish = Gaps(findings=findings, order=3, min_count=round(share * films), by=by)
        began = time.perf_counter()
        plausible = Plausibility(wish.plausible, real=real, vocabulary=vocabulary)
        gaps = find_gaps(group_training(train, wish, vocabulary=vocabulary), wish, vocabulary=vocabulary,
                         plausible=plausible)
        found = time.perf_counter()
        made = plan_edits(train, gaps, Plan(max_edits=edits), offered=offered, vocabulary=vocabulary, seed=1, build="b",
                          render_key="k", editor="e", segmenter="s", plausible=plausible)
        done = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        s = made.summary
        print(f"| {wish.min_count:,} | {', '.join(by) or '-'} | {s.gaps:,} | {s.fillable:,} | {s.planned:,} | "
              f"{s.bound:,} | {found - began:.1f} s | {done - found:.1f} s | {peak:.1f} GiB |", flush=True)


def cohort(table: pa.Table, films: int) -> pa.Table:
    """Rows drawn with replacement, as films of a lake's cohort: their own names, patients and digests."""
    chosen = np.random.default_rng(0).integers(0, table.num_rows, films)
    names = pa.array([f"{i:064x}" for i in range(films)])
    out = table.take(pa.array(chosen)).drop_columns(["record", "patient", "split"])
    constant = {"split": "train", "status": "accepted"}
    for name, column in {"record": names, "image_id": names, "object": names, "patient": names,
                         "truth": pa.nulls(films, pa.string()),
                         **{n: pa.repeat(v, films) for n, v in constant.items()}}.items():
        out = out.append_column(name, column)
    return out.combine_chunks()


if __name__ == "__main__":
    main()
