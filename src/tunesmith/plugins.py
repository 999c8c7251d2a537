"""The one registry, the folder: a large thing is a file with one fixed public name, a small thing is a function."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import RecipeError, nearest


@dataclass(frozen=True)
class Kind:
    """Where plug-ins of one kind live: `module` is a package of files that each define `attribute`, or a module
    of functions when `attribute` is empty. Others install theirs under the entry-point group `tunesmith.<kind>`."""

    module: str
    attribute: str = ""


KINDS = {
    "strategy": Kind("tunesmith.strategies", "plan"),
    "task": Kind("tunesmith.tasks", "TASK"),
    "objective": Kind("tunesmith.objectives", "objective"),
    "source": Kind("tunesmith.data.sources", "read"),
    "loader": Kind("tunesmith.models.loaders", "load"),
    "split": Kind("tunesmith.data.splits"),
    "head": Kind("tunesmith.models.heads"),
    "optimizer": Kind("tunesmith.training.optimizers"),
    "schedule": Kind("tunesmith.training.schedules"),
    "metric": Kind("tunesmith.evaluation.metrics"),
    "baseline": Kind("tunesmith.evaluation.baselines"),
}


def names(kind: str) -> list[str]:
    """The names of a kind, sorted: what ships, then what installed packages add."""
    return sorted({*_shipped(kind), *(entry.name for entry in _installed(kind))})


def get(kind: str, name: str) -> Any:
    """The thing itself; RecipeError with the nearest right word when there is none of that name."""
    place = KINDS[kind]
    if name in _shipped(kind):
        if place.attribute:
            return getattr(importlib.import_module(f"{place.module}.{name}"), place.attribute)
        return getattr(importlib.import_module(place.module), name)
    for entry in _installed(kind):
        if entry.name == name:
            try:
                return entry.load()
            except (ImportError, AttributeError) as error:
                what = f'the {kind} "{name}" is installed but cannot be loaded: {error}'
                raise RecipeError(what, where=entry.value, remedy="mend or remove the package it comes from") from None
    raise RecipeError(f'no {kind} is called "{name}"', remedy=nearest(name, names(kind)))


def options(thing: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a function: its keyword-only parameters, by name. Their one source is the signature."""
    parameters = inspect.signature(thing, eval_str=True).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def describe(kind: str, name: str) -> str:
    """The first sentence of the thing's documentation."""
    thing = get(kind, name)
    text = thing.about if hasattr(thing, "about") else inspect.getdoc(thing) or ""
    return str(text).strip().split("\n")[0]


def _shipped(kind: str) -> list[str]:
    place = KINDS[kind]
    module = importlib.import_module(place.module)
    if place.attribute:
        found = [info.name for info in pkgutil.iter_modules(module.__path__)]
        return [name for name in found if hasattr(importlib.import_module(f"{place.module}.{name}"), place.attribute)]
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == place.module and not name.startswith("_")
    ]


def _installed(kind: str) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=f"tunesmith.{kind}"))
