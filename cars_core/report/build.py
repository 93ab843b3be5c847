"""The page of a build, from the lake alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from cars_core import weights
from cars_core.coverage.group import film_levels
from cars_core.generate.denoiser import DEFAULT
from cars_core.generate.truth import true_edit
from cars_core.lake.lake import Lake
from cars_core.png import png_bytes
from cars_core.quality.check import samples_of
from cars_core.report.cohort import reason_of
from cars_core.report.page import BuildFacts, render_page
from cars_core.vocabulary import Vocabulary
from schemas.recipe import Recipe, public_recipe

CITATION = {
    "nih": "Films: NIH Clinical Center, ChestX-ray8 (Wang et al., CVPR 2017).",
    "chexpert": "Films: CheXpert (Irvin et al., AAAI 2019).",
    "chexpert-plus": "Films: CheXpert Plus (Chambon et al., arXiv:2405.19538).",
    "mimic": "Films: MIMIC-CXR-JPG (Johnson et al., arXiv:1901.07042).",
    "vindr": "Films: VinDr-CXR (Nguyen et al., Scientific Data 2022).",
    "padchest": "Films: PadChest (Bustos et al., Medical Image Analysis 2020).",
    "phantom": "Films: simulated; no patient exists.",
}


def reasons_of(cohort_rows: pa.Table) -> list[tuple[str, int]]:
    """Why films were set aside or quarantined, with counts; a row's own place in its source is left out."""
    kept_out = (r for r in cohort_rows.to_pylist() if r["status"] in ("set_aside", "quarantined"))
    return Counter(reason_of(r) for r in kept_out).most_common()


def truth_png(sample: dict[str, Any], plan: dict[str, dict[str, Any]]) -> bytes | None:
    """The true counterfactual of a sample's edit as PNG, or None where no truth is known (real films)."""
    if not sample.get("truth"):
        return None
    row = plan[sample["edit_id"]]
    return png_bytes(true_edit(sample["truth"], operations=row["operations"], seed=row["seed"]).pixels)


def _levels(lake: Lake, recipe: Recipe, *, cohort: str) -> dict[str, dict[str, str]]:
    """image_id -> attribute -> level of the films that may be edited; {} where gaps are about all films."""
    by = recipe.gaps.by
    if not by:
        return {}
    films = lake.read("cohort", columns=["image_id", *by],
                      where={"cohort": cohort, "status": "accepted", **({} if "split" in by else {"split": "train"})})
    return dict(zip(films["image_id"].to_pylist(), film_levels(films, by), strict=True))


def build_page(
    lake: Lake,
    recipe: Recipe,
    *,
    build: str,
    cohort: str,
    version: int | None,
    evaluation: str | None,
    sentence: str,
    vocabulary: Vocabulary,
    seconds: dict[str, float],
    code: str,
    created: str,
) -> str:
    """Write the page; returns its URI."""
    films = lake.read("cohort", columns=["status", "reason", "patient"], where={"cohort": cohort})
    samples, plan = samples_of(lake, build), lake.read("plan", where={"build": build})
    by_edit = {r["edit_id"]: r for r in plan.to_pylist()}
    verdicts = samples["verdict"].to_pylist()
    digest = ""
    if version is not None:
        digest = next(
            (
                r["digest"]
                for r in lake.read("subsets", where={"subset": recipe.name}).to_pylist()
                if r["version"] == version
            ),
            "",
        )
    card = {
        k: v for k, v in weights.read_card(recipe.editor.weights or DEFAULT, kind="editor").items() if k != "trained_on"
    }
    status = films["status"].to_pylist()
    facts = BuildFacts(
        name=recipe.name,
        subset=recipe.name,
        version=version,
        digest=digest,
        build=build,
        seed=recipe.seed,
        recipe=public_recipe(recipe),
        code=code,
        created=created,
        counts={
            "films": status.count("accepted"),
            "patients": len(set(films["patient"].to_pylist())),
            "quarantined": status.count("quarantined") + status.count("set_aside"),
            "planned": plan.num_rows,
            "accepted": verdicts.count("accepted"),
            "rejected": verdicts.count("rejected"),
        },
        stage_seconds=seconds,
        licences=sorted(set(samples["licence"].to_pylist())),
        sentence=sentence,
        editor=card,
        citation=[CITATION[s.source] for s in recipe.cohort.sources if s.source in CITATION],
    )
    html = render_page(
        build=facts,
        gaps=lake.read("gaps", where={"build": build}),
        plan=plan,
        samples=samples,
        evaluations=lake.read("evaluations", where={"evaluation": evaluation or ""}),
        quarantined=reasons_of(films),
        vocabulary=vocabulary,
        get=lake.get,
        levels=_levels(lake, recipe, cohort=cohort),
        truth=lambda s: truth_png(s, by_edit),
    )
    name = f"{recipe.name}-{version}.html" if version is not None else f"{recipe.name}-{build}.html"
    return lake.write_page(name, html.encode())
