"""Metrics: a function each, over one or many resamples at once.

Each takes `codes` (resamples, rows[, labels]), `chances` (resamples, rows, outputs; the values of a regression) and the
Target, and returns one value a resample. One of decisions is written as a function of their Counts (`of_decisions`), a
share of rows as two numbers (`of_shares`)."""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.evaluation.counting import (
    Counts,
    macro,
    of_decisions,
    of_shares,
    one_against_rest,
    positive,
    precision_recall_area,
    ranks,
    roc_area,
    single,
)
from tunesmith.tasks.task import Target

FALLING = ("log_loss", "brier", "rmse", "mse", "mae", "loss")
"""Metrics of which less is better."""


@of_shares
def accuracy(counts: Counts, target: Target) -> tuple[Tensor, Tensor]:
    """Share of rows that are right; with several labels a row, of rows whose labels are all right."""
    return counts.whole, torch.full_like(counts.whole, counts.num_rows)


@of_decisions
def balanced_accuracy(counts: Counts, target: Target) -> Tensor:
    """Mean recall of the classes that have rows; a class that is only predicted does not count (as in scikit-learn)."""
    single(counts, "balanced_accuracy")
    return counts.recall.where(counts.true > 0, torch.nan).nanmean(1)


@of_shares
def precision(counts: Counts, target: Target) -> tuple[Tensor, Tensor]:
    """Precision of the positive label of a binary task."""
    return positive(counts.right, target), positive(counts.predicted, target)


@of_shares
def recall(counts: Counts, target: Target) -> tuple[Tensor, Tensor]:
    """Recall of the positive label of a binary task."""
    return positive(counts.right, target), positive(counts.true, target)


@of_decisions
def f1(counts: Counts, target: Target) -> Tensor:
    """F1 of the positive label of a binary task."""
    return positive(counts.f1, target)


@of_decisions
def precision_macro(counts: Counts, target: Target) -> Tensor:
    """Mean precision of the classes."""
    return macro(counts.precision, counts)


@of_decisions
def recall_macro(counts: Counts, target: Target) -> Tensor:
    """Mean recall of the classes."""
    return macro(counts.recall, counts)


@of_decisions
def f1_macro(counts: Counts, target: Target) -> Tensor:
    """Mean F1 of the classes."""
    return macro(counts.f1, counts)


@of_decisions
def f1_micro(counts: Counts, target: Target) -> Tensor:
    """F1 of all decisions together; with one label a row it equals the accuracy."""
    return 2 * counts.right.sum(1) / (counts.predicted + counts.true).sum(1).clamp(min=1)


@of_decisions
def f1_weighted(counts: Counts, target: Target) -> Tensor:
    """Mean F1 of the classes, weighted by their rows."""
    return (counts.f1 * counts.true).sum(1) / counts.true.sum(1).clamp(min=1)


def auroc(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Area under the ROC curve; of several classes the mean over those that occur, each against the rest."""
    return one_against_rest(roc_area, codes, chances, target)


def average_precision(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Area under the precision-recall curve; of several classes the mean over those that occur."""
    return one_against_rest(precision_recall_area, codes, chances, target)


@of_decisions
def mcc(counts: Counts, target: Target) -> Tensor:
    """Matthews correlation coefficient (Gorodkin 2004 for several classes); 0 where one class is all there is."""
    single(counts, "mcc")
    rows = counts.num_rows
    together = counts.right.sum(1) * rows - (counts.predicted * counts.true).sum(1)
    apart = [rows**2 - each.square().sum(1) for each in (counts.predicted, counts.true)]
    return together / (apart[0] * apart[1]).sqrt().clamp(min=1)


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
    return (chances[..., 0] - codes).square().mean(1)


def rmse(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Root of the mean squared error, in the target's unit."""
    return mse(codes, chances, target).sqrt()


def mae(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Mean absolute error, in the target's unit."""
    return (chances[..., 0] - codes).abs().mean(1)


def r2(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Share of the variance explained; not a number where the values do not vary."""
    around = (codes - codes.mean(1, keepdim=True)).square().sum(1)
    return 1 - (chances[..., 0] - codes).square().sum(1) / around.where(around > 0, torch.nan)


def spearman(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
    """Spearman's rank correlation; not a number where either side does not vary."""
    told, truth = (some - some.mean(1, keepdim=True) for some in (ranks(chances[..., 0]), ranks(codes)))
    return (told * truth).sum(1) / (told.square().sum(1) * truth.square().sum(1)).sqrt()
