"""How far probabilities can be believed: reliability, calibration error, and what abstaining would bring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions
from tunesmith.seeds import fold

NUM_BINS, ROWS_OF_BIN = 15, 10
"""As many bins, or fewer where a bin would have fewer rows than that."""

DRAWS = 1000
"""Resamples of an interval, and samples of labels that the probabilities themselves would draw."""

CHUNK = 2_000_000
"""Numbers that are drawn at a time."""

COVERAGES = tuple(round(1 - 0.05 * step, 2) for step in range(20))
"""Where the abstention curve is told: from all rows to the twentieth that is surest."""


@dataclass(frozen=True)
class Decisions:
    """What was said with which confidence, (rows, decisions a row), and whether it was right: of one label a row the
    most probable one, whatever the threshold; of several labels each one's probability, and whether the row has it."""

    confidence: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions) -> Decisions:
        """Those of the rows whose target is known."""
        codes, chances = (some.numpy() for some in intervals.known(predictions))
        if codes.ndim == 2:
            return cls(chances, codes > 0.5)
        return cls(chances.max(1)[:, None], (chances.argmax(1) == codes)[:, None])

    @property
    def bins(self) -> np.ndarray:
        """The bin of each decision: of equal mass, and those of equal confidence in one bin."""
        flat = self.confidence.ravel()
        count = max(1, min(NUM_BINS, len(flat) // ROWS_OF_BIN))
        return (np.searchsorted(np.sort(flat), flat) * count // len(flat)).reshape(self.confidence.shape)

    @property
    def gaps(self) -> np.ndarray:
        """Confidence less truth, summed over the decisions of each row in each bin, (rows, bins)."""
        bins = self.bins
        gaps = np.zeros((len(bins), bins.max() + 1))
        for column in range(bins.shape[1]):
            gaps[np.arange(len(bins)), bins[:, column]] += self.confidence[:, column] - self.right[:, column]
        return gaps


def wilson(hits: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    z, share = 1.959963984540054, hits / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def reliability(decisions: Decisions) -> list[dict[str, Any]]:
    """The reliability curve: each bin's range of confidences, its mean one, and the share that was right with its
    interval (Wilson 1927), from the least confident bin on."""
    bins, found = decisions.bins, []
    for number in np.unique(bins):
        confidence, right = decisions.confidence[bins == number], decisions.right[bins == number]
        low, high = wilson(right.sum(), len(right))
        found.append(
            {
                "low": float(confidence.min()),
                "high": float(confidence.max()),
                "rows": len(right),
                "confidence": float(confidence.mean()),
                "accuracy": float(right.mean()),
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return found


def calibration_error(decisions: Decisions) -> dict[str, float]:
    """The expected calibration error in bins of equal mass (Naeini et al. 2015; Nguyen & O'Connor 2015): the mean
    distance between confidence and accuracy of a bin, weighted by its rows.

    `low` and `high` are the ends of its 95 % interval; `mean` is what probabilities that are right would show by
    chance on so many rows, and `most` what they surpass in one sample of forty. Of few rows the figure is too high, for
    chance alone sets a bin's accuracy off (Kumar et al. 2019). `value` is the plain figure, to compare with others.
    The interval is the basic bootstrap's, which turns that error round, and begins at 0 where the figure is within
    `most` (consistency resampling: Bröcker & Smith 2007)."""
    gaps, size, value = decisions.gaps, decisions.confidence.size, plain_error(decisions)
    drawn = np.concatenate([np.abs(weights @ gaps).sum(1) / size for weights in _weights(len(gaps))])
    chance = _by_chance(decisions)
    least, most = np.percentile(drawn, [2.5, 97.5])
    usual = float(np.percentile(chance, 97.5))
    return {
        "value": value,
        "low": 0.0 if value <= usual else max(0.0, 2 * value - float(most)),
        "high": max(value, 2 * value - float(least)),
        "mean": float(chance.mean()),
        "most": usual,
    }


def plain_error(decisions: Decisions) -> float:
    """The calibration error alone."""
    return float(np.abs(decisions.gaps.sum(0)).sum() / decisions.confidence.size)


def _by_chance(decisions: Decisions) -> np.ndarray:
    """The plain figure of samples whose rows are right as often as their confidence says."""
    confidence, bins = (torch.from_numpy(some.ravel()) for some in (decisions.confidence, decisions.bins))
    random = torch.Generator().manual_seed(fold(0, "consistency", len(confidence)))
    step, found = max(1, CHUNK // len(confidence)), []
    for start in range(0, DRAWS, step):
        shape = (min(step, DRAWS - start), len(confidence))
        gaps = confidence - (torch.rand(shape, generator=random, dtype=torch.float64) < confidence).double()
        sums = torch.zeros(shape[0], int(bins.max()) + 1, dtype=torch.float64).index_add_(1, bins, gaps)
        found.append((sums.abs().sum(1) / len(confidence)).numpy())
    return np.concatenate(found)


def _weights(num_rows: int) -> Iterator[np.ndarray]:
    """How often each row is in each resample, (resamples, rows) a chunk."""
    random = np.random.Generator(np.random.PCG64(fold(0, "calibration", num_rows)))
    step = max(1, CHUNK // num_rows)
    for start in range(0, DRAWS, step):
        count = min(step, DRAWS - start)
        drawn = random.integers(num_rows, size=(count, num_rows)) + num_rows * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * num_rows).reshape(count, num_rows).astype(float)


def abstention(decisions: Decisions) -> dict[str, Any]:
    """What is right of the rows that the model is surest of: `points`, from all rows to the surest twentieth, each the
    `coverage`, the `accuracy` and the `confidence` from which on it answers; and `area`, the mean over all coverages of
    the share that is wrong (AURC: Geifman & El-Yaniv 2017), less of which is better.

    Rows of equal confidence are wrong as often as all of them are."""
    confidence = decisions.confidence[:, 0]
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    shares = np.bincount(place, decisions.right[:, 0]) / counts
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(shares[place][order]) / np.arange(1, len(order) + 1)
    points = []
    for coverage in COVERAGES:
        last = max(1, round(coverage * len(order))) - 1
        points.append(
            {
                "coverage": coverage,
                "accuracy": float(accuracy[last]),
                "confidence": float(confidence[order[last]]),
            }
        )
    return {"area": float(1 - accuracy.mean()), "points": points}
