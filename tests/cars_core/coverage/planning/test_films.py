"""Without these, a plan could hang on the order of rows, mix up patients, or balance what the cohort does not say."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cars_core.coverage.planning.films import Films
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()


def cohort(cohorts: Any, n: int = 300) -> pa.Table:
    random = Random(2)
    films = [(i // 3, {"mass": random.choice(["present", "absent", "uncertain", ""]),
                       "effusion": random.choice(["present", "absent"])}) for i in range(n)]
    return cohorts.table(
        films, sex=pa.array([random.choice(["F", "M", None]) for _ in films]),
        view=pa.array([random.choice(["PA", "AP"]) for _ in films]),
        age=pa.array([random.choice([None, 5, 30, 70, 95]) for _ in films], pa.int32()))


def test_kinds_and_strata_say_of_each_film_what_its_row_says(cohorts: Any) -> None:
    train = cohort(cohorts)
    rows = train.to_pylist()
    films = Films(train, seed=3, vocabulary=V, uncertain="absent", by=["sex"], balance=["age", "view"])
    band = {None: "unknown", 5: "00-17", 30: "18-39", 70: "60-79", 95: "80+"}
    people: dict[str, int] = {}
    for i, row in enumerate(films.rows.tolist()):
        said = rows[row]
        vector = films.vectors[int(films.kind_vector[films.kind[i]])]
        assert (vector.present, vector.absent, vector.uncertain) == (said["present"], said["absent"], said["uncertain"])
        assert films.values[films.kind_values[films.kind[i]]] == {"sex": said["sex"] or "unknown"}
        assert films.strata[films.stratum[i]] == {"age": band[said["age"]], "view": said["view"]}
        assert people.setdefault(said["patient"], int(films.patient[i])) == films.patient[i]
    assert len(set(people.values())) == len(people) == 100
    assert (np.diff(films.key.astype(object)) > 0).all()
    assert films.share.sum() == pytest.approx(1)


def test_nothing_but_row_numbers_hangs_on_the_order_of_rows(cohorts: Any) -> None:
    train = cohort(cohorts)
    order = list(range(train.num_rows))
    Random(1).shuffle(order)
    one, other = (Films(t, seed=3, vocabulary=V, uncertain="absent", by=["sex"], balance=["age", "view"])
                  for t in (train, train.take(order)))
    assert np.array(order)[other.rows].tolist() == one.rows.tolist()
    assert (one.kind == other.kind).all() and (one.stratum == other.stratum).all() and (one.key == other.key).all()
    assert one.values == other.values and one.strata == other.strata


def test_the_policy_on_uncertain_findings_reaches_positive_and_blocking_masks(cohorts: Any) -> None:
    train = cohorts.table([(0, {"mass": "uncertain", "effusion": "present"})])
    mass, effusion = V.mask(["mass"]), V.mask(["effusion"])
    for policy, positive, block in (("absent", effusion, effusion), ("present", effusion | mass, effusion | mass),
                                    ("ignore", effusion, effusion | mass)):
        vectors = Films(train, seed=0, vocabulary=V, uncertain=policy).vectors  # type: ignore[arg-type]
        assert (int(vectors.positive[0]), int(vectors.block[0])) == (positive, block)


def test_an_image_met_twice_counts_once_as_its_first_record(cohorts: Any) -> None:
    train = cohort(cohorts, 20)
    again = train.set_column(train.column_names.index("record"), "record", pa.array([f"0{i}" for i in range(20)]))
    films = Films(pa.concat_tables([train, again]), seed=0, vocabulary=V, uncertain="absent")
    records = pa.concat_tables([train, again])["record"].to_pylist()
    assert len(films) == 20
    ids = train["image_id"].to_pylist() * 2
    for row in films.rows.tolist():
        assert records[row] == min(r for r, i in zip(records, ids, strict=True) if i == ids[row])


def test_a_population_replaces_the_shares_of_what_it_names_only(cohorts: Any) -> None:
    train = cohort(cohorts)
    plain = Films(train, seed=3, vocabulary=V, uncertain="absent", balance=["sex", "view"])
    asked = Films(train, seed=3, vocabulary=V, uncertain="absent", balance=["sex", "view"],
                  population={"sex": {"F": 3, "M": 1}})

    def shares(films: Films, attribute: str) -> dict[str, float]:
        out: dict[str, float] = {}
        for stratum, share in zip(films.strata, films.share.tolist(), strict=True):
            out[stratum[attribute]] = out.get(stratum[attribute], 0.0) + share
        return out

    assert shares(asked, "sex") == pytest.approx({"F": 0.75, "M": 0.25, "unknown": 0})
    assert shares(asked, "view") == pytest.approx(shares(plain, "view"))
    counted = {s: train["view"].to_pylist().count(s) / 300 for s in ("AP", "PA")}
    assert shares(plain, "view") == pytest.approx(counted)


def test_attributes_without_a_column_are_not_balanced_and_wrong_levels_are_named(cohorts: Any) -> None:
    train = cohort(cohorts)
    films = Films(train.drop_columns(["sex", "age"]), seed=0, vocabulary=V, uncertain="absent",
                  balance=["sex", "age", "view"])
    assert films.strata == [{"view": "AP"}, {"view": "PA"}]
    for population, match in (({"sex": {"female": 1.0}}, "got female; expected one of F, M, unknown"),
                              ({"age": {"1-2": 1.0}}, "plan.population: age")):
        with pytest.raises(BadInput, match=match):
            Films(train, seed=0, vocabulary=V, uncertain="absent", balance=["sex", "age"], population=population)
    Films(train, seed=0, vocabulary=V, uncertain="absent", balance=["age"], population={"age": {"40-59": 1, "80+": 1}})
