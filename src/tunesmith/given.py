"""What a verb is given becomes a Recipe, and the objects in memory that no file can name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.assemble.rows import Objects
from tunesmith.data.sources import open_source
from tunesmith.errors import RecipeError
from tunesmith.models.loaders import keras
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.check import name_choices
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run

FIELDS = {
    "data": "data.source",
    "valid": "data.valid",
    "test": "data.test",
    "target": "data.target",
    "model": "model.name",
    "device": "train.device",
    "push": "deliver.push",
    "metrics": "evaluate.metrics",
    "seeds": "evaluate.seeds",
    "source_task": "evaluate.source_task",
    "keep": "evaluate.keep",
    "loss": "objective",
    "budget": "search.budget",
    "trials": "search.trials",
    "tune": "search.tune",
    "workers": "search.workers",
    "earlier": "search.earlier",
}
"""An argument of a verb -> the field of the recipe that it sets, where the two are called differently."""


def recipe_of(objects: Objects, fields: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe of a call: a recipe file if `data` is one, then the arguments, then the overrides."""
    tree: dict[str, Any] = {}
    lines: recipe_file.Lines = {}
    where, data = "recipe", fields["data"]
    if is_recipe(data):
        where, fields = str(data), {**fields, "data": None}
        tree, lines = recipe_file.read_tree(Path(data))
    for name, value in fields.items():
        if value is not None:
            recipe_file.put(tree, FIELDS.get(name, name), _plain(name, value))
    tree = name_choices(recipe_file.override(tree, settings))
    own = {metric.__name__ for metric in objects.metrics}
    judging = tree.get("evaluate", {})
    if isinstance(judging, dict) and judging.get("select") in own:
        judging["select"] = f"memory:{judging['select']}"
    return recipe_file.build(tree, where=where, lines=lines)


def is_recipe(data: Any) -> bool:
    """Whether `data` is the name of a recipe file."""
    return isinstance(data, str | Path) and Path(data).suffix in recipe_file.SUFFIXES


def _plain(name: str, value: Any) -> Any:
    """An argument as the recipe writes it: objects in memory by a name."""
    if name in ("data", "valid", "test", "source_task"):
        return str(value) if path_of(value) else _digest(value)
    if name == "model":
        if _is_network(value):
            return f"memory:{type(value).__name__}"
        if not isinstance(value, str | Path | Run):
            what = f"a model cannot be a {type(value).__name__}"
            raise RecipeError(what, remedy="give a name, a folder, an earlier Run, a torch.nn.Module, or a Keras model")
        return str(value.path if isinstance(value, Run) else value)
    if name == "metrics":
        return [metric if isinstance(metric, str) else f"memory:{metric.__name__}" for metric in value]
    if name == "loss":
        return f"memory:{value.__name__}"
    return list(value) if isinstance(value, tuple) else value


def resumed(run: Run, objects: Objects, given: Mapping[str, Any]) -> Recipe:
    """The recipe of a Run that goes on; an error for arguments that it would ignore, and for objects that it lacks."""
    if ignored := [name for name, value in given.items() if value is not None]:
        names = ", ".join(name if name[0] in "-D" else f"--{name}" for name in ignored)
        what, remedy = f"{names} has no effect with --resume", "leave it out: the Run's own recipe goes on"
        raise RecipeError(what, where=str(run.path), remedy=f"{remedy}; to train further: --model {run.path}")
    recipe = run.recipe
    if run.finished:
        return recipe
    lacking = [
        name
        for name, value, thing in (
            ("data", recipe.data.source, objects.data),
            ("valid", recipe.data.valid, objects.valid),
            ("test", recipe.data.test, objects.test),
            ("source_task", recipe.evaluate.source_task, objects.source_task),
            ("model", recipe.model.name, objects.model),
            ("loss", recipe.objective.name, objects.loss),
            ("metrics", "".join(recipe.evaluate.metrics), objects.metrics or None),
        )
        if value is not None and "memory:" in value and thing is None
    ]
    if lacking:
        shown = ", ".join(name if name == "data" else f"{name}={name}" for name in lacking)
        what = f"this run's {' and '.join(lacking)} came from memory, not from a file"
        raise RecipeError(what, where=str(run.path), remedy=f"in Python: tunesmith.fit({shown}, resume=RUN)")
    return recipe


def objects_of(
    data: Any, valid: Any, test: Any, model: Any, loss: Any, metrics: Any, *, source_task: Any = None
) -> Objects:
    def in_memory(thing: Any) -> Any:
        return None if path_of(thing) else thing

    own = tuple(metric for metric in metrics or () if not isinstance(metric, str))
    network = model if _is_network(model) else None
    return Objects(in_memory(data), in_memory(valid), in_memory(test), network, loss, own, in_memory(source_task))


def _is_network(thing: Any) -> bool:
    """Whether `thing` is a network in memory."""
    return isinstance(thing, nn.Module) or keras.is_model(thing)


def path_of(thing: Any) -> Any:
    """`thing` if it names a place, else None."""
    return thing if isinstance(thing, str | Path) else None


def _digest(thing: Any) -> str:
    """A name for an object in memory: of its content, or of its type and length where its items are not read."""
    digest = hashlib.sha256()
    for part, table in open_source(thing).items():
        opaque = table.arrow is None
        content = f"{table.source} {table.num_rows}" if opaque else table.fingerprint(table.column_names)
        digest.update(f"{part} {content}\n".encode())
    return f"memory:{digest.hexdigest()[:12]}"
