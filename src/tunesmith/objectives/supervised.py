"""The supervised objective: the task's loss between outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tunesmith.data.batch import MAIN, Batch
from tunesmith.errors import RecipeError, nearest
from tunesmith.objectives.objective import Loss, Objective
from tunesmith.tasks.task import Target, Task


def objective(
    task: Task,
    target: Target,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    label_smoothing: float = 0.0,
    class_weights: Literal["balanced"] | dict[str, float] | None = None,
) -> Objective:
    """The task's loss, or a person's own `loss(outputs, targets) -> (rows,)`; of a regression it gets (rows,) values
    in the target's own unit.

    `class_weights`: "balanced" weighs each class by rows / (classes * rows of the class) (King & Zeng 2001), or a
    table label -> weight (1 where left out). A weighted batch is divided by its weights, as torch does. On several
    labels a row weighs as the mean of its labels' weights."""
    if task.name == "regression" and (label_smoothing or class_weights is not None):
        raise RecipeError(
            "label_smoothing and class_weights are for labels", where="objective", remedy="leave them out"
        )
    if loss is not None and label_smoothing:
        raise RecipeError(
            "label_smoothing has no effect on a loss of your own", where="objective", remedy="leave it out"
        )
    weights = _weights(target, class_weights)

    def supervised(net: nn.Module, batch: Batch) -> Loss:
        outputs = net(batch.inputs[MAIN])
        if loss is None:
            each = task.loss(outputs, batch.target, target, label_smoothing)
        else:
            if task.name == "regression":
                outputs = outputs.float().squeeze(-1) * target.std + target.mean
            each = loss(outputs, batch.target)
            shape = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
            if shape != (len(outputs),):
                what = f"the loss gave {shape} for {len(outputs)} rows"
                raise RecipeError(what, where="loss", remedy="return one number a row: reduction='none'")
        count = batch.weight if weights is None else batch.weight * _row_weights(weights, batch.target)
        return Loss((each * count).sum(), count.sum())

    return supervised


def _weights(target: Target, given: Literal["balanced"] | dict[str, float] | None) -> Tensor | None:
    if given is None:
        return None
    if given == "balanced":
        total = sum(target.counts)
        return torch.tensor([total / (target.num_outputs * max(1, count)) for count in target.counts])
    for label in given:
        if label not in target.labels:
            raise RecipeError(
                f'no class is called "{label}"', where="class_weights", remedy=nearest(label, target.labels)
            )
    return torch.tensor([float(given.get(label, 1.0)) for label in target.labels])


def _row_weights(weights: Tensor, codes: Tensor) -> Tensor:
    weights = weights.to(codes.device)
    if codes.dim() == 1:
        return weights[codes]
    has = codes.sum(1)
    return torch.where(has > 0, (codes * weights).sum(1) / has.clamp(min=1), torch.ones_like(has))
