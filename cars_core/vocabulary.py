"""The vocabulary of findings: names, bits, label-set aliases, implications."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

from schemas.errors import BadInput

LABEL_SETS = ("nih", "chexpert", "vindr", "padchest")
REGIONS = ("lung", "base", "apex", "pleura", "heart", "mediastinum", "hilum", "diaphragm", "bone", "film")
BUILT_IN = Path(__file__).resolve().parent.parent / "schemas" / "findings.yaml"


@dataclass(frozen=True)
class Finding:
    """One finding. `bit` is its place in packed vectors; `aliases` its names by label set; `outline` says whether
    it rightly changes the outline of lungs or heart; `sided` whether it lies on one side; `region` (one of REGIONS)
    where it lies by default; `excludes` findings that cannot be on one film with it."""

    name: str
    bit: int
    aliases: dict[str, tuple[str, ...]]
    parents: tuple[str, ...]
    outline: bool
    sided: bool
    excludes: tuple[str, ...] = ()
    region: str = "lung"

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides an edit may use by default: left and right, or both at once."""
        return ("left", "right") if self.sided else ("both",)


@dataclass(frozen=True)
class Vocabulary:
    """Findings in the order of their bits.

    no_finding: label set -> what it calls the absence of everything it labels. concepts: label -> concepts that speak
    for it; both are findings, or the names of labels and concepts that have no bit. passed_over: label set -> labels
    of it that name no finding of the vocabulary.
    """

    findings: tuple[Finding, ...]
    no_finding: dict[str, str]
    concepts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passed_over: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {f.name: f for f in self.findings})
        up = [_ancestors(f.name, self) for f in self.findings]
        down = [sum(1 << f.bit for f in self.findings if up[f.bit] >> bit & 1) for bit in range(len(up))]
        beside = [0] * len(up)
        for f in self.findings:
            for other in f.excludes:
                beside[f.bit] |= 1 << self[other].bit
                beside[self[other].bit] |= 1 << f.bit
        for name, masks in (("_up", up), ("_down", down), ("_beside", beside)):
            object.__setattr__(self, name, tuple(masks))
        sets = {which: {name: f for f in self.findings for name in f.aliases.get(which, ())} for which in LABEL_SETS}
        object.__setattr__(self, "_label_sets", sets)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Raises BadInput for a name the vocabulary lacks."""
        try:
            return self._by_name[name]  # type: ignore[attr-defined,no-any-return]
        except KeyError:
            raise BadInput("finding", name, "one of " + ", ".join(self.names)) from None

    def label_set(self, which: str) -> dict[str, Finding]:
        """Label name -> finding, for a label set (one of LABEL_SETS). Several names may mean one finding."""
        return dict(self._label_sets.get(which, {}))  # type: ignore[attr-defined]

    def mask(self, names: list[str] | tuple[str, ...]) -> int:
        """Packed bits of some findings."""
        return sum({1 << self[n].bit for n in names})

    def unpack(self, mask: int) -> list[str]:
        """Names whose bit is set, in vocabulary order."""
        return [f.name for f in self.findings if mask >> f.bit & 1]

    def ancestors(self, mask: int) -> int:
        """What the findings of `mask` imply, directly or not, as a mask (a finding does not imply itself)."""
        return self._union("_up", mask)

    def descendants(self, mask: int) -> int:
        """What implies any finding of `mask`, directly or not, as a mask."""
        return self._union("_down", mask)

    def excluded(self, mask: int) -> int:
        """What cannot be on one film with some finding of `mask`, as a mask; exclusion holds both ways."""
        return self._union("_beside", mask)

    def _union(self, which: str, mask: int) -> int:
        out = 0
        for bit, other in enumerate(getattr(self, which)):
            if mask >> bit & 1:
                out |= other
        return out


def _ancestors(name: str, vocabulary: Vocabulary) -> int:
    """Mask of everything above a finding. Raises BadInput for a finding that implies itself."""
    mask, todo = 0, list(vocabulary[name].parents)
    while todo:
        parent = vocabulary[todo.pop()]
        if parent.name == name:
            raise BadInput(f"vocabulary: parents of {name}", name, "no finding that implies itself")
        if not mask >> parent.bit & 1:
            mask |= 1 << parent.bit
            todo.extend(parent.parents)
    return mask


@lru_cache(maxsize=8)
def load_vocabulary(path: str | None = None) -> Vocabulary:
    """Read a vocabulary file (the built-in one by default).

    Raises:
        BadInput: unreadable, a name or a label twice, a parent or an excluded finding that does not exist,
        a finding that implies itself, or more than 62 findings (a vector is a signed 64-bit integer).
    """
    file = Path(path) if path else BUILT_IN
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        rows = raw["findings"]
        found = tuple(
            Finding(
                name=r["name"],
                bit=i,
                aliases={k: _names(r[k]) for k in LABEL_SETS if k in r},
                parents=tuple(r.get("parents", ())),
                outline=bool(r["outline"]),
                sided=bool(r["sided"]),
                excludes=tuple(r.get("excludes", ())),
                region=r.get("region", "lung"),
            )
            for i, r in enumerate(rows)
        )
        none = dict(raw.get("no_finding", {}))
        concepts = {label: tuple(names) for label, names in raw.get("concepts", {}).items()}
        passed_over = {which: frozenset(names) for which, names in raw.get("passed_over", {}).items()}
    except OSError as e:
        raise BadInput("vocabulary", str(file), f"a readable file ({e.strerror})") from e
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(
            f"vocabulary {file}", " ".join(str(e).split())[:120], "findings with name, outline and sided"
        ) from e
    names = [f.name for f in found]
    if len(found) > 62:
        raise BadInput(f"vocabulary {file}", len(found), "at most 62 findings")
    if len(set(names)) < len(names):
        raise BadInput(f"vocabulary {file}", next(n for n in names if names.count(n) > 1), "each finding once")
    for f in found:
        for key, others in (("parents", f.parents), ("excludes", f.excludes)):
            for p in others:
                if p not in names:
                    raise BadInput(f"vocabulary {file}: {key} of {f.name}", p, "a finding of this file")
    for f in found:
        if f.region not in REGIONS:
            raise BadInput(f"vocabulary {file}: region of {f.name}", f.region, "one of " + ", ".join(REGIONS))
    for which in LABEL_SETS:  # a label two findings share would be read as the last of them only
        labels = [name for f in found for name in f.aliases.get(which, ())]
        if len(set(labels)) < len(labels):
            twice = next(n for n in labels if labels.count(n) > 1)
            raise BadInput(f"vocabulary {file}: {which}", twice, "each label once")
    return Vocabulary(found, none, concepts, passed_over)


def _names(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, list) and all(isinstance(x, str) for x in given):
        return tuple(given)
    raise TypeError(f"{given!r} is neither a name nor a list of names")
