"""Without these, an edited vocabulary could silently change what every stored vector means."""

from __future__ import annotations

from pathlib import Path

import pytest

from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput

# Bits ever written to a lake. The list may grow at its end only.
WRITTEN = ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
           "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia", "lung_lesion",
           "lung_opacity", "enlarged_cardiomediastinum", "pleural_other", "fracture", "support_devices")


def test_bits_written_before_keep_their_meaning() -> None:
    v = load_vocabulary()
    assert v.names[:len(WRITTEN)] == WRITTEN
    assert [v[n].bit for n in WRITTEN] == list(range(len(WRITTEN)))


def test_both_label_sets_are_complete() -> None:
    v = load_vocabulary()
    assert set(v.label_set("nih")) == {
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"}
    assert set(v.label_set("chexpert")) == {
        "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema", "Consolidation",
        "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"}


def test_packing_and_unpacking_are_inverse_and_count_a_name_once() -> None:
    v = load_vocabulary()
    assert v.mask(["edema", "mass", "edema"]) == 2**9 + 2**4
    assert v.unpack(2**9 + 2**4) == ["mass", "edema"]
    assert v.mask(v.names) == 2 ** len(v.names) - 1
    with pytest.raises(BadInput, match="got oedema; expected one of atelectasis"):
        v.mask(["oedema"])


def chain() -> Vocabulary:
    def finding(name: str, bit: int, *parents: str, excludes: tuple[str, ...] = ()) -> Finding:
        return Finding(name, bit, {}, parents, False, False, excludes)

    return Vocabulary((finding("a", 0, "b"), finding("b", 1, "c"), finding("c", 2), finding("d", 3, "c"),
                       finding("e", 4, excludes=("a", "d"))), {})


def test_implications_reach_all_the_way_up_and_down() -> None:
    v = chain()
    assert v.unpack(v.ancestors(v.mask(["a"]))) == ["b", "c"]
    assert v.unpack(v.ancestors(v.mask(["b", "d"]))) == ["c"]
    assert v.unpack(v.descendants(v.mask(["c"]))) == ["a", "b", "d"]
    assert v.ancestors(v.mask(["c"])) == v.descendants(v.mask(["a", "e"])) == 0


def test_exclusion_holds_both_ways() -> None:
    v = chain()
    assert v.unpack(v.excluded(v.mask(["e"]))) == ["a", "d"]
    assert v.unpack(v.excluded(v.mask(["a"]))) == v.unpack(v.excluded(v.mask(["a", "d", "b"]))) == ["e"]
    assert v.excluded(v.mask(["b", "c"])) == 0


GOOD = ("{name: a, nih: A, outline: true, sided: false, excludes: [b]}, "
        "{name: b, parents: [a], outline: false, sided: true}")


@pytest.mark.parametrize(("text", "words"), [
    ("findings: [", "expected findings with name, outline and sided"),
    ("- a", "expected findings with name, outline and sided"),
    ("findings: [a]", "expected findings with name, outline and sided"),
    ("findings: [{name: a, sided: true}]", "got 'outline'"),
    (f"findings: [{GOOD}, {{name: a, outline: true, sided: true}}]", "got a; expected each finding once"),
    (f"findings: [{GOOD}, {{name: c, nih: A, outline: true, sided: true}}]", "nih: got A; expected each label once"),
    (f"findings: [{GOOD}, {{name: c, parents: [z], outline: true, sided: true}}]", "parents of c: got z"),
    (f"findings: [{GOOD}, {{name: c, excludes: [z], outline: true, sided: true}}]", "excludes of c: got z"),
    (f"findings: [{GOOD}, {{name: c, parents: [c], outline: true, sided: true}}]", "parents of c: got c"),
    ("findings: [" + ", ".join(f"{{name: f{i}, outline: true, sided: true}}" for i in range(63)) + "]",
     "got 63; expected at most 62"),
])
def test_a_faulty_vocabulary_is_refused_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "findings.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_vocabulary(str(file))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_findings_that_imply_each_other_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "findings.yaml"
    file.write_text("findings: [{name: a, parents: [b], outline: true, sided: true},"
                    " {name: b, parents: [a], outline: true, sided: true}]")
    with pytest.raises(BadInput, match="implies itself"):
        load_vocabulary(str(file))


def test_a_vocabulary_of_one_s_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "findings.yaml"
    file.write_text(f"findings: [{GOOD}]\nno_finding: {{nih: Clear}}")
    v = load_vocabulary(str(file))
    assert (v["b"].parents, v["a"].excludes, v["b"].sided, v.no_finding) == (("a",), ("b",), True, {"nih": "Clear"})
    for broken in ("no-such.yaml", "."):
        with pytest.raises(BadInput, match="readable file"):
            load_vocabulary(str(tmp_path / broken))
    (tmp_path / "latin").write_bytes(b"findings: [\xe9]")
    with pytest.raises(BadInput, match="expected findings"):
        load_vocabulary(str(tmp_path / "latin"))
