"""Intervals: the percentile bootstrap, repeatable, with the coverage it promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

from tunesmith.evaluation import intervals
from tunesmith.tasks.task import Target


def test_an_interval_is_that_of_scipys_percentile_bootstrap(case, predictions):
    codes, chances, target = case("multi-class", 200)
    found = intervals.score(predictions(codes, chances, target), ["accuracy"])["accuracy"]
    right = (chances.argmax(1) == codes).astype(float)
    theirs = scipy.stats.bootstrap((right,), np.mean, method="percentile", rng=0).confidence_interval
    assert found["value"] == pytest.approx(right.mean(), abs=1e-6)
    assert found["low"] == pytest.approx(theirs.low, abs=0.015)
    assert found["high"] == pytest.approx(theirs.high, abs=0.015)


def test_intervals_cover_the_truth_about_as_often_as_they_say(predictions, case):
    target, covered = case("binary")[2], 0
    for seed in range(40):
        codes = (np.random.default_rng(seed).uniform(size=100) < 0.7).astype(np.int64)
        chances = np.tile([0.1, 0.9], (100, 1))
        found = intervals.score(predictions(codes, chances, target), ["accuracy"], classes=False)["accuracy"]
        covered += found["low"] <= 0.7 <= found["high"]
    assert 34 <= covered <= 40


def test_scores_are_the_same_each_time_and_whatever_else_is_scored(case, predictions):
    made = predictions(*case("absent"))
    once = intervals.score(made, ["f1_macro", "accuracy"])
    assert once == intervals.score(made, ["f1_macro", "accuracy"])
    assert once["accuracy"] == intervals.score(made, ["accuracy"])["accuracy"]


def test_a_metric_that_the_rows_do_not_define_is_null(case, predictions):
    codes, chances, target = case("binary")
    found = intervals.score(predictions(np.zeros_like(codes), chances, target), ["auroc"], classes=False)
    assert found == {"auroc": {"value": None, "low": None, "high": None}}
    json.dumps(found, allow_nan=False)


def test_rows_with_unknown_targets_are_left_out(case, predictions):
    codes, chances, target = case("multi-class")
    more = np.concatenate([codes, [-1, -1]])
    found = intervals.score(predictions(more, np.concatenate([chances, chances[:2]]), target), ["accuracy"])
    assert found == intervals.score(predictions(codes, chances, target), ["accuracy"])
    values, outputs, target = case("regression")
    more = predictions(np.append(values, np.nan), np.append(outputs, [[0.0]], 0), target, "regression")
    assert intervals.value(more, "mae") == intervals.value(predictions(values, outputs, target, "regression"), "mae")


def test_each_class_has_its_rows_and_figures(case, predictions):
    codes, chances, target = case("absent")
    found = intervals.score(predictions(codes, chances, target), ["accuracy"])["classes"]
    assert list(found) == list(target.labels)
    assert [part["rows"] for part in found.values()] == np.bincount(codes, minlength=4).tolist()
    told = chances.argmax(1)
    recall = ((told == 1) & (codes == 1)).sum() / (codes == 1).sum()
    assert found["b"]["recall"]["value"] == pytest.approx(recall, abs=1e-6)
    assert found["b"]["recall"]["low"] <= recall <= found["b"]["recall"]["high"]


def test_a_metric_of_ones_own_gets_what_a_person_reads_and_an_interval(case, predictions):
    codes, chances, target = case("binary")

    def share_of_a(truth, told):
        assert set(truth) | set(told) <= {"a", "b"}
        return told.count("a") / len(told)

    found = intervals.score(predictions(codes, chances, target), [], [share_of_a], classes=False)["share_of_a"]
    expected = (chances.argmax(1) == 0).mean()
    assert found["value"] == pytest.approx(expected) and found["low"] < expected < found["high"]
    assert intervals.value(predictions(codes, chances, target), "share_of_a", [share_of_a]) == pytest.approx(expected)


def test_of_errors_less_is_better():
    assert not intervals.rising("rmse") and not intervals.rising("log_loss") and intervals.rising("accuracy")


def test_how_often_one_is_better_on_the_same_resamples(predictions):
    codes, target = np.tile([0, 1], 100), Target(("label",), ("a", "b"))
    random = np.random.default_rng(0)

    def of(wrong):
        """Predictions of which so many rows are wrong."""
        told = np.where(np.arange(200) < wrong, 1 - codes, codes)
        return predictions(codes, np.where(told[:, None] == [0, 1], 0.9, 0.1), target)

    assert intervals.share_better(of(10), of(10), "accuracy") == 0.5
    assert intervals.share_better(of(30), of(10), "accuracy") > 0.99
    assert intervals.share_better(of(10), of(30), "accuracy") < 0.01
    assert intervals.share_better(of(30), of(10), "log_loss") > 0.99, "less is better"
    # Three rows more are right and none is wrong: a tie only where none of them is drawn, (1 - 3 / 200)^200 = 0.05.
    assert intervals.share_better(of(13), of(10), "accuracy") == pytest.approx(0.975, abs=0.02)
    noisy = [predictions(codes, random.dirichlet([1, 1], 200), target) for _ in range(2)]
    share = intervals.share_better(*noisy, "accuracy")
    assert share + intervals.share_better(*reversed(noisy), "accuracy") == pytest.approx(1.0)

    def right(truth, told):
        return float(np.mean([one == other for one, other in zip(truth, told, strict=True)]))

    assert intervals.share_better(of(30), of(10), "right", [right]) > 0.99
