"""The consistency objective: the supervised loss, and rows without a target answered alike however augmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tunesmith.data.batch import FIRST, MAIN, SECOND, Batch
from tunesmith.errors import RecipeError
from tunesmith.objectives import supervised
from tunesmith.objectives.objective import Loss, Objective
from tunesmith.tasks.task import Target, Task

READS = "unlabelled"
TEMPERATURE, CONFIDENCE = 0.4, 0.8
"""Of the sharpened target, unless the recipe says otherwise (Xie et al. 2020, section 4)."""


def objective(
    task: Task,
    target: Target,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    weight: float = 1.0,
    ratio: int = 3,
    divergence: Literal["sharpened", "symmetric"] = "sharpened",
    temperature: float | None = None,
    confidence: float | None = None,
) -> Objective:
    """The supervised loss, and `weight` times the mean divergence between two views of `ratio` times as many rows
    without a target.

    "sharpened": the prediction on the row as it is, at `temperature` (0.4) and without a gradient, is the target of
    that on an augmented view, where it is surer than `confidence` (0.8); other rows count as 0 (UDA: Xie et al. 2020).
    "symmetric": the mean of both Kullback-Leibler divergences between two augmented views.
    A batch has rows with targets (view `main`) or rows without (views `first` and `second`; their weights make up for
    the numbers of both kinds in the step); only the former count."""
    if task.name != "classification":
        what = f"consistency compares class probabilities, and this is a {task.name}"
        raise RecipeError(what, where="objective", remedy="use objective = supervised")
    if weight <= 0 or ratio < 1:
        raise RecipeError(f"weight = {weight}, ratio = {ratio}", where="objective", remedy="weight > 0 and ratio >= 1")
    if divergence == "symmetric" and (temperature is not None or confidence is not None):
        what = "temperature and confidence have no effect on the symmetric divergence"
        raise RecipeError(what, where="objective", remedy="leave them out")
    at = TEMPERATURE if temperature is None else temperature
    over = CONFIDENCE if confidence is None else confidence
    if at <= 0 or not 0 <= over < 1:
        what = f"temperature = {at}, confidence = {over}"
        raise RecipeError(what, where="objective", remedy="temperature > 0, confidence from 0 to 1")
    with_target = supervised.objective(task, target, loss)

    def consistency(net: nn.Module, batch: Batch) -> Loss:
        if MAIN in batch.inputs:
            return with_target(net, batch)
        if divergence == "symmetric":
            each = _symmetric(net(batch.inputs[FIRST]), net(batch.inputs[SECOND]))
        else:
            with torch.no_grad():
                answers = net(batch.inputs[FIRST])
            each = _sharpened(answers, net(batch.inputs[SECOND]), at, over)
        return Loss(weight * (each * batch.weight).sum(), torch.zeros_like(each).sum())

    return consistency


def _symmetric(first: Tensor, second: Tensor) -> Tensor:
    """(KL(p|q) + KL(q|p)) / 2 = sum of (p - q) (log p - log q) / 2, for outputs (rows, classes)."""
    p, q = first.float().log_softmax(-1), second.float().log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2


def _sharpened(first: Tensor, second: Tensor, temperature: float, confidence: float) -> Tensor:
    """KL(p at `temperature` | q) of the rows whose largest p is over `confidence`, 0 for the others."""
    sure = first.float().softmax(-1).amax(-1) > confidence
    p, q = (first.float() / temperature).log_softmax(-1), second.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1) * sure
