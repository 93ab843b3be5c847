"""One film edited by hand, outside any build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

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


def edit_command(note: Console) -> Callable[..., None]:
    """The function behind `cars edit`; words go to `note`."""

    def edit(
        image: Annotated[Path, typer.Argument(help="A frontal chest film, PNG or JPEG.")],
        out: Annotated[Path, typer.Option("--out", help="Where the edited film goes (PNG).")],
        insert: Annotated[
            list[str] | None,
            typer.Option(
                "--insert", metavar="FINDING[:SIDE[:SEVERITY]]", help="Put a finding in, as in effusion:left:0.7."
            ),
        ] = None,
        delete: Annotated[
            list[str] | None, typer.Option("--delete", metavar="FINDING[:SIDE]", help="Take a finding out.")
        ] = None,
        seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another place and shape.")] = 0,
        masks: Annotated[
            Path | None, typer.Option("--masks", help="Folder for mask.png (255 edit, 128 free band, 0 keep).")
        ] = None,
        steps: Annotated[int, typer.Option("--steps", min=1, max=200)] = 20,
        guidance: Annotated[float, typer.Option("--guidance", min=0, max=20)] = 1.5,
        weights: Annotated[str | None, typer.Option("--weights", help="Folder of other editor weights.")] = None,
    ) -> None:
        """Edit one film by hand, at its own size, and print what was measured. Not for diagnosis."""
        measures, reasons, words = edit_by_hand(
            image,
            out=out,
            insert=insert or [],
            delete=delete or [],
            seed=seed,
            masks=masks,
            steps=steps,
            guidance=guidance,
            weights=weights,
        )
        table = Table(title=f"{words} -> {out}")
        table.add_column("measure")
        table.add_column("value", justify="right")
        for name, value in measures.items():
            table.add_row(name, f"{value:.4g}")
        note.print(table)
        if reasons:
            note.print("rejected by the default gates: " + "; ".join(reasons), highlight=False)
        else:
            note.print("Passed the structural gates. They do not judge the finding: look at the picture.")

    return edit
