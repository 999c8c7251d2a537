"""The threshold of a recipe and of a Run: whether there can be one, and which is known before and after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.assemble.rows import Rows
from tunesmith.errors import RecipeError
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run, is_run
from tunesmith.tasks.task import Target


def with_threshold(recipe: Recipe, rows: Rows, tell: Callable[[str], None]) -> Rows:
    """The rows decided at the recipe's threshold, where it is a number; what an earlier Run decided at is told.

    RecipeError where there is nothing that a threshold could decide, or no row to choose it on."""
    threshold, target = recipe.evaluate.threshold, rows.target
    _tell_of_earlier(recipe, rows, tell)
    if rows.task.name == "regression" and recipe.evaluate.temperature not in ("auto", 1):
        raise RecipeError("evaluate.temperature has no effect on a regression", remedy="leave it out")
    if threshold is None:
        return rows
    several = rows.task.name == "multilabel"
    if not several and target.positive is None:
        what = f"evaluate.threshold decides between two labels, and this target has {len(target.labels)}"
        remedy = "leave it out: the most probable label is decided; or look at one label against the rest"
        if rows.task.name == "regression":
            what, remedy = "evaluate.threshold has no effect on a regression", "leave it out"
        raise RecipeError(what, remedy=remedy)
    if isinstance(threshold, str):
        if not len(rows.split.valid) and not rows.cross_validated:
            what = f"evaluate.threshold = {threshold} is chosen on validation rows, and no row is set aside"
            raise RecipeError(what, remedy="set data.valid or data.split, or give a number")
        return rows
    return replace(rows, target=target.at([threshold] * (len(target.labels) if several else 1)))


def target_of(run: Run) -> Target:
    """What a Run learnt of its target, with the thresholds at which it decides."""
    measured = run.measured
    target = Target.from_json(measured["target"])
    chosen = measured.get("threshold")
    return target.at([chosen["thresholds"][label] for label in decided(target)]) if chosen else target


def decided(target: Target) -> tuple[str, ...]:
    """The labels that a threshold is about: the positive one, or each of several."""
    return target.labels if target.positive is None else (target.labels[target.positive],)


def told(target: Target, most: int = 200) -> str:
    """The thresholds for people, each with all of its digits, but no longer than that; "" where there is none.

    >>> told(Target(("spam",), ("no", "yes"), positive=1, thresholds=(0.31,)))
    '"yes" 0.31'
    """
    text = ", ".join(f'"{label}" {threshold}' for label, threshold in by_label(target).items())
    return text if len(text) <= most else f"{text[:most]} ... (all: measured.json)"


def by_label(target: Target) -> dict[str, Any]:
    """Label -> its threshold."""
    return dict(zip(decided(target), target.thresholds, strict=True)) if target.thresholds else {}


def _tell_of_earlier(recipe: Recipe, rows: Rows, tell: Callable[[str], None]) -> None:
    """A threshold belongs to the weights and rows that it was chosen with: a Run does not hand it on."""
    path = Path(recipe.model.name)
    if not is_run(path) or not (path / "measured.json").is_file():
        return
    if known := told(target_of(Run(path)), most=100):
        threshold = recipe.evaluate.threshold
        now = (
            "has none" if threshold is None else "chooses its own" if isinstance(threshold, str) else f"has {threshold}"
        )
        tell(f"the threshold of {path} ({known}) is not taken over: this run {now} (evaluate.threshold)")
