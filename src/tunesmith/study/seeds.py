"""A recipe run with several seeds: how much its scores differ by chance in training, on the same split of the rows.

The delivered model is that of the recipe's own seed, whatever the others score: a best one chosen among them would look
better than it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.evaluation.intervals import shown
from tunesmith.evaluation.resampled import over_seeds
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.study.several import One, Several


def is_seeded(recipe: Recipe) -> bool:
    """Whether a fit of this recipe runs other seeds beside its own."""
    return recipe.evaluate.seeds > 1


def _runs(recipe: Recipe) -> Iterator[One]:
    """The run of each further seed."""
    count, evaluate = recipe.evaluate.seeds - 1, recipe.evaluate.model_copy(update={"seeds": 1})
    for number in range(1, count + 1):
        seed = recipe.seed + number
        update = {"seed": seed, "evaluate": evaluate}
        yield One(f"seed {seed} ({number} of {count} more)", f"seeds/{seed}", recipe.model_copy(update=update))


def _scores(runs: list[Run], scores: dict[str, Any]) -> dict[str, Any]:
    """The scores of the delivered model, each metric with those of all seeds, its own first."""
    others = [run.scores for run in runs]
    for part, figures in scores.items():
        for name, figure in figures.items():
            if isinstance(figure, dict) and "value" in figure:
                figure |= over_seeds([figure["value"], *(other[part][name]["value"] for other in others)])
    return scores


def _told(run: Run, metric: str) -> str:
    scores = run.scores
    part = "test" if "test" in scores else "valid"
    return f"{part} {metric} {shown(scores.get(part, {}).get(metric))}"


SEEDS = Several(_runs, _told, _scores, "now the model that is delivered, of the first seed")
