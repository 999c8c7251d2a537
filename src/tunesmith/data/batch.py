"""Batch: rows on their way through the net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

MAIN = "main"
"""The view that every row with a target has."""
FIRST, SECOND = "first", "second"
"""The two views of a row without a target."""


@dataclass(frozen=True)
class Batch:
    """`rows` are row numbers of the Table; `inputs` maps a view to the tensors the body expects."""

    rows: tuple[int, ...]
    inputs: Mapping[str, Mapping[str, Tensor]]
    target: Tensor
    """Codes, (rows,) or (rows, labels)."""
    weight: Tensor
    """What each row counts in the loss, (rows,)."""
    others: Tensor | None = None
    """The targets of the rows that are mixed into these, where some are."""
    share: Tensor | None = None
    """How much of each row is its own, (rows,); `others` have the rest."""
