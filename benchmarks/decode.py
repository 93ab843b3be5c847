"""How fast films are decoded and made ready, against a bare loop of pydicom and Pillow over the same files.

    python benchmarks/decode.py [FOLDER] [--rounds 5] [--size 512] [--memory 300]

FOLDER holds DICOM files; without it, simulated films of 1024 x 1024 in several transfer syntaxes are made. For each
file both ways run in turn, one thread, in processor time, so that a busy machine says the same as an idle one: ours is
decode_bytes and normalise; the bare loop is dcmread, pixel_array, modality and VOI LUT, inversion, 8 bits, Pillow's
Lanczos, PNG. A ratio over 1 means that ours is faster. Then --memory films are read one after the other, and the memory
the process holds is shown on the way: it should stay where it is.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID

from cars_core.cohort.films import UnusableFilm, decode_bytes, normalise, read
from cars_core.phantom.layouts.dicom import dicom_bytes
from cars_core.phantom.layouts.drawn import draw
from cars_core.phantom.population import films
from cars_core.vocabulary import load_vocabulary

#: Transfer syntax -> pydicom's encoder for it.
SYNTAXES = {"1.2.840.10008.1.2": "", "1.2.840.10008.1.2.1": "", "1.2.840.10008.1.2.1.99": "",
            "1.2.840.10008.1.2.5": "pydicom", "1.2.840.10008.1.2.4.80": "pyjpegls",
            "1.2.840.10008.1.2.4.90": "pylibjpeg", "1.2.840.10008.1.2.4.91": "pylibjpeg"}


def simulated(*, patients: int, side: int) -> Iterator[tuple[str, bytes]]:
    """(kind, file) of simulated films, each in every transfer syntax that pydicom can write here."""
    specs = films(n=patients, seed=1, size=side, withheld=[], split_of=lambda _: "train", vocabulary=load_vocabulary())
    for number, spec in enumerate(specs):
        original = dicom_bytes(draw(spec, number=number, bits=12))
        for syntax, encoder in SYNTAXES.items():
            ds = pydicom.dcmread(io.BytesIO(original))
            try:
                if syntax.endswith(".91"):
                    ds.compress(UID(syntax), generate_instance_uid=False, encoding_plugin=encoder, j2k_cr=[10])
                elif encoder:
                    ds.compress(UID(syntax), generate_instance_uid=False, encoding_plugin=encoder)
                else:
                    ds.file_meta.TransferSyntaxUID = UID(syntax)
                out = io.BytesIO()
                ds.save_as(out, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
            except (RuntimeError, ValueError) as e:  # no encoder for it is installed
                print(f"left out {UID(syntax).name}: {e}", file=sys.stderr)
                continue
            yield UID(syntax).name, out.getvalue()


def given(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(kind, file) of the DICOM films in a folder that can be read."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            data = read(path)
            decoded = decode_bytes(data)
        except UnusableFilm as e:
            print(f"left out one file: {e}", file=sys.stderr)
            continue
        if decoded.header:
            yield decoded.header["TransferSyntax"], data


def ours(data: bytes, size: int) -> bytes:
    """A film as ingest makes it ready."""
    return normalise(decode_bytes(data), size=size).png


def bare(data: bytes, size: int) -> bytes:
    """The least that gives a picture of a film."""
    ds = pydicom.dcmread(io.BytesIO(data))
    shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = shown.min(), shown.max()
    grey = (shown - low) * (255 / max(high - low, 1))
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    image = Image.fromarray(grey.astype(np.uint8))
    scale = min(1, size / min(image.size))
    out = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


def seconds(way: Callable[[bytes, int], bytes], data: bytes, size: int) -> float:
    started = time.process_time()
    way(data, size)
    return time.process_time() - started


def resident() -> float:
    """Megabytes the process holds now; the most it ever held where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="pairs a file (5)")
    parser.add_argument("--size", type=int, default=512, help="short side of the PNG (512)")
    parser.add_argument("--side", type=int, default=1024, help="side of a simulated film (1024)")
    parser.add_argument("--memory", type=int, default=300, help="films read in a row to watch the memory (300)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    files = list(given(args.folder) if args.folder else simulated(patients=3, side=args.side))
    if not files:
        sys.exit("no DICOM film to read")
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, data in files:
        ours(data, args.size), bare(data, args.size)  # warm up
        for turn in range(args.rounds):
            ways = (ours, bare) if turn % 2 == 0 else (bare, ours)
            took = {way: seconds(way, data, args.size) for way in ways}
            pairs[kind].append((took[ours], took[bare]))
    print(f"{'':44}  ours ms  bare ms   ratio min  median     max")
    pairs["all"] = [pair for many in pairs.values() for pair in many]
    for kind, many in pairs.items():
        ratios = sorted(b / a for a, b in many)
        a, b = (statistics.median(x) * 1e3 for x in zip(*many, strict=True))
        print(f"{kind[:44]:44} {a:8.1f} {b:8.1f} {ratios[0]:11.2f} {statistics.median(ratios):7.2f} {ratios[-1]:7.2f}")
    print(f"films a second, one thread: {len(pairs['all']) / sum(a for a, _ in pairs['all']):.1f}"
          f" (bare {len(pairs['all']) / sum(b for _, b in pairs['all']):.1f})")
    held = []
    for i in range(args.memory):
        ours(files[i % len(files)][1], args.size)
        if i % max(1, args.memory // 5) == 0 or i == args.memory - 1:
            held.append(f"{i + 1}: {resident():.0f}")
    print("MB held after films " + ", ".join(held))


if __name__ == "__main__":
    main()
