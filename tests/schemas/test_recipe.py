"""Without these, a slip in a recipe would build something else, hours later, instead of failing at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadInput
from schemas.recipe import Gaps, Plan, Recipe, Splits, load_recipe, parse_recipe

MINIMAL: dict[str, Any] = {"name": "demo", "cohort": {"source": "phantom"}, "gaps": {"findings": ["effusion", "mass"]}}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def message(raw: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        parse_recipe(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_smallest_recipe_has_sane_defaults(recipe: Path) -> None:
    r = load_recipe(recipe)
    assert (r.seed, r.lake, r.gaps.order, r.gaps.min_count) == (0, "lake", 2, 10)
    assert (r.plan.max_edits, r.plan.deletions) == (64, 0.2)
    assert (r.cohort.splits.train, r.cohort.splits.validate_, r.cohort.splits.test) == (0.7, 0.1, 0.2)
    assert load_recipe(recipe, lake="s3://bucket/x").lake == "s3://bucket/x"


@pytest.mark.parametrize(("path", "beside"), [
    ("nmae", {"name", "seed", "lake", "cohort", "gaps", "plan", "editor", "gates", "evaluation"}),
    ("plan.max_edit", {"max_edits", "per_patient", "per_film", "max_operations", "deletions"}),
    ("cohort.splits.validation", {"train", "validate", "test"}),
    ("gates.ssim", {"ssim_outside_min", "effect_min"}),
])
def test_an_unknown_key_is_named_beside_those_allowed(recipe: Path, path: str, beside: set[str]) -> None:
    with pytest.raises(BadInput) as caught:
        load_recipe(recipe, [f"{path}=1"])
    where, rest = str(caught.value).split(": got ")
    got, expected = rest.split("; expected one of ")
    assert where.endswith(path)
    assert got == path.rsplit(".", 1)[-1]
    assert beside <= set(expected.partition(" (nearest: ")[0].split(", "))
    assert "validate_" not in expected


def test_overrides_are_yaml_and_reach_into_sections(recipe: Path) -> None:
    r = load_recipe(recipe, ["seed=7", "gaps.findings=[edema, nodule]", "plan.insert_cost=2.5", "cohort.limit=null",
                             "cohort.public_ids=true", "editor.weights=weights/x=1", "seed=8",
                             "cohort.splits={train: 0.5, validate: 0.25, test: 0.25}"])
    assert (r.seed, r.gaps.findings, r.plan.insert_cost, r.cohort.limit) == (8, ["edema", "nodule"], 2.5, None)
    assert (r.cohort.public_ids, r.editor.weights, r.cohort.splits.validate_) == (True, "weights/x=1", 0.25)
    assert load_recipe(recipe).seed == 0


@pytest.mark.parametrize(("item", "words"), [
    ("seed", "--set: got seed; expected key.path=value"),
    ("=3", "expected key.path=value"),
    ("plan.x=[1", "--set plan.x: got [1; expected a YAML value"),
    ("name.x=1", "expected name to be a section of the recipe"),
    ("gaps.findings.7=mass", "expected 7 to be a place in a list"),
    ("name=", "name: got None; expected a value that is a valid string"),
])
def test_an_override_that_cannot_be_applied_is_named(recipe: Path, item: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_recipe(recipe, [item])
    assert words in str(caught.value)


@pytest.mark.parametrize(("section", "key", "value"), [
    ("cohort", "films", 9), ("cohort", "films", 1_000_001), ("cohort", "size", 63), ("cohort", "source", "imaginary"),
    ("cohort", "workers", 0), ("gaps", "order", 5), ("gaps", "order", 0), ("gaps", "min_count", 0),
    ("gaps", "findings", []), ("gaps", "uncertain", "maybe"), ("plan", "max_edits", 0), ("plan", "max_operations", 4),
    ("plan", "insert_cost", 0), ("plan", "insert_cost", float("inf")), ("plan", "delete_cost", float("nan")),
    ("plan", "deletions", 1.01), ("plan", "per_film", 0), ("plan", "per_patient", 1.5), ("editor", "steps", 0),
    ("editor", "guidance", 21), ("gates", "seam_max", float("inf")), ("gates", "dice_lungs_min", 1.1),
    ("evaluation", "lr", 0), ("evaluation", "seeds", []), ("evaluation", "bootstrap", 19),
])
def test_a_value_out_of_range_is_refused_with_its_key(section: str, key: str, value: object) -> None:
    raw = {**MINIMAL, section: {**MINIMAL.get(section, {}), key: value}}
    assert f"recipe: {section}.{key}: got {value}" in message(raw)


@pytest.mark.parametrize("name", ["", "Demo", "a b", "../x", "-a", "a" * 64])
def test_a_name_that_would_not_do_as_a_path_is_refused(name: str) -> None:
    assert "recipe: name: got" in message({**MINIMAL, "name": name})


@pytest.mark.parametrize("seed", [-1, 2**63, "x"])
def test_a_seed_that_does_not_fit_the_tables_is_refused(seed: object) -> None:
    assert "recipe: seed: got" in message({**MINIMAL, "seed": seed})


def test_a_missing_section_is_named() -> None:
    raw = {"name": "a", "gaps": MINIMAL["gaps"]}
    assert message(raw) == "recipe: cohort: got this section; expected Field required"


@given(st.tuples(*[st.integers(0, 100)] * 3))
def test_split_shares_must_add_up_to_one(parts: tuple[int, int, int]) -> None:
    splits = dict(zip(("train", "validate", "test"), (p / 100 for p in parts), strict=True))
    raw = {**MINIMAL, "cohort": {"source": "phantom", "splits": splits}}
    if sum(parts) == 100:
        assert isinstance(parse_recipe(raw).cohort.splits, Splits)
    else:
        assert message(raw) == ("recipe: cohort.splits: got this section; "
                                "expected train, validate and test must add up to 1")


def test_a_real_source_needs_a_pseudonym_key_or_the_word_that_ids_are_public() -> None:
    def raw(**more: object) -> dict[str, Any]:
        return {**MINIMAL, "cohort": {"source": "nih", **more}}

    assert "key_file" in message(raw())
    assert parse_recipe(raw(public_ids=True)).cohort.public_ids
    assert parse_recipe(raw(key_file="key")).cohort.key_file == "key"


@pytest.mark.parametrize(("key", "value"), [
    ("withheld", [["mass", "edema"]]), ("thinned", [{"findings": ["mass"], "keep": 0.5}])])
def test_real_films_cannot_be_held_back_by_a_key_nobody_would_obey(key: str, value: list[Any]) -> None:
    real = {"source": "nih", "public_ids": True}
    said = message({**MINIMAL, "cohort": {**real, key: value}})
    assert f"recipe: cohort.{key}: got {value}" in said and "source phantom" in said
    assert getattr(parse_recipe({**MINIMAL, "cohort": {**real, key: []}}).cohort, key) == []
    assert getattr(parse_recipe({**MINIMAL, "cohort": {"source": "phantom", key: value}}).cohort, key)


def test_a_finding_named_twice_is_refused() -> None:
    assert "each finding once (mass is there twice)" in message({**MINIMAL, "gaps": {"findings": ["mass", "mass"]}})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.yaml; expected a readable file \(No such file"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(BadInput, match="readable file"):
        load_recipe(tmp_path)
    for data, expected in ((b"a: [1", "valid YAML"), (b"\xff\xfe\xfa", "valid YAML"), (b"a: 1\n\tb: 2", "valid YAML"),
                           (b"", "a mapping"), (b"- a", "a mapping"), (b"!!python/object:os.x {}", "valid YAML")):
        (tmp_path / "bad.yaml").write_bytes(data)
        with pytest.raises(BadInput, match=expected) as caught:
            load_recipe(tmp_path / "bad.yaml")
        assert "bad.yaml" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_recipe_survives_being_stored_as_json() -> None:
    r = parse_recipe(MINIMAL)
    assert Recipe.model_validate_json(r.model_dump_json(by_alias=True)) == r


def test_a_recipe_cannot_be_changed_after_it_was_validated() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Plan().max_edits = 5  # type: ignore[misc]
    assert Gaps(findings=["mass"]).findings == ["mass"]
