"""The temperature: the number by which outputs are divided so that their probabilities come true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from tunesmith.evaluation.predict import Predictions
from tunesmith.seeds import fold

COOLEST, HOTTEST, NEAR = 0.1, 10.0, 1.001
"""No temperature lies beyond; one that is as near to an end is not bounded by its rows."""

HALVINGS = 60
"""After so many a double knows no number between the ends."""

FEWEST = 100
"""Fewer rows than that choose no temperature."""

FOLDS, SURE = 5, 0.9
"""A temperature is judged by rows that did not choose it, in so many parts, and is to better their log loss in this
share of resamples."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Fitted:
    """A temperature and what speaks for it; the log losses are those of rows that did not choose theirs, and of the
    same rows without one."""

    value: float | None
    applied: bool
    why: str
    log_loss: float | None = None
    log_loss_off: float | None = None
    share_better: float | None = None


def fitted(predictions: Predictions) -> Fitted:
    """The temperature of all rows, and whether to apply it: where there are 100 of them, each four of five parts bound
    theirs, and the log loss of the fifth is better with it in nine of ten resamples.

    Several labels a row have one temperature together."""
    rows = np.arange(len(predictions.ids))
    if len(rows) < FEWEST:
        return Fitted(None, False, f"{len(rows)} rows are too few, {FEWEST} are asked")
    value = temperature(predictions)
    parts, values = rows % FOLDS, [value]
    losses, plain = np.empty(len(rows)), log_losses(predictions)
    for part in range(FOLDS):
        values.append(temperature(predictions.take(rows[parts != part])))
        losses[parts == part] = log_losses(divided(predictions.take(rows[parts == part]), values[-1]))
    if not COOLEST * NEAR < min(values) <= max(values) < HOTTEST / NEAR:
        return Fitted(value, False, "the rows do not bound it: hardly one is wrong, or hardly one is told apart")
    random = np.random.Generator(np.random.PCG64(fold(0, "temperature", len(rows))))
    gains = plain - losses
    drawn = np.array([gains[random.integers(len(rows), size=len(rows))].mean() for _ in range(RESAMPLES)])
    share = float((drawn > 0).mean())
    why = f"rows that did not choose it have a lower log loss with it in {share:.0%} of resamples, {SURE:.0%} are asked"
    return Fitted(value, share >= SURE, why, float(losses.mean()), float(plain.mean()), share)


def temperature(predictions: Predictions) -> float:
    """The temperature at which the log loss of the rows is least (Guo et al. 2017).

    It is convex in 1 / T, where its slope is the sum of `(probability - truth) * output`: that is halved to zero."""
    assert predictions.codes is not None
    outputs, codes = predictions.outputs.astype(np.float64), predictions.codes
    truth = codes if codes.ndim == 2 else np.eye(outputs.shape[1])[codes]
    cool, hot = np.log(COOLEST), np.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (cool + hot) / 2
        slope = ((predictions.task.probabilities(outputs / np.exp(middle)) - truth) * outputs).sum()
        cool, hot = (middle, hot) if slope > 0 else (cool, middle)
    return float(np.exp((cool + hot) / 2))


def divided(predictions: Predictions, value: float) -> Predictions:
    """The same rows at another temperature."""
    return replace(predictions, outputs=predictions.outputs / value)


def log_losses(predictions: Predictions) -> np.ndarray:
    """The log loss of each row."""
    assert predictions.codes is not None
    outputs, codes = torch.from_numpy(predictions.outputs), torch.from_numpy(predictions.codes)
    return np.asarray(predictions.task.loss(outputs, codes, predictions.target, 0.0).double().numpy())
