"""Broken and hostile films and label files through the factory's readers: nothing may come out but a film or a reason.

    python benchmarks/fuzz.py [--inputs 20000] [--seconds S] [--seed 0] [--workers 2] [--real FOLDER] [--keep FOLDER]
    python benchmarks/fuzz.py --seed 0 --only 1234 --keep FOLDER

Input i of a seed is always the same bytes, given the same packages and --real. Each goes through decode_bytes,
normalise and (DICOM) read_header, or as a label file through the NIH source, in a process of cohort.guard with the
limits that ingest has. Right outcomes are a film or UnusableFilm, for label files rows or BadInput. Anything else is a
failure: another exception, a crash, over 10 s, over 1 GB, or a text or header value that came from the input. Failures
are kept as files with --keep, with the command that makes them again; the exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from hostile import dicom, pictures, raw
from hostile.base import make
from hostile.tables import IMAGE, hostile_table

from cars_core.cohort.dicom.read import read_header
from cars_core.cohort.films import UnusableFilm, decode_bytes, normalise
from cars_core.cohort.guard import Guard
from cars_core.cohort.reading import paused
from cars_core.cohort.sources.nih import NihSource
from cars_core.cohort.sources.tree import LocalTree
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

BASE_SIZE = 128  # pixels a side of the simulated films: reading one takes milliseconds
#: Kinds of input, and how many of a hundred are of it. Kinds of DICOM share what is left.
SHARES = {"PNG": 16, "JPEG": 16, "label file": 8, "DICOM real": 2}
#: What is done more or less often than the rest, which counts 5: bombs take a second each, decoders have most to lose.
OFTEN = {"deflate bomb": 1, "zlib bomb": 1, "many elements": 1, "scans repeated": 2, "codestream": 20, "fragments": 10,
         "pixel layout": 10, "frame header": 15, "strange segment": 10, "IHDR": 10}
_CONTAINED = re.compile(r"decoding (crashed|took over|needs over)")


@dataclass(frozen=True)
class Outcome:
    """What became of an input. seconds: processor time. memory: bytes the process grew by at most."""

    kind: str
    damage: str
    state: str  # read, refused, or failed
    text: str
    seconds: float
    memory: int


def damaged(seed: int, at: int, base: dict[str, list[bytes]]) -> tuple[str, str, bytes]:
    """(kind, what was done to it, the bytes) of input `at`. A label file's name and a line's end stand before it."""
    rng = np.random.default_rng([seed, at])
    kinds = [k for k in base if k not in SHARES]
    chosen, shares = rng.integers(100), {k: n for k, n in SHARES.items() if k in base or k == "label file"}
    kind = str(raw.pick(rng, kinds))
    for name, share in shares.items():
        if 0 <= chosen < share:
            kind = name
        chosen -= share
    if kind == "label file":
        done, name, text = hostile_table(rng)
        return kind, done, name.encode() + b"\n" + text
    data = raw.pick(rng, base[kind])
    aware = dicom.MUTATIONS if kind.startswith("DICOM") else pictures.PNG if kind == "PNG" else pictures.JPEG
    if rng.random() < 0.6:
        done = raw.pick(rng, [name for name in aware for _ in range(OFTEN.get(name, 5))])
        data = aware[done](rng, dicom.parse(data) if kind.startswith("DICOM") else data)  # type: ignore[arg-type]
        if rng.random() < 0.8:
            return kind, done, data
        done += ", "
    else:
        done = ""
    then = raw.pick(rng, tuple(raw.MUTATIONS))
    changed = raw.MUTATIONS[then](rng, data)
    if kind == "PNG" and rng.random() < 0.5:  # let the damage past the check sums
        changed = pictures.png(pictures.chunks(changed))
    return kind, done + then, changed


@cache
def _base(path: str) -> dict[str, list[bytes]]:
    return pickle.loads(Path(path).read_bytes())  # written by this program a moment ago


def check(seed: int, base: str, at: int) -> Outcome:
    """Make input `at` and read it, in a process of the guard."""
    with paused():
        kind, done, data = damaged(seed, at, _base(base))
        before = _peak(reset=True)
    began = time.process_time()
    state, text = "failed", ""
    try:
        text = _read_table(data) if kind == "label file" else _read_film(data, deep=bool(at % 2))
        state = "failed" if text else "read"
    except UnusableFilm as e:
        state, text = ("failed" if "CANARY" in str(e) else "refused"), str(e)
    except BadInput as e:
        state = "refused" if kind == "label file" else "failed"
        text = e.expected.split(" (")[0] if state == "refused" else repr(e)
    except MemoryError:
        raise
    except Exception as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(e.__traceback__) if "cars_core" in f.filename]
        place = own[-1] if own else last
        text = f"{type(e).__name__} at {Path(place.filename).name}:{place.lineno}: {str(e)[:120]}"
    return Outcome(kind, done, state, text, time.process_time() - began, max(_peak() - before, 0))


def _read_film(data: bytes, *, deep: bool) -> str:
    """"" if all is well with what came out; raises UnusableFilm."""
    bits = 16 if deep else 8
    if data[128:132] == b"DICM":
        with suppress(UnusableFilm):
            leak = [v for v in _shown(read_header(data)) if "CANARY" in v]
            if leak:
                return "read_header lets a text of the input out as what it is not"
    film = decode_bytes(data, bits=bits)
    if film.pixels.dtype != (np.uint16 if deep else np.uint8) or film.pixels.ndim != 2:
        return f"pixels are {film.pixels.dtype}, {film.pixels.ndim} dimensions"
    if "CANARY" in repr((film.view, film.header)):
        return "the film's header holds a text of the input"
    if film.spacing_mm is not None and not all(0 < s < 10 for s in film.spacing_mm):
        return "impossible pixel spacing"
    normalise(film.pixels, size=64, bits=bits)
    return ""


def _shown(header: object) -> Iterator[str]:
    """Values of the header that are codes: identifiers may be what the file says."""
    for name in ("sex", "view", "modality", "body_part", "burned_in", "presentation", "photometric", "laterality",
                 "transfer_syntax"):
        yield str(getattr(header, name, ""))


def _read_table(data: bytes) -> str:
    name, _, text = data.partition(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "films")
        (root / "images").mkdir(parents=True)
        (root / "images" / IMAGE).write_bytes(b"a film")
        (root / name.decode()).write_bytes(text)
        tree = LocalTree(str(root))
        source = NihSource(tree, vocabulary=load_vocabulary())
        source.origin()
        for record in source.records():
            if "CANARY" in repr((record.fault, record.aside, record.view, record.sex, record.where)):
                return "a record's reason or code holds a text of the input"
            if record.place is None or tree.size(record.place) is None:  # ingest reads no other
                continue
            if not (root / record.place).resolve().is_relative_to(root.resolve()):
                return "a record leads out of the source's folder"
    return ""


def _peak(*, reset: bool = False) -> int:
    """Bytes of memory this process had at most since the last reset; 0 where the system does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024
    except (OSError, IndexError):
        return 0


def run(numbers: Iterable[int], *, seed: int, base: str, workers: int, base_files: dict[str, list[bytes]],
        seconds: float = 10.0) -> Iterator[tuple[int, Outcome]]:
    """(number, outcome) of each input, in order."""
    with Guard(workers, partial(check, seed, base), seconds=seconds) as guard:
        for at, outcome in guard.results(numbers, in_flight=8 * workers):
            if isinstance(outcome, Outcome):
                yield at, outcome
            else:
                kind, done, _ = damaged(seed, at, base_files)
                yield at, Outcome(kind, done, "failed", str(outcome), 0.0, 0)


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: a row a kind, all kinds last."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for o in outcomes:
        groups[o.kind].append(o)
        groups["all"].append(replace(o, kind="all"))
    lines = ["| kind | inputs | read | refused | failed | contained by the guard | slowest, s | most memory, MB |",
             "|---|---|---|---|---|---|---|---|"]
    for kind in sorted(groups, key=lambda k: (k == "all", k)):
        of = groups[kind]
        states = Counter(o.state for o in of)
        contained = sum(o.state == "failed" and bool(_CONTAINED.match(o.text)) for o in of)
        lines.append(f"| {kind} | {len(of)} | {states['read']} | {states['refused']} | {states['failed']} | "
                     f"{contained} | {max(o.seconds for o in of):.2f} | {max(o.memory for o in of) / 1e6:.0f} |")
    reasons = Counter(o.text for o in groups["all"] if o.state == "refused")
    lines += ["", "| reason | inputs |", "|---|---|", *(f"| {text} | {n} |" for text, n in reasons.most_common())]
    return "\n".join(lines)


def _keep(folder: Path, at: int, outcome: Outcome, *, seed: int, data: bytes, real: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{seed}-{at}-{re.sub('[^a-zA-Z0-9]+', '-', f'{outcome.kind} {outcome.damage}')}"
    (folder / name).write_bytes(data)
    with open(folder / "failures.txt", "a") as f:
        again = f"python benchmarks/fuzz.py --seed {seed} --only {at}" + (f" --real {real}" if real else "")
        f.write(f"{name}: {outcome.text}\n    {again}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--real", type=Path, help="a folder of films to damage as well")
    parser.add_argument("--keep", type=Path, help="where inputs that fail are kept")
    parser.add_argument("--only", type=int, help="the number of one input")
    args = parser.parse_args()
    base = make(BASE_SIZE, args.real)
    numbers = range(args.inputs) if args.only is None else [args.only]
    began = shown = time.monotonic()
    outcomes: list[Outcome] = []
    failures: list[tuple[int, Outcome]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "base")
        path.write_bytes(pickle.dumps(base))
        for at, outcome in run(numbers, seed=args.seed, base=str(path), workers=args.workers, base_files=base):
            outcomes.append(outcome)
            if outcome.state == "failed":
                failures.append((at, outcome))
            if args.keep and (outcome.state == "failed" or args.only is not None):
                _keep(args.keep, at, outcome, seed=args.seed, data=damaged(args.seed, at, base)[2], real=args.real)
            now = time.monotonic()
            if now - shown > 2:
                rate = len(outcomes) / (now - began)
                print(f"\r{len(outcomes)}/{len(numbers)} inputs, {rate:.0f} a second, {len(failures)} failed, "
                      f"{(len(numbers) - len(outcomes)) / rate:.0f} s to go   ", end="", file=sys.stderr, flush=True)
                shown = now
            if args.seconds and now - began > args.seconds:
                break
    print(file=sys.stderr)
    print(f"seed {args.seed}, {len(outcomes)} inputs, {time.monotonic() - began:.0f} s, {args.workers} workers\n")
    print(table(outcomes))
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, o in failures:
        kinds[o.kind, o.text].append(at)
    for (kind, text), places in sorted(kinds.items(), key=lambda k: -len(k[1])):
        print(f"\nFAILED {kind}: {text}\n    {len(places)} inputs, such as {', '.join(map(str, places[:5]))}")
    return 1 if failures else 0


if __name__ == "__main__":
    from fuzz import main as importable_main  # so that the guard's processes find `check` in a module of its own

    sys.exit(importable_main())
