"""Baselines: simpler answers to the same question."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from tunesmith import plugins
from tunesmith.evaluation.baselines import (
    Learnable,
    boosted_trees,
    edges_logistic,
    frozen_logistic,
    frozen_neighbours,
    frozen_ridge,
    majority,
    mean,
    plain_logistic,
    tfidf_logistic,
    tfidf_ridge,
)
from tunesmith.evaluation.linear import PENALTIES, class_chances, linear_outputs, score_features, tuned_outputs
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


def _features(num_rows, noise, seed=0):
    """Features that tell three classes by their direction, under noise in many others."""
    random = np.random.default_rng(seed)
    codes = np.arange(num_rows) % 3
    return np.concatenate([np.eye(3)[codes] * 3, random.normal(size=(num_rows, 40)) * noise], 1), codes


@pytest.mark.parametrize("learn", [frozen_logistic, frozen_neighbours])
def test_frozen_features_tell_classes_and_several_labels(learn):
    features, codes = _features(300, 0.5)
    target = Target(("y",), ("a", "b", "c"))
    found = learn(Learnable(features[:200], codes[:200], features[200:], target))
    assert (found.argmax(1) == codes[200:]).mean() > 0.95 and np.allclose(found.sum(1), 1)
    several = np.stack([codes == 0, codes != 1, codes < 9], 1).astype(np.float32)
    found = learn(Learnable(features[:200], several[:200], features[200:], target))
    assert ((found > 0.5) == several[200:]).mean() > 0.95


def test_frozen_features_tell_numbers():
    features, codes = _features(300, 0.3)
    rows = Learnable(features[:200], codes[:200] * 7.0 + 100, features[200:], Target(("y",), ("value",)))
    for learn in (frozen_ridge, frozen_neighbours):
        assert np.abs(learn(rows)[:, 0] - (codes[200:] * 7.0 + 100)).mean() < 1


def test_a_neighbour_weighs_by_its_cosine_and_a_label_that_none_has_keeps_a_little():
    train = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = frozen_neighbours(Learnable(train, np.array([0, 1]), np.array([[3.0, 4.0]]), Target(("y",), ("a", "b"))))
    far, near, share = np.exp(0.6 / 0.07), np.exp(0.8 / 0.07), 0.5
    told = np.array([far / near, 1.0]) + 0.01 * share
    assert found[0] == pytest.approx(told / (far / near + 1 + 0.01), rel=1e-5)
    many = np.repeat([[1.0, 0.0]], 40, 0)
    found = frozen_neighbours(Learnable(many, np.zeros(40, int), many[:1], Target(("y",), ("a", "b"))))
    assert found[0, 1] == 0, "no row has it"


def test_the_penalty_of_a_linear_model_is_that_of_the_least_held_out_loss():
    random = np.random.default_rng(0)
    train, asked = random.normal(size=(90, 60)), random.normal(size=(1000, 60))
    truth = [(some[:, 0] + random.normal(size=len(some)) > 0).astype(np.int64) for some in (train, asked)]
    standardised = [(some - train.mean(0)) / train.std(0) for some in (train, asked)]

    def loss(outputs):
        return torch.nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(truth[1])).item()

    each = [loss(linear_outputs(standardised[0], truth[0], standardised[1], 2, penalty)) for penalty in PENALTIES]
    assert loss(tuned_outputs(train, truth[0], asked, 2)) == pytest.approx(min(each), abs=1e-9)
    assert min(each) < 0.95 * each[1], "that of the other linear models is not the best here"


def test_edges_tell_shapes_where_colours_do_not():
    from tunesmith.data.histograms import colours, edges

    random = np.random.default_rng(0)

    def picture(upright):
        stripes = np.sin(np.arange(64) * random.uniform(0.5, 1.2) + random.uniform(0, 6)) / 2 + 0.5
        return np.broadcast_to(stripes[None, None, :] if upright else stripes[None, :, None], (3, 64, 64))

    codes = np.arange(60) % 2
    pictures = [picture(bool(code)) for code in codes]
    assert edges(pictures[0]).shape == (576,) and (edges(pictures[0] * 0 + 1.0) == 0).all(), "a plain area has none"
    right = {}
    for learn, describe, side in ((edges_logistic, edges, 1), (plain_logistic, colours, 4)):
        numbers = np.stack([describe(np.ascontiguousarray(some[:, ::side, ::side])) for some in pictures])
        rows = Learnable(numbers[:40], codes[:40], numbers[40:], Target(("y",), ("a", "b")))
        right[learn] = (learn(rows).argmax(1) == codes[40:]).mean()
    assert right[edges_logistic] == 1.0 > right[plain_logistic]
