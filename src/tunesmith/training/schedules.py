"""Schedules: the learning rate as a pure function of the step, between 0 and 1 of its peak."""

from __future__ import annotations


def linear(step: int, total: int, *, floor: float = 0.0) -> float:
    """Down in a straight line from 1 at step 0 to `floor` at step `total`.

    >>> linear(5, 10)
    0.5
    """
    return floor + (1 - floor) * max(0.0, 1 - step / max(1, total))


def constant(step: int, total: int) -> float:
    """The peak rate throughout."""
    return 1.0
