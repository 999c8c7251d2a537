"""Multi-label classification: any number of labels for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.errors import DataError
from tunesmith.tasks.task import Target, Task, as_label, decided_labels, label_order


def learn(columns: tuple[str, ...], values: Sequence[Any], *, separator: str | None = None) -> Target:
    """The labels: the columns themselves when there are several of 0 and 1, else all that the lists hold.
    `separator` splits a text column such as `"billing;refund"` into its labels."""
    if len(columns) > 1:
        labels: tuple[str, ...] = columns
    else:
        labels = label_order([as_label(item) for value in values for item in _items(value, separator)])
    if len(labels) < 2:
        remedy = "give lists of labels, several 0/1 columns, or a separator"
        raise DataError(f'the target "{columns[0]}" has fewer than two labels', remedy=remedy)
    target = Target(columns if not separator else (columns[0], f"separator={separator}"), labels)
    counts = encode(values, target).sum(0).astype(int)
    return Target(target.columns, labels, tuple(int(count) for count in counts))


def encode(values: Sequence[Any], target: Target) -> np.ndarray:
    """0/1 rows by label; labels that training never saw are left out."""
    separator = target.columns[1].removeprefix("separator=") if _has_separator(target) else None
    index = {label: number for number, label in enumerate(target.labels)}
    codes = np.zeros((len(values), len(target.labels)), dtype=np.float32)
    for row, value in enumerate(values):
        if len(target.columns) > 1 and separator is None:
            for name, item in zip(target.columns, value, strict=True):
                codes[row, index[name]] = _truth(item, name)
        else:
            for item in _items(value, separator):
                if (number := index.get(as_label(item))) is not None:
                    codes[row, number] = 1
    return codes


def loss(outputs: Tensor, codes: Tensor, target: Target, label_smoothing: float) -> Tensor:
    """Binary cross-entropy of each example, averaged over its labels; smoothing pulls 0 and 1 towards 1/2."""
    smooth = codes.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(outputs.float(), smooth, reduction="none").mean(1)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """The logistic function, label by label."""
    return torch.from_numpy(outputs).double().sigmoid().numpy()


def decode(probabilities: np.ndarray, target: Target) -> list[list[str]]:
    """The labels at or over one half, or over the target's thresholds."""
    decided = decided_labels(torch.from_numpy(probabilities), target).numpy()
    return [[target.labels[i] for i in np.flatnonzero(row)] for row in decided]


def _has_separator(target: Target) -> bool:
    return len(target.columns) == 2 and target.columns[1].startswith("separator=")


def _items(value: Any, separator: str | None) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator) if part.strip()] if separator else [value]
    return list(value)


def _truth(value: Any, column: str) -> float:
    text = as_label(value).lower()
    if text in ("1", "true", "yes"):
        return 1.0
    if text in ("0", "false", "no", ""):
        return 0.0
    raise DataError(f'the target column "{column}" holds "{value}"', remedy="columns of labels hold 0 and 1 only")


TASK = Task(
    name="multilabel",
    problem_type="multi_label_classification",
    learn=learn,
    encode=encode,
    loss=loss,
    probabilities=probabilities,
    decode=decode,
    metrics=(
        "accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "auroc",
        "average_precision",
        "log_loss",
        "brier",
    ),
    select="f1_micro",
    baselines=("majority", "tfidf_logistic", "frozen_logistic", "frozen_neighbours"),
)
