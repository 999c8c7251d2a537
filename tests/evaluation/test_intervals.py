"""Intervals: exact or by the bootstrap, repeatable, with the coverage they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

from tunesmith.evaluation import intervals
from tunesmith.tasks.task import Target


def test_a_share_of_rows_has_the_exact_interval_of_the_binomial(case, predictions):
    codes, chances, target = case("binary", 200)
    found = intervals.score(predictions(codes, chances, target), ["accuracy", "precision", "recall"])
    told = chances.argmax(1)
    parts = {"accuracy": told == codes, "precision": codes[told == 0] == 0, "recall": told[codes == 0] == 0}
    for name, right in parts.items():
        theirs = scipy.stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="exact")
        assert list(found[name].values()) == pytest.approx([right.mean(), theirs.low, theirs.high], abs=1e-9)
    assert found["classes"]["a"]["recall"] == found["recall"] != found["classes"]["b"]["recall"]
    assert found["classes"]["a"]["precision"] == found["precision"]


def test_rows_that_are_all_right_are_no_proof_that_all_are(predictions):
    codes, target = np.tile([0, 1], 10), Target(("y",), ("a", "b", "c"))
    found = intervals.score(predictions(codes, np.eye(3)[codes] * 0.9 + 0.05, target), ["accuracy"])
    assert found["accuracy"] == {"value": 1.0, "low": pytest.approx(0.8316, abs=1e-4), "high": 1.0}
    assert found["classes"]["c"]["recall"] == {"value": 0.0, "low": 0.0, "high": 1.0}, "no row: it could be anything"


@pytest.mark.parametrize("name", ["mse", "spearman"])
def test_other_intervals_are_scipys_bias_corrected_and_accelerated_bootstrap(case, predictions, name):
    codes, outputs, target = case("regression", 150)
    outputs = codes[:, None] + (outputs - codes[:, None]) ** 3
    found = intervals.score(predictions(codes, outputs, target, "regression"), [name])[name]
    known = {
        "mse": lambda truth, told: ((truth - told) ** 2).mean(),
        "spearman": lambda truth, told: scipy.stats.spearmanr(truth, told).statistic,
    }
    options = {"vectorized": False, "paired": True, "rng": 0, "n_resamples": 1000}
    bca, plain = (
        scipy.stats.bootstrap((codes, outputs[:, 0]), known[name], method=method, **options).confidence_interval
        for method in ("BCa", "percentile")
    )
    width = bca.high - bca.low
    assert found["value"] == pytest.approx(known[name](codes, outputs[:, 0]), abs=1e-9)
    assert [found["low"], found["high"]] == pytest.approx([bca.low, bca.high], abs=0.08 * width)
    if name == "mse":
        assert abs(plain.high - bca.high) > 0.15 * width, "the two differ here"


def test_intervals_cover_the_truth_about_as_often_as_they_say(predictions, case):
    target, covered = case("binary")[2], {"accuracy": 0, "f1_macro": 0}
    population = np.random.default_rng(0).uniform(size=(100_000, 2))
    for seed in range(100):
        draws = population[np.random.default_rng(seed).integers(len(population), size=120)]
        codes = (draws[:, 0] < 0.8).astype(np.int64)
        told = np.where(draws[:, 1] < 0.9, codes, 1 - codes)
        found = intervals.score(predictions(codes, np.eye(2)[told], target), list(covered), classes=False)
        # Of 100 rows 72 + 2 are told to be of one class and 18 + 8 of the other: F1 144 / 154 and 36 / 46.
        truth = {"accuracy": 0.9, "f1_macro": (144 / 154 + 36 / 46) / 2}
        for name in covered:
            covered[name] += found[name]["low"] <= truth[name] <= found[name]["high"]
    assert all(90 <= count <= 100 for count in covered.values()), covered


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


def test_what_two_differ_by_has_an_interval_of_its_own(predictions):
    codes, target = np.tile([0, 1], 200), Target(("label",), ("a", "b"))

    def of(wrong):
        told = np.where(np.arange(400) < wrong, 1 - codes, codes)
        return predictions(codes, np.where(told[:, None] == [0, 1], 0.9, 0.1), target)

    found = intervals.difference(of(60), of(40), "accuracy")
    assert found["value"] == pytest.approx(0.05) and 0.02 < found["low"] < 0.05 < found["high"] < 0.08
    assert found["share_better"] == 1.0, "though their own intervals overlap"
    fell = intervals.difference(of(60), of(40), "log_loss")
    assert fell["value"] > 0 and fell["low"] > 0, "less is better"
    assert intervals.difference(of(40), of(40), "f1_macro") == {"value": 0, "low": 0, "high": 0, "share_better": 0.5}
