"""Two models on the same rows: known values, laws, and how often a difference is found where there is none, or one."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.evaluation import paired
from tunesmith.evaluation.paired import Difference, difference, holm, mcnemar, row_losses, wilcoxon

DECIDES = {
    ("binary", "accuracy"): "McNemar",
    ("several", "f1_micro"): "McNemar",
    ("several", "f1_macro"): "paired bootstrap",
    ("binary", "log_loss"): "paired bootstrap",
    ("multilabel", "accuracy"): "paired bootstrap",
    ("regression", "r2"): "paired bootstrap",
    ("regression", "rmse"): "paired bootstrap",
}
BESIDE = {"binary": "McNemar", "several": "McNemar", "multilabel": "Wilcoxon", "regression": "Wilcoxon"}


@pytest.fixture
def pair(case, predictions):
    """`pair("binary")`: predictions of the same rows by two models, the second the first with some noise."""

    def build(kind, num_rows=80, seed=0):
        codes, chances, target = case(kind, num_rows, seed)
        task = kind if kind in ("multilabel", "regression") else "classification"
        noise = np.random.default_rng(seed + 1).normal(scale=0.3, size=chances.shape)
        other = chances + noise if kind == "regression" else np.clip(chances + noise, 0.01, 0.99)
        if task == "classification":
            other = other / other.sum(1, keepdims=True)
        return predictions(codes, chances, target, task), predictions(codes, other, target, task)

    return build


def _between(first, second, name):
    return difference(first, second, name, row_losses(first) - row_losses(second))


@pytest.mark.parametrize("kind, name", DECIDES)
def test_one_test_decides_and_another_stands_beside_it(pair, kind, name):
    found = _between(*pair(kind), name)
    assert found.test == DECIDES[kind, name]
    assert set(found.tests) == {"paired bootstrap", BESIDE[kind]}
    assert found.p == found.tests[DECIDES[kind, name]]


@pytest.mark.parametrize("kind, name", DECIDES)
def test_the_other_way_round_the_gain_has_the_other_sign_and_the_same_p(pair, kind, name):
    first, second = pair(kind)
    there, back = _between(first, second, name), _between(second, first, name)
    assert there.gain == pytest.approx(-back.gain) and there.gain != 0
    assert there.interval == pytest.approx([-end for end in reversed(back.interval)])
    assert there.tests == pytest.approx(back.tests)


@pytest.mark.parametrize("kind, name", DECIDES)
def test_a_model_does_not_differ_from_itself(pair, kind, name):
    first, _ = pair(kind)
    found = _between(first, first, name)
    assert (found.gain, found.error, found.needed_rows()) == (0.0, 0.0, None)
    assert set(found.tests.values()) == {1.0}


def test_of_a_metric_of_which_less_is_better_the_lower_one_is_better(pair):
    first, _ = pair("regression")
    nearer = replace(first, outputs=(first.outputs + first.codes[:, None]) / 2)
    assert _between(first, nearer, "rmse").gain > 0 and _between(first, nearer, "rmse").p < 0.01
    assert _between(first, nearer, "r2").gain > 0


def test_the_error_of_an_accuracy_is_that_of_the_formula(pair):
    first, second = pair("several", num_rows=400)
    found = _between(first, second, "accuracy")
    change = row_losses(first) - row_losses(second)
    assert found.gain == pytest.approx(change.mean())
    assert found.error == pytest.approx(change.std(ddof=1) / math.sqrt(len(change)), rel=0.08)


@pytest.mark.parametrize("num_rows", [20, 999, 1000])
def test_the_interval_excludes_0_where_the_bootstrap_finds_a_difference(num_rows):
    stats = pytest.importorskip("scipy.stats")
    low, high = Difference(0.3, 0.1, {}, num_rows).interval
    assert (low + high) / 2 == pytest.approx(0.3)
    assert (high - low) / 2 == pytest.approx(0.1 * stats.t.ppf(0.975, num_rows - 1), rel=2e-3)
    assert paired._bootstrap_p((high - low) / 2 / 0.1, num_rows) == pytest.approx(0.05, abs=1e-6)


def test_a_function_of_your_own_is_decided_by_the_bootstrap_whatever_it_is_called(pair):
    def accuracy(truth, told):
        return sum(true == said for true, said in zip(truth, told, strict=True)) / len(truth)

    first, second = pair("binary")
    found = difference(first, second, "accuracy", row_losses(first) - row_losses(second), [accuracy])
    assert found.test == "paired bootstrap"
    assert found.gain == pytest.approx(_between(first, second, "accuracy").gain)


def test_a_metric_that_the_rows_do_not_define_has_no_gain(pair):
    first, second = pair("binary")
    codes = np.zeros_like(first.codes)
    assert math.isnan(_between(replace(first, codes=codes), replace(second, codes=codes), "auroc").gain)


def test_row_losses_are_wrong_labels_or_absolute_errors(case, predictions):
    codes, chances, target = case("multilabel", 5)
    found = row_losses(predictions(codes, chances, target, "multilabel"))
    assert found.tolist() == ((chances >= 0.5) != (codes > 0.5)).sum(1).tolist()
    codes, chances, target = case("binary", 5)
    assert row_losses(predictions(codes, chances, target)).tolist() == (chances.argmax(1) != codes).tolist()
    codes, values, target = case("regression", 5)
    assert row_losses(predictions(codes, values, target, "regression")) == pytest.approx(np.abs(values[:, 0] - codes))


def test_a_threshold_decides_what_is_wrong(case, predictions):
    codes, chances, target = case("binary", 60)
    made = predictions(codes, chances, target.at((0.8,)))
    assert row_losses(made).tolist() == (np.where(chances[:, 0] >= 0.8, 0, 1) != codes).tolist()


@pytest.mark.parametrize("wins, losses", [(0, 0), (1, 0), (10, 3), (7, 7), (25, 9), (400, 500), (30_000, 30_400)])
def test_mcnemar_is_the_binomial_with_half_of_what_was_seen(wins, losses):
    binom = pytest.importorskip("scipy.stats").binom(wins + losses, 0.5)
    least = min(wins, losses)
    expected = min(1.0, 2 * binom.cdf(least) - binom.pmf(least))
    assert mcnemar(wins, losses) == mcnemar(losses, wins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("num_rows", [1, 5, 20, 50, 51, 400])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_wilcoxon_is_that_of_scipy(num_rows, shift):
    scipy = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(num_rows).normal(shift, size=num_rows)
    method = "exact" if num_rows <= 50 else "asymptotic"
    assert wilcoxon(values) == pytest.approx(scipy.wilcoxon(values, correction=True, method=method).pvalue)
    assert wilcoxon(np.append(values, [0.0, 0.0])) == pytest.approx(wilcoxon(values))
    tied = np.round(values * 2)
    tied = tied[tied != 0]
    if len(np.unique(np.abs(tied))) < len(tied):
        assert wilcoxon(tied) == pytest.approx(scipy.wilcoxon(tied, correction=True, method="asymptotic").pvalue)


def test_wilcoxon_of_nothing_but_zeros_says_nothing():
    assert wilcoxon(np.zeros(10)) == wilcoxon(np.array([])) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_one_test_and_all(values):
    adjusted = holm(values)
    assert all(p <= q <= min(1, len(values) * p) for p, q in zip(values, adjusted, strict=True))
    assert [adjusted[index] for index in np.argsort(values)] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(values) * min(values)))


def test_holm_of_a_known_case():
    # Holm's procedure by hand: 0.01 x 4, 0.02 x 3, max(0.03 x 2, 0.06), max(0.04, 0.06).
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_so_many_rows_as_are_needed_find_the_difference_four_times_in_five():
    random = np.random.default_rng(0)
    wins, losses = 0.10, 0.06
    error = math.sqrt((wins + losses - (wins - losses) ** 2) / 500)
    needed = Difference(wins - losses, error, {"McNemar": 0.2}, 500).needed_rows()
    drawn = random.multinomial(needed, [wins, losses, 1 - wins - losses], size=1000)
    assert np.mean([mcnemar(int(won), int(lost)) < 0.05 for won, lost, _ in drawn]) == pytest.approx(0.8, abs=0.03)


def test_several_tests_need_more_rows_and_tell_less():
    found = Difference(0.02, 0.01, {"McNemar": 0.2}, 500)
    assert found.needed_rows() == math.ceil(500 * (2.8016 * 0.01 / 0.02) ** 2)
    assert found.needed_rows(3) > found.needed_rows() and found.tellable(3) > found.tellable()
    assert Difference(found.tellable(), 0.01, {"McNemar": 0.2}, 500).needed_rows() in (500, 501)


@pytest.mark.parametrize("kind, names", [("several", ("accuracy", "f1_macro", "log_loss")), ("regression", ("r2",))])
def test_no_more_than_7_percent_of_pairs_that_do_not_differ_are_told_apart(kind, names, predictions, monkeypatch):
    """200 pairs of models as good as each other, whose errors go together, each on 60 rows of its own. For the time's
    sake installed packages are searched for metrics once."""
    monkeypatch.setattr(plugins, "_installed", functools.cache(plugins._installed))
    alarms = dict.fromkeys(names, 0)
    for number in range(200):
        first, second = _equals(kind, np.random.default_rng(number), predictions)
        for name in names:
            alarms[name] += _between(first, second, name).p < paired.LEVEL
    assert max(alarms.values()) <= 14, alarms
    assert min(alarms.values()) >= 1, "a test that never finds anything has no power"


def _equals(kind, random, predictions, num_rows=60):
    """Two models whose answers come from one distribution."""
    from tunesmith.tasks.task import Target

    if kind == "regression":
        codes, target = random.normal(size=num_rows), Target(("y",), ("value",))
        shared = 0.7 * codes + 0.5 * random.normal(size=num_rows)
        both = [(shared + 0.4 * random.standard_t(4, size=num_rows))[:, None] for _ in range(2)]
        return [predictions(codes, values, target, "regression") for values in both]
    codes, target = random.choice(4, num_rows, p=[0.4, 0.3, 0.2, 0.1]), Target(("y",), tuple("abcd"))
    shared = 2 * np.eye(4)[codes] + random.normal(size=(num_rows, 4))
    both = [shared + 0.5 * random.normal(size=shared.shape) for _ in range(2)]
    softmax = plugins.get("task", "classification").probabilities
    return [predictions(codes, softmax(outputs), target) for outputs in both]
