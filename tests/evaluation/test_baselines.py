"""Baselines: what no pretrained model is needed for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from tunesmith import plugins
from tunesmith.evaluation.baselines import Learnable, boosted_trees, majority, mean, tfidf_logistic, tfidf_ridge
from tunesmith.evaluation.linear import class_chances, linear_outputs, score_features
from tunesmith.tasks.task import Target
from tunesmith.testing import tiny_rows


@pytest.fixture
def toy():
    rows = tiny_rows(90, 3)
    target = plugins.get("task", "classification").learn(("label",), rows["label"])
    codes = plugins.get("task", "classification").encode(rows["label"], target)
    return Learnable(rows["text"][:60], codes[:60], rows["text"][60:], target), codes[60:]


def test_majority_tells_the_shares_of_the_training_rows(toy):
    rows = Learnable(["a"] * 4, np.array([0, 2, 2, 2]), ["x", "y"], toy[0].target)
    assert majority(rows).tolist() == [[0.25, 0.0, 0.75]] * 2
    several = Learnable(["a"] * 2, np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), ["x"], toy[0].target)
    assert majority(several).tolist() == [[1.0, 0.0, 0.5]]


def test_words_beat_the_majority(toy):
    rows, truth = toy
    chances = tfidf_logistic(rows)
    assert chances.shape == (30, 3) and np.allclose(chances.sum(1), 1)
    assert (chances.argmax(1) == truth).mean() > 0.9 > (majority(rows).argmax(1) == truth).mean()


def test_chinese_is_read_by_characters(toy):
    good, bad = "今天天气真的很好我们出去玩", "这个产品质量太差我要退货"
    texts = [text[i:] + text[:i] for i in range(12) for text in (good, bad)]
    rows = Learnable(texts[:16], np.array([0, 1] * 8), texts[16:], Target(("y",), ("a", "b")))
    assert (tfidf_logistic(rows).argmax(1) == [0, 1] * 4).all()


def test_several_labels_are_learnt_one_by_one_also_one_that_no_row_has(toy):
    rows, truth = toy
    several = np.stack([rows.codes == 0, rows.codes == 1, np.zeros(60)], 1).astype(np.float32)
    chances = tfidf_logistic(Learnable(rows.texts, several, rows.asked, rows.target))
    for label in (0, 1):
        belongs = truth == label
        assert chances[belongs, label].min() > np.median(chances[~belongs, label])
        assert chances[belongs, label].mean() > 2 * chances[~belongs, label].mean()
    assert (chances[:, 2] == 0).all()


def test_texts_without_a_word_are_read_by_their_signs():
    rows = Learnable(["? ?", "! !"] * 8, np.array([0, 1] * 8), ["?", "!"], Target(("y",), ("a", "b")))
    assert tfidf_logistic(rows).argmax(1).tolist() == [0, 1]


def test_ridge_beats_the_mean_on_numbers_that_words_tell(toy):
    rows, truth = toy
    numbers = Learnable(rows.texts, rows.codes * 10.0 + 5, rows.asked, Target(("y",), ("value",)))
    errors = [np.abs(learn(numbers)[:, 0] - (truth * 10.0 + 5)).mean() for learn in (tfidf_ridge, mean)]
    assert errors[0] < 0.8 * errors[1]
    assert mean(numbers)[0, 0] == pytest.approx(numbers.codes.mean())


def test_one_class_alone_has_the_whole_chance():
    chances = class_chances(np.ones((3, 2)), np.array([1, 1, 1]), np.ones((2, 2)), 3)
    assert chances.tolist() == [[0.0, 1.0, 0.0]] * 2


def test_the_linear_model_of_features_is_scikit_learns():
    random = np.random.default_rng(0)
    train, asked = random.normal(size=(200, 12)), random.normal(size=(50, 12))
    codes = (train @ random.normal(size=(12, 3)) + random.normal(size=(200, 3))).argmax(1)
    columns = (train[:, :2] + random.normal(size=(200, 2)) > 0).astype(np.float32)
    numbers = train @ random.normal(size=12) * 100 + 500
    one = linear_outputs(train, codes, asked, 3)
    theirs = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit(train, codes).predict_log_proba(asked)
    np.testing.assert_allclose(one - one.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True), atol=1e-4)
    two = linear_outputs(train, (codes > 0).astype(np.int64), asked, 2)
    told = LogisticRegression(C=0.2, tol=1e-8).fit(train, codes > 0).decision_function(asked)
    np.testing.assert_allclose(two[:, 1] - two[:, 0], told, atol=1e-4)
    for index in range(2):
        told = LogisticRegression(C=0.1, tol=1e-8).fit(train, columns[:, index]).decision_function(asked)
        np.testing.assert_allclose(linear_outputs(train, columns, asked, 2)[:, index], told, atol=1e-4)
    for unit in (1.0, 1e-7, 1e7):
        told = Ridge(10).fit(train, numbers * unit).predict(asked)
        np.testing.assert_allclose(linear_outputs(train, numbers * unit, asked, 1)[:, 0], told, rtol=1e-4)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_features_that_tell_the_target_score_higher_than_noise(task):
    random = np.random.default_rng(0)
    codes = np.arange(80) % 2
    if task == "multilabel":
        codes = np.stack([codes, 1 - codes], 1).astype(np.float32)
    if task == "regression":
        codes = codes * 3.0
    noise = random.normal(size=(80, 4))
    telling = np.concatenate([noise, codes.reshape(80, -1) * 2], 1)
    folds = [(np.arange(40), np.arange(40, 80)), (np.arange(40, 80), np.arange(40))]
    target = Target(("y",), ("value",) if task == "regression" else ("a", "b"))

    def value(truth, outputs):
        assert outputs.shape[0] == len(truth)
        if task == "regression":
            return -float(np.abs(outputs[:, 0] - truth).mean())
        told = outputs.argmax(1) if task == "classification" else outputs > 0
        return float((told == truth).mean())

    scores = [score_features(found, codes, folds, target.num_outputs, value) for found in (noise, telling)]
    assert scores[1] > scores[0] + 0.2


def _turned(num_rows):
    """Numbers with gaps, a column of codes, and classes that only both together tell."""
    random = np.random.default_rng(0)
    size, code = random.normal(size=num_rows), random.integers(2, 12, num_rows).astype(float)
    truth = (size > 0) ^ (code % 2 == 0)
    return np.stack([np.where(np.arange(num_rows) % 10 == 0, np.nan, size), code], 1), truth


def test_trees_learn_classes_labels_and_numbers_from_codes_and_gaps():
    table, truth = _turned(800)
    target = Target(("y",), ("a", "b", "c"))
    for codes in (truth.astype(np.int64), np.stack([truth, ~truth, truth | True], 1).astype(np.float32), truth * 5.0):
        rows = Learnable(table[:600], codes[:600], table[600:], target, (False, True))
        found = boosted_trees(rows)
        assert np.array_equal(found, boosted_trees(rows))
        score = found[:, 0] / 5 if codes.dtype == np.float64 else found[:, 1] if codes.ndim == 1 else found[:, 0]
        assert ((score > 0.5) == truth[600:])[table[600:, 1] > 0].mean() > 0.9
        assert codes.dtype != np.int64 or (found[:, 2] == 0).all()


def test_trees_take_codes_as_categories_not_as_numbers():
    codes = np.arange(1200.0) % 100
    rows = Learnable(codes[:, None], codes % 2, codes[:100, None], Target(("y",), ("value",)), (True,))
    as_numbers = dataclasses.replace(rows, categorical=(False,))
    wrong = [np.abs(boosted_trees(each)[:, 0] - codes[:100] % 2).mean() for each in (rows, as_numbers)]
    assert wrong[0] < 0.01 < 0.1 < wrong[1]


def test_trees_read_a_column_of_very_many_categories_as_numbers():
    table = np.arange(400.0)[:, None]
    rows = Learnable(table, (table[:, 0] > 200).astype(np.int64), table, Target(("y",), ("a", "b")), (True,))
    assert (boosted_trees(rows).argmax(1) == rows.codes).mean() > 0.95
