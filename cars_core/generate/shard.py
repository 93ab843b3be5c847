"""A shard: a slice of the plan, rendered edit by edit and committed chunk by chunk.

What is done is known by content: an edit that the `renders` table holds is never made again, whatever
shard or build asks for it. A process killed in mid-chunk loses that chunk and nothing else.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import pyarrow as pa
import torch

from cars_core.anatomy.segment import Segmenter, load_segmenter, require_lungs
from cars_core.digest import digest
from cars_core.generate.denoiser import Denoiser, load_denoiser
from cars_core.generate.edit import CODE, edit_film
from cars_core.lake.lake import Lake
from cars_core.png import png_bytes, read_png
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput
from schemas.recipe import Editor
from schemas.tables import RENDERS


def render_key(settings: Editor, *, editor: str, segmenter: str) -> str:
    """Names everything beside the plan row that decides an edit's pixels: weights, sampler, code."""
    from cars_core.anatomy.regions import POLICY

    return digest(["render", CODE, POLICY, editor, segmenter, settings.steps, settings.guidance])


def stack_name() -> str:
    """What pixels were made on; bit-exactness is promised on one stack only."""
    return f"torch {torch.__version__}, diffusers {diffusers.__version__}, cpu {platform.machine()}, float32"


def renders_of(lake: Lake, edits: list[str]) -> dict[str, dict[str, Any]]:
    """RENDERS rows of some edits by id, one an edit: where two builds made it at once, one with a picture."""
    rows = lake.read("renders", where={"edit_id": edits}).to_pylist()
    return {r["edit_id"]: r for r in sorted(rows, key=lambda r: (r["object"] is not None, r["object"] or ""))}


def shards(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of plan ranks."""
    for start in range(0, total, size):
        yield start, min(total, start + size)


def plan_rows(lake: Lake, build: str, start: int, stop: int) -> list[dict[str, Any]]:
    """The plan's rows with rank in [start, stop), in rank order."""
    rows = lake.read("plan", where={"build": build, "rank": range(start, stop)}).to_pylist()
    return sorted(rows, key=lambda r: r["rank"])


def render_shard(
    lake: Lake,
    *,
    build: str,
    start: int,
    stop: int,
    settings: Editor,
    vocabulary: Vocabulary,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Render what is missing of a slice of the plan.

    An edit that cannot be made (no lungs found, an operation the editor refuses) becomes a row with its
    error; the rest goes on. A film that the lake has lost or damaged is the lake's fault, not the edit's:
    it ends the shard, and the edit stays to be made. Returns counts: made, failed, reused.

    Raises:
        BadInput: weights other than those the plan was made for.
        OSError, RuntimeError: the lake cannot be read or written.
    """
    rows = plan_rows(lake, build, start, stop)
    done = renders_of(lake, [r["edit_id"] for r in rows])
    missing = [r for r in rows if r["edit_id"] not in done]
    counts = {"made": 0, "failed": 0, "reused": len(rows) - len(missing)}
    progress(counts["reused"], len(rows))
    if not missing:
        return counts
    denoiser, segmenter = load_denoiser(settings.weights), load_segmenter(settings.segmenter)
    require_weights(missing, editor=denoiser.digest, segmenter=segmenter.digest)
    for at in range(0, len(missing), settings.chunk):
        chunk = missing[at : at + settings.chunk]
        made = []
        for row in chunk:
            made.append(
                render_edit(lake, row, settings=settings, denoiser=denoiser, segmenter=segmenter, vocabulary=vocabulary)
            )
            counts["failed" if made[-1]["error"] else "made"] += 1
            progress(counts["reused"] + counts["made"] + counts["failed"], len(rows))
        lake.append(
            "renders",
            pa.Table.from_pylist(made, schema=RENDERS),
            key=digest(["renders", [r["edit_id"] for r in chunk]]),
        )
    return counts


def require_weights(rows: list[dict[str, Any]], *, editor: str, segmenter: str) -> None:
    """Raises BadInput unless the loaded weights are those the plan's rows name: else one edit_id would
    stand for two pictures."""
    for row in rows:
        for kind, loaded in (("editor", editor), ("segmenter", segmenter)):
            if row[kind] != loaded:
                raise BadInput(
                    f"{kind} weights", loaded[:12], f"{row[kind][:12]}, which edit {row['edit_id']} was planned for"
                )


def render_edit(
    lake: Lake,
    row: dict[str, Any],
    *,
    settings: Editor,
    denoiser: Denoiser,
    segmenter: Segmenter,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Make one planned edit and store its pictures; returns its RENDERS row."""
    began = time.perf_counter()
    out: dict[str, Any] = {
        "edit_id": row["edit_id"],
        "object": None,
        "mask": None,
        "error": None,
        "stack": stack_name(),
    }
    try:
        film = read_png(lake.get(row["object"]))
        anatomy = segmenter(film)
        require_lungs(film, anatomy, where="source film")
        edited = edit_film(
            film,
            operations=row["operations"],
            anatomy=anatomy,
            source_present=row["source_present"],
            seed=row["seed"],
            denoiser=denoiser,
            steps=settings.steps,
            guidance=settings.guidance,
            vocabulary=vocabulary,
        )
        out["object"], out["mask"] = lake.put(png_bytes(edited.film)), lake.put(png_bytes(edited.mask))
    except BadInput as e:
        out["error"] = str(e)
    out["seconds"] = round(time.perf_counter() - began, 4)
    return out
