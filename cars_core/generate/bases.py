"""The films the editor is trained on: training patients of a cohort, and simulated ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from cars_core.anatomy.segment import Segmenter, require_lungs
from cars_core.cohort.ingest import split_rows
from cars_core.digest import bytes_digest, seed_from
from cars_core.generate.pairs import Base
from cars_core.lake.lake import Lake
from cars_core.phantom.body.patient import draw_patient
from cars_core.phantom.film import render
from cars_core.phantom.placed import Placed
from cars_core.png import read_png
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Progress = Callable[[int, int], None]

#: Films are trained on at this height: the model sees regions, and smaller films make pairs faster.
HEIGHT = 320

#: Films held at the most, about 0.5 MB each.
MOST = 2000


def cohort_bases(lake: Lake, cohort: str, segmenter: Segmenter, *, progress: Progress) -> list[Base]:
    """Films of a cohort's training patients, with the segmenter's masks; those without both lungs are left out.

    Of a larger cohort, MOST films by digest: they are held in memory.
    """
    rows = split_rows(lake, cohort).sort_by("image_id").slice(0, MOST).to_pylist()
    out = []
    for i, row in enumerate(rows):
        film = read_png(lake.get(row["object"]))
        size = (round(film.shape[1] * HEIGHT / film.shape[0]), HEIGHT)
        film = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.LANCZOS), np.uint8)
        anatomy = segmenter(film)
        progress(i + 1, len(rows))
        try:
            require_lungs(film, anatomy, where="training film")
        except BadInput:
            continue
        out.append(Base(film, anatomy, row["present"], row["image_id"], row["patient"]))
    return out


def simulated_bases(n: int, *, seed: int, vocabulary: Vocabulary, progress: Progress) -> list[Base]:
    """Simulated patients of their own (no build's cohort has them) without lung findings, a third with a
    wide heart; masks known."""
    out, heart = [], 1 << vocabulary["cardiomegaly"].bit
    for i in range(n):
        at = seed_from("editor", seed, i)
        wide = at % 3 == 0
        placed = (Placed("cardiomegaly", "both", 0.1 + 0.8 * (at % 97) / 97, at),) if wide else ()
        made = render(draw_patient(at), placed, size=HEIGHT, noise_seed=at)
        out.append(
            Base(
                made.pixels, made.anatomy, heart if wide else 0, bytes_digest(made.pixels.tobytes()), f"simulated-{at}"
            )
        )
        progress(i + 1, n)
    return out
