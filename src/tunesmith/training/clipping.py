"""Clipping: what limits the gradients of a step, a function each; its keyword-only parameters are the options."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

Limit = Annotated[float, Field(gt=0)]


def norm(parameters: list[nn.Parameter], *, limit: Limit = 1.0) -> None:
    """Scale all gradients together so that their norm is at most `limit` (Pascanu et al. 2013)."""
    nn.utils.clip_grad_norm_(parameters, limit)


def value(parameters: list[nn.Parameter], *, limit: Limit = 1.0) -> None:
    """Cut each gradient element to at most `limit` in size."""
    nn.utils.clip_grad_value_(parameters, limit)


@torch.no_grad()
def adaptive(parameters: list[nn.Parameter], *, factor: Limit = 0.01, eps: Limit = 1e-3) -> None:
    """Limit the gradient of each output unit to `factor` times the norm of its weights (Brock et al. 2021, AGC).

    The norm is taken over all dimensions but the first, of a vector over the whole; a weight norm under `eps` counts
    as `eps`, so that what starts at zero can move."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        dims = tuple(range(1, parameter.dim())) or (0,)
        most = factor * parameter.norm(dim=dims, keepdim=True).clamp(min=eps)
        size = parameter.grad.norm(dim=dims, keepdim=True)
        parameter.grad.mul_((most / size.clamp(min=1e-6)).clamp(max=1.0))
