"""Kinds: what a parameter is, so that a rule can speak of all biases, all norms or all adapters of any model."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Kind = Literal["weight", "bias", "norm", "adapter"]
"""Of a normalization layer, a bias elsewhere, added by an edit, or any other weight."""


def kind_of(module: Any, parameter: str) -> Kind:
    """The kind of the parameter that `module` itself holds under this name; every library calls a norm a norm.

    The weights of a Keras layer made of layers are called `PART/NAME`."""
    if is_norm(module) or "norm" in parameter.rpartition("/")[0].lower():
        return "norm"
    return "bias" if parameter.endswith("bias") else "weight"


def is_norm(module: nn.Module) -> bool:
    """Whether it is a normalization layer; a layer of Keras says in `kind` what it is."""
    return "norm" in str(getattr(module, "kind", type(module).__name__)).lower()


def has_statistics(module: nn.Module) -> bool:
    """Whether it is a BatchNorm, of torch or of Keras."""
    return isinstance(module, _BatchNorm) or getattr(module, "kind", "") == "BatchNormalization"
