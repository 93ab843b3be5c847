"""Without these, an edited film would carry labels its picture does not show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.coverage.planning.targets import stated_by, target_vector
from cars_core.vectors import Vector, close_upwards, from_chexpert, from_nih
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
NIH = list(V.label_set("nih"))


def names(mask: int) -> set[str]:
    return set(V.unpack(mask))


def test_an_inserted_finding_brings_what_it_implies_even_where_the_source_said_absent() -> None:
    source = from_chexpert({"Lung Opacity": 0, "Pleural Effusion": 1, "Edema": -1}, V)
    target = target_vector(source, [("insert", "consolidation")], vocabulary=V)
    assert names(target.present) == {"consolidation", "lung_opacity", "effusion"}
    assert names(target.absent) == set()
    assert names(target.uncertain) == {"edema"}


def test_a_deleted_finding_takes_along_what_only_it_implied() -> None:
    source = from_nih("Nodule|Effusion", V)
    target = target_vector(source, [("delete", "nodule")], vocabulary=V, stated=stated_by("nih", V))
    assert names(target.present) == {"effusion"}
    assert names(source.absent) | {"nodule", "lung_lesion"} == names(target.absent)


def test_what_another_finding_supports_stays() -> None:
    target = target_vector(from_nih("Nodule|Mass", V), [("delete", "nodule")], vocabulary=V)
    assert names(target.present) == {"mass", "lung_lesion"}


def test_what_an_uncertain_finding_may_support_turns_uncertain() -> None:
    source = from_chexpert({"Consolidation": 1, "Edema": -1}, V)
    target = target_vector(source, [("delete", "consolidation")], vocabulary=V)
    assert names(target.uncertain) == {"edema", "lung_opacity"}


def test_what_the_labels_state_for_its_own_sake_stays() -> None:
    source = from_chexpert({"Consolidation": 1, "Lung Opacity": 1}, V)
    kept = target_vector(source, [("delete", "consolidation")], vocabulary=V, stated=stated_by("chexpert", V))
    assert names(kept.present) == {"lung_opacity"}
    implied = target_vector(source, [("delete", "consolidation")], vocabulary=V)
    assert implied.present == 0


def test_a_swap_below_one_finding_keeps_it() -> None:
    target = target_vector(from_nih("Nodule", V), [("insert", "mass"), ("delete", "nodule")], vocabulary=V)
    assert names(target.present) == {"mass", "lung_lesion"}
    assert "nodule" in names(target.absent)


@given(present=st.sets(st.sampled_from(NIH)), data=st.data())
def test_inserting_and_deleting_again_gives_back_the_film_s_findings(present: set[str], data: st.DataObject) -> None:
    source = from_nih("|".join(sorted(present)) or "No Finding", V)
    finding = data.draw(st.sampled_from([n for n in NIH if n not in present] or [None]))
    if finding is None:
        return
    name = V.label_set("nih")[finding].name
    stated = stated_by("nih", V)
    there = target_vector(source, [("insert", name)], vocabulary=V, stated=stated)
    assert there.state(V[name].bit) == "present"
    assert close_upwards(there, V) == there
    back = target_vector(there, [("delete", name)], vocabulary=V, stated=stated)
    assert back.present == source.present
    assert back.absent & stated == source.absent & stated


@pytest.mark.parametrize(("operations", "words"), [
    ([("insert", "effusion")], "insert effusion: got present"),
    ([("insert", "edema")], "insert edema: got uncertain"),
    ([("insert", "mass"), ("insert", "mass")], "insert mass: got unmentioned"),
    ([("delete", "mass")], "delete mass: got unmentioned"),
    ([("delete", "effusion"), ("delete", "effusion")], "delete effusion"),
    ([("delete", "lung_opacity")], "delete lung_opacity: got consolidation stays"),
    ([("delete", "consolidation"), ("delete", "lung_opacity"), ("insert", "pneumonia")],
     "operations: got lung_opacity"),
    ([("swap", "effusion")], "swap effusion"),
    ([("insert", "noduel")], "finding: got noduel"),
])
def test_operations_that_contradict_the_film_are_refused(operations: list[tuple[str, str]], words: str) -> None:
    source = close_upwards(Vector(present=V.mask(["effusion", "consolidation"]), uncertain=V.mask(["edema"])), V)
    with pytest.raises(BadInput, match=words):
        target_vector(source, operations, vocabulary=V)
