"""Without these, a combination could count as seen on a real film where it was not, or at another rate."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.coverage.reference import Reference, load_reference
from cars_core.vocabulary import Finding, Vocabulary, load_vocabulary
from schemas.errors import BadInput

VOCABULARY = load_vocabulary()
NAMES = ["atelectasis", "lung_opacity", "mass", "nodule", "lung_lesion", "effusion"]
IMPLIES = {"atelectasis": {"lung_opacity"}, "mass": {"lung_lesion"}, "nodule": {"lung_lesion"}}


def write(folder: Path, text: str) -> str:
    path = folder / "reference.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def sets(reference: Reference) -> dict[frozenset[str], int]:
    return {frozenset(VOCABULARY.unpack(m)): n
            for m, n in zip(reference.masks.tolist(), reference.films.tolist(), strict=True)}


@given(rows=st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.integers(1, 500)), min_size=1, max_size=15),
       gap=st.sets(st.sampled_from(NAMES)), without=st.sets(st.sampled_from(NAMES)))
@settings(max_examples=60, deadline=None)
def test_sets_and_shares_are_those_counted_row_by_row(
        tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[set[str], int]], gap: set[str],
        without: set[str]) -> None:
    text = "findings,films\n" + "".join(f"{'|'.join(sorted(names))},{n}\n" for names, n in rows)
    found = load_reference(write(tmp_path_factory.mktemp("reference"), text), vocabulary=VOCABULARY)
    expected: Counter[frozenset[str]] = Counter()
    for names, n in rows:
        expected[frozenset(names.union(*(IMPLIES.get(name, set()) for name in names)))] += n
    assert sets(found) == expected
    assert found.masks.tolist() == sorted(set(found.masks.tolist()))
    assert set(VOCABULARY.unpack(found.known)) == set().union(*expected)
    shown = sum(n for names, n in expected.items() if gap <= names and not without & names)
    assert found.share(VOCABULARY.mask(sorted(gap)), VOCABULARY.mask(sorted(without))) == pytest.approx(
        shown / sum(expected.values()))


def test_comments_column_order_and_spaces_do_not_change_what_is_read(tmp_path: Path) -> None:
    plain = load_reference(write(tmp_path, "findings,films\n,7\nmass|effusion,3\n"), vocabulary=VOCABULARY)
    other = load_reference(write(tmp_path, "\ufeff# made by hand\nnote, films ,findings\n\n# more\nx,7,\n"
                                           '"a, b",2, effusion | mass\nx,1,mass|effusion|mass\n'),
                           vocabulary=VOCABULARY)
    assert sets(plain) == sets(other) == {frozenset(): 7, frozenset({"mass", "lung_lesion", "effusion"}): 3}


def test_the_shipped_reference_is_the_published_nih_table(open_films: Path) -> None:
    with gzip.open(open_films / "labels" / "Data_Entry_2017_v2020.csv.gz", "rt", encoding="utf-8") as file:
        labels = Counter(row["Finding Labels"] for row in csv.DictReader(file))
    published: Counter[frozenset[str]] = Counter()
    for text, n in labels.items():
        published[frozenset(text.split("|")) - {"No Finding"}] += n
    found = load_reference("nih", vocabulary=VOCABULARY)
    names = {f.name: f.aliases["nih"][0] for f in VOCABULARY.findings if "nih" in f.aliases}
    own: Counter[frozenset[str]] = Counter()
    for shown, n in sets(found).items():
        own[frozenset(names[name] for name in shown if name in names)] += n
    assert own == published
    assert (len(found.masks), int(found.films.sum())) == (801, 112_120)
    both = sum(n for shown, n in published.items() if {"Effusion", "Mass"} <= shown and "Edema" not in shown)
    share = found.share(VOCABULARY.mask(["effusion", "mass"]), VOCABULARY.mask(["edema"]))
    assert share == pytest.approx(both / 112_120)


def test_the_shipped_reference_knows_its_labels_and_what_they_imply() -> None:
    labels = VOCABULARY.mask([f.name for f in VOCABULARY.label_set("nih").values()])
    assert load_reference("nih", vocabulary=VOCABULARY).known == labels | VOCABULARY.ancestors(labels)


def test_a_smaller_vocabulary_still_has_the_shipped_reference() -> None:
    small = Vocabulary((Finding("mass", 0, {}, (), False, True), Finding("effusion", 1, {}, (), True, True),
                        Finding("spiculation", 2, {}, (), False, True)), {})
    found = load_reference("nih", vocabulary=small)
    whole = load_reference("nih", vocabulary=VOCABULARY)
    assert found.masks.tolist() == [0, 1, 2, 3] and found.known == 3
    assert int(found.films.sum()) == 112_120
    assert found.share(3) == whole.share(VOCABULARY.mask(["mass", "effusion"]))


@pytest.mark.parametrize(("text", "line", "value"), [
    ("findings,films\nmass,3\nmas,4\n", 3, "mas"),
    ("findings,films\nmass,0\n", 2, "0"),
    ("findings,films\nmass,-4\n", 2, "-4"),
    ("findings,films\nmass,2.5\n", 2, "2.5"),
    ("findings,films\nmass,²\n", 2, "²"),
    ("findings,films\nmass,\n", 2, ""),
    ("# a note\nfindings,films\nmass\n", 3, "1 cells"),
    ("findings,films\nmass,3,4\n", 2, "3 cells"),
    ("finding,films\nmass,3\n", 1, "finding,films"),
    ("findings,films,films\nmass,3,4\n", 1, "findings,films,films"),
    ('findings,films\n"mass,3\n', 2, '"mass,3'),
    ("findings,films\nmass," + "9" * 5000 + "\n", 2, "9" * 80),
])
def test_a_bad_line_is_named_with_its_number_and_value(tmp_path: Path, text: str, line: int, value: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadInput) as e:
        load_reference(path, vocabulary=VOCABULARY)
    assert e.value.where.split(":")[0] == f"{path}, line {line}"
    assert e.value.value == value


@pytest.mark.parametrize("text", ["", "# nothing\n", "findings,films\n"])
def test_a_file_of_no_film_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="no row"):
        load_reference(write(tmp_path, text), vocabulary=VOCABULARY)


def test_what_is_no_readable_text_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00findings")
    for name in (str(tmp_path / "absent.csv"), str(tmp_path), str(tmp_path / "binary.csv"), "a\0b"):
        with pytest.raises(BadInput) as e:
            load_reference(name, vocabulary=VOCABULARY)
        assert e.value.value == name and "nih" in e.value.expected
