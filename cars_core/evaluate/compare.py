"""Two arms on the same test patients: fine-tuned without and with a subset, and the paired difference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cars_core.digest import seed_from
from cars_core.evaluate.bootstrap import interval, resample
from cars_core.evaluate.data import FilmSet, load_pixels
from cars_core.evaluate.finetune import Labelled, train_arm
from cars_core.evaluate.metrics import average_precision, binary_entropy, expected_calibration_error, weighted_mean
from schemas.errors import BadInput
from schemas.recipe import Evaluation
from schemas.tables import EVALUATIONS

REAL, WITH_SUBSET, DIFFERENCE = "real", "real+subset", "difference"
MEASURES = ("AUPRC", "ECE", "entropy")
MACRO, GAPS = "macro", "gaps"
COLUMNS = pa.schema(list(EVALUATIONS)[EVALUATIONS.get_field_index("backbone"):])


def evaluate(*, real: FilmSet, subset: FilmSet, validate: FilmSet, test: FilmSet, findings: list[str],
             combinations: list[list[str]], settings: Evaluation, workdir: Path,
             progress: Callable[[int, int], None]) -> pa.Table:
    """Fine-tune `settings.backbone` on real films, and on real films with the subset, and compare.

    Both arms of a seed have the same steps, schedule, batch size, initial weights, augmentation and
    order of real films; in the second, subset films take the share of the batch slots that they have
    of the union. Each arm's checkpoint is chosen by macro AUPRC on `validate`.

    Args:
        real: training films.
        subset: accepted synthetic films of training patients.
        validate, test: real films of other patients.
        findings: what column k of every `labels` says.
        combinations: findings that the subset was to bring together; they are judged as `gaps`.
        settings: the recipe's evaluation section.
        workdir: folder for decoded pixels (made if absent); memory does not grow with the cohort.
        progress: called with (units done, units in all); a unit is a film decoded or a step trained.

    Returns:
        The rows of `compare`.

    Raises:
        BadInput: an empty arm, a patient on both sides, labels that do not match `findings`, settings
            that cannot be trained, an object that is no film.
    """
    sets = {"real": real, "subset": subset, "validate": validate, "test": test}
    _check_sets(sets, findings)
    _check_combinations(combinations, findings)
    workdir.mkdir(parents=True, exist_ok=True)
    films = sum(len(s) for s in sets.values())
    total = films + 2 * len(settings.seeds) * settings.steps
    pixels = dict(zip(sets, load_pixels(list(sets.values()), size=settings.image_size, workdir=workdir,
                                        progress=lambda n: progress(n, total)), strict=True))
    progress(films, total)
    labelled = {name: Labelled(pixels[name], s.labels) for name, s in sets.items()}
    done = itertools.count(films + 1)
    probabilities = {arm: np.stack([
        train_arm(real=labelled["real"], subset=extra, validate=labelled["validate"], test=pixels["test"],
                  settings=settings, seed=seed, arm=arm, progress=lambda _: progress(next(done), total)).probabilities
        for seed in settings.seeds]) for arm, extra in ((REAL, None), (WITH_SUBSET, labelled["subset"]))}
    share = len(subset) / (len(real) + len(subset))
    return compare(probabilities[REAL], probabilities[WITH_SUBSET], labels=test.labels, patients=test.patients,
                   findings=findings, combinations=combinations, settings=settings,
                   note=f"{len(subset)} subset films fill {100 * share:.1f} % of the batch slots")


def compare(real: NDArray[np.float32], with_subset: NDArray[np.float32], *, labels: NDArray[np.float32],
            patients: Sequence[str], findings: list[str], combinations: list[list[str]], settings: Evaluation,
            note: str = "") -> pa.Table:
    """Measures of two arms' test probabilities, and their difference, with intervals by patient.

    AUPRC (average precision) and ECE (15 equal-width bins) are computed for each seed and averaged;
    entropy is the mean binary entropy, in bits, of the probabilities averaged over seeds. Only films
    whose label is known count. `macro` averages the findings that have positives and negatives, `gaps`
    the combinations that do: a combination's probability is the product of its findings', it is present
    where all of them are and absent where one of them is. Intervals are 95 % percentile bootstrap by
    patient, with the same resamples for both arms; a resample without positives or negatives of a
    column leaves that column out.

    Args:
        real, with_subset: float32 [seeds, N, K] in 0..1.
        labels: float32 [N, K], 1, 0 or NaN.
        note: said in the `real+subset` and `difference` rows of `macro`.

    Returns:
        The columns `backbone` to `note` of schemas.tables.EVALUATIONS: three arms x (findings, macro,
        gaps) x three measures. `n` is patients with a known label; `positives` films (of `macro` and
        `gaps`: with at least one).

    Raises:
        BadInput: a combination of unknown findings, or shapes that disagree.
    """
    shape = (len(settings.seeds), len(patients), len(findings))
    if real.shape != shape or with_subset.shape != shape or labels.shape != shape[1:]:
        raise BadInput("predictions", f"{real.shape} and {with_subset.shape} for labels {labels.shape}", f"{shape}")
    columns = _columns(labels, findings, _check_combinations(combinations, findings))
    arms = [np.stack([c.probability(p) for c in columns], axis=2) for p in (real, with_subset)]
    groups = [*([i] for i in range(len(findings))), [i for i, c in enumerate(columns) if not c.combined and c.defined],
              [i for i, c in enumerate(columns) if c.combined and c.defined]]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[b, 2 arms, 3 measures, groups] from film weights [b, N]."""
        each = np.full((len(weights), 2, len(MEASURES), len(columns)), np.nan)
        for k, column in enumerate(columns):
            if column.defined:
                known = column.known
                for a, p in enumerate(arms):
                    each[:, a, :, k] = _measures(column.truth[known], p[:, known, k], weights[:, known])
        return np.stack([_mean_defined(each[..., g]) for g in groups], axis=-1)

    point = statistic(np.ones((1, len(patients))))[0]
    drawn = resample(patients, statistic, resamples=settings.bootstrap, seed=seed_from("bootstrap", *settings.seeds))
    rows = []
    for arm, g, m in itertools.product((REAL, WITH_SUBSET, DIFFERENCE), range(len(groups)), range(len(MEASURES))):
        if arm == DIFFERENCE:
            value, values = point[1, m, g] - point[0, m, g], drawn[:, 1, m, g] - drawn[:, 0, m, g]
        else:
            a = (REAL, WITH_SUBSET).index(arm)
            value, values = point[a, m, g], drawn[:, a, m, g]
        said = note if arm != REAL and g == len(findings) else ""
        rows.append({"backbone": settings.backbone, "arm": arm, "measure": MEASURES[m], "seeds": len(settings.seeds),
                     **_numbers(value, values),
                     **_described(g, columns, groups, patients, findings, said, int(np.isnan(values).sum()))})
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def plain_sentence(rows: pa.Table) -> str:
    """What the rows of one evaluation say, in a sentence: helps, harms, or no difference shown.

    Judged by the interval of the macro AUPRC difference alone.

    Raises:
        BadInput: the rows do not hold exactly one macro AUPRC of each arm.
    """
    found: dict[str, dict[str, object]] = {}
    for row in rows.to_pylist():
        if (row["finding"], row["measure"]) == (MACRO, "AUPRC"):
            if row["arm"] in found:
                raise BadInput("evaluation", f"two macro AUPRC rows of arm {row['arm']}", "the rows of one evaluation")
            found[row["arm"]] = row
    if set(found) != {REAL, WITH_SUBSET, DIFFERENCE}:
        raise BadInput("evaluation", ", ".join(sorted(found)) or "no macro AUPRC rows", "the rows of one evaluation")
    d = found[DIFFERENCE]
    over = f"{d['n']} test patients, {d['seeds']} seeds, {d['backbone']}"
    if d["low"] is None or d["high"] is None or d["value"] is None:
        return f"No difference shown: macro AUPRC is undefined on the test films ({over})."
    low, high = float(str(d["low"])), float(str(d["high"]))
    verdict = "The subset helps" if low > 0 else "The subset harms" if high < 0 else "No difference shown"
    return (f"{verdict}: macro AUPRC {found[REAL]['value']:.3f} on real films, {found[WITH_SUBSET]['value']:.3f} with "
            f"the subset; difference {d['value']:+.3f} (95 % interval {low:+.3f} to {high:+.3f}; {over}).")


@dataclass(frozen=True)
class _Column:
    """One yes-or-no question about every test film: a finding, or a combination of findings.

    truth bool [N]; known bool [N]: where the answer is known.
    """

    name: str
    members: list[int]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    combined: bool

    @property
    def defined(self) -> bool:
        """Whether there is both a positive and a negative film."""
        return bool(self.truth[self.known].any() and not self.truth[self.known].all())

    def probability(self, p: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 [seeds, N] from the findings' [seeds, N, K]: the product over the members."""
        product: NDArray[np.float64] = p[:, :, self.members].astype(np.float64).prod(axis=2)
        return product


def _columns(labels: NDArray[np.float32], findings: list[str], combinations: list[list[str]]) -> list[_Column]:
    asked = [(False, [f]) for f in findings] + [(True, c) for c in combinations]
    out = []
    for combined, names in asked:
        members = [findings.index(f) for f in names]
        truth = (labels[:, members] == 1).all(axis=1)
        known = truth | (labels[:, members] == 0).any(axis=1)  # one member absent settles it
        out.append(_Column("+".join(names), members, truth, known, combined))
    return out


def _measures(truth: NDArray[np.bool_], p: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[b, 3] of one column from truth [n], probabilities [seeds, n] and weights [b, n].

    All three are NaN in a resample without a positive or a negative, so that a macro averages the same
    findings whatever the measure.
    """
    precision = np.mean([average_precision(truth, one, weights) for one in p], axis=0)
    calibration = np.mean([expected_calibration_error(truth, one, weights) for one in p], axis=0)
    entropy = weighted_mean(binary_entropy(p.mean(axis=0)), weights)
    out = np.stack([precision, calibration, entropy], axis=1)
    out[np.isnan(precision)] = np.nan
    return out


def _mean_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without its NaNs; NaN where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _numbers(value: float, values: NDArray[np.float64]) -> dict[str, float | None]:
    if math.isnan(value):
        return {"value": None, "low": None, "high": None}
    low, high = interval(values)
    return {"value": float(value), "low": None if math.isnan(low) else low, "high": None if math.isnan(high) else high}


def _described(g: int, columns: list[_Column], groups: list[list[int]], patients: Sequence[str], findings: list[str],
               said: str, lost: int) -> dict[str, object]:
    """The columns finding, n, positives and note of group `g`; `lost` resamples had no value."""
    notes = []
    if g < len(findings):
        name, column = columns[g].name, columns[g]
        known, positive = column.known, column.truth & column.known
        if not column.defined:
            notes.append("undefined: no " + ("positive" if not positive.any() else "negative") + " film in test")
    else:
        combined = g > len(findings)
        name, kind = (GAPS, "combinations") if combined else (MACRO, "findings")
        asked = [c for c in columns if c.combined == combined]
        known = np.any([c.known for c in asked], axis=0) if asked else np.zeros(len(patients), bool)
        positive = np.any([c.truth & c.known for c in asked], axis=0) if asked else np.zeros(len(patients), bool)
        averaged = f"{len(groups[g])} of {len(asked)} {kind}"
        notes.append(f"mean of {averaged}" if groups[g] else
                     f"undefined: {averaged} have positive and negative films in test")
    if lost and not any(n.startswith("undefined") for n in notes):
        notes.append(f"{lost} resamples without a value")
    if said:
        notes.append(said)
    n = len({p for p, k in zip(patients, known, strict=True) if k})
    return {"finding": name, "n": n, "positives": int(positive.sum()), "note": "; ".join(notes) or None}


def _check_sets(sets: Mapping[str, FilmSet], findings: list[str]) -> None:
    if not findings or len(set(findings)) < len(findings):
        raise BadInput("evaluation findings", ", ".join(findings) or "none", "at least one finding, each once")
    for name, films in sets.items():
        if not len(films):
            raise BadInput(f"evaluation: {name}", "no films", "at least one film")
        if films.labels.shape[1] != len(findings):
            raise BadInput(f"evaluation: {name} labels", films.labels.shape, f"one column for each of {findings}")
    for held_out, others in (("test", ("real", "subset", "validate")), ("validate", ("real", "subset"))):
        for other in others:
            both = sorted(set(sets[held_out].patients) & set(sets[other].patients))
            if both:
                raise BadInput(f"evaluation: {held_out}", f"{len(both)} patients also in {other}, {both[0]} among them",
                               "patients that are in one split only")


def _check_combinations(combinations: list[list[str]], findings: list[str]) -> list[list[str]]:
    for names in combinations:
        unknown = [f for f in names if f not in findings]
        if unknown or not names or len(set(names)) < len(names):
            raise BadInput("evaluation combinations", "+".join(names) or "an empty combination",
                           "different findings out of " + ", ".join(findings))
    return combinations
