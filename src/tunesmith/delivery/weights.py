"""Which weights of a run are kept by their scores, and what is mixed of them at its end."""

from __future__ import annotations

import numpy as np

from tunesmith.assemble import regularization
from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Job, Tell
from tunesmith.delivery import scores
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.predict import outputs_of
from tunesmith.run import Run
from tunesmith.training import checkpoint
from tunesmith.training.observers import EventLog
from tunesmith.training.state import State


def keep(job: Job, state: State, run: Run, value: float) -> None:
    """Keep the weights as they are if they are the best so far, or one of those that an average may be made of."""
    if is_best(state, value, job.select):
        checkpoint.save_best(state, run.checkpoints, value, write=job.machine.first)
    members = job.average.members
    if members and not np.isnan(value):
        rises = rising(job.select)
        checkpoint.save_member(state, run.checkpoints, value, members, rising=rises, write=job.machine.first)


def is_best(state: State, value: float, metric: str) -> bool:
    """Whether a score beats the best so far; NaN beats nothing."""
    if np.isnan(value):
        return False
    return state.best is None or ((value > state.best["value"]) == rising(metric) and value != state.best["value"])


def blend(job: Job, state: State, run: Run, feed: Feed, log: EventLog, tell: Tell) -> None:
    """Mix kept weights, or the tuned and the pretrained, where the recipe's average asks for it, by their scores."""
    rows = job.rows.split.valid

    def value() -> float:
        return scores.value_of(job, rows, outputs_of(state.net, job.encoded, rows, job.machine))

    chosen = regularization.choose(job, state, run, feed, value)
    if chosen is not None:
        words, fields = chosen
        log.line("average", **fields)
        tell(f"{fields['name']}: {words}; valid {job.select} {fields['value']:.3f}")
