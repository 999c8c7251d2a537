"""Penalties: their gradients are those of their values, they spare vectors, and they know what was pretrained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tunesmith import pipeline, plugins
from tunesmith.assemble import regularization
from tunesmith.data.batch import MAIN, Batch
from tunesmith.objectives.objective import Loss
from tunesmith.recipe.check import check_choice
from tunesmith.recipe.schema import Choice
from tunesmith.training import checkpoint, penalties
from tunesmith.training.loop import Pace, train_phase
from tunesmith.training.machine import Machine
from tunesmith.training.state import State


def parameter(*values):
    made = nn.Parameter(torch.tensor(values))
    made.grad = torch.ones_like(made)
    return made


@pytest.fixture
def body():
    return {"matrix": parameter([1.0, -2.0], [0.5, 3.0]), "bias": parameter(4.0, -5.0)}


@pytest.fixture
def head():
    return {"matrix": parameter([2.0, -1.0]), "bias": parameter(7.0)}


def apply(function, body, new, **options):
    """The value, and what was added to the gradients of the body's and the head's matrix and bias."""
    start = {body["matrix"]: torch.ones(2, 2), body["bias"]: torch.zeros(2)}
    parameters = [*body.values(), *new.values()]
    value = function(parameters, start, **options)
    return float(value), [(each.grad - 1).tolist() for each in parameters]


def test_l1_adds_the_sign_of_weights_and_leaves_vectors(body, head):
    value, added = apply(penalties.l1, body, head, strength=0.5)
    assert value == pytest.approx(0.5 * (6.5 + 3))
    assert added == [[[0.5, -0.5], [0.5, 0.5]], [0, 0], [[0.5, -0.5]], [0]]


def test_l2_adds_the_weights_themselves_and_leaves_vectors(body, head):
    value, added = apply(penalties.l2, body, head, strength=0.5)
    assert value == pytest.approx(0.25 * (1 + 4 + 0.25 + 9 + 4 + 1))
    assert added == [[[0.5, -1.0], [0.25, 1.5]], [0, 0], [[1.0, -0.5]], [0]]


def test_l2_sp_pulls_what_was_pretrained_to_its_start_and_new_weights_to_zero(body, head):
    value, added = apply(penalties.l2_sp, body, head, strength=0.5, head=0.25)
    assert value == pytest.approx(0.25 * (0 + 9 + 0.25 + 4 + 16 + 25) + 0.125 * (4 + 1))
    assert added == [[[0, -1.5], [-0.25, 1.0]], [2.0, -2.5], [[0.5, -0.25]], [0]]


@pytest.mark.parametrize("name", plugins.names("penalty"))
def test_a_penalty_leaves_what_has_no_gradient_and_is_a_plain_number(name, body, head):
    body["matrix"].grad = None
    whole = plugins.get("penalty", name)([*body.values(), *head.values()], {})
    assert body["matrix"].grad is None and not whole.requires_grad
    assert whole == plugins.get("penalty", name)([body["bias"], *head.values()], {})


def test_a_strength_below_zero_is_refused_before_anything_is_read():
    (problem,) = check_choice("penalty", Choice(name="l2", options={"strength": -1.0}), "train.penalty")
    assert "train.penalty.strength" in problem.what


def step_of(parts, machine):
    """The weight 2 after a step by the mean of `parts` and a penalty of strength 0.1, and the loss that is told."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    state = State(net, torch.optim.SGD([{"params": list(net.parameters()), "multiple": 1.0}], lr=1.0))
    batches = [Batch((0,), {MAIN: {}}, part, torch.ones(len(part))) for part in parts]

    def objective(net, batch):
        return Loss(net(batch.target).sum(), batch.weight.sum())

    pace = Pace(1, lambda step: 1.0, 0, None, lambda parameters: penalties.l2(parameters, {}, strength=0.1))
    (event,) = train_phase(state, "toy", lambda step: (batches, 3), objective, pace, machine)
    return net.weight.item(), event.loss.item()


def doubled(gradients):
    for parameter in gradients:
        parameter.grad.mul_(2)


def test_a_step_adds_the_penalty_once_whatever_the_number_of_its_parts_and_ranks():
    alone = Machine(torch.device("cpu"), "fp32")
    # Two ranks with the same rows: sums over ranks are twice what is on each.
    pair = SimpleNamespace(device=alone.device, rank=0, world=2, autocast=alone.autocast, dropout=alone.dropout)
    pair.sum, pair.sum_gradients = (lambda total: 2 * total), doubled
    whole, parts = [torch.tensor([[1.0], [2.0], [6.0]])], [torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])]
    for batches, machine in ((whole, alone), (parts, alone), (whole, pair)):
        weight, loss = step_of(batches, machine)
        assert weight == pytest.approx(2.0 - 3.0 - 0.2)
        assert loss == pytest.approx(6.0), "the loss that is told is that of the rows alone"


def run(job, num_steps, saved=None):
    """Train some steps without dropout; the State, whose net shares the job's body."""
    net = job.net()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    state, feed = State(net), job.feed(job.rows.split.train)
    if saved is not None:
        checkpoint.resume_counters(state, saved)
    for event in pipeline.steps(job, state, feed, job.cadence(feed.steps_per_epoch), saved, tell=list):
        if event.step == num_steps:
            break
    return state


def away(state):
    """How far the body is from where it started."""
    named = dict(state.net.named_parameters())
    return sum(float((named[name].detach() - state.start[name]).norm()) for name in state.moved - state.fresh)


def test_a_strong_pull_keeps_the_body_where_it_was_pretrained(job_of):
    train = {"lr": 1e-3, "length": "12 steps", "optimizer": "sgd", "clip": 0.0}
    free = run(job_of(train=train | {"penalty": {"name": "l2_sp", "strength": 0.0}}), 12)
    held = run(job_of(train=train | {"penalty": {"name": "l2_sp", "strength": 300.0}}), 12)
    assert away(held) < 0.5 * away(free)


def test_after_a_resume_the_start_is_still_the_pretrained_weights(job_of, tmp_path):
    parts = {"train": {"length": "8 steps", "penalty": {"name": "l2_sp", "strength": 1.0}}}
    whole = run(job_of(**parts), 8)
    saved = checkpoint.save(run(job_of(**parts), 4), tmp_path)
    resumed = run(job_of(**parts), 8, saved)
    assert all(torch.equal(tensor, resumed.start[name]) for name, tensor in whole.start.items())
    assert all(torch.equal(tensor, resumed.weights()[name]) for name, tensor in whole.weights().items())


def test_the_new_head_has_no_start_and_the_body_has(job_of):
    job = job_of(train={"penalty": "l2_sp"})
    state = State(job.net())
    regularization.begin(job, state)
    start = regularization.penalty(job, state).keywords["start"]
    named = {parameter: name for name, parameter in state.net.named_parameters()}
    assert {named[parameter] for parameter in start} == {name for name in state.moved if "heads." not in name}
    assert state.fresh == {name for name in state.moved if "heads." in name}
