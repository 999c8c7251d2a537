"""Conformal prediction: the law of its coverage by simulation, and the order statistic by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluation import conformal
from tunesmith.tasks.task import Target

LABELS = Target(("y",), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("num_scores", "coverage", "place"),
    [(9, 0.9, 9), (19, 0.95, 19), (99, 0.9, 90), (100, 0.9, 91), (99, 0.07, 7), (10, 0.5, 6)],
)
def test_the_limit_is_the_order_statistic_of_one_row_more(num_scores, coverage, place):
    scores = np.random.default_rng(0).permutation(num_scores) + 1.0
    assert conformal.limit(scores, coverage) == place


@pytest.mark.parametrize(("num_scores", "coverage"), [(8, 0.9), (18, 0.95), (0, 0.5)])
def test_too_few_rows_have_no_limit(num_scores, coverage):
    assert conformal.limit(np.zeros(num_scores), coverage) == math.inf


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_enough_of_the_scores_and_no_smaller_limit_does(scores, coverage):
    scores = np.array(scores)
    most, wanted = conformal.limit(scores, coverage), (len(scores) + 1) * coverage
    if most == math.inf:
        assert wanted > len(scores)
    else:
        assert (scores <= most).sum() >= wanted - 1e-6
        assert (scores < most).sum() < wanted


@pytest.mark.parametrize("asked", [0.8, 0.9])
def test_sets_hold_the_label_as_often_as_is_asked(asked, predictions):
    """The mean over many draws of 39 rows that choose is exactly ceil(40 asked) / 40, whatever the model is worth."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        chances = random.dirichlet(np.ones(3), 139)
        codes = (chances.cumsum(1) < random.uniform(size=(139, 1))).sum(1).clip(max=2)
        chances = random.dirichlet(np.ones(3), 139) * 0.3 + chances * 0.7  # They are not even right.
        rows = predictions(codes, chances, LABELS)
        most = conformal.limit(conformal.nonconformity(rows.take(np.arange(39))), asked)
        found.append(conformal.judged_sets(rows.take(np.arange(39, 139)), most)["coverage"]["value"])
    assert np.mean(found) == pytest.approx(asked, abs=0.012)


def test_intervals_hold_the_value_as_often_as_is_asked(predictions):
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        codes = random.standard_t(3, size=139)
        rows = predictions(codes, np.zeros((139, 1)), Target(("y",), ("value",)), "regression")
        most = conformal.limit(conformal.nonconformity(rows.take(np.arange(39))), 0.9)
        found.append(conformal.judged_intervals(rows.take(np.arange(39, 139)), most)["coverage"]["value"])
    assert np.mean(found) == pytest.approx(0.9, abs=0.012)


def test_a_set_has_the_labels_that_are_probable_enough_and_may_be_empty(predictions):
    chances = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.45, 0.45, 0.1], [0.9, 0.1, 0.0]])
    assert conformal.sets(chances, 0.55).tolist() == [
        [True, False, False],
        [False, False, False],
        [True, True, False],
        [True, False, False],
    ]
    found = conformal.judged_sets(predictions(np.array([0, 0, 1, 1]), chances, LABELS), 0.55)
    assert found["coverage"]["value"] == 0.5 and found["mean_size"] == 1.0
    assert found["sizes"] == {"0": 1, "1": 2, "2": 1}


def test_how_far_a_row_is_off_counts_known_rows_only(predictions):
    chances = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3]])
    assert conformal.nonconformity(predictions(np.array([1, -1]), chances, LABELS)) == pytest.approx([0.7])
    values = predictions(np.array([1.0, np.nan]), np.array([[3.0], [3.0]]), Target(("y",), ("value",)), "regression")
    assert conformal.nonconformity(values).tolist() == [2.0]
