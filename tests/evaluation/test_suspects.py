"""Wrong labels: those that are planted come first, and a model is never asked about rows that it saw."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.data.split import make_folds
from tunesmith.evaluation.linear import linear_outputs
from tunesmith.evaluation.suspects import out_of_fold, suspects


def softmax(outputs):
    each = np.exp(outputs - outputs.max(1, keepdims=True))
    return each / each.sum(1, keepdims=True)


def planted(seed, number=600, labels=3):
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, labels, number)
    features = draw.normal(size=(number, 8))
    features[np.arange(number), codes] += 4
    wrong = draw.choice(number, number // 20, replace=False)
    given = codes.copy()
    given[wrong] = (codes[wrong] + draw.integers(1, labels, len(wrong))) % labels
    return features, given, set(wrong.tolist()), codes


def linear(features, codes, seen=None):
    def chances(learnt, held):
        assert not set(learnt.tolist()) & set(held.tolist())
        return softmax(linear_outputs(features[learnt], codes[learnt], features[held], codes.max() + 1))

    return chances


@pytest.mark.parametrize("seed", range(3))
def test_planted_labels_are_found_and_told_what_they_should_be(seed):
    features, given, wrong, truth = planted(seed)
    folds = make_folds(np.arange(600, dtype=np.uint64) * 7919, given, 5)
    found = suspects(out_of_fold([linear(features, given)], folds, (600, 3)), given)
    hit = [place for place in found.positions.tolist() if place in wrong]
    assert len(hit) >= 0.7 * len(wrong) and len(hit) >= 0.8 * len(found.positions)
    assert set(found.positions[:15].tolist()) <= wrong
    right = [truth[place] == likely for place, likely in zip(found.positions[:15], found.likely, strict=False)]
    assert all(right) and (np.diff(found.margins) <= 0).all()


def test_a_class_of_which_the_model_is_never_sure_is_judged_by_its_own_measure():
    chances = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 9 + [[0.45, 0.55]])
    codes = np.array([0] * 10 + [1] * 9 + [0])
    assert suspects(chances, codes).positions.tolist() == [19]


def test_labels_without_rows_and_rows_without_doubt_are_no_suspects():
    found = suspects(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0, 1]))
    assert found.positions.tolist() == [] and found.accuracy == 1.0
