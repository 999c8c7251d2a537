"""The consistency objective: supervised on rows with a target, a divergence between two views on rows without."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tunesmith import plugins
from tunesmith.data.batch import FIRST, MAIN, SECOND, Batch
from tunesmith.errors import RecipeError
from tunesmith.objectives import supervised
from tunesmith.objectives.consistency import objective
from tunesmith.tasks.task import Target

CLASSIFICATION, TARGET = plugins.get("task", "classification"), Target(("label",), ("a", "b"), (2, 2))


class Echo(nn.Module):
    """Its outputs are its inputs times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, inputs):
        return inputs["x"] * self.weight


def views(first, second, weight=1.0):
    inputs = {FIRST: {"x": torch.tensor(first)}, SECOND: {"x": torch.tensor(second)}}
    return Batch(tuple(range(len(first))), inputs, torch.empty(0), torch.full((len(first),), weight))


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def odds(z):
    return 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))


def test_rows_with_a_target_have_the_supervised_loss():
    batch = Batch((0, 1), {MAIN: {"x": torch.tensor([[1.0, 0.0], [2.0, 0.5]])}}, torch.tensor([0, 1]), torch.ones(2))
    ours, theirs = (make(CLASSIFICATION, TARGET)(Echo(), batch) for make in (objective, supervised.objective))
    assert torch.equal(ours.sum, theirs.sum) and torch.equal(ours.count, theirs.count)


def test_the_symmetric_divergence_is_the_mean_of_both_directions():
    loss = objective(CLASSIFICATION, TARGET, divergence="symmetric", weight=2.0)
    found = loss(Echo(), views([[1.0, 0.0]], [[-0.5, 0.0]], weight=0.25))
    p, q = odds(1.0), odds(-0.5)
    assert float(found.sum.detach()) == pytest.approx(2.0 * 0.25 * (divergence(p, q) + divergence(q, p)) / 2, rel=1e-5)
    assert float(found.count) == 0, "only rows with a target count"


def test_the_sharpened_target_is_sharper_and_only_of_sure_rows():
    loss = objective(CLASSIFICATION, TARGET, temperature=0.5, confidence=0.8)
    # Odds of 1 to e are 73 %, under the threshold; 1 to e^2 are 88 %.
    found = loss(Echo(), views([[2.0, 0.0], [1.0, 0.0]], [[0.5, 0.0], [0.5, 0.0]]))
    assert float(found.sum.detach()) == pytest.approx(divergence(odds(4.0), odds(0.5)), rel=1e-5)


def test_the_sharpened_target_gets_no_gradient_and_the_symmetric_ones_do():
    first, second = [[2.0, 0.0]], [[2.0, 0.0]]
    for kind, expected in (("sharpened", True), ("symmetric", False)):
        net = Echo()
        objective(CLASSIFICATION, TARGET, divergence=kind)(net, views(first, second)).sum.backward()
        # Equal views: both directions have their minimum there, but a target that is sharper pulls.
        assert bool(net.weight.grad.abs().sum() > 1e-6) == expected
    net = Echo()
    objective(CLASSIFICATION, TARGET)(net, views([[2.0, 0.0]], [[0.0, 0.0]])).sum.backward()
    assert not net.weight.grad.any(), "a view of zeros reaches no weight, and the target must not"


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 0.0},
        {"ratio": 0},
        {"temperature": 0.0},
        {"confidence": 1.0},
        {"divergence": "symmetric", "temperature": 0.4},
        {"divergence": "symmetric", "confidence": 0.5},
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(options):
    with pytest.raises(RecipeError):
        objective(CLASSIFICATION, TARGET, **options)


@pytest.mark.parametrize("name", ["regression", "multilabel"])
def test_what_has_no_class_probabilities_is_refused(name):
    with pytest.raises(RecipeError, match=name):
        objective(plugins.get("task", name), TARGET)
