"""Linear models of scikit-learn on given features: what the baselines and the choice of the head are made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tunesmith.tasks.task import Target, Task


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
    task: Task,
    target: Target,
    value: Callable[[np.ndarray, np.ndarray], float],
) -> float:
    """The mean score of a linear model on frozen features over (train, held-out) positions; `value(codes, outputs)`.

    NaN where the score is defined on no fold."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scores = []
    for train, held in folds:
        scale = StandardScaler().fit(features[train])
        seen, asked = scale.transform(features[train]), scale.transform(features[held])
        if task.name == "regression":
            outputs = Ridge(10.0).fit(seen, codes[train]).predict(asked)[:, None]
        else:
            chances = class_chances(seen, codes[train], asked, target.num_outputs, C=0.1, max_iter=300)
            chances = chances.clip(1e-9, 1 - 1e-9)
            outputs = np.log(chances) if codes.ndim == 1 else np.log(chances / (1 - chances))
        scores.append(value(codes[held], np.asarray(outputs)))
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else float("nan")
