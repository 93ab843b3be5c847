"""The recipe's policy on combinations of findings: which of them are missing, and which edits may fill them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from schemas.part import Part, Share

Uncertain = Literal["absent", "present", "ignore"]
Attribute = Literal["sex", "age", "view", "source", "dataset", "split"]
ATTRIBUTES: tuple[str, ...] = get_args(Attribute)
#: Ages in years, both ends included, that count as one value of the attribute `age`.
AGE_BANDS: tuple[tuple[int, int], ...] = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 150))


class Plausible(Part):
    """Which combinations may be made. What the vocabulary rules out never is.

    rule `seen` (the default): the findings of a film, as it would be after an edit, must all be on some real film: a
    training film, or one of `reference`: `nih`, the distinct vectors of the published ChestX-ray14 labels, which ship
    with the factory; a CSV file with columns findings (joined by |) and films; null for training films alone. `any`:
    whatever the vocabulary does not rule out.
    `allow`: combinations that a clinician holds possible, seen or not, and so is any part of one. `deny`: combinations
    not to be made, nor any that holds one.
    """

    rule: Literal["seen", "any"] = "seen"
    reference: str | None = "nih"
    allow: list[Annotated[list[str], Field(min_length=1)]] = []
    deny: list[Annotated[list[str], Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _agree(self) -> Plausible:
        for denied in self.deny:
            if held := [a for a in self.allow if set(denied) <= set(a)]:
                raise ValueError(f"allow and deny that agree ({' + '.join(held[0])} is allowed and holds "
                                 f"{' + '.join(denied)}, which is denied)")
        return self


class Gaps(Part):
    """What counts as missing: combinations of `findings` up to `order` seen on too few training films.

    Too few is fewer than `min_count` films, than `min_share` of the films, or than the share that the films of `target`
    hold (`nih` or a CSV file, as in `plausible.reference`), whichever asks for most.
    `by`: every combination again within each value of these attributes and each choice of values of several.
    `patterns`: `positive` counts films that show a combination, whatever else they show; `full` also those that show
    some findings of a combination and not the others.
    `uncertain` says how an uncertain finding is counted: as absent (U-zeros), as present (U-ones), or not at all
    (`ignore`: a film that leaves a finding of a combination open is not among those that the combination is expected
    on). A finding that is not mentioned counts as absent.
    """

    findings: Annotated[list[str], Field(min_length=1)]
    order: Annotated[int, Field(ge=1, le=4)] = 2
    min_count: Annotated[int, Field(ge=1)] = 10
    min_share: Annotated[float, Field(gt=0, le=1)] | None = None
    target: str | None = None
    by: Annotated[list[Attribute], Field(max_length=4)] = []
    patterns: Literal["positive", "full"] = "positive"
    uncertain: Uncertain = "absent"
    plausible: Plausible = Plausible()

    @model_validator(mode="after")
    def _distinct(self) -> Gaps:
        for name, values in (("finding", self.findings), ("attribute of by", self.by)):
            if twice := [n for i, n in enumerate(values) if n in values[:i]]:
                raise ValueError(f"each {name} once ({twice[0]} is there twice)")
        return self


class Effort(Part):
    """A number for inserting a finding and one for deleting it; null where the general one holds."""

    insert: Annotated[float, Field(gt=0)] | None = None
    delete: Annotated[float, Field(gt=0)] | None = None


class Plan(Part):
    """Which edits are made, and limits on them.

    strategy: how targets are chosen. `fewest`: the edits that fill most gaps at once first, then those that turned out
    needless are dropped; `optimal`: proven fewest, for small problems; the controls `min_gap` (always the gap
    that lacks least) and `random` (targets drawn at random, as in published work).
    Costs are per operation, `costs` per finding; an operation that passes quality control in a share of `pass_rates`
    costs that many times more. Among edits that fill equally much the cheapest are taken.
    `balance`: sources are taken so that the edited films have the training films' shares of these attributes, or those
    of `population` (attribute -> value -> share).
    `deletions` is the least share of the edits, rounded down, that only delete: they leave an under-covered combination
    alone on the film, or nothing (as far as such films exist).
    """

    strategy: Literal["fewest", "optimal", "min_gap", "random"] = "fewest"
    max_edits: Annotated[int, Field(ge=1)] = 64
    per_patient: Annotated[int, Field(ge=1)] = 2
    per_film: Annotated[int, Field(ge=1)] = 1
    max_operations: Annotated[int, Field(ge=1, le=3)] = 2
    insert_cost: Annotated[float, Field(gt=0)] = 1.0
    delete_cost: Annotated[float, Field(gt=0)] = 1.5
    costs: dict[str, Effort] = {}
    pass_rates: dict[str, Effort] = {}
    balance: list[Literal["sex", "age", "view"]] = ["sex", "age", "view"]
    population: dict[Literal["sex", "age", "view"], dict[str, Annotated[float, Field(ge=0)]]] = {}
    deletions: Share = 0.2

    @model_validator(mode="after")
    def _sensible(self) -> Plan:
        if twice := [a for i, a in enumerate(self.balance) if a in self.balance[:i]]:
            raise ValueError(f"balance: each attribute once ({twice[0]} is there twice)")
        for name, rate in self.pass_rates.items():
            if max(rate.insert or 0, rate.delete or 0) > 1:
                raise ValueError(f"pass_rates of {name}: at most 1")
        for attribute, shares in self.population.items():
            if attribute not in self.balance:
                raise ValueError(f"population: attributes of balance ({attribute} is not one)")
            if sum(shares.values()) <= 0:
                raise ValueError(f"population: shares of {attribute} that are not all 0")
        return self
