"""Small NIH-like folders of noise films, and a lake to ingest them into."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from cars_core.cohort.ingest import ingest
from cars_core.lake.lake import Lake
from cars_core.vocabulary import load_vocabulary
from schemas.recipe import Cohort

COLUMNS = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender",
           "View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
FILMS = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-open"


def row(index: str, *, labels: str = "No Finding", patient: object = 1, age: object = 50, sex: str = "F",
        view: str = "PA") -> list[str]:
    return [index, labels, "0", str(patient), str(age), sex, view, "2000", "2500", "0.14", "0.14"]


def film(path: Path, *, seed: int, shape: tuple[int, int] = (80, 72)) -> None:
    """Noise at 4 px: unlike any other seed's, and not blank once shrunk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-shape[0] // 4), -(-shape[1] // 4)), dtype=np.uint8)
    Image.fromarray(np.kron(coarse, np.ones((4, 4), np.uint8))[: shape[0], : shape[1]]).save(path)


def write_labels(root: Path, rows: list[list[str]], *, name: str = "Data_Entry_2017_v2020.csv",
                 columns: list[str] | None = None, encoding: str = "utf-8") -> Path:
    path = root / name
    with open(path, "w", encoding=encoding, newline="") as f:
        csv.writer(f).writerows([columns or COLUMNS, *rows])
    return path


def folder(root: Path, n: int = 12, *, films_per_patient: int = 2) -> Path:
    """A folder as published: `n` films whose names and patients (70000 on) are easily found in a text."""
    rows = []
    for i in range(n):
        patient = 70000 + i // films_per_patient
        name = f"{patient:08d}_{i % films_per_patient:03d}.png"
        film(root / f"images_{i % 2 + 1:03d}" / "images" / name, seed=i)
        rows.append(row(name, labels=["No Finding", "Mass|Effusion", "Edema"][i % 3], patient=patient))
    write_labels(root, rows)
    return root


#: Noise is no chest film: only blank films are looked for.
UNSCREENED = {"chest": "off", "rotated": "off", "photo": "off", "text": "off", "near": "off"}


def cohort(root: Path, **changes: Any) -> Cohort:
    return Cohort(**{"source": "nih", "root": str(root), "public_ids": True, "size": 64, "workers": 1,
                     "screen": UNSCREENED, **changes})


def take(settings: Cohort, lake: Lake, *, seed: int = 3) -> tuple[dict[str, Any], pa.Table]:
    """Ingest; the summary and the cohort's rows in the label file's order."""
    result = ingest(settings, seed=seed, vocabulary=load_vocabulary(), lake=lake, progress=lambda done, total: None)
    return result, lake.read("cohort", where={"cohort": result["digest"]}).sort_by([("line", "ascending")])
