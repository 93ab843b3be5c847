"""Write a simulated cohort as a tree of films, tables and truth.

Films stream through: a few are held at once, whatever their number. The tree is whole when `manifest.json` is there,
which is written last.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from cars_core.anatomy.masks import cardiothoracic_ratio
from cars_core.digest import file_digest
from cars_core.phantom.layouts import LAYOUTS
from cars_core.phantom.layouts.drawn import Drawn, Layout, draw, png
from cars_core.phantom.population import FilmSpec
from cars_core.vocabulary import load_vocabulary
from cars_core.workers import process_pool
from schemas.errors import BadInput

MANIFEST, README = "manifest.json", "README.txt"
TRUTH, MASKS = "truth/truth.parquet", "truth/masks"
LICENCE = "CC0-1.0"
_IN_FLIGHT = 4  # films a worker
_ROW_GROUP = 512

#: One row a film. path: of the film in the tree. film_* and report_*: packed vectors of what the film shows and of what
#: its report says (bit i is name i of the key `vocabulary` in the schema's metadata). hidden: findings the patient has
#: that cannot be seen on this film; neither vector, masks nor report speak of them. statements: JSON list of
#: {finding, state, side, text}. truth, prior: JSON that renders this film and the patient's film before.
SCHEMA = pa.schema([
    ("path", pa.string()), ("record", pa.string()), ("patient", pa.string()), ("split", pa.string()),
    ("sex", pa.string()), ("age", pa.int16()), ("view", pa.string()), ("study", pa.int16()), ("days", pa.int32()),
    ("size", pa.int16()), ("bits", pa.int8()), ("ctr", pa.float64()),
    *((f"{of}_{state}", pa.int64()) for of in ("film", "report") for state in ("present", "absent", "uncertain")),
    ("hidden", pa.list_(pa.string())), ("report", pa.string()), ("statements", pa.string()), ("truth", pa.string()),
    ("prior", pa.string()),
])


@dataclass(frozen=True)
class _Written:
    """What is left of a film once its files are on disk."""

    rows: dict[str, list[dict[str, Any]]]
    truth: dict[str, Any]


def layout_of(name: str) -> Layout:
    """The layout called `name`.

    Raises:
        BadInput: there is none.
    """
    if name not in LAYOUTS:
        raise BadInput("--layout", name, "one of " + ", ".join(LAYOUTS))
    return LAYOUTS[name]


def write_cohort(specs: Iterable[FilmSpec], *, out: Path, layout: str, bits: int | None = None, workers: int = 1,
                 progress: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Render the films and lay them out in a new or empty folder. The bytes do not depend on `workers`.

    Args:
        specs: films, patient by patient, each from the first study; all of one size.
        bits: of grey a pixel, one of the layout's; None takes its usual.
        progress: called with the films done.

    Returns:
        what the manifest says: layout, films, patients, splits (films by split), findings (films by finding present,
        the most frequent first), size, bits, licence, sha256 of every table.

    Raises:
        BadInput: an unknown layout, bits it cannot hold, `out` is not an empty folder, workers below 1, no film, a
            patient's films apart.
        OSError: the disk does not take it. What was written stays, without a manifest.
    """
    kind = layout_of(layout)
    bits = kind.bits[0] if bits is None else bits
    if bits not in kind.bits:
        raise BadInput(f"--bits of layout {layout}", bits, " or ".join(map(str, kind.bits)))
    if workers < 1:
        raise BadInput("workers", workers, "1 or more")
    _claim(out)
    (out / README).write_text(_readme(kind), encoding="utf-8")
    splits: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    films = patients = size = 0
    vocabulary = load_vocabulary()
    with ExitStack() as stack:
        tables = {name: stack.enter_context(_Table(out / name, columns)) for name, columns in kind.tables.items()}
        (out / TRUTH).parent.mkdir(parents=True, exist_ok=True)
        schema = SCHEMA.with_metadata({"vocabulary": json.dumps(vocabulary.names), "licence": LICENCE})
        parquet = stack.enter_context(pq.ParquetWriter(out / TRUTH, schema, compression="zstd"))
        held: list[dict[str, Any]] = []
        for one in _written(_numbered(specs), partial(_write, out, layout, bits), workers):
            for name, rows in one.rows.items():
                tables[name].add(rows)
            held.append(one.truth)
            if len(held) == _ROW_GROUP:
                parquet.write_table(pa.Table.from_pylist(held, schema=schema))
                held.clear()
            size = size or one.truth["size"]
            if one.truth["size"] != size:
                raise BadInput(f"size of {one.truth['record']}", one.truth["size"], f"{size}, as the films before it")
            films, patients = films + 1, patients + (one.truth["study"] == 1)
            splits[one.truth["split"]] += 1
            findings.update(vocabulary.unpack(one.truth["film_present"]))
            progress(films)
        if held:
            parquet.write_table(pa.Table.from_pylist(held, schema=schema))
    if not films:
        raise BadInput("films", 0, "at least one")
    manifest = {
        "what": "simulated chest radiographs; no patient; not for diagnosis", "licence": LICENCE, "layout": layout,
        "films": films, "patients": patients, "splits": dict(sorted(splits.items())), "size": size, "bits": bits,
        "findings": dict(sorted(findings.items(), key=lambda x: (-x[1], x[0]))),
        "sha256": {name: file_digest(out / name) for name in [*kind.tables, TRUTH]},
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _claim(out: Path) -> None:
    """Make the folder, or make sure that it is empty."""
    if out.exists() and not out.is_dir():
        raise BadInput("--out", str(out), "a folder")
    if out.is_dir() and any(out.iterdir()):
        cut_off = (out / README).is_file() and (out / "truth").is_dir() and not (out / MANIFEST).exists()
        what = f"{out} (a cohort that was cut off)" if cut_off else f"{out} (not empty)"
        raise BadInput("--out", what, "a new or empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput("--out", str(out), f"a folder that can be made ({e.strerror})") from e


def _numbered(specs: Iterable[FilmSpec]) -> Iterator[tuple[FilmSpec, int]]:
    """Each film with its patient's number, from 1."""
    number, patient, study = 0, "", 0
    for spec in specs:
        if spec.patient != patient:
            number, patient, study = number + 1, spec.patient, 0
        if spec.study != study + 1:
            raise BadInput(f"study of {spec.record}", spec.study, f"{study + 1}: patient by patient, in order")
        study = spec.study
        yield spec, number


def _written(items: Iterator[tuple[FilmSpec, int]], write: Callable[[tuple[FilmSpec, int]], _Written],
             workers: int) -> Iterator[_Written]:
    """Films in their order, a bounded number at once."""
    if workers == 1:
        yield from map(write, items)
        return
    pool = process_pool(workers)
    waiting: deque[Future[_Written]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(write, item))
            if len(waiting) >= workers * _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write(out: Path, layout: str, bits: int, item: tuple[FilmSpec, int]) -> _Written:
    """Render one film and put its files on disk; runs in a worker."""
    spec, number = item
    drawn = draw(spec, number=number, bits=bits)
    laid = LAYOUTS[layout].lay(drawn)
    masks = {f"{MASKS}/{spec.record}/{name}.png": png(mask) for name, mask in _masks(drawn).items()}
    for path, data in (laid.files | masks).items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
    return _Written(laid.rows, _truth_row(drawn, laid.image))


def _masks(drawn: Drawn) -> dict[str, Any]:
    film = drawn.film
    lungs = {"left_lung": film.anatomy.left_lung, "right_lung": film.anatomy.right_lung, "heart": film.anatomy.heart}
    return lungs | film.finding_masks | film.device_masks


def _truth_row(drawn: Drawn, image: str) -> dict[str, Any]:
    spec, report = drawn.spec, drawn.report
    said = report.vector(load_vocabulary())
    return {
        "path": image, "record": spec.record, "patient": spec.patient, "split": spec.split, "sex": spec.sex,
        "age": spec.age, "view": spec.view, "study": spec.study, "days": spec.days, "size": drawn.truth.size,
        "bits": drawn.bits, "ctr": cardiothoracic_ratio(drawn.film.anatomy),
        **{f"film_{k}": v for k, v in asdict(drawn.vector).items()},
        **{f"report_{k}": v for k, v in asdict(said).items()},
        "hidden": sorted(drawn.hidden), "report": report.text,
        "statements": json.dumps([asdict(s) for s in report.statements]),
        "truth": spec.truth, "prior": spec.prior,
    }


class _Table:
    """A CSV file written row by row, gzip-compressed where its name says so, without dates in it."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path, self._columns, self._stack = path, columns, ExitStack()

    def __enter__(self) -> _Table:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        raw: Any = self._stack.enter_context(open(self._path, "wb"))
        if self._path.suffix == ".gz":
            raw = self._stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
        text: TextIO = self._stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        self._rows = csv.DictWriter(text, self._columns or ("",), lineterminator="\n")
        if self._columns:
            self._rows.writeheader()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows; a key that is no column is an error of the layout."""
        self._rows.writerows(rows)


def _readme(layout: Layout) -> str:
    return f"""Simulated chest radiographs. No patient is shown: people, films, reports, names and dates are invented.
Research software's test data, never for diagnosis. Licence: {LICENCE}.

Laid out like another cohort so that what reads that cohort can be tried; none of its data are in here.
{layout.like}

{MANIFEST} is written last: without it the folder is not whole.
{TRUTH}: one row a film: its path, what it shows, what its report says, and the JSON that renders it
(cars_core.phantom.truth.render_truth; counterfactual gives the same film with other findings). Bit i of a film_* or
report_* vector is name i of `vocabulary` in the file's schema metadata.
{MASKS}/RECORD/NAME.png: 1-bit masks of the lungs, the heart, each finding and each device.
Sides are the patient's: the left lung is at the picture's right.
"""
