"""One simulated film ready to be laid out, and what a layout makes of it."""

from __future__ import annotations

import datetime
import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cars_core.digest import digest, seed_from
from cars_core.phantom.body.grid import Grid
from cars_core.phantom.body.markings import markings
from cars_core.phantom.film import HIDDEN, Film
from cars_core.phantom.placed import Placed
from cars_core.phantom.population import FilmSpec, vector_of
from cars_core.phantom.truth import Truth, read_truth, render_truth
from cars_core.phantom.words.report import write_report
from cars_core.phantom.words.statements import Report
from cars_core.vectors import Vector
from cars_core.vocabulary import load_vocabulary

JPEG_QUALITY = 95

#: Years that dates fall into: no living patient can be meant.
_YEARS = (2110, 2200)


@dataclass(frozen=True)
class Drawn:
    """A film of the population, rendered. `number` counts the patients of the cohort from 1.

    vector: what the film shows. hidden: findings the patient has that cannot be seen on it (film.HIDDEN); vector, masks
    and report leave them out, the truth keeps them.
    """

    spec: FilmSpec
    number: int
    truth: Truth
    film: Film
    report: Report
    bits: int
    vector: Vector
    hidden: frozenset[str]

    @cached_property
    def taken(self) -> datetime.datetime:
        """When the film was taken: a day in 2110-2199 that is the patient's own, plus `spec.days`."""
        first, last = (datetime.date(year, 1, 1).toordinal() for year in _YEARS)
        day = first + seed_from("first day", self.spec.patient) % (last - first - 365) + self.spec.days
        second = seed_from("second", self.spec.record) % 86_400
        midnight = datetime.datetime.combine(datetime.date.fromordinal(day), datetime.time())
        return midnight + datetime.timedelta(seconds=second)

    def identity(self, kind: str) -> str:
        """64 hexadecimal digits for this very picture: other pixels or other bits, another identity of the kind."""
        return digest([kind, self.spec.truth, self.bits])

    @property
    def spacing(self) -> float:
        """Side of a pixel at the detector, mm."""
        return round(self.truth.patient.field * 10 / self.truth.size, 6)


@dataclass(frozen=True)
class Laid:
    """`image`: the film's path in the tree. `files`: path -> bytes, the image among them. `rows`: table -> rows."""

    image: str
    files: dict[str, bytes]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Layout(Protocol):
    """How one public cohort names its files and fills its tables."""

    @property
    def name(self) -> str:
        """As `--layout` gives it."""

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits a pixel it can hold, the usual one first."""

    @property
    def like(self) -> str:
        """The cohort it resembles, and how the parts of the simulated one map to its own: for the README."""

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:
        """CSV file (gzip-compressed where it ends in .gz) -> columns; no columns: a plain list, one name a line."""

    def lay(self, drawn: Drawn) -> Laid:
        """Files and rows of one film; a pure function."""


def draw(spec: FilmSpec, *, number: int, bits: int) -> Drawn:
    """Render a film and write its report, which compares with the film before where there is one.

    Raises:
        BadInput: the truth is not one of this phantom's.
    """
    truth = read_truth(spec.truth)
    before = None if spec.prior is None else read_truth(spec.prior)
    film = render_truth(spec.truth, bits=bits)
    hidden = frozenset(finding for finding, contrast in film.contrast.items() if contrast < HIDDEN)
    film = replace(film, finding_masks={k: mask for k, mask in film.finding_masks.items() if k not in hidden})

    def seen(placed: tuple[Placed, ...]) -> tuple[Placed, ...]:
        return tuple(one for one in placed if one.finding not in hidden)

    # What is hidden now is not compared either: the report would call it resolved.
    prior = None if before is None else (seen(before.placed), before.devices)
    report = write_report(patient=truth.patient, placed=seen(truth.placed), devices=truth.devices,
                          seed=seed_from("report", spec.truth), prior=prior, cut=cut_off(film, truth))
    vector = vector_of(seen(truth.placed), truth.devices, load_vocabulary())
    return Drawn(spec, number, truth, film, report, bits, vector, hidden)


def cut_off(film: Film, truth: Truth) -> tuple[str, ...]:
    """Kinds of device whose tip is not on the film: below its lower edge, or under a border round the exposed field.

    Only the nasogastric tube reaches so low; its tip is its lowest point.
    """
    kind = "nasogastric_tube"
    if kind not in film.device_masks:
        return ()
    tube = np.flatnonzero(film.device_masks[kind].any(axis=1))
    seen = film.device_masks[kind]
    if truth.patient.border:
        cover, _ = markings(truth.patient, Grid(truth.patient, truth.size))
        seen = seen & (cover < 0.5)
    lowest = np.flatnonzero(seen.any(axis=1)).max(initial=0)
    return (kind,) if lowest < tube.max(initial=0) or lowest == truth.size - 1 else ()


def png(pixels: NDArray[Any]) -> bytes:
    """PNG of grey pixels uint8 [H, W], or of a mask bool [H, W] at 1 bit a pixel."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Grey JPEG of uint8 [H, W]; the same bytes on one build of Pillow."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()
