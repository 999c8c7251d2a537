"""Attempts: the steps of a run, begun once more from the pretrained weights where they have collapsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.assemble import regularization, remedy
from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Cadence, Job, Tell
from tunesmith.delivery import folder
from tunesmith.run import Run
from tunesmith.training import checkpoint, collapse
from tunesmith.training.collapse import CollapseError, Watch
from tunesmith.training.loop import Event
from tunesmith.training.observers import EventLog
from tunesmith.training.state import State

Steps = Callable[[Job, Path | None, Watch], Iterator[Event]]
"""(job, checkpoint to restore, watch) -> the steps from where the State stands."""


def attempts(
    job: Job,
    state: State,
    run: Run,
    steps: Steps,
    *,
    feed: Feed,
    cadence: Cadence,
    saved: Path | None,
    log: EventLog,
    tell: Tell,
) -> Iterator[Event]:
    """The steps of the run. After a collapse that the recipe answers with a restart, those of a second attempt with
    the remedy; CollapseError where it says stop, or where nothing is left to go on with."""

    def told(reason: str) -> None:
        where = f"at step {state.step} of {cadence.total}"
        tell(f"collapsed {where}: {reason}; it goes on, {_why(job, state)}")
        log.line("collapse", step=state.step, attempt=state.attempt, reason=reason, answer="go on")

    if job.recipe.train.on_collapse == "restart" and state.attempt == 0:
        state.keep_start()
    watch = remedy.watch(job, state.net, feed, told)
    while True:
        if (reason := collapse.pending(state)) is not None:
            tried = remedy.remedied(job)
            if not _begin_again(job, tried, state, run, reason, cadence=cadence, log=log, tell=tell):
                return
            # What a frozen prefix gave is no longer true of the pretrained weights.
            saved, feed.kept = None, None
        for event in steps(remedy.remedied(job) if state.attempt else job, saved, watch):
            collapsed = collapse.pending(state) is not None
            over = collapse.is_over(state, len(job.plan.phases)) and not regularization.needs_start(job.recipe)
            if over and not collapsed:
                state.start = None
            yield event
            if collapsed:
                break
        else:
            return


def _begin_again(
    job: Job, tried: Job, state: State, run: Run, reason: str, *, cadence: Cadence, log: EventLog, tell: Tell
) -> bool:
    """Do what the State's answer to the collapse says; whether there are steps to be taken."""
    answer, step = state.watched["answer"], state.step
    log.line("collapse", step=step, attempt=state.attempt, reason=reason, answer=answer)
    where = f"collapsed at step {step} of {cadence.total}: {reason}"
    if answer == "end":
        tell(f"{where}; the weights of step {state.best['step'] if state.best else 0} stay")
        return False
    rate, warmup = tried.recipe.train.lr, tried.recipe.train.warmup
    if answer == "stop":
        raise _stopped(where, tried)
    tell(f"{where}; {_begun(tried)}")
    assert state.start is not None
    state.load_weights(state.start)
    state.begin_again()
    if job.machine.first:
        checkpoint.begin_again(run.checkpoints)
    job.machine.gather(None)
    log.line("restart", attempt=state.attempt, lr=rate, warmup=warmup)
    if cadence.save:
        folder.save_checkpoint(job, run, state, log)
    return True


def again(job: Job, state: State, tell: Tell) -> Job:
    """The job with which cross-validation begins again after a collapse; CollapseError where that is not the answer."""
    tried = remedy.remedied(job)
    where = f"cross-validation collapsed at step {state.step}: {state.watched['reason']}"
    if state.watched["answer"] != "restart":
        raise _stopped(where, tried)
    tell(f"{where}; {_begun(tried)}")
    return tried


def _begun(tried: Job) -> str:
    train = tried.recipe.train
    return f"begun again from the pretrained weights with lr {_shown(train.lr)} and a warm-up of {train.warmup}"


def _stopped(where: str, tried: Job) -> CollapseError:
    train = tried.recipe.train
    known = f"set train.lr to {_shown(train.lr)} and train.warmup to {train.warmup}, or train.on_collapse = restart"
    return CollapseError(where, remedy=known)


def _why(job: Job, state: State) -> str:
    return "as the recipe says" if job.recipe.train.on_collapse == "continue" else "having been begun again once"


def _shown(rate: object) -> str:
    if isinstance(rate, dict):
        return ", ".join(f"{name} {value:.2g}" for name, value in rate.items())
    return f"{rate:.2g}"
