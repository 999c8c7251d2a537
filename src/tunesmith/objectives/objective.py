"""Loss: what an objective returns for a batch, as a sum with its count, so that parts of a batch add up exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from tunesmith import plugins
from tunesmith.data.batch import Batch


@dataclass(frozen=True)
class Loss:
    """`sum` (a scalar with its graph) and `count`, the weight it stands for: the batch's loss is sum / count."""

    sum: Tensor
    count: Tensor


Objective = Callable[[nn.Module, Batch], Loss]

Reads = Literal["rows", "pairs", "unlabelled"]
"""What batches hold: rows with their targets; twice as many, the first half paired with the second; or batches of rows
without a target beside those with one."""


def reads(name: str) -> Reads:
    """What the objective of this name reads: its module's constant READS, else rows with their targets."""
    if name.startswith("memory:"):
        return "rows"
    module = sys.modules[plugins.get("objective", name).__module__]
    return cast("Reads", getattr(module, "READS", "rows"))
