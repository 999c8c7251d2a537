"""Loss: what an objective returns for a batch, as a sum with its count, so that parts of a batch add up exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tunesmith.data.batch import Batch


@dataclass(frozen=True)
class Loss:
    """`sum` (a scalar with its graph) and `count`, the weight it stands for: the batch's loss is sum / count."""

    sum: Tensor
    count: Tensor


Objective = Callable[[nn.Module, Batch], Loss]
