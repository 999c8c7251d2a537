"""Layers for the columns of a table, and the way of weights that belong to a column into a net of other columns.

A parameter whose name begins with `numbers_` or `categories_` belongs to columns: along its first side stand the
numbers, or the codes of all columns of categories laid end to end. The first two codes of a column (missing, other)
begin at zero, because training may never show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tokens(nn.Module):
    """A vector for every column, and one that gathers what the row says: (rows, 1 + columns, width).

    The feature tokenizer of Gorishniy et al. 2021: x * weight + bias for a number, a row of a table for a category."""

    def __init__(self, sample: Mapping[str, Tensor], width: int) -> None:
        super().__init__()
        num_numbers, sizes = _sizes(sample)
        self.starts: Tensor
        self.register_buffer("starts", _starts(sizes), persistent=False)
        self.numbers_weight = nn.Parameter(torch.empty(num_numbers, width))
        self.numbers_bias = nn.Parameter(torch.empty(num_numbers, width))
        self.categories_weight = nn.Parameter(torch.empty(sum(sizes), width))
        self.first = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -(parameter.shape[-1] ** -0.5), parameter.shape[-1] ** -0.5)
        _silence(self.categories_weight, self.starts)

    def forward(self, numbers: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        given = numbers if numbers is not None else categories
        assert given is not None
        parts = [self.first.expand(len(given), 1, -1)]
        if numbers is not None:
            parts.append(numbers.unsqueeze(-1) * self.numbers_weight + self.numbers_bias)
        if categories is not None:
            parts.append(F.embedding(categories + self.starts, self.categories_weight))
        return torch.cat(parts, 1)


class Summed(nn.Module):
    """One vector a row, the sum of what each column adds: (rows, width), with what is done to it at the end.

    A number x goes in as itself and as `embedding` learnt waves of it, of frequencies drawn from a normal distribution
    of standard deviation `spread` (Gorishniy et al. 2022, "PLR"); 0: as itself alone."""

    def __init__(
        self, sample: Mapping[str, Tensor], width: int, embedding: int, spread: float, end: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        num_numbers, sizes = _sizes(sample)
        self.embedding, self.spread = embedding, spread
        self.starts: Tensor
        self.register_buffer("starts", _starts(sizes), persistent=False)
        if embedding:
            self.numbers_frequency = nn.Parameter(torch.empty(num_numbers, embedding))
            self.numbers_mix = nn.Parameter(torch.empty(num_numbers, 2 * embedding, embedding))
            self.numbers_bias = nn.Parameter(torch.empty(num_numbers, embedding))
        self.numbers_weight = nn.Parameter(torch.empty(num_numbers, 1 + embedding, width))
        self.categories_weight = nn.Parameter(torch.empty(sum(sizes), width))
        self.bias = nn.Parameter(torch.empty(width))
        self.end = nn.Sequential(*end)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        added = len(self.numbers_weight) * (1 + self.embedding) + len(self.starts)
        bounds = {"numbers_mix": 2 * self.embedding, "numbers_bias": 2 * self.embedding}
        for name, parameter in self.named_parameters(recurse=False):
            bound = 1 / math.sqrt(max(1, bounds.get(name, added)))
            if name == "numbers_frequency":
                nn.init.normal_(parameter, 0.0, self.spread)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        _silence(self.categories_weight, self.starts)

    def forward(self, numbers: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        states: Tensor = self.bias
        if numbers is not None:
            parts = numbers.unsqueeze(-1)
            if self.embedding:
                angles = 2 * math.pi * parts * self.numbers_frequency
                waves = torch.cat([angles.cos(), angles.sin()], -1)
                mixed = torch.einsum("rnw,nwe->rne", waves, self.numbers_mix) + self.numbers_bias
                parts = torch.cat([parts, mixed.relu()], -1)
            states = states + parts.flatten(1) @ self.numbers_weight.flatten(0, 1)
        if categories is not None:
            states = states + F.embedding(categories + self.starts, self.categories_weight).sum(1)
        ended: Tensor = self.end(states)
        return ended


class Mlp(nn.Module):
    """The columns, blocks one after the other, an output layer."""

    def __init__(self, columns: Summed, blocks: Sequence[nn.Module], width: int, num_outputs: int) -> None:
        super().__init__()
        self.columns, self.blocks = columns, nn.Sequential(*blocks)
        self.output = nn.Linear(width, num_outputs)

    def forward(self, numbers: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        outputs: Tensor = self.output(self.blocks(self.columns(numbers, categories)))
        return outputs


class Attending(nn.Module):
    """A block of the FT-Transformer: attention among the columns of a row, then ReGLU layers; norms first."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: tuple[float, float], *, first: bool) -> None:
        super().__init__()
        self.heads, self.dropped = heads, dropout[0]
        # The first block has none before its attention, as its makers found better.
        self.before: nn.Module = nn.Identity() if first else nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout[1])
        self.narrow = nn.Linear(hidden, width)

    def forward(self, states: Tensor) -> Tensor:
        rows, places, width = states.shape
        read = self.read(self.before(states)).view(rows, places, 3, self.heads, width // self.heads)
        query, key, value = read.permute(2, 0, 3, 1, 4)
        dropped = self.dropped if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped)
        states = states + self.mix(found.transpose(1, 2).reshape(rows, places, width))
        one, other = self.wide(self.between(states)).chunk(2, -1)
        ended: Tensor = states + self.narrow(self.dropout(one * other.relu()))
        return ended


class FTTransformer(nn.Module):
    """A vector for every column, blocks of attention among them, an output layer on the vector that gathers."""

    def __init__(self, columns: Tokens, blocks: Sequence[nn.Module], width: int, num_outputs: int) -> None:
        super().__init__()
        self.columns, self.blocks = columns, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, num_outputs)

    def forward(self, numbers: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        states = self.columns(numbers, categories)
        for block in self.blocks:
            states = block(states)
        outputs: Tensor = self.output(self.norm(states[:, 0]).relu())
        return outputs


def _sizes(sample: Mapping[str, Tensor]) -> tuple[int, list[int]]:
    """How many numbers a row has, and how many codes each column of categories, told by its largest one."""
    codes = sample.get("categories")
    return (
        sample["numbers"].shape[1] if "numbers" in sample else 0,
        [] if codes is None else [int(code) + 1 for code in codes.amax(0)],
    )


def _starts(sizes: list[int]) -> Tensor:
    """Where the codes of each column begin when all are laid end to end."""
    return torch.tensor([0, *sizes[:-1]] if sizes else [], dtype=torch.int64).cumsum(0)


@torch.no_grad()
def _silence(weight: Tensor, starts: Tensor) -> None:
    """Let the codes that training may never show say nothing at first."""
    if len(starts):
        weight[starts] = weight[starts + 1] = 0.0


@torch.no_grad()
def carry(before: Mapping[str, Any], now: nn.Module, shared: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Give the net `now` the weights of one like it for other columns, `before` (its state dict).

    `shared`: "numbers" and "categories" -> pairs of places, there and here, of what both have."""
    for name, tensor in now.state_dict().items():
        pairs = shared.get(name.rpartition(".")[2].partition("_")[0])
        if pairs is None:
            tensor.copy_(before[name])
        elif pairs:
            there, here = (torch.tensor(places) for places in zip(*pairs, strict=True))
            tensor[here] = before[name][there]
