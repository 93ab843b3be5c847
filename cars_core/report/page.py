"""The build's page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cars_core.coverage.group import cell_values
from cars_core.report import words
from cars_core.report.evaluation import evaluation_groups
from cars_core.report.gallery import PICTURE_BUDGET, Get, Truth, choose, make_card, make_cards
from cars_core.report.heatmap import pair_heatmap
from cars_core.report.pictures import DIFFERENCE_LIMIT, difference_palette
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

_HERE = Path(__file__).resolve().parent
# Rows a page lists in full before it points to the table instead: keeps a build of 100,000 edits readable.
MAX_ROWS = 2000
_COUNTS = ("films", "patients", "quarantined", "planned", "accepted", "rejected")


@dataclass(frozen=True)
class BuildFacts:
    """What the page says about the build as a whole.

    Attributes:
        name: the recipe's name. subset: the subset's name. version: None when nothing was published.
        digest: the subset's digest, "" without one. build: the build's digest. code: the code version.
        created: ISO time, UTC.
        counts: films, patients, quarantined, planned, accepted, rejected.
        stage_seconds: stage name -> seconds, in the order they ran.
        licences: licences and terms of the source films.
        sentence: what the evaluation found, in one sentence; "" when there was none.
        editor: the editor's model card, plain JSON. citation: lines to cite beside the CARS paper.
    """

    name: str
    subset: str
    version: int | None
    digest: str
    build: str
    seed: int
    recipe: dict[str, Any]
    code: str
    created: str
    counts: dict[str, int]
    stage_seconds: dict[str, float] = field(default_factory=dict)
    licences: Sequence[str] = ()
    sentence: str = ""
    editor: dict[str, Any] = field(default_factory=dict)
    citation: Sequence[str] = ()


def render_page(*, build: BuildFacts, gaps: pa.Table, plan: pa.Table, samples: pa.Table, evaluations: pa.Table,
                quarantined: list[tuple[str, int]], vocabulary: Vocabulary, get: Get, truth: Truth | None,
                levels: Mapping[str, Mapping[str, str]] | None = None,
                pairs: int = 48, picture_budget: int = PICTURE_BUDGET) -> str:
    """The page as one string of HTML: no outside reference, scripts and pictures inside.

    Args:
        gaps, plan, samples, evaluations: rows of this build, in the schemas of schemas.tables; any may be empty.
        quarantined: (reason, films), as ingest counted them.
        get: object name -> bytes.
        levels: image_id -> attribute -> level, of the films whose edits fill gaps of some films only.
        truth: sample row -> PNG of its true counterfactual, or None where the film has no truth.
        pairs: samples pictured at most, accepted and rejected together.
        picture_budget: characters of picture data; pictures shrink to keep to it.

    Raises:
        BadInput: pairs below 0, a count missing from the facts, or an object that is no picture.
        Whatever `get` raises for a missing object is passed on: a page must not hide a hole in the lake.
    """
    if pairs < 0:
        raise BadInput("pairs", pairs, "0 or more")
    missing = [c for c in _COUNTS if c not in build.counts]
    if missing:
        raise BadInput("build.counts", sorted(build.counts), "the counts " + ", ".join(_COUNTS))
    gap_rows, sample_rows = gaps.to_pylist(), samples.to_pylist()
    accepted, rejected = choose(sample_rows, pairs)
    cards = make_cards(accepted + rejected, get=get, truth=truth, vocabulary=vocabulary, budget=picture_budget)
    pictured = {c.edit_id for c in cards}
    reasons = words.count_reasons(sample_rows)
    unpictured = [make_card(s, vocabulary) for s in sorted(sample_rows, key=lambda s: s["edit_id"])
                  if s["verdict"] == "rejected" and s["edit_id"] not in pictured]
    settings = build.recipe.get("gaps", {})
    script, style = (_HERE / "page.js").read_text("utf-8"), page_style()
    return template("page.html").render(
        build=build, words=words, style=Markup(style), script=Markup(script), script_hash=csp_hash(script),
        simulated=build.recipe.get("cohort", {}).get("source") == "phantom",
        heatmap=pair_heatmap(gap_rows, findings=settings.get("findings", []), min_count=settings.get("min_count"),
                             vocabulary=vocabulary),
        min_count=settings.get("min_count"), gaps=_gap_rows(gap_rows, sample_rows, levels or {}), max_rows=MAX_ROWS,
        operations=_operation_rows(plan.to_pylist(), sample_rows), samples=len(sample_rows),
        accepted=cards[:len(accepted)], rejected=cards[len(accepted):], unpictured=unpictured, reasons=reasons,
        reason_ids={key: i for i, (key, _) in enumerate(reasons)}, filters=_filters(cards),
        legend=_legend(), limit=DIFFERENCE_LIMIT, quarantined=sorted(quarantined, key=lambda r: (-r[1], r[0])),
        evaluation=evaluation_groups(evaluations), sources=Counter(s["licence"] for s in sample_rows),
        recipe_yaml=yaml.safe_dump(build.recipe, sort_keys=False, allow_unicode=True),
        segmenters=sorted({p["segmenter"] for p in plan.select(["segmenter"]).to_pylist()}),
        editors=sorted({p["editor"] for p in plan.select(["editor"]).to_pylist()}))


def page_style() -> str:
    """The style sheet that every page carries inside."""
    return (_HERE / "page.css").read_text("utf-8")


def template(name: str) -> Any:
    """A template beside this module, with the pages' filters; texts are escaped."""
    env = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
                      trim_blocks=True, lstrip_blocks=True)
    env.filters["n"] = words.number
    return env.get_template(name)


def csp_hash(script: str) -> str:
    """The page's own script is the only one its content security policy lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _gap_rows(gaps: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]],
              levels: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Gaps ranked by deficit, then by how many films chance would give. `filled`: accepted samples whose film
    shows the combination after the edit and did not before, and lies among the films that the gap is about."""
    made = [(s["source_present"], s["present"], levels.get(s["image_id"], {})) for s in samples
            if s["verdict"] == "accepted"]
    rows = []
    for g in sorted(gaps, key=lambda g: (-g["deficit"], -g["expected"], g["gap"], g["without"], g["cell"])):
        if g["deficit"] > 0:
            bits, cell = g["gap"] | g["without"], cell_values(g["cell"]).items()
            filled = sum(after & bits == g["gap"] != before & bits and cell <= of.items() for before, after, of in made)
            rows.append({**g, "combination": words.pattern_words(g), "filled": filled})
    return rows


def _operation_rows(plan: Sequence[Mapping[str, Any]],
                    samples: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int, int, int]]:
    """(kind, finding, planned, accepted, rejected) of every operation; an edit of two counts under both."""
    planned, accepted, rejected = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row in plan:
        planned.update({(o["kind"], o["finding"]) for o in row["operations"]})
    for row in samples:
        to = accepted if row["verdict"] == "accepted" else rejected
        to.update({(o["kind"], o["finding"]) for o in row["operations"]})
    keys = sorted(planned | accepted | rejected, key=lambda k: (k[0] != "insert", -planned[k], k[1]))
    return [(kind, words.finding_words(finding), planned[kind, finding], accepted[kind, finding],
             rejected[kind, finding]) for kind, finding in keys]


def _filters(cards: Sequence[Any]) -> dict[str, list[str]]:
    return {name: sorted({v for c in cards for v in getattr(c, name)}) for name in ("findings", "kinds", "keys")}


def _legend() -> str:
    colours = difference_palette(DIFFERENCE_LIMIT)
    picked = colours[::DIFFERENCE_LIMIT // 4]
    return ", ".join("rgb({}, {}, {})".format(*c) for c in picked.tolist())
