"""Dropout on a CPU: masks from raw random bits, where torch draws a Bernoulli number for each element.

Drawing one takes about four times as long as 16 random bits and a comparison, and is a tenth of a step of
full fine-tuning on two cores (bench/LOG.md). The share that is dropped is a multiple of 2^-16: 0.1 becomes 0.100006."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LEVELS = 2**16


def drop(values: Tensor, p: float) -> Tensor:
    """Each value 0 with the chance `p` (to 2^-16), else divided by the chance to stay; drawn from torch's stream."""
    dropped = round(p * LEVELS)
    if not dropped:
        return values
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    if dropped >= LEVELS:
        return values * 0.0
    return values * (bits >= dropped - LEVELS // 2).to(values.dtype).mul_(LEVELS / (LEVELS - dropped))


class FastDropout(TorchFunctionMode):
    """While it lasts, `F.dropout` and the dropout of `F.scaled_dot_product_attention` use `drop`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0 or inplace or not _plain(values):
        return F.dropout(values, p, training, inplace)
    return drop(values, p)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    **more: Any,
) -> Tensor:
    if dropout_p == 0 or is_causal or any(more.values()) or not _plain(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return drop(scores.softmax(-1), dropout_p) @ value


def _plain(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype == torch.float32
