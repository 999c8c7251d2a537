"""Pooling token states into one vector a row, and the layers that turn it into outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """`states` (rows, places, width) and `mask` (rows, places) -> outputs (rows, num_outputs); without a mask the
        states are one vector a row."""
        return self.answer(states if mask is None else pool(states, mask, self.pooling))

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


def output_layer(module: nn.Module, num_outputs: int) -> Any:
    """The last linear layer (or convolution of one place) with `num_outputs` outputs, wherever a head keeps it."""
    found = [layer for layer in module.modules() if num_outputs == outputs_of_layer(layer)]
    if not found:
        raise ValueError(f"no linear layer with {num_outputs} outputs")
    return found[-1]


def outputs_of_layer(layer: nn.Module) -> int | None:
    """How many outputs a layer gives that could end a net; None for every other."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and set(layer.kernel_size) == {1} and layer.groups == 1:
        return layer.out_channels
    return None


class _Read(Exception):
    """The layer was reached: the rest of the pass is not needed."""


def read_by(layer: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What `layer` reads first while `run` runs, as far as that."""
    found: list[Tensor] = []

    def hook(_layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0])
        raise _Read

    handle = layer.register_forward_pre_hook(hook)
    try:
        with contextlib.suppress(_Read):
            run()
    finally:
        handle.remove()
    return found[0]
