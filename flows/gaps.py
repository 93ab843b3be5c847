"""Which combinations of findings a lake's cohort, or a published label file, lacks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.errors import BadInput

if TYPE_CHECKING:  # what takes time to import is imported where it is used
    import pyarrow as pa

    from cars_core.coverage.plan import Planned
    from cars_core.coverage.survey import Survey
    from cars_core.lake.lake import Lake
    from cars_core.vocabulary import Vocabulary
    from schemas.policy import Gaps, Plan

SPLITS = ("train", "validate", "test", "all")
MAX_LEVEL = 6
MOST_PLANNED = 3_000  # short combinations; ten times as many take minutes
ORDER, MIN_COUNT = 3, 10  # where neither a recipe nor the command says
LakeHere = Callable[[str | None], str]


@dataclass(frozen=True)
class Films:
    """What is counted: `rows` as in the table `cohort` or a label file; `name` for pages; `cohort` a digest, or ""."""

    rows: pa.Table
    kind: str
    name: str
    split: str
    cohort: str = ""
    left_out: Mapping[str, int] | None = None


def parse_source(text: str) -> tuple[str, str]:
    """`kind:FILE` or `cohort[:DIGEST]` -> (kind, the rest). Raises BadInput for anything else."""
    from cars_core.coverage.label_files import KINDS

    kind, colon, rest = text.partition(":")
    allowed = ", ".join(f"{k}:FILE" for k in KINDS) + ", cohort or cohort:DIGEST"
    if kind not in (*KINDS, "cohort") or (kind != "cohort" and not rest) or (kind == "cohort" and colon and not rest):
        raise BadInput("SOURCE", text, f"one of {allowed}")
    return kind, rest


def cohort_digest(lake: Lake, prefix: str) -> str:
    """The digest of the lake's one cohort that begins so; of the last taken in where `prefix` is "".

    Raises:
        BadInput: there is none, or there are several.
    """
    import pyarrow as pa

    films = lake.dataset("cohort")
    known = sorted(set(films.to_table(columns=["cohort"])["cohort"].unique().to_pylist()))
    if not known:
        raise BadInput("SOURCE", "cohort", f"a lake with a cohort; {lake.uri} has none (cars ingest takes one in)")
    if prefix:
        found = [c for c in known if c.startswith(prefix)]
        if len(found) != 1:
            names = ", ".join(c[:12] for c in (found or known))
            raise BadInput("SOURCE", f"cohort:{prefix}", f"the beginning of one cohort's digest: {names}")
        return found[0]
    written = pa.table(lake.delta_table("cohort").get_add_actions(flatten=True)).select(["modification_time", "path"])
    last = max(written.to_pylist(), key=lambda file: file["modification_time"])["path"]  # the newest stands first
    rows = next(f for f in films.get_fragments() if f.path == last).head(1, columns=["cohort"])
    return str(rows["cohort"][0].as_py())


def cohort_films(lake: Lake, prefix: str, *, split: str) -> Films:
    """Usable films of a lake's cohort: accepted, or of labels alone (`unread`). Raises BadInput where there is none."""
    digest = cohort_digest(lake, prefix)
    where: dict[str, Any] = {"cohort": digest, "status": ["accepted", "unread"]}
    rows = lake.read("cohort", where=where if split == "all" else where | {"split": split})
    if not rows.num_rows:
        raise BadInput("--split", split, f"a split that films of cohort {digest[:12]} are in")
    return Films(rows.sort_by("record"), "cohort", f"cohort {digest[:12]}", split, cohort=digest)


def label_films(kind: str, path: str, *, split: str, vocabulary: Vocabulary) -> Films:
    """Films of a published label file. Raises BadInput for a file that is none, or a split it does not name."""
    import pyarrow.compute as pc

    from cars_core.coverage.label_files import LEFT_OUT, read_label_file

    if not Path(path).is_file():
        raise BadInput("SOURCE", f"{kind}:{path}", f"a file there, with the labels of {kind}")
    rows = read_label_file(kind, path, vocabulary=vocabulary)
    left_out = json.loads((rows.schema.metadata or {}).get(LEFT_OUT, b"{}"))
    if split != "all":
        names = sorted({str(s) for s in rows["split"].unique().to_pylist() if s is not None})
        rows = rows.filter(pc.fill_null(pc.equal(rows["split"], split), False))
        if not rows.num_rows:
            named = "which names " + ", ".join(names) if names else "which names no splits"
            raise BadInput("--split", split, f"all, or a split that {Path(path).name} names, {named}")
    return Films(rows, kind, f"{kind}:{Path(path).name}", split, left_out=left_out)


def default_findings(films: pa.Table, *, vocabulary: Vocabulary) -> list[str]:
    """The label sets of the films' sources; of a source without one, the findings that some film of it shows.

    Raises:
        BadInput: there are none.
    """
    import pyarrow.compute as pc

    from cars_core.coverage.planning.targets import stated_by

    mask = 0
    for source in films["source"].unique().to_pylist():
        stated = stated_by(source, vocabulary)
        if not stated:
            for present in films.filter(pc.equal(films["source"], source))["present"].unique().to_pylist():
                stated |= present
        mask |= stated
    if not mask:
        raise BadInput("--findings", "nothing", "findings to count; no film shows any")
    return vocabulary.unpack(mask)


def gap_settings(options: Mapping[str, Any], *, base: Gaps | None, findings: Callable[[], list[str]],
                 vocabulary: Vocabulary) -> Gaps:
    """The section `gaps` of a recipe, with the command's options laid over it (None: not given).

    Args:
        base: the section of a recipe, if one was named.
        findings: gives those to count where neither says.

    Raises:
        BadInput: naming the option, its value and what is allowed.
    """
    from schemas.recipe import parse_recipe

    given = {k: v for k, v in options.items() if v is not None}
    raw: dict[str, Any] = {"order": ORDER, "min_count": MIN_COUNT} if base is None else base.model_dump()
    raw |= given
    if "findings" not in raw:
        raw["findings"] = findings()
    for name in raw["findings"]:
        if name not in vocabulary.names:
            raise BadInput("--findings" if "findings" in given else "recipe: gaps.findings", name,
                           "one of " + ", ".join(vocabulary.names))
    try:
        return parse_recipe({"name": "gaps", "cohort": {"source": "phantom"}, "gaps": raw}, where="").gaps
    except BadInput as e:
        _, _, key = e.where.partition("gaps")
        option = key.lstrip(".").split(".")[0] or ("by" if "of by" in e.expected else "findings")
        value = raw[option] if e.value == "this section" else e.value
        shown = ",".join(value) if isinstance(value, list) else value
        raise BadInput("--" + option.replace("_", "-"), shown, e.expected) from e


def listed(text: str | None) -> list[str] | None:
    """`a,b` -> [a, b]; None stays."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def draft_plans(films: Films, survey: Survey, settings: Plan | None, *, vocabulary: Vocabulary
                ) -> dict[str, Planned | str]:
    """What may be edited, in words -> the plan for these films and gaps, or why there is none.

    Without `settings` the plan is of the fewest edits, as many as it takes, and nothing else. Nothing is rendered.
    """
    import pyarrow.compute as pc

    from cars_core import weights
    from cars_core.coverage.plan import plan_edits
    from cars_core.coverage.plausible import training_plausibility
    from schemas.policy import Plan

    offers = weights.read_card(weights.BUILT_IN / "editor", kind="editor")["offers"]
    every = list(survey.settings.findings)
    names = {"built-in editor": offers, "every finding offered": {"insert": every, "delete": every}}
    train = films.rows
    if survey.gaps.num_rows > MOST_PLANNED:
        return dict.fromkeys(names, f"{survey.gaps.num_rows:,} combinations are short, more than the {MOST_PLANNED:,} "
                             "that are planned for beside a page: fewer --findings or attributes, a lower --order")
    if {s for s in train["split"].unique().to_pylist() if s is not None} - {"train"}:
        return dict.fromkeys(names, "only training films are edited: --split train shows what a plan would change")
    if "split" in survey.settings.by and train["split"].null_count:
        return dict.fromkeys(names, "gaps were asked for by split, and some films name none")
    if not survey.gaps.num_rows:
        return dict.fromkeys(names, "nothing is missing")
    if "status" in train.column_names and "accepted" in train["status"].unique().to_pylist():
        train = train.filter(pc.equal(train["status"], "accepted"))
    unread = [c for c in ("image_id", "object") if c in train.column_names and train[c].null_count]
    train = train.drop_columns([*unread, *(c for c in ("split",) if train["split"].null_count)])
    asked = settings or Plan(max_edits=1_000_000, deletions=0.0)
    plausible = training_plausibility(train, survey.settings, vocabulary=vocabulary)
    plans: dict[str, Planned | str] = {}
    for name, offered in names.items():
        try:
            plans[name] = plan_edits(
                train, survey.gaps, asked, offered={k: frozenset(v) for k, v in offered.items()}, vocabulary=vocabulary,
                seed=0, build="", render_key="", editor="", segmenter="", uncertain=survey.settings.uncertain,
                plausible=plausible)
        except BadInput as e:
            plans[name] = str(e)
    return plans


def write_gaps_page(films: Films, survey: Survey, *, plans: Mapping[str, Planned | str], lake: Lake | None,
                    out: Path | None, vocabulary: Vocabulary) -> str:
    """Write the page to `out`, or among the pages of the lake, or to this folder; returns where it is."""
    from cars_core.report.gaps import gaps_page
    from cars_core.version import CODE_VERSION

    page = gaps_page(survey, source=films.name, split=films.split, plans=plans, vocabulary=vocabulary,
                     code=CODE_VERSION, created=datetime.now(UTC).isoformat(timespec="seconds"), cohort=films.cohort,
                     left_out=films.left_out)
    name = f"gaps-{films.cohort[:12] or films.kind}.html"
    if out is None and lake is not None:
        return lake.write_page(name, page)
    where = out or Path(name)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(page)
    except OSError as e:
        raise BadInput("--out", str(where), f"a place that can be written ({e.strerror})") from e
    return str(where)


def gaps_command(note: Console, lake_here: LakeHere) -> Callable[..., None]:
    """The function behind `cars gaps`; words go to `note`; `lake_here` gives the lake for what --lake says, or None."""

    def gaps(
        source: Annotated[
            str,
            typer.Argument(metavar="SOURCE", help="nih:FILE, chexpert:FILE, mimic:FILE, vindr:FILE, padchest:FILE (a "
                           "published label file); cohort or cohort:DIGEST (of a lake; the last taken in)."),
        ] = "cohort",
        findings: Annotated[str | None, typer.Option(help="Findings to combine, joined by commas.")] = None,
        order: Annotated[int | None, typer.Option(help=f"Findings in a combination at most, 1 to 4; {ORDER}.")] = None,
        min_count: Annotated[
            int | None, typer.Option(help=f"Films that a combination should be on; {MIN_COUNT}.")
        ] = None,
        min_share: Annotated[float | None, typer.Option(help="Share of the films it should be on, too.")] = None,
        by: Annotated[
            str | None, typer.Option(help="Attributes to keep apart: sex, age, view, source, dataset, split.")
        ] = None,
        level: Annotated[
            int | None, typer.Option(help="Values in an uncovered pattern at most; as --order.")
        ] = None,
        full: Annotated[
            bool, typer.Option("--full", help="Count combinations of findings present and absent, too.")
        ] = False,
        uncertain: Annotated[
            str | None, typer.Option(help="An uncertain finding counts as absent, present, or neither: ignore.")
        ] = None,
        split: Annotated[
            str | None, typer.Option(help="train, validate, test or all; train of a cohort, all of a label file.")
        ] = None,
        recipe: Annotated[
            str | None, typer.Option(help="Recipe whose gap policy and plan hold; options go over it.")
        ] = None,
        lake: Annotated[
            str | None,
            typer.Option("--lake", help="Folder or s3:// address of the lake; by default the last written one here."),
        ] = None,
        top: Annotated[int, typer.Option(help="Short combinations to print.")] = 20,
        json_: Annotated[bool, typer.Option("--json", help="Print one document of JSON and no tables.")] = False,
        page: Annotated[bool, typer.Option("--page", help="Draw it: matrix, lists, what a plan would change.")] = False,
        out: Annotated[Path | None, typer.Option("--out", help="Where the page goes, instead of the lake.")] = None,
    ) -> None:
        """Count every combination of findings, and name those that too few films show. Not for diagnosis."""
        from cars_core.coverage.survey import survey as count
        from cars_core.vocabulary import load_vocabulary
        from schemas.recipe import load_recipe

        kind, rest = parse_source(source)
        split = split or ("train" if kind == "cohort" else "all")
        for option, value, allowed, right in (
            ("--split", split, "one of " + ", ".join(SPLITS), split in SPLITS),
            ("--level", level, f"a whole number from 1 to {MAX_LEVEL}", level is None or 1 <= level <= MAX_LEVEL),
            ("--top", top, "0 or more", top >= 0),
        ):
            if not right:
                raise BadInput(option, value, allowed)
        asked = load_recipe(recipe) if recipe else None
        vocabulary = load_vocabulary(asked.vocabulary if asked else None)
        into = _lake(lake_here(lake or (asked.lake if asked else None))) if kind == "cohort" else None
        films = cohort_films(into, rest, split=split) if into else label_films(
            kind, rest, split=split, vocabulary=vocabulary)
        settings = gap_settings(
            {"findings": listed(findings), "order": order, "min_count": min_count, "min_share": min_share,
             "by": listed(by), "uncertain": uncertain, "patterns": "full" if full else None},
            base=asked.gaps if asked else None, vocabulary=vocabulary,
            findings=lambda: default_findings(films.rows, vocabulary=vocabulary))
        found = count(films.rows, settings, vocabulary=vocabulary, level=level)
        if json_:
            more = {"left_out": films.left_out} if films.left_out else {}
            print(json.dumps({"source": source, "split": split, **found.as_json(), **more}, ensure_ascii=False))
        else:
            _print(note, films, found, top)
        if page or out:
            plans = draft_plans(films, found, asked.plan if asked else None, vocabulary=vocabulary)
            where = write_gaps_page(films, found, plans=plans, lake=into, out=out, vocabulary=vocabulary)
            note.print(f"Page: {where}", soft_wrap=True, markup=False, highlight=False)

    return gaps


def _lake(uri: str) -> Lake:
    from tasks.job import open_lake

    return open_lake(uri)


def _print(note: Console, films: Films, found: Survey, top: int) -> None:
    from cars_core.report.gaps import ORDERS, ranked, uncovered_kind, uncovered_words
    from cars_core.report.matrix import lift_words
    from cars_core.report.words import number, pattern_words

    part = "" if films.split == "all" else f" of the {films.split} split"
    note.print(f"{films.name}: {found.films:,} films{part}, {found.distinct_vectors:,} distinct finding vectors",
               markup=False, highlight=False)
    if films.left_out:
        rows = "; ".join(f"{n:,}: {why}" for why, n in sorted(films.left_out.items(), key=lambda x: -x[1]))
        note.print(f"Rows left out: {rows}", markup=False, highlight=False)
    table = Table(title="Combinations of findings" + (" over all films" if found.grouped.by else ""))
    for name in ("", "combinations", "short", "never seen"):
        table.add_column(name, justify="right" if name else "left")
    for order, n in found.orders().items():
        table.add_row(ORDERS.get(int(order), order), *(f"{n[k]:,}" for k in ("patterns", "below", "absent")))
    note.print(table)
    gaps = ranked(found.gaps.to_pylist())
    if gaps and top:
        table = Table(title=f"Short: {min(top, len(gaps)):,} of {len(gaps):,}, those that can be filled first")
        for name in ("combination", "seen", "chance", "lift", "missing", "can be filled"):
            table.add_column(name, justify="right" if name in ("seen", "chance", "missing") else "left")
        for g in gaps[:top]:
            table.add_row(Text(pattern_words(g)), f"{g['observed']:,}", number(g["expected"], 1), Text(lift_words(g)),
                          f"{g['deficit']:,}", Text("yes" if g["fillable"] else g["reason"] or "no"))
        note.print(table)
    uncovered = found.uncovered.to_pylist()
    for level in sorted({r["level"] for r in uncovered}):
        of = sorted((r for r in uncovered if r["level"] == level), key=lambda r: not r["possible"])
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in Counter(map(uncovered_kind, of)).most_common())
        few = "; ".join(f"{uncovered_words(r)}: {r['observed']:,}" for r in of[:3])
        note.print(f"Uncovered at level {level}: {len(of):,} ({kinds}), as {few}", markup=False, highlight=False)
