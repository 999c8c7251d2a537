"""The contrastive objective: the loss of SetFit, or with a margin that of Hadsell et al., over pairs."""

from __future__ import annotations

import pytest
import torch

from tunesmith import plugins
from tunesmith.data.batch import MAIN, Batch
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.loaders import transformers
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.contrastive import objective
from tunesmith.tasks.task import Target
from tunesmith.testing import tiny_model

CLASSIFICATION, TARGET = plugins.get("task", "classification"), Target(("label",), ("a", "b", "c"), (2, 2, 2))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return transformers.load(
        str(tiny_model(tmp_path_factory.mktemp("model"))), TARGET.labels, "single_label_classification"
    )


@pytest.fixture
def net(pretrained):
    return Tunable(pretrained, "pooled", {"pooling": "mean"}, 3).eval().requires_grad_(False)


def batch_of(codes):
    ids = torch.arange(len(codes) * 4).reshape(-1, 4) % 20 + 5
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Batch(tuple(range(len(codes))), {MAIN: inputs}, torch.tensor(codes), torch.ones(len(codes)))


def test_the_loss_is_the_squared_distance_of_the_cosine_to_1_or_0(net):
    batch = batch_of([0, 1, 2, 0, 2, 1])
    features = net.features(batch.inputs[MAIN])
    cosine = [float(torch.cosine_similarity(features[i], features[i + 3], dim=0)) for i in range(3)]
    loss = objective(CLASSIFICATION, TARGET)(net, batch)
    assert float(loss.sum) == pytest.approx((cosine[0] - 1) ** 2 + cosine[1] ** 2 + cosine[2] ** 2, rel=1e-5)
    assert float(loss.count) == 3


def test_with_a_margin_other_classes_are_pushed_no_further_than_that(net):
    batch = batch_of([0, 1, 2, 0, 2, 1])
    features = net.features(batch.inputs[MAIN])
    distance = [1 - float(torch.cosine_similarity(features[i], features[i + 3], dim=0)) for i in range(3)]
    for margin in (min(distance[1:]) / 2, 1.5):
        expected = distance[0] ** 2 + sum(max(0.0, margin - each) ** 2 for each in distance[1:])
        loss = objective(CLASSIFICATION, TARGET, margin=margin)(net, batch)
        assert float(loss.sum) == pytest.approx(expected / 2, rel=1e-4)


def test_what_has_no_one_label_a_row_and_impossible_margins_are_refused():
    for name in ("regression", "multilabel"):
        with pytest.raises(RecipeError, match=name):
            objective(plugins.get("task", name), TARGET)
    with pytest.raises(RecipeError, match="margin"):
        objective(CLASSIFICATION, TARGET, margin=3.0)


def test_the_models_own_head_has_no_features_to_compare(pretrained):
    with pytest.raises(ModelError, match="pooled"):
        objective(CLASSIFICATION, TARGET)(Tunable(pretrained, "own", {}, 3), batch_of([0, 0]))
