"""Drawings of the report before they are drawn: what stands where, on a ground 360 wide, which a phone shows whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from tunesmith.delivery.drawing import fitting, ticks

WIDTH = 360
LETTER = 6.2
"""Of a letter on the average, at the size of the labels."""


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` lie at places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    whole: bool = False
    """Whether only whole numbers are marked."""
    log: bool = False
    """Whether places go by the logarithm, of numbers above 0."""

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and words of round numbers, no more than fit."""
        found = [value for value in self._round() if not self.whole or value == round(value)]
        room = 46 if self.end > self.start else 22
        step = max(1, math.ceil(len(found) * room / abs(self.end - self.start)))
        return [(self(value), f"{value:,g}") for value in found[::step]]

    def _round(self) -> list[float]:
        """By the logarithm 1, 2, 5, 10 ... or only 1, 10 ... where it spans much; evenly where it spans little."""
        if self.log and self.high > 4 * self.low:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = (1,) if self.high > 300 * self.low else (1, 2, 5)
            every = [float(f"{digit}e{power}") for power in powers for digit in digits]
            return [value for value in every if self.low <= value <= self.high]
        return ticks(self.low, self.high)


def spanning(values: Sequence[float], start: float, end: float, room: float = 0.05) -> Scale:
    """The scale on which all values lie, with some room on both sides."""
    low, high = min(values), max(values)
    reach = (high - low) * room or abs(high) * room or 0.5
    return Scale(low - reach, high + reach, start, end)


@dataclass(frozen=True)
class Interval:
    """A value with its interval; `strong` for the model itself."""

    name: str
    text: str
    value: float
    low: float
    high: float
    strong: bool = False


@dataclass(frozen=True)
class Intervals:
    """Intervals one below the other; `zero` is drawn as a line."""

    rows: Sequence[Interval]
    zero: float | None = None
    kind: ClassVar[str] = "intervals"
    row: ClassVar[int] = 36

    @property
    def x(self) -> Scale:
        known = [value for row in self.rows for value in (row.low, row.high, row.value)]
        return spanning([*known, *([] if self.zero is None else [self.zero])], 8, WIDTH - 8)

    @property
    def height(self) -> int:
        return self.row * len(self.rows) + 26


@dataclass(frozen=True)
class Series:
    """A line through points (x, y), or with `spread` points that have intervals (low, high); `more` are further lines
    of the same look, and points that are not `joined` are marks alone."""

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[tuple[float, float]] = ()
    marks: bool = False
    more: Sequence[Sequence[tuple[float, float]]] = ()
    joined: bool = True

    @property
    def lines(self) -> list[Sequence[tuple[float, float]]]:
        return [self.points, *self.more]


@dataclass(frozen=True)
class Lines:
    """Lines over one abscissa; `borders` are drawn from top to bottom, `diagonal` is where y = x."""

    series: Sequence[Series]
    abscissa: str
    ordinate: str
    borders: Sequence[float] = ()
    diagonal: str = ""
    unit: bool = False
    """Whether both run from 0 to 1."""
    whole: bool = False
    """Whether the abscissa counts something."""
    log: bool = False
    """Whether the abscissa, above 0, goes by the logarithm."""
    kind: ClassVar[str] = "lines"

    @property
    def x(self) -> Scale:
        values = [x for series in self.series for line in series.lines for x, _ in line]
        if self.log:
            room = max((max(values) / min(values)) ** 0.05, 1.05)
            return Scale(min(values) / room, max(values) * room, 48, WIDTH - 10, log=True)
        found = Scale(0, 1, 48, WIDTH - 10) if self.unit else spanning(values, 48, WIDTH - 10, 0.02)
        return replace(found, whole=self.whole)

    @property
    def y(self) -> Scale:
        values = [y for series in self.series for line in series.lines for _, y in line]
        values += [end for series in self.series for ends in series.spread for end in ends]
        return Scale(0, 1, self.bottom, self.top) if self.unit else spanning(values, self.bottom, self.top)

    @property
    def legend(self) -> list[str]:
        names = [fitting(series.name, 52) for series in self.series] if len(self.series) > 1 or self.diagonal else []
        return [*names, *[self.diagonal] * bool(self.diagonal)]

    @property
    def top(self) -> int:
        return 24 + 16 * len(self.legend)

    @property
    def bottom(self) -> int:
        return self.top + (300 if self.unit else 170)

    @property
    def height(self) -> int:
        return self.bottom + 40

    @property
    def ends(self) -> tuple[float, float]:
        """Between which numbers the diagonal runs."""
        return max(self.x.low, self.y.low), min(self.x.high, self.y.high)


@dataclass(frozen=True)
class Matrix:
    """Counts of true labels (rows) by predicted ones (columns)."""

    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    abscissa: str
    ordinate: str
    kind: ClassVar[str] = "matrix"

    @property
    def names(self) -> list[str]:
        """The labels as they are drawn: what is long is cut in its middle, for its end may tell it from others."""
        return [label if len(label) <= 15 else f"{label[:8]}…{label[-6:]}" for label in self.labels]

    @property
    def widest(self) -> float:
        """Of the names, in heights of a letter; Chinese letters are as wide as high."""
        return max(sum(1.0 if ord(letter) > 0x2E80 else 0.62 for letter in name) for name in self.names)

    @property
    def size(self) -> float:
        """Of the letters of the names: four fifths of a cell."""
        return min(11.5, 0.8 * (WIDTH - 30) / (len(self.labels) + 0.8 * self.widest))

    @property
    def left(self) -> float:
        return 24 + self.size * self.widest

    @property
    def cell(self) -> float:
        return min(48, (WIDTH - 6 - self.left) / len(self.labels))

    @property
    def top(self) -> float:
        return self.left + 8

    @property
    def height(self) -> float:
        return self.top + self.cell * len(self.labels) + 6

    @property
    def figures(self) -> bool:
        """Whether counts fit into the cells."""
        most = max(count for row in self.counts for count in row)
        return self.cell >= LETTER * len(str(most)) + 4

    def share(self, row: int, column: int) -> float:
        """Of the rows with this true label."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))


@dataclass(frozen=True)
class Move:
    """A stage that moves from one step to another, at a rate; `strength` is between 0 and 1."""

    row: int
    start: float
    end: float
    rate: str
    strength: float


@dataclass(frozen=True)
class Stages:
    """Which stages move when: stages from top to bottom, steps from left to right."""

    names: Sequence[str]
    moves: Sequence[Move]
    steps: int
    abscissa: str
    borders: Sequence[float] = ()
    kind: ClassVar[str] = "stages"
    row: ClassVar[int] = 20

    @property
    def left(self) -> float:
        return 12 + LETTER * max(len(name) for name in self.names)

    @property
    def x(self) -> Scale:
        return Scale(0, max(1, self.steps), self.left, WIDTH - 10, whole=True)

    @property
    def height(self) -> int:
        return self.row * len(self.names) + 44


@dataclass(frozen=True)
class Bars:
    """Shares, one below the other: the name, the words at its end, and how long its bar is."""

    rows: Sequence[tuple[str, str, float]]
    kind: ClassVar[str] = "bars"
    row: ClassVar[int] = 34

    @property
    def x(self) -> Scale:
        return Scale(0, max(share for _, _, share in self.rows) or 1.0, 8, WIDTH - 8)

    @property
    def height(self) -> int:
        return self.row * len(self.rows) + 4


Drawing = Intervals | Lines | Matrix | Stages | Bars
