"""Poolings against a hand-worked example, and the layers on top."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.models import heads
from tunesmith.models.pooling import output_layer, pool

STATES = torch.tensor([[[1.0, -8.0], [3.0, -2.0], [100.0, 100.0]], [[100.0, 100.0], [4.0, -6.0], [2.0, -2.0]]])
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])
EXPECTED = {
    "mean": [[2.0, -5.0], [3.0, -4.0]],
    "max": [[3.0, -2.0], [4.0, -2.0]],
    "cls": [[1.0, -8.0], [4.0, -6.0]],
    "last": [[3.0, -2.0], [2.0, -2.0]],
}


@pytest.mark.parametrize("pooling", EXPECTED)
def test_padding_on_either_side_does_not_count(pooling):
    assert pool(STATES, MASK, pooling).tolist() == EXPECTED[pooling]


def test_a_pooled_head_has_its_layers_and_drops_out_only_in_training():
    head = heads.pooled(2, 3, pooling="mean", layers=2, hidden=5, dropout=0.5)
    assert [(layer.in_features, layer.out_features) for layer in [*head.hidden, head.output]] == [
        (2, 5),
        (5, 5),
        (5, 3),
    ]
    assert not torch.equal(head(STATES, MASK), head(STATES, MASK))
    head.eval()
    features = torch.tensor(EXPECTED["mean"])
    for layer in head.hidden:
        features = torch.tanh(layer(features))
    torch.testing.assert_close(head(STATES, MASK), head.output(features))


def test_the_output_layer_is_the_last_that_fits():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 4))
    assert output_layer(module, 3) is module[1]
    with pytest.raises(ValueError, match="no linear layer with 7 outputs"):
        output_layer(module, 7)
