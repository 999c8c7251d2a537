"""Phases: frozen means frozen, and what trains is grouped by rate and decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith import pipeline
from tunesmith.strategies.plan import Phase, Plan, Rule
from tunesmith.training import phases
from tunesmith.training.optimizers import adamw
from tunesmith.training.state import State


def test_frozen_means_frozen_for_the_head_strategy(job_of):
    job = job_of(strategy="head", train={"length": "3 epochs"})
    net, feed = job.net(), job.feed(job.rows.split.train)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = State(net)
    for _ in pipeline.steps(job, state, feed, job.cadence(feed.steps_per_epoch), tell=list):
        for name, parameter in net.named_parameters():
            assert parameter.requires_grad == name.startswith("heads."), name
            assert name.startswith("heads.") or parameter.grad is None
        assert not any(module.training for name, module in net.named_modules() if name.startswith("body"))
        assert net.heads["label"].training
    assert state.step == 3 * feed.steps_per_epoch
    assert set(state.optimizer.state) == set(net.heads.parameters())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("heads.")), name
    assert set(state.weights()) == {
        *(name for name, _ in net.heads.named_parameters("heads")),
        *(name for name, _ in net.named_buffers()),
    }


def test_a_pooler_that_the_head_does_not_read_is_frozen_and_told(job_of):
    job, told = job_of(), []
    net, feed = job.net(), job.feed(job.rows.split.train)
    next(pipeline.steps(job, State(net), feed, job.cadence(feed.steps_per_epoch), tell=told.append))
    assert "not read by this head" in told[0] and "pooler" in told[0]
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == {
        "body.pooler.dense.weight",
        "body.pooler.dense.bias",
    }


def test_finding_what_the_loss_does_not_reach_leaves_gradients_modes_and_weights_alone(job_of):
    job = job_of()
    net = job.net()
    phases.open_phase(net, job.plan.phases[0])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    assert phases.freeze_unreached(net, job.objective(), job.feed(job.rows.split.train).make(job.rows.split.train[:2]))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_each_phase_trains_what_its_rules_say_and_the_state_holds_what_any_phase_moves(job_of, monkeypatch):
    plan = Plan((
        Phase("head", (Rule("head/*", 1.0), Rule("*", None)), 0.5),
        Phase("all", (Rule("stem/*", None), Rule("*", 0.1)), 0.5),
    ))  # fmt: skip
    job = job_of(train={"length": "8 steps"})
    monkeypatch.setattr(type(job), "plan", plan)
    net, feed = job.net(), job.feed(job.rows.split.train)
    state, trained = State(net), []
    for event in pipeline.steps(job, state, feed, job.cadence(feed.steps_per_epoch), tell=list):
        some = {name for name, p in net.named_parameters() if p.requires_grad}
        trained.append(
            (event.step, event.phase, any("encoder" in n for n in some), any("embeddings" in n for n in some))
        )
    assert trained == [(step, "head" if step <= 4 else "all", step > 4, False) for step in range(1, 9)]
    # The best of the first phase must hold what the second one moves, or it could not be put back.
    assert any("encoder" in name for name in state.moved) and not any("embeddings" in name for name in state.moved)


def test_biases_and_norms_do_not_decay(job_of):
    job = job_of()
    net = job.net()
    phases.open_phase(net, job.plan.phases[0])
    optimizer = adamw(phases.groups(net, job.plan.phases[0]), weight_decay=0.25)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        plain = name.endswith("bias") or "LayerNorm" in name
        assert decays[id(parameter)] == (0.0 if plain else 0.25), name


def test_a_rule_scales_the_rate_and_the_decay_of_its_parameters(job_of):
    net = job_of().net()
    phase = Phase("mixed", (Rule("head/*", 1.0), Rule("stem/*", None), Rule("*", 0.1, decay=0.5)))
    phases.open_phase(net, phase)
    found = {(group["multiple"], group["decay"]) for group in phases.groups(net, phase)}
    assert found == {(1.0, 1.0), (1.0, 0.0), (0.1, 0.5), (0.1, 0.0)}


def test_adamw_is_torchs_with_its_options():
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "multiple": 1.0, "decay": 1.0}]
    optimizer = adamw(groups, betas=[0.8, 0.9], eps=1e-6, weight_decay=0.1)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["betas"] == (0.8, 0.9) and optimizer.defaults["eps"] == 1e-6
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.1)
