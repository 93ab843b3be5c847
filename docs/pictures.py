"""The README's picture: an accepted edit of each operation of a published subset.

    python docs/pictures.py LAKE SUBSET OUT.png [--columns 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cars_core.lake.lake import Lake
from cars_core.lake.subsets import subset_rows
from cars_core.report.pictures import contact_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake")
    parser.add_argument("subset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--size", type=int, default=320)
    args = parser.parse_args()
    lake = Lake(args.lake)
    version = max(lake.read("subsets", where={"subset": args.subset})["version"].to_pylist())
    by_operation: dict[str, list[dict]] = {}
    for row in subset_rows(lake, args.subset, version).to_pylist():
        by_operation.setdefault(" ".join(f"{o['kind']} {o['finding']}" for o in row["operations"]), []).append(row)
    # Neither the best nor the worst: of each operation, the edit whose effect is the median.
    single = [k for k in sorted(by_operation, reverse=True) if len(k.split()) == 2]
    ranked = [sorted(by_operation[k], key=lambda r: r["effect"]) for k in single]
    rows = [r[len(r) // 2] for r in ranked][: args.columns]
    args.out.write_bytes(contact_sheet(rows, lake.get, columns=args.columns, size=args.size))


if __name__ == "__main__":
    main()
