"""Dropout from raw bits: the same law as torch's, a function of the seed, and only where it is meant."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.training.dropout import FastDropout, drop


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_the_share_that_is_dropped_and_the_mean_are_those_asked_for(p):
    torch.manual_seed(0)
    values = drop(torch.ones(1000, 1001), p)
    assert float((values == 0).double().mean()) == pytest.approx(p, abs=0.002)
    assert float(values.double().mean()) == pytest.approx(1.0, abs=0.01)
    assert len(values.unique()) == 2


def test_elements_are_dropped_independently():
    torch.manual_seed(0)
    kept = (drop(torch.ones(400_000), 0.5) > 0).double()
    for shift in (1, 2, 3, 4, 5):
        together = float((kept[shift:] * kept[:-shift]).mean())
        assert together == pytest.approx(0.25, abs=0.005)


def test_nothing_and_everything():
    values = torch.randn(5, 7)
    assert drop(values, 0.0) is values
    assert torch.equal(drop(values, 1.0), torch.zeros(5, 7))


def test_the_mask_is_a_function_of_the_seed_and_gradients_pass_where_values_do():
    layer = nn.Dropout(0.3)
    values = torch.randn(50, 3, requires_grad=True)
    results = []
    with FastDropout():
        for _ in range(2):
            torch.manual_seed(5)
            results.append(layer(values))
    assert torch.equal(*results)
    results[0].sum().backward()
    assert torch.equal(values.grad != 0, results[0] != 0)


def test_modules_that_evaluate_and_other_calls_pass_through():
    layer, values = nn.Dropout(0.3).eval(), torch.randn(9)
    with FastDropout():
        assert torch.equal(layer(values), values)
        torch.manual_seed(3)
        half = F.dropout(values.bfloat16(), 0.5)
        assert torch.equal(torch.relu(values), values.clamp(min=0))
    torch.manual_seed(3)
    assert torch.equal(half, F.dropout(values.bfloat16(), 0.5))


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_with_dropout_is_attention_with_some_weights_dropped(mask, monkeypatch):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    allowed = torch.rand(2, 1, 5, 5) > 0.3
    allowed[..., 0] = True
    given = {"none": None, "bool": allowed, "float": torch.zeros(2, 1, 5, 5).masked_fill(~allowed, -1e9)}[mask]
    with FastDropout():
        assert torch.equal(
            F.scaled_dot_product_attention(query, key, value, given),
            F.scaled_dot_product_attention(query, key, value, given, 0.0),
        )
        many = torch.stack(
            [F.scaled_dot_product_attention(query, key, value, attn_mask=given, dropout_p=0.2) for _ in range(3000)]
        )
    exact = F.scaled_dot_product_attention(query, key, value, given)
    assert many.std(0).mean() > 0.05
    assert torch.allclose(many.mean(0), exact, atol=0.08)
