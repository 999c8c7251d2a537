"""The temperature: one that is known is found again, and it is applied only where rows that did not choose it agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.evaluation import temperature as module
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.temperature import divided, fitted, log_losses, temperature
from tunesmith.tasks.task import Target


def made(num_rows, true=1.0, kind="classification", seed=0, width=4):
    """Outputs whose probabilities come true once they are divided by `true`."""
    random = np.random.default_rng(seed)
    outputs = random.normal(size=(num_rows, width)) * 2
    target = Target(("y",), tuple("abcdefgh"[:width]))
    if kind == "multilabel":
        codes = (random.uniform(size=outputs.shape) < 1 / (1 + np.exp(-outputs))).astype(np.float32)
    else:
        # The label with the largest output, after Gumbel noise, has the probability that softmax says.
        codes = (outputs + random.gumbel(size=outputs.shape)).argmax(1)
    outputs = (outputs * true).astype(np.float32)
    return Predictions(np.arange(num_rows).astype(str), codes, outputs, plugins.get("task", kind), target)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(kind, true):
    assert temperature(made(20_000, true, kind)) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_the_log_loss_is_least_there(kind):
    optimize = pytest.importorskip("scipy.optimize")
    rows = made(300, 2.0, kind)
    found = optimize.minimize_scalar(
        lambda log: log_losses(divided(rows, np.exp(log))).mean(), bounds=(-2, 2), method="bounded"
    )
    assert temperature(rows) == pytest.approx(np.exp(found.x), rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 2), st.integers(0, 1000))
def test_outputs_that_are_larger_by_a_factor_have_a_temperature_larger_by_it(factor, seed):
    rows = made(150, seed=seed)
    larger = replace(rows, outputs=rows.outputs.astype(np.float64) * factor)
    assert temperature(larger) == pytest.approx(temperature(rows) * factor, rel=1e-6)


def test_the_losses_of_rows_are_those_of_torch():
    rows = made(50)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(rows.outputs), torch.from_numpy(rows.codes), reduction="none"
    )
    assert log_losses(rows) == pytest.approx(expected.numpy(), rel=1e-5)


def test_overconfident_outputs_are_divided():
    found = fitted(made(400, 3.0))
    assert found.applied and found.value == pytest.approx(3.0, rel=0.2)
    assert found.log_loss < found.log_loss_off and found.share_better > 0.99


def test_outputs_that_are_right_mostly_stay_as_they_are():
    applied = [fitted(made(200, seed=seed)).applied for seed in range(20)]
    assert sum(applied) <= 4


def test_rows_that_chose_a_temperature_do_not_judge_it(monkeypatch):
    """Judged by all rows, any temperature is better, and it would always be applied."""
    rows = made(200, seed=4)
    value = temperature(rows)
    assert log_losses(divided(rows, value)).mean() < log_losses(rows).mean()
    assert fitted(rows).log_loss > log_losses(divided(rows, value)).mean()


def test_too_few_rows_choose_none():
    found = fitted(made(module.FEWEST - 1, 3.0))
    assert (found.value, found.applied) == (None, False) and "99 rows are too few" in found.why


def test_rows_that_are_all_right_bound_no_temperature():
    rows = made(200)
    found = fitted(replace(rows, codes=rows.outputs.argmax(1)))
    assert found.value == pytest.approx(module.COOLEST) and not found.applied and "do not bound it" in found.why
    told_nothing = fitted(replace(rows, codes=rows.outputs.argmin(1)))
    assert told_nothing.value == pytest.approx(module.HOTTEST) and not told_nothing.applied


def test_one_wrong_row_alone_bounds_none():
    rows = made(200)
    codes = rows.outputs.argmax(1)
    codes[7] = rows.outputs[7].argmin()
    assert not fitted(replace(rows, codes=codes)).applied
