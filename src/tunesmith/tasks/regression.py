"""Regression: one number for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tunesmith.errors import DataError
from tunesmith.tasks.task import Target, Task


def learn(columns: tuple[str, ...], values: Sequence[Any]) -> Target:
    """Mean and standard deviation of the training rows: the net learns the standardised value."""
    numbers = _numbers(values)
    if np.isnan(numbers).any():
        row = int(np.flatnonzero(np.isnan(numbers))[0])
        raise DataError(f'the target "{columns[0]}" holds "{values[row]}", which is no number')
    if numbers.min() == numbers.max():
        raise DataError(f'the target "{columns[0]}" is {numbers[0]:g} in every row', remedy="choose another --target")
    return Target(columns, ("value",), (len(numbers),), None, float(numbers.mean()), float(numbers.std()))


def encode(values: Sequence[Any], target: Target) -> np.ndarray:
    """The numbers, in their own unit; NaN where there is none, or an infinite one."""
    return _numbers(values)


def loss(outputs: Tensor, codes: Tensor, target: Target, label_smoothing: float) -> Tensor:
    """Squared error of each example, in standard deviations of the training rows."""
    return F.mse_loss(outputs.float().squeeze(-1), ((codes - target.mean) / target.std).float(), reduction="none")


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """The values themselves, in the target's unit."""
    return outputs.astype(np.float64)


def decode(probabilities: np.ndarray, target: Target) -> list[float]:
    """The value of each row."""
    return [float(value) for value in probabilities[:, 0]]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            continue
    return np.where(np.isfinite(numbers), numbers, np.nan)


TASK = Task(
    name="regression",
    problem_type="regression",
    learn=learn,
    encode=encode,
    loss=loss,
    probabilities=probabilities,
    decode=decode,
    metrics=("rmse", "mae", "mse", "r2", "spearman"),
    select="r2",
    baselines=("mean", "tfidf_ridge", "frozen_ridge", "frozen_neighbours"),
)
