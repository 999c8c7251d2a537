"""Schedules: the learning rate as a pure function of the step, between 0 and 1 of its peak.

`step` counts from 0 after the warm-up, and `total` is the number of steps after it. Beyond `total` a rate stays at its
last value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith.errors import Problem, RecipeError


def linear(step: int, total: int, *, floor: float = 0.0) -> float:
    """Down in a straight line from 1 at step 0 to `floor` at step `total`.

    >>> linear(5, 10)
    0.5
    """
    _check((0 <= floor < 1, f"floor = {floor} is not at least 0 and below 1"))
    return floor + (1 - floor) * (1 - _share(step, total))


def constant(step: int, total: int) -> float:
    """The peak rate throughout."""
    return 1.0


def cosine(step: int, total: int, *, cycles: int = 1, cycle_growth: float = 1.0, floor: float = 0.0) -> float:
    """Down along half a cosine to `floor`, in `cycles` that each start at the peak (Loshchilov & Hutter 2017).

    Each cycle is `cycle_growth` times as long as the one before; together they fill the length.

    >>> [round(cosine(step, 8, cycles=2), 3) for step in range(8)]
    [1.0, 0.854, 0.5, 0.146, 1.0, 0.854, 0.5, 0.146]
    """
    _check(
        (0 <= floor < 1, f"floor = {floor} is not at least 0 and below 1"),
        (cycles >= 1, f"cycles = {cycles} is not at least 1"),
        (cycle_growth > 0, f"cycle_growth = {cycle_growth} is not above 0"),
        (cycles > 1 or cycle_growth == 1, f"cycle_growth = {cycle_growth} has no effect on one cycle"),
    )
    length, start = total / sum(cycle_growth**number for number in range(cycles)), 0.0
    for _ in range(cycles - 1):
        if step < start + length:
            break
        start, length = start + length, length * cycle_growth
    return floor + (1 - floor) * (1 + math.cos(math.pi * _share(step - start, length))) / 2


def step(step: int, total: int, *, drops: int = 2, every: float | None = None, factor: float = 0.1) -> float:
    """Times `factor` at each of `drops` equally spaced steps, or `every` such share of the length.

    >>> [step(s, 9, factor=0.5) for s in (0, 2, 3, 5, 6, 8)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    every = 1 / (drops + 1) if every is None and drops >= 1 else every
    _check(
        (drops >= 1, f"drops = {drops} is not at least 1"),
        (every is None or 0 < every < 1, f"every = {every} is not above 0 and below 1"),
        (every is None or drops * every < 1, f"drops = {drops} do not all happen with every = {every}"),
        (0 < factor < 1, f"factor = {factor} is not above 0 and below 1"),
    )
    assert every is not None
    # A step that falls on the border of a drop may miss it by a rounding error.
    dropped = min(drops, math.floor(_share(step, total) / every + 1e-9))
    return float(factor**dropped)


def exponential(step: int, total: int, *, end: float = 0.01) -> float:
    """By the same ratio at every step, from 1 to `end` at step `total`.

    >>> round(exponential(5, 10, end=0.01), 6)
    0.1
    """
    _check((0 < end < 1, f"end = {end} is not above 0 and below 1"))
    return float(end ** _share(step, total))


def inverse_square_root(step: int, total: int, *, timescale: float = 0.1) -> float:
    """Down as 1 / sqrt(time), the form of Vaswani et al. 2017 after their warm-up, which is `timescale` of the length.

    >>> inverse_square_root(30, 100)
    0.5
    """
    _check((timescale > 0, f"timescale = {timescale} is not above 0"))
    return math.sqrt(timescale / (timescale + _share(step, total)))


def polynomial(step: int, total: int, *, power: float = 2.0, floor: float = 0.0) -> float:
    """Down to `floor` as (1 - step / total) to the `power`; 1 is the straight line.

    >>> polynomial(5, 10)
    0.25
    """
    _check(
        (power > 0, f"power = {power} is not above 0"),
        (0 <= floor < 1, f"floor = {floor} is not at least 0 and below 1"),
    )
    return floor + (1 - floor) * float((1 - _share(step, total)) ** power)


def one_cycle(step: int, total: int, *, rise: float = 0.45, start: float = 0.1, end: float = 0.001) -> float:
    """Up from `start` for `rise` of the length, down again as long, then on to `end` (Smith & Topin 2018).

    Three straight lines. It has its own rise: set `train.warmup = "never"`. The momentum stays as it is.

    >>> [round(one_cycle(s, 100), 4) for s in (0, 45, 90, 100)]
    [0.1, 1.0, 0.1, 0.001]
    """
    _check(
        (0 < rise < 0.5, f"rise = {rise} is not above 0 and below 0.5"),
        (0 <= end <= start < 1, f"start = {start} and end = {end} are not 0 <= end <= start < 1"),
    )
    share = _share(step, total)
    if share < 2 * rise:
        return start + (1 - start) * (1 - abs(share - rise) / rise)
    over = (share - 2 * rise) / (1 - 2 * rise)
    return start * (1 - over) + end * over


def slanted_triangular(step: int, total: int, *, cut_frac: float = 0.1, ratio: float = 32.0) -> float:
    """Up from 1 / `ratio` for `cut_frac` of the length, then down to it in a straight line (Howard & Ruder 2018).

    It has its own rise: set `train.warmup = "never"`. Where less than one step is left to rise, it starts at the peak.

    >>> [slanted_triangular(s, 100) for s in (0, 10, 100)]
    [0.03125, 1.0, 0.03125]
    """
    _check(
        (0 < cut_frac < 1, f"cut_frac = {cut_frac} is not above 0 and below 1"),
        (ratio > 1, f"ratio = {ratio} is not above 1"),
    )
    cut = math.floor(total * cut_frac)
    p = step / cut if step < cut else 1 - _share(step - cut, total - cut)
    return (1 + p * (ratio - 1)) / ratio


def plateau(
    step: int,
    total: int,
    scores: Sequence[tuple[int, float]],
    *,
    patience: int = 2,
    factor: float = 0.5,
    threshold: float = 0.0,
    floor: float = 0.0,
) -> float:
    """Times `factor` whenever `patience` evaluations in a row brought no score better than the best by `threshold`.

    `scores` are the (step, value) pairs known at this step, oldest first, higher is better; NaN is no better score.

    >>> [plateau(0, 10, [(1, 0.5), (2, 0.4), (3, 0.5), (4, 0.6)][:known]) for known in range(5)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """
    _check(
        (patience >= 1, f"patience = {patience} is not at least 1"),
        (0 < factor < 1, f"factor = {factor} is not above 0 and below 1"),
        (threshold >= 0, f"threshold = {threshold} is not at least 0"),
        (0 <= floor < 1, f"floor = {floor} is not at least 0 and below 1"),
    )
    best, since, level = -math.inf, 0, 1.0
    for _, value in scores:
        if value > best + threshold:
            best, since = value, 0
        else:
            since += 1
        if since == patience:
            level, since = level * factor, 0
    return max(floor, level)


def _share(step: float, total: float) -> float:
    """How much of the length is over, between 0 and 1."""
    return min(1.0, max(0.0, step / total)) if total > 0 else 1.0


def _check(*conditions: tuple[bool, str]) -> None:
    """Raise one RecipeError that holds every condition not met."""
    problems = [Problem(f'"train.schedule": {what}', "recipe") for met, what in conditions if not met]
    if problems:
        raise RecipeError(problems)
