"""The training films a plan may edit: grouped to kinds, in an order that no other film changes.

Whether and how a film can be edited, and which gaps that fills, hangs on its vector, on what its label set states and
on the cell it lies in. Films alike in these are one kind, so the search for edits grows with kinds, not with films.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cars_core.coverage.gaps import refuse_outside_train
from cars_core.coverage.group import UNKNOWN, attribute_sql
from cars_core.coverage.planning.targets import stated_by
from cars_core.vectors import Vector
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import AGE_BANDS, Uncertain

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_LABELS = ("patient", "source", "present", "absent", "uncertain")
_READ = ("image_id", "object", "split", "status", "licence", "truth", "record", *_LABELS)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Distinct (vector, stated findings) of films or of edited films; all int64 [V].

    `stated` is the mask of the findings the label set states itself (`stated_by`); `positive` what counts as present
    under the policy on uncertain findings; `block` what keeps a finding from counting as not there: `positive`, and
    uncertain findings where the policy ignores them.
    """

    present: Ints
    absent: Ints
    uncertain: Ints
    stated: Ints
    policy: Uncertain

    @property
    def positive(self) -> Ints:
        return self.present | self.uncertain if self.policy == "present" else self.present

    @property
    def block(self) -> Ints:
        return self.present if self.policy == "absent" else self.present | self.uncertain

    def __getitem__(self, i: int) -> Vector:
        return Vector(int(self.present[i]), int(self.absent[i]), int(self.uncertain[i]))

    def __len__(self) -> int:
        return len(self.present)


class Films:
    """Training films, each image once, in the order of a digest of (seed, image_id).

    Attributes:
        rows: int64 [N], the film's row of the table given.
        ids: name of the column that tells films apart: image_id, or record where films were not read.
        key: uint64 [N], rising: the first 8 bytes of sha256("seed id").
        patient: int64 [N], patients numbered from 0.
        vectors: the distinct vectors.
        kind: int64 [N], the film's kind; kinds are numbered by vector and values, whatever order films came in.
        kind_vector: int64 [K], index into `vectors`.
        kind_values: int64 [K], index into `values`.
        values: each kind of choice of values of `by` that films have, as {attribute: level}.
        stratum: int64 [N], index of the film's values of the balance attributes.
        strata: the levels of the balance attributes in each stratum, sorted.
        share: float64 [S], the share of each stratum the edited films should have; sums to 1.
    """

    def __init__(self, train: pa.Table, *, seed: int, vocabulary: Vocabulary, uncertain: Uncertain,
                 by: Sequence[str] = (), balance: Sequence[str] = (),
                 population: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """
        Args:
            train: rows of COHORT, all of split train: accepted ones, with image_id, object, licence and truth; or,
                without a column image_id, films whose labels alone were read, told apart by `record`.
            seed: of the recipe.
            uncertain: how an uncertain finding counts.
            by: attributes to keep apart in kinds.
            balance: attributes of the strata; one that the films have no column for is passed over.
            population: attribute -> level -> share wanted, instead of the films' own; a level that is not named gets 0.

        Raises:
            BadInput: a column missing, a film of another split or status or without its digest, or a level of
                `population` that is none.
        """
        self.ids = "image_id" if "image_id" in train.column_names else "record"
        _refuse(train, self.ids)
        wanted = [a for a in balance if a in train.column_names]
        for name in by:
            if name not in train.column_names:
                raise BadInput("training films", ", ".join(train.column_names), f"a column {name}")
        key, levels = _scan(train, self.ids, seed, sorted({*by, *wanted}))
        self.rows = _each_once(train, self.ids, key)
        self.key: Keys = key[self.rows]
        self.patient = _encoded(train["patient"])[0][self.rows]
        self._group(train, vocabulary, uncertain, by, levels)
        self._stratify({a: levels[a] for a in wanted}, balance, population or {})

    def __len__(self) -> int:
        return len(self.rows)

    def _group(self, train: pa.Table, vocabulary: Vocabulary, uncertain: Uncertain, by: Sequence[str],
               levels: Mapping[str, tuple[Ints, list[str]]]) -> None:
        source, names = _codes(train["source"])
        stated = np.array([stated_by(n, vocabulary) for n in names], np.int64)[source]
        columns = [train[n].to_numpy().astype(np.int64)[self.rows] for n in ("present", "absent", "uncertain")]
        vector, (present, absent, unsure, states) = _distinct([*columns, stated[self.rows]])
        self.vectors = Vectors(present, absent, unsure, states, uncertain)
        combination, values = _distinct([levels[a][0][self.rows] for a in by]) if by else (np.zeros_like(vector), [])
        self.values: list[dict[str, str]] = [
            {a: levels[a][1][int(code)] for a, code in zip(by, row, strict=True)}
            for row in zip(*values, strict=True)] if by else [{}]
        self.kind, (self.kind_vector, self.kind_values) = _distinct([vector, combination])

    def _stratify(self, levels: Mapping[str, tuple[Ints, list[str]]], balance: Sequence[str],
                  population: Mapping[str, Mapping[str, float]]) -> None:
        for name, shares in population.items():
            if name not in levels:
                raise BadInput("plan.population", name, "an attribute of balance that the training films have")
            known = {*levels[name][1], *([_band(low, high) for low, high in AGE_BANDS] if name == "age" else [])}
            for level, share in shares.items():
                if share > 0 and level not in known:
                    raise BadInput(f"plan.population: {name}", level, "one of " + ", ".join(sorted(known)))
        order = [a for a in balance if a in levels]
        self.stratum, parts = _distinct([levels[a][0][self.rows] for a in order]) if order else (
            np.zeros(len(self), np.int64), [])
        self.strata = [dict(zip(order, (levels[a][1][int(c)] for a, c in zip(order, row, strict=True)), strict=True))
                       for row in zip(*parts, strict=True)] if order else [{}]
        self.share = self._shares(population)

    def _shares(self, population: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
        """Shares of the strata: the population's for the attributes it names, times the films' own for the others."""
        films = np.bincount(self.stratum, minlength=len(self.strata)).astype(float)
        if not len(self):
            return np.ones(len(self.strata)) / len(self.strata)
        others: dict[tuple[str, ...], float] = {}
        rest = [tuple(v for a, v in s.items() if a not in population) for s in self.strata]
        for values, n in zip(rest, films.tolist(), strict=True):
            others[values] = others.get(values, 0.0) + n / len(self)
        share = np.array([others[values] for values in rest])
        for name, wanted in population.items():
            share *= [wanted.get(s[name], 0.0) for s in self.strata]
        if not population:
            share = films
        elif share.sum() <= 0:
            raise BadInput("plan.population", ", ".join(population), "levels that some training film has together")
        out: NDArray[np.float64] = share / share.sum()
        return out


def _refuse(train: pa.Table, ids: str) -> None:
    if ids == "image_id":
        refuse_outside_train(train, _READ)
    else:
        for name in ("record", *_LABELS):
            if name not in train.column_names:
                raise BadInput("training films", ", ".join(train.column_names), f"a column {name}")
        for name, only in (("split", ("train", None)), ("status", ("accepted", "unread"))):
            if name in train.column_names and (other := set(pc.unique(train[name]).to_pylist()) - set(only)):
                raise BadInput(f"training films: {name}", sorted(map(str, other))[0], f"only {only[0]}")
    # Arrow does not hold a table to `nullable=False`.
    for name in ("image_id", "object") if ids == "image_id" else ("record",):
        if train[name].null_count:
            raise BadInput(f"training films: {name}", "null", "the digest of an accepted film's image"
                           if ids == "image_id" else "the film's own name")


def _scan(train: pa.Table, ids: str, seed: int, attributes: Sequence[str]
          ) -> tuple[Keys, dict[str, tuple[Ints, list[str]]]]:
    """Keys of the films, uint64 [rows], and attribute -> (code of each row's level, the levels, sorted)."""
    key = f"('0x' || substr(sha256('{int(seed)} ' || {ids}), 1, 16))::UBIGINT AS key"
    films = train.select([ids, *attributes])
    with duckdb.connect() as con:
        con.register("films_in", films)
        found: pa.Table = con.sql("SELECT " + ", ".join(
            [key, *(f"{attribute_sql(a)} AS by_{a}" for a in attributes)]) + " FROM films_in").to_arrow_table()
    return (found["key"].to_numpy().astype(np.uint64), {a: _codes(found[f"by_{a}"]) for a in attributes})


def _codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Strings -> (int64 [rows], place of each in the sorted distinct strings, those strings)."""
    codes, dictionary = _encoded(column)
    values = dictionary.to_pylist()
    names = sorted(values)
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[v] for v in values], np.int64)[codes], names


def _encoded(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Strings -> (int64 [rows], place of each among the distinct strings, those in the order they come)."""
    encoded = pc.fill_null(column, UNKNOWN).combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def _distinct(columns: Sequence[Ints]) -> tuple[Ints, list[Ints]]:
    """Rows of int64 columns [N] -> (number of each row's distinct combination, the combinations' columns, sorted)."""
    number = np.zeros(len(columns[0]), np.int64)
    first = np.zeros(0, np.int64)
    for column in columns:  # pairwise, so that no product of sizes leaves 64 bits
        values, code = np.unique(column, return_inverse=True)
        _, first, number = np.unique(number * max(1, len(values)) + code.reshape(-1), return_index=True,
                                     return_inverse=True)
        number = number.reshape(-1)
    return number.astype(np.int64), [c[first] for c in columns]


def _each_once(train: pa.Table, ids: str, key: Keys) -> Ints:
    """Rows in the order of the key, of an image met twice only the row of the smallest record."""
    order = np.argsort(key, kind="stable").astype(np.int64)
    ordered = key[order]
    alike = np.zeros(len(order), bool)
    if len(order):
        alike[1:] = ordered[1:] == ordered[:-1]
    if not alike.any():
        return order
    tied = alike.copy()
    tied[:-1] |= alike[1:]
    places = np.flatnonzero(tied)
    names = train.select([*dict.fromkeys([ids, "record"])]).take(pa.array(order[places])).append_column(
        "key", pa.array(ordered[places])).append_column("row", pa.array(order[places]))
    by_name = names.sort_by([("key", "ascending"), (ids, "ascending"), ("record", "ascending")])
    order[places] = by_name["row"].to_numpy()
    named = by_name[ids].to_pylist()
    repeated = np.zeros(len(order), bool)
    repeated[places[1:]] = [a == b for a, b in zip(named[1:], named[:-1], strict=True)]
    return order[~repeated]


def _band(low: int, high: int) -> str:
    return f"{AGE_BANDS[-1][0]}+" if (low, high) == AGE_BANDS[-1] else f"{low:02d}-{high}"
