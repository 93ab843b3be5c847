"""The report of a simulated film, written from its truth: what each sentence says is known.

Findings come in a radiologist's order: devices, lungs, pleura, heart, bones, abdomen. Every finding on the film is
stated, as present or, with words that hedge, as uncertain; what a hedge leaves open is so in the statements even
where the truth is sure. What the film lacks is stated as absent or not spoken of; the one thing beyond the film is
pneumonia, which may be offered as an explanation of an opacity (uncertain).

Where readers of reports differ, this is what a statement says:
- "No acute cardiopulmonary process", "no acute osseous abnormality" and the like name no finding and state none.
- "The lungs are clear" states lung_opacity absent, and nothing of effusion or pneumothorax; it is not said beside any
  pneumothorax, beside more than a small effusion, or of someone lying on one.
- A normal heart states cardiomegaly absent; a normal cardiomediastinal silhouette enlarged_cardiomediastinum absent.
- "Opacity, atelectasis versus pneumonia" states lung_opacity present and both explanations uncertain.
- "Consistent with edema" states edema present; "concerning for tension" doubts the tension, not the pneumothorax.
- "No change in the effusion" states it present; "the right effusion has resolved" states it absent on the right.
- A device that has been removed states support_devices absent, which any other device in place overrules.
EXAMINATION, INDICATION and COMPARISON state nothing, whatever they name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from cars_core.digest import seed_from
from cars_core.phantom.body.patient import Patient
from cars_core.phantom.film import form_of
from cars_core.phantom.placed import UNSIDED, Device, Placed, check_findings
from cars_core.phantom.words import phrases as say
from cars_core.phantom.words.phrases import Sign
from cars_core.phantom.words.statements import Report, Statement

#: A severity that differs by more than this from the film before has changed.
CHANGE = 0.15

_LUNGS = ("edema", "consolidation", "infiltration", "atelectasis", "mass", "nodule", "fibrosis", "emphysema")
_PLEURA = ("pneumothorax", "effusion", "pleural_thickening")
_OPAQUE = frozenset(_LUNGS) - {"emphysema"}  # lungs with one of these are not clear
#: Least severity of an effusion, erect, beside which lungs are not called clear: more than a blunted angle.
UNCLEAR_EFFUSION = 0.3
#: Least inspiration of lungs called well expanded.
WELL_EXPANDED = 0.92
_MAY_BE_PNEUMONIA = frozenset({"consolidation", "infiltration", "atelectasis", "edema"})
_SHIFTING = frozenset({"cardiomegaly", "hernia", "mass"})  # with one of these the silhouette is not called normal
#: Findings by weight in the impression.
_WEIGHTS = {"pneumothorax": 9, "consolidation": 7, "effusion": 7, "edema": 7, "mass": 7, "nodule": 5, "infiltration": 5,
            "fracture": 4, "atelectasis": 3, "cardiomegaly": 3, "fibrosis": 2, "emphysema": 2, "pleural_thickening": 1,
            "hernia": 1}
#: Findings beside which an impression may still say that nothing is acute.
_NOT_ACUTE = frozenset({"cardiomegaly", "fibrosis", "emphysema", "pleural_thickening", "hernia"})

Prior = tuple[tuple[Placed, ...], tuple[Device, ...]]


@dataclass(frozen=True)
class _Part:
    """A clause, and (finding, state, side) for each thing it says."""

    text: str
    claims: tuple[tuple[str, str, str | None], ...] = ()


_Sentence = tuple[_Part, ...]


def write_report(*, patient: Patient, placed: tuple[Placed, ...], devices: tuple[Device, ...], seed: int,
                 prior: Prior | None = None, cut: Collection[str] = ()) -> Report:
    """The report of a film: EXAMINATION, INDICATION, COMPARISON, FINDINGS, IMPRESSION. Pure.

    Args:
        patient: gives the technique, the technique its words (fluid layers when supine).
        placed: what the film shows. A severity of less than about a third is often hedged.
        devices: what lies on or in the patient.
        seed: of the wording.
        prior: findings and devices of the film before, which the report then compares with; None for no such film.
        cut: kinds of device whose tip lies off the film.

    Raises:
        BadInput: findings that cannot be on one film together.
    """
    check_findings(placed)
    if prior is not None:
        check_findings(prior[0])
    writer = _Writer(patient, placed, np.random.default_rng(seed_from("report", seed)), prior)
    findings = [*writer.devices(devices, cut), *writer.lungs(), *writer.pleura(), *writer.heart(),
                *writer.bones_and_below()]
    impression = writer.impression()
    text = say.header(patient, writer.rng, compared=prior is not None) + "\n\nFINDINGS: "
    statements: list[Statement] = []
    for i, sentence in enumerate(findings):
        text = _put(text + (" " if i else ""), sentence, statements)
    text += "\n\nIMPRESSION:" + ("" if len(impression) > 1 else " ")
    for i, sentence in enumerate(impression):
        text = _put(text + (f"\n{i + 1}. " if len(impression) > 1 else ""), sentence, statements)
    return Report(text + "\n", tuple(statements))


def _put(text: str, sentence: _Sentence, statements: list[Statement]) -> str:
    """The text with a sentence at its end; what the sentence states joins `statements`."""
    for i, part in enumerate(sentence):
        words = part.text[0].upper() + part.text[1:] if i == 0 else part.text
        text += words
        span = words.strip(" ,.")
        statements += [Statement(finding, state, side, span) for finding, state, side in part.claims]
    return text if text.endswith((".", "?")) else text + "."


def _by_side(placed: tuple[Placed, ...]) -> dict[tuple[str, str], list[Placed]]:
    """(finding, side) -> what lies there; a finding without sides counts as "both"."""
    out: dict[tuple[str, str], list[Placed]] = {}
    for one in sorted(placed, key=lambda p: (p.finding, p.side, p.seed)):
        sides = ("left", "right") if one.side == "both" and one.finding not in UNSIDED else (one.side,)
        for side in sides:
            out.setdefault((one.finding, side), []).append(one)
    return out


def _trend(now: list[Placed], before: list[Placed]) -> str:
    """A finding of one side against the film before; "" where their numbers differ and no word is just."""
    if not before:
        return "new"
    if len(now) != len(before):
        return ""
    change = max(p.severity for p in now) - max(p.severity for p in before)
    # Severities are decimals: 0.4 - 0.25 is not to count as more than 0.15.
    return "unchanged" if round(abs(change), 6) <= CHANGE else "increased" if change > 0 else "decreased"


class _Writer:
    """Draws the words of one report."""

    def __init__(self, patient: Patient, placed: tuple[Placed, ...], rng: np.random.Generator,
                 prior: Prior | None) -> None:
        self.patient, self.rng, self.prior = patient, rng, prior
        self.shown = {p.finding for p in placed}
        self.clear = not self.shown & (_OPAQUE | {"pneumothorax"}) and not any(
            p.severity >= UNCLEAR_EFFUSION or form_of(p, patient) == "veil" for p in placed if p.finding == "effusion")
        # What else costs volume (collapse, fibrosis, air) is not clear in the first place.
        self.expanded = patient.inspiration >= WELL_EXPANDED and "effusion" not in self.shown
        self.before = _by_side(prior[0]) if prior else {}
        self.signs = self._signs(_by_side(placed))
        self.pneumonia: set[Sign] = set()  # signs that pneumonia was offered for
        self.denied: set[str] = set()
        self.urgent: list[_Sentence] = []
        self.gone = self._gone(_by_side(placed))

    # --- what there is to say -----------------------------------------------------------------------------------------

    def _signs(self, now: dict[tuple[str, str], list[Placed]]) -> dict[str, list[Sign]]:
        out: dict[str, list[Sign]] = {}
        for (finding, side), those in now.items():
            worst = max(those, key=lambda p: p.severity)
            form = form_of(worst, self.patient)
            if (finding, form, self.patient.supine) == ("pneumothorax", "simple", True):
                form = "supine"
            if form not in say.NOUNS[finding]:
                form = next(iter(say.NOUNS[finding]))
            trend = _trend(those, self.before.get((finding, side), [])) if self.prior else ""
            sign = Sign(finding, side, form, worst.severity, several=len(those) > 1, trend=trend,
                        lobe=say.lobe_of(worst, side, form))
            out.setdefault(finding, []).append(sign)
        for finding, signs in out.items():
            if len({(s.form, s.several, s.trend, s.lobe, say.size_of(s)) for s in signs}) < len(signs):
                signs = [replace(signs[0], side="both")]
            out[finding] = [self._settle(sign) for sign in signs]
        return out

    def _settle(self, sign: Sign) -> Sign:
        """Decide whether the words hedge, and whether they speak of the change."""
        doubt = 0.45 if sign.severity < 0.35 else 0.12 if sign.severity < 0.65 else 0.0
        hedged = self.chance(doubt) and sign.form != "tension"
        return replace(sign, hedged=hedged, trend=sign.trend if self.chance(0.85) else "")

    def _gone(self, now: dict[tuple[str, str], list[Placed]]) -> dict[str, list[Sign]]:
        """What the film before showed and this one does not, as signs for their words alone."""
        out: dict[str, list[Sign]] = {}
        for (finding, side), those in self.before.items():
            if (finding, side) not in now:
                form = next(iter(say.NOUNS[finding]))
                out.setdefault(finding, []).append(Sign(finding, side, form, 0.5, several=len(those) > 1))
        for finding, signs in out.items():
            if len(signs) == 2 and signs[0].several == signs[1].several:
                out[finding] = [replace(signs[0], side="both")]
        return out

    # --- sentences ----------------------------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return bool(self.rng.random() < p)

    def pick(self, options: tuple[str, ...]) -> str:
        """One of some words."""
        return say.pick(options, self.rng)

    def stated(self, sign: Sign, *, short: bool = False) -> _Sentence:
        """A sentence for a sign; `short` keeps to the terse frames of an impression."""
        side = sign.worded_side
        words = say.slots(sign, sized=self.chance(0.88))
        noun = self.pick(say.NOUNS[sign.finding][sign.form])
        key = (sign.finding, sign.form)
        own: tuple[tuple[str, str, str | None], ...] = ((sign.finding, sign.state, side),)
        if sign.hedged and sign.severity < 0.35 and not (sign.trend or short) and key in say.SIGNS and self.chance(0.5):
            options = say.SIGNS[key]
            text, claims = options[int(self.rng.integers(len(options)))]
            plain = say.with_noun(words, say.BARE.get(sign.finding, noun), sign)
            return (_Part(text.format(**plain), tuple((f, state, side) for f, state in claims)),)
        if not sign.hedged and not sign.trend and key in say.PLAIN and self.chance(0.35):
            text = self.pick(say.PLAIN[key]).format(**say.slots(sign))
        else:
            frames = (say.HEDGES if sign.hedged else say.FRAMES)[sign.trend]
            frame = frames[0] if short and self.chance(0.7) else self.pick(frames)
            text = frame.format(**say.with_noun(words, noun, sign))
        parts = [_Part(text, own)]
        if sign.finding in ("consolidation", "infiltration") and not sign.hedged and sign.trend in ("", "new"):
            if sign in self.pneumonia or (not short and self.chance(0.4)):
                self.pneumonia.add(sign)
                parts.append(_Part(self.pick(say.PNEUMONIA), (("pneumonia", "uncertain", side),)))
        elif sign.finding == "cardiomegaly" and self.may_deny("edema") and self.chance(0.3 if sign.trend == "" else 0):
            self.denied.add("edema")
            parts.append(_Part(f" without {self.pick(say.DENIED['edema'])}", (("edema", "absent", None),)))
        return tuple(parts)

    def ended(self, finding: str) -> list[_Sentence]:
        """Sentences for what has resolved since the film before."""
        out: list[_Sentence] = []
        for sign in self.gone.get(finding, []):
            self.denied.add(finding)
            noun = say.NOUNS[finding][sign.form][0]
            words = say.with_noun(say.slots(sign, sized=False), noun, sign)
            out.append((_Part(self.pick(say.RESOLVED).format(**words), ((finding, "absent", sign.worded_side),)),))
        return out

    def may_deny(self, finding: str) -> bool:
        """The film lacks it and the report has not yet said so."""
        return finding not in self.shown | self.denied

    def deny(self, findings: list[str]) -> _Sentence:
        """One sentence that denies one or more findings."""
        self.denied.update(findings)
        return (_Part(say.denial(findings, self.rng), tuple((f, "absent", None) for f in findings)),)

    def each(self, findings: tuple[str, ...]) -> list[_Sentence]:
        """Sentences for those of some findings the film shows, and for those that are gone."""
        out = [self.stated(sign) for f in findings for sign in self.signs.get(f, [])]
        return out + [sentence for f in findings for sentence in self.ended(f)]

    # --- sections -----------------------------------------------------------------------------------------------------

    def devices(self, devices: tuple[Device, ...], cut: Collection[str]) -> list[_Sentence]:
        """Lines and tubes, what was placed and what was taken out."""
        before = self.prior[1] if self.prior else ()
        here, were = {(d.kind, d.side): d for d in devices}, {(d.kind, d.side): d for d in before}
        out: list[_Sentence] = []
        for (kind, side), device in sorted(here.items()):
            how, change = say.how_it_lies(device, cut=kind in cut), ""
            if self.prior and how != "endotracheal_tube/low" and self.chance(0.6):
                # A tube with another course has been moved, which no word here tells.
                change = "new" if (kind, side) not in were else "unchanged" if device in before else ""
            text = say.device_there(how, side, self.rng, change)
            out.append((_Part(text, (("support_devices", "present", None if side == "both" else side),)),))
            if how == "endotracheal_tube/low":
                self.urgent.append(out[-1])
        for kind, side in sorted(were.keys() - here.keys()):
            text = say.device_gone(kind, side, self.rng)
            out.append((_Part(text, (("support_devices", "absent", None if side == "both" else side),)),))
        if not out and self.patient.view == "AP" and self.chance(0.1):
            out.append((_Part("no lines, tubes or drains are present", (("support_devices", "absent", None),)),))
        return out

    def lungs(self) -> list[_Sentence]:
        """Opacities, lesions, the parenchyma; or their absence."""
        out: list[_Sentence] = []
        if self.patient.inspiration < 0.86 and "emphysema" not in self.shown:
            out.append((_Part("lung volumes are low"),))
        out += self.each(_LUNGS)
        if self.clear and self.chance(0.7):
            options = say.CLEAR[:2] if out else say.CLEAR + say.EXPANDED * self.expanded
            clear = _Part(self.pick(options), (("lung_opacity", "absent", None),))
            if self.may_deny("consolidation") and self.chance(0.35):
                self.denied.add("consolidation")
                denial = f" without {self.pick(say.DENIED['consolidation'])}"
                out.append((clear, _Part(denial, (("consolidation", "absent", None),))))
            else:
                out.append((clear,))
        denied = []
        if not self.shown & {"infiltration", "atelectasis"} and self.may_deny("consolidation") and self.chance(0.6):
            denied.append("consolidation")
        if self.may_deny("edema") and self.chance(0.4):
            denied.append("edema")
        if not self.shown & _MAY_BE_PNEUMONIA and self.may_deny("pneumonia") and self.chance(0.2):
            denied.append("pneumonia")
        out += [self.deny(denied)] if denied else []
        lesions = [f for f in ("nodule", "mass") if self.may_deny(f)]
        return out + ([self.deny(lesions)] if len(lesions) == 2 and self.chance(0.12) else [])

    def pleura(self) -> list[_Sentence]:
        """Fluid, air and thickening, very often denied when absent."""
        fluid, air = self.signs.get("effusion", []), self.signs.get("pneumothorax", [])
        joint = [s for s in fluid for a in air
                 if s.side == a.side and not (s.hedged or a.hedged or s.trend or a.trend or self.patient.supine)]
        if joint and len(fluid) == len(air) == 1 and self.chance(0.6):
            side = joint[0].side
            where = {"both": "bilateral hydropneumothoraces"}.get(side, f"{side} hydropneumothorax")
            out: list[_Sentence] = [
                (_Part(f"{where} with an air-fluid level",
                       (("effusion", "present", side), ("pneumothorax", "present", side))),)]
            out += self.each(("pleural_thickening",)) + self.ended("effusion") + self.ended("pneumothorax")
        else:
            out = self.each(_PLEURA)
        for finding in ("effusion", "pneumothorax"):
            signs = self.signs.get(finding, [])
            if len(signs) == 1 and signs[0].side != "both" and finding not in self.denied and self.chance(0.15):
                other = "right" if signs[0].side == "left" else "left"
                out.append((_Part(f"no {other} {say.DENIED[finding][0]}", ((finding, "absent", other),)),))
        denied = [f for f in ("effusion", "pneumothorax") if self.may_deny(f)]
        if denied and (self.chance(0.88) or not self.signs):
            out.append(self.deny(denied if self.chance(0.8) else denied[::-1]))
        if self.may_deny("pleural_thickening") and self.chance(0.03):
            out.append(self.deny(["pleural_thickening"]))
        return out

    def heart(self) -> list[_Sentence]:
        """Heart size and the cardiomediastinal silhouette."""
        out = self.each(("cardiomegaly",))
        if "cardiomegaly" in self.shown:
            return out
        shifted = self.shown & _SHIFTING or any(
            s.severity > 0.6 or s.form in ("tension", "lobar") for f in ("effusion", "pneumothorax", "atelectasis")
            for s in self.signs.get(f, []))
        draw = self.rng.random()
        if draw < 0.3 and not shifted:
            out.append((_Part(self.pick(say.NORMAL_SILHOUETTE), (("enlarged_cardiomediastinum", "absent", None),)),))
        elif draw < 0.4 and self.may_deny("cardiomegaly"):
            out.append(self.deny(["cardiomegaly"]))
        elif draw < 0.95:
            technique = ", allowing for AP technique" if self.patient.view == "AP" and self.chance(0.3) else ""
            text = self.pick(say.NORMAL_HEART) + technique
            out.append((_Part(text, (("cardiomegaly", "absent", None),)),))
        return out

    def bones_and_below(self) -> list[_Sentence]:
        """Ribs, then what lies under the diaphragm."""
        out = self.each(("fracture",))
        if self.may_deny("fracture"):
            draw = self.rng.random()
            if draw < 0.25:
                out.append(self.deny(["fracture"]))
            elif draw < 0.5:
                out.append((_Part(self.pick(say.BONES)),))
        out += self.each(("hernia",))
        if self.may_deny("hernia") and self.chance(0.03):
            out.append(self.deny(["hernia"]))
        return out

    def impression(self) -> list[_Sentence]:
        """The most important, heaviest first; what has resolved; or that there is nothing acute."""
        signs = [s for those in self.signs.values() for s in those]
        signs.sort(key=lambda s: (-_WEIGHTS[s.finding] * (0.4 + s.severity) * (2 if s.form == "tension" else 1),
                                  s.finding, s.side))
        first = signs[: 2 + int(self.rng.integers(3))]
        out: list[_Sentence] = self.urgent + [self.stated(sign, short=True) for sign in first]
        if any(s.finding in ("nodule", "mass") for s in signs) and self.chance(0.5):
            out.append((_Part("further evaluation with CT is recommended"),))
        if self.gone and self.chance(0.5):
            finding = max(self.gone, key=lambda f: (_WEIGHTS[f], f))
            out += self.ended(finding)[:1]
        if all(s.finding in _NOT_ACUTE for s in signs) and not self.urgent:
            if self.may_deny("pneumonia") and self.chance(0.12):
                out.append(self.deny(["pneumonia"]))
            else:
                out.append((_Part(self.pick(say.NOTHING_ACUTE)),))
        return out
