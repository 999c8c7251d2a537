"""From a Recipe to a Run, every stage one visible line; read this page first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.assemble.job import Cadence, Feed, Job, Tell, prepare
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder, scores
from tunesmith.errors import Interrupted, TunesmithError
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.linear import score_features
from tunesmith.evaluation.predict import outputs_of
from tunesmith.files import full, no_space
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.signals import Signals, terminable
from tunesmith.tasks.task import Target
from tunesmith.training import checkpoint, machine, measure, phases
from tunesmith.training.loop import Event, train_phase
from tunesmith.training.observers import EventLog, Progress
from tunesmith.training.state import State


def run_recipe(
    recipe: Recipe,
    objects: Objects,
    *,
    out: Path | str | None = None,
    resume: Run | None = None,
    tell: Tell,
    quiet: bool,
) -> Run:
    """Fit as the recipe says and return the Run. With `resume`, continue that Run to the weights it was going to."""
    check_recipe(recipe)
    place = machine.start(recipe.train.device, recipe.train.precision, deterministic=recipe.train.deterministic)
    tell, quiet = (tell, quiet) if place.first else (_say_nothing, True)
    with contextlib.closing(place), terminable():
        job = prepare(recipe, objects, place, tell)
        run = folder.begin(job, out) if resume is None else folder.reopen(job, resume)
        try:
            job = measured(job, run, tell)
            tell(f"run folder: {run.path}")
            net = train(job, run, tell, quiet)
            folder.save_model(job, run, net)
            scores.score_run(job, run)
            folder.finish(job, run, tell)
        except KeyboardInterrupt as error:
            what = f"interrupted; continue with: tunesmith fit --resume {run.path}"
            raise Interrupted(what, getattr(error, "code", 130)) from None
        except (TunesmithError, OSError) as error:
            folder.forget_if_empty(run, resumed=resume is not None)
            if isinstance(error, OSError) and full(error):
                raise no_space(run.path, error) from error
            raise
        return run


def measured(job: Job, run: Run, tell: Tell) -> Job:
    """Settle what must be measured on the rows (head, micro-batch, and the length where no row is set aside), and
    write it to measured.json; a resume reads it there."""
    stored = run.measured if (run.path / "measured.json").is_file() else {}
    if not stored:
        started = time.perf_counter()
        job, stored["head"] = _with_head(job, tell)
        job, stored["micro"] = _with_micro(job, tell)
        stored["target"] = job.rows.target.as_json()
        if job.rows.cross_validated:
            stored["length"] = cross_validate(job, run, tell)
        stored = job.machine.agree(stored)
        if job.machine.first:
            run.write("measured.json", stored)
            run.append_event("prepare", seconds=round(time.perf_counter() - started, 3))
    length = stored.get("length")
    head = Choice(name=stored["head"]["name"], options=stored["head"]["options"])
    rows = replace(job.rows, target=Target.from_json(stored["target"]))
    return replace(job, rows=rows, head=head, micro=stored["micro"], epochs=length and length["epochs"])


def train(job: Job, run: Run, tell: Tell, quiet: bool) -> Tunable:
    """Train through the plan's phases; evaluate, keep the best, save, stop: the lines under the `for`."""
    state, feed = State(job.net()), job.feed(job.rows.split.train)
    cadence = job.cadence(feed.steps_per_epoch)
    saved = folder.newest_checkpoint(job, run, tell)
    if saved is not None:
        checkpoint.resume_counters(state, saved)
    if job.machine.first:
        folder.cut_events(run, state.events_bytes)
    log, progress = EventLog(run if job.machine.first else None), Progress(cadence.total, quiet)
    with contextlib.closing(progress), Signals() as signals:
        for event in steps(job, state, feed, cadence, saved, tell=tell) if not out_of_patience(job, state) else ():
            log.step(event)
            progress.step(event)
            last = event.step == cadence.total
            if due(event.step, cadence.evaluate, last) and len(job.rows.split.valid):
                value = validate(job, state, log)
                progress.scored(job.select, value)
                if is_best(state, value, job.select):
                    checkpoint.save_best(state, run.checkpoints, value, write=job.machine.first)
            enough = out_of_patience(job, state)
            asked = job.machine.most(signals.code)
            if asked or due(event.step, cadence.save, last or enough):
                folder.save_checkpoint(job, run, state, log)
            if asked:
                raise Interrupted(
                    f"saved at step {event.step}; continue with: tunesmith fit --resume {run.path}", asked
                )
            if enough and not last and state.best is not None:
                tell(f"stopped at step {event.step} of {cadence.total}: no better since step {state.best['step']}")
                break
    log.flush()
    if state.best is not None:
        checkpoint.load_best(state, run.checkpoints)
        tell(f"best valid {job.select}: {state.best['value']:.3f} at step {state.best['step']}")
    return state.net


def steps(
    job: Job, state: State, feed: Feed, cadence: Cadence, saved: Path | None = None, *, tell: Tell
) -> Iterator[Event]:
    """The steps of all phases, from where the State stands."""
    plan, objective = job.plan, job.objective()
    state.moved = phases.moving(state.net, plan)
    told: set[str] = set()
    for index, phase in enumerate(plan.phases):
        if index < state.phase:
            continue
        if index > state.phase:
            state.phase, state.phase_step = index, 0
        phases.open_phase(state.net, phase)
        unreached = phases.freeze_unreached(state.net, objective, feed.make(feed.rows[:2]))
        if unreached and not told:
            tell(f"not read by this head, left as they were: {', '.join(unreached[:3])}{' ...' * (len(unreached) > 3)}")
            told.update(unreached)
        before, state.optimizer = state.optimizer, job.optimizer(phases.groups(state.net, phase))
        if plan.carry:
            phases.carry(before, state.optimizer)
        if saved is not None:
            checkpoint.restore(state, saved)
            saved = None
        pace = job.pace(index, cadence, feed.steps_per_epoch)
        yield from train_phase(state, phase.name, feed, objective, pace, job.machine)


def due(step: int, every: int, last: bool) -> bool:
    """Whether something that happens every so many steps (0 = never) happens at this one; always at the last."""
    return every > 0 and (last or step % every == 0)


def validate(job: Job, state: State, log: EventLog) -> float:
    """Score the validation rows; the score goes into the State, which decides from it on every rank alike."""
    started = time.perf_counter()
    rows = job.rows.split.valid
    outputs = outputs_of(state.net, job.encoded, rows, job.machine)
    value = scores.value_of(job, rows, outputs)
    known = None if np.isnan(value) else value
    state.scores.append({"step": state.step, "phase": state.phase, "value": known})
    seconds = round(time.perf_counter() - started, 4)
    log.line("evaluate", step=state.step, metric=job.select, value=known, seconds=seconds)
    return value


def is_best(state: State, value: float, metric: str) -> bool:
    """Whether a score beats the best so far; NaN beats nothing."""
    if np.isnan(value):
        return False
    return state.best is None or ((value > state.best["value"]) == rising(metric) and value != state.best["value"])


def out_of_patience(job: Job, state: State) -> bool:
    """Whether the last `patience` evaluations brought no better score; only those of the last phase count."""
    patience = job.recipe.train.patience
    assert patience != "auto"
    if patience == 0 or state.best is None:
        return False
    since = [score for score in state.scores if score["step"] > state.best["step"]]
    return sum(1 for score in since if score["phase"] == len(job.plan.phases) - 1) >= patience


def cross_validate(job: Job, run: Run, tell: Tell) -> dict[str, Any]:
    """Train on folds of the training rows; the number of epochs whose held-out score is best, and the held-out outputs
    at that epoch, which are the honest valid predictions of a run that sets no row aside."""
    rows = job.rows.split.train
    folds = job.rows.folds(rows)
    untouched = {name: tensor.detach().clone() for name, tensor in job.net().state_dict().items()}
    held_out: dict[int, np.ndarray] = {}
    for number, (fitting, held) in enumerate(folds, 1):
        tell(f"cross-validation: fold {number} of {len(folds)}")
        net, feed = job.net(), job.feed(rows[fitting])
        net.load_state_dict(untouched)
        cadence = job.cadence(feed.steps_per_epoch)
        for event in steps(job, State(net), feed, cadence, tell=_say_nothing):
            if due(event.step, feed.steps_per_epoch, event.step == cadence.total):
                epoch = -(-event.step // feed.steps_per_epoch)
                nothing = np.full((len(rows), job.rows.target.num_outputs), np.nan, np.float32)
                held_out.setdefault(epoch, nothing)[held] = outputs_of(net, job.encoded, rows[held], job.machine)
        net.load_state_dict(untouched)
    values = {
        epoch: scores.value_of(job, rows, whole) for epoch, whole in held_out.items() if not np.isnan(whole).any()
    }
    best = max(values, key=lambda epoch: (values[epoch] if rising(job.select) else -values[epoch], -epoch))
    if job.machine.first:
        scores.save_folds(run, held_out[best])
    tell(f"cross-validated {job.select}: {values[best]:.3f}, best after {best} of {len(values)} epochs")
    # The last epoch may be a part of one, when the length is told in steps: then it is the recipe's own length.
    return {"epochs": best if best < max(values) else None, "folds": len(folds), "scores": values}


def _with_head(job: Job, tell: Tell) -> tuple[Job, dict[str, Any]]:
    """The recipe's head; else a kept one; else the best linear model on one pass of frozen features."""
    pretrained, how, candidates = job.pretrained, "as the recipe says", {}
    head = job.head
    if head is None and pretrained.labels:
        options = pretrained.head_choice.get("options")
        head = Choice(name="own") if options is None else Choice(name="pooled", options=options)
        how = "it was trained for these labels"
    if head is None:
        candidates = _measured_heads(job)
        top = max(candidates.values(), default=None)
        names = [*["own"] * pretrained.own_head, *pretrained.poolings]
        best = next(name for name in names if candidates.get(name) == top)
        head = Choice(name="own") if best == "own" else Choice(name="pooled", options={"pooling": best})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in candidates.items())
        how = f"best of {shown} ({job.select} of a linear model on frozen features)"
    job = replace(job, head=head)
    if job.rows.task.name == "regression" and job.net().output_layer().bias is None:
        # Nothing could hold the mean when the unit is folded into the output layer: it must be learnt.
        job = replace(job, rows=replace(job.rows, target=replace(job.rows.target, mean=0.0)))
    name = head.name if head.name == "own" else f"{head.options.get('pooling', 'mean')} pooling"
    tell(f"head: {name}, {how}")
    return job, {"name": head.name, "options": head.options, "candidates": candidates, "how": how}


def _measured_heads(job: Job) -> dict[str, float]:
    """Candidate -> validation score; by cross-validation where no row is set aside."""
    train, valid = (measure.spread(rows, measure.MOST_ROWS) for rows in (job.rows.split.train, job.rows.split.valid))
    rows = np.concatenate([train, valid])
    features = measure.frozen_features(job.pretrained, job.rows.target.num_outputs, job.encoded, rows, job.machine)
    codes = job.rows.codes[rows]
    folds = [(np.arange(len(train)), np.arange(len(train), len(rows)))]
    if not len(valid):
        folds = job.rows.folds(rows)
    sign = 1 if rising(job.select) else -1

    def value(truth: np.ndarray, outputs: np.ndarray) -> float:
        return sign * scores.value_of_outputs(job, truth, outputs)

    found = {
        name: score_features(values, codes, folds, job.rows.task, job.rows.target, value)
        for name, values in features.items()
    }
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _with_micro(job: Job, tell: Tell) -> tuple[Job, int]:
    """The recipe's micro-batch, else the most rows of a step that fit into memory at once."""
    batch = job.recipe.train.batch
    assert isinstance(batch, int)
    if job.micro is not None:
        return job, job.micro
    net = job.net()
    feed = job.feed(job.rows.split.train, micro=batch)
    phases.open_phase(net, job.plan.phases[-1])
    micro = measure.fitting_micro(net, job.objective(), feed.longest, batch, job.machine)
    micro = -job.machine.most(-micro)
    if micro < batch:
        tell(f"micro-batch: {micro} of the step's {batch} rows at once, to fit into memory")
    return replace(job, micro=micro), micro


def _say_nothing(_line: str) -> None:
    """What ranks other than the first tell."""
