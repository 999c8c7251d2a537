"""A tiny job of any recipe, its head chosen, and what trains it for some steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from tunesmith import pipeline
from tunesmith.assemble.job import prepare
from tunesmith.assemble.rows import Objects
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine
from tunesmith.training.state import State


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def job_of(tiny_folder):
    """`job_of(rows, objective=...)` is a Job whose rows all train; `data`, `train` are changed, other parts given."""

    def build(rows=None, told=None, **parts):
        data = {"source": "memory:rows", "split": "all"} | parts.pop("data", {})
        train = {"batch": 8, "micro": 8, "lr": 1e-2, "precision": "fp32", "device": "cpu"} | parts.pop("train", {})
        tree = {"data": data, "train": train, "model": {"name": str(tiny_folder)}} | parts
        tell = list if told is None else told.append
        objects = Objects(rows or tiny_rows(30, 3))
        job = prepare(Recipe.model_validate(tree), objects, machine.start("cpu", "fp32"), tell)
        return replace(job, head=Choice(name="pooled", options={"pooling": "mean", "dropout": 0.0}))

    return build


@pytest.fixture
def trained():
    """`trained(job, num_steps)`: the weights before and after some steps without dropout, and the losses."""

    def run(job, num_steps):
        net = job.net()
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        before = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
        feed = job.feed(job.rows.split.train)
        losses = []
        for event in pipeline.steps(job, State(net), feed, job.cadence(feed.steps_per_epoch), tell=list):
            losses.append(float(event.loss))
            if event.step == num_steps:
                break
        after = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
        net.load_state_dict({**net.state_dict(), **before})
        return before, after, losses

    return run
