"""Heads: what turns hidden states into outputs, a function each; its keyword-only parameters are the options."""

from __future__ import annotations

from torch import nn

from tunesmith.models.pooling import Pooled, Pooling


def own(width: int, num_outputs: int) -> None:
    """The model's own sequence-classification head, as its library defines it; the Run is a transformers folder."""


def pooled(
    width: int,
    num_outputs: int,
    *,
    pooling: Pooling = "mean",
    layers: int = 0,
    hidden: int | None = None,
    dropout: float = 0.1,
) -> nn.Module:
    """Pooled token states, `layers` hidden layers of `hidden` units (if not given: the body's width), linear output."""
    return Pooled(width, num_outputs, pooling, layers, hidden or width, dropout)
