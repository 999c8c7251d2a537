"""Linear models on given features: what the baselines and the choice of the head are made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PENALTIES = (0.5, 5.0, 50.0, 500.0)
"""Of a sum over the rows, for standardised features. Of MiniLM's, 50 is best for 48 to 3,000 rows of TREC, 500 for
1,000 rows of SST-2 (accuracy 0.796, where 5 gives 0.728)."""
FOLDS, MOST_TRIED = 3, 2000


def class_chances(train: Any, codes: np.ndarray, asked: Any, num_outputs: int, **options: Any) -> np.ndarray:
    """Probabilities (rows of `asked`, outputs) of a logistic regression with `options`; one a label for 0/1 columns.

    A label that `codes` lack, and one that they alone hold, gets the share that it has: 0 or 1."""
    if codes.ndim == 2:
        columns = [class_chances(train, column.astype(np.int64), asked, 2, **options)[:, 1] for column in codes.T]
        return np.stack(columns, 1)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    chances = np.zeros((asked.shape[0], num_outputs))
    if codes.min() == codes.max():
        chances[:, codes[0]] = 1.0
        return chances
    with warnings.catch_warnings():
        # Stopped at `max_iter` it is a fair model still, and nothing that a person could act on.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(**options).fit(train, codes)
    chances[:, model.classes_] = model.predict_proba(asked)
    return chances


def score_features(
    features: np.ndarray,
    codes: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    num_outputs: int,
    value: Callable[[np.ndarray, np.ndarray], float],
) -> float:
    """The mean score of a linear model on frozen features over (train, held-out) positions; `value(codes, outputs)`.

    NaN where the score is defined on no fold."""
    scores = []
    for train, held in folds:
        centre, spread = features[train].mean(0), features[train].std(0)
        scaled = (features - centre) / np.where(spread > 0, spread, 1.0)
        scores.append(value(codes[held], linear_outputs(scaled[train], codes[train], scaled[held], num_outputs)))
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else float("nan")


def tuned_outputs(train: np.ndarray, codes: np.ndarray, asked: np.ndarray, num_outputs: int) -> np.ndarray:
    """Outputs as `linear_outputs` gives them, of standardised features, with the penalty of PENALTIES whose loss is
    least on three folds of the rows, of at most MOST_TRIED of them."""
    centre, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    train, asked = (train - centre) / spread, (asked - centre) / spread
    some = np.random.default_rng(0).permutation(len(train))[:MOST_TRIED]
    held = [some[number::FOLDS] for number in range(FOLDS)]
    if len(some) < 2 * FOLDS:
        return linear_outputs(train, codes, asked, num_outputs)
    losses = dict.fromkeys(PENALTIES, 0.0)
    for out in held:
        fitting = np.setdiff1d(some, out)
        for penalty in PENALTIES:
            told = linear_outputs(train[fitting], codes[fitting], train[out], num_outputs, penalty)
            losses[penalty] += float(_loss(torch.from_numpy(told), torch.from_numpy(codes[out])))
    return linear_outputs(train, codes, asked, num_outputs, min(PENALTIES, key=lambda penalty: losses[penalty]))


def linear_outputs(
    train: np.ndarray, codes: np.ndarray, asked: np.ndarray, num_outputs: int, penalty: float = 5.0
) -> np.ndarray:
    """Outputs (rows of `asked`, num_outputs) of a linear model fitted by L-BFGS: logits of one label for integer codes,
    of each label for 0/1 columns, and values for numbers.

    With the penalty 5 |weight|^2 it is scikit-learn's LogisticRegression(C=0.1), of two classes C=0.2, or Ridge(10),
    whose import would take longer than the fit."""
    inputs, truth = torch.from_numpy(train).double(), torch.from_numpy(np.asarray(codes))
    weight = torch.zeros(num_outputs, inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_outputs, dtype=torch.float64, requires_grad=True)
    centre, spread = 0.0, 1.0
    if codes.ndim == 1 and codes.dtype.kind == "f":
        # Numbers of any unit: what is small enough to stop at would else depend on it.
        centre, spread = float(truth.double().mean()), float(truth.double().std(correction=0)) or 1.0
        truth = (truth.double() - centre) / spread

    def loss() -> torch.Tensor:
        return _loss(F.linear(inputs, weight, bias), truth) + penalty * (weight**2).sum()

    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value.item()

    optimizer.step(closure)
    with torch.no_grad():
        return (F.linear(torch.from_numpy(asked).double(), weight, bias) * spread + centre).numpy()


def _loss(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The sum over the rows that a linear model minimises."""
    if truth.dim() == 2:
        return F.binary_cross_entropy_with_logits(outputs, truth.double(), reduction="sum")
    if truth.is_floating_point():
        return ((outputs[:, 0] - truth) ** 2).sum() / 2
    return F.cross_entropy(outputs, truth, reduction="sum")
