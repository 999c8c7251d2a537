"""Classification: one label out of two or more for each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.errors import DataError, nearest
from tunesmith.tasks.task import Target, Task, as_label, decided_label, label_order

POSITIVE_WORDS = ("1", "true", "yes", "y", "positive", "pos", "spam", "toxic")


def learn(columns: tuple[str, ...], values: Sequence[Any], *, positive: str | None = None) -> Target:
    """The labels of the training rows in their stable order; `positive` is the label binary figures are about
    (default: a word that says so, else the second label)."""
    counts = Counter(as_label(value) for value in values)
    labels = label_order(list(counts))
    if len(labels) < 2:
        what = f'the target "{columns[0]}" has one class only: {labels[0] if labels else "none"}'
        raise DataError(what, remedy="give rows of at least two classes, or another --target")
    index = None
    if positive is not None:
        if as_label(positive) not in labels:
            raise DataError(
                f'the positive label "{positive}" does not occur', remedy=nearest(as_label(positive), labels)
            )
        if len(labels) > 2:
            raise DataError(f"a positive label has no effect with {len(labels)} classes", remedy="leave it out")
        index = labels.index(as_label(positive))
    elif len(labels) == 2:
        index = next((i for i in (1, 0) if labels[i].lower() in POSITIVE_WORDS), 1)
    return Target(columns, labels, tuple(counts[label] for label in labels), index)


def encode(values: Sequence[Any], target: Target) -> np.ndarray:
    """Label indexes; -1 for a label that the training rows do not have."""
    index = {label: number for number, label in enumerate(target.labels)}
    return np.array([index.get(as_label(value), -1) for value in values], dtype=np.int64)


def loss(outputs: Tensor, codes: Tensor, target: Target, label_smoothing: float) -> Tensor:
    """Cross-entropy of each example (Szegedy et al. 2016 for the smoothing)."""
    return F.cross_entropy(outputs.float(), codes, reduction="none", label_smoothing=label_smoothing)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the classes."""
    return torch.from_numpy(outputs).double().softmax(1).numpy()


def decode(probabilities: np.ndarray, target: Target) -> list[str]:
    """The most probable label, or what the target's threshold says."""
    return [target.labels[index] for index in decided_label(torch.from_numpy(probabilities), target).tolist()]


TASK = Task(
    name="classification",
    problem_type="single_label_classification",
    learn=learn,
    encode=encode,
    loss=loss,
    probabilities=probabilities,
    decode=decode,
    metrics=(
        "accuracy",
        "balanced_accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "auroc",
        "average_precision",
        "mcc",
        "log_loss",
        "brier",
    ),
    select="accuracy",
    baselines=("majority", "tfidf_logistic", "frozen_logistic", "frozen_neighbours"),
)
