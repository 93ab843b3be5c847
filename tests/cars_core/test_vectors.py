"""Without these, a label could change its meaning on its way from a CSV into packed integers and back."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.vectors import Vector, close_upwards, from_chexpert, from_nih
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput
from schemas.tables import COHORT

V = load_vocabulary()
NIH, CHEXPERT = V.label_set("nih"), V.label_set("chexpert")
STATES = {"1": "present", "0": "absent", "-1": "uncertain", "": "unmentioned"}
# Spelled out here, not read from the vocabulary, so that a changed implication is noticed.
IMPLIES = {"lung_opacity": {"atelectasis", "infiltration", "pneumonia", "consolidation", "edema",
                            "interstitial_lung_disease", "tuberculosis"},
           "lung_lesion": {"mass", "nodule", "lung_cavity", "lung_cyst", "lung_tumor"},
           "enlarged_cardiomediastinum": {"cardiomegaly"}, "pleural_other": {"pleural_thickening"},
           "fracture": {"rib_fracture", "clavicle_fracture"}, "pneumonia": {"pneumonitis", "infection"},
           "effusion": {"pleural_fluid", "meniscus_sign"}, "cardiomegaly": {"enlarged_heart"},
           "pneumothorax": {"absent_lung_markings", "pleural_air"}}
masks = st.integers(0, 2**62 - 1)


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    a, b, c = draw(masks), draw(masks), draw(masks)
    return Vector(a, b & ~a, c & ~a & ~b)


@given(vectors())
def test_a_vector_survives_the_cohort_table(v: Vector) -> None:
    columns = {k: pa.array([getattr(v, k)], COHORT.field(k).type) for k in ("present", "absent", "uncertain")}
    assert Vector(**pa.table(columns).to_pylist()[0]) == v


@given(vectors(), st.integers(0, 61), st.sampled_from(sorted(STATES.values())))
def test_setting_one_finding_leaves_the_others_alone(v: Vector, bit: int, state: str) -> None:
    got = v.with_state(bit, state)
    assert got.state(bit) == state
    assert all(got.state(i) == v.state(i) for i in range(62) if i != bit)


@given(st.permutations(sorted(NIH)).flatmap(lambda p: st.integers(0, len(p)).map(lambda n: p[:n])))
def test_nih_labels_come_back_and_what_is_not_named_is_absent(labels: list[str]) -> None:
    v = from_nih(" | ".join(labels) if labels else "No Finding", V)
    assert {n for n, f in NIH.items() if v.state(f.bit) == "present"} == set(labels)
    assert {n for n, f in NIH.items() if v.state(f.bit) == "absent"} == set(NIH) - set(labels)
    there = {NIH[n].name for n in labels}
    for name in V.names:
        if name not in {f.name for f in NIH.values()}:
            assert v.state(V[name].bit) == ("present" if IMPLIES.get(name, set()) & there else "unmentioned")


@given(st.fixed_dictionaries({c: st.sampled_from(sorted(STATES)) for c in CHEXPERT}), st.booleans())
def test_chexpert_columns_come_back_with_blanks_still_unmentioned(row: dict[str, str], as_numbers: bool) -> None:
    given_row: dict[str, object] = {c: (float(x) if x else None) if as_numbers else x for c, x in row.items()}
    v = from_chexpert(given_row, V)
    there = {CHEXPERT[c].name for c, x in row.items() if x == "1"}
    for column, finding in CHEXPERT.items():
        expected = STATES[row[column]]
        if expected == "unmentioned" and IMPLIES.get(finding.name, set()) & there:
            expected = "present"
        assert v.state(finding.bit) == expected
    known = {f.name for f in CHEXPERT.values()}
    assert all(v.state(V[n].bit) == "unmentioned" for n in V.names if n not in known)


def test_no_finding_makes_blanks_absent_but_says_nothing_of_devices() -> None:
    v = from_chexpert({"No Finding": 1.0, "Support Devices": "", "Edema": -1}, V)
    assert v.state(V["support_devices"].bit) == "unmentioned"
    assert v.state(V["edema"].bit) == "uncertain"
    assert set(V.unpack(v.absent)) == {f.name for f in CHEXPERT.values()} - {"support_devices", "edema"}
    assert from_chexpert({"No Finding": 0}, V) == Vector()
    assert from_chexpert({"Edema": float("nan"), "Fracture": None}, V) == Vector()


def implied_by(there: set[str], v: Vector) -> set[str]:
    """What follows from some findings, step by step, where nothing was said of it."""
    known = set(there)
    while more := {p for p, below in IMPLIES.items() if below & known and v.state(V[p].bit) == "unmentioned"} - known:
        known |= more
    return known


@given(vectors())
def test_closing_upwards_only_speaks_where_nothing_was_said(v: Vector) -> None:
    known = 2 ** len(V.names) - 1
    v = Vector(v.present & known, v.absent & known, v.uncertain & known)
    closed = close_upwards(v, V)
    assert (closed.absent, closed.uncertain) == (v.absent, v.uncertain)
    assert close_upwards(closed, V) == closed
    there = set(V.unpack(v.present))
    added = set(V.unpack(closed.present & ~v.present))
    assert added == implied_by(there, v) - there


@pytest.mark.parametrize("labels", ["", "|", "Efusion", "No Finding|Mass", "mass"])
def test_labels_nih_does_not_know_are_refused(labels: str) -> None:
    with pytest.raises(BadInput, match="Finding Labels"):
        from_nih(labels, V)


@pytest.mark.parametrize("value", ["2", "yes", 0.5, "nan", [1]])
def test_values_chexpert_does_not_use_are_refused_with_their_column(value: object) -> None:
    with pytest.raises(BadInput, match=r"row 7: Edema: got .*expected 1, 0, -1 or empty"):
        from_chexpert({"Edema": value}, V, where="row 7")


@pytest.mark.parametrize("parts", [(1, 1, 0), (0, 2, 2), (4, 0, 4), (-1, 0, 0)])
def test_a_finding_is_in_one_state_only(parts: tuple[int, int, int]) -> None:
    with pytest.raises(BadInput, match="disjoint"):
        Vector(*parts)
