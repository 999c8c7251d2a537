"""Tunesmith fine-tunes a pretrained model on your own data, and tells you what the result is worth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.catalogue import list, new
    from tunesmith.demonstration import demo
    from tunesmith.errors import DataError, Interrupted, MachineError, ModelError, RecipeError, TunesmithError
    from tunesmith.recipe.schema import Recipe
    from tunesmith.run import Run
    from tunesmith.verbs import Model, check, compare, evaluate, fit, load, predict, report, search

__version__ = "0.1.0"

_HOME = {
    "fit": "verbs",
    "check": "verbs",
    "compare": "verbs",
    "evaluate": "verbs",
    "predict": "verbs",
    "load": "verbs",
    "report": "verbs",
    "search": "verbs",
    "Model": "verbs",
    "list": "catalogue",
    "new": "catalogue",
    "demo": "demonstration",
    "Recipe": "recipe.schema",
    "Run": "run",
    "TunesmithError": "errors",
    "RecipeError": "errors",
    "DataError": "errors",
    "ModelError": "errors",
    "MachineError": "errors",
    "Interrupted": "errors",
}
"""Where each public name lives: it is imported when it is first used, so that `import tunesmith` costs nothing."""

__all__ = [
    "DataError",
    "Interrupted",
    "MachineError",
    "Model",
    "ModelError",
    "Recipe",
    "RecipeError",
    "Run",
    "TunesmithError",
    "check",
    "compare",
    "demo",
    "evaluate",
    "fit",
    "list",
    "load",
    "new",
    "predict",
    "report",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tunesmith.{_HOME[name]}"), name)


def __dir__() -> list[str]:  # type: ignore[valid-type]
    return __all__
