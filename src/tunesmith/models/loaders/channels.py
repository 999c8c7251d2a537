"""The first convolution for other channels than it was trained with: weights summed for grey, repeated for more."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def fit_channels(module: nn.Module, count: int) -> str:
    """Let the network read images of `count` channels, and say what was done; "" where it does already.

    Fewer channels: the weights of those that are left out are added to the others in turn. More: they are repeated in
    turn, and each is shared among its copies. Equal channels, such as the grey of a grey image, give what they gave."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.groups != 1 or first.in_channels == count:
        return ""
    before, weight = first.in_channels, first.weight
    if count < before:
        made = torch.stack([weight[:, place::count].sum(1) for place in range(count)], 1)
    else:
        turns = torch.arange(count) % before
        made = weight[:, turns] / torch.bincount(turns)[turns].view(1, -1, 1, 1)
    first.weight = nn.Parameter(made.contiguous())
    first.in_channels = count
    how = "summed" if count < before else "repeated"
    return f"its first convolution reads {count} channel{'s' * (count > 1)} in place of {before}: weights {how}"
