"""Which combinations of findings may be made: what the vocabulary, real films and a clinician's lists say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cars_core.coverage.reference import load_reference
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.policy import Gaps, Plausible

Ints = NDArray[np.int64]

_BYTES = 8
_CHUNK_WORDS = 1 << 21  # 16 MB of bit sets at a time


def impossible(gap: int, without: int = 0, *, vocabulary: Vocabulary) -> str | None:
    """Why no film can show all findings of the mask `gap` and none of `without`, by the vocabulary alone, in words.

    A finding cannot be there without one it implies, nor with one that it, or what it implies, is excluded with. A
    reason is also given for a combination that is not one of its own: of a finding present with one it implies, or
    of a finding absent with one that implies it; the other alone says the same. None where nothing speaks against it.
    """
    implied = vocabulary.ancestors(gap)
    closed = gap | implied  # what another finding here implies may be the one excluded
    if not (implied & (gap | without) or vocabulary.ancestors(without) & without or gap & without
            or vocabulary.excluded(closed) & closed):
        return None
    for name in vocabulary.unpack(gap | without):
        bit = vocabulary.mask([name])
        up = vocabulary.ancestors(bit)
        if bit & gap & without:
            return f"{name} is either present or absent"
        if bit & gap and (above := vocabulary.unpack(up & (gap | without))):
            return f"{name} implies {above[0]}"
        if bit & gap and (beside := vocabulary.unpack(vocabulary.excluded(bit | up) & closed)):
            return f"the vocabulary excludes {name} with {beside[0]}"
        if bit & without and (above := vocabulary.unpack(up & without)):
            return f"without {above[0]} there is no {name}"
    raise AssertionError("one of the findings is at fault")


class Plausibility:
    """The recipe's rule on what may be made (`schemas.policy.Plausible`), over closed positive sets.

    Sets are compared with all that their findings imply in them, so a label set that states a child only and one that
    states its parent too mean the same.
    """

    def __init__(self, settings: Plausible, *, real: Ints, vocabulary: Vocabulary,
                 findings: Sequence[str] | None = None) -> None:
        """
        Args:
            settings: the recipe's section `gaps.plausible`.
            real: int64 [N], masks of what is positive on the training films, each distinct one at least once.
            vocabulary: names, implications and exclusions.
            findings: those that combinations are made of; whether a film's others were ever seen beside them is not
                asked (a pacemaker speaks neither for nor against an effusion, and no reference knows of it). None: all.

        Raises:
            BadInput: a finding of `allow` or `deny` that the vocabulary lacks, a combination allowed whole and denied
                in part (also by what its findings imply), or a reference that cannot be read.
        """
        self._vocabulary = vocabulary
        self._denied = [(vocabulary.mask(names), " + ".join(dict.fromkeys(names))) for names in settings.deny]
        allowed = [self._closed(vocabulary.mask(names)) for names in settings.allow]
        for mask, names in zip(allowed, settings.allow, strict=True):
            for denied, text in self._denied:
                if denied & ~mask == 0:
                    raise BadInput("plausible.allow", " + ".join(names),
                                   f"nothing that is denied (with what it implies it holds {text})")
        self._judged = -1 if findings is None else self._closed(vocabulary.mask(tuple(findings)))
        self._reference, self._known = None, 0
        self._seen: _Supersets | None = None
        if settings.rule == "seen":
            shown = self._closed_all(np.unique(np.asarray(real, np.int64))) & self._judged
            sets = [shown, np.array([0, *allowed], np.int64)]
            if settings.reference is not None:
                reference = load_reference(settings.reference, vocabulary=vocabulary)
                self._reference, self._known = Path(settings.reference).name, reference.known
                sets.append(reference.masks)
            self._seen = _Supersets(np.concatenate(sets))
        self._reasons: dict[int, str | None] = {}

    def exists(self, gap: int, without: int = 0) -> str | None:
        """`impossible` for this vocabulary: the reason, or None."""
        return impossible(gap, without, vocabulary=self._vocabulary)

    def why_not(self, gap: int, without: int = 0) -> str | None:
        """Why films with all findings of the mask `gap` and none of `without` are not to be made; None: they may be.

        In this order: the vocabulary rules it out; a denied combination is in `gap`; no real film shows all of `gap`
        (rule `seen`) and no allowed combination holds it. That findings are absent is never held against a pattern.
        """
        if reason := self.exists(gap, without):
            return reason
        if gap not in self._reasons:
            self._reasons[gap] = self._refused(gap)
        return self._reasons[gap]

    def films(self, masks: Ints) -> NDArray[np.bool_]:
        """Whether films may show these whole positive sets: int64 masks [N] -> bool [N].

        A set may be shown that holds nothing denied and no two findings that the vocabulary excludes, and is seen (part
        of a real film's set or of an allowed one; not asked under rule `any`). So a real training film may stay as it
        is, unless it shows what is denied or excluded.
        """
        distinct, place = np.unique(np.asarray(masks, np.int64), return_inverse=True)
        closed = self._closed_all(distinct)
        fine = np.ones(len(closed), bool)
        for denied, _ in self._denied:
            fine &= closed & denied != denied
        for f in self._vocabulary.findings:
            if beside := self._vocabulary.excluded(1 << f.bit):
                fine &= (closed >> f.bit & 1 == 0) | (closed & beside == 0)
        if self._seen is not None:
            fine[fine] = self._seen.hold(closed[fine] & self._judged)
        return fine[place.reshape(-1)]

    def _closed(self, mask: int) -> int:
        return mask | self._vocabulary.ancestors(mask)

    def _closed_all(self, masks: Ints) -> Ints:
        out = masks.copy()
        for f in self._vocabulary.findings:
            if up := self._vocabulary.ancestors(1 << f.bit):
                out[masks >> f.bit & 1 == 1] |= up
        return out

    def _refused(self, gap: int) -> str | None:
        closed = self._closed(gap)
        for denied, text in self._denied:
            if denied & ~closed == 0:
                return f"denied: {text}"
        if self._seen is None or self._seen.holds(closed):
            return None
        looked = "no training film shows it"
        if self._reference:
            strange = self._vocabulary.unpack(gap & ~self._known)
            looked = (f"{looked}, and {self._reference} says nothing of {strange[0]}" if strange
                      else f"neither a training film nor one of {self._reference} shows it")
        return f"never seen on a real film: {' + '.join(self._vocabulary.unpack(gap))} ({looked})"


def held_apart(settings: Plausible, sources: Collection[str]) -> Plausible:
    """The rule without ChestX-ray14's table where films of that set are among those judged.

    The table counts all its films, so it would tell what is on films of patients held out for validation and test.
    """
    return settings.model_copy(update={"reference": None}) if settings.reference in sources else settings


def training_plausibility(train: pa.Table, settings: Gaps, *, vocabulary: Vocabulary) -> Plausibility:
    """What may be made of training films (rows of COHORT): real are the sets of findings that they show."""
    present, unsure = (train[c].to_numpy() for c in ("present", "uncertain"))
    real = np.unique(present | unsure if settings.uncertain == "present" else present)
    rule = held_apart(settings.plausible, pc.unique(train["source"]).to_pylist())
    return Plausibility(rule, real=real, vocabulary=vocabulary, findings=settings.findings)


class _Supersets:
    """Answers whether a mask is part of one of some masks.

    For each bit, a bit set of the masks that have it; the masks that hold a query are the intersection of the sets of
    its bits. Only masks that are part of no other are kept.
    """

    def __init__(self, masks: Ints) -> None:
        """masks: int64 [M], non-negative, M >= 1."""
        kept = _largest(masks)
        self._all = (1 << len(kept)) - 1
        self._with = [_bitset(kept >> bit & 1 == 1) for bit in range(8 * _BYTES - 1)]
        self._words = -(-len(kept) // 64)
        self._outside = ~int(np.bitwise_or.reduce(kept))
        # tables[place][byte]: the masks that have all bits of this byte at this place of the mask, [256, words].
        self._tables = []
        for place in range(-(-(~self._outside).bit_length() // 8)):
            table = np.empty((256, self._words), np.uint64)
            table[0] = self._row(self._all)
            for bit in range(8):
                table[1 << bit:2 << bit] = table[:1 << bit] & self._row(
                    self._with[8 * place + bit] if 8 * place + bit < len(self._with) else 0)
            self._tables.append(table)

    def holds(self, mask: int) -> bool:
        """Whether one of the masks has all bits of this one."""
        left, bit = self._all, 0
        while mask and left:
            if mask & 1:
                left &= self._with[bit]
            mask >>= 1
            bit += 1
        return left != 0

    def hold(self, masks: Ints) -> NDArray[np.bool_]:
        """`holds` for masks int64 [N] -> bool [N]."""
        out = masks & self._outside == 0
        size = max(1, _CHUNK_WORDS // self._words)
        for start in range(0, len(masks), size):
            chunk = masks[start:start + size]
            left = np.broadcast_to(self._row(self._all), (len(chunk), self._words)).copy()
            for place, table in enumerate(self._tables):
                left &= table[chunk >> 8 * place & 255]
            out[start:start + size] &= left.any(axis=1)
        return out

    def _row(self, bits: int) -> NDArray[np.uint64]:
        return np.frombuffer(bits.to_bytes(8 * self._words, "little"), "<u8").astype(np.uint64)


def _bitset(flags: NDArray[np.bool_]) -> int:
    """Bit i is flag i."""
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def _largest(masks: Ints) -> Ints:
    """Those of the masks that are part of no other, int64, most bits first."""
    distinct = np.unique(masks)
    sizes = np.bitwise_count(distinct)
    kept = np.zeros(0, np.int64)
    for size in np.unique(sizes)[::-1]:  # a mask is only part of larger ones
        same = distinct[sizes == size]
        inside = np.zeros(len(same), bool)
        for start in range(0, len(same), 512):
            part = same[start:start + 512]
            inside[start:start + 512] = ((kept[None, :] & part[:, None]) == part[:, None]).any(axis=1)
        kept = np.concatenate([kept, same[~inside]])
    return kept
