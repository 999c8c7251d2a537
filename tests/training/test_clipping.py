"""Clipping: by the norm of all, by value, and adaptively by unit; a number in the recipe is a norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith import plugins
from tunesmith.recipe.check import check_choice
from tunesmith.recipe.schema import Choice
from tunesmith.training import clipping


def parameter(values, gradient):
    made = nn.Parameter(torch.tensor(values))
    made.grad = torch.tensor(gradient)
    return made


def test_the_norm_is_over_all_parameters_and_a_smaller_one_stays():
    first, second = parameter([0.0], [3.0]), parameter([0.0, 0.0], [0.0, 4.0])
    clipping.norm([first, second], limit=2.5)
    assert first.grad.tolist() == pytest.approx([1.5]) and second.grad.tolist() == pytest.approx([0.0, 2.0])
    clipping.norm([first, second], limit=9.0)
    assert first.grad.tolist() == pytest.approx([1.5])


def test_a_value_is_cut_on_both_sides_alone():
    made = parameter([0.0, 0.0, 0.0], [5.0, -7.0, 0.5])
    clipping.value([made], limit=2.0)
    assert made.grad.tolist() == [2.0, -2.0, 0.5]


def test_adaptive_clipping_holds_each_unit_to_a_share_of_its_own_weights():
    # Units with weights of norm 5 and 10, gradients of norm 5 and 0.01; a vector counts as one unit.
    matrix = parameter([[3.0, 4.0], [6.0, 8.0]], [[4.0, 3.0], [0.01, 0.0]])
    bias = parameter([0.0, 0.0], [3.0, 4.0])
    clipping.adaptive([matrix, bias], factor=0.1, eps=0.01)
    assert matrix.grad.tolist() == [pytest.approx([0.4, 0.3]), pytest.approx([0.01, 0.0])]
    assert bias.grad.tolist() == pytest.approx([0.0006, 0.0008])


@pytest.mark.parametrize("name", plugins.names("clip"))
def test_what_has_no_gradient_is_left_alone(name):
    made = nn.Parameter(torch.ones(2, 2))
    plugins.get("clip", name)([made, parameter([1.0], [9.0])])
    assert made.grad is None


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (2.5, [1.5, 2.0]),
        ("value", [1.0, 1.0]),
        ({"name": "value", "limit": 3.5}, [3.0, 3.5]),
        ({"name": "adaptive", "factor": 0.5}, [0.5, 0.5]),
    ],
)
def test_a_recipe_clips_by_a_number_or_a_choice(clip, expected, job_of):
    made = [parameter([[1.0]], [[3.0]]), parameter([[1.0]], [[4.0]])]
    job_of(train={"clip": clip}).clip()(made)
    assert [each.grad.item() for each in made] == pytest.approx(expected, rel=1e-5)


def test_zero_is_no_clipping_and_a_limit_of_zero_is_refused(job_of):
    assert job_of(train={"clip": 0.0}).clip() is None
    (problem,) = check_choice("clip", Choice(name="value", options={"limit": 0.0}), "train.clip")
    assert "train.clip.limit" in problem.what
