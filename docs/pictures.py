"""The README's picture: accepted edits of a published subset, spread over its operations.

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
    by_operation: dict[str, dict] = {}
    for row in subset_rows(lake, args.subset, version).to_pylist():
        by_operation.setdefault(" ".join(f"{o['kind']} {o['finding']}" for o in row["operations"]), row)
    rows = [by_operation[k] for k in sorted(by_operation, key=len)][: args.columns]
    args.out.write_bytes(contact_sheet(rows, lake.get, columns=args.columns, size=args.size))


if __name__ == "__main__":
    main()
