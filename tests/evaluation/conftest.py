"""Random codes and chances with their Target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith import plugins
from tunesmith.evaluation.predict import Predictions
from tunesmith.tasks.task import Target


@pytest.fixture
def case():
    """`case("binary")` -> codes, chances (float64) and the Target; `absent` is a class that no row has."""

    def build(kind, num_rows=60, seed=0):
        random = np.random.default_rng(seed)
        if kind == "regression":
            codes = random.normal(size=num_rows)
            return codes, (codes + random.normal(size=num_rows))[:, None], Target(("y",), ("value",))
        if kind == "multilabel":
            chances = random.uniform(size=(num_rows, 4))
            codes = (chances + random.normal(scale=0.4, size=chances.shape) > 0.6).astype(np.float32)
            return codes, chances, Target(("y",), ("a", "b", "c", "d"))
        width = 2 if kind == "binary" else 4
        chances = random.dirichlet(np.ones(width), num_rows)
        codes = np.where(random.uniform(size=num_rows) < 0.5, chances.argmax(1), random.integers(width, size=num_rows))
        if kind == "absent":
            codes[codes == 2] = 3
        positive = 0 if kind == "binary" else None
        return codes, chances, Target(("y",), tuple("abcd"[:width]), positive=positive)

    return build


@pytest.fixture
def ask():
    """`ask("accuracy", codes, chances, target)` is the metric of one sample."""

    def value(name, codes, chances, target):
        function = plugins.get("metric", name)
        return float(function(torch.from_numpy(codes)[None], torch.from_numpy(chances)[None], target)[0])

    return value


@pytest.fixture
def predictions():
    """Predictions whose outputs are the chances themselves."""

    def build(codes, chances, target, task="classification"):
        from dataclasses import replace

        same = replace(plugins.get("task", task), probabilities=lambda outputs: outputs)
        return Predictions(np.arange(len(codes)).astype(str), codes, chances, same, target)

    return build
