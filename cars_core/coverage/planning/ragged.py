"""Many short lists of integers in two flat arrays, so that numpy can work on all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """List i is `values[start[i]:start[i + 1]]`; start int64 [lists + 1], values int64."""

    start: Ints
    values: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, i: int) -> Ints:
        return self.values[self.start[i]:self.start[i + 1]]

    @property
    def sizes(self) -> Ints:
        return np.diff(self.start)

    @property
    def owner(self) -> Ints:
        """For each value the number of its list, int64 [values]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, lists: Ints) -> Ragged:
        """The lists of these numbers, in this order; a list may be asked for more than once."""
        sizes = self.sizes[lists]
        start = offsets(sizes)
        places = np.arange(start[-1]) + np.repeat(self.start[lists] - start[:-1], sizes)
        return Ragged(start, self.values[places])

    def keep(self, wanted: NDArray[np.bool_]) -> Ragged:
        """The same lists with some values left out: bool [values]."""
        count = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
        return Ragged(count[self.start], self.values[wanted])

    def digests(self, weights: Keys) -> Keys:
        """uint64 [lists]: equal for equal sets of values, and for others but for chance (1 in 2**64 a pair).

        Args:
            weights: a random number for each value that occurs, uint64; the digest is their sum modulo 2**64.
        """
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weights[self.values], dtype=np.uint64)])
        return total[self.start[1:]] - total[self.start[:-1]]


def offsets(sizes: Ints) -> Ints:
    """Where lists of these sizes start, one after the other, and where the last ends: int64 [lists + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int64)


def grouped(owner: Ints, values: Ints, lists: int) -> Ragged:
    """Values -> the lists they belong to, in the order they come within each."""
    order = np.argsort(owner, kind="stable")
    return Ragged(offsets(np.bincount(owner, minlength=lists)), values[order])


def mixed(numbers: Keys) -> Keys:
    """Scrambles 64-bit numbers one to one (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: Keys = z ^ (z >> np.uint64(31))
    return out
