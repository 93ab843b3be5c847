"""A finding or a device somewhere on a patient: what the plan or the population decides, and the models draw."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import BadInput

#: Findings that lie in one lung or both; the others have no side and say "both".
SIDED = ("atelectasis", "consolidation", "edema", "effusion", "fibrosis", "fracture", "infiltration", "mass", "nodule",
         "pleural_thickening", "pneumothorax")
UNSIDED = ("cardiomegaly", "emphysema", "hernia")
#: Sided, but seen on one side alone only rarely.
USUALLY_BOTH = ("edema",)

#: Every finding the simulator draws.
SHOWN: frozenset[str] = frozenset(SIDED + UNSIDED)

#: Sides a film can have, pixels. One of MOST_SIZE needs some 450 MB while it is drawn.
LEAST_SIZE, MOST_SIZE = 64, 1024

#: The forms a finding can take, where there is more than one. "" leaves the choice to patient and seed.
FORMS: dict[str, tuple[str, ...]] = {
    "atelectasis": ("plate", "lobar"),
    "consolidation": ("patchy", "lobar"),
    "effusion": ("meniscus", "veil"),
    "pleural_thickening": ("wall", "apex"),
    "pneumothorax": ("simple", "tension"),
}

#: Devices the simulator draws, and the sides each can come from; "both" where it lies in the midline.
DEVICES: dict[str, tuple[str, ...]] = {
    "endotracheal_tube": ("both",),
    "nasogastric_tube": ("both",),
    "central_line": ("left", "right"),
    "pacemaker": ("left", "right"),
    "sternal_wires": ("both",),
    "chest_drain": ("left", "right"),
}


@dataclass(frozen=True)
class Placed:
    """A finding somewhere: `side` left | right | both (the patient's), `severity` 0..1 (relative to what
    is commonly seen), `seed` decides place and shape, `form` one of FORMS or "" (chosen when drawn)."""

    finding: str
    side: str
    severity: float
    seed: int
    form: str = ""

    def __post_init__(self) -> None:
        if self.side not in ("left", "right", "both"):
            raise BadInput(f"side of {self.finding}", self.side, "left, right or both")
        if not 0 <= self.severity <= 1:
            raise BadInput(f"severity of {self.finding}", self.severity, "0 to 1")
        if self.form and self.form not in FORMS.get(self.finding, ()):
            forms = FORMS.get(self.finding)
            raise BadInput(f"form of {self.finding}", self.form, "one of " + ", ".join(forms) if forms else "no form")


@dataclass(frozen=True)
class Device:
    """A device in place: `kind` and `side` as in DEVICES, `seed` decides its course."""

    kind: str
    side: str
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in DEVICES:
            raise BadInput("device", self.kind, "one of " + ", ".join(DEVICES))
        if self.side not in DEVICES[self.kind]:
            raise BadInput(f"side of {self.kind}", self.side, " or ".join(DEVICES[self.kind]))


def check_findings(placed: tuple[Placed, ...]) -> None:
    """Refuse what cannot be on one film together.

    Raises:
        BadInput: a finding the simulator lacks, a side for a finding without sides, the same finding twice in one
            lung, tension on both sides.
    """
    taken: set[tuple[str, str]] = set()
    for one in placed:
        if one.finding not in SHOWN:
            raise BadInput("simulated finding", one.finding, "one of " + ", ".join(sorted(SHOWN)))
        if one.finding in UNSIDED and one.side != "both":
            raise BadInput(f"side of {one.finding}", one.side, "both, for it has no side")
        if one.finding == "pneumothorax" and one.form == "tension" and one.side == "both":
            raise BadInput("side of pneumothorax", "both", "left or right: under tension one side pushes the other")
        for side in ("left", "right") if one.side == "both" else (one.side,):
            if (one.finding, side) in taken and one.finding not in ("nodule", "mass"):
                raise BadInput(f"findings: {one.finding} twice on the {side}", one.side, "one a side")
            taken.add((one.finding, side))
