"""Count the distinct combinations of findings in the NIH label table.

    python benchmarks/derive_nih_combinations.py Data_Entry_2017_v2020.csv.gz > cars_core/phantom/nih_combinations.csv

The counts are facts about ChestX-ray14 (Wang et al., "ChestX-ray8", CVPR 2017; NIH Clinical Center). No
identifier, age or picture goes into the result.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.vectors import from_nih
from cars_core.vocabulary import load_vocabulary

HEADER = """\
# How often each combination of findings occurs in NIH ChestX-ray14: films, all patients and views.
# Counted by benchmarks/derive_nih_combinations.py from Data_Entry_2017_v2020.csv (112,120 films).
# Source: NIH Clinical Center; Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and
# Benchmarks", CVPR 2017. Names are those of schemas/findings.yaml; an empty combination is No Finding.
"""


def combinations(table: str | Path) -> Counter[str]:
    """Findings joined by | in vocabulary order -> films."""
    vocabulary = load_vocabulary()
    nih = vocabulary.mask([f.name for f in vocabulary.label_set("nih").values()])
    out: Counter[str] = Counter()
    for labels, n in pd.read_csv(table)["Finding Labels"].value_counts().items():
        out["|".join(vocabulary.unpack(from_nih(str(labels), vocabulary).present & nih))] += int(n)
    return out


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: derive_nih_combinations.py Data_Entry_2017_v2020.csv.gz")
    counts = combinations(sys.argv[1])
    sys.stdout.write(HEADER + "findings,films\n")
    for name, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])):
        sys.stdout.write(f"{name},{n}\n")


if __name__ == "__main__":
    main()
