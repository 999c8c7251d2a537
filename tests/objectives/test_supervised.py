"""The supervised objective: torch's own losses, as sums with counts."""

from __future__ import annotations

import math

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


def truths(outputs, codes):
    """The probability of the truth of each row, and of several labels of each label, in float64."""
    if codes.dim() == 1:
        return outputs.double().softmax(1)[torch.arange(len(codes)), codes]
    chances = outputs.double().sigmoid()
    return torch.where(codes > 0.5, chances, 1 - chances)


SHAPES = {
    "focal": ({"gamma": 1.5}, lambda p: -((1 - p) ** 1.5) * p.log()),
    "generalized": ({"q": 0.4}, lambda p: (1 - p**0.4) / 0.4),
    "symmetric": ({"alpha": 0.3, "beta": 2.0}, lambda p: -0.3 * p.log() - 2.0 * (1 - p) * math.log(1e-4)),
}
LABELS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(("name", "codes"), [("classification", CODES), ("multilabel", LABELS)])
@pytest.mark.parametrize("loss", SHAPES)
def test_a_loss_is_its_papers_formula_of_the_probability_of_the_truth(loss, name, codes):
    options, formula = SHAPES[loss]
    made = objective(task(name), CLASSES, loss=loss, **options)
    assert loss_of(made, codes=codes) == pytest.approx(float(formula(truths(OUTPUTS, codes)).mean()), abs=1e-6)


def test_the_options_left_out_are_the_papers():
    p = truths(OUTPUTS, CODES)
    papers = {
        "focal": -((1 - p) ** 2) * p.log(),
        "generalized": (1 - p**0.7) / 0.7,
        "symmetric": -0.1 * p.log() - (1 - p) * math.log(1e-4),
    }
    for loss, each in papers.items():
        assert loss_of(objective(task("classification"), CLASSES, loss=loss)) == pytest.approx(float(each.mean()))


def test_focal_loss_without_focus_and_generalized_loss_at_its_limit_are_cross_entropy():
    expected = float(F.cross_entropy(OUTPUTS, CODES))
    for options in ({"loss": "focal", "gamma": 0.0}, {"loss": "generalized", "q": 1e-4}):
        assert loss_of(objective(task("classification"), CLASSES, **options)) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("options", [{"loss": "focal", "gamma": 0.5}, {"loss": "generalized"}, {"loss": "symmetric"}])
def test_a_row_that_is_right_or_wrong_beyond_doubt_has_a_finite_gradient(options):
    outputs = torch.tensor([[200.0, 0.0, -200.0], [-200.0, 0.0, 200.0]], requires_grad=True)
    batch = Batch((0, 1), {MAIN: {}}, torch.tensor([0, 0]), torch.ones(2))
    objective(task("classification"), CLASSES, **options)(lambda inputs: outputs, batch).sum.backward()
    assert torch.isfinite(outputs.grad).all()


def test_class_weights_weigh_every_loss():
    made = objective(task("classification"), CLASSES, loss="focal", class_weights={"a": 3.0})
    p = truths(OUTPUTS, CODES)
    each, weight = -((1 - p) ** 2) * p.log(), torch.tensor([3.0, 1, 1, 1, 3])
    assert loss_of(made) == pytest.approx(float((each * weight).sum() / weight.sum()), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": 2.0}, 'gamma has no effect on loss = cross_entropy\n  -> it is for "focal"'),
        ({"loss": "focal", "q": 0.5}, 'q has no effect on loss = focal\n  -> it is for "generalized"'),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing has no effect on loss = focal"),
        ({"loss": "generalized", "q": 1.5}, "q = 1.5 is not above 0 and at most 1"),
        ({"loss": "generalized", "q": 0.0}, "q = 0.0 is not above 0"),
        ({"loss": "focal", "gamma": -1.0}, "gamma = -1.0 is not at least 0"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0 is not at least 0 and below 1"),
        ({"loss": "symmetric", "alpha": 0.0, "beta": 0.0}, "nothing would be learnt"),
    ],
)
def test_a_loss_with_options_of_another_or_out_of_range_is_refused(options, said):
    with pytest.raises(RecipeError) as caught:
        objective(task("classification"), CLASSES, **options)
    assert said in str(caught.value)


def test_losses_for_labels_are_refused_for_numbers_and_beside_a_loss_of_ones_own():
    numbers = Target(("y",), ("value",))
    with pytest.raises(RecipeError, match="are for labels"):
        objective(task("regression"), numbers, loss="focal")
    with pytest.raises(RecipeError, match="loss of your own"):
        objective(task("classification"), CLASSES, lambda outputs, targets: outputs[:, 0], loss="focal")


@pytest.mark.parametrize("options", [{}, {"class_weights": "balanced"}, {"loss": "focal"}, {"label_smoothing": 0.1}])
def test_the_loss_of_mixed_rows_is_that_for_both_targets_by_their_shares(options):
    made = objective(task("classification"), CLASSES, **options)
    others, share = CODES.flip(0), torch.tensor([0.3, 1.0, 0.9, 0.0, 0.5])
    batch = Batch(tuple(range(len(CODES))), {MAIN: {}}, CODES, torch.ones(len(CODES)), others, share)
    found = made(lambda inputs: OUTPUTS, batch)
    parts = [
        made(lambda inputs: OUTPUTS, Batch(batch.rows, {MAIN: {}}, codes, weight))
        for codes, weight in ((CODES, share), (others, 1 - share))
    ]
    assert found.sum == pytest.approx(sum(part.sum for part in parts))
    assert found.count == pytest.approx(sum(part.count for part in parts))
    if not options:
        one, other = (F.one_hot(codes, 3) for codes in (CODES, others))
        soft = share[:, None] * one + (1 - share[:, None]) * other
        assert found.sum / found.count == pytest.approx(F.cross_entropy(OUTPUTS, soft)), "torch's, of soft targets"
