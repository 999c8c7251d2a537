"""Relative gradient norms: what they are, and how stages are chosen by them without leaving a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith import choices, pipeline
from tunesmith.assemble import surgery
from tunesmith.data.batch import MAIN
from tunesmith.recipe.schema import Choice
from tunesmith.training import phases
from tunesmith.training.gradient_norms import relative_norms

OWN = Choice(name="own")
SETTINGS = {"train": {"clip": 1e-9, "optimizer": "sgd", "penalty": "l1", "lr": 1e-9}}
"""Settings of a training that would move nothing: those of the probe are its own."""


def norms_of(job, net, batches):
    phases.open_phase(net, job.plan.phases[0])
    phases.freeze_unreached(net, job.objective(), batches[0][0])
    return relative_norms(net, job.objective(), batches, job.machine)


def test_the_norm_of_the_mean_losses_gradient_over_that_of_the_weights_averaged_over_steps(job_of):
    job = job_of(strategy="stages", train={"micro": 3})
    net, feed = job.net(), job.feed(job.rows.split.train)
    batches = [feed(step)[0] for step in range(2)]
    assert len(batches[0]) > 1, "a step of several parts is one gradient"
    found = norms_of(job, net, batches)
    net.eval()
    expected = []
    for parts in batches:
        net.zero_grad()
        rows = [row for part in parts for row in part.rows]
        whole = feed.make(torch.tensor(rows).numpy())
        nn.functional.cross_entropy(net(whole.inputs[MAIN]), whole.target).backward()
        block = dict(net.body.encoder.layer[1].named_parameters()).values()
        squares = [sum(float((tensor.double() ** 2).sum()) for tensor in some)
                   for some in ([p.grad for p in block], [p.detach() for p in block])]  # fmt: skip
        expected.append((squares[0] / squares[1]) ** 0.5)
    assert found["block.1"] == pytest.approx(sum(expected) / 2, rel=1e-4)
    assert list(found) == ["stem", "block.0", "block.1"], "neither the head, nor the pooler that it does not read"


def test_no_gradient_stays_behind(job_of):
    job = job_of(strategy="stages")
    net, feed = job.net(), job.feed(job.rows.split.train)
    norms_of(job, net, [feed(0)[0]])
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("head", [OWN, None])
def test_stages_are_chosen_under_a_fitted_head_and_the_net_is_left_as_it_was(head, job_of, monkeypatch):
    job = job_of(strategy={"name": "stages", "count": 1}, head=head, **SETTINGS)
    before = {name: tensor.clone() for name, tensor in job.net().state_dict().items()}
    fitted, measure = [], choices.gradient_norms.relative_norms

    def spy(net, *arguments):
        fitted.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return measure(net, *arguments)

    monkeypatch.setattr(choices.gradient_norms, "relative_norms", spy)
    told = []
    chosen, stored = choices.with_stages(job, pipeline.steps, told.append)
    changed = {name for name in before if not torch.allclose(before[name], fitted[0][name], atol=1e-3)}
    assert changed and all("classifier" in name or "heads" in name for name in changed)
    after = job.net().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    (name,) = stored["train"]
    assert name == max(stored["relative_gradient_norms"], key=stored["relative_gradient_norms"].get)
    assert chosen.strategy == Choice(name="stages", options={"train": [name]})
    assert [rule.match for rule in chosen.plan.phases[0].rules] == ["head/*", f"{name}/*", "*"]
    assert len(told) == 1 and name in told[0]


def test_the_measurement_is_the_same_each_time(job_of):
    found = [choices.with_stages(job_of(strategy="stages"), pipeline.steps, list)[1] for _ in range(2)]
    assert found[0] == found[1] and len(found[0]["train"]) == 2


@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        ("stages", 2),
        ({"name": "stages", "count": 3}, 3),
        ({"name": "stages", "train": "auto"}, 2),
        ({"name": "stages", "train": ["stem"]}, None),
        ("full", None),
        ("unfreeze", None),
    ],
)
def test_only_a_strategy_that_leaves_its_stages_open_is_measured(strategy, count, job_of):
    job = job_of(strategy=strategy)
    assert surgery.num_wanted(job.recipe) == count
    if count is None:
        assert choices.with_stages(job, None, list) == (job, None)


def test_the_probe_has_the_objective_that_reads_rows(job_of):
    rows = {"text": [f"{i} {word}" for i in range(20) for word in ("apple", "bread")], "label": ["a", "b"] * 20}
    job = job_of(rows=rows, strategy="stages", objective="contrastive")
    assert surgery.probe(job).recipe.objective.name == "supervised"
    job = job_of(strategy="stages", objective={"name": "supervised", "label_smoothing": 0.1})
    assert surgery.probe(job).recipe.objective.options == {"label_smoothing": 0.1}
