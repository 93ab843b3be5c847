"""Kept clinical NLP libraries on the same reports and codes as benchmarks/reports.py: medSpaCy's ConText and negspaCy.

    uv venv /tmp/nlp && uv pip install --python /tmp/nlp/bin/python medspacy negspacy 'numpy<2' pyyaml
    /tmp/nlp/bin/python benchmarks/reports_libraries.py WHEEL [--out docs/reports.md]

An environment of its own: on Python 3.11 medSpaCy holds spaCy below 3.8, whose binaries need numpy 1, and this
repository is on numpy 2. No model is downloaded: a blank English tokenizer, the libraries' own sentence splitting, and
their own rules as shipped. Two sets of mentions are given to each, so that what differs is the reading of them:

- `plain`: the phrases of PHRASES, found by spaCy.
- `ours`: what this repository's labeller finds. It passes over what it takes for no mention at all ("to exclude a
  mass"), which the libraries so need not see through.

All read FINDINGS and IMPRESSION without the headings: ConText and NegEx do worse with them, and know no indications.
A finding counts as found where a mention of it is neither negated nor (where the library can tell) uncertain,
historical, hypothetical or of the family. Speeds leave out the finding of mentions, but for this repository's reading.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openi import HALVES, OpenI, gold, nih_names, read_openi
from reports import forgetter, labeller, line, nih_states, np, of_state, tally, write

from schemas.errors import BadInput

#: NIH name -> what reports call it. Plain words and plurals, none taken from the reports scored.
PHRASES: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("atelectasis", "atelectases", "atelectatic", "subsegmental atelectasis", "lobar collapse",
                    "lung collapse"),
    "Cardiomegaly": ("cardiomegaly", "enlarged heart", "heart is enlarged", "heart size is enlarged",
                     "cardiac enlargement",
                     "heart is mildly enlarged", "heart size is mildly enlarged", "enlargement of the heart",
                     "enlarged cardiac silhouette", "cardiac silhouette is enlarged", "heart remains enlarged",
                     "enlargement of the cardiac silhouette", "cardiac silhouette is mildly enlarged"),
    "Effusion": ("effusion", "effusions", "pleural effusion", "pleural effusions", "pleural fluid", "hydropneumothorax",
                 "hemothorax"),
    "Infiltration": ("infiltrate", "infiltrates", "infiltration"),
    "Mass": ("mass", "masses"),
    "Nodule": ("nodule", "nodules", "pulmonary nodule", "lung nodule"),
    "Pneumonia": ("pneumonia", "pneumonias", "bronchopneumonia"),
    "Pneumothorax": ("pneumothorax", "pneumothoraces", "hydropneumothorax"),
    "Consolidation": ("consolidation", "consolidations", "consolidative"),
    "Edema": ("pulmonary edema", "edema", "interstitial edema", "alveolar edema"),
    "Emphysema": ("emphysema", "emphysematous", "bullous emphysema"),
    "Fibrosis": ("fibrosis", "fibrotic", "pulmonary fibrosis"),
    "Pleural_Thickening": ("pleural thickening", "thickening of the pleura", "thickened pleura"),
    "Hernia": ("hernia", "hiatal hernia", "hernias"),
}
#: Other things that hold one of the words.
NOT = ("pericardial effusion", "pericardial effusions", "joint effusion", "subcutaneous emphysema",
       "mediastinal emphysema", "soft tissue edema", "inguinal hernia", "umbilical hernia", "ventral hernia",
       "breast mass", "cystic fibrosis")

#: Marks the mentions of a tokenised report as `doc.ents`, with NIH names joined by | as labels.
Marker = Callable[[Any], Any]
Decide = Callable[[Any], bool]


def plain(nlp: Any) -> Marker:
    """Mentions by the phrases above, the longest first."""
    from spacy.matcher import PhraseMatcher
    from spacy.tokens import Span
    from spacy.util import filter_spans

    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    names: dict[str, list[str]] = {}
    for name, phrases in {**PHRASES, "": NOT}.items():
        for phrase in phrases:
            names.setdefault(phrase, []).append(name)
    for phrase, those in names.items():
        matcher.add("|".join(those), [nlp.make_doc(phrase)])

    def mark(doc: Any) -> Any:
        spans = [Span(doc, first, last, label=key) for key, first, last in matcher(doc)]
        doc.ents = [s for s in filter_spans(spans) if s.label_]
        return doc

    return mark


def ours(nlp: Any) -> Marker:
    """Mentions by this repository's labeller; its reading of them is not used."""
    from spacy.util import filter_spans

    from cars_core.vocabulary import load_vocabulary

    label = labeller()
    bearer = {finding.name: name for name, finding in load_vocabulary().label_set("nih").items()}

    def mark(doc: Any) -> Any:
        names: dict[tuple[int, int], set[str]] = {}
        for e in label(doc.text).evidence:
            if e.finding in bearer and not e.normal:
                names.setdefault((e.start, e.end), set()).add(bearer[e.finding])
        spans = [doc.char_span(*at, label="|".join(sorted(those)), alignment_mode="expand")
                 for at, those in names.items()]
        doc.ents = filter_spans(spans)
        return doc

    return mark


def every(nlp: Any) -> Decide:
    """Each mention counts."""
    return lambda e: True


def context(nlp: Any) -> Decide:
    """medSpaCy's ConText."""
    import medspacy  # noqa: F401  (registers the pipes)
    from loguru import logger

    logger.remove()  # PyRuSH writes several lines a sentence, which would be timed too
    nlp.add_pipe("medspacy_context")
    return lambda e: not (e._.is_negated or e._.is_uncertain or e._.is_historical or e._.is_hypothetical
                          or e._.is_family)


def negex(terms: str) -> Callable[[Any], Decide]:
    """negspaCy's NegEx with one of the sets of terms it ships."""
    def build(nlp: Any) -> Decide:
        from negspacy.negation import Negex  # noqa: F401  (registers the pipe)
        from negspacy.termsets import termset

        nlp.add_pipe("negex", config={"neg_termset": termset(terms).get_patterns()})
        return lambda e: not e._.negex

    return build


READINGS: dict[str, tuple[str, Callable[[Any], Decide]]] = {
    "every mention": ("sentencizer", every),
    "medSpaCy ConText": ("sentencizer", context),
    "medSpaCy ConText, PyRuSH sentences": ("medspacy_pyrush", context),
    "negspaCy en_clinical": ("sentencizer", negex("en_clinical")),
    "negspaCy en_clinical_sensitive": ("sentencizer", negex("en_clinical_sensitive")),
}


def read(texts: Sequence[str], splitter: str, marker: Callable[[Any], Marker],
         reading: Callable[[Any], Decide]) -> tuple[list[frozenset[str]], float]:
    """What a library finds in texts, and the seconds of processor time it took without the marking of mentions."""
    import medspacy  # noqa: F401  (registers the pipes)
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe(splitter)
    decide = reading(nlp)
    mark = marker(nlp)
    pipes = [pipe for _, pipe in nlp.pipeline]
    found, spent = [], 0.0
    for text in texts:
        start = time.process_time()
        doc = pipes[0](nlp.make_doc(text))
        spent += time.process_time() - start
        doc = mark(doc)
        start = time.process_time()
        for pipe in pipes[1:]:
            doc = pipe(doc)
        found.append(frozenset(name for e in doc.ents if decide(e) for name in e.label_.split("|")))
        spent += time.process_time() - start
    return found, spent


def score(name: str, found: Sequence[frozenset[str]], seconds: float, reports: Sequence[OpenI]) -> list[str]:
    """Pooled scores of all reports and of the held-out half, and reports a second, as lines."""
    t = tally([gold(r) for r in reports], found, nih_names())
    held = t.of(np.array([r.half == HALVES[1] for r in reports]))
    return [f"{line(t, f'{name}, all')}   {len(reports) / seconds:.0f}", line(held, f"{name}, held-out")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    reports = [r for r in read_openi(args.wheel) if r.scored]
    texts = [f"{r.findings}\n\n{r.impression}" for r in reports]
    out = [", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("spacy", "medspacy", "negspacy", "numpy")),
           f"{'micro, percent':56}{'P':>7}{'R':>7}{'F1':>7}   95 % of F1     reports/s"]
    for marker in (plain, ours):
        for name, (splitter, reading) in READINGS.items():
            if marker is plain or splitter == "sentencizer":
                out += score(f"{marker.__name__}: {name}", *read(texts, splitter, marker, reading), reports)
    label = labeller()
    forgetter()()  # the sentences read for their mentions
    start = time.process_time()
    states = [nih_states(label(text)) for text in texts]
    out += score("ours: this repository's reading", of_state(states, 1), time.process_time() - start, reports)
    print("\n".join(out))
    if args.out:
        write(args.out, {"libraries": "\n".join(out)})


if __name__ == "__main__":
    try:
        main()
    except BadInput as e:
        raise SystemExit(str(e)) from e
