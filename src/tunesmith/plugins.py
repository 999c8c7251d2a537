"""The one registry, the folder: a large thing is a file with one fixed public name, a small thing is a function."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
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
    "split": Kind("tunesmith.data.splits"),
    "augment": Kind("tunesmith.data.augment"),
    "net": Kind("tunesmith.models.nets"),
    "head": Kind("tunesmith.models.heads"),
    "edit": Kind("tunesmith.models.edits", "edit"),
    "optimizer": Kind("tunesmith.training.optimizers"),
    "clip": Kind("tunesmith.training.clipping"),
    "penalty": Kind("tunesmith.training.penalties"),
    "average": Kind("tunesmith.training.averaging"),
    "schedule": Kind("tunesmith.training.schedules"),
    "observer": Kind("tunesmith.training.trackers"),
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
    """The first sentence of the thing's documentation; of what ships it is read without importing the thing."""
    return _shipped(kind).get(name) or (inspect.getdoc(get(kind, name)) or "").strip().split("\n")[0]


@functools.cache
def _shipped(kind: str) -> dict[str, str]:
    """Name -> first sentence of what ships, in the order of the source: read, not imported, because torch is slow."""
    place = KINDS[kind]
    package, _, module = place.module.partition(".")
    home = files(package).joinpath(*module.split("."))
    if not place.attribute:
        tree = ast.parse(files(package).joinpath(f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        return {node.name: _sentence(node) for node in functions}
    trees = {
        file.name.removesuffix(".py"): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(home.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py")
    }
    return {name: _sentence(tree) for name, tree in trees.items() if place.attribute in _defined(tree)}


def _defined(tree: ast.Module) -> set[str]:
    """The names of a module's functions and constants."""
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return functions | {target.id for target in targets if isinstance(target, ast.Name)}


def _sentence(node: ast.FunctionDef | ast.Module) -> str:
    """The first line of a docstring."""
    return (ast.get_docstring(node) or "").strip().split("\n")[0]


def _installed(kind: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return _found(kind, importlib.metadata.entry_points)


@functools.cache
def _found(kind: str, search: Callable[..., Iterable[importlib.metadata.EntryPoint]]) -> tuple[Any, ...]:
    """What `search` finds, once: it reads the files of every installed package."""
    return tuple(search(group=f"tunesmith.{kind}"))
