"""The space that a person asks for: `search.space` as ranges and fixed settings, checked field by field."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tunesmith import plugins
from tunesmith.duration import Duration
from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.recipe.check import CHOICES, check_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.study.space import RATE, Range, covers, kind_of, name_of, with_settings

FIELDS = (
    *("objective", "strategy", "data.augment", "data.sampler", "data.max_length", "model.name", "model.head"),
    *("train.length", "train.batch", "train.lr", "train.optimizer", "train.schedule", "train.warmup", "train.clip"),
    *("train.penalty", "train.average", "train.patience", "train.precision"),
)
"""What may be searched, beside the options of a choice, of a network from nothing and of edits."""
OF_AN_ARM = ("strategy", "objective", "model.name")
"""Lists of these make arms, each of which is searched by itself."""
WRITE = "write { low = 1e-5, high = 1e-3, log = true }, a list of values, or one value"


@dataclass(frozen=True)
class Asked:
    """What a person says of the space."""

    fixed: Mapping[str, Any]
    """Path -> the one value that it has in every trial."""
    ranges: tuple[Range, ...]
    arms: Mapping[str, tuple[Any, ...]]
    """`strategy`, `objective` or `model.name` -> the values that make an arm each."""


def asked_space(recipe: Recipe) -> Asked:
    """`search.space` of the recipe; RecipeError with every path that is no field, and every range that is none."""
    problems: list[Problem] = []
    ranges: list[Range] = []
    fixed: dict[str, Any] = {}
    arms: dict[str, tuple[Any, ...]] = {}
    for path, said in recipe.search.space.items():
        try:
            _check_path(path, recipe)
            read = _read(path, said)
            if isinstance(read, Range):
                ranges.append(read)
            elif path in OF_AN_ARM and isinstance(said, list):
                arms[path] = tuple(said)
            else:
                fixed[path] = read
        except RecipeError as error:
            problems += error.problems
    found = Asked(fixed, tuple(ranges), arms)
    if problems := problems or list(_refused(recipe, found)):
        raise RecipeError(problems)
    return found


def _where(path: str) -> str:
    return f'search.space."{path}"'


def _check_path(path: str, recipe: Recipe) -> None:
    """RecipeError unless the path is of a field that may be searched."""
    known = {*FIELDS, *_options()}
    free = covers([RATE], path) or (covers(["model.options"], path) and not recipe.model.name.startswith("new:"))
    if path in known or (free and path.count(".") == 2):
        return
    fields = {*_fields(Recipe)} - {*FIELDS, "model.options", "model.edits"}
    if covers(fields, path):
        remedy = "leave it out of search.space, and set the field itself; what may be searched: docs/space.md"
        raise RecipeError("no search changes this: trials would not be judged alike", where=_where(path), remedy=remedy)
    raise RecipeError("is no field or option of a recipe", where=_where(path), remedy=nearest(path, known))


@functools.cache
def _options() -> frozenset[str]:
    """Every option of every choice, network from nothing and edit, as a path."""
    above = {field: kind for field, kind in CHOICES.items() if field in FIELDS} | {"model.options": "net"}
    found = {f"{field}.{option}" for field, kind in above.items() for option in _all_options(kind)}
    edits = {f"model.edits.{name}" for name in plugins.names("edit")}
    of_edits = {f"model.edits.{n}.{o}" for n in plugins.names("edit") for o in plugins.options(plugins.get("edit", n))}
    return frozenset(found | edits | of_edits)


def _all_options(kind: str) -> set[str]:
    return {option for name in plugins.names(kind) for option in plugins.options(plugins.get(kind, name))}


def _fields(part: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted fields of the recipe."""
    for name, field in part.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Choice:
            yield from _fields(kind, f"{above}{name}.")
        else:
            yield above + name


def _read(path: str, said: Any) -> Any:
    """A Range, or the one value that is meant; a list of the values of an arm as it is."""
    if isinstance(said, list):
        if not said:
            raise RecipeError("is an empty list", where=_where(path), remedy=WRITE)
        several = len(said) > 1 and path not in OF_AN_ARM
        return Range(path, kind_of(path), tuple(said), priority=0, only=_names_with(path)) if several else said[0]
    if not isinstance(said, Mapping) or not {"low", "high"} & {*said}:
        return said
    if unknown := [key for key in said if key not in ("low", "high", "log")]:
        raise RecipeError(f'"{unknown[0]}" says nothing of a range', where=_where(path), remedy=WRITE)
    if "low" not in said or "high" not in said:
        raise RecipeError("a range has both low and high", where=_where(path), remedy=WRITE)
    return _range(path, said["low"], said["high"], said.get("log", False))


def _range(path: str, low: Any, high: Any, log: Any) -> Range:
    """The range from `low` to `high`, both numbers or both lengths of one unit."""
    where, unit = _where(path), ""
    whole = all(isinstance(end, int) for end in (low, high))
    if isinstance(low, str) and isinstance(high, str):
        try:
            ends = [Duration.parse(end) for end in (low, high)]
        except ValueError as error:
            raise RecipeError(str(error), where=where, remedy=WRITE) from None
        if ends[0].unit != ends[1].unit:
            raise RecipeError(f'"{low}" and "{high}" are of two units', where=where, remedy="use one of them")
        unit, low, high = ends[0].unit, ends[0].amount, ends[1].amount
        whole = True
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        raise RecipeError(f"{low!r} to {high!r} is no range of numbers", where=where, remedy=WRITE)
    if not isinstance(log, bool):
        raise RecipeError(f"log = {log!r} is neither true nor false", where=where, remedy=WRITE)
    if not low < high:
        raise RecipeError(f"low = {low} is not below high = {high}", where=where, remedy="exchange them")
    if log and low <= 0:
        raise RecipeError(f"low = {low} has no logarithm", where=where, remedy="begin above 0, or leave log out")
    numbers = {"low": low, "high": high, "log": log, "whole": whole, "unit": unit}
    return Range(path, kind_of(path), **numbers, priority=0, only=_names_with(path))


def _names_with(path: str) -> tuple[str, ...]:
    """The names of the choice above a path that have it as an option; none where it is a field of its own."""
    above, _, option = path.rpartition(".")
    kind = CHOICES.get(above)
    if kind is None:
        return ()
    return tuple(n for n in plugins.names(kind) if option in plugins.options(plugins.get(kind, n)))


def _refused(recipe: Recipe, asked: Asked) -> Iterator[Problem]:
    """What the recipe's own check says of each end of each range, and of what is fixed."""
    values: list[tuple[str, Any, tuple[str, ...]]] = [(path, value, ()) for path, value in asked.fixed.items()]
    values += [(path, value, ()) for path, several in asked.arms.items() for value in several]
    values += [(r.path, value, r.only) for r in asked.ranges for value in r.ends()]
    menus = {r.path: r.choices for r in asked.ranges} | dict(asked.arms)
    for path, value, only in values:
        above = path.rpartition(".")[0]
        beside = next((choice for choice in menus.get(above, ()) if name_of(choice) in only), None)
        # Whether an arm draws a choice that has the option is the arms' to say.
        settings = {above: beside or {"name": only[0]}, path: value} if only else {path: value}
        if covers([RATE], path) and path != RATE:
            settings = {RATE: {path.removeprefix(f"{RATE}."): value}}
        try:
            check_recipe(with_settings(recipe, dict(asked.fixed) | settings))
        except RecipeError as error:
            yield from (Problem(problem.what, _where(path), problem.remedy) for problem in error.problems)
