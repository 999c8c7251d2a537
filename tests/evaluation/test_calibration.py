"""Reliability, calibration error and abstention: worked examples, definitions written plainly, and simulations."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluation.calibration import (
    Decisions,
    abstention,
    calibration_error,
    plain_error,
    reliability,
    wilson,
)
from tunesmith.tasks.task import Target


def decided(confidence, right):
    return Decisions(np.asarray(confidence, float)[:, None], np.asarray(right, bool)[:, None])


def drawn(num_rows, shift=0.0, seed=0):
    """Rows whose confidence is `shift` more than the share of them that is right."""
    random = np.random.default_rng(seed)
    confidence = 0.6 + 0.4 * random.uniform(size=num_rows)
    return decided(confidence, random.uniform(size=num_rows) < confidence - shift)


def test_the_interval_of_a_share_is_that_of_wilson():
    stats = pytest.importorskip("scipy.stats")
    for hits, rows in ((0, 7), (3, 8), (50, 50), (412, 500)):
        found = stats.binomtest(hits, rows).proportion_ci(method="wilson")
        assert wilson(hits, rows) == pytest.approx((found.low, found.high), abs=1e-9)


def test_a_worked_example_of_three_bins():
    # Thirty rows: ten said 0.6 of which 5 are right, ten 0.8 of which 9, ten 0.95 of which 9.
    confidence = np.repeat([0.6, 0.8, 0.95], 10)
    right = np.concatenate([np.arange(10) < hits for hits in (5, 9, 9)])
    decisions = decided(confidence, right)
    assert plain_error(decisions) == pytest.approx((0.1 + 0.1 + 0.05) / 3)
    bins = reliability(decisions)
    assert [(each["confidence"], each["accuracy"], each["rows"]) for each in bins] == [
        (pytest.approx(0.6), 0.5, 10),
        (pytest.approx(0.8), 0.9, 10),
        (pytest.approx(0.95), 0.9, 10),
    ]
    assert (bins[0]["accuracy_low"], bins[0]["accuracy_high"]) == pytest.approx(wilson(5, 10))


def test_the_error_is_the_usual_one_of_fifteen_bins_of_equal_mass():
    decisions = drawn(600, 0.05)
    confidence, right = decisions.confidence[:, 0], decisions.right[:, 0]
    parts = np.array_split(np.argsort(confidence), 15)
    expected = sum(len(part) / 600 * abs(confidence[part].mean() - right[part].mean()) for part in parts)
    found = calibration_error(decisions)
    assert found["value"] == pytest.approx(expected)
    assert [each["rows"] for each in reliability(decisions)] == [40] * 15


@pytest.mark.parametrize(("num_rows", "bins"), [(1, 1), (19, 1), (45, 4), (150, 15), (5000, 15)])
def test_a_bin_has_ten_rows_or_more_and_there_are_fifteen_at_most(num_rows, bins):
    assert len(reliability(drawn(num_rows))) == bins


def test_rows_of_equal_confidence_share_a_bin_so_that_their_order_does_not_matter():
    confidence, right = np.repeat([0.7, 1.0], [12, 48]), np.arange(60) % 3 > 0
    order = np.random.default_rng(0).permutation(60)
    decisions, other = decided(confidence, right), decided(confidence[order], right[order])
    assert [each["rows"] for each in reliability(decisions)] == [12, 48]
    assert plain_error(decisions) == pytest.approx(plain_error(other), abs=1e-12)
    assert abstention(decisions) == abstention(other)


def test_by_chance_is_what_right_probabilities_show():
    found = calibration_error(drawn(200))
    errors = []
    confidence = drawn(200).confidence[:, 0]
    random = np.random.default_rng(1)
    for _ in range(400):
        errors.append(plain_error(decided(confidence, random.uniform(size=200) < confidence)))
    assert found["mean"] == pytest.approx(np.mean(errors), rel=0.05)
    assert found["most"] == pytest.approx(np.percentile(errors, 97.5), rel=0.08)


def test_the_interval_holds_nothing_wrong_where_probabilities_are_right():
    found = [calibration_error(drawn(150, seed=seed)) for seed in range(40)]
    assert sum(each["low"] > 0 for each in found) <= 4
    # The plain figure alone would not: of few rows it is far over zero.
    assert np.mean([each["value"] for each in found]) > 0.05


def test_the_interval_holds_the_true_error_and_not_zero_where_they_are_wrong():
    found = [calibration_error(drawn(400, 0.15, seed)) for seed in range(40)]
    assert sum(each["low"] <= 0.15 <= each["high"] for each in found) >= 34
    assert sum(each["low"] > 0 for each in found) >= 38
    assert all(each["low"] <= each["value"] <= each["high"] for each in found)


def test_of_one_label_a_row_the_most_probable_counts_whatever_the_threshold(predictions):
    target = Target(("y",), ("no", "yes"), positive=1, thresholds=(0.1,))
    chances = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    decisions = Decisions.of(predictions(np.array([0, 0, -1]), chances, target))
    assert decisions.confidence.tolist() == [[0.8], [0.7]]
    assert decisions.right.tolist() == [[True], [False]]


def test_of_several_labels_each_probability_counts(predictions, case):
    codes, chances, target = case("multilabel", num_rows=200)
    decisions = Decisions.of(predictions(codes, chances, target, "multilabel"))
    flat = decided(chances.ravel(), codes.ravel() > 0.5)
    assert calibration_error(decisions)["value"] == pytest.approx(plain_error(flat))
    assert sum(each["rows"] for each in reliability(decisions)) == 800


def test_abstaining_answers_the_surest_rows_first():
    found = abstention(decided([0.9, 0.6, 0.8, 0.7], [True, False, True, True]))
    # Of 1, 2, 3 and 4 rows 0, 0, 0 and a quarter are wrong.
    assert found["area"] == pytest.approx(0.25 / 4)
    at = {point["coverage"]: point for point in found["points"]}
    assert at[1.0] == {"coverage": 1.0, "accuracy": 0.75, "confidence": 0.6}
    assert at[0.75] == {"coverage": 0.75, "accuracy": 1.0, "confidence": 0.7}


def test_confidence_that_tells_nothing_leaves_the_share_of_wrong_rows_as_area():
    found = abstention(decided([0.5] * 40, np.arange(40) < 30))
    assert found["area"] == pytest.approx(0.25)
    assert [point["accuracy"] for point in found["points"]] == pytest.approx([0.75] * 20)
