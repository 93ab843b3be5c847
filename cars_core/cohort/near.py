"""Near-duplicates: the same film under other grey values, sizes, codecs and margins, found by its hash.

A film is shrunk to 64 x 64, its grey values are replaced by their ranks (a change of window, gamma or bit depth
that keeps their order then changes nothing), and the signs of the 24 x 24 lowest frequencies of its cosine transform,
faded towards the edges, are the hash. It is the DCT hash (Zauner, Implementation and Benchmarking of Perceptual Image
Hash Functions, 2010) with 575 bits for its 64: chest films are all alike, and a cut margin, which shifts every
frequency, must leave more in common than two patients have. For the cut a film is asked for under 23 framings. Not
invariant to inversion, rotation or mirroring: films are set right before they are hashed, and a mirrored film is
another film. What is found and what is missed: benchmarks/near.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct
from scipy.stats import rankdata

Key = TypeVar("Key", bound=Hashable)
Float = NDArray[np.float64]
Words = NDArray[np.uint64]
Pixels = NDArray[np.uint8]

BITS = 575       # of a hash: 24 x 24 frequencies without the constant one
THRESHOLD = 96   # bits: two hashes this near are of one film
_SIDE, _LOW = 64, 24
_FADE = 0.12     # of a side, over which the film fades in, for margins hold markers and change with cuts
_MARGIN = 0.03   # of a side: what the framings take off or put on; right for cuts of 2 to 4 %
_HEX = 144       # digits: the 575 bits after a zero
_WORDS = 9       # of 64 bits
_FIRST = 4       # words compared first: of the highest frequencies, in which films differ by half their bits
_GROUPS, _ROUNDS = 4, 3  # of framings; fewer are wider and leave more films to look at
_BLOCK = 1 << 14         # films whose words fit a core's cache
# Bits in which films of two patients differ, summed to before each word, and three standard deviations of a word's:
# means over the pairs of 169 NIH films. They decide what is compared first, never what is found.
_USUAL, _SPREAD = np.cumsum([0, 26, 29, 30, 30, 30, 31, 32, 31, 31]), 15.0
_STARTS, _ENDS = np.array([(a, a + k) for k in range(_FIRST, _WORDS + 1) for a in range(_WORDS - k, -1, -1)]).T


def perceptual_hash(pixels: Pixels) -> str:
    """The hash of a film, uint8 [H, W]: 144 hex digits, of which Hamming distances are compared.

    A film of one grey value has the hash of zeros. Films that show nothing are not to be compared.

    Raises:
        ValueError: not a plane of pixels.
    """
    return _hex(_signs(_ranks(pixels), (0.0, 0.0, 0.0, 0.0)))


def reframed_hashes(pixels: Pixels) -> tuple[str, ...]:
    """The hash of a film, uint8 [H, W], then its hashes under 22 other framings, for `NearIndex.find`.

    Framings take 3 % off one side, two sides or all, or put it on by repeating the edge: they meet a film whose
    margins were cut, or one that the film in hand was cut from. Only `perceptual_hash` is ever added to an index.

    Raises:
        ValueError: not a plane of pixels.
    """
    ranks = _ranks(pixels)
    return tuple(_hex(_signs(ranks, margins)) for margins in _framings())


def distance(one: str, other: str) -> int:
    """Bits, 0..575, in which two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@dataclass(frozen=True)
class _Group:
    """Queries, uint64 [9, m], near one middle, uint64 [9]; the words in which films are compared with the middle, and
    the queries' distances from it in those words, falling."""

    middle: Words
    queries: Words
    words: slice
    radii: NDArray[np.int64]


class NearIndex(Generic[Key]):
    """Hashes of films, searched for the nearest within `THRESHOLD` bits.

    Exact: every hash is compared, but not with every framing. Framings are put in a few groups, each about a middle,
    and a film further from a middle than `THRESHOLD` and the group's radius together is near none of the group (the
    triangle inequality; it holds in some of the words as in all). The few films left are compared one by one with the
    framings that still can be near. Bands and pigeonholes (Norouzi, Punjani and Fleet, CVPR 2012) would not be faster:
    with a sixth of the bits to spare, one film in seven has one of 49 bands nearly in common by chance alone. Nor
    would pivots: the distances of distinct films spread by 18 bits, and 96 would have to show.

    72 bytes a film, half as many again at most as it grows, and its key. `find` changes nothing: several threads may
    be in it at once, as long as none adds.
    """

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._blocks = np.empty((1, _WORDS, _BLOCK), np.uint64)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def nbytes(self) -> int:
        """Bytes held for hashes, without their keys."""
        return self._blocks.nbytes

    def add(self, hash: str, key: Key) -> None:
        """Take in a film's hash under its key. Keys may repeat.

        Raises:
            ValueError: not 144 hex digits.
        """
        self.extend([hash], [key])

    def extend(self, hashes: Sequence[str], keys: Sequence[Key]) -> None:
        """Take in many films, in their order, as `add` would one by one; all or, where one is refused, none.

        Raises:
            ValueError: not 144 hex digits, or not as many keys as hashes.
        """
        if len(hashes) != len(keys):
            raise ValueError(f"{len(hashes)} hashes and {len(keys)} keys")
        words, n = _words(hashes), len(self._keys)
        needed = -(-(n + len(keys)) // _BLOCK)
        if needed > len(self._blocks):
            more = np.empty((max(needed, len(self._blocks) * 3 // 2) - len(self._blocks), _WORDS, _BLOCK), np.uint64)
            self._blocks = np.concatenate([self._blocks, more])
        at = 0
        while at < len(keys):
            block, first = divmod(n + at, _BLOCK)
            part = words[:, at:at + _BLOCK - first]
            self._blocks[block, :, first:first + part.shape[1]] = part
            at += part.shape[1]
        self._keys.extend(keys)

    def find(self, hash: str | Sequence[str]) -> tuple[Key, int] | None:
        """The key of the nearest film and its distance in bits, 0..THRESHOLD, or None when none is that near.

        Args:
            hash: a film's hash, or several of it (`reframed_hashes`), of which the nearest counts.

        Of films equally near, the one added first, whatever the order of `hash`.

        Raises:
            ValueError: not 144 hex digits.
        """
        queries = _words([hash] if isinstance(hash, str) else hash)
        if not queries.shape[1] or not self._keys:
            return None
        groups = _grouped(queries)
        left = self._left(groups)
        found = [near for group, (places, away) in zip(groups, left, strict=True)
                 if len(places) and (near := self._nearest(group, places, away)) is not None]
        if not found:
            return None
        far, place = min(found)
        return self._keys[place], far

    def _left(self, groups: list[_Group]) -> list[tuple[NDArray[np.int64], NDArray[np.uint16]]]:
        """Of each group, the films that its middle does not rule out: places, and bits away from it in its words."""
        n = len(self._keys)
        left: list[list[tuple[NDArray[np.int64], NDArray[np.uint16]]]] = [[] for _ in groups]
        differing, counts = np.empty((_WORDS, _BLOCK), np.uint64), np.empty((_WORDS, _BLOCK), np.uint8)
        for start in range(0, n, _BLOCK):
            block = self._blocks[start // _BLOCK]
            for group, kept in zip(groups, left, strict=True):
                k = group.words.stop - group.words.start
                np.bitwise_xor(block[group.words], group.middle[group.words, None], out=differing[:k])
                bits = np.bitwise_count(differing[:k], out=counts[:k])
                away = np.add(np.add.reduce(bits[:3], dtype=np.uint8), np.add.reduce(bits[3:6], dtype=np.uint8),
                              dtype=np.uint16)  # three words differ in 192 bits at most
                if k > 6:
                    away += np.add.reduce(bits[6:], dtype=np.uint8)
                places = np.flatnonzero(away[:n - start] <= THRESHOLD + group.radii[0])
                if len(places):
                    kept.append((places + start, away[places]))
        none = np.empty(0, np.int64), np.empty(0, np.uint16)
        return [(np.concatenate([p for p, _ in kept]), np.concatenate([a for _, a in kept])) if kept else none
                for kept in left]

    def _nearest(self, group: _Group, places: NDArray[np.int64], away: NDArray[np.uint16]) -> tuple[int, int] | None:
        """(distance, place) of the film nearest to one of a group, among films left, the earliest on ties."""
        order = np.argsort(away, kind="stable")
        away, places = away[order], places[order]
        words = np.ascontiguousarray(self._blocks[places // _BLOCK, :, places % _BLOCK].T)
        best: tuple[int, int] | None = None
        within = np.searchsorted(away, THRESHOLD + group.radii, side="right")
        for query, reached in zip(group.queries.T, within.tolist(), strict=True):
            if not reached:
                break  # the radii fall
            near = np.flatnonzero(_far(words[-_FIRST:, :reached], query[-_FIRST:]) <= THRESHOLD)
            if len(near):
                far = _far(words[:, near], query)
                least = far.min()
                if least <= THRESHOLD:
                    one = int(least), int(places[near[far == least]].min())
                    best = one if best is None else min(best, one)
        return best


def _ranks(pixels: Pixels) -> Float:
    """Ranks of the grey values at 64 x 64 less their mean, float [64, 64]; equal values share their mean rank."""
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"a film is a plane of pixels, not an array of shape {pixels.shape}")
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS,
                                                                 reducing_gap=3.0)
    return rankdata(np.asarray(small), axis=None).reshape(_SIDE, _SIDE) - (_SIDE**2 + 1) / 2


@cache
def _framings() -> tuple[tuple[float, float, float, float], ...]:
    """(left, top, right, bottom) taken off, as shares of a side; negative is put on. The film's own first."""
    sides = [s for s in itertools.product((0.0, 1.0), repeat=4) if sum(s) in (1, 2, 4)]
    return ((0.0, 0.0, 0.0, 0.0),
            *((m * s[0], m * s[1], m * s[2], m * s[3]) for m in (_MARGIN, -_MARGIN) for s in sides))


@cache
def _waves(before: float, after: float) -> Float:
    """[24, 64]: the 24 lowest waves, faded at both ends, over what is left of an axis; linear between pixels."""
    at = (before + (np.arange(_SIDE) + 0.5) / _SIDE * (1 - before - after)) * _SIDE - 0.5
    at = np.clip(at, 0, _SIDE - 1)
    below = np.minimum(at.astype(int), _SIDE - 2)
    sampled = np.zeros((_SIDE, _SIDE))
    sampled[np.arange(_SIDE), below] = 1 - (at - below)
    sampled[np.arange(_SIDE), below + 1] += at - below
    middle = (np.arange(_SIDE) + 0.5) / _SIDE
    fade = np.clip(np.minimum(middle, 1 - middle) / _FADE, 0, 1)
    return dct(np.eye(_SIDE), norm="ortho", axis=0)[:_LOW] * fade @ sampled


def _signs(ranks: Float, margins: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    left, top, right, bottom = margins
    spectrum = _waves(top, bottom) @ ranks @ _waves(left, right).T
    return spectrum.ravel()[1:] > 1e-6  # so that rounding does not decide where there is nothing


def _hex(signs: NDArray[np.bool_]) -> str:
    return np.packbits(np.concatenate([[False], signs])).tobytes().hex()


def _words(hashes: Sequence[str]) -> Words:
    """uint64 [9, n]: hashes as words, sixteen hex digits each."""
    if any(len(h) != _HEX for h in hashes):
        raise ValueError(f"a perceptual hash has {_HEX} hex digits")
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), ">u8")
    return np.ascontiguousarray(raw.astype(np.uint64).reshape(-1, _WORDS).T)


def _far(words: Words, query: Words) -> NDArray[np.uint16]:
    """Bits, uint16 [n], in which words [k, n] differ from a query [k]."""
    bits = np.bitwise_count(words[0] ^ query[0]).astype(np.uint16)
    for word, asked in zip(words[1:], query[1:], strict=True):
        bits += np.bitwise_count(word ^ asked)
    return bits


def _grouped(queries: Words) -> list[_Group]:
    """Queries, uint64 [9, k], in at most `_GROUPS` groups about middles: seeds far apart, then the bits most have."""
    bits = np.unpackbits(queries.T.astype(">u8", order="C").view(np.uint8), axis=1).astype(np.float32)
    apart = _apart(bits, bits)
    seeds = [int(apart.max(axis=1).argmax())]
    while len(seeds) < min(_GROUPS, len(bits)):
        seeds.append(int(apart[:, seeds].min(axis=1).argmax()))
    middles = bits[seeds]
    for _ in range(_ROUNDS):
        of = _apart(bits, middles).argmin(axis=1)
        middles = np.stack([bits[of == g].mean(axis=0) > 0.5 for g in np.unique(of)]).astype(np.float32)
    of = _apart(bits, middles).argmin(axis=1)
    packed = np.packbits(middles.astype(bool), axis=1).view(">u8").astype(np.uint64)
    return [_group(packed[g], queries[:, of == g]) for g in np.unique(of)]


def _group(middle: Words, queries: Words) -> _Group:
    """Queries about a middle, compared in as few words as keep nearly all films of other patients out."""
    total = np.zeros((_WORDS + 1, queries.shape[1]), np.int64)
    np.cumsum(np.bitwise_count(middle[:, None] ^ queries), axis=0, out=total[1:])
    radii = (total[_ENDS] - total[_STARTS]).max(axis=1)
    spare = _USUAL[_ENDS] - _USUAL[_STARTS] - radii - THRESHOLD
    enough = np.flatnonzero(spare >= _SPREAD * np.sqrt(_ENDS - _STARTS))
    at = enough[0] if len(enough) else len(spare) - 1  # short windows come first, the last is of all words
    words = slice(int(_STARTS[at]), int(_ENDS[at]))
    away = total[words.stop] - total[words.start]
    widest = np.argsort(-away, kind="stable")
    return _Group(middle, queries[:, widest], words, away[widest])


def _apart(bits: NDArray[np.float32], middles: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bits, [k, m], in which k differ from m; float32 holds such counts exactly."""
    return (bits.sum(axis=1)[:, None] + middles.sum(axis=1) - 2 * bits @ middles.T).astype(np.int64)
