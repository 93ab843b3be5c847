"""The recipe: one YAML that says what to build. Unknown keys are refused, every value has its range."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.errors import BadInput

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class _Part(BaseModel):
    # Infinity passes a lower bound and then has no JSON form, so no digest: refused like any other bad value.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Splits(_Part):
    """Shares of patients; a patient is in one split."""

    train: Share = 0.7
    validate_: Share = Field(0.1, alias="validate")
    test: Share = 0.2

    @model_validator(mode="after")
    def _sum(self) -> Splits:
        if abs(self.train + self.validate_ + self.test - 1) > 1e-6:
            raise ValueError("train, validate and test must add up to 1")
        return self


class Thinned(_Part):
    """A combination of findings made rarer among simulated training patients: its weight is multiplied by `keep`."""

    findings: Annotated[list[str], Field(min_length=1)]
    keep: Share


class Cohort(_Part):
    """Where real (or simulated) films come from.

    `public_ids` states that the source's identifiers are already public and harmless (NIH), so that
    pseudonyms may be keyed by the recipe's seed; otherwise `key_file` must hold the secret key.
    """

    source: Literal["nih", "phantom"]
    root: str | None = None
    labels: str | None = None
    films: Annotated[int, Field(ge=10, le=1_000_000)] = 600
    size: Annotated[int, Field(ge=64, le=1024)] = 256
    withheld: list[list[str]] = []
    thinned: list[Thinned] = []
    limit: Annotated[int, Field(ge=1)] | None = None
    splits: Splits = Splits()
    public_ids: bool = False
    key_file: str | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    @field_validator("withheld", "thinned")
    @classmethod
    def _simulated(cls, value: list[Any], info: ValidationInfo) -> list[Any]:
        # Real films are as they come: a recipe that holds some back would be obeyed by nobody.
        if value and info.data.get("source", "phantom") != "phantom":
            raise ValueError(f"source phantom, or none: source {info.data['source']} cannot be held back or thinned")
        return value

    @model_validator(mode="after")
    def _rooted(self) -> Cohort:
        if self.source != "phantom" and not (self.public_ids or self.key_file):
            raise ValueError("a real source needs key_file (the pseudonym key) or public_ids: true")
        return self

    @model_validator(mode="after")
    def _thinned_once(self) -> Cohort:
        combinations = [frozenset(t.findings) for t in self.thinned]
        if twice := [c for i, c in enumerate(combinations) if c in combinations[:i]]:
            raise ValueError(f"thinned: each combination once ({' + '.join(sorted(twice[0]))} is there twice)")
        return self


class Gaps(_Part):
    """What counts as missing: combinations of `findings` up to `order` seen on fewer than `min_count`
    training films. `uncertain` says how an uncertain finding is counted."""

    findings: Annotated[list[str], Field(min_length=1)]
    order: Annotated[int, Field(ge=1, le=4)] = 2
    min_count: Annotated[int, Field(ge=1)] = 10
    uncertain: Literal["absent", "present"] = "absent"

    @model_validator(mode="after")
    def _distinct(self) -> Gaps:
        if twice := [n for i, n in enumerate(self.findings) if n in self.findings[:i]]:
            raise ValueError(f"each finding once ({twice[0]} is there twice)")
        return self


class Plan(_Part):
    """Limits on what may be edited. Costs are per operation; the cheapest edits are taken first.

    `deletions` is the least share of the edits, rounded down, that only delete: they leave an
    under-covered combination alone on the film (as far as such films exist).
    """

    max_edits: Annotated[int, Field(ge=1)] = 64
    per_patient: Annotated[int, Field(ge=1)] = 2
    per_film: Annotated[int, Field(ge=1)] = 1
    max_operations: Annotated[int, Field(ge=1, le=3)] = 2
    insert_cost: Annotated[float, Field(gt=0)] = 1.0
    delete_cost: Annotated[float, Field(gt=0)] = 1.5
    deletions: Share = 0.2


class Editor(_Part):
    """The editing model. `weights` is a folder with model.safetensors and model.json; null is ours."""

    weights: str | None = None
    segmenter: str | None = None
    steps: Annotated[int, Field(ge=1, le=200)] = 20
    guidance: Annotated[float, Field(ge=0, le=20)] = 1.5
    shard: Annotated[int, Field(ge=1)] = 32
    chunk: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 1


class Gates(_Part):
    """A sample passes when every measure is on the right side of its threshold."""

    ssim_outside_min: Share = 0.995
    kept_changed_max: Annotated[int, Field(ge=0)] = 0
    dice_lungs_min: Share = 0.95
    dice_other_lung_min: Share = 0.95
    dice_outline_min: Share = 0.6
    seam_max: Annotated[float, Field(ge=0)] = 2.0
    effect_min: Annotated[float, Field(ge=0)] = 3.0
    grain_min: Annotated[float, Field(ge=0, le=1)] = 0.35
    grain_max: Annotated[float, Field(ge=1, le=10)] = 1.5
    ctr_change_max: Share = 0.04


class Evaluation(_Part):
    """Fine-tuning with and without the subset, on test patients nobody else saw."""

    backbone: str = "test_resnet"
    image_size: Annotated[int, Field(ge=32, le=512)] = 96
    steps: Annotated[int, Field(ge=1)] = 300
    batch: Annotated[int, Field(ge=2)] = 32
    lr: Annotated[float, Field(gt=0, le=1)] = 3e-3
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1]
    bootstrap: Annotated[int, Field(ge=20, le=10_000)] = 200
    pretrained: str | None = None


class Recipe(_Part):
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    lake: str = "lake"
    vocabulary: str | None = None
    cohort: Cohort
    gaps: Gaps
    plan: Plan = Plan()
    editor: Editor = Editor()
    gates: Gates = Gates()
    evaluation: Evaluation = Evaluation()
    min_accepted: Annotated[int, Field(ge=1)] = 1


def load_recipe(path: str | Path, overrides: list[str] | None = None, *, lake: str | None = None) -> Recipe:
    """Read a recipe, apply `a.b=c` overrides (values are YAML), validate.

    Raises:
        BadInput: the file cannot be read, is not YAML, or a key or value in it is not allowed.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadInput("recipe", str(path), f"a readable file ({e.strerror})") from e
    except (yaml.YAMLError, ValueError) as e:  # ValueError: bytes that are not UTF-8, an impossible date
        raise BadInput(path, " ".join(str(e).split())[:120], "valid YAML") from e
    if not isinstance(raw, dict):
        raise BadInput(path, type(raw).__name__, "a mapping of recipe keys")
    for item in overrides or []:
        _override(raw, item)
    if lake is not None:
        raw["lake"] = lake
    return parse_recipe(raw, where=str(path))


def parse_recipe(raw: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """Validate a recipe given as a mapping; the first fault is raised as BadInput."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(x) for x in first["loc"]) or "recipe"
        expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "a value that is")
        value = first["input"]
        if first["type"] == "extra_forbidden":
            value, known = key.rsplit(".", 1)[-1], _keys_beside(first["loc"])
            near = difflib.get_close_matches(value, known, n=1)
            expected = "one of " + ", ".join(known) + (f" (nearest: {near[0]})" if near else "")
        elif isinstance(value, dict):
            value = "this section"
        raise BadInput(f"{where}: {key}", value, expected) from e


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for step in loc[:-1]:
        field = next((f for n, f in model.model_fields.items() if step in (n, f.alias)), None)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return ["the keys of this section"]
        model = field.annotation
    return [f.alias or n for n, f in model.model_fields.items()]


def _override(raw: dict[str, Any], item: str) -> None:
    key, sep, text = item.partition("=")
    if not sep or not key:
        raise BadInput("--set", item, "key.path=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as e:  # ValueError: an impossible date
        raise BadInput(f"--set {key}", text, "a YAML value") from e
    at = raw
    *parents, last = key.split(".")
    for part in parents:
        nxt = at.setdefault(part, {})
        if not isinstance(nxt, dict):
            raise BadInput("--set", item, f"{part} to be a section of the recipe")
        at = nxt
    at[last] = value


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON that may be passed on: folders and files of the builder's machine are left out."""
    raw: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True)
    del raw["lake"]
    for section, key in (
        ("", "vocabulary"),
        ("cohort", "root"),
        ("cohort", "key_file"),
        ("cohort", "labels"),
        ("editor", "weights"),
        ("editor", "segmenter"),
        ("evaluation", "pretrained"),
    ):
        part = raw[section] if section else raw
        if part[key] is not None:
            part[key] = "(a path of the builder's own)"
    return raw
