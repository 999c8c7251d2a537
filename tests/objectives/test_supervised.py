"""The supervised objective: torch's own losses, as sums with counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tunesmith import plugins
from tunesmith.data.batch import MAIN, Batch
from tunesmith.errors import RecipeError
from tunesmith.objectives.supervised import objective
from tunesmith.tasks.task import Target

CLASSES = Target(("y",), ("a", "b", "c"), (10, 30, 20))
CODES = torch.tensor([0, 1, 1, 2, 0])
OUTPUTS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def loss_of(made, outputs=OUTPUTS, codes=CODES):
    """The loss of a net that gives `outputs`."""
    found = made(lambda inputs: outputs, Batch(tuple(range(len(codes))), {MAIN: {}}, codes, torch.ones(len(codes))))
    return float(found.sum / found.count)


def task(name):
    return plugins.get("task", name)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_smoothing_are_torchs(smoothing):
    expected = F.cross_entropy(OUTPUTS, CODES, label_smoothing=smoothing)
    made = objective(task("classification"), CLASSES, label_smoothing=smoothing)
    assert loss_of(made) == pytest.approx(float(expected), abs=1e-6)


def test_given_class_weights_are_those_of_torchs_weighted_mean():
    made = objective(task("classification"), CLASSES, class_weights={"a": 3.0, "c": 0.5})
    expected = F.cross_entropy(OUTPUTS, CODES, weight=torch.tensor([3.0, 1.0, 0.5]))
    assert loss_of(made) == pytest.approx(float(expected), abs=1e-6)


def test_balanced_class_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    rows = [0] * 10 + [1] * 30 + [2] * 20
    weights = compute_class_weight("balanced", classes=np.arange(3), y=rows)
    made = objective(task("classification"), CLASSES, class_weights="balanced")
    expected = F.cross_entropy(OUTPUTS, CODES, weight=torch.tensor(weights, dtype=torch.float32))
    assert loss_of(made) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_torchs_mean_over_the_labels(smoothing):
    codes = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
    made = objective(task("multilabel"), CLASSES, label_smoothing=smoothing)
    smooth = codes * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(OUTPUTS, smooth)
    assert loss_of(made, codes=codes) == pytest.approx(float(expected), abs=1e-6)


def test_a_row_of_several_labels_weighs_as_their_mean_and_one_without_labels_as_one():
    codes = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    made = objective(task("multilabel"), CLASSES, class_weights={"a": 4.0, "c": 2.0})
    each = F.binary_cross_entropy_with_logits(OUTPUTS[:2], codes, reduction="none").mean(1)
    assert loss_of(made, OUTPUTS[:2], codes) == pytest.approx(float((3 * each[0] + each[1]) / 4), abs=1e-6)


def test_the_squared_error_is_in_standard_deviations():
    target = Target(("y",), ("value",), (9,), None, mean=100.0, std=20.0)
    made = objective(task("regression"), target)
    assert loss_of(made, torch.tensor([[1.0], [0.0]]), torch.tensor([100.0, 140.0])) == pytest.approx((1 + 4) / 2)


def test_a_loss_of_ones_own_is_used():
    def own(outputs, targets):
        return outputs[torch.arange(len(targets)), targets]

    made = objective(task("classification"), CLASSES, own)
    assert loss_of(made) == pytest.approx(float(OUTPUTS[torch.arange(5), CODES].mean()))


def test_a_loss_of_ones_own_on_numbers_gets_them_in_the_targets_unit():
    target = Target(("y",), ("value",), (9,), None, mean=100.0, std=20.0)
    made = objective(task("regression"), target, lambda outputs, targets: (outputs - targets).abs())
    assert loss_of(made, torch.tensor([[1.0], [0.0]]), torch.tensor([100.0, 140.0])) == pytest.approx((20 + 40) / 2)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (lambda outputs, targets: outputs.mean(), r"gave \(\) for 5 rows"),
        (lambda outputs, targets: outputs, r"gave \(5, 3\) for 5 rows"),
        (lambda outputs, targets: 1.0, "gave float for 5 rows"),
    ],
)
def test_a_loss_of_ones_own_of_the_wrong_shape_is_an_error_that_says_what_to_return(own, said):
    with pytest.raises(RecipeError, match=said) as caught:
        loss_of(objective(task("classification"), CLASSES, own))
    assert "reduction='none'" in str(caught.value)


def test_a_weight_for_an_unknown_class_names_the_nearest():
    with pytest.raises(RecipeError, match='did you mean "refund"'):
        objective(task("classification"), Target(("y",), ("billing", "refund")), class_weights={"refunds": 2.0})


def test_options_that_have_no_effect_are_refused():
    numbers = Target(("y",), ("value",))
    for options in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        with pytest.raises(RecipeError, match="are for labels"):
            objective(task("regression"), numbers, **options)
    with pytest.raises(RecipeError, match="loss of your own"):
        objective(task("classification"), CLASSES, lambda outputs, targets: outputs[:, 0], label_smoothing=0.1)
