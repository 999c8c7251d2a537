"""Optimizers: a function each, from torch.optim; its keyword-only parameters are the options."""

from __future__ import annotations

from typing import Any

import torch


def adamw(
    groups: list[dict[str, Any]],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.Optimizer:
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019); none on biases and norms."""
    for group in groups:
        group["weight_decay"] = weight_decay * group.pop("decay")
    return torch.optim.AdamW(groups, betas=(betas[0], betas[1]), eps=eps, fused=_can_fuse(groups))


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    return all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
