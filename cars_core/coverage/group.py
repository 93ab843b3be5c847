"""Films grouped to distinct finding vectors and attribute values: all that counting needs to know of a cohort.

Ten million films hold a few thousand distinct vectors. One scan groups them; what is done afterwards does not grow with
the films.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
from numpy.typing import NDArray

from schemas.errors import BadInput
from schemas.policy import AGE_BANDS, ATTRIBUTES, Uncertain

Ints = NDArray[np.int64]

UNKNOWN = "unknown"
"""The level of films that do not say."""

MAX_LEVELS = 40
"""An attribute of more values is no attribute to cross findings with."""


@dataclass(frozen=True, eq=False)
class Grouped:
    """Distinct (vector, attribute values) with the number of films of each, in a fixed order.

    Attributes:
        present, absent, uncertain: int64 [V], packed masks, of the findings asked for only.
        films: int64 [V], films with this vector and these values; at least 1.
        by: names of the attributes.
        codes: int64 [V, len(by)], index into `levels` of each attribute.
        levels: names of each attribute's values, sorted; UNKNOWN where films do not say.
    """

    present: Ints
    absent: Ints
    uncertain: Ints
    films: Ints
    by: tuple[str, ...]
    codes: Ints
    levels: tuple[tuple[str, ...], ...]

    @property
    def total(self) -> int:
        return int(self.films.sum())

    def positive(self, uncertain: Uncertain) -> Ints:
        """Masks of what counts as present, int64 [V]: uncertain findings too under the policy `present`."""
        return self.present | self.uncertain if uncertain == "present" else self.present

    def open(self, uncertain: Uncertain) -> Ints:
        """Masks of what counts neither way, int64 [V]: uncertain findings under the policy `ignore`, else nothing."""
        return self.uncertain if uncertain == "ignore" else np.zeros_like(self.uncertain)

    def cells(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Every choice of values of none, some or all attributes, as (name, bool [V]: the rows in it).

        The first, named "", is all films; then one attribute at a time, pairs and so on, as in `sex=F,view=AP`.
        A value is in as many cells as there are choices of the others.
        """
        places = range(len(self.by))
        for size in range(len(places) + 1):
            for chosen in combinations(places, size):
                for values in product(*(range(len(self.levels[a])) for a in chosen)):
                    inside = np.ones(len(self.films), bool)
                    for a, value in zip(chosen, values, strict=True):
                        inside &= self.codes[:, a] == value
                    stated = [(self.by[a], self.levels[a][v]) for a, v in zip(chosen, values, strict=True)]
                    yield cell_name(stated), inside


def cell_name(values: Sequence[tuple[str, str]]) -> str:
    """`sex=F,view=AP`; "" for all films."""
    return ",".join(f"{attribute}={level}" for attribute, level in values)


def cell_values(cell: str) -> dict[str, str]:
    """The attribute values that a cell's name states."""
    return dict(part.split("=", 1) for part in cell.split(",")) if cell else {}


def attribute_sql(attribute: str) -> str:
    """SQL expression of an attribute's level over columns named as in the table `cohort`: a string, never null.

    Raises:
        BadInput: not one of ATTRIBUTES.
    """
    if attribute not in ATTRIBUTES:
        raise BadInput("attribute", attribute, "one of " + ", ".join(ATTRIBUTES))
    if attribute != "age":
        return f"coalesce(nullif(replace(replace({attribute}, ',', ' '), '=', ' '), ''), '{UNKNOWN}')"
    bands = " ".join(f"WHEN age <= {high} THEN '{low:02d}-{high}'" for low, high in AGE_BANDS[:-1])
    return f"CASE WHEN age IS NULL OR age < 0 THEN '{UNKNOWN}' {bands} ELSE '{AGE_BANDS[-1][0]}+' END"


def film_levels(films: pa.Table, by: Sequence[str]) -> list[dict[str, str]]:
    """Attribute -> level of each film, in the order of the rows; columns as `group_films` reads them."""
    if not by:
        return [{} for _ in range(films.num_rows)]
    asked = films.select(list(by)).append_column("row", pa.array(range(films.num_rows)))
    with duckdb.connect() as con:
        con.register("films_in", asked)
        levels: list[dict[str, str]] = con.sql(
            f"SELECT {', '.join(f'{attribute_sql(a)} AS by_{a}' for a in by)} FROM films_in ORDER BY row"
        ).to_arrow_table().rename_columns(list(by)).to_pylist()
    return levels


def group_films(films: pa.Table | pds.Dataset, *, mask: int, by: Sequence[str] = ()) -> Grouped:
    """Group films to distinct vectors, in one scan (DuckDB).

    Args:
        films: int64 columns `present`, `absent`, `uncertain` (packed vectors, disjoint), and those that `by` reads
            (strings `sex`, `view`, `source`, `dataset`, `split`; integers `age` in years). An optional int64 column
            `films` says how many films a row stands for, 1 by default.
        mask: the findings to look at; bits outside it are dropped.
        by: attributes (ATTRIBUTES) to keep apart.

    Raises:
        BadInput: no film, a column missing, an unknown attribute or one twice, one of more than MAX_LEVELS values.
    """
    if twice := [a for i, a in enumerate(by) if a in by[:i]]:
        raise BadInput("attributes", twice[0], "each attribute once")
    names = films.schema.names
    expressions = {a: attribute_sql(a) for a in by}
    for name in ("present", "absent", "uncertain", *by):
        if name not in names:
            raise BadInput("films", f"no column {name}", "columns present, absent, uncertain" + "".join(
                f", {a}" for a in by))
    count = "sum(films)" if "films" in names else "count(*)"
    masks = ", ".join(f"{m} & {mask}::BIGINT AS {m}" for m in ("present", "absent", "uncertain"))
    # First by the attributes as they stand: their levels are then worked out for the few groups, not for every film.
    with duckdb.connect() as con:
        con.register("films_in", films)
        found: pa.Table = con.sql(f"""
            WITH raw AS (SELECT {", ".join([masks, *by])}, ({count})::BIGINT AS films FROM films_in GROUP BY ALL)
            SELECT present, absent, uncertain, {"".join(f"{sql} AS by_{a}, " for a, sql in expressions.items())}
                   sum(films)::BIGINT AS films
            FROM raw GROUP BY ALL HAVING sum(films) > 0 ORDER BY ALL""").to_arrow_table()
    if not found.num_rows:
        raise BadInput("films", "none", "at least one film with a finding vector")
    codes: list[Ints] = []
    levels: list[tuple[str, ...]] = []
    for a in by:
        values, code = np.unique(found[f"by_{a}"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
        if len(values) > MAX_LEVELS:
            raise BadInput(f"attribute {a}", f"{len(values):,} values", f"an attribute of at most {MAX_LEVELS} values")
        codes.append(code.reshape(-1).astype(np.int64))
        levels.append(tuple(values.tolist()))
    present, absent, uncertain, rows = (
        found[m].to_numpy().astype(np.int64) for m in ("present", "absent", "uncertain", "films"))
    table = np.stack(codes, axis=1) if codes else np.zeros((len(rows), 0), np.int64)
    return Grouped(present, absent, uncertain, rows, tuple(by), table, tuple(levels))
