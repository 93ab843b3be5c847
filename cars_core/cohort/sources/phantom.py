"""Simulated films as a source: patients that never were, with the truth of every film known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from cars_core.cohort.sources.record import Record
from cars_core.digest import digest
from cars_core.phantom.population import films
from cars_core.vocabulary import Vocabulary

LICENCE = "CC0-1.0 (simulated)"


class PhantomSource:
    """A simulated population.

    Args:
        n: number of films. limit: the first so many of them only.
        seed, size: of the population, and its films' side in pixels.
        withheld: combinations of findings that training patients must not show.
        thinned: combinations that training patients show less often, with the share kept.
        split_of: a simulated patient's split.
    """

    def __init__(self, *, n: int, limit: int | None, seed: int, size: int, withheld: list[list[str]],
                 split_of: Callable[[str], str], vocabulary: Vocabulary,
                 thinned: Sequence[tuple[list[str], float]] = ()) -> None:
        self._n, self._limit, self._seed, self._size = n, limit, seed, size
        self._withheld, self._split_of, self._vocabulary = withheld, split_of, vocabulary
        self._thinned = [(list(findings), keep) for findings, keep in thinned]

    tree = None  # nothing is read: films are drawn

    def origin(self) -> list[str]:
        """What the population is drawn from, and its first truth, which changes with the way patients are drawn.

        Raises:
            BadInput: a withheld or thinned finding that the phantom cannot draw, a combination thinned twice.
        """
        first = [r.truth for r in islice(self.records(), 1)]
        return [digest([self._n, self._seed, self._size, self._withheld, self._thinned, first])]

    def records(self) -> Iterator[Record]:
        """Every film's record; nothing is drawn yet."""
        population = films(n=self._n, seed=self._seed, size=self._size, withheld=self._withheld, thinned=self._thinned,
                           split_of=self._split_of, vocabulary=self._vocabulary)
        for place, spec in enumerate(islice(population, self._limit)):
            yield Record(name=spec.record, patient=spec.patient, line=None, vector=spec.vector, sex=spec.sex,
                         age=spec.age, view=spec.view, licence=LICENCE, truth=spec.truth,
                         where=f"simulated film {place}")
