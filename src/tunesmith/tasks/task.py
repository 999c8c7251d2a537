"""Task: what a prediction means, as a frozen record of functions; Target: what was learnt of the target column."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """What the training rows say about the target: its labels in their stated order, or its mean and spread."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    """In index order; ("value",) for a regression."""
    counts: tuple[int, ...] = ()
    """Training rows of each label."""
    positive: int | None = None
    """The index of the positive label of a binary task: what binary precision, recall, F1 are about."""
    mean: float = 0.0
    std: float = 1.0
    thresholds: tuple[float, ...] = ()
    """From which probability on the positive label, or each of several labels, is decided; () = the most probable
    label, or 0.5 for each of several."""

    @property
    def num_outputs(self) -> int:
        return len(self.labels)

    def ordered(self, labels: Sequence[str]) -> Target:
        """The same target with its labels in another order."""
        index = [self.labels.index(label) for label in labels]
        positive = None if self.positive is None else list(labels).index(self.labels[self.positive])
        counts = tuple(self.counts[i] for i in index)
        thresholds = self.thresholds
        if len(thresholds) == len(self.labels):
            thresholds = tuple(thresholds[i] for i in index)
        return replace(self, labels=tuple(labels), counts=counts, positive=positive, thresholds=thresholds)

    def at(self, thresholds: Sequence[float]) -> Target:
        """The same target, decided at other thresholds."""
        return replace(self, thresholds=tuple(thresholds))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Target:
        kept: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**kept)


@dataclass(frozen=True)
class Task:
    """A frozen record of functions; `values` are what the target column holds, one a row."""

    name: str
    problem_type: str
    """transformers' word for it, written into the model's config."""
    learn: Callable[..., Target]
    """(columns, values of the training rows, *, options) -> Target."""
    encode: Callable[[Sequence[Any], Target], np.ndarray]
    """(values, Target) -> codes: (rows,) or (rows, labels); unknown labels are negative or NaN."""
    loss: Callable[[Tensor, Tensor, Target, float], Tensor]
    """(outputs, codes, Target, label_smoothing) -> loss of each example, (rows,)."""
    probabilities: Callable[[np.ndarray], np.ndarray]
    """Outputs (rows, num_outputs) -> probabilities, or values of a regression."""
    decode: Callable[[np.ndarray, Target], list[Any]]
    """Probabilities -> what a person reads, one a row."""
    metrics: tuple[str, ...]
    """Reported unless the recipe says otherwise."""
    select: str
    """The metric that decides unless the recipe says otherwise."""
    baselines: tuple[str, ...]
    """What every run is held against."""


def decided_label(chances: Tensor, target: Target) -> Tensor:
    """The index of the one label of each row, of probabilities (..., rows, labels): the most probable; where there is a
    threshold, the positive label from it on, and the other below."""
    if not target.thresholds:
        return chances.argmax(-1)
    assert target.positive is not None
    is_positive = chances[..., target.positive].double() >= target.thresholds[0]
    return (is_positive if target.positive else ~is_positive).long()


def decided_labels(chances: Tensor, target: Target) -> Tensor:
    """Which of several labels each row has, of probabilities (..., rows, labels): those at or over their thresholds."""
    return chances.double() >= torch.tensor(target.thresholds or (0.5,), dtype=torch.float64)


def label_order(labels: Sequence[str]) -> tuple[str, ...]:
    """The stable order of labels: numbers by value before words by alphabet.

    >>> label_order(["10", "9", "b", "a"])
    ('9', '10', 'a', 'b')
    """

    def key(label: str) -> tuple[int, float, str]:
        number = re.fullmatch(r"[+-]?\d+(\.\d+)?", label)
        return (0, float(label), label) if number else (1, 0.0, label)

    return tuple(sorted(set(labels), key=key))


def as_label(value: Any) -> str:
    """The label's text: `True`, `1`, `1.0` and `"1"` stay apart only where a person would tell them apart."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
