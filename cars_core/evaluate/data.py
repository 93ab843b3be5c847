"""Films for the classifier: labelled sets, pixels on disk, and the stream of training batches."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

from cars_core.digest import digest, seed_from
from cars_core.png import eight_bits
from schemas.errors import BadInput

Pixels = NDArray[np.uint8]
DECODERS = 2  # decoding releases the interpreter's lock, and fetching waits for the store


@dataclass(frozen=True)
class FilmSet:
    """Films with labels, without their pixels.

    `objects` are the sha256 names of grey PNG files, `fetch` returns the bytes of one. `labels`
    is float32 [N, K]: 1 present, 0 absent, NaN uncertain or not mentioned (left out of loss and
    measures). `patients` holds one pseudonym a film.

    Raises:
        BadInput: lengths disagree, or a label is something else.
    """

    objects: list[str]
    fetch: Callable[[str], bytes]
    labels: NDArray[np.float32]
    patients: list[str]

    def __post_init__(self) -> None:
        n = len(self.objects)
        if self.labels.ndim != 2 or len(self.labels) != n or len(self.patients) != n:
            raise BadInput("film set", f"{n} films, {len(self.patients)} patients, labels {self.labels.shape}",
                           "one patient and one row of labels a film")
        odd = self.labels[~(np.isnan(self.labels) | np.isin(self.labels, (0, 1)))]
        if odd.size:
            raise BadInput("labels", float(odd[0]), "1, 0 or NaN")

    def __len__(self) -> int:
        return len(self.objects)


def load_pixels(films: Sequence[FilmSet], *, size: int, workdir: Path,
                progress: Callable[[int], None] | None = None) -> list[Pixels]:
    """Decode every film once into a file under `workdir` and map it into memory.

    Each film is padded to a square about its centre with black (aspect kept), then resized with an
    antialiased bilinear filter. A file that is already there is used again: its name is a digest of
    the objects and the size.

    Args:
        films: sets whose pixels are wanted.
        size: height and width of the result in pixels.
        workdir: an existing folder.
        progress: told the number of films done, from time to time.

    Returns:
        One uint8 [N, size, size] map a set, read-only.

    Raises:
        BadInput: an object that is no grey image.
    """
    work = [(one.fetch, name) for one in films for name in one.objects]
    path = workdir / f"films-{digest([size, [name for _, name in work]], length=24)}.u8"
    shape = (len(work), size, size)
    if not path.exists() or path.stat().st_size != math.prod(shape):
        _decode_all(work, shape, path, progress)
    whole = np.memmap(path, np.uint8, "r", shape=shape)
    ends = np.cumsum([len(one) for one in films])
    return [whole[end - len(one):end] for one, end in zip(films, ends, strict=True)]


def _decode_all(work: list[tuple[Callable[[str], bytes], str]], shape: tuple[int, int, int], path: Path,
                progress: Callable[[int], None] | None) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        out = np.memmap(part, np.uint8, "w+", shape=shape)

        def place(i: int) -> None:
            fetch, name = work[i]
            out[i] = decode(fetch(name), size=shape[1], name=name)

        with ThreadPoolExecutor(DECODERS) as pool:
            for start in range(0, len(work), 64):  # a window, so that a fault stops the rest soon
                stop = min(start + 64, len(work))
                list(pool.map(place, range(start, stop)))
                if progress:
                    progress(stop)
        out.flush()
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def decode(data: bytes, *, size: int, name: str) -> Pixels:
    """One film, uint8 [size, size], from the bytes of a grey image; of 16 bits the upper 8 count.

    Raises:
        BadInput: other bytes; `name` says which object.
    """
    try:
        with Image.open(io.BytesIO(data)) as stored:
            film = eight_bits(stored)
            if film.mode != "L":
                raise BadInput(f"object {name}", f"mode {film.mode}", "a grey image")
            return np.asarray(ImageOps.pad(film, (size, size), Image.Resampling.BILINEAR, color=0))
    except (UnidentifiedImageError, OSError, SyntaxError) as e:
        raise BadInput(f"object {name}", f"{len(data)} bytes ({e})", "a grey image") from e


@dataclass(frozen=True)
class Batches:
    """The stream of training batches of one arm: which films, and how each is moved.

    Slot by slot the arms draw the same real films and the same augmentation; in the arm with the
    subset a slot is taken by a subset film at the rate `share`, the subset's share of the union. So
    two arms differ by the subset's films and by nothing else.
    """

    real: int
    subset: int
    batch: int
    steps: int
    seed: int

    @property
    def share(self) -> float:
        """Part of the slots that show a subset film, 0..1."""
        return self.subset / (self.real + self.subset)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield (indices [batch] into real then subset films, affine float32 [batch, 6])."""
        real = _shuffled(self.real, seed_from("evaluate", "real", self.seed))
        subset = _shuffled(self.subset, seed_from("evaluate", "subset", self.seed))
        augment = np.random.default_rng(seed_from("evaluate", "augment", self.seed))
        # Systematic sampling: the arm's share of subset films is exact to one film, not only on average.
        phase = np.random.default_rng(seed_from("evaluate", "phase", self.seed)).random()
        for step in range(self.steps):
            slots = step * self.batch + np.arange(self.batch + 1)
            taken = np.diff(np.floor(slots * self.share + phase)) > 0
            indices = np.array([next(real) for _ in range(self.batch)], np.int64)
            for slot in np.flatnonzero(taken):
                indices[slot] = self.real + next(subset)
            yield indices, torch.from_numpy(augment.uniform(-1, 1, (self.batch, 6)).astype(np.float32))


def _shuffled(n: int, seed: int) -> Iterator[int]:
    """0..n-1 in random order, again and again, each round in a new order."""
    rng = np.random.default_rng(seed)
    while n:
        yield from rng.permutation(n).tolist()


def augmented(films: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Films as another exposure of the same patient might look.

    Shift up to 4 % of the side, scale within 6 %, rotation within 6 degrees, brightness within 0.08
    and contrast within 10 %. Never mirrored: a mirrored film is another diagnosis (dextrocardia, the
    other side's effusion).

    Args:
        films: float32 [B, 1, S, S] in 0..1.
        moves: float32 [B, 6] in -1..1: x, y, scale, rotation, brightness, contrast.

    Returns:
        float32 [B, 1, S, S] in 0..1; what comes in from outside the film is black.
    """
    x, y, scale, turn, light, contrast = moves.unbind(1)
    scale, turn = 1 + 0.06 * scale, turn * math.radians(6)
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    # grid coordinates run from -1 to 1, so a shift of 0.08 is 4 % of the side
    affine = torch.stack([torch.stack([cos, -sin, 0.08 * x], 1), torch.stack([sin, cos, 0.08 * y], 1)], 1)
    grid = F.affine_grid(affine, list(films.shape), align_corners=False)
    moved = F.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    gain = (1 + 0.1 * contrast)[:, None, None, None]
    return ((moved - 0.5) * gain + 0.5 + 0.08 * light[:, None, None, None]).clamp_(0, 1)
