"""Training pairs: each is a true counterfactual, and only of what the film does not already show."""

from __future__ import annotations

import numpy as np
import pytest

from cars_core.generate.pairs import TRAINED, Base, make_pair, make_pairs
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

VOCABULARY = load_vocabulary()


@pytest.mark.parametrize("finding", TRAINED)
def test_an_insertion_brightens_and_a_deletion_undoes_it(base: Base, finding: str) -> None:
    for kind, sign in (("insert", 1), ("delete", -1)):
        pair = make_pair(base, finding, kind, rng=np.random.default_rng(3), vocabulary=VOCABULARY)
        change = pair.after.astype(int) - pair.before
        assert np.abs(change).max() >= 3
        assert sign * change.sum() > 0
        assert (change[pair.mask == 0] == 0).mean() > 0.97  # resizing may touch a pixel beside the band
        bit = 1 << VOCABULARY[finding].bit
        assert bool(pair.condition.target_present & bit) == (kind == "insert")
        assert bool(pair.condition.source_present & bit) == (kind == "delete")


def test_a_finding_the_film_shows_is_never_laid_over_it(base: Base) -> None:
    sick = Base(base.film, base.anatomy, VOCABULARY.mask(["mass"]), base.image_id, base.patient)
    with pytest.raises(BadInput, match="already present"):
        make_pair(sick, "mass", "insert", rng=np.random.default_rng(0), vocabulary=VOCABULARY)


def test_pairs_are_a_function_of_the_seed(base: Base) -> None:
    a, b, c = (make_pairs([base], 4, seed=s, vocabulary=VOCABULARY) for s in (1, 1, 2))
    assert all((x.before == y.before).all() and x.condition == y.condition for x, y in zip(a, b, strict=True))
    assert any(x.condition != y.condition for x, y in zip(a, c, strict=True))


def test_films_that_hold_nothing_end_in_a_message_not_a_loop(base: Base) -> None:
    full = Base(base.film, base.anatomy, VOCABULARY.mask(list(TRAINED)), base.image_id, base.patient)
    with pytest.raises(BadInput, match="training films"):
        make_pairs([full], 2, seed=0, vocabulary=VOCABULARY)
