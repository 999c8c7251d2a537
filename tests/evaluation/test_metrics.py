"""Every metric against scikit-learn or scipy, and all resamples at once against one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch

from tunesmith import plugins
from tunesmith.errors import RecipeError

SINGLE = ("binary", "multi-class", "absent")


def scores(average):
    return {
        "precision": lambda truth, told: sk.precision_score(truth, told, average=average, zero_division=0),
        "recall": lambda truth, told: sk.recall_score(truth, told, average=average, zero_division=0),
        "f1": lambda truth, told: sk.f1_score(truth, told, average=average, zero_division=0),
    }


OF_DECISIONS = {
    "accuracy": sk.accuracy_score,
    "mcc": sk.matthews_corrcoef,
    "precision_macro": scores("macro")["precision"],
    "recall_macro": scores("macro")["recall"],
    "f1_macro": scores("macro")["f1"],
    "f1_micro": scores("micro")["f1"],
    "f1_weighted": scores("weighted")["f1"],
}
OF_VALUES = {
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "spearman": lambda truth, told: scipy.stats.spearmanr(truth, told).statistic,
}


@pytest.mark.parametrize("name", OF_DECISIONS)
@pytest.mark.parametrize("kind", SINGLE)
def test_a_metric_of_decisions_is_scikit_learns(name, kind, case, ask):
    codes, chances, target = case(kind)
    assert ask(name, codes, chances, target) == pytest.approx(OF_DECISIONS[name](codes, chances.argmax(1)), abs=1e-6)


@pytest.mark.parametrize("kind", SINGLE)
def test_balanced_accuracy_is_scikit_learns_also_where_a_class_is_only_predicted(kind, case, ask):
    codes, chances, target = case(kind)
    told = chances.argmax(1)
    mean_recall = sk.recall_score(codes, told, labels=np.unique(codes), average="macro")
    assert ask("balanced_accuracy", codes, chances, target) == pytest.approx(mean_recall, abs=1e-6)
    if kind == "absent":
        assert (told == 2).any() and not (codes == 2).any()


@pytest.mark.parametrize("name", ["precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted"])
def test_a_metric_of_several_labels_is_scikit_learns(name, case, ask):
    codes, chances, target = case("multilabel")
    expected = OF_DECISIONS[name](codes.astype(int), (chances >= 0.5).astype(int))
    assert ask(name, codes, chances, target) == pytest.approx(expected, abs=1e-6)


def test_accuracy_of_several_labels_is_the_share_of_rows_that_are_all_right(case, ask):
    codes, chances, target = case("multilabel")
    expected = ((chances >= 0.5) == codes.astype(bool)).all(1).mean()
    assert 0 < expected < 1
    assert ask("accuracy", codes, chances, target) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_binary_figures_are_about_the_positive_label(name, case, ask):
    codes, chances, target = case("binary")
    told = chances.argmax(1)
    function = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[name]
    assert target.positive == 0
    assert ask(name, codes, chances, target) == pytest.approx(function(codes, told, pos_label=0), abs=1e-6)
    assert function(codes, told, pos_label=0) != pytest.approx(function(codes, told, pos_label=1), abs=1e-3)
    codes, chances, target = case("multi-class")
    with pytest.raises(RecipeError, match="positive label of a binary task"):
        ask(name, codes, chances, target)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
@pytest.mark.parametrize("kind", [*SINGLE, "multilabel"])
@pytest.mark.parametrize("digits", [9, 1])
def test_areas_are_scikit_learns_each_class_against_the_rest_with_ties_and_without(name, kind, digits, case, ask):
    codes, chances, target = case(kind)
    chances = chances.round(digits)
    function = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[name]
    classes = [0] if kind == "binary" else [i for i in range(4) if kind == "multilabel" or (codes == i).any()]
    truths = {i: codes[:, i] if kind == "multilabel" else codes == i for i in classes}
    expected = np.mean([function(truths[i], chances[:, i]) for i in classes])
    assert ask(name, codes, chances, target) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["r2", "spearman"])
def test_what_follows_values_that_do_not_vary_is_not_a_number(name, case, ask):
    codes, values, target = case("regression")
    assert math.isnan(ask(name, np.full_like(codes, 3.0), values, target))


def test_an_area_without_two_classes_is_not_a_number(case, ask):
    codes, chances, target = case("binary")
    assert math.isnan(ask("auroc", np.zeros_like(codes), chances, target))


@pytest.mark.parametrize("kind", SINGLE)
def test_log_loss_and_brier_are_scikit_learns(kind, case, ask):
    codes, chances, target = case(kind)
    labels = np.arange(target.num_outputs)
    expected = sk.log_loss(codes, chances, labels=labels)
    assert ask("log_loss", codes, chances, target) == pytest.approx(expected, abs=1e-9)
    one_hot = np.eye(target.num_outputs)[codes]
    brier = ((chances - one_hot) ** 2).sum(1).mean()
    if kind == "binary":
        brier = sk.brier_score_loss(codes, chances[:, 1])
    assert ask("brier", codes, chances, target) == pytest.approx(brier, abs=1e-9)


def test_log_loss_and_brier_of_several_labels_are_means_over_them(case, ask):
    codes, chances, target = case("multilabel")
    each = [sk.log_loss(codes[:, i], chances[:, i]) for i in range(4)]
    assert ask("log_loss", codes, chances, target) == pytest.approx(np.mean(each), abs=1e-6)
    each = [sk.brier_score_loss(codes[:, i], chances[:, i]) for i in range(4)]
    assert ask("brier", codes, chances, target) == pytest.approx(np.mean(each), abs=1e-9)


def test_a_certain_mistake_has_a_finite_log_loss(case, ask):
    codes, _, target = case("binary")
    assert 10 < ask("log_loss", codes, np.eye(2)[1 - codes], target) < 50


@pytest.mark.parametrize("name", OF_VALUES)
def test_a_metric_of_values_is_scikit_learns_or_scipys(name, case, ask):
    codes, values, target = case("regression")
    assert ask(name, codes, values, target) == pytest.approx(OF_VALUES[name](codes, values[:, 0]), abs=1e-9)


@pytest.mark.parametrize("name", sorted(plugins.names("metric")))
@pytest.mark.parametrize("kind", ["binary", "absent", "multilabel", "regression"])
def test_all_resamples_at_once_equal_one_by_one(name, kind, case, ask):
    codes, chances, target = case(kind, 30)
    if (name in OF_VALUES) != (kind == "regression"):
        return
    rows = torch.from_numpy(np.random.default_rng(1).integers(30, size=(7, 30)))
    rows[3] = rows[3, 0]  # one row again and again
    function = plugins.get("metric", name)
    try:
        together = function(torch.from_numpy(codes)[rows], torch.from_numpy(chances)[rows], target)
    except RecipeError:
        assert (name, kind) not in {("accuracy", "multilabel"), ("f1", "binary")}
        return
    alone = [ask(name, codes[some], chances[some], target) for some in rows.numpy()]
    assert together.shape == (7,)
    np.testing.assert_allclose(together.double().numpy(), alone, atol=1e-9)


def test_a_metric_for_one_label_a_row_refuses_several(case, ask):
    codes, chances, target = case("multilabel")
    for name in ("mcc", "balanced_accuracy"):
        with pytest.raises(RecipeError, match="one label a row"):
            ask(name, codes, chances, target)
