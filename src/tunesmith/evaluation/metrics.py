"""Metrics: a function each, over one or many resamples at once; the formulas are torchmetrics'.

Each takes `codes` (resamples, rows[, labels]), `chances` (resamples, rows, outputs; the values of a regression) and the
Target, and returns one value a resample."""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.evaluation.counting import formula, one_against_rest, pick, positive, single, stat, values
from tunesmith.tasks.task import Target

FALLING = ("log_loss", "brier", "rmse", "mse", "mae", "loss")
"""Metrics of which less is better."""

ONE_BY_ONE = ("auroc", "average_precision", "mcc")
"""Metrics that torchmetrics computes for one resample at a time."""


def accuracy(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Share of rows that are right; with several labels a row, of rows whose labels are all right."""
    if codes.dim() == 3:
        return ((chances >= 0.5) == codes.bool()).all(-1).float().mean(-1)
    return (chances.argmax(-1) == codes).float().mean(-1)


def balanced_accuracy(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean recall of the classes that have rows; a class that is only predicted does not count (as in scikit-learn)."""
    single(codes, "balanced_accuracy")
    recalls = stat("multiclass_recall", codes, chances, None)
    occurs = torch.nn.functional.one_hot(codes, target.num_outputs).any(1)
    return recalls.where(occurs, torch.nan).nanmean(-1)


def precision(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Precision of the positive label of a binary task."""
    return positive("binary_precision", codes, chances, target)


def recall(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Recall of the positive label of a binary task."""
    return positive("binary_recall", codes, chances, target)


def f1(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """F1 of the positive label of a binary task."""
    return positive("binary_f1_score", codes, chances, target)


def precision_macro(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean precision of the classes."""
    return stat(pick("precision", codes), codes, chances, "macro")


def recall_macro(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean recall of the classes."""
    return stat(pick("recall", codes), codes, chances, "macro")


def f1_macro(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean F1 of the classes."""
    return stat(pick("f1_score", codes), codes, chances, "macro")


def f1_micro(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """F1 of all decisions together; with one label a row it equals the accuracy."""
    return stat(pick("f1_score", codes), codes, chances, "micro")


def f1_weighted(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean F1 of the classes, weighted by their rows."""
    return stat(pick("f1_score", codes), codes, chances, "weighted")


def auroc(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Area under the ROC curve; of several classes the mean over those that occur, each against the rest."""
    return one_against_rest("binary_auroc", codes, chances, target)


def average_precision(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Area under the precision-recall curve; of several classes the mean over those that occur."""
    return one_against_rest("binary_average_precision", codes, chances, target)


def mcc(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Matthews correlation coefficient (Gorodkin 2004 for several classes)."""
    single(codes, "mcc")
    pairs = zip(chances.argmax(-1), codes, strict=True)
    return torch.stack([formula("multiclass_matthews_corrcoef")(p, c, target.num_outputs).float() for p, c in pairs])


def log_loss(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean negative log-likelihood, in nats; with several labels a row, averaged over the labels too."""
    chances = chances.clamp(1e-15, 1 - 1e-15)
    if codes.dim() == 3:
        each = torch.nn.functional.binary_cross_entropy(chances, codes.to(chances.dtype), reduction="none")
        return each.mean((1, 2))
    return -chances.gather(-1, codes.unsqueeze(-1)).squeeze(-1).log().mean(1)


def brier(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean squared error of the probabilities (Brier 1950): of one label when binary, else summed over the classes."""
    if codes.dim() == 3:
        return ((chances - codes) ** 2).mean((1, 2))
    squares = ((chances - torch.nn.functional.one_hot(codes, target.num_outputs)) ** 2).sum(-1)
    return squares.mean(1) / (2 if target.num_outputs == 2 else 1)


def mse(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean squared error."""
    return values("mean_squared_error", codes, chances, num_outputs=len(codes))


def rmse(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Root of the mean squared error, in the target's unit."""
    return values("mean_squared_error", codes, chances, num_outputs=len(codes), squared=False)


def mae(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean absolute error, in the target's unit."""
    return values("mean_absolute_error", codes, chances, num_outputs=len(codes))


def r2(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Share of the variance explained."""
    return values("r2_score", codes, chances, multioutput="raw_values")


def spearman(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Spearman's rank correlation."""
    return values("spearman_corrcoef", codes, chances)
