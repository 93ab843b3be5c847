"""Gaps: combinations of findings that films hold too rarely.

A film holds a combination when all findings of `gap` count as present on it and all of `without` as absent, whatever
else it shows; so counts of pairs include the films that hold a third finding. A finding that is not mentioned counts as
absent; what an uncertain one counts as is the recipe's policy.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import betaincinv

from cars_core.coverage.counts import (
    Cells,
    Patterns,
    count_patterns,
    find_cells,
    list_patterns,
    matching,
    refuse_too_many,
    showing,
)
from cars_core.coverage.group import Grouped, group_films
from cars_core.coverage.plausible import Plausibility, impossible
from cars_core.coverage.reference import load_reference
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps
from schemas.tables import GAPS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: The table `gaps` before a build's plan has been made for it.
COUNTS = pa.schema([f for f in GAPS if f.name != "build"])

CONFIDENCE = 0.95
"""Of the interval of a lift."""

_DENOMINATOR = 10**9  # shares are taken as the simplest fraction this near, so that 0.1 of 30 films is 3, never 4


def all_counts(grouped: Grouped, settings: Gaps, *, vocabulary: Vocabulary,
               plausible: Plausibility | None = None) -> pa.Table:
    """Count every combination of 1 to `settings.order` of `settings.findings` in every cell that has a film.

    Args:
        grouped: the films, grouped by the attributes to cross with; see `group_training`.
        settings: the recipe's section `gaps`. `patterns: full` counts every combination in both values of each
            finding, all absent included; else all are present and `without` is 0.
        vocabulary: names the bits.
        plausible: which gaps may be filled; None: all that the vocabulary does not rule out.

    Returns:
        One row a combination and cell, COUNTS, in the order of `grouped.cells()`, then of `order`, `gap`, `without`.

        films: of the cell that leave none of the pattern's findings open (under `uncertain: ignore`; else all).
        observed: films that hold the pattern.
        expected: films * product of the shares of its findings, each by itself, in this cell (independence). The share
            of a finding is observed / films of it alone; that of an absent one is 1 less it.
        lift: observed / expected; null where nothing is expected. lift_low, lift_high: its 95 % interval, that of
            Clopper and Pearson (Biometrika 26, 1934) for observed of films, over the expected share. The findings' own
            shares are taken as known. Films are taken as drawn one by one: those of one patient resemble each other,
            which makes the true interval wider.
        stated: films on which `gap` is stated present and `without` stated absent.
        with_uncertain: films on which the uncertain ones of these findings could turn out so, and the others are
            stated so. with_unmentioned: those that say nothing against it. Whatever the policy,
            stated <= observed <= with_unmentioned and stated <= with_uncertain <= with_unmentioned;
            observed <= with_uncertain too, where `without` is 0 (else not: an unmentioned finding counts as absent).
        needed: films the policy asks for: the largest of `min_count`, `min_share` of the films of the cell, and the
            share of `target` (a reference) that holds the pattern, of the films of the cell; shares rounded up.
        deficit: max(0, needed - observed).
        fillable, reason: by `plausible`; planned: 0.

    Raises:
        BadInput: a finding the vocabulary lacks, a target that cannot be read, or more than MAX_ROWS rows.
    """
    findings, full = vocabulary.mask(settings.findings), settings.patterns == "full"
    cells = find_cells(grouped)
    refuse_too_many(count_patterns(findings, order=settings.order, full=full), len(cells.names))
    patterns = list_patterns(findings, order=settings.order, full=full)
    films, observed, stated, with_uncertain, with_unmentioned = _counted(grouped, settings, cells, patterns)
    expected = _expected(films, observed, patterns)
    share = np.divide(expected, films, out=np.zeros_like(expected), where=films > 0)
    low, high = _interval(observed, films)
    needed = _needed(settings, cells, patterns, vocabulary)
    why = [_reason(g, w, plausible, vocabulary) for g, w in zip(patterns.gap.tolist(), patterns.without.tolist(),
                                                                strict=True)]
    every = np.tile(np.arange(len(patterns.gap)), len(cells.names))
    reason = pa.array(why, pa.string()).take(every)

    def ratio(of: Floats) -> pa.Array:
        lift = np.divide(of, share, out=np.zeros_like(share), where=share > 0)
        return pa.array(lift.ravel(), mask=share.ravel() == 0)

    return pa.table({
        "gap": patterns.gap[every], "without": patterns.without[every],
        "cell": pa.array(cells.names).take(np.repeat(np.arange(len(cells.names)), len(patterns.gap))),
        "findings": _names(patterns, vocabulary).take(every), "order": patterns.order[every],
        "films": films.ravel(), "observed": observed.ravel(), "expected": expected.ravel(),
        "lift": ratio(np.divide(observed, films, out=np.zeros_like(expected), where=films > 0)),
        "lift_low": ratio(low), "lift_high": ratio(high), "stated": stated.ravel(),
        "with_uncertain": with_uncertain.ravel(), "with_unmentioned": with_unmentioned.ravel(),
        "needed": needed.ravel(), "deficit": np.maximum(0, needed - observed).ravel(),
        "fillable": pc.is_null(reason), "reason": reason, "planned": np.zeros(len(every), np.int64)}, schema=COUNTS)


def find_gaps(grouped: Grouped, settings: Gaps, *, vocabulary: Vocabulary,
              plausible: Plausibility | None = None) -> pa.Table:
    """The combinations of their own that have a deficit.

    Arguments, columns and errors as `all_counts`. Rows are ranked: largest deficit first, then more findings first,
    then by `gap`, `without` and `cell`.
    """
    return rank_gaps(all_counts(grouped, settings, vocabulary=vocabulary, plausible=plausible), vocabulary=vocabulary)


def rank_gaps(counts: pa.Table, *, vocabulary: Vocabulary) -> pa.Table:
    """`find_gaps` of combinations already counted (`all_counts`)."""
    short = counts.filter(pc.greater(counts["deficit"], 0))
    return short.filter(of_their_own(short, vocabulary=vocabulary)).sort_by(
        [("deficit", "descending"), ("order", "descending"), *((c, "ascending") for c in ("gap", "without", "cell"))])


def of_their_own(counts: pa.Table, *, vocabulary: Vocabulary) -> pa.Array:
    """Whether the pattern of each row (int64 `gap`, `without`) is one of its own, as booleans.

    It is not where a finding is present with one it implies, or absent with one that implies it: the films are those of
    the other finding alone. Nor where a finding is present without one it implies, which cannot be.
    """
    gap, without = (counts[c].to_numpy() for c in ("gap", "without"))
    own = np.ones(len(gap), bool)
    for f in vocabulary.findings:
        up = vocabulary.ancestors(1 << f.bit)
        own &= (gap >> f.bit & 1 == 0) | ((gap | without) & up == 0)
        own &= (without >> f.bit & 1 == 0) | (without & up == 0)
    return pa.array(own)


def group_training(train: pa.Table, settings: Gaps, *, vocabulary: Vocabulary) -> Grouped:
    """Group training films by the findings and attributes of the recipe's section `gaps`.

    Films whose pixels were not read (status `unread`) count like accepted ones.

    Raises:
        BadInput: as `refuse_outside_train` and `group_films`, or a finding the vocabulary lacks.
    """
    refuse_outside_train(train, ("present", "absent", "uncertain", *settings.by), statuses=("accepted", "unread"))
    return group_films(train, mask=vocabulary.mask(settings.findings), by=settings.by)


def refuse_outside_train(films: pa.Table, columns: tuple[str, ...], *,
                         statuses: tuple[str, ...] = ("accepted",)) -> None:
    """Raise BadInput where a column is missing, or a film is of another split than train or of another status."""
    for name in columns:
        if name not in films.column_names:
            raise BadInput("training films", ", ".join(films.column_names), f"a column {name}")
    for name, only in (("split", ("train",)), ("status", statuses)):
        if name in films.column_names and (others := set(pc.unique(films[name]).to_pylist()) - set(only)):
            raise BadInput(f"training films: {name}", sorted(map(str, others))[0], f"only {' or '.join(only)}")


def _counted(grouped: Grouped, settings: Gaps, cells: Cells, patterns: Patterns) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """films, observed, stated, with_uncertain, with_unmentioned: int64 [C, P] each."""
    present, absent, unsure = grouped.present, grouped.absent, grouped.uncertain
    positive, open_ = grouped.positive(settings.uncertain), grouped.open(settings.uncertain)
    known: dict[tuple[bytes, bytes], Ints] = {}  # without uncertain findings several of these are the same question

    def asked(of: Ints, without: Ints) -> Ints:
        key = (of.tobytes(), without.tobytes() if patterns.values == 2 else b"")
        if key not in known:
            known[key] = matching(of, without, grouped, cells=cells, patterns=patterns)
        return known[key]

    if patterns.values == 1:
        known[positive.tobytes(), b""] = showing(positive, grouped, cells=cells, patterns=patterns)
    every = np.broadcast_to(cells.films[:, None], (len(cells.names), len(patterns.gap)))
    return (asked(~open_, ~open_) if open_.any() else every, asked(positive, ~(positive | open_)),
            asked(present, absent), asked(present | unsure, absent | unsure), asked(~absent, ~present))


def _expected(films: Ints, observed: Ints, patterns: Patterns) -> Floats:
    """Films under independence, [C, P]."""
    single = slice(0, len(patterns.items[0]))
    share = np.divide(observed[:, single], films[:, single], out=np.zeros(observed[:, single].shape),
                      where=films[:, single] > 0)
    if patterns.values == 2:  # singles are sorted by `gap`, so the absent ones come first
        share[:, :len(patterns.bits)] = 1 - share[:, len(patterns.bits):]
    row = np.empty(len(patterns.items[0]), np.int64)
    row[patterns.items[0][:, 0]] = np.arange(len(row))
    product = np.concatenate([share[:, row[items]].prod(axis=2) for items in patterns.items], axis=1)
    return np.asarray(films * product)


def _interval(observed: Ints, films: Ints) -> tuple[Floats, Floats]:
    """Clopper and Pearson's interval of observed out of films, as shares; (0, 1) of no films."""
    totals, total = np.unique(films, return_inverse=True)
    pairs, place = np.unique(observed * len(totals) + total.reshape(films.shape), return_inverse=True)
    seen, of = (pairs // len(totals)).astype(float), totals[pairs % len(totals)].astype(float)
    tail = (1 - CONFIDENCE) / 2
    low = np.where(seen > 0, betaincinv(np.maximum(seen, 1), of - seen + 1, tail), 0.0)
    high = np.where(seen < of, betaincinv(seen + 1, np.maximum(of - seen, 1), 1 - tail), 1.0)
    return low[place].reshape(observed.shape), high[place].reshape(observed.shape)


def _needed(settings: Gaps, cells: Cells, patterns: Patterns, vocabulary: Vocabulary) -> Ints:
    """Films the policy asks for, int64 [C, P]."""
    needed = np.full((len(cells.names), len(patterns.gap)), settings.min_count, np.int64)

    def ask(share: float, of: slice | int) -> None:
        exact = Fraction(share).limit_denominator(_DENOMINATOR)
        films = [-(-exact.numerator * n // exact.denominator) for n in cells.films.tolist()]
        needed[:, of] = np.maximum(needed[:, of].T, films).T

    if settings.min_share is not None:
        ask(settings.min_share, slice(None))
    if settings.target is not None:
        target = load_reference(settings.target, vocabulary=vocabulary)
        for i, (gap, without) in enumerate(zip(patterns.gap.tolist(), patterns.without.tolist(), strict=True)):
            # A target that says nothing of a finding is not to be read as saying that it is absent.
            if not (gap | without) & ~target.known and (share := target.share(gap, without)):
                ask(share, i)
    return needed


def _reason(gap: int, without: int, plausible: Plausibility | None, vocabulary: Vocabulary) -> str | None:
    if plausible is not None:
        return plausible.why_not(gap, without)
    return impossible(gap, without, vocabulary=vocabulary)


def _names(patterns: Patterns, vocabulary: Vocabulary) -> pa.Array:
    """Findings of each pattern, in vocabulary order; one that must not be there as `no edema`."""
    present = np.array([vocabulary.unpack(bit)[0] for bit in patterns.bits.tolist()], object)
    words = np.stack([present, "no " + present], axis=1)[:, :patterns.values].ravel()
    flat = np.concatenate([items.ravel() for items in patterns.items])
    ends = np.concatenate([[0], np.cumsum(patterns.order)]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(words[flat], pa.string()))
