"""Gaps: combinations of findings that the training films hold too rarely.

A film holds a combination when all of its findings are positive, whatever else is; so counts of pairs
include the films that hold a third finding.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gaps
from schemas.tables import GAPS

#: The table `gaps` before a build's plan has been made for it.
COUNTS = pa.schema([f for f in GAPS if f.name != "build"])

# Films collapse to a few thousand distinct vectors at most; joining those, not the films, with every
# combination is what keeps this fast.
_COUNT = """
WITH vectors AS (
    SELECT CASE WHEN $uncertain = 'present' THEN present | uncertain ELSE present END AS positive,
           CASE WHEN $uncertain = 'ignore' THEN uncertain ELSE 0 END AS open, count(*) AS films
    FROM train GROUP BY ALL)
SELECT c.gap AS gap, coalesce(sum(v.films) FILTER (WHERE v.positive & c.gap = c.gap), 0)::BIGINT AS observed,
       coalesce(sum(v.films) FILTER (WHERE v.open & c.gap = 0), 0)::BIGINT AS known
FROM combos c LEFT JOIN vectors v ON (v.positive & c.gap) = c.gap OR (v.open & c.gap) = 0
GROUP BY c.gap ORDER BY c.gap
"""

Uncertain = Literal["absent", "present", "ignore"]


def all_counts(train: pa.Table, settings: Gaps, *, vocabulary: Vocabulary) -> pa.Table:
    """Count every combination of `settings.findings` with 1 to `settings.order` members.

    Args:
        train: accepted training films: int64 columns `present`, `absent`, `uncertain` (packed vectors).
        settings: the recipe's section `gaps`.
        vocabulary: names the bits.

    Returns:
        One row a combination, columns of the table `gaps` without `build`, sorted by `order` and `gap`.
        `observed` counts films; `expected` = N * product of the single findings' shares (independence),
        in films, of which `uncertain: ignore` leaves out those that leave a finding in question open; `lift` =
        observed / expected, null where nothing is expected; `deficit` = max(0, min_count - observed). `fillable` is
        false, with the `reason`, for a combination of a finding with one it implies (not a combination of its own) or
        with one the vocabulary excludes.

    Raises:
        BadInput: a finding the vocabulary lacks, a missing column, or a row of another split than train.
    """
    refuse_outside_train(train, ("present", "absent", "uncertain"))
    bits = {name: 1 << vocabulary[name].bit for name in settings.findings}
    orders = range(1, min(settings.order, len(bits)) + 1)
    masks = [sum(c) for k in orders for c in combinations(bits.values(), k)]
    counts = _counted(train, masks, settings.uncertain)
    observed = {mask: seen for mask, (seen, _) in counts.items()}
    rows = []
    for mask in sorted(masks, key=lambda m: (m.bit_count(), m)):
        names = vocabulary.unpack(mask)
        known = counts[mask][1]
        expected = known * float(np.prod([observed[bits[n]] / counts[bits[n]][1] for n in names])) if known else 0.0
        reason = _impossible(mask, vocabulary)
        rows.append({
            "gap": mask, "findings": names, "order": len(names), "observed": observed[mask], "expected": expected,
            "lift": observed[mask] / expected if expected else None,
            "deficit": max(0, settings.min_count - observed[mask]),
            "fillable": reason is None, "reason": reason, "planned": 0})
    return pa.Table.from_pylist(rows, schema=COUNTS)


def find_gaps(train: pa.Table, settings: Gaps, *, vocabulary: Vocabulary) -> pa.Table:
    """The combinations seen on fewer than `settings.min_count` training films.

    Arguments, columns and errors as `all_counts`. Rows are ranked: largest deficit first, then more
    findings first, then by mask. A finding together with one it implies is left out.
    """
    counts = all_counts(train, settings, vocabulary=vocabulary)
    own = np.array([not (vocabulary.ancestors(m) & m) for m in counts["gap"].to_pylist()], dtype=bool)
    missing = counts.filter(pc.and_(pc.greater(counts["deficit"], 0), pa.array(own)))
    return missing.sort_by([("deficit", "descending"), ("order", "descending"), ("gap", "ascending")])


def refuse_outside_train(films: pa.Table, columns: tuple[str, ...]) -> None:
    """Raise BadInput where a column is missing, or a film is of another split than train or not accepted."""
    for name in columns:
        if name not in films.column_names:
            raise BadInput("training films", ", ".join(films.column_names), f"a column {name}")
    for name, only in (("split", "train"), ("status", "accepted")):
        if name in films.column_names:
            others = set(pc.unique(films[name]).to_pylist()) - {only}
            if others:
                raise BadInput(f"training films: {name}", sorted(map(str, others))[0], f"only {only}")


def _counted(train: pa.Table, masks: list[int], uncertain: Uncertain) -> dict[int, tuple[int, int]]:
    """Combination -> (films that show it, films that leave none of its findings open)."""
    with duckdb.connect() as con:
        con.register("train", train.select(["present", "uncertain"]))
        con.register("combos", pa.table({"gap": pa.array(masks, pa.int64())}))
        rows = con.execute(_COUNT, {"uncertain": uncertain}).fetchall()
        return {gap: (observed, known) for gap, observed, known in rows}


def _impossible(mask: int, vocabulary: Vocabulary) -> str | None:
    for bit in (1 << f.bit for f in vocabulary.findings if mask >> f.bit & 1):
        [name] = vocabulary.unpack(bit)
        if implied := vocabulary.unpack(vocabulary.ancestors(bit) & mask):
            return f"{name} implies {implied[0]}"
        # A finding that something here implies may be the one excluded.
        if clash := vocabulary.unpack(vocabulary.excluded(bit | vocabulary.ancestors(bit)) & mask):
            return f"the vocabulary excludes {name} with {clash[0]}"
    return None
