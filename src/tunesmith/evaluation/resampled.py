"""The mean of a metric over folds with its 95 % interval: the corrected resampled t (Nadeau & Bengio 2003).

The runs of folds train on rows that they share, so that their scores differ less than those of new data would. The
variance of their mean is therefore not s2 / J but (1/J + rows tested / rows trained on) s2, with J scores and s2 their
variance."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import Any


def over_folds(scores: Sequence[Any], ratio: float) -> Any:
    """The scores of folds, trees of the same form, as one: each metric with its mean, its interval, and the values of
    the `folds` (None where a fold does not define it); `rows` are added up, other numbers averaged, and what
    is no number stays where it is the same in all of them. `ratio`: rows tested / rows trained on."""
    known = [score for score in scores if score is not None]
    if "value" in known[0]:
        return resampled([None if score is None else score["value"] for score in scores], ratio)
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for score in known for key in score):
        parts = [None if score is None else score.get(key) for score in scores]
        there = [part for part in parts if part is not None]
        if key == "rows":
            found[key] = sum(there)
        elif there and all(isinstance(part, dict) for part in there):
            found[key] = over_folds(parts, ratio)
        elif there and all(part == there[0] for part in there):
            found[key] = there[0]
        elif there and all(isinstance(part, float) for part in there):
            found[key] = math.fsum(there) / len(there)
    return found


def resampled(values: Sequence[float | None], ratio: float) -> dict[str, Any]:
    """The mean of the values with the ends of its 95 % interval; the ends are None for fewer than two values.

    >>> found = resampled([0.80, 0.85, 0.90, 0.75, 0.80], ratio=0.25)
    >>> [round(found[name], 3) for name in ("value", "low", "high")]
    [0.82, 0.714, 0.926]
    """
    known = [value for value in values if value is not None]
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "folds": list(values)}
    if known:
        found["value"] = mean = math.fsum(known) / len(known)
    if len(known) > 1:
        variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
        reach = t_quantile(len(known) - 1) * math.sqrt((1 / len(known) + ratio) * variance)
        found |= {"low": mean - reach, "high": mean + reach}
    return found


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """The values of runs that differ by their seed alone: `seeds`, their `mean` with the 95 % interval of what many
    seeds would have on average (t; it covers chance in training, not other rows), and their standard deviation as
    `spread`, None for fewer than two.

    >>> found = over_seeds([0.80, 0.85, 0.90, 0.75, 0.80])
    >>> [round(found["mean"][name], 3) for name in ("value", "low", "high")], round(found["spread"], 3)
    ([0.82, 0.749, 0.891], 0.057)
    """
    mean = resampled(values, 0.0)
    known = [value for value in mean.pop("folds") if value is not None]
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"seeds": list(values), "mean": mean, "spread": spread}


@functools.cache
def t_quantile(freedom: int, share: float = 0.95) -> float:
    """The number that a t variable with so many degrees of freedom stays below, in size, with the probability `share`.

    >>> round(t_quantile(4), 3)
    2.776
    """
    low, high = 0.0, 1.0
    while t_within(high, freedom) < share:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < share else (low, middle)
    return high


def t_within(t: float, freedom: int) -> float:
    """The probability of -t to t, with a minus for t below 0: the finite series of Abramowitz & Stegun 26.7.3 (odd) and
    26.7.4 (even)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for number in range(3 if odd else 2, freedom + 1, 2):
        total += term
        term *= square * (number - 1) / number
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
