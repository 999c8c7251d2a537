"""Penalties: what is added to the loss of a step whatever its rows, a function each; its options are keyword-only.

`start` holds the value of each parameter before the first step; one that is new (a head, an adapter) is not in it. A
function adds the gradient of its penalty in place to parameters that have one, and returns the penalty, a scalar. The
loop calls it once a step, after the gradients of all ranks are summed and divided: its strength depends on neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

Parameters = list[nn.Parameter]
Start = Mapping[nn.Parameter, Tensor]
Strength = Annotated[float, Field(ge=0)]


def l1(parameters: Parameters, start: Start, *, strength: Strength = 1e-5) -> Tensor:
    """`strength` times the sum of absolute weights, which draws small ones to zero (Tibshirani 1996); no vectors."""
    values = [_add(p, strength * p.detach().sign(), strength * p.detach().abs().sum()) for p in _matrices(parameters)]
    return _sum(values, parameters)


def l2(parameters: Parameters, start: Start, *, strength: Strength = 0.01) -> Tensor:
    """`strength` / 2 times the sum of squared weights, coupled: adaptive optimizers rescale it; no vectors.

    With plain gradient descent it is weight decay; Adam divides its gradient like any other, which decays weights of
    large gradients less (Loshchilov & Hutter 2019): `train.optimizer.weight_decay` of AdamW is the decoupled form."""
    return _sum([_pull(p, None, strength) for p in _matrices(parameters)], parameters)


def l2_sp(parameters: Parameters, start: Start, *, strength: Strength = 0.01, head: Strength = 0.01) -> Tensor:
    """`strength` / 2 times the squared distance to the pretrained weights, `head` / 2 times squared new weights.

    The L2-SP of Li et al. 2018, whose alpha is `strength` and beta `head`; they search alpha from 0.001 to 1 and keep
    beta at 0.01. Biases and norms that were pretrained are pulled back as well; new vectors are left alone."""
    values = [_pull(p, start[p], strength) for p in parameters if p in start]
    values += [_pull(p, None, head) for p in _matrices(parameters) if p not in start]
    return _sum(values, parameters)


def _matrices(parameters: Parameters) -> Parameters:
    """All but vectors: biases, norms and other vectors are not penalised."""
    return [parameter for parameter in parameters if parameter.dim() > 1]


@torch.no_grad()
def _pull(parameter: nn.Parameter, towards: Tensor | None, strength: float) -> Tensor:
    away = parameter.detach() if towards is None else parameter.detach() - towards
    return _add(parameter, strength * away, strength / 2 * away.square().sum())


@torch.no_grad()
def _add(parameter: nn.Parameter, gradient: Tensor, value: Tensor) -> Tensor:
    """Add the gradient in place; a parameter that has none does not move, and counts for nothing."""
    if parameter.grad is None:
        return torch.zeros_like(value)
    parameter.grad.add_(gradient)
    return value.detach().float()


def _sum(values: list[Tensor], parameters: Parameters) -> Tensor:
    return torch.stack(values).sum() if values else torch.zeros((), device=parameters[0].device)
