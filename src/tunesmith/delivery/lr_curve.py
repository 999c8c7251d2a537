"""The curve of a learning-rate range test: the loss while the rate rises, and the rate that it suggests.

Smith 2017 (Cyclical learning rates for training neural networks, section 3.3) raises the rate and watches the loss; the
smoothing, the end at four times the least loss, and both rules are those of fastai (Howard & Gugger 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
"""The rate rises from the lowest to the highest, by the same factor a step (fastai's range and number)."""
SMOOTHING = 0.9
"""The weight of the past in the smoothed loss. fastai takes 0.98: its memory of 50 steps is half of this range."""
EXPLODED = 4.0
"""The loss has exploded when it is, smoothed, so many times the least so far."""
STILL = 20
"""The first steps, up to a rate of about 3e-6, in which next to nothing moves: their mean is the loss to beat, and
their spread is that of batches."""
SKIPPED = 10
"""The rules leave out the first tenth, whose average is over few steps."""


@dataclass(frozen=True)
class Curve:
    """The test of one phase. `steepest` and `tenth` are learning rates, None where the curve does not show one."""

    phase: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Of the batch of each step, before the step."""
    steepest: float | None = None
    """Where the smoothed loss falls fastest, by the logarithm of the rate."""
    tenth: float | None = None
    """A tenth of the rate at which the smoothed loss is least."""
    note: str = ""
    """What the curve does not show, and why."""

    @property
    def smooth(self) -> tuple[float, ...]:
        return smoothed(self.losses)

    @property
    def start(self) -> float:
        """The mean loss while the rate is too low to move anything."""
        return float(np.mean(self.losses[:STILL])) if self.losses else math.nan

    @property
    def suggested(self) -> float | None:
        """The smaller of the two, in two digits; None where there is neither."""
        found = [rate for rate in (self.steepest, self.tenth) if rate is not None]
        return float(f"{min(found):.1e}") if found else None


def read_curve(phase: str, rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """The curve with what it suggests: nothing where the loss never falls by more than batches differ."""
    curve = Curve(phase, tuple(rates), tuple(losses))
    if len(losses) <= STILL:
        return replace(curve, note=f"the loss is not a number after {len(losses)} steps")
    smooth, start, spread = curve.smooth, curve.start, float(np.std(losses[:STILL]))
    least = SKIPPED + int(np.argmin(smooth[SKIPPED:]))
    # Four times the standard error of the difference between a smoothed loss and the mean of the first steps.
    noise = 4 * spread * math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING) + 1 / STILL)
    drop = start - smooth[least]
    if not drop > max(noise, 0.01 * abs(start)):
        note = f"the smoothed loss falls by {max(drop, 0):.2g} at most, and batches differ by {spread:.2g}"
        return replace(curve, note=note)
    slopes = np.gradient(smooth, np.log10(rates))
    curve = replace(curve, steepest=rates[SKIPPED + int(np.argmin(slopes[SKIPPED : least + 1]))])
    if least >= STEPS - 3:
        return replace(curve, note=f"the loss still falls at {rates[-1]:.1e}: its least value is not known")
    return replace(curve, tenth=rates[least] / 10)


def rate_at(step: int) -> float:
    """The learning rate of a step of the test.

    >>> [f"{rate_at(step):.2g}" for step in (0, 49, 50, 99)]
    ['1e-07', '0.00091', '0.0011', '10']
    """
    return float(LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)))


def exploded(losses: Sequence[float]) -> bool:
    """Whether the newest smoothed loss is over four times the least, and above every loss of the first steps: of a
    fitted head's small losses one batch may well be four times another."""
    if len(losses) <= STILL:
        return False
    smooth = smoothed(losses)
    rise = smooth[-1] - min(smooth)
    return rise > (EXPLODED - 1) * abs(min(smooth)) and smooth[-1] > max(losses[:STILL])


def smoothed(losses: Sequence[float]) -> tuple[float, ...]:
    """The exponential moving average, divided by the sum of its weights so that it is right from the first step on.

    >>> [round(value, 3) for value in smoothed([2.0, 2.0, 1.0])]
    [2.0, 2.0, 1.631]
    """
    found, average = [], 0.0
    for count, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**count))
    return tuple(found)
