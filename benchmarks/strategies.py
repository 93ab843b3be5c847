"""How many edits each strategy needs to fill the gaps of the NIH label table.

    python benchmarks/strategies.py ../shared/data/cxr-open/labels/Data_Entry_2017_v2020.csv.gz [min_count]

Combinations of up to three of the 14 findings. A film is edited as often as a gap asks for films (min_count) at most;
patients have no cap and deletions no share, so that the numbers are of edits that fill gaps. `random` draws up to a
million edits; "closed after as many": gaps a strategy had closed with as many edits as `fewest` needs in all.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from cars_core.coverage.gaps import find_gaps, group_training
from cars_core.coverage.label_files import read_label_file
from cars_core.coverage.plan import STRATEGIES, pose, rank, summarize
from cars_core.coverage.planning.unfilled import why_short
from cars_core.coverage.plausible import Plausibility
from cars_core.generate.denoiser import load_denoiser
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps, Plan, Plausible

NO_CAP = 10**9


def main() -> None:
    min_count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    vocabulary = load_vocabulary()
    train = read_label_file("nih", sys.argv[1], vocabulary=vocabulary).drop_columns(["split"])
    findings = [f.name for f in vocabulary.findings if "nih" in f.aliases]
    everything = {kind: frozenset(findings) for kind in ("insert", "delete")}
    print("| offered | may be made | strategy | edits | gaps closed | closed after as many | bound | cost | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for what, offered in (("all 14 findings", everything), ("the built-in editor", load_denoiser(None).offers)):
        for rule, said in (("seen", "what real films show"), ("any", "anything")):
            wish = Gaps(findings=findings, order=3, min_count=min_count, plausible=Plausible(rule=rule))  # type: ignore
            real = np.unique(train["present"].to_numpy())
            plausible = Plausibility(wish.plausible, real=real, vocabulary=vocabulary)
            gaps = find_gaps(group_training(train, wish, vocabulary=vocabulary), wish, vocabulary=vocabulary,
                             plausible=plausible)
            least = 0
            for name in ("fewest", "optimal", "min_gap", "random"):
                limits = Plan(strategy=name, max_edits=NO_CAP, per_patient=NO_CAP, per_film=min_count,  # type: ignore
                              deletions=0, balance=[])
                began = time.perf_counter()
                problem = pose(train, gaps, limits, offered=offered, vocabulary=vocabulary, seed=1,
                               plausible=plausible)
                try:
                    edits = STRATEGIES[name](problem)
                except BadInput as error:
                    print(f"| {what} | {said} | {name} | {error.value}: too large | | | | | |", flush=True)
                    continue
                ranked = rank(edits, problem)
                seconds = time.perf_counter() - began
                s = summarize(ranked, edits, problem, why_short(problem, edits, ranked.planned(len(gaps)))[1])
                least = least or s.planned
                done = ranked.fills.take(np.arange(min(least, s.planned))).values
                early = int((np.bincount(done, minlength=len(gaps)) >= problem.wanted.lacks)[
                    problem.wanted.lacks > 0].sum())
                print(f"| {what} | {said} | {name} | {s.planned:,} | {s.closed} of {s.fillable} | {early} | "
                      f"{s.bound:,} | {s.cost:,.0f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
