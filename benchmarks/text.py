"""Burned-in text found and falsely found: on real films as they are, and on real films with lines drawn on them.

    python benchmarks/text.py --root ../shared/data/cxr-open [--lines 60] [--sheet text.png] [--fonts FOLDER]

Also the films taken for photographs or for blank ones, and simulated photographs and exposures. Intervals are
Wilson's, 95 %. Lines are names, dates, numbers and hospitals, drawn at twice the film's size and shrunk with it, JPEG
85, white or black where that can be read, or on a strip; fonts are those found in `--fonts`, else Pillow's own. A
height is a capital letter's, in percent of the short side of a film of 512 pixels. `--sheet` shows all that is flagged
on real films, and what is missed among the drawn.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from near import SETS, wilson
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cars_core.cohort.screen.photo import is_photograph, nearly_blank
from cars_core.cohort.screen.text import Pixels, burned_in_text, text_lines

FIRST = ["JAMES", "MARY", "ROBERT", "LINDA", "DAVID", "SUSAN", "CARLOS", "ANNA", "Peter", "Karin", "Hans", "Thomas",
         "Emily", "Jose", "Olga", "Samuel", "Grace"]
LAST = ["SMITH", "JOHNSON", "GARCIA", "MILLER", "BROWN", "WILSON", "MARTINEZ", "ANDERSON", "TAYLOR", "Schneider",
        "Fischer", "Weber", "Wagner", "Becker", "Hoffmann", "Lopez", "Nguyen", "Kowalski", "OBRIEN", "PETERSON",
        "STANLEY", "SPENCER", "DELGADO", "PORTER"]
PLACES = ["General Hospital", "Klinikum Nord", "St. Mary Hosp", "University Hosp", "Radiology Dept", "Hosp. Central"]


def line(rng: np.random.Generator) -> str:
    return [
        lambda: f"{rng.choice(LAST)} {rng.choice(FIRST)}", lambda: f"{rng.choice(LAST)}, {rng.choice(FIRST)}",
        lambda: f"{rng.integers(1, 29):02}.{rng.integers(1, 13):02}.{rng.integers(1930, 2015)}",
        lambda: f"{rng.integers(1930, 2015)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02} 14:22",
        lambda: f"MRN {rng.integers(10**6, 10**7)}", lambda: f"{rng.integers(10**7, 10**8)}",
        lambda: str(rng.choice(PLACES)),
        lambda: "".join(rng.choice(list("ABCDEFGHIKLMNOPRSTUVWZ"), rng.integers(8, 12))),
    ][rng.integers(8)]()


def drawn(film: Pixels, words: list[str], *, height: float, rng: np.random.Generator, fonts: list[Path],
          strip: bool) -> Pixels:
    """The film at 512 pixels with lines of text of that capital height, in percent of the short side."""
    scale = 1024 / min(film.shape)
    image = Image.fromarray(film).resize((round(film.shape[1] * scale), round(film.shape[0] * scale)))
    size, want = 20.0, height / 100 * 1024
    path = fonts[rng.integers(len(fonts))] if fonts else None

    def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.truetype(path, size) if path else ImageFont.load_default(size=size)
    box = font(size).getbbox("H")
    letters = font(size * want / (box[3] - box[1]))
    draw, text = ImageDraw.Draw(image), "\n".join(words)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=letters)
    for _ in range(200):
        x = rng.uniform(8, max(9, image.width - right - 8))
        y = rng.uniform(8, max(9, image.height - bottom - 8))
        at = (int(x + left), int(y + top), int(x + right), int(y + bottom))
        under = np.asarray(image.crop(at))
        if strip:
            dark = bool(rng.integers(2))
            draw.rectangle((at[0] - 6, at[1] - 6, at[2] + 6, at[3] + 6), fill=0 if dark else 255)
            draw.text((x, y), text, fill=255 if dark else 0, font=letters)
            break
        if np.quantile(under, 0.95) < 180 or np.quantile(under, 0.05) > 75:
            draw.text((x, y), text, fill=255 if np.quantile(under, 0.95) < 180 else 0, font=letters)
            break
    else:
        raise RuntimeError("no place where the text can be read")
    image = image.resize((round(image.width / 2), round(image.height / 2)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return np.asarray(Image.open(out))


def photographed(film: Pixels, rng: np.random.Generator, *, colour: bool, tilt: float, cropped: bool,
                 moire: bool) -> Pixels:
    """A film on a lit box or a screen as a phone takes it, uint8 [H, W, 3] or, without colour, [H, W].

    Args:
        tilt: how far the corners of the field are moved, as a share of the picture's width.
        cropped: only the field is kept, cut inside its edges.
    """
    wide, high = 900, 760
    box = np.full((700, 700), rng.integers(215, 250) if rng.integers(2) else rng.integers(40, 60), float)  # box, screen
    rim = int(rng.integers(20, 90))
    box[rim:-rim, rim:-rim] = np.asarray(Image.fromarray(film).resize((700 - 2 * rim, 700 - 2 * rim)), float)
    if moire:
        y, x = np.indices(box.shape)
        box += rng.uniform(5, 12) * np.sin(2 * np.pi * (x * rng.uniform(0.08, 0.2) + y * rng.uniform(0.05, 0.2)))
    corners = np.array([(150, 90), (750, 90), (750, 670), (150, 670)], float) + rng.uniform(-tilt, tilt, (4, 2)) * wide
    source = np.array([(0, 0), (700, 0), (700, 700), (0, 700)], float)
    rows = [r for (x, y), (u, v) in zip(corners, source, strict=True)
            for r in ((x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y))]
    way = np.linalg.solve(np.array(rows), source.ravel())
    lit = Image.fromarray(np.clip(box, 0, 255).astype(np.uint8)).transform(
        (wide, high), Image.Transform.PERSPECTIVE, tuple(way), Image.Resampling.BICUBIC, fillcolor=0)
    y, x = np.indices((high, wide))
    light = 1 - rng.uniform(0.1, 0.5) * np.hypot((x - rng.uniform(300, 600)) / wide, (y - rng.uniform(200, 500)) / high)
    glare = rng.uniform(0, 80) * np.exp(-np.hypot(x - rng.uniform(0, wide), y - rng.uniform(0, high)) ** 2 / 2 / 60**2)
    room = rng.uniform(5, 40) * (0.7 + 0.3 * np.sin(x / rng.uniform(40, 200)) * np.cos(y / rng.uniform(40, 200)))
    seen = np.maximum(np.asarray(lit, float) * light, room) + glare + rng.normal(0, rng.uniform(1, 6), (high, wide))
    if cropped:
        inner = corners.mean(0) + 0.8 * (corners - corners.mean(0))
        seen = seen[int(max(inner[:2, 1])):int(min(inner[2:, 1])), int(max(inner[[0, 3], 0])):int(min(inner[1:3, 0]))]
    shown = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
    if colour:
        cast = rng.permutation([1.0, rng.uniform(0.85, 0.95), rng.uniform(0.7, 0.85)])
        shown = Image.fromarray(np.clip(np.asarray(shown, float)[..., None] * cast, 0, 255).astype(np.uint8))
    shown = shown.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=80)
    return np.asarray(Image.open(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=60, help="films a row of the table")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"))
    given = parser.parse_args()
    fonts = sorted(p for p in given.fonts.rglob("*.ttf")
                   if p.name.startswith(("DejaVuSans", "DejaVuSerif", "Liberation")))
    films = {name: [(p.name, np.asarray(Image.open(p).convert("L"))) for p in sorted((given.root / folder).glob("*"))]
             for name, folder in SETS.items()}

    shown: list[tuple[str, Pixels]] = []
    times: list[float] = []
    flagged: set[str] = set()
    for name, items in films.items():
        marked = 0
        for file, film in items:
            start = time.process_time()
            found = burned_in_text(film)
            times.append(time.process_time() - start)
            marked += found.words > 0
            if found.suspicious:
                flagged.add(file)
                shown.append((f"{name} {file}", film))
        k = sum(file in flagged for file, _ in items)
        start = time.process_time()
        photos_found = sum(is_photograph(film).photograph for _, film in items)
        each = (time.process_time() - start) / len(items)
        print(f"{name}: suspicious {wilson(k, len(items))}; some text {marked}; "
              f"photographs {wilson(photos_found, len(items))}, {1000 * each:.1f} ms; "
              f"blank {wilson(sum(nearly_blank(f) for _, f in items), len(items))}")
    middle, slow = 1000 * np.quantile(times, (0.5, 0.9))
    print(f"text: {middle:.1f} ms of one processor a film (90 %: {slow:.1f})")

    plain = [film for file, film in films["NIH"] if burned_in_text(film).words <= 1]
    rng = np.random.default_rng(0)
    for height in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0):
        hits = {False: 0, True: 0}
        for strip in hits:
            for _ in range(given.lines):
                words = line(rng)
                film = drawn(plain[rng.integers(len(plain))], [words], height=height, rng=rng, fonts=fonts,
                             strip=strip)
                if burned_in_text(film).suspicious:
                    hits[strip] += 1
                elif height >= 2:
                    shown.append((f"missed {height} {words}", film))
        print(f"one line, {height} %: on the film {wilson(hits[False], given.lines)}; "
              f"on a strip {wilson(hits[True], given.lines)}")
    usual = [["AB"], ["R"], ["PORTABLE"], ["AP", "PORTABLE"], ["L", "SUPINE"], ["12:45"], ["ERECT", "CDM"]]
    short = [["SMITH", "ROBERT"], ["DOE", "JANE", "12.3.56"], ["Weber", "Hans", "1951"]]
    for words, name in ((usual, "usual marks (to pass)"), (short, "several short lines (to be found)")):
        k = sum(burned_in_text(drawn(plain[rng.integers(len(plain))], words[i % len(words)], height=2.5, rng=rng,
                                     fonts=fonts, strip=False)).suspicious for i in range(given.lines))
        print(f"{name}: suspicious {wilson(k, given.lines)}")
    kinds: dict[str, dict[str, Any]] = {
        "colour, tilted": {"colour": True, "tilt": 0.04, "cropped": False, "moire": False},
        "colour, cropped": {"colour": True, "tilt": 0.04, "cropped": True, "moire": False},
        "grey, tilted": {"colour": False, "tilt": 0.04, "cropped": False, "moire": False},
        "grey, nearly square on": {"colour": False, "tilt": 0.005, "cropped": False, "moire": False},
        "grey, moire, cropped": {"colour": False, "tilt": 0.04, "cropped": True, "moire": True},
        "grey, cropped": {"colour": False, "tilt": 0.04, "cropped": True, "moire": False},
    }
    photos: list[tuple[str, Pixels]] = []
    for name, how in kinds.items():
        k = 0
        for i in range(given.lines):
            photo = photographed(plain[rng.integers(len(plain))], rng, **how)
            found = is_photograph(photo)
            k += found.photograph
            if i < 4:
                photos.append((f"{name}: {'found' if found.photograph else 'missed'}", photo))
        print(f"photographed, {name}: found {wilson(k, given.lines)}")
    for name, curve in (("underexposed to 12 levels", lambda f: f // 22 + 235),
                        ("overexposed to 12 levels", lambda f: f // 22),
                        ("noise of 2 levels", lambda f: np.rint(128 + rng.normal(0, 2, f.shape))),
                        ("24 levels", lambda f: 100 + f * (24 / 255)),
                        ("40 levels (to pass)", lambda f: 100 + f * (40 / 255))):
        k = 0
        for _ in range(given.lines):
            film = curve(plain[rng.integers(len(plain))].astype(int)).astype(np.uint8)
            film[8:40, 8:20], film[:, -6:], film[-4:] = 255, 0, 255  # a marker and borders
            k += nearly_blank(film)
        print(f"{name}, with a marker and borders: blank {wilson(k, given.lines)}")
    if given.sheet:
        sheet(given.sheet, shown + photos)


def sheet(to: Path, shown: list[tuple[str, Pixels]], side: int = 300) -> None:
    page = Image.new("RGB", (6 * side, max(1, -(-len(shown) // 6)) * side))
    for i, (text, film) in enumerate(shown):
        small = Image.fromarray(film).convert("RGB")
        mark = ImageDraw.Draw(small)
        for found in text_lines(film) if film.ndim == 2 else []:
            top, bottom, left, right = found.box
            mark.rectangle((left - 2, top - 2, right + 1, bottom + 1),
                           outline=(255, 80, 0) if found.unusual >= 4 else (0, 160, 255))
        small.thumbnail((side - 4, side - 20))
        page.paste(small, (i % 6 * side, i // 6 * side + 16))
        ImageDraw.Draw(page).text((i % 6 * side + 2, i // 6 * side + 2), text, fill=(255, 255, 255))
    page.save(to)


if __name__ == "__main__":
    main()
