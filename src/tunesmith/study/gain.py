"""Which arm is worth the next seconds: what it may gain over the best so far, divided by what it will take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith.study.record import Record

BELIEF = 2.0
"""What is believed of an arm before it was tried weighs as much as so many trials."""
DOUBT = 0.3
"""The spread of that belief: this share of what the baseline leaves to be gained."""
PRUNED = 0.5
"""What a trial costs of its whole length, once there are others to prune it by."""
FEW = 3
"""Fewer trials prune nothing."""


def room(score: float, rising: bool) -> float:
    """What a score leaves to be gained: up to 1 for a metric that rises, down to 0 for an error."""
    return max(1.0 - score if rising else score, 1e-6)


def expected_gain(values: Sequence[float], best: float, baseline: float, promise: float, rising: bool) -> float:
    """By how much a further trial of an arm beats the best so far, in expectation (expected improvement: Jones et al.
    1998). Its scores are taken as normal; before it was tried it takes away the share `promise` of the errors of the
    `baseline`, give or take."""
    sign = 1.0 if rising else -1.0
    left = room(baseline, rising)
    believed, doubt = sign * baseline + promise * left, DOUBT * left
    signed, top = [sign * value for value in values], sign * best
    count = BELIEF + len(signed)
    mean = (BELIEF * believed + sum(signed)) / count
    spread = math.sqrt((BELIEF * doubt**2 + sum((value - mean) ** 2 for value in signed)) / count)
    # The more trials an arm has had, the less its next one differs from the best of them.
    spread /= math.sqrt(1 + len(signed) / BELIEF)
    z = (mean - top) / spread
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return spread * (density + z * 0.5 * math.erfc(-z / math.sqrt(2)))


def scores_of(records: Sequence[Record], arm: str) -> list[float]:
    """What an arm's trials came to; one that was pruned counts with the best that it had by then."""
    return [record.value for record in records if record.arm == arm and record.value is not None]


def likely_seconds(seconds: float, num_trials: int) -> float:
    """What a trial of so many seconds takes on average, for some are pruned."""
    return seconds * (PRUNED if num_trials >= FEW else 1.0)
