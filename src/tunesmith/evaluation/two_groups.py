"""What two groups of rows differ by, in closed form: shares and means with 95 % intervals, and whether one is worse.

Shares (values that are all 0 or 1): Wilson's interval (1927), Newcombe's of a difference (1998, method 10) and Fisher's
exact test, which is what shuffling the rows among the groups would give in all possible ways. Other numbers: Student's
interval, and Welch's of a difference with his test (1947), which do not take the two groups to vary alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.evaluation.resampled import t_quantile, t_within

Floats = npt.NDArray[np.float64]
Ends = tuple[float, float]

Z = 1.959963984540054
"""A normal variable is between -Z and Z with a probability of 95 %."""
MOST_FREEDOM = 300
"""With more degrees of freedom a t variable is taken to have so many: its 95 % quantile is 1.968 then, not 1.960."""


@dataclass(frozen=True)
class Contrast:
    """The mean of a group, of the rest, and what the group has more; `worse`: the probability, if the two did not
    differ, of a group that is so much worse by chance (one-sided)."""

    value: float
    ends: Ends
    rest: float
    difference: float
    difference_ends: Ends
    worse: float


def compared(group: Floats, rest: Floats, *, rising: bool = True) -> Contrast:
    """Compare two groups of two rows or more; `rising`: whether more is better.

    >>> found = compared(np.repeat([1.0, 0.0], [7, 13]), np.repeat([1.0, 0.0], [160, 40]))
    >>> round(found.difference, 2), [round(end, 2) for end in found.difference_ends], round(found.worse, 6)
    (-0.45, [-0.63, -0.22], 5.1e-05)
    """
    shares = bool(np.isin(group, (0, 1)).all() and np.isin(rest, (0, 1)).all())
    return _of_shares(group, rest, rising) if shares else _of_means(group, rest, rising)


def wilson(hits: float, rows: int) -> Ends:
    """The 95 % interval of a share.

    >>> [round(end, 3) for end in wilson(81, 263)]
    [0.255, 0.366]
    """
    share, square = hits / rows, Z**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    reach = Z / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def holm(chances: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that with 95 % not one below 0.05 is chance (Holm 1979); the tests may
    depend on each other in any way.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    found, largest = [0.0] * len(chances), 0.0
    for place, number in enumerate(sorted(range(len(chances)), key=lambda number: chances[number])):
        largest = max(largest, (len(chances) - place) * chances[number])
        found[number] = min(1.0, largest)
    return found


def _of_shares(group: Floats, rest: Floats, rising: bool) -> Contrast:
    hits, others = int(group.sum()), int(rest.sum())
    value, other = hits / len(group), others / len(rest)
    (low, high), (rest_low, rest_high) = wilson(hits, len(group)), wilson(others, len(rest))
    difference = value - other
    below, above = math.hypot(value - low, rest_high - other), math.hypot(high - value, other - rest_low)
    few, many = (hits, others) if rising else (len(group) - hits, len(rest) - others)
    worse = _fisher(few, len(group), few + many, len(group) + len(rest))
    return Contrast(value, (low, high), other, difference, (difference - below, difference + above), worse)


def _fisher(hits: int, rows: int, all_hits: int, all_rows: int) -> float:
    """The probability that a group of so many rows, drawn from all without looking, has no more hits."""
    counts = torch.arange(max(0, rows - (all_rows - all_hits)), hits + 1, dtype=torch.float64)

    def chosen(total: float, some: torch.Tensor) -> torch.Tensor:
        whole = torch.tensor(total, dtype=torch.float64)
        return torch.lgamma(whole + 1) - torch.lgamma(some + 1) - torch.lgamma(whole - some + 1)

    each = chosen(all_hits, counts) + chosen(all_rows - all_hits, rows - counts)
    return min(1.0, float((each - chosen(all_rows, torch.tensor(float(rows), dtype=torch.float64))).exp().sum()))


def _of_means(group: Floats, rest: Floats, rising: bool) -> Contrast:
    parts = [float(some.var(ddof=1)) / len(some) for some in (group, rest)]
    value, other, variance = float(group.mean()), float(rest.mean()), sum(parts)
    difference = value - other
    reach = t_quantile(min(MOST_FREEDOM, len(group) - 1)) * math.sqrt(parts[0])
    if not variance:
        worse = 0.0 if (difference < 0) == rising and difference else 1.0
        return Contrast(value, (value, value), other, difference, (difference, difference), worse)
    freedom = variance**2 / (parts[0] ** 2 / (len(group) - 1) + parts[1] ** 2 / (len(rest) - 1))
    freedom = min(MOST_FREEDOM, max(1, int(freedom)))
    apart = t_quantile(freedom) * math.sqrt(variance)
    t = (difference if rising else -difference) / math.sqrt(variance)
    worse = max(0.0, (1 + t_within(t, freedom)) / 2)
    ends, difference_ends = ((about - far, about + far) for about, far in ((value, reach), (difference, apart)))
    return Contrast(value, ends, other, difference, difference_ends, worse)
