"""The supervised objective: the task's loss between outputs and targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.data.batch import MAIN, Batch
from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.objectives.objective import Loss, Objective
from tunesmith.tasks.task import Target, Task

Own = Callable[[Tensor, Tensor], Tensor]
"""A person's own loss: (outputs, targets) -> one number a row."""


LOG_ZERO = math.log(1e-4)
"""What the symmetric loss takes for log 0, as its authors' code does."""

LOSSES: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "focal": {"gamma": 2.0},
    "generalized": {"q": 0.7},
    "symmetric": {"alpha": 0.1, "beta": 1.0},
}
"""The losses for labels, with their options at the values of the papers."""


def objective(
    task: Task,
    target: Target,
    own: Own | None = None,
    *,
    loss: Literal["cross_entropy", "focal", "generalized", "symmetric"] = "cross_entropy",
    gamma: float | None = None,
    q: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    label_smoothing: float = 0.0,
    class_weights: Literal["balanced"] | dict[str, float] | None = None,
) -> Objective:
    """The task's loss, or a person's `own(outputs, targets) -> (rows,)`; of a regression it gets (rows,) values in
    the target's own unit.

    `loss`, for labels, with p the probability of the true label (of several labels, each is a two-class problem of its
    own and a row's loss is their mean):
    "cross_entropy" is -log p, with `label_smoothing` (Szegedy et al. 2016);
    "focal" is -(1 - p)^`gamma` log p, so that easy rows count less (Lin et al. 2017; gamma 2);
    "generalized" is (1 - p^`q`) / q, between cross-entropy (q to 0) and the mean absolute error (q = 1), for wrong
    labels among the training rows (Zhang & Sabuncu 2018; q 0.7);
    "symmetric" is -`alpha` log p - `beta` (1 - p) log 1e-4, for wrong labels too (Wang et al. 2019; 0.1 and 1).

    `class_weights`: "balanced" weighs each class by rows / (classes * rows of the class) (King & Zeng 2001), or a
    table label -> weight (1 where left out). A weighted batch is divided by its weights, as torch does. On several
    labels a row weighs as the mean of its labels' weights. The loss of a row into which another is mixed is that for
    both targets, by their shares (Zhang et al. 2018)."""
    given = {"gamma": gamma, "q": q, "alpha": alpha, "beta": beta}
    named = {name: value for name, value in given.items() if value is not None}
    _check(task, own, loss, named, label_smoothing, class_weights is not None)
    weights, shape = _weights(target, class_weights), LOSSES[loss] | named

    def supervised(net: nn.Module, batch: Batch) -> Loss:
        outputs = net(batch.inputs[MAIN])
        if batch.others is None or batch.share is None:
            return summed(outputs, batch.target, batch.weight)
        one = summed(outputs, batch.target, batch.weight * batch.share)
        other = summed(outputs, batch.others, batch.weight * (1 - batch.share))
        return Loss(one.sum + other.sum, one.count + other.count)

    def summed(outputs: Tensor, codes: Tensor, count: Tensor) -> Loss:
        if own is not None:
            each = _own(own, outputs, codes, target if task.name == "regression" else None)
        elif loss == "cross_entropy":
            each = task.loss(outputs, codes, target, label_smoothing)
        else:
            each = _shaped(loss, _log_truth(outputs.float(), codes), shape)
        count = count if weights is None else count * _row_weights(weights, codes)
        return Loss((each * count).sum(), count.sum())

    return supervised


def _check(task: Task, own: Own | None, loss: str, named: dict[str, float], smoothing: float, weighted: bool) -> None:
    """RecipeError with every option that has no effect or no sense here."""
    problems = []
    if task.name == "regression" and (smoothing or weighted or named or loss != "cross_entropy"):
        what = "loss and its options, label_smoothing and class_weights are for labels"
        problems.append(Problem(what, "objective", "leave them out"))
    elif own is not None and (smoothing or named or loss != "cross_entropy"):
        what = "loss, its options and label_smoothing have no effect on a loss of your own"
        problems.append(Problem(what, "objective", "leave them out"))
    else:
        for name in named.keys() - LOSSES[loss].keys():
            where = next(other for other, options in LOSSES.items() if name in options)
            problems.append(Problem(f"{name} has no effect on loss = {loss}", "objective", f'it is for "{where}"'))
        if smoothing and loss != "cross_entropy":
            what = f"label_smoothing has no effect on loss = {loss}"
            problems.append(Problem(what, "objective", "leave it out, or loss = cross_entropy"))
    for name, value in named.items():
        if value < 0 or (name == "q" and not 0 < value <= 1):
            range_ = "above 0 and at most 1" if name == "q" else "at least 0"
            problems.append(Problem(f"{name} = {value} is not {range_}", "objective"))
    if not 0 <= smoothing < 1:
        problems.append(Problem(f"label_smoothing = {smoothing} is not at least 0 and below 1", "objective"))
    if loss == "symmetric" and named.get("alpha") == 0 == named.get("beta"):
        problems.append(Problem("alpha and beta are both 0: nothing would be learnt", "objective"))
    if problems:
        raise RecipeError(problems)


def _own(own: Own, outputs: Tensor, targets: Tensor, scale: Target | None) -> Tensor:
    """A person's own loss of each row; `scale` brings a regression's outputs into the target's unit."""
    if scale is not None:
        outputs = outputs.float().squeeze(-1) * scale.std + scale.mean
    each = own(outputs, targets)
    shape = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
    if shape != (len(outputs),):
        what = f"the loss gave {shape} for {len(outputs)} rows"
        raise RecipeError(what, where="loss", remedy="return one number a row: reduction='none'")
    return each


def _log_truth(outputs: Tensor, codes: Tensor) -> Tensor:
    """The log of the probability of what is true: (rows,) of one label a row, (rows, labels) of several."""
    if codes.dim() == 1:
        return F.log_softmax(outputs, 1).gather(1, codes[:, None]).squeeze(1)
    return F.logsigmoid(torch.where(codes > 0.5, outputs, -outputs))


def _shaped(loss: str, log_p: Tensor, options: dict[str, float]) -> Tensor:
    """The loss of each row, from the log probability of the truth."""
    # 1 - p without cancellation; never 0, where a power below 1 has no slope.
    miss = (-torch.expm1(log_p)).clamp(min=1e-12)
    if loss == "focal":
        each = -(miss ** options["gamma"]) * log_p
    elif loss == "generalized":
        each = -torch.expm1(options["q"] * log_p) / options["q"]
    else:
        each = -options["alpha"] * log_p - options["beta"] * LOG_ZERO * miss
    return each if each.dim() == 1 else each.mean(1)


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
