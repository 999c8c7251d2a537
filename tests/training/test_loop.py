"""The loop: any cut of a batch gives the batch's step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tunesmith import pipeline
from tunesmith.data.batch import MAIN, Batch
from tunesmith.objectives.objective import Loss
from tunesmith.training import clipping, machine
from tunesmith.training.loop import Pace, check_gradients, train_phase
from tunesmith.training.machine import Machine
from tunesmith.training.state import State

WEIGHTS = {"name": "supervised", "class_weights": {"apple": 5.0, "bread": 0.2}}


def trained(job, num_steps):
    """The weights and losses after some steps, without dropout; the job's model is left as it was."""
    net = job.net()
    untouched = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    feed = job.feed(job.rows.split.train)
    losses = []
    for event in pipeline.steps(job, State(net), feed, job.cadence(feed.steps_per_epoch), tell=list):
        losses.append(float(event.loss))
        if event.step == num_steps:
            break
    weights = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
    net.load_state_dict(untouched)
    return weights, losses


@pytest.mark.parametrize("objective", ["supervised", WEIGHTS], ids=["plain", "class weights"])
def test_accumulation_equals_the_large_batch_also_for_the_last_partial_window(job_of, objective):
    job = job_of(train={"batch": 10, "lr": 3e-4, "length": "2 epochs"}, objective=objective)
    assert len(job.rows.split.train) % 10 == 8, "the last batch of an epoch is to be short"
    weights, losses = trained(replace(job, micro=10), 10)
    for micro in (1, 3):
        others, other_losses = trained(replace(job, micro=micro), 10)
        assert max(float((weights[name] - others[name]).abs().max()) for name in weights) < 1e-6
        assert losses == pytest.approx(other_losses, abs=1e-6)


def phase_of(net, parts, *, clip=None, factor=lambda step: 1.0, steps=1):
    """Train `net` by SGD on the given parts of every batch; the events."""
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "multiple": 1.0}], lr=1.0)
    batches = [Batch((0,), {MAIN: {"x": part}}, part, torch.ones(len(part))) for part in parts]

    def objective(net, batch):
        return Loss(net(batch.target).sum(), batch.weight.sum())

    state = State(net, optimizer)
    machine = Machine(torch.device("cpu"), "fp32")
    return list(
        train_phase(
            state,
            "toy",
            lambda step: (batches, 3),
            objective,
            Pace(steps, lambda step: 0.5 * factor(step), 0, clip),
            machine,
        )
    )


def test_a_step_moves_by_the_rate_times_the_mean_gradient():
    net = nn.Linear(1, 1, bias=False)
    before = net.weight.item()
    (event,) = phase_of(net, [torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])], factor=lambda step: 0.1)
    assert net.weight.item() == pytest.approx(before - 0.5 * 0.1 * 3.0)
    assert event.loss.item() == pytest.approx(3.0 * before) and event.rate == 0.05


def test_the_gradient_of_a_whole_batch_is_clipped():
    net = nn.Linear(1, 1, bias=False)
    before = net.weight.item()
    phase_of(net, [torch.tensor([[10.0]]), torch.tensor([[30.0]])], clip=clipping.norm)
    assert net.weight.item() == pytest.approx(before - 0.5, abs=1e-5)


def test_the_rate_is_a_function_of_the_step():
    events = phase_of(nn.Linear(1, 1), [torch.ones(1, 1)], factor=lambda step: step / 10, steps=3)
    assert [event.rate for event in events] == pytest.approx([0.0, 0.05, 0.1])


def test_a_parameter_that_should_train_and_gets_no_gradient_is_refused():
    net = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    net[0](torch.ones(1, 1)).sum().backward()
    with pytest.raises(AssertionError, match=r"gradient of 1\.weight"):
        check_gradients(net, list(net.parameters()))
    check_gradients(net, list(net[0].parameters()))
    with pytest.raises(AssertionError, match=r"gradient of 0\.weight"):
        check_gradients(net, list(net[1].parameters()))


def test_running_statistics_become_the_mean_over_ranks_but_those_of_frozen_layers_stay(monkeypatch):
    net = nn.Sequential(nn.BatchNorm1d(2, momentum=1.0), nn.Linear(2, 1), nn.BatchNorm1d(1))
    net[2].eval()
    net[2].requires_grad_(False)
    moving = [parameter for parameter in net.parameters() if parameter.requires_grad]
    state = State(net, torch.optim.SGD([{"params": moving, "multiple": 1.0}], lr=0.0))
    alone = Machine(torch.device("cpu"), "fp32")
    pair = SimpleNamespace(device=alone.device, rank=0, world=2, autocast=alone.autocast, dropout=alone.dropout)
    pair.sum, pair.sum_gradients = (lambda total: total), list
    # The other rank's batch had the mean 10 and the variance 10 in both columns.
    monkeypatch.setattr(machine.dist, "all_reduce", lambda flat: flat.add_(10.0))
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    batch = Batch((0,), {MAIN: {}}, rows, torch.ones(2))
    pace = Pace(1, lambda step: 0.0, 0)
    list(
        train_phase(
            state,
            "toy",
            lambda step: ([batch], 2),
            lambda net, b: Loss(net(b.target).sum(), b.weight.sum()),
            pace,
            pair,
        )
    )
    assert net[0].running_mean.tolist() == [(2 + 10) / 2, (4 + 10) / 2]
    assert net[0].running_var.tolist() == [(2 + 10) / 2, (8 + 10) / 2]
    assert (net[2].running_mean.tolist(), net[2].running_var.tolist()) == ([0.0], [1.0])
