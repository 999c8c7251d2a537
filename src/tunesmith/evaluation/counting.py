"""How the metrics call torchmetrics: for many resamples at once, one class against the rest, the positive label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import RecipeError
from tunesmith.tasks.task import Target


def formula(name: str) -> Callable[..., Tensor]:
    """torchmetrics' function of that name. Its import takes as long as torch's, so it waits for the first score."""
    import torchmetrics.functional as tm

    return getattr(tm.classification, name, None) or getattr(tm, name)  # type: ignore[no-any-return]


def pick(name: str, codes: Tensor) -> str:
    """The name of the multi-class or the multi-label form of a formula, as the codes ask for."""
    return f"{'multilabel' if codes.dim() == 3 else 'multiclass'}_{name}"


def stat(name: str, codes: Tensor, chances: Tensor, average: str | None) -> Tensor:
    """Counts of right and wrong, all resamples at once; (resamples,) or (resamples, classes) when average is None."""
    if len(codes) == 1:
        # torchmetrics' F1 drops the dimension of a single resample.
        return stat(name, codes.repeat_interleave(2, 0), chances.repeat_interleave(2, 0), average)[:1]
    options: dict[str, Any] = {"average": average, "multidim_average": "samplewise", "validate_args": False}
    if codes.dim() == 3:
        predicted, truth = (chances >= 0.5).int().transpose(1, 2), codes.int().transpose(1, 2)
        # torchmetrics wants (samples, labels, rows): the rows of a resample are its extra dimension.
        return formula(name)(predicted, truth, codes.shape[-1], **options)
    return formula(name)(chances.argmax(-1), codes, chances.shape[-1], **options)


def by_class(codes: Tensor, chances: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Precision, recall and F1 of each class, (resamples, classes)."""
    for name in ("precision", "recall", "f1"):
        yield name, stat(pick("f1_score" if name == "f1" else name, codes), codes, chances, None)


def positive(name: str, codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """A binary formula of the positive label against the other."""
    if target.positive is None:
        raise RecipeError("this metric is about the positive label of a binary task", remedy="use the _macro form")
    if len(codes) == 1:
        return positive(name, codes.repeat_interleave(2, 0), chances.repeat_interleave(2, 0), target)[:1]
    predicted = (chances.argmax(-1) == target.positive).int()
    result: Tensor = formula(name)(predicted, (codes == target.positive).int(), multidim_average="samplewise")
    return result


def one_against_rest(name: str, codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """The mean over the classes that have both rows that belong and rows that do not; NaN where there is none."""
    several = codes.dim() == 3
    classes = range(target.num_outputs) if target.positive is None else [target.positive]
    values = []
    for truth, chance in zip(codes, chances, strict=True):
        found = []
        for index in classes:
            belongs = (truth[:, index] if several else truth == index).int()
            if 0 < belongs.sum() < len(belongs):
                found.append(formula(name)(chance[:, index], belongs, validate_args=False).double())
        values.append(torch.stack(found).mean() if found else torch.tensor(float("nan"), dtype=torch.float64))
    return torch.stack(values)


def values(name: str, codes: Tensor, chances: Tensor, **options: Any) -> Tensor:
    """A formula of numbers, all resamples at once."""
    result: Tensor = torch.atleast_1d(formula(name)(chances[..., 0].T.contiguous(), codes.T.contiguous(), **options))
    return result


def single(codes: Tensor, name: str) -> None:
    """Refuse several labels a row."""
    if codes.dim() == 3:
        raise RecipeError(f'"{name}" is for one label a row', where="evaluate.metrics", remedy="leave it out")
