"""Changes of a table's row: numbers with noise, columns that count as missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MISSING, ABSENT = "missing", 0
"""The part of a number that tells that it is missing, and the code of a category that is."""


@dataclass(frozen=True)
class Layout:
    """Which column each number belongs to, and which of its parts it is."""

    columns: np.ndarray
    """Number -> its column, counted from 0."""
    is_value: np.ndarray
    is_missing: np.ndarray

    @classmethod
    def of(cls, numbers: list[tuple[str, str]]) -> Layout:
        """Of what stands in `numbers`: the column and the part."""
        names = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in numbers))}
        parts = [part for _, part in numbers]
        return cls(
            np.array([names[name] for name, _ in numbers], np.int64),
            np.array([part == "value" for part in parts], bool),
            np.array([part == MISSING for part in parts], bool),
        )


@dataclass(frozen=True)
class Cells:
    """A row as a net reads it: numbers, of the size that a net wants, and codes of categories."""

    numbers: np.ndarray
    codes: np.ndarray
    layout: Layout


def noisy(cells: Cells, random: np.random.Generator, noise: float) -> Cells:
    """Gaussian noise of this standard deviation on the values of numbers that are there; a number's quartiles are one
    apart."""
    lots = random.standard_normal(len(cells.numbers)).astype(np.float32)
    absent = np.isin(cells.layout.columns, cells.layout.columns[cells.layout.is_missing & (cells.numbers > 0)])
    return Cells(cells.numbers + noise * lots * (cells.layout.is_value & ~absent), cells.codes, cells.layout)


def dropped(cells: Cells, random: np.random.Generator, drop: float) -> Cells:
    """Each column counts as missing with this probability, but never all: its numbers as the encoder writes what is
    missing, and so its code."""
    num_numbers = int(cells.layout.columns.max(initial=-1)) + 1
    gone = random.random(num_numbers + len(cells.codes)) < drop
    if gone.all():
        gone[random.integers(len(gone))] = False
    out = gone[cells.layout.columns]
    numbers = np.where(out, cells.layout.is_missing.astype(np.float32), cells.numbers)
    return Cells(numbers, np.where(gone[num_numbers:], ABSENT, cells.codes), cells.layout)
