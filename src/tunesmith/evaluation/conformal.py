"""Split conformal prediction: sets of labels and intervals of values that hold the truth as often as is asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tunesmith.evaluation import intervals
from tunesmith.evaluation.calibration import wilson
from tunesmith.evaluation.predict import Predictions

METHOD = "split conformal: the labels at or over a probability (LAC: Sadinle, Lei & Wasserman 2019)"

SLACK = 1e-9
"""What a product such as 10 * 0.9 may be off by."""


def nonconformity(predictions: Predictions) -> np.ndarray:
    """How far each row whose target is known is off: 1 less the probability of its label, or the distance of its value.

    Of one label a row, or a regression; several labels a row have no such number here."""
    codes, chances = (some.numpy() for some in intervals.known(predictions))
    if codes.dtype.kind == "f":
        return np.asarray(np.abs(codes - chances[:, 0]))
    return np.asarray(1 - chances[np.arange(len(codes)), codes])


def limit(scores: np.ndarray, coverage: float) -> float:
    """The nonconformity that a new row stays within with a probability of at least `coverage`: of n scores the
    ceil((n + 1) coverage)-th (Vovk, Gammerman & Shafer 2005); infinite where n is too small for it.

    >>> limit(np.array([0.5, 0.1, 0.2, 0.4, 0.3, 0.7, 0.6, 0.8, 0.9]), 0.9)
    0.9
    """
    place = math.ceil((len(scores) + 1) * coverage - SLACK)
    return math.inf if place > len(scores) else float(np.sort(scores)[place - 1])


def sets(chances: np.ndarray, most: float) -> np.ndarray:
    """Which labels are in the set of each row, (rows, labels): those whose nonconformity is no more than `most`. A set
    may be empty: no label is probable enough."""
    return np.asarray(1 - chances <= most)


def judged_sets(predictions: Predictions, most: float) -> dict[str, Any]:
    """`coverage` with its 95 % interval (Wilson 1927), `mean_size`, and `sizes`: how many sets have so many labels."""
    codes, chances = (some.numpy() for some in intervals.known(predictions))
    found = sets(chances, most)
    sizes = np.bincount(found.sum(1))
    return {
        "coverage": _share(found[np.arange(len(codes)), codes]),
        "mean_size": float(found.sum(1).mean()),
        "sizes": {str(size): int(count) for size, count in enumerate(sizes) if count},
    }


def judged_intervals(predictions: Predictions, most: float) -> dict[str, Any]:
    """`coverage` of the intervals from `most` below a value to `most` above it, with its 95 % interval."""
    return {"coverage": _share(nonconformity(predictions) <= most)}


def _share(held: np.ndarray) -> dict[str, float]:
    low, high = wilson(held.sum(), len(held))
    return {"value": float(held.mean()), "low": low, "high": high}
