"""Simulated films as a source: patients that never were, with the truth of every film known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from cars_core.cohort.films import Film, Record, normalise
from cars_core.digest import digest
from cars_core.phantom.population import films
from cars_core.phantom.truth import render_truth
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

    processes = True  # drawing a film holds the interpreter's lock

    def __init__(self, *, n: int, limit: int | None, seed: int, size: int, withheld: list[list[str]],
                 split_of: Callable[[str], str], vocabulary: Vocabulary,
                 thinned: Sequence[tuple[list[str], float]] = ()) -> None:
        self._n, self._limit, self._seed, self._size = n, limit, seed, size
        self._withheld, self._split_of, self._vocabulary = withheld, split_of, vocabulary
        self._thinned = [(list(findings), keep) for findings, keep in thinned]

    def survey(self) -> tuple[int, str]:
        """Number of records, and a digest of what the population is drawn from and of its first truth,
        which changes with the way patients are drawn.

        Raises:
            BadInput: a withheld or thinned finding that the phantom cannot draw, a combination thinned twice.
        """
        first = [r.truth for r in islice(self.records(), 1)]
        origin = digest([self._n, self._seed, self._size, self._withheld, self._thinned, first])
        return min(self._n, self._limit or self._n), origin

    def records(self) -> Iterator[Record]:
        """Every film's record; nothing is drawn yet."""
        population = films(n=self._n, seed=self._seed, size=self._size, withheld=self._withheld, thinned=self._thinned,
                           split_of=self._split_of, vocabulary=self._vocabulary)
        for place, spec in enumerate(islice(population, self._limit)):
            yield Record(name=spec.record, patient=spec.patient, line=None, vector=spec.vector, sex=spec.sex,
                         age=spec.age, view=spec.view, licence=LICENCE, truth=spec.truth,
                         where=f"simulated film {place}")

    @staticmethod
    def loader(size: int) -> Callable[[Record], Film]:
        """The function that draws a record's film; it can be sent to another process."""
        return partial(_draw, size)


def _draw(size: int, record: Record) -> Film:
    assert record.truth is not None
    return normalise(render_truth(record.truth).pixels, size=size)
