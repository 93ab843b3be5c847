"""How well near-duplicates are found: distances of distinct films, and of films and what was made of them.

    python benchmarks/near.py --root ../shared/data/cxr-open [--every 4] [--sheet near.png]

Each film of a set is of another patient. Distances are in bits of 575; intervals are Wilson's, 95 %. `--every` takes
each so many films for the altered ones (all are compared with each other). `--sheet` shows the nearest pairs of
distinct files, to be judged by eye: open sets may hold the same film twice.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.stats import norm

from cars_core.cohort.near import BITS, THRESHOLD, NearIndex, Pixels, perceptual_hash, reframed_hashes

SETS = {"NIH": "nih14/images_512", "COVID": "covid_cxr_open/images_512", "NIH rotated": "nih14_rotated_qc/images_256",
        "children": "kermany_paediatric/images_224"}
Change = Callable[[Pixels], Pixels]


def wilson(k: int, n: int) -> str:
    """k of n and its interval, in percent."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (max(0.0, (middle + s * half) / (1 + z * z / n)) for s in (-1, 1))
    return f"{k} of {n}, {100 * p:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def jpeg(quality: int) -> Change:
    def change(film: Pixels) -> Pixels:
        out = io.BytesIO()
        Image.fromarray(film).save(out, "JPEG", quality=quality)
        return np.asarray(Image.open(out).convert("L"))
    return change


def resized(scale: float) -> Change:
    def change(film: Pixels) -> Pixels:
        height, width = film.shape
        to = (max(64, round(width * scale)), max(64, round(height * scale)))
        return np.asarray(Image.fromarray(film).resize(to, Image.Resampling.BICUBIC))
    return change


def curve(f: Callable[[np.ndarray], np.ndarray]) -> Change:
    table = np.rint(255 * np.clip(f(np.arange(256) / 255), 0, 1)).astype(np.uint8)
    return lambda film: table[film]


def cut(left: float, top: float, right: float, bottom: float) -> Change:
    def change(film: Pixels) -> Pixels:
        h, w = film.shape
        return film[round(top * h):h - round(bottom * h), round(left * w):w - round(right * w)]
    return change


def blurred(sigma: float) -> Change:
    return lambda film: np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(sigma)))


def lettered(film: Pixels) -> Pixels:
    h, w = film.shape
    image = Image.fromarray(film)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=max(8, h / 18))
    draw.text((0.05 * w, 0.06 * h), "L PORTABLE", fill=255, font=font)
    draw.text((0.7 * w, 0.85 * h), "12:30", fill=255, font=font)
    return np.asarray(image)


def deep(film: Pixels) -> Pixels:
    """As from a 16-bit file: the container half empty, grain, stretched from its own least to its greatest."""
    x = film * 120.0 + 900 + np.random.default_rng(0).normal(0, 150, film.shape)
    return np.rint((x - x.min()) * (255 / np.ptp(x))).astype(np.uint8)


def both(*changes: Change) -> Change:
    def change(film: Pixels) -> Pixels:
        for c in changes:
            film = c(film)
        return film
    return change


CHANGES: dict[str, Change] = {
    "JPEG 60": jpeg(60), "JPEG 75": jpeg(75), "JPEG 95": jpeg(95), "size x0.25": resized(0.25),
    "size x0.5": resized(0.5), "gamma 0.8": curve(lambda x: x**0.8), "gamma 1.25": curve(lambda x: x**1.25),
    "window narrow": curve(lambda x: (x - 0.1) / 0.75), "window wide": curve(lambda x: 0.15 + 0.6 * x),
    "sigmoid": curve(lambda x: 1 / (1 + np.exp(-7 * (x - 0.5)))), "16 bits": deep, "blur 1 px": blurred(1),
    "blur 2 px": blurred(2), "letters": lettered,
    "gamma, half, JPEG": both(curve(lambda x: x**0.8), resized(0.5), jpeg(70)),
    "cut 2 % left": cut(0.02, 0, 0, 0), "cut 2 % all": cut(0.02, 0.02, 0.02, 0.02),
    "cut 3 % corner": cut(0, 0.03, 0.03, 0), "cut 4 % left": cut(0.04, 0, 0, 0),
    "cut 4 % all": cut(0.04, 0.04, 0.04, 0.04), "cut 4, 2, 0, 4 %": cut(0.04, 0.02, 0, 0.04),
    "cut, gamma, JPEG": both(cut(0, 0.03, 0.02, 0), curve(lambda x: x**1.2), jpeg(70)),
    "cut 6 % all": cut(0.06, 0.06, 0.06, 0.06),
}


def packed(hashes: list[str]) -> np.ndarray:
    """Bits, float32 [n, 576]."""
    rows = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 72)
    return np.unpackbits(rows, axis=1).astype(np.float32)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.rint(one @ (1 - other).T + (1 - one) @ other.T).astype(int)


def tail(between: np.ndarray) -> float:
    """Share of pairs within the threshold, by a normal curve through the quantiles from 1e-3 to 1e-5."""
    shares = np.array([1e-3, 3e-4, 1e-4, 3e-5, 1e-5])
    slope, middle = np.polyfit(norm.ppf(shares), np.quantile(between, shares), 1)
    return float(norm.cdf((THRESHOLD - middle) / slope))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    files = [(name, p) for name, folder in SETS.items() for p in sorted((given.root / folder).glob("*"))]
    films = [np.asarray(Image.open(p).convert("L")) for _, p in files]

    start = time.process_time()
    hashes = [perceptual_hash(film) for film in films]
    each = (time.process_time() - start) / len(films)
    start = time.process_time()
    framings = [reframed_hashes(film) for film in films]
    print(f"{len(films)} films; hash {1000 * each:.2f} ms, with framings "
          f"{1000 * (time.process_time() - start) / len(films):.2f} ms a film")
    bits = packed(hashes)
    plain = apart(bits, bits)
    framed = np.array([apart(packed(list(f)), bits).min(0) for f in framings])
    above = np.triu_indices(len(films), 1)
    for name, between in (("as they are", plain[above]), ("under framings", np.minimum(framed, framed.T)[above])):
        print(f"distinct files {name}: median {np.median(between):.0f}, nearest {np.sort(between)[:6].tolist()}; "
              "pairs within " + ", ".join(f"{t}: {int((between <= t).sum())}" for t in (THRESHOLD, 120, 140, 160))
              + f" of {len(between)} (0 of them: under {3.7 / len(between):.0e}, 95 %); within {THRESHOLD} "
              f"by a normal tail through 1e-3 to 1e-5, {tail(between):.0e}")
    pairs = sorted((min(framed[i, j], framed[j, i]), i, j) for i, j in zip(*above, strict=True)
                   if min(framed[i, j], framed[j, i]) <= 160)
    for far, i, j in pairs[:12]:
        print(f"  {far:3}: {files[i][0]} {files[i][1].name}, {files[j][0]} {files[j][1].name}")

    print(f"altered films found within {THRESHOLD} bits (median and 95 % of distances; missed), "
          "the altered film asked for, its original indexed:")
    chosen = range(0, len(films), given.every)
    for name, change in CHANGES.items():
        asked = [packed(list(reframed_hashes(change(films[i])))) for i in chosen]
        near = np.array([apart(a, bits[i:i + 1]).min() for a, i in zip(asked, chosen, strict=True)])
        first = np.array([apart(a[:1], bits[i:i + 1]).min() for a, i in zip(asked, chosen, strict=True)])
        back = np.array([apart(packed(list(framings[i])), a[:1]).min() for a, i in zip(asked, chosen, strict=True)])
        print(f"  {name:18} own framing {np.median(first):3.0f} {np.quantile(first, 0.95):3.0f}, "
              f"missed {100 * (first > THRESHOLD).mean():5.1f} %; all framings {np.median(near):3.0f} "
              f"{np.quantile(near, 0.95):3.0f}, missed {wilson(int((near > THRESHOLD).sum()), len(near))}; "
              f"the other way round missed {100 * (back > THRESHOLD).mean():.1f} %")

    scale(bits[:, 1:], framings[::max(1, len(framings) // 40)])
    if given.sheet:
        sheet(given.sheet, [(f"{far}: {files[i][0]}, {files[j][0]}", films[i], films[j]) for far, i, j in pairs[:24]])


def scale(bits: np.ndarray, framings: list[tuple[str, ...]], most: int = 377_000) -> None:
    """Times of an index of hashes drawn with the means and the covariances of real films' bits, float [n, 575]."""
    rng = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(np.cov(2 * bits.T - 1))
    spread, middle = (vectors * np.sqrt(values.clip(0))).astype(np.float32).T, (2 * bits.mean(0) - 1).astype(np.float32)
    drawn: list[str] = []
    while len(drawn) < most:
        signs = rng.standard_normal((min(20_000, most - len(drawn)), BITS), dtype=np.float32) @ spread + middle > 0
        rows = np.packbits(np.concatenate([np.zeros((len(signs), 1), bool), signs], axis=1), axis=1)
        drawn += [row.tobytes().hex() for row in rows]
    some = apart(packed(drawn[:4000]), packed([f[0] for f in framings]))
    print(f"{most} hashes drawn as those of films: {some.mean():.0f} bits from real ones, spread {some.std():.1f}")
    for n in (100_000, most):
        index: NearIndex[int] = NearIndex()
        start = time.process_time()
        index.extend(drawn[:n // 2], range(n // 2))
        extended = time.process_time() - start
        start = time.process_time()
        for i in range(n // 2, n):
            index.add(drawn[i], i)
        added = (time.process_time() - start) / (n - n // 2)
        print(f"{n} films: {index.nbytes / 1e6:.0f} MB without keys; extend {extended / (n // 2) * 1e6:.2f} us, "
              f"add {added * 1e6:.1f} us a film; " + "; ".join(timed(index, name, asked) for name, asked in (
                  ("find of one hash", [f[:1] for f in framings]), ("of 23 framings", framings))))


def timed(index: NearIndex[int], name: str, asked: list[tuple[str, ...]]) -> str:
    times = []
    for hashes in asked:
        start = time.process_time()
        index.find(hashes)
        times.append(1000 * (time.process_time() - start))
    return f"{name} {np.median(times):.2f} ms (mean {np.mean(times):.2f}, most {max(times):.2f})"


def sheet(to: Path, pairs: list[tuple[str, Pixels, Pixels]], side: int = 200) -> None:
    """Pairs of films side by side, four pairs a row."""
    page = Image.new("L", (4 * (2 * side + 12), -(-len(pairs) // 4) * (side + 20)), 90)
    for at, (text, *two) in enumerate(pairs):
        x, y = at % 4 * (2 * side + 12), at // 4 * (side + 20)
        ImageDraw.Draw(page).text((x + 4, y + 3), text, fill=255)
        for k, film in enumerate(two):
            page.paste(Image.fromarray(film).resize((side, side)), (x + k * side, y + 20))
    page.save(to)


if __name__ == "__main__":
    main()
