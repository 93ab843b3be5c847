"""The recipe: one YAML that says what to build. Unknown keys are refused, every value has its range."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.errors import BadInput
from schemas.part import Part, Share
from schemas.policy import Gaps, Plan

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
SourceKind = Literal["nih", "chexpert", "chexpert-plus", "mimic", "vindr", "padchest", "folder", "dicom", "phantom"]
Screen = Literal["set_aside", "flag", "off"]
Labeler = Literal["published", "negbio", "reports", "findings_fixed", "impression_fixed", "report_fixed"]

_ONLY_OF: dict[str, tuple[str, ...]] = {
    "labeler": ("mimic", "chexpert-plus"), "external": ("mimic", "chexpert", "chexpert-plus"), "reports": ("mimic",),
    "patients": ("mimic",), "columns": ("folder", "dicom"), "label_names": ("folder", "dicom"),
    "absent": ("folder", "dicom"),
}


class Splits(Part):
    """Shares of patients; a patient is in one split."""

    train: Share = 0.7
    validate_: Share = Field(0.1, alias="validate")
    test: Share = 0.2

    @model_validator(mode="after")
    def _sum(self) -> Splits:
        if abs(self.train + self.validate_ + self.test - 1) > 1e-6:
            raise ValueError("train, validate and test must add up to 1")
        return self


class Thinned(Part):
    """A combination of findings made rarer among simulated training patients: its weight is multiplied by `keep`."""

    findings: Annotated[list[str], Field(min_length=1)]
    keep: Share


class Source(Part):
    """One source of films.

    Every source: `root` (a folder or s3://bucket/prefix), `labels` (the label file in it, where it is not the usual
    one), `licence` (data-use terms, where they are not the source's own), `limit` (the first so many records only),
    `dataset` (what the source is called in rows), `ids` (whose patient numbers these are: sources with the same `ids`
    share their patients).

    `labeler` says whose labels count, of the sources that offer several (`negbio` of MIMIC-CXR-JPG, `*_fixed` of
    CheXpert Plus, `reports`: ours, read from the report texts); `external` is a local CSV of another labeler's
    (CheXbert, a language model), keyed by study_id, Path or path_to_image, which takes their place. `reports` is where
    report texts lie, if not in `root`; `patients` the MIMIC-IV table of ages. `columns` and `label_names` are the
    column map of a folder or of the label file of a DICOM folder; `absent` what a label that is not listed there means.
    `public_ids` states that the source's identifiers are already public and harmless (NIH), so that pseudonyms may be
    keyed by the recipe's seed.
    """

    source: SourceKind
    root: str | None = None
    labels: str | None = None
    dataset: Name | None = None
    ids: Name | None = None
    licence: str | None = None
    labeler: Labeler = "published"
    external: str | None = None
    reports: str | None = None
    patients: str | None = None
    columns: dict[str, str | None] = {}
    label_names: dict[str, str | list[str] | None] = {}
    absent: Literal["unlisted", "unmentioned"] = "unmentioned"
    limit: Annotated[int, Field(ge=1)] | None = None
    public_ids: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Source:
        for key, kinds in _ONLY_OF.items():
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True) \
                    and self.source not in kinds:
                raise ValueError(f"{key} with source {' or '.join(kinds)} only, not {self.source}")
        if self.source == "folder" and not {"image", "patient"} <= set(self.columns):
            raise ValueError("columns of a folder: at least {image: COLUMN, patient: COLUMN} (patient: null where each "
                             "film is its own patient)")
        allowed = {"mimic": ("published", "negbio", "reports"),
                   "chexpert-plus": ("published", "reports", "findings_fixed", "impression_fixed", "report_fixed")}
        if self.labeler not in allowed.get(self.source, ("published",)):
            raise ValueError(f"labeler of {self.source}: " + " or ".join(allowed.get(self.source, ("published",))))
        return self

    @property
    def name(self) -> str:
        """What the source is called in rows: `dataset`, or the kind of source."""
        return self.dataset or self.source

    @property
    def patients_of(self) -> str:
        """Whose patient numbers these are: sources with the same answer share their patients. Two folders, or two
        archives, do not unless the recipe says so."""
        if self.source in ("folder", "dicom"):
            return self.ids or self.name
        return self.ids or {"chexpert-plus": "chexpert"}.get(self.source, self.source)


class Screens(Part):
    """What becomes of a film that is no upright frontal chest film, or not fit to be passed on.

    set_aside: kept out, with its reason. flag: taken in, with a word in `flags`. off: not looked for. `rotated` can
    also be `repair`: turned upright where that is certain, flagged where it is not.
    `view`: lateral by its label or header. `chest`: not a frontal chest film by its look. `negative`: grey that seems
    inverted. `near`: nearly the pixels of a film before it. `text`: words burned into the picture beyond side markers,
    which may name somebody; where the recipe does not say, such a film is set aside if a source's identifiers are
    secret, and flagged if they are public (one film in a hundred is flagged for a word such as SEMI-ERECT that the
    reader does not know, and those patients are the sick ones).
    """

    view: Screen = "set_aside"
    chest: Screen = "set_aside"
    rotated: Literal["repair", "set_aside", "flag", "off"] = "repair"
    blank: Screen = "set_aside"
    photo: Screen = "set_aside"
    negative: Screen = "flag"
    text: Screen | None = None
    near: Screen = "set_aside"

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # what YAML makes of a bare off

    def of(self, source: Source) -> Screens:
        """The screens of one source: what is left open is settled."""
        return self.model_copy(update={"text": self.text or ("flag" if source.public_ids else "set_aside")})


class Cohort(Source):
    """Where real (or simulated) films come from: one source, and `more` of them.

    A real source needs the secret key of its pseudonyms, in `key_file` or in the Prefect Secret block `key_secret`, or
    public_ids.
    `published_splits` takes train, validate and test as the sources publish them, where they do.
    `bits` of grey are kept (the factory's models read 8 of them). Without `read_films` only labels are read: rows to
    count combinations over, of which nothing can be edited.
    """

    more: list[Source] = []
    films: Annotated[int, Field(ge=10, le=1_000_000)] = 600
    size: Annotated[int, Field(ge=64, le=1024)] = 256
    bits: Literal[8, 16] = 8
    read_films: bool = True
    withheld: list[list[str]] = []
    thinned: list[Thinned] = []
    splits: Splits = Splits()
    published_splits: bool = False
    screen: Screens = Screens()
    key_file: str | None = None
    key_secret: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, this one first."""
        return (self, *self.more)

    @field_validator("withheld", "thinned")
    @classmethod
    def _simulated(cls, value: list[Any], info: ValidationInfo) -> list[Any]:
        # Real films are as they come: a recipe that holds some back would be obeyed by nobody.
        if value and info.data.get("source", "phantom") != "phantom":
            raise ValueError(f"source phantom, or none: source {info.data['source']} cannot be held back or thinned")
        return value

    @model_validator(mode="after")
    def _keyed(self) -> Cohort:
        private = any(s.source != "phantom" and not s.public_ids for s in self.sources)
        if private and not self.key_file and not self.key_secret:
            raise ValueError("key_file (a file with the secret pseudonym key), key_secret or public_ids: true, for a "
                             "real source")
        if self.key_file and self.key_secret:
            raise ValueError("key_file or key_secret, not both")
        return self

    @model_validator(mode="after")
    def _named_apart(self) -> Cohort:
        names = [s.name for s in self.sources]
        if twice := [n for i, n in enumerate(names) if n in names[:i]]:
            raise ValueError(f"dataset: another name for each source ({twice[0]} is there twice)")
        if any(s.source == "phantom" for s in self.more):
            raise ValueError("source phantom only as the first source, not among more")
        return self

    @model_validator(mode="after")
    def _thinned_once(self) -> Cohort:
        combinations = [frozenset(t.findings) for t in self.thinned]
        if twice := [c for i, c in enumerate(combinations) if c in combinations[:i]]:
            raise ValueError(f"thinned: each combination once ({' + '.join(sorted(twice[0]))} is there twice)")
        return self


class Editor(Part):
    """The editing model. `weights` is a folder with model.safetensors and model.json; null is ours."""

    weights: str | None = None
    segmenter: str | None = None
    steps: Annotated[int, Field(ge=1, le=200)] = 20
    guidance: Annotated[float, Field(ge=0, le=20)] = 1.5
    shard: Annotated[int, Field(ge=1)] = 32
    chunk: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 1


class Gates(Part):
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


class Evaluation(Part):
    """Fine-tuning with and without the subset, on test patients nobody else saw. `uncertain` and `unmentioned` say
    what a classifier is taught of such findings: nothing (`ignore`), or that they are absent (U-zeros) or present
    (U-ones)."""

    backbone: str = "test_resnet"
    image_size: Annotated[int, Field(ge=32, le=512)] = 96
    steps: Annotated[int, Field(ge=1)] = 300
    batch: Annotated[int, Field(ge=2)] = 32
    lr: Annotated[float, Field(gt=0, le=1)] = 3e-3
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1]
    bootstrap: Annotated[int, Field(ge=20, le=10_000)] = 200
    pretrained: str | None = None
    uncertain: Literal["ignore", "absent", "present"] = "ignore"
    unmentioned: Literal["ignore", "absent"] = "ignore"


class Recipe(Part):
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
    at: Any = raw
    *parents, last = key.split(".")
    for part in parents:
        at = _place(at, part, item) if isinstance(at, list) else at.setdefault(part, {})
        if not isinstance(at, dict | list):
            raise BadInput("--set", item, f"{part} to be a section of the recipe")
    if isinstance(at, list):
        _place(at, last, item)
        at[int(last)] = value
    else:
        at[last] = value


def _place(at: list[Any], part: str, item: str) -> Any:
    if not part.isdecimal() or int(part) >= len(at):
        raise BadInput("--set", item, f"{part} to be a place in a list of {len(at)}, from 0")
    return at[int(part)]


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON that may be passed on: folders and files of the builder's machine are left out."""
    raw: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True)
    del raw["lake"]
    private = [(raw, "vocabulary"), (raw["cohort"], "key_file"), (raw["editor"], "weights"),
               (raw["editor"], "segmenter"), (raw["evaluation"], "pretrained")]
    for source in (raw["cohort"], *raw["cohort"]["more"]):
        private += [(source, key) for key in ("root", "labels", "external", "reports", "patients")]
    for part, key in private:
        if part[key] is not None:
            part[key] = "(a path of the builder's own)"
    return raw
