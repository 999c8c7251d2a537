"""A length with its unit: `"3 epochs"`, `"500 steps"`, `"10 %"` of the whole, or `"never"`; and a time, `"20m"`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_FORM = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(epoch|epochs|step|steps|%)\s*$")
_TIME = re.compile(r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?$")


def seconds_of(text: str) -> float:
    """The seconds of a time: `"90s"`, `"20m"` or `"20min"`, `"1h30m"`; ValueError otherwise, and for none at all.

    >>> seconds_of("1h30m")
    5400.0
    """
    found = _TIME.match(text.replace(" ", ""))
    parts = [float(part or 0) for part in found.groups()] if found else []
    if not any(parts):
        raise ValueError(f'"{text}" is no time; write "90s", "20m" or "1h30m"')
    hours, minutes, seconds = parts
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True)
class Duration:
    """`amount` epochs, steps or percent of the whole; an amount of 0 is `"never"`."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `"3 epochs"`, `"0.5 epochs"`, `"500 steps"`, `"10 %"`, `"never"`; ValueError otherwise.

        >>> Duration.parse("2 epochs").steps(steps_per_epoch=150)
        300
        """
        if text.strip() == "never":
            return cls(0, "steps")
        found = _FORM.match(text)
        if not found:
            raise ValueError(f'"{text}" is no length; write "3 epochs", "500 steps", "10 %" or "never"')
        amount, unit = float(found[1]), "%" if found[2] == "%" else found[2].rstrip("s") + "s"
        if unit == "steps" and amount != int(amount):
            raise ValueError(f'"{text}": steps are whole')
        return cls(amount, unit)

    def steps(self, *, steps_per_epoch: int, total: int = 0) -> int:
        """The length in optimizer steps (`total` is the whole that "%" refers to), at least 1 unless "never" (0)."""
        if self.amount == 0:
            return 0
        scale = {"epochs": steps_per_epoch, "%": total / 100, "steps": 1}[self.unit]
        return max(1, math.ceil(self.amount * scale - 1e-9))

    def __str__(self) -> str:
        if self.amount == 0:
            return "never"
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        if self.unit == "%":
            return f"{amount} %"
        return f"{amount} {self.unit if amount != 1 else self.unit[:-1]}"
