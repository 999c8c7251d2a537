"""Heads: what turns hidden states into outputs, a function each; its keyword-only parameters are the options."""

from __future__ import annotations

from torch import nn

from tunesmith.models.pooling import Pooled, Pooling


def own(width: int, num_outputs: int, *, layer: str | None = None) -> None:
    """The model's own head: as the transformers library defines it, or the last layer of any other net, made anew for
    the labels; `layer` names it where it is not the last one that is called."""


def pooled(
    width: int,
    num_outputs: int,
    *,
    pooling: Pooling = "mean",
    layers: int = 0,
    hidden: int | None = None,
    dropout: float = 0.1,
) -> nn.Module:
    """Pooled states, `layers` hidden layers of `hidden` units (if not given: the body's width), linear output.

    A net whose last layer reads one vector a row has nothing to pool: the layers stand in the place of that one."""
    return Pooled(width, num_outputs, pooling, layers, hidden or width, dropout)
