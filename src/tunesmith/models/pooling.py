"""Pooling token states into one vector a row, and the layers that turn it into outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

Pooling = Literal["mean", "cls", "max", "last"]


class Pooled(nn.Module):
    """Pool the token states into one vector a row, then linear layers; Tanh between them."""

    def __init__(
        self, width: int, num_outputs: int, pooling: Pooling, layers: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        widths = [width, *[hidden] * layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.output = nn.Linear(widths[-1], num_outputs)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`states` (rows, tokens, width) and `mask` (rows, tokens) -> outputs (rows, num_outputs)."""
        return self.answer(pool(states, mask, self.pooling))

    def answer(self, features: Tensor) -> Tensor:
        """Pooled `features` (rows, width) -> outputs (rows, num_outputs)."""
        features = self.dropout(features)
        for layer in self.hidden:
            features = self.dropout(torch.tanh(layer(features)))
        outputs: Tensor = self.output(features)
        return outputs


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector a row from token states: the mean, the maximum, the first or the last of the tokens that count."""
    if pooling == "cls":
        return states[torch.arange(len(states), device=states.device), mask.to(torch.long).argmax(1)]
    if pooling == "last":
        positions = torch.arange(mask.shape[1], device=mask.device) * mask
        return states[torch.arange(len(states), device=states.device), positions.argmax(1)]
    kept = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(kept == 0, torch.finfo(states.dtype).min).amax(1)
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


def output_layer(module: nn.Module, num_outputs: int) -> nn.Linear:
    """The last linear layer with `num_outputs` outputs, wherever a head keeps it."""
    found: Any = [
        layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer.out_features == num_outputs
    ]
    if not found:
        raise ValueError(f"no linear layer with {num_outputs} outputs")
    return found[-1]  # type: ignore[no-any-return]
