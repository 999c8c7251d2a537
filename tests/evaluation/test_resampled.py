"""The mean over folds: its interval, held against published tables and against what is known of simulated folds."""

import numpy as np
import pytest

from tunesmith.evaluation.resampled import over_folds, resampled, t_quantile

TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 14: 2.145, 29: 2.045, 30: 2.042}


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_printed_table(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_other_shares_and_many_degrees_of_freedom():
    assert t_quantile(4, 0.99) == pytest.approx(4.604, abs=5e-4)
    assert t_quantile(1, 0.99) == pytest.approx(63.657, abs=5e-4)
    assert t_quantile(100_000) == pytest.approx(1.95996, abs=1e-4), "the normal distribution"


def test_the_interval_of_a_worked_example():
    """Five scores, mean 0.82, variance 0.00325; 0.2 + 0.25 of it is 0.0014625, whose root times 2.776 is 0.10617."""
    found = resampled([0.80, 0.85, 0.90, 0.75, 0.80], 0.25)
    assert found["value"] == pytest.approx(0.82)
    assert found["high"] - found["value"] == pytest.approx(0.10618, abs=1e-5)
    assert found["value"] - found["low"] == pytest.approx(0.10618, abs=1e-5)
    assert found["folds"] == [0.80, 0.85, 0.90, 0.75, 0.80]


def test_without_the_correction_the_interval_of_a_mean_of_shared_rows_would_be_too_small():
    """The law of the correction: scores whose errors correlate by test / (test + train) as those of folds do."""
    random, hits, plain = np.random.default_rng(0), 0, 0
    ratio, times = 0.25, 2000
    shared = ratio / (1 + ratio)
    for _ in range(times):
        scores = np.sqrt(shared) * random.normal() + np.sqrt(1 - shared) * random.normal(size=5)
        corrected, naive = resampled(scores.tolist(), ratio), resampled(scores.tolist(), 0)
        hits += corrected["low"] <= 0 <= corrected["high"]
        plain += naive["low"] <= 0 <= naive["high"]
    assert hits / times == pytest.approx(0.95, abs=0.02)
    assert plain / times < 0.9


def test_trees_of_scores_become_one_tree():
    def fold(value, rows):
        return {"accuracy": {"value": value}, "classes": {"a": {"rows": rows, "f1": {"value": value}}}}

    found = over_folds([fold(0.5, 3), fold(1.0, 4)], 0.5)
    assert found["accuracy"]["value"] == 0.75
    assert found["classes"]["a"]["rows"] == 7
    assert found["classes"]["a"]["f1"]["folds"] == [0.5, 1.0]


def test_a_figure_that_a_fold_does_not_define_is_left_out_of_the_mean_and_shown_as_null():
    some = {"auroc": {"value": 0.5}, "classes": {"a": {"rows": 1, "f1": {"value": 1.0}}}}
    found = over_folds([some, {"auroc": {"value": None}}, some], 0.5)
    assert found["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5, "folds": [0.5, None, 0.5]}
    assert found["classes"]["a"] == {
        "rows": 2,
        "f1": {"value": 1.0, "low": 1.0, "high": 1.0, "folds": [1.0, None, 1.0]},
    }
    lonely = over_folds([{"auroc": {"value": None}}, {"auroc": {"value": 0.5}}], 0.5)["auroc"]
    assert lonely == {"value": 0.5, "low": None, "high": None, "folds": [None, 0.5]}
    assert resampled([None, None], 0.5)["value"] is None


def test_other_numbers_are_averaged_and_what_differs_otherwise_is_left_out():
    sets = [{"sets": {"asked": 0.9, "size": size, "rows": 5, "how": how}} for size, how in ((1.0, "a"), (2.0, "b"))]
    assert over_folds([*sets, None, {"sets": None}], 0.5) == {"sets": {"asked": 0.9, "size": 1.5, "rows": 10}}
