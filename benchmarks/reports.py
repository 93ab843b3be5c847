"""How well reports are labelled, and how fast: on Open-i's manual codes, on simulated reports, on samples of others.

    python benchmarks/reports.py WHEEL [--simulated 1000] [--seed 7] [--samples ../shared/data/cxr-open/reports]
        [--show N [--half develop|held-out|all] [--finding NAME]] [--no-speed] [--out docs/reports.md]

WHEEL: see benchmarks/openi.py, which also says what counts as right and why. A finding counts as found where the
labeller calls it present; rows below the tables count otherwise. --show prints N disagreements, drawn by a fixed seed,
with what the coders wrote, what the labeller read where, and the text; look at the held-out half last. --out fills the
blocks of a page.
"""

from __future__ import annotations

import argparse
import csv
import gc
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openi import HALVES, OpenI, doubtful, gold, nih_names, read_openi

from schemas.errors import BadInput

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
RESAMPLES, SEED = 1000, 20261124


# --- scores -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Tally:
    """Right, wrong and missed findings, a row a report and a column a finding: int64 [R, F] of 0 and 1 each."""

    names: tuple[str, ...]
    right: Counts
    wrong: Counts
    missed: Counts

    def of(self, rows: NDArray[np.bool_]) -> Tally:
        """The same of some reports; rows: bool [R]."""
        return Tally(self.names, self.right[rows], self.wrong[rows], self.missed[rows])


def tally(stated: Sequence[frozenset[str]], found: Sequence[frozenset[str]], names: Sequence[str],
          left_out: Sequence[frozenset[str]] | None = None) -> Tally:
    """Compare what R reports state with what was found in them. Names of `left_out` do not count for their report."""
    def table(sets: Sequence[frozenset[str]]) -> NDArray[np.bool_]:
        return np.array([[name in s for name in names] for s in sets], bool).reshape(len(sets), len(names))

    is_so, said = table(stated), table(found)
    counted = ~table(left_out) if left_out is not None else np.ones_like(is_so)
    return Tally(tuple(names), *((x & counted).astype(np.int64) for x in (is_so & said, said & ~is_so, is_so & ~said)))


def prf(right: Any, wrong: Any, missed: Any) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of counts, elementwise, 0..1; NaN where there is nothing to divide by."""
    right, wrong, missed = (np.asarray(x, float) for x in (right, wrong, missed))
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / (right + wrong), right / (right + missed), 2 * right / (2 * right + wrong + missed)


def f1_intervals(t: Tally, *, resamples: int = RESAMPLES, seed: int = SEED) -> tuple[Floats, Floats, Floats]:
    """95 % intervals of F1 over reports drawn with replacement (percentile bootstrap): of each finding [2, F], of the
    pooled counts (micro) [2], and of the mean over findings (macro; those a resample lacks are left out) [2]."""
    n = len(t.right)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    sums = [weights @ x for x in (t.right, t.wrong, t.missed)]
    each = prf(*sums)[2]
    pooled = prf(*(s.sum(axis=1) for s in sums))[2]
    ends = [2.5, 97.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a finding that no resample has: its interval is NaN
        return (np.nanpercentile(each, ends, axis=0), np.nanpercentile(pooled, ends),
                np.nanpercentile(np.nanmean(each, axis=1), ends))


def table(t: Tally, title: str) -> str:
    """Precision, recall and F1 in percent, a line a finding, then pooled and mean."""
    lines = [f"{title} ({len(t.right)} reports)",
             f"{'':20}{'n':>5}{'right':>7}{'wrong':>7}{'missed':>7}{'P':>7}{'R':>7}{'F1':>7}   95 % of F1"]
    each, micro, macro = f1_intervals(t)
    sums = [x.sum(axis=0) for x in (t.right, t.wrong, t.missed)]
    p, r, f = prf(*sums)
    for i, name in enumerate(t.names):
        right, wrong, missed = (int(s[i]) for s in sums)
        lines.append(f"{name:20}{right + missed:5}{right:7}{wrong:7}{missed:7}"
                     + _percent(p[i], r[i], f[i]) + _interval(each[:, i]))
    right, wrong, missed = (int(s.sum()) for s in sums)
    lines.append(f"{'micro':20}{right + missed:5}{right:7}{wrong:7}{missed:7}"
                 + _percent(*prf(right, wrong, missed)) + _interval(micro))
    lines.append(f"{'macro':20}{'':26}" + _percent(np.nanmean(p), np.nanmean(r), np.nanmean(f)) + _interval(macro))
    return "\n".join(lines)


def line(t: Tally, title: str) -> str:
    """Pooled precision, recall and F1 in percent on one line."""
    return f"{title:56}" + _percent(*prf(*(x.sum() for x in (t.right, t.wrong, t.missed)))) + _interval(
        f1_intervals(t)[1])


def _percent(*shares: Any) -> str:
    return "".join(f"{100 * float(x):7.1f}" for x in shares)


def _interval(ends: Floats) -> str:
    return f"   {100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


# --- the labeller -----------------------------------------------------------------------------------------------------

def labeller() -> Callable[[str], Any]:
    """The labeller over the built-in vocabulary."""
    from cars_core.reports.label import label_report
    from cars_core.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    return lambda text: label_report(text, vocabulary)


def nih_states(labelled: Any) -> dict[str, int | None]:
    """NIH name -> 1, 0, -1 or None, as the labeller's own columns give them."""
    from cars_core.reports.label import nih_row

    return nih_row(labelled)


def of_state(states: Iterable[Mapping[str, int | None]], *wanted: int) -> list[frozenset[str]]:
    """The names whose value is one of those wanted, a set a report."""
    return [frozenset(name for name, value in row.items() if value in wanted) for row in states]


def on_openi(t: Tally, reports: Sequence[OpenI], states: Sequence[Mapping[str, int | None]]) -> dict[str, str]:
    """What is to be said of the labels of reports: blocks of text by name."""
    stated, names = [gold(r) for r in reports], nih_names()
    rows = {h: np.array([r.half == h for r in reports]) for h in HALVES}
    held, filmed = rows[HALVES[1]], np.array([r.images > 0 for r in reports])
    found, open_, either = (of_state(states, *wanted) for wanted in ((1,), (-1,), (1, -1)))
    pooled = [f"{'micro, percent':56}{'P':>7}{'R':>7}{'F1':>7}   95 % of F1"]
    for title, one in (("present", t), ("present, doubtful codes left out",
                                        tally(stated, found, names, [doubtful(r) for r in reports])),
                       ("present, what is labelled uncertain left out", tally(stated, found, names, open_)),
                       ("present or uncertain", tally(stated, either, names))):
        pooled += [line(one, f"all, {title}"), line(one.of(held), f"held-out, {title}")]
    pooled.append(line(t.of(filmed), "reports with a film, present"))
    shares = ["coded, of those so labelled"]
    for value, word in ((1, "present"), (-1, "uncertain"), (0, "absent"), (None, "not mentioned")):
        coded = {n: [n in s for s, row in zip(stated, states, strict=True) if row[n] == value] for n in names}
        both = [x for those in coded.values() for x in those]
        each = ", ".join(f"{n} {sum(x)}/{len(x)}" for n, x in coded.items() if x)
        shares.append(textwrap.fill(f"{word} {sum(both)}/{len(both)}: {each}", 116, subsequent_indent="    "))
    tables = {h: table(t.of(rows[h]), h) for h in HALVES}
    return {**tables, "all": table(t, "all"), "pooled": "\n".join(pooled), "shares": "\n".join(shares)}


def disagreements(t: Tally, reports: Sequence[OpenI], labels: Sequence[Any],
                  states: Sequence[Mapping[str, int | None]], *, show: int, half: str, finding: str) -> str:
    """Some of the reports in which a finding is coded and not found, or found and not coded."""
    from cars_core.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    names = vocabulary.label_set("nih")
    pairs = [(int(i), t.names[j]) for i, j in np.argwhere(t.wrong + t.missed)
             if half in ("all", reports[int(i)].half) and finding in ("", t.names[j])]
    chosen = sorted(np.random.default_rng(SEED).permutation(len(pairs))[:show])
    out = [f"{len(pairs)} disagreements ({half}); {len(chosen)} of them:"]
    for k in chosen:
        i, name = pairs[k]
        r, unsure = reports[i], " (doubtful)" if name in doubtful(reports[i]) else ""
        said = {1: "present", 0: "absent", -1: "uncertain", None: "not mentioned"}[states[i][name]]
        concerned = {names[name].name} | {f.name for f in vocabulary.findings if names[name].name in f.parents}
        spans = [f"{e.finding} {e.state} [{r.text[e.start:e.end]}]" for e in labels[i].evidence
                 if e.finding in concerned]
        out += [f"\n--- {r.uid} {name}: coded {'yes' if name in gold(r) else 'no'}{unsure}, labelled {said}",
                "    codes: " + "; ".join(r.major), "    read: " + ("; ".join(spans) or "nothing"),
                textwrap.indent(textwrap.fill(f"{r.findings} || {r.impression}", 116), "    ")]
    return "\n".join(out)


# --- speed ------------------------------------------------------------------------------------------------------------

def forgetter() -> Callable[[], None]:
    """What empties the labeller's memory of sentences."""
    memories = [c for c in gc.get_objects() if isinstance(c, _lru_cache_wrapper)
                and str(getattr(c, "__module__", "")).startswith("cars_core.reports")
                and (c.cache_info().maxsize or 10**9) > 1000]  # the others hold the phrases

    def forget() -> None:
        for memory in memories:
            memory.cache_clear()

    return forget


def speed(texts: Sequence[str], label: Callable[[str], Any], *, repeats: int = 3) -> str:
    """Reports a second of processor time on one core, best of `repeats`, with what the labeller remembers of sentences
    emptied before each report, before the first, and not at all."""
    label("Heart size is normal.")  # reads the phrases
    forget = forgetter()

    def run(between: Callable[[], None]) -> float:
        start = time.process_time()
        for text in texts:
            between()
            label(text)
        return time.process_time() - start

    anew = cold = warm = np.inf
    for _ in range(repeats):
        anew = min(anew, run(forget))
        forget()
        cold = min(cold, run(lambda: None))
        warm = min(warm, run(lambda: None))
    n = len(texts)
    return (f"{n} Open-i reports on one core, best of {repeats}, reports/s: {n / cold:.0f} from the first on; "
            f"{n / anew:.0f} with no sentence remembered from another report; {n / warm:.0f} with all remembered")


# --- other reports ----------------------------------------------------------------------------------------------------

def simulated_reports(n: int, seed: int) -> list[Any]:
    """n reports of the simulated population, written from the truth of films that are not rendered."""
    from cars_core.digest import seed_from
    from cars_core.phantom.population import films
    from cars_core.phantom.truth import read_truth
    from cars_core.phantom.words.report import write_report
    from cars_core.vocabulary import load_vocabulary

    out = []
    for spec in films(n=n, seed=seed, size=256, withheld=[], split_of=lambda _: "train", vocabulary=load_vocabulary()):
        truth = read_truth(spec.truth)
        before = None if spec.prior is None else read_truth(spec.prior)
        prior = None if before is None else (before.placed, before.devices)
        out.append(write_report(patient=truth.patient, placed=truth.placed, devices=truth.devices,
                                seed=seed_from("report", spec.truth), prior=prior))
    return out


def on_simulated(n: int, seed: int, label: Callable[[str], Any]) -> str:
    """How the labeller reads n simulated reports, over the findings they speak of."""
    from cars_core.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    reports = simulated_reports(n, seed)
    labels = [label(r.text) for r in reports]
    names = [name for name in vocabulary.names if any(s.finding == name for r in reports for s in r.statements)]
    pairs = [(r.stated(vocabulary), one.vector) for r, one in zip(reports, labels, strict=True)]

    def present(vector: Any) -> frozenset[str]:
        return frozenset(vocabulary.unpack(vector.present))

    t = tally([present(a) for a, _ in pairs], [present(b) for _, b in pairs], names)
    states = [(a.state(vocabulary[name].bit), b.state(vocabulary[name].bit)) for a, b in pairs for name in names]
    spoken = [(a, b) for a, b in states if a != "unmentioned"]
    out = [f"{n} simulated reports, seed {seed}, {len(names)} findings they speak of",
           line(t, "present, micro, percent"),
           "worst F1: " + ", ".join(f"{names[i]} {100 * f:.1f}" for i, f in _worst(t)),
           f"state right: {sum(a == b for a, b in spoken)} of {len(spoken)} stated "
           f"({100 * np.mean([a == b for a, b in spoken]):.2f} %); stated here and not there: "
           f"{sum(a == 'unmentioned' != b for a, b in states)}"]
    for state in ("present", "uncertain", "absent"):
        of = [b for a, b in spoken if a == state]
        out.append(f"  {state} {len(of)}: " + ", ".join(f"{b} {of.count(b)}" for b in sorted(set(of))))
    right = total = 0
    for r, one in zip(reports, labels, strict=True):
        for name in names:
            said = _sides(s.side for s in r.statements if (s.finding, s.state) == (name, "present"))
            read = [e for e in one.evidence if (e.finding, e.state) == (name, "present")]
            if said and read:
                total, right = total + 1, right + (_sides(e.side for e in read) == said)
    out.append(f"sides right: {right} of {total} present findings with a side ({100 * right / max(total, 1):.2f} %)")
    return "\n".join(out)


def _worst(t: Tally, n: int = 3) -> list[tuple[int, float]]:
    f1 = prf(*(x.sum(axis=0) for x in (t.right, t.wrong, t.missed)))[2]
    return [(int(i), float(f1[i])) for i in np.argsort(f1, kind="stable")[:n] if np.isfinite(f1[i])]


def _sides(sides: Iterable[str | None]) -> frozenset[str]:
    return frozenset(x for side in sides for x in (("left", "right") if side == "both" else (side,)) if x)


def on_samples(folder: Path, label: Callable[[str], Any]) -> str:
    """The labeller beside the CheXpert labeler's four samples and NegBio's two annotated texts."""
    from cars_core.reports.label import chexpert_row

    try:
        with open(folder / "chexpert_labeler_labeled_reports.csv", newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        documents = ElementTree.parse(folder / "negbio_1.xml").getroot().findall("document")
    except OSError as e:
        raise BadInput("--samples", f"{folder}: {e.strerror}", "the folder `reports` of the open films") from e
    out = ["samples of the CheXpert labeler"]
    for i, row in enumerate(rows, 1):
        ours = chexpert_row(label(row.pop("Reports")))
        theirs = {column: float(value) if value else None for column, value in row.items()}
        other = [f"{c}: labeler {theirs[c]}, here {ours[c]}" for c in theirs if ours[c] != theirs[c]]
        out.append("; ".join([f"  report {i}: {len(theirs) - len(other)} of {len(theirs)} columns agree", *other]))
    out.append("texts of NegBio: terms annotated (where it says so: negated) | read here")
    for document in documents:
        terms = []
        for one in document.iterfind("passage/annotation"):
            given = {infon.get("key"): infon.text for infon in one.iterfind("infon")}
            terms.append(f"{given['term']}{' negated' if given.get('neg') == 'True' else ''}")
        states = nih_states(label(document.findtext("passage/text") or ""))
        words = {1: "present", 0: "absent", -1: "uncertain"}
        out.append(f"  {document.findtext('id')}: {', '.join(terms)} | "
                   + ", ".join(f"{name} {words[value]}" for name, value in states.items() if value is not None))
    return "\n".join(out)


# --- the page ---------------------------------------------------------------------------------------------------------

def fill(page: str, block: str, text: str) -> str:
    """The page with a text, as it is, between `<!-- block -->` and `<!-- /block -->`.

    Raises:
        BadInput: a page without this block.
    """
    start, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise BadInput("--out", f"no block {start} .. {end}", "the page as committed")
    return page[: page.index(start) + len(start)] + f"\n\n```text\n{text}\n```\n\n" + page[page.index(end) :]


def write(path: Path, blocks: Mapping[str, str]) -> None:
    """Fill blocks of a page on disk."""
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as e:
        raise BadInput("--out", f"{path}: {e.strerror}", "the page as committed") from e
    for block, text in blocks.items():
        page = fill(page, block, text)
    path.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--half", choices=(*HALVES, "all"), default=HALVES[0])
    parser.add_argument("--finding", default="", choices=("", *nih_names()))
    parser.add_argument("--simulated", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    label = labeller()
    every = list(read_openi(args.wheel))
    reports = [r for r in every if r.scored]
    labels = [label(r.text) for r in reports]
    states = [nih_states(one) for one in labels]
    t = tally([gold(r) for r in reports], of_state(states, 1), nih_names())
    blocks = on_openi(t, reports, states)
    if not args.no_speed:
        blocks["speed"] = speed([r.text for r in every], label)
    if args.simulated:
        blocks["simulated"] = on_simulated(args.simulated, args.seed, label)
    if args.samples:
        blocks["samples"] = on_samples(args.samples, label)
    print("\n\n".join(blocks.values()))
    if args.show:
        print("\n" + disagreements(t, reports, labels, states, show=args.show, half=args.half, finding=args.finding))
    if args.out:
        write(args.out, {name: text for name, text in blocks.items() if name != HALVES[0]})


if __name__ == "__main__":
    try:
        main()
    except BadInput as e:
        raise SystemExit(str(e)) from e
