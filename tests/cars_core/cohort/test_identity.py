"""Pseudonyms must hide patients and splits must never divide one."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.identity import key_fingerprint, pseudonym, pseudonym_key, split_of
from schemas.errors import BadInput
from schemas.recipe import Cohort, Splits

KEY = b"0123456789abcdef"


def _splits(train: float, validate: float, test: float) -> Splits:
    return Splits(train=train, validate=validate, test=test)


def test_a_pseudonym_is_the_hmac_of_kind_and_value() -> None:
    want = hmac.new(KEY, b"patient\x00100", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(KEY, "patient", "100") == "p" + want
    assert pseudonym(KEY, "record", "100")[1:] != want, "a patient could be joined to a film of the same number"
    assert pseudonym(KEY[::-1], "patient", "100")[1:] != want, "the key would protect nothing"


def test_a_short_or_missing_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"hunter2hunter2\r\n")
    with pytest.raises(BadInput, match="at least 16 bytes") as e:
        pseudonym_key(Cohort(source="nih", key_file=str(path)), seed=1)
    assert "hunter" not in str(e.value)
    with pytest.raises(BadInput, match=r"cohort\.key_file"):
        pseudonym_key(Cohort(source="nih", key_file=str(tmp_path / "none")), seed=1)


def test_a_key_copied_without_its_last_line_end_names_the_same_patients(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(KEY + b"\n")
    (tmp_path / "b").write_bytes(KEY)
    keys = {pseudonym_key(Cohort(source="nih", key_file=str(tmp_path / n)), seed=s) for n in "ab" for s in (1, 2)}
    assert keys == {KEY}


def test_without_a_key_file_the_seed_is_the_key() -> None:
    public = Cohort(source="nih", public_ids=True)
    assert pseudonym_key(public, seed=1) == pseudonym_key(Cohort(source="phantom"), seed=1)
    assert pseudonym_key(public, seed=1) != pseudonym_key(public, seed=2)
    assert key_fingerprint(KEY) not in KEY.decode()


def test_splits_get_their_shares() -> None:
    names = [pseudonym(KEY, "patient", str(i)) for i in range(20_000)]
    counts = dict.fromkeys(("train", "validate", "test"), 0)
    for n in names:
        counts[split_of(n, _splits(0.7, 0.1, 0.2))] += 1
    for split, share in (("train", 0.7), ("validate", 0.1), ("test", 0.2)):
        sd = (20_000 * share * (1 - share)) ** 0.5
        assert abs(counts[split] - 20_000 * share) < 5 * sd, "the split is not at random"


@given(st.text(min_size=1), st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.6, 0.4, 0.0), (0.0, 0.3, 0.7)]))
def test_an_empty_share_gets_no_patient(name: str, shares: tuple[float, float, float]) -> None:
    got = split_of(name, _splits(*shares))
    assert dict(zip(("train", "validate", "test"), shares, strict=True))[got] > 0


@given(st.text(), st.floats(0, 1))
def test_a_larger_training_share_takes_no_training_patient_away(name: str, share: float) -> None:
    smaller, larger = _splits(share / 2, 0.0, 1 - share / 2), _splits(share, 0.0, 1 - share)
    if split_of(name, smaller) == "train":
        assert split_of(name, larger) == "train"
