"""Penalties and averages of a recipe, live: what must be known before the first step, and what acts in each."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from tunesmith import plugins
from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Job, average_of
from tunesmith.evaluation.intervals import rising
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.training import phases
from tunesmith.training.loop import Penalty
from tunesmith.training.state import State, Weights


def begin(job: Job, state: State) -> None:
    """Note what will move and what is new, and the weights as they are where something will ask for them."""
    net, loaded = state.net, job.pretrained
    state.moved = phases.moving(net, job.plan)
    state.fresh = {name for name, parameter in net.named_parameters() if id(parameter) in net.added}
    if not loaded.labels or not (net.own or loaded.head_choice.get("options") == net.head_options):
        state.fresh |= set(net.stages[-1].parameters)
    if needs_start(job.recipe):
        state.keep_start()


def needs_start(recipe: Recipe) -> bool:
    """Whether the weights before the first step are asked for to the end."""
    return recipe.train.penalty is not None or average_of(recipe).needs_start


def penalty(job: Job, state: State) -> Penalty | None:
    """What is added to the loss whatever the rows; it knows the pretrained weights."""
    choice, known = job.recipe.train.penalty, state.start or {}
    if choice is None:
        return None
    old = {name: p for name, p in state.net.named_parameters() if name in known and name not in state.fresh}
    start = {parameter: known[name].to(parameter.device) for name, parameter in old.items()}
    return functools.partial(plugins.get("penalty", choice.name), start=start, **choice.options)


@contextlib.contextmanager
def judged(job: Job, state: State, feed: Feed) -> Iterator[None]:
    """What the recipe's average scores and keeps, in the net for as long as the `with` lasts."""
    with job.average.in_place(state, lambda: _inputs(job, feed)):
        yield


def settle(job: Job, state: State, feed: Feed) -> None:
    """Put the average that would be scored into the net for good: the end of a run that scored none."""
    made = job.average
    if made.scored is not None and (found := made.scored(state)) is not None:
        made.put(state, found, lambda: _inputs(job, feed))


def choose(
    job: Job, state: State, run: Run, feed: Feed, value_now: Callable[[], float]
) -> tuple[str, dict[str, Any]] | None:
    """What the recipe's average makes of the kept weights by their scores, in words and as data; it is in the net
    afterwards. None if nothing is to be chosen."""
    choice, made = job.recipe.train.average, job.average
    if choice is None or made.finish is None or (made.members and not state.members):
        return None
    job.machine.gather(None)
    phases.open_phase(state.net, job.plan.phases[state.phase])
    values: list[float] = []

    def score(weights: Weights) -> float:
        made.put(state, weights, lambda: _inputs(job, feed))
        values.append(value_now())
        sign = 1 if rising(job.select) else -1
        return -math.inf if math.isnan(values[-1]) else sign * values[-1]

    told, chosen = made.finish(state, run.checkpoints, score)
    return told, {"name": choice.name, **chosen, "value": values[-1]}


def _inputs(job: Job, feed: Feed) -> Iterator[Mapping[str, Tensor]]:
    """The inputs of the training rows once, for BatchNorm statistics; never those of a cached prefix."""
    return (job.machine.put(job.encoded.batch(rows)) for rows in feed.epoch(0))
