"""What a radiologist calls the findings and devices of a simulated film: tables of words, and how they are filled in.

Noun phrases name a finding, frames make clauses of them: "there {is} {a_np}", "interval increase in the {np}".
Places beyond the side are named only where they follow from the form of a finding (free fluid lies at the base,
plates of atelectasis in the lower zone, air rises to the apex of someone who sits up), or a model tells the lobe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cars_core.phantom.body.patient import Patient
from cars_core.phantom.devices.courses import lie_of
from cars_core.phantom.findings import collapse, lobes
from cars_core.phantom.placed import UNSIDED, Device, Placed


@dataclass(frozen=True)
class Sign:
    """What the report says of one finding, on one side or on both at once.

    form: a key of NOUNS[finding]. severity 0..1. several: more than one of it in one lung. lobe: as `lobes` and
    `collapse` name it, for lobar forms. hedged: the words leave
    it open. trend: "" or a key of TRENDS, against the film before.
    """

    finding: str
    side: str
    form: str
    severity: float
    several: bool = False
    lobe: str = ""
    hedged: bool = False
    trend: str = ""

    @property
    def state(self) -> str:
        """present | uncertain, as worded."""
        return "uncertain" if self.hedged else "present"

    @property
    def worded_side(self) -> str | None:
        """left | right | both, None where the words name no side: edema of both lungs is just edema."""
        return None if self.finding in UNSIDED or (self.finding, self.side) == ("edema", "both") else self.side


#: Size words and the severity from which each is used, in rising order.
SIZES: dict[str, tuple[tuple[float, str], ...]] = {
    "effusion": ((0.0, "trace"), (0.15, "small"), (0.38, "moderate"), (0.7, "large")),
    "pneumothorax": ((0.0, "tiny"), (0.15, "small"), (0.38, "moderate"), (0.7, "large")),
    "atelectasis": ((0.0, "minimal"), (0.2, "mild"), (0.5, "moderate"), (0.8, "extensive")),
    "consolidation": ((0.0, "mild"), (0.35, "moderate"), (0.7, "extensive")),
    "infiltration": ((0.0, "subtle"), (0.35, "patchy"), (0.7, "extensive")),
    "nodule": ((0.0, "tiny"), (0.2, "small"), (0.5, "")),
    "mass": ((0.0, ""), (0.5, "large")),
    "fibrosis": ((0.0, "mild"), (0.35, "moderate"), (0.7, "extensive")),
    "pleural_thickening": ((0.0, "mild"), (0.35, "moderate"), (0.7, "marked")),
    "hernia": ((0.0, "small"), (0.35, "moderate"), (0.7, "large")),
    "fracture": ((0.0, ""),),
}
_DEGREES = ((0.0, "mild"), (0.35, "moderate"), (0.7, "severe"))

#: finding -> form -> noun phrases. Slots: {size} a size word and a space; {side} left | right | bilateral;
#: {on} on the left | on both sides; {lung} in the left lung | in both lungs; {base}, {basal}, {apical} likewise.
NOUNS: dict[str, dict[str, tuple[str, ...]]] = {
    "effusion": {
        "meniscus": ("{size}{side} pleural effusion{s}", "{size}{side} effusion{s}", "{size}pleural effusion{s} {on}",
                     "{size}{side} pleural effusion{s} with blunting of the costophrenic angle{s}"),
        "veil": ("{size}{side} layering pleural effusion{s}", "{size}layering effusion{s} {on}",
                 "{size}{side} pleural effusion{s} layering posteriorly", "{size}{side} pleural effusion{s}"),
    },
    "pneumothorax": {
        "simple": ("{size}{side} pneumothora{x}", "{size}{apical} pneumothora{x}", "{size}pneumothora{x} {on}"),
        "supine": ("{size}{side} pneumothora{x}", "{size}pneumothora{x} {on}"),
        "tension": ("{size}{side} pneumothora{x} with contralateral shift of the mediastinum",
                    "{size}{side} pneumothora{x} with mediastinal shift, concerning for tension",
                    "{size}{side} tension pneumothora{x}"),
    },
    "atelectasis": {
        "plate": ("{size}{basal} atelectasis", "{size}linear atelectasis {base}",
                  "{size}{basal} plate-like atelectasis", "{size}subsegmental atelectasis {base}"),
        "lobar": ("{side} {lobe} atelectasis with volume loss", "{side} {lobe} collapse", "{side} {lobe} atelectasis"),
    },
    "consolidation": {
        "patchy": ("{size}{side} consolidation", "{size}patchy consolidation {lung}",
                   "{size}{side} airspace consolidation", "{size}consolidation {lung} with air bronchograms"),
        "lobar": ("{side} {lobe} consolidation", "dense {side} {lobe} consolidation",
                  "{side} {lobe} consolidation with air bronchograms"),
    },
    "infiltration": {"": ("{size}{side} infiltrate{s}", "{size}infiltrate{s} {lung}",
                          "{size}{side} pulmonary infiltrate{s}", "{size}ill-defined infiltrate{s} {lung}")},
    "nodule": {"": ("{size}nodule{s} {lung}", "{size}{side} lung nodule{s}", "{size}{side} pulmonary nodule{s}")},
    "mass": {"": ("{size}mass{es} {lung}", "{size}{side} lung mass{es}", "{size}{side} pulmonary mass{es}")},
    "edema": {"": ("{size}{sided}pulmonary edema", "{size}{sided}interstitial edema",
                   "{size}{sided}perihilar edema")},
    "cardiomegaly": {"": ("{size}cardiomegaly", "{size}enlargement of the cardiac silhouette",
                          "{size}cardiac enlargement")},
    "emphysema": {"": ("{size}emphysema", "{size}emphysematous change",
                       "{size}emphysema with hyperinflation and flattened diaphragms")},
    "fibrosis": {"": ("{size}{side} pulmonary fibrosis", "{size}fibrotic change {lung}",
                      "{size}fibrosis {lung} with coarse reticulation")},
    "pleural_thickening": {
        "wall": ("{size}{side} pleural thickening", "{size}thickening of the pleura {on}"),
        "apex": ("{size}{apical} pleural thickening", "{size}thickening of the apical pleura {on}"),
    },
    "hernia": {"": ("{size}hiatal hernia", "{size}hiatus hernia")},
    "fracture": {"": ("{side} rib fracture{s}", "rib fracture{s} {on}")},
}

#: Findings that take an article, and a plural on both sides.
COUNTED = frozenset({"effusion", "pneumothorax", "nodule", "mass", "infiltration", "hernia", "fracture"})

#: trend -> frames for a finding stated as present. "" leaves the film before out of it. "No change in" denies the
#: change and not the finding.
FRAMES: dict[str, tuple[str, ...]] = {
    "": ("{np}", "there {is} {a_np}", "{a_np} {is} present", "{a_np} {is} seen", "{a_np} {is} noted"),
    "new": ("new {np}", "there {is} {a_new_np}", "{a_np} {is} new since the prior study",
            "interval development of {a_np}"),
    "increased": ("the {np} {has} increased", "interval increase in the {np}", "increased {np}", "worsening {np}",
                  "{np}, increased since the prior study"),
    "decreased": ("the {np} {has} decreased", "interval decrease in the {np}", "decreased {np}", "improving {np}",
                  "{np}, decreased since the prior study"),
    "unchanged": ("unchanged {np}", "no change in the {np}", "no significant change in the {np}",
                  "the {np} {is} not significantly changed", "stable {np}", "there has been no change in the {np}"),
}
TRENDS = frozenset(FRAMES) - {""}

#: trend -> frames for a finding left open.
HEDGES: dict[str, tuple[str, ...]] = {
    "": ("possible {np}", "there may be {a_np}", "{a_np} cannot be excluded", "findings suspicious for {a_np}",
         "{a_np} {is} possible", "question of {a_np}"),
    "new": ("possible new {np}", "there may be {a_new_np}", "{a_new_np} cannot be excluded"),
    "increased": ("possible {np}, increased since the prior study", "there may be {a_np}, which {has} increased"),
    "decreased": ("possible {np}, decreased since the prior study", "there may be {a_np}, which {has} decreased"),
    "unchanged": ("possible {np}, unchanged", "{a_np} cannot be excluded, without change since the prior study"),
}

#: Frames for a finding of the film before that is gone.
RESOLVED: tuple[str, ...] = (
    "the previously seen {np} {has} resolved", "interval resolution of the {np}",
    "the previously noted {np} {is} no longer seen", "the {np} seen on the prior study {is} not seen today")

Claims = tuple[tuple[str, str], ...]

#: (finding, form) -> whole clauses for a finding stated as present, and what each says.
PLAIN: dict[tuple[str, str], tuple[str, ...]] = {
    ("cardiomegaly", ""): ("the heart is {degree} enlarged", "the cardiac silhouette is {degree} enlarged"),
    ("edema", ""): ("perihilar haze with indistinct vessels, consistent with {size}{sided}pulmonary edema",),
    ("emphysema", ""): ("the lungs are hyperinflated, consistent with {size}emphysema",),
}

#: (finding, form) -> whole clauses that describe what is seen and leave open what it is, and what each says.
SIGNS: dict[tuple[str, str], tuple[tuple[str, Claims], ...]] = {
    ("effusion", "meniscus"): (
        ("blunting of the {side} costophrenic angle{s} may represent {a_np}", (("effusion", "uncertain"),)),),
    ("pneumothorax", "simple"): (
        ("subtle lucency at the {side} ap{ex}, {a_np} cannot be excluded", (("pneumothorax", "uncertain"),)),),
    ("atelectasis", "plate"): (
        ("opacity {base}, atelectasis versus pneumonia",
         (("lung_opacity", "present"), ("atelectasis", "uncertain"), ("pneumonia", "uncertain"))),
        ("linear opacity {base} may reflect atelectasis",
         (("lung_opacity", "present"), ("atelectasis", "uncertain")))),
    ("consolidation", "patchy"): (
        ("patchy opacity {lung} may represent early consolidation",
         (("lung_opacity", "present"), ("consolidation", "uncertain"))),
        ("patchy opacity {lung}, consolidation or pneumonia is possible",
         (("lung_opacity", "present"), ("consolidation", "uncertain"), ("pneumonia", "uncertain")))),
    ("infiltration", ""): (
        ("hazy opacity {lung}, possibly {a_np}", (("lung_opacity", "present"), ("infiltration", "uncertain"))),),
    ("cardiomegaly", ""): (
        ("heart size is borderline, possible mild cardiomegaly", (("cardiomegaly", "uncertain"),)),
        ("the heart may be {degree} enlarged", (("cardiomegaly", "uncertain"),))),
    ("edema", ""): (("perihilar haze may reflect {size}{sided}pulmonary edema", (("edema", "uncertain"),)),),
    ("fracture", ""): (("irregular {side} rib contour, fracture cannot be excluded", (("fracture", "uncertain"),)),),
}

#: Nouns for SIGNS, where the description already tells side and place.
BARE = {"effusion": "{size}pleural effusion{s}", "pneumothorax": "{size}pneumothora{x}",
        "infiltration": "infiltrate{s}"}

#: Added to a stated consolidation or infiltrate: what it may be, which the film alone cannot tell.
PNEUMONIA = (", which could represent pneumonia in the appropriate clinical setting", ", concerning for pneumonia",
             ", pneumonia is not excluded", ", possibly pneumonia")

#: What a denial calls a finding.
DENIED: dict[str, tuple[str, ...]] = {
    "effusion": ("pleural effusion", "effusion"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("focal consolidation", "consolidation", "airspace consolidation"),
    "edema": ("pulmonary edema", "overt pulmonary edema", "edema"),
    "pneumonia": ("pneumonia",),
    "nodule": ("pulmonary nodule", "nodule"),
    "mass": ("mass", "pulmonary mass"),
    "fracture": ("acute fracture", "rib fracture"),
    "hernia": ("hiatal hernia",),
    "pleural_thickening": ("pleural thickening",),
    "cardiomegaly": ("cardiomegaly",),
}

#: Denials before and after what they deny. {these}: joined by "or"; {both}: by "and".
DENIALS = ("no {these}", "no evidence of {these}", "there is no {these}", "no {these} is seen", "no {these} identified",
           "there is no evidence of {these}", "negative for {these}")
POST_DENIALS = ("{these} is not seen", "{these} is not identified")
POST_DENIALS_OF_TWO = ("{both} are not seen", "neither {first} nor {second} is seen")

NORMAL_HEART = ("heart size is normal", "the heart is normal in size", "the heart is not enlarged",
                "the cardiac silhouette is within normal limits", "heart size is within normal limits")
NORMAL_SILHOUETTE = ("the cardiomediastinal silhouette is normal", "the cardiomediastinal silhouette is unremarkable",
                     "the cardiomediastinal contours are within normal limits")
CLEAR = ("the lungs are clear", "both lungs are clear", "clear lungs")
EXPANDED = ("the lungs are well expanded and clear", "well expanded, clear lungs")

#: kind, with how it lies where there is more than one way -> clauses; {side} left | right.
DEVICES: dict[str, tuple[str, ...]] = {
    "endotracheal_tube": ("endotracheal tube terminates above the carina", "ET tube in standard position",
                          "the tip of the endotracheal tube lies in the mid trachea"),
    "endotracheal_tube/low": ("the endotracheal tube terminates in the right main bronchus, retraction is advised",
                              "right main bronchus intubation, the endotracheal tube should be withdrawn"),
    "nasogastric_tube": ("nasogastric tube courses below the diaphragm", "enteric tube passes into the stomach",
                         "the tip of the nasogastric tube projects over the stomach"),
    "nasogastric_tube/off": ("nasogastric tube courses below the diaphragm, its tip not included",
                             "enteric tube passes below the diaphragm and off the film",
                             "the nasogastric tube runs into the abdomen, its tip is below the lower edge of the film"),
    "central_line": ("{side} central venous catheter terminates in the superior vena cava",
                     "the tip of the {side} central line projects over the SVC",
                     "{side}-sided central venous line with its tip over the superior vena cava"),
    "pacemaker": ("{side} chest wall pacemaker with leads projecting over the heart",
                  "{side}-sided pacemaker in place, its leads overlying the cardiac silhouette"),
    "sternal_wires": ("median sternotomy wires are intact", "sternal wires are in place",
                      "sternotomy wires are aligned"),
    "chest_drain/apex": ("{side} chest tube with its tip at the apex", "{side}-sided pleural drain directed apically",
                         "a {side} chest tube is in place"),
    "chest_drain/base": ("{side} chest tube with its tip at the base", "{side}-sided basal pleural drain",
                         "a {side} chest drain is in place"),
}
DEVICE_NAMES = {"endotracheal_tube": "an endotracheal tube", "nasogastric_tube": "a nasogastric tube",
                "central_line": "a {side} central venous catheter", "pacemaker": "a {side} pacemaker",
                "sternal_wires": "sternal wires", "chest_drain": "a {side} chest tube"}

SYMPTOMS = ("shortness of breath", "cough", "fever", "chest pain", "hypoxia", "weakness", "a fall",
            "dyspnea on exertion", "leukocytosis", "altered mental status", "history of pneumonia",
            "known pleural effusion", "history of heart failure and cardiomegaly", "history of lung nodule")
#: The first is asked only where there is a film to compare with.
QUESTIONS = ("Interval change?", "Evaluate for pneumothorax.", "Evaluate for pneumonia.", "Rule out pneumonia.",
             "Please assess for effusion.", "Assess for pulmonary edema.", "Acute process?", "Pneumothorax?",
             "Eval for infiltrate.", "Assess for rib fracture.", "")
NOTHING_ACUTE = ("No acute cardiopulmonary process.", "No acute cardiopulmonary abnormality.",
                 "No acute intrathoracic process.")
BONES = ("No acute osseous abnormality.", "Osseous structures are unremarkable.", "The visualized bones are intact.")


def size_of(sign: Sign) -> str:
    """The size word of a severity, "" for none."""
    steps = SIZES.get(sign.finding, _DEGREES)
    return [word for low, word in steps if sign.severity >= low][-1]


def slots(sign: Sign, *, sized: bool = True) -> dict[str, str]:
    """What fills the slots of phrases for a sign; `sized` False leaves the size word out."""
    both = sign.side == "both"
    many = sign.finding in COUNTED and sign.finding not in UNSIDED and (both or sign.several)
    size = size_of(sign) if sized else ""
    if sign.several:
        size = f"multiple {size}".strip()
    side = "bilateral" if both else sign.side
    severe = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}
    return {
        "size": f"{size} " if size else "", "side": side, "degree": severe.get(size_of(sign), "mildly"),
        "on": "on both sides" if both else f"on the {side}", "lung": "in both lungs" if both else f"in the {side} lung",
        "base": "at both bases" if both else f"at the {side} base",
        "basal": "bibasilar" if both else f"{side} basilar", "apical": "biapical" if both else f"{side} apical",
        "lobe": "lingular" if sign.lobe == "lingula" else f"{sign.lobe} lobe",
        "sided": "" if both else f"{sign.side}-sided ",
        "s": "s" if many else "", "es": "es" if many else "", "x": "ces" if many else "x",
        "ex": "ices" if both else "ex", "is": "are" if many else "is", "has": "have" if many else "has",
    }


def with_noun(words: dict[str, str], noun: str, sign: Sign) -> dict[str, str]:
    """The slots, with the noun phrase {np} and its forms with an article {a_np}, {a_new_np}."""
    np = noun.format(**words)
    alone = sign.finding in COUNTED and words["is"] == "is"
    article = ("an " if np[0] in "aeiou" else "a ") if alone else ""
    return {**words, "np": np, "a_np": article + np, "a_new_np": f"{'a ' if alone else ''}new {np}"}


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of some words."""
    return options[int(rng.integers(len(options)))]


def denial(findings: list[str], rng: np.random.Generator) -> str:
    """A clause that denies one or more findings of DENIED, in that order."""
    names = [pick(DENIED[f], rng) for f in findings]
    frame = pick(DENIALS, rng)
    if len(names) <= 2 and rng.random() < 0.22:
        frame = pick(POST_DENIALS if len(names) == 1 else POST_DENIALS_OF_TWO, rng)
    these = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" or {names[-1]}"
    return frame.format(these=these, both=" and ".join(names), first=names[0], second=names[-1])


def lobe_of(placed: Placed, side: str, form: str) -> str:
    """The lobe a lobar form is drawn in; "" for other forms."""
    if form != "lobar":
        return ""
    return collapse.lobe_of(placed, side) if placed.finding == "atelectasis" else lobes.lobe_of(side, placed.seed)


def how_it_lies(device: Device, *, cut: bool = False) -> str:
    """How a device lies, as a key of DEVICES; `cut`: its tip is off the film."""
    for lie in ("off",) if cut else (lie_of(device),):
        if f"{device.kind}/{lie}" in DEVICES:
            return f"{device.kind}/{lie}"
    return device.kind


def device_there(how: str, side: str, rng: np.random.Generator, change: str = "") -> str:
    """A clause for a device, `how` a key of DEVICES; change "" | new | unchanged, against the film before."""
    name = DEVICE_NAMES[how.split("/")[0]].format(side=side)
    plain = name.removeprefix("an ").removeprefix("a ")
    if change == "new":
        return f"interval placement of {name}"
    if change == "unchanged":
        verb = "are" if plain.endswith("wires") else "is"
        return pick((f"unchanged position of the {plain}", f"the {plain} {verb} unchanged in position",
                     f"no change in the position of the {plain}"), rng)
    return pick(DEVICES[how], rng).format(side=side)


def device_gone(kind: str, side: str, rng: np.random.Generator) -> str:
    """A clause for a device that the film before showed."""
    plain = DEVICE_NAMES[kind].format(side=side).removeprefix("an ").removeprefix("a ")
    has = "have" if plain.endswith("wires") else "has"
    return pick((f"the {plain} {has} been removed", f"interval removal of the {plain}"), rng)


def header(patient: Patient, rng: np.random.Generator, *, compared: bool) -> str:
    """EXAMINATION, INDICATION and COMPARISON. The indication may name findings; none of them counts."""
    place = "supine" if patient.supine else pick(("upright", "semi-upright"), rng)
    views = {"PA": ("CHEST (PA)", "Chest radiograph, PA view", "CHEST RADIOGRAPH, FRONTAL PA VIEW"),
             "AP": (f"CHEST (PORTABLE AP, {place.upper()})", f"Portable {place} AP chest radiograph",
                    f"Chest radiograph, portable AP, {place}")}
    who = {"M": ("___-year-old man", "___M", "Male patient"), "F": ("___-year-old woman", "___F", "Female patient")}
    before = (("Chest radiograph ___.", "Chest radiograph from ___.", "Prior radiograph dated ___.") if compared else
              ("None.", "None available.", "No prior radiograph."))
    question = pick(QUESTIONS if compared else QUESTIONS[1:], rng)
    asked = f"{pick(who[patient.sex], rng)} with {pick(SYMPTOMS, rng)}. {question}".strip()
    return (f"EXAMINATION: {pick(views[patient.view], rng)}\n\nINDICATION: {asked}\n\n"
            f"COMPARISON: {pick(before, rng)}")
