"""One edit: exact where it keeps, a pure function of its inputs, refused where it makes no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.anatomy.masks import Anatomy
from cars_core.generate.denoiser import REGION, Condition, Denoiser
from cars_core.generate.edit import Edited, cut, edit_film, lay_change, paste_weight
from cars_core.generate.pairs import Base
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

VOCABULARY = load_vocabulary()


def op(kind: str = "insert", finding: str = "effusion", side: str = "left", severity: float = 0.6) -> dict[str, Any]:
    return {"kind": kind, "finding": finding, "side": side, "severity": severity}


def edit(
    base: Base, denoiser: Denoiser, *operations: dict[str, Any], seed: int = 7, present: int = 0, **more: Any
) -> Edited:
    given = {"anatomy": base.anatomy, "steps": 3, "guidance": 1.5, "vocabulary": VOCABULARY} | more
    return edit_film(
        base.film, operations=list(operations), source_present=present, seed=seed, denoiser=denoiser, **given
    )


@pytest.mark.parametrize("finding", ["effusion", "nodule", "cardiomegaly", "edema"])
def test_kept_pixels_are_the_sources_bit_for_bit(base: Base, denoiser: Denoiser, finding: str) -> None:
    made = edit(base, denoiser, op(finding=finding, side="both" if finding in ("cardiomegaly", "edema") else "left"))
    assert (made.film[made.mask == 0] == base.film[made.mask == 0]).all()
    assert (made.film[made.mask == 255] != base.film[made.mask == 255]).any()


def test_the_same_edit_gives_the_same_pixels_and_another_seed_others(base: Base, denoiser: Denoiser) -> None:
    once, again, other = (edit(base, denoiser, op(finding="mass"), seed=s) for s in (7, 7, 8))
    assert (once.film == again.film).all() and (once.mask == again.mask).all()
    assert (once.film != other.film).any()


def test_what_else_ran_before_does_not_change_an_edit(base: Base, denoiser: Denoiser) -> None:
    """Global random state must not leak in: a shard's edits would depend on their neighbours."""
    alone = edit(base, denoiser, op(finding="mass"))
    torch.manual_seed(1)
    np.random.seed(1)
    edit(base, denoiser, op(finding="nodule"), seed=99)
    assert (edit(base, denoiser, op(finding="mass")).film == alone.film).all()


def test_an_edit_on_one_side_leaves_the_other_lung_alone(base: Base, denoiser: Denoiser) -> None:
    made = edit(base, denoiser, op(side="left"))
    assert (made.film[base.anatomy.right_lung] == base.film[base.anatomy.right_lung]).all()


@pytest.mark.parametrize(
    ("operation", "present", "says"),
    [
        (op(finding="fracture"), [], "fracture"),
        (op(kind="delete", finding="nodule"), ["nodule"], "nodule"),
        (op(), ["effusion"], "already present"),
        (op(kind="delete"), [], "already absent"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    base: Base, denoiser: Denoiser, operation: dict[str, Any], present: list[str], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        edit(base, denoiser, operation, present=VOCABULARY.mask(present))


def test_a_film_without_lungs_is_refused(base: Base, denoiser: Denoiser) -> None:
    nothing = np.zeros_like(base.film, bool)
    with pytest.raises(BadInput, match="lung"):
        edit(base, denoiser, op(), anatomy=Anatomy(nothing, nothing, nothing))


def test_not_a_number_is_refused_not_painted(base: Base, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Denoiser, "sample", lambda self, **_: torch.full((REGION, REGION), float("nan")))
    with pytest.raises(BadInput, match="not a number"):
        edit(base, denoiser, op())


def test_each_pass_is_told_what_the_passes_before_it_did(
    base: Base, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delete an effusion, insert a mass and a nodule: the last pass must know of the mass, and of no effusion."""
    told: list[Condition] = []

    def spy(self: Denoiser, *, condition: Condition, **_: Any) -> torch.Tensor:
        told.append(condition)
        return torch.zeros(REGION, REGION)

    monkeypatch.setattr(Denoiser, "sample", spy)
    effusion, mass, nodule = (VOCABULARY.mask([n]) for n in ("effusion", "mass", "nodule"))
    monkeypatch.setattr("cars_core.generate.edit.likely_sides", lambda *_: ("left", "right"))
    operations = [op(finding="nodule"), op(finding="mass"), op(kind="delete", side="both")]
    edit(base, denoiser, *operations, present=effusion)
    said = [(c.finding, c.side, c.source_present, c.target_present) for c in told]
    assert said == [
        ("effusion", "left", effusion, 0),
        ("effusion", "right", effusion, 0),
        ("mass", "left", 0, mass),
        ("nodule", "left", mass, mass | nodule),
    ]


@settings(max_examples=50, deadline=None)
@given(top=st.integers(-40, 60), left=st.integers(-40, 60), n=st.integers(8, 90), seed=st.integers(0, 99))
def test_a_change_lands_only_inside_its_box(top: int, left: int, n: int, seed: int) -> None:
    """Boxes may reach over the film's edge; nothing may wrap round or spill."""
    film = np.random.default_rng(seed).integers(20, 230, (80, 70)).astype(np.uint8)
    out = lay_change(film, torch.full((REGION, REGION), 0.8), (top, left, n), np.ones(film.shape, np.float32))
    inside = np.zeros(film.shape, bool)
    inside[max(0, top) : max(0, top + n), max(0, left) : max(0, left + n)] = True
    assert (out[~inside] == film[~inside]).all()
    assert (out[inside] > film[inside]).all()


def test_cut_repeats_the_edge_and_keeps_the_mean() -> None:
    film = np.tile(np.arange(60, dtype=np.uint8), (60, 1))
    whole = cut(film, (0, 0, 60), 30)
    assert whole.shape == (30, 30) and float(whole.mean()) == pytest.approx(29.5, abs=0.2)
    assert float(cut(film, (0, -40, 40), 8).max()) == 0.0  # left of the film: its first column


def test_paste_weight_is_one_inside_zero_outside_and_falls_across_the_band() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[8:32, 8:32] = 128
    mask[14:26, 14:26] = 255
    w = paste_weight(mask)
    assert (w[mask == 255] == 1).all() and (w[mask == 0] == 0).all()
    across = w[20, 8:15]
    assert (np.diff(across) > 0).all() and 0 < across[0] < 0.2


def test_the_condition_tells_findings_sides_and_severities_apart(denoiser: Denoiser) -> None:
    """A generator that sees the label only cannot render the edit that was planned (a fault of published code)."""
    from cars_core.generate.denoiser import encode

    def condition(**changed: Any) -> Condition:
        given: dict[str, Any] = {
            "kind": "insert",
            "finding": "mass",
            "severity": 0.5,
            "side": "left",
            "source_present": 0,
            "target_present": 16,
            "box_share": 0.4,
        }
        return Condition(**(given | changed))

    variants = [
        condition(),
        condition(severity=0.8),
        condition(side="right"),
        condition(finding="nodule", target_present=32),
        condition(kind="delete", source_present=16, target_present=0),
        condition(source_present=4, target_present=20),
    ]
    rows = encode(variants, denoiser.findings)
    assert len({tuple(r.tolist()) for r in rows}) == len(variants)
