"""What the screen makes of films it was not trained on: passed, turned, flagged, set aside, and how long it takes.

    python benchmarks/screen.py --root ../shared/data/cxr-open [--sheet out.png] [--weights FOLDER]

Sets: NIH films and article films of held-out patients, upright, turned by every quarter, squeezed, mirrored, tilted,
inverted; NIH films stored rotated and upright ones beside them; films of children; simulated films of another seed; the
open DICOM files (a leg among them); simulated pictures of other things; photographs of scikit-image and slices of
pydicom's own test files, as far as these packages bring them. An error is whatever differs from what the set's name
asks for. Intervals are Wilson's, 95 %; ms is processor time of `judge`, a film.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

from cars_core.cohort.films import decode
from cars_core.cohort.screen import train
from cars_core.cohort.screen.judge import Screened, judge, screen

Pixels = NDArray[np.uint8]
TILE = 128


def wilson(errors: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson, JASA 1927)."""
    z, p = 1.959964, errors / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float((middle - half) / (1 + z * z / n))), min(1.0, float((middle + half) / (1 + z * z / n)))


def dicom_film(path: Path) -> Pixels | None:
    """Frame 0 of a DICOM file as shown, uint8 [H, W]; None where pydicom cannot decode it."""
    import pydicom
    from pydicom.pixels import apply_voi_lut

    try:
        file = pydicom.dcmread(path)
        array: Any = np.asarray(file.pixel_array)
        if file.get("NumberOfFrames", 1) not in (None, 1) and array.ndim > 2:
            array = array[0]
        array = np.asarray(array.mean(axis=2) if array.ndim == 3 else apply_voi_lut(array, file), float)
    except Exception:  # whatever a codec that is not here or a file broken on purpose may raise
        return None
    if array.ndim != 2 or min(array.shape) < 64 or array.max() <= array.min():
        return None
    grey = (array - array.min()) / (array.max() - array.min())
    if file.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 1 - grey
    return np.rint(255 * grey).astype(np.uint8)


def photographs() -> Iterator[Pixels]:
    """Grey copies of the pictures that come with scikit-image's wheel."""
    try:
        import skimage
    except ImportError:
        return
    for path in sorted((Path(skimage.__file__).parent / "data").glob("*.*")):
        if path.suffix in (".png", ".jpg", ".tif", ".tiff", ".gif"):
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("L"), np.uint8)
            except OSError:  # colours that Pillow does not read
                continue
            if min(pixels.shape) >= 64 and np.ptp(pixels) > 0:
                yield pixels


def slices() -> Iterator[Pixels]:
    """Pictures in pydicom's own test files; the chest film among them is left out."""
    import pydicom

    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        pixels = dicom_film(path)
        if pixels is not None and len(np.unique(pixels)) > 16:
            yield pixels


def sets(root: Path) -> Iterator[tuple[str, str, list[Pixels]]]:
    """(name, what is asked for, films): "upright", "set aside", or "turned K" for K quarter turns to undo."""
    real = train.real_films(root)
    for name in ("nih14", "covid_cxr_open"):
        held = [f.pixels for f in real[name] if f.held_out]
        yield f"{name} held out", "upright", held
        for k in (1, 2, 3):
            yield f"  turned by {90 * k}", f"turned {4 - k}", [np.rot90(f, k) for f in held]
        if name == "nih14":
            for squeezed, to in (("lower", (1, 2 / 3)), ("narrower", (2 / 3, 1))):
                small = [_scaled(f, *to) for f in held]
                yield f"  a third {squeezed}", "upright", small
                yield "    and turned by 90", "turned 3", [np.rot90(f) for f in small]
            yield "  mirrored", "upright", [np.ascontiguousarray(f[:, ::-1]) for f in held]
            for tilt in (-12, 12):
                yield f"  tilted by {tilt}", "upright", [np.asarray(Image.fromarray(f).rotate(tilt)) for f in held]
            yield "  inverted", "negative", [255 - f for f in held]
    yield "nih14 trained on", "upright", [f.pixels for f in real["nih14"] if not f.held_out]
    yield "covid trained on", "upright", [f.pixels for f in real["covid_cxr_open"] if not f.held_out]
    table = root / "nih14_rotated_qc"
    with open(table / "labels.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    for name, label, asked in (("rotated_qc, upright", "0", "upright"), ("rotated_qc, rotated", "1", "turned 3")):
        yield name, asked, [decode(table / r["file"]) for r in rows if r["rotated_90ccw"] == label]
    yield "children", "upright", [decode(p) for p in sorted((root / "kermany_paediatric" / "images_224").iterdir())]
    for path in sorted((root / "dicom").glob("*.dcm")):
        film = dicom_film(path)
        if film is not None:
            yield f"DICOM {path.stem[:22]}", "set aside" if "extremity" in path.stem else "upright", [film]
    simulated = train.simulated_films(400, seed=97, size=192)
    yield "simulated", "upright", simulated
    yield "  turned by 90", "turned 3", [np.rot90(f) for f in simulated]
    chests = [np.asarray(Image.fromarray(f.pixels).resize((256, 256))) for f in real["nih14"] if f.held_out]
    yield "simulated lateral", "set aside", train.lateral_films(200, seed=98, size=128)
    yield "simulated others", "set aside", train.other_pictures(500, chests, seed=98, size=128)
    yield "photographs", "set aside", list(photographs())
    yield "slices", "set aside", list(slices())


def _scaled(film: Pixels, x: float, y: float) -> Pixels:
    height, width = film.shape
    to = (round(width * x), round(height * y))
    return np.asarray(Image.fromarray(film).resize(to, Image.Resampling.BOX), np.uint8)


def wrong(asked: str, made: Screened) -> bool:
    """Whether a verdict differs from what was asked for."""
    if asked.startswith("turned"):
        return made.verdict != "repaired" or made.judgement.quarter_turns != int(asked[-1])
    if asked == "negative":
        return made.reason != "may be a negative"
    return made.verdict != asked


def sheet(tiles: Sequence[tuple[str, Pixels]], out: Path) -> None:
    """A contact sheet of films, each under its caption."""
    columns = max(1, min(12, len(tiles)))
    page = Image.new("L", (columns * TILE, max(1, -(-len(tiles) // columns)) * (TILE + 12)), 40)
    draw = ImageDraw.Draw(page)
    for i, (caption, pixels) in enumerate(tiles):
        at = (i % columns * TILE, i // columns * (TILE + 12))
        draw.text(at, caption[:21], fill=255)
        page.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize((TILE - 2, TILE - 2), Image.Resampling.BOX),
                   (at[0], at[1] + 12))
    page.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the open films")
    parser.add_argument("--sheet", type=Path, help="a picture of every film that was judged wrongly or not passed")
    parser.add_argument("--weights", type=Path, help="other weights than the committed ones")
    given = parser.parse_args()
    tiles: list[tuple[str, Pixels]] = []
    print("| set | films | upright | repaired | flagged | set aside | errors | 95 % | ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    with threadpool_limits(limits=1):
        for name, asked, films in sets(given.root):
            if not films:
                continue
            made = [screen(f, weights=given.weights) for f in films]
            began = time.process_time()
            for f in films[:50]:
                judge(f, weights=given.weights)
            ms = 1000 * (time.process_time() - began) / len(films[:50])
            count = Counter(m.verdict for m in made)
            bad = [wrong(asked, m) for m in made]
            low, high = wilson(sum(bad), len(films))
            print(f"| {name} | {len(films)} | {count['upright']} | {count['repaired']} | {count['flagged']} "
                  f"| {count['set aside']} | {sum(bad)} | {100 * low:.1f} to {100 * high:.1f} | {ms:.1f} |", flush=True)
            for f, m, b in zip(films, made, bad, strict=True):
                quiet = asked in ("set aside", "negative") or asked.startswith("turned")
                if b or (m.verdict != "upright" and not quiet):
                    j = m.judgement
                    tiles.append((f"{m.verdict[:4]}{j.quarter_turns} {j.turn_confidence:.2f} {j.chest:.2f} "
                                  f"{name.strip()[:6]}", f))
    if given.sheet is not None:
        sheet(tiles, given.sheet)


if __name__ == "__main__":
    main()
