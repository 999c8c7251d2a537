"""The errors made for people: each names what is wrong, where, and what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `what`, `where` it was seen (file, row, key), and the `remedy`."""

    what: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  -> {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class TunesmithError(Exception):
    """The recipe, the data, the model or the machine is at fault (exit code 1); holds every problem found."""

    def __init__(self, problems: str | Problem | Sequence[Problem], *, where: str = "", remedy: str = "") -> None:
        if isinstance(problems, str):
            problems = Problem(problems, where, remedy)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RecipeError(TunesmithError):
    """What was asked for cannot be done as it is written."""


class DataError(TunesmithError):
    """The person's data cannot be used as it is."""


class ModelError(TunesmithError):
    """The pretrained model cannot be loaded or does not fit the task."""


class MachineError(TunesmithError):
    """The machine lacks something: a device, disk space, an installed package."""


class Interrupted(Exception):
    """The run was asked to stop and has saved itself; `code` is the exit status (130 Ctrl-C, 75 SIGTERM)."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


def nearest(word: str, words: Iterable[str]) -> str:
    """A remedy that names the nearest right word, or all of them where none is near.

    >>> nearest("stratgy", ["strategy", "seed"])
    'did you mean "strategy"?'
    """
    known = sorted(words)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if found:
        return f'did you mean "{found[0]}"?'
    return f"one of: {', '.join(known)}" if known else "nothing is allowed here"
