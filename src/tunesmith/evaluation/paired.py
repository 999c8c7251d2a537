"""Two models on the same rows: what they differ by, whether that is more than chance, and how many rows would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

from tunesmith.evaluation import intervals
from tunesmith.evaluation.counting import ranks
from tunesmith.evaluation.intervals import Own, rising
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.resampled import t_quantile, t_within
from tunesmith.tasks.task import decided_label, decided_labels

LEVEL, POWER = 0.05, 0.8
MCNEMAR, WILCOXON, BOOTSTRAP = "McNemar", "Wilcoxon", "paired bootstrap"
LIKE_NORMAL = 1000
"""From so many rows on, the t distribution is the normal one to three digits."""
EXACT_ROWS = 50
"""Up to so many differences, without ties, Wilcoxon's test counts all signs."""
NOTHING = 1e-12
"""Scores that differ by no more are equal: sums of the same numbers in another order."""


@dataclass(frozen=True)
class Difference:
    """What the second model is better by, in the metric's unit: positive = better, also where less is better."""

    gain: float
    error: float
    """Standard error of the gain."""
    tests: dict[str, float]
    """Test -> p; the first decides."""
    num_rows: int

    @property
    def test(self) -> str:
        """The test that decides."""
        return next(iter(self.tests))

    @property
    def p(self) -> float:
        """What it says: how often chance alone gives so much or more where there is no difference."""
        return self.tests[self.test]

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of the gain."""
        few = self.num_rows < LIKE_NORMAL
        reach = (t_quantile(self.num_rows - 1) if few else NormalDist().inv_cdf(1 - LEVEL / 2)) * self.error
        return self.gain - reach, self.gain + reach

    def tellable(self, num_tests: int = 1) -> float:
        """The difference that so many rows tell with a chance of 80 %, where so many tests share the level of 5 %."""
        return (NormalDist().inv_cdf(1 - LEVEL / num_tests / 2) + NormalDist().inv_cdf(POWER)) * self.error

    def needed_rows(self, num_tests: int = 1) -> int | None:
        """The rows that tell a difference of this size with a chance of 80 %; None where there is none to tell. The
        error falls with the root of the rows."""
        return math.ceil(self.num_rows * (self.tellable(num_tests) / self.gain) ** 2) if self.gain else None


def difference(
    first: Predictions, second: Predictions, name: str, nearer: np.ndarray, own: Sequence[Own] = ()
) -> Difference:
    """What `second` is better by than `first`, on the same rows with known targets; `nearer`: by how much it is nearer
    to the truth on each of them.

    For the accuracy of one label a row McNemar's test decides, which asks the rows that one model alone has right; for
    every other metric the paired bootstrap: both models on the same resamples of the rows, and the difference held
    against its standard error there, by the t distribution (Efron & Tibshirani 1993, chapters 6 and 12). Percentiles of
    the resamples would tell apart 9 % of pairs that do not differ in their log-loss on 50 rows. NaN where a metric is
    not defined on the rows."""
    sign = 1 if rising(name) else -1
    gain = sign * (intervals.value(second, name, own) - intervals.value(first, name, own))
    drawn = intervals.resamples(second, name, own) - intervals.resamples(first, name, own)
    drawn = drawn[~np.isnan(drawn)]
    num_rows = len(nearer)
    error = float(drawn.std(ddof=1)) * math.sqrt(num_rows / (num_rows - 1)) if len(drawn) > 1 < num_rows else math.nan
    gain = 0.0 if abs(gain) <= NOTHING else gain
    tests = {BOOTSTRAP: _bootstrap_p(gain / error, num_rows) if error > NOTHING else 1.0}
    if first.task.name == "classification":
        mcnemar_p = mcnemar(int((nearer > 0).sum()), int((nearer < 0).sum()))
        beside = {MCNEMAR: mcnemar_p}
        tests = beside | tests if name in ("accuracy", "f1_micro") and not own else tests | beside
    else:
        tests[WILCOXON] = wilcoxon(nearer)
    return Difference(gain, error, tests, num_rows)


def row_losses(predictions: Predictions) -> np.ndarray:
    """How far each row is from its target: 1 where the label is wrong, the number of wrong labels, the absolute error
    of a value."""
    chances, codes = torch.from_numpy(predictions.probabilities), predictions.codes
    assert codes is not None
    if predictions.task.name == "regression":
        return np.asarray(np.abs(predictions.probabilities[:, 0] - codes), np.float64)
    if codes.ndim == 2:
        return np.asarray((decided_labels(chances, predictions.target).numpy() != (codes > 0.5)).sum(1), np.float64)
    return np.asarray(decided_label(chances, predictions.target).numpy() != codes, np.float64)


def mcnemar(wins: int, losses: int) -> float:
    """How often the rows that one of two models alone has right are shared out so unevenly, or more so, by a coin:
    McNemar's test with the exact binomial and mid-p (Fagerland, Lydersen & Laake 2013).

    >>> round(mcnemar(10, 3), 4)
    0.0574
    """
    num, least = wins + losses, min(wins, losses)
    shares = torch.arange(least + 1, dtype=torch.float64)
    whole = torch.tensor(num, dtype=torch.float64)
    logs = torch.lgamma(whole + 1) - torch.lgamma(shares + 1) - torch.lgamma(whole - shares + 1)
    chances = (logs - num * math.log(2)).exp()
    return min(1.0, float(2 * chances.sum() - chances[-1]))


def wilcoxon(differences: np.ndarray) -> float:
    """How often the signs of the differences, by the ranks of their size, are so one-sided by chance (Wilcoxon 1945).

    Differences of 0 are left out. Up to 50 without ties all signs are counted; else the normal distribution, with the
    variance of ties and a correction for continuity."""
    differences = differences[differences != 0]
    num = len(differences)
    if not num:
        return 1.0
    sizes = np.abs(differences)
    above = float(ranks(torch.from_numpy(sizes)[None])[0].numpy()[differences > 0].sum())
    ties = np.unique(sizes, return_counts=True)[1].astype(np.float64)
    if num <= EXACT_ROWS and ties.max() == 1:
        return _counted(num, min(above, num * (num + 1) / 2 - above))
    variance = num * (num + 1) * (2 * num + 1) / 24 - (ties**3 - ties).sum() / 48
    return _two_sided(max(0.0, abs(above - num * (num + 1) / 4) - 0.5) / math.sqrt(variance))


def holm(values: Sequence[float]) -> list[float]:
    """p of several tests at once, so that the chance of any false alarm among them stays what it is of one (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def _counted(num: int, least: float) -> float:
    """The share of all 2^num signs of the ranks 1 to num whose smaller sum is at most `least`."""
    ways = np.zeros(num * (num + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, num + 1):
        ways[rank:] += ways[:-rank].copy()
    return min(1.0, float(2 * ways[: int(least) + 1].sum() / 2**num))


def _bootstrap_p(t: float, num_rows: int) -> float:
    return _two_sided(t) if num_rows >= LIKE_NORMAL else 1 - t_within(abs(t), num_rows - 1)


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))
