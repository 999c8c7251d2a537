"""Stages that a strategy leaves to measurement: what is asked, what fits a head for it, and the strategy it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.objectives.objective import reads
from tunesmith.recipe.schema import Choice, Recipe, Train

STEPS = 50
"""Steps that fit the head: through a head at random, gradients say nothing of the task."""
BATCHES = 8
"""Batches over which the norms are averaged."""


def num_wanted(recipe: Recipe) -> int | None:
    """How many stages are to be measured: None unless the strategy has an option `train`, and it is "auto"."""
    parameters = plugins.options(plugins.get("strategy", recipe.strategy.name))
    options = {name: parameter.default for name, parameter in parameters.items()} | recipe.strategy.options
    return (options.get("count") or 2) if options.get("train") == "auto" else None


def probe(job: Job) -> Job:
    """The Job that fits the head on the frozen body, whatever the recipe's own training is."""
    train = job.recipe.train
    lr = 3e-3  # Of a head on a frozen body: see `recipe/resolve.py`.
    kept: dict[str, Any] = {name: getattr(train, name) for name in ("batch", "every", "cache")}
    short = Train(length=f"{STEPS} steps", lr=lr, warmup="10 %", clip=1.0, **kept)
    own = job.recipe.objective
    objective = own if reads(own.name) == "rows" else Choice(name="supervised")
    recipe = job.recipe.model_copy(update={"train": short, "objective": objective})
    return replace(job, recipe=recipe, strategy=Choice(name="head"), epochs=None)


def largest(norms: Mapping[str, float], count: int) -> list[str]:
    """The `count` stages of the largest norms, in the order of `norms`; of equal ones the lower.

    >>> largest({"stem": 0.1, "block.0": 0.5, "block.1": 0.3}, 2)
    ['block.0', 'block.1']
    """
    chosen = sorted(norms, key=lambda stage: -norms[stage])[:count]
    return [stage for stage in norms if stage in chosen]


def with_stages(job: Job, stages: list[str]) -> Job:
    """The Job whose strategy moves these stages."""
    options = {name: value for name, value in job.recipe.strategy.options.items() if name != "count"}
    return replace(job, strategy=Choice(name=job.recipe.strategy.name, options=options | {"train": stages}))
