"""k-fold cross-validation of a whole recipe: a Run for each fold, then the model that all rows train.

Each fold is an ordinary run of the recipe with `data.split = fold`: nothing of its test rows chooses anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.data.split import each_fold
from tunesmith.evaluation.intervals import shown
from tunesmith.evaluation.resampled import over_folds
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.study.several import One, Several


def is_folded(recipe: Recipe) -> bool:
    """Whether a fit of this recipe runs its folds."""
    return recipe.data.split != "auto" and recipe.data.split.name == "kfold"


def _runs(recipe: Recipe) -> Iterator[One]:
    """The run of each fold."""
    assert recipe.data.split != "auto"
    each = each_fold(**recipe.data.split.options)
    for number, options in enumerate(each, 1):
        data = recipe.data.model_copy(update={"split": Choice(name="fold", options=options)})
        name, place = f"fold {number} of {len(each)}", f"folds/{number}"
        yield One(name, place, recipe.model_copy(update={"data": data}))


def _scores(folds: list[Run], scores: dict[str, Any]) -> dict[str, Any]:
    """The test scores of all folds as one."""
    sizes = [fold.read("data.json")["split"] for fold in folds]
    ratio = sum(size["test"] for size in sizes) / sum(size["train"] for size in sizes)
    return scores | {"test": over_folds([fold.scores.get("test") for fold in folds], ratio)}


def _told(fold: Run, metric: str) -> str:
    rows = fold.read("data.json")["split"]
    score = shown(fold.scores.get("test", {}).get(metric))
    return f"{metric} {score} on its {rows['test']} rows, trained on {rows['train']}"


FOLDS = Several(_runs, _told, _scores, "now the model that is delivered, on the rows of all folds")
