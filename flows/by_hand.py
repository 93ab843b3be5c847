"""One film edited by hand, outside any build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cars_core.cohort.films import UnusableFilm, decode
from cars_core.vocabulary import Vocabulary, load_vocabulary
from schemas.errors import BadInput
from schemas.recipe import Gates


def parse_operation(kind: str, text: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """`finding[:side[:severity]]` -> operation. An insertion goes left unless said otherwise, a deletion
    is looked for on both sides; severity is 0.6 unless said otherwise.

    Raises:
        BadInput: an unknown finding, side or severity.
    """
    name, *rest = text.split(":")
    finding = vocabulary[name]
    side = rest[0] if rest and rest[0] else ("left" if kind == "insert" and finding.sided else "both")
    if side not in ("left", "right", "both") or len(rest) > 2:
        raise BadInput(f"--{kind}", text, "FINDING[:left|right|both[:SEVERITY]]")
    try:
        severity = float(rest[1]) if len(rest) == 2 else 0.6
    except ValueError:
        severity = -1.0
    if not 0 <= severity <= 1:
        raise BadInput(f"--{kind}", text, "a severity from 0 to 1")
    return {"kind": kind, "finding": name, "side": side, "severity": severity}


def edit_by_hand(
    image: Path,
    *,
    out: Path,
    insert: list[str],
    delete: list[str],
    seed: int,
    masks: Path | None,
    steps: int,
    guidance: float,
    weights: str | None,
) -> tuple[dict[str, float], list[str], str]:
    """Edit a film; returns its measures, the default gates' reasons against it, and what was done in words.

    Raises:
        BadInput: nothing asked, an unreadable film, one without lungs, an operation the editor does not offer.
    """
    vocabulary = load_vocabulary()
    operations = [parse_operation("delete", d, vocabulary) for d in delete] + [
        parse_operation("insert", i, vocabulary) for i in insert
    ]
    if not operations:
        raise BadInput("cars edit", "no operation", "--insert FINDING or --delete FINDING")
    twice = {o["finding"] for o in operations if [p["finding"] for p in operations].count(o["finding"]) > 1}
    if twice:
        raise BadInput("cars edit", ", ".join(sorted(twice)), "each finding once")
    if out.suffix.lower() != ".png":
        raise BadInput("--out", str(out), "a .png file (lossless, so that kept pixels stay as they are)")
    if not image.is_file():
        raise BadInput("image", str(image), "a PNG or JPEG file")
    try:
        film = decode(image)
    except UnusableFilm as e:
        raise BadInput("image", str(image), f"a readable film ({e})") from e
    # Only now what takes seconds to import: a wrong argument is told at once.
    from cars_core.anatomy.segment import load_segmenter, require_lungs
    from cars_core.generate.denoiser import load_denoiser
    from cars_core.generate.edit import edit_film
    from cars_core.png import png_bytes
    from cars_core.quality.gates import verdict
    from cars_core.quality.measures import measure

    denoiser, segmenter = load_denoiser(weights), load_segmenter()
    anatomy = segmenter(film)
    require_lungs(film, anatomy, where=str(image))
    edited = edit_film(
        film,
        operations=operations,
        anatomy=anatomy,
        source_present=vocabulary.mask([o["finding"] for o in operations if o["kind"] == "delete"]),
        seed=seed,
        denoiser=denoiser,
        steps=steps,
        guidance=guidance,
        vocabulary=vocabulary,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(png_bytes(edited.film))
        if masks is not None:
            masks.mkdir(parents=True, exist_ok=True)
            (masks / "mask.png").write_bytes(png_bytes(edited.mask))
    except OSError as e:
        raise BadInput("--out", str(out), f"a place that can be written ({e.strerror})") from e
    measures = measure(
        source=film, edit=edited.film, mask=edited.mask, source_anatomy=anatomy, edit_anatomy=segmenter(edited.film)
    )
    _, reasons = verdict(measures, operations, Gates(), vocabulary=vocabulary)
    words = ", ".join(f"{o['kind']} {o['finding']} ({o['side']}, severity {o['severity']:g})" for o in operations)
    return measures, reasons, words
