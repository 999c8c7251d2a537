"""A tiny job, assembled from a tiny model and tiny rows, for what is tested below the pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunesmith.assemble.job import prepare
from tunesmith.assemble.rows import Objects
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", hidden_dropout_prob=0.1)


@pytest.fixture
def job_of(tiny_folder):
    """`job_of(train={...})` is a Job on tiny rows, its head chosen; other parts of the recipe by name."""

    def build(rows=None, head=None, **parts):
        parts["train"] = {"batch": 8, "micro": 3, "lr": 1e-2, "precision": "fp32", "device": "cpu"} | parts.get(
            "train", {}
        )
        tree = {"data": {"source": "memory:rows", "split": "hash"}, "model": {"name": str(tiny_folder)}} | parts
        head = head or Choice(name="pooled", options={"pooling": "mean", "dropout": 0.0})
        job = prepare(
            Recipe.model_validate(tree), Objects(rows or tiny_rows(60, 3)), machine.start("cpu", "fp32"), list
        )
        return replace(job, head=head)

    return build
