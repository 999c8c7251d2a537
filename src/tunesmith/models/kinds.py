"""Kinds: what a parameter is, so that a rule can speak of all biases, all norms or all adapters of any model."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["weight", "bias", "norm", "adapter"]
"""Of a normalization layer, a bias elsewhere, added by an edit, or any other weight."""


def kind_of(module: Any, parameter: str) -> Kind:
    """The kind of the parameter that `module` itself holds under this name; every library calls a norm a norm."""
    if "norm" in type(module).__name__.lower():
        return "norm"
    return "bias" if parameter.endswith("bias") else "weight"
