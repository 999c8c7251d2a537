"""The space of a search: ranges of fields of the recipe, arms that hold them, and a draw made whole as settings."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.duration import Duration
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.check import CHOICES, name_choices
from tunesmith.recipe.schema import Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Kind = Literal["parameters", "architecture", "training"]
TRIALS_PER_RANGE = 3
"""So many trials must fit for each range that is searched; ranges of less weight keep their defaults."""
RATE, EDITS = "train.lr", "model.edits"

KINDS: dict[str, Kind] = {
    "model.edits.dropout": "parameters",
    "model.edits.reinit": "training",
    "model": "architecture",
    "strategy": "training",
    "objective": "parameters",
    "data.augment": "training",
    "data.sampler": "training",
}
"""Field -> what kind of tuning it is; all others are parameters."""


@dataclass(frozen=True)
class Range:
    """What one field of the recipe may be: one of `choices`, or a number from `low` to `high`."""

    path: str
    """Dotted: `train.batch`, `strategy.rank`, `train.lr.full` (the rate of a phase)."""
    kind: Kind
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Drawn evenly in the logarithm."""
    whole: bool = False
    """Whole numbers only."""
    unit: str = ""
    """Of a length: `epochs`, `steps`, `%`."""
    relative: bool = False
    """The number is a multiple of what the recipe resolves to."""
    default: float | None = None
    """Of a number, where it is not the middle; of choices it is the first."""
    priority: int = 2
    """1 matters most; 0 was asked for, and is never left out."""
    only: tuple[str, ...] = ()
    """The names of the choice above it beside which it has an effect; empty: it always has."""

    @property
    def above(self) -> str:
        """The path of the choice that it is an option of."""
        return self.path.rpartition(".")[0]

    def first(self) -> Any:
        """What the first trial draws."""
        if self.choices:
            return label(self.choices[0])
        if self.default is not None:
            return self.default
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if self.whole else middle

    def value(self, drawn: Any) -> Any:
        """What is written into the recipe for a draw; a relative one is still a multiple."""
        if self.choices:
            return copy.deepcopy(next(choice for choice in self.choices if label(choice) == drawn))
        number = int(drawn) if self.whole else _rounded(drawn)
        return f"{number} {self.unit}" if self.unit else number

    def ends(self) -> tuple[Any, ...]:
        """The values that stand for all of it: each choice, or the least and the most."""
        return self.choices or tuple(self.value(drawn) for drawn in (self.low, self.high))


@dataclass(frozen=True)
class Arm:
    """What is searched by itself: a strategy with an objective and a backbone, and the ranges that go with them."""

    name: str
    settings: Mapping[str, Any]
    """Path -> value: what makes it this arm, and what was fixed."""
    ranges: tuple[Range, ...] = ()
    promise: float = 0.0
    """The share of the errors of a head on the frozen body that it took away elsewhere (bench/LOG.md)."""

    def within(self, num_trials: int) -> Arm:
        """The arm with the few ranges that matter most, where few trials fit: one for every three, at least one; those
        that were asked for stay."""
        most = max(1, num_trials // TRIALS_PER_RANGE)
        ordered = sorted((r for r in self.ranges if r.priority), key=lambda r: r.priority)[:most]
        kept = [r for r in self.ranges if not r.priority or r in ordered]
        # An option of a choice that is drawn no more stays where the choice's default has it.
        names = {r.path: name_of(r.choices[0]) for r in self.ranges if r not in kept and r.choices}
        fitting = [r for r in kept if r.above not in names or not r.only or names[r.above] in r.only]
        return replace(self, ranges=tuple(replace(r, only=()) if r.above in names else r for r in fitting))

    def draw(self, suggest: Callable[[Range], Any]) -> dict[str, Any]:
        """Path -> what `suggest` draws of each range; a range that would have no effect beside what is drawn before it
        is not asked for."""
        drawn: dict[str, Any] = {}
        for asked in self._ordered():
            if self.applies(asked.path, drawn):
                drawn[asked.path] = suggest(asked)
        return drawn

    def distributions(self) -> dict[str, BaseDistribution]:
        """Path -> the range as Optuna knows it; a choice stands before its options."""
        return {asked.path: distribution(asked) for asked in self._ordered()}

    def applies(self, path: str, drawn: Mapping[str, Any]) -> bool:
        """Whether the range of a path has an effect beside the choices that are drawn."""
        ranges = {r.path: r for r in self.ranges}
        asked = ranges[path]
        above = ranges.get(asked.above)
        if not asked.only or above is None:
            return True
        return name_of(above.value(drawn.get(above.path, above.first()))) in asked.only

    def _ordered(self) -> list[Range]:
        return sorted(self.ranges, key=lambda r: bool(r.only))

    def first(self) -> dict[str, Any]:
        """The draw of the first trial: the published defaults."""
        return self.draw(Range.first)


def label(choice: Any) -> Any:
    """A choice as Optuna keeps it: itself where it is plain, else as JSON."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else json.dumps(choice)


def name_of(choice: Any) -> str | None:
    """What a choice of the recipe is called."""
    return choice.get("name") if isinstance(choice, Mapping) else choice


def distribution(asked: Range) -> BaseDistribution:
    """The range as Optuna knows it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if asked.choices:
        return CategoricalDistribution([label(choice) for choice in asked.choices])
    if asked.whole:
        return IntDistribution(int(asked.low), int(asked.high), log=asked.log)
    return FloatDistribution(asked.low, asked.high, log=asked.log)


def whole(arm: Arm, params: Mapping[str, Any], recipe: Recipe, fill: Callable[[Recipe], Recipe]) -> dict[str, Any]:
    """The settings of a trial: path -> value, nothing left relative.

    `params`: what was drawn of the arm's ranges. `fill` gives a recipe with every "auto" that facts decide (see
    `recipe/resolve.py`): a multiple is of the rate that is published for this very optimizer, batch and phase."""
    drawn = [(r, params[r.path]) for r in arm.ranges if r.path in params and arm.applies(r.path, params)]
    rates = [(r, number) for r, number in drawn if covers([RATE], r.path)]
    relative = [(r, number) for r, number in drawn if r.relative and not covers([RATE], r.path)]
    settings = dict(arm.settings)
    plain = [(r, r.value(found)) for r, found in drawn if not r.relative and not covers([RATE], r.path)]
    # An edit that is not made and an option that is not given are left out.
    inner = (*CHOICES, EDITS)
    settings |= {r.path: value for r, value in plain if value is not None or r.above not in inner}
    if rates or relative:
        resolved = fill(with_settings(recipe, settings))
        settings |= {r.path: _times(_get(resolved, r.path), number) for r, number in relative}
        settings |= {RATE: _rates(resolved.train.lr, rates)} if rates else {}
    return settings


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with these fields set: path -> value; RecipeError where one does not fit."""
    tree: dict[str, Any] = recipe.model_dump(exclude_unset=True)
    # What lies above first; and blocks that go have gone before another edit looks for the top one.
    for path in sorted(settings, key=lambda path: (not path.startswith(f"{EDITS}.trim"), path.count("."))):
        recipe_file.put(tree, path, copy.deepcopy(settings[path]))
    return recipe_file.build(name_choices(tree))


def _rates(resolved: Any, drawn: Sequence[tuple[Range, float]]) -> float | dict[str, float]:
    """The rate, or one for each phase, with what was drawn of it or of its phases."""
    rates: Any = dict(resolved) if isinstance(resolved, dict) else resolved
    for asked, number in drawn:
        phase = asked.path.removeprefix(RATE).removeprefix(".")
        if not isinstance(rates, dict):
            rates = rates * number if asked.relative else number
            continue
        for name in [phase] if phase else list(rates):
            rates[name] = rates[name] * number if asked.relative else number
    return {name: _rounded(rate) for name, rate in rates.items()} if isinstance(rates, dict) else _rounded(rates)


def _times(value: Any, multiple: float) -> Any:
    """A number or a length, so many times; a length is at least one whole epoch or step."""
    if not isinstance(value, str):
        return _rounded(value * multiple)
    length = Duration.parse(value)
    return str(Duration(max(1, round(length.amount * multiple)), length.unit))


def _rounded(number: float) -> float:
    """Two significant digits: no search can tell more apart."""
    return float(f"{number:.2g}")


def _get(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for part in path.split("."):
        value = getattr(value, part)
    return value


def covers(paths: Iterable[str], path: str) -> bool:
    """Whether one of `paths` is `path` or lies above it.

    >>> covers(["train.lr"], "train.lr.full"), covers(["train.lr"], "train.lrs")
    (True, False)
    """
    return any(path == other or path.startswith(f"{other}.") for other in paths)


def kind_of(path: str) -> Kind:
    """What kind of tuning a field is part of."""
    return next((kind for field, kind in KINDS.items() if covers([field], path)), "parameters")
