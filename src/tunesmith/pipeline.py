"""From a Recipe to a Run, every stage one visible line; read this page first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith import choices
from tunesmith.assemble import regularization, remedy, surgery
from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Cadence, Job, Tell, prepare
from tunesmith.assemble.kept import kept_rows, still_true
from tunesmith.assemble.rows import Objects, Rows
from tunesmith.choices import Folds, HeldOut
from tunesmith.delivery import attempts, folder, forgetting, overfitting, plan_file, scores, temperature
from tunesmith.delivery.beside import Frozen, frozen
from tunesmith.delivery.weights import blend, keep
from tunesmith.errors import Interrupted, TunesmithError
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.predict import outputs_of
from tunesmith.files import full, no_space
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.signals import Signals, terminable
from tunesmith.tasks.task import Target
from tunesmith.training import checkpoint, collapse, machine, measure, phases
from tunesmith.training.collapse import Watch
from tunesmith.training.loop import Event, train_phase
from tunesmith.training.observers import EventLog, Progress
from tunesmith.training.state import State
from tunesmith.training.stepping import evaluated, finish
from tunesmith.training.tracking import Trackers

Follow = Callable[[State], bool]
"""Who looks at the State after every step, and says whether it is enough."""


def run_recipe(
    recipe: Recipe,
    objects: Objects,
    *,
    out: Path | str | None = None,
    resume: Run | None = None,
    judged: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    rows: Rows | None = None,
    known: HeldOut | None = None,
    tell: Tell,
    quiet: bool,
) -> Run:
    """Fit as the recipe says and return the Run. With `resume`, continue that Run to the weights it was going to.
    `judged` adds to the scores of this Run what other runs scored; `rows` are the rows, if they have been opened;
    `known`: what cross-validation would ask, as far as it has been answered."""
    check_recipe(recipe)
    place = machine.start(recipe.train.device, recipe.train.precision, deterministic=recipe.train.deterministic)
    tell, quiet = (tell, quiet) if place.first else (_say_nothing, True)
    with contextlib.closing(place), terminable():
        job = prepare(recipe, objects, place, tell, rows=rows)
        forgetting.require_source_task(job, tell)
        run = folder.begin(job, out) if resume is None else folder.reopen(job, resume)
        try:
            with contextlib.closing(Trackers(run, recipe.deliver.observers if place.first else (), tell)) as trackers:
                job = measured(job, run, tell, known)
                tell(f"run folder: {run.path}")
                untouched = frozen(job)
                net = train(job, run, tell, quiet, following(trackers))
                judge(job, run, net, untouched, tell, judged)
                trackers.finish()
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


def judge(
    job: Job,
    run: Run,
    net: Tunable,
    untouched: Frozen | None,
    tell: Tell,
    judged: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
    """Save the tuned net, and score what was saved."""
    temperature.calibrate(job, run, net, tell)
    folder.save_model(job, run, net)
    forgetting.measure(job, run, net, tell)
    judgement = scores.score_run(job, run, tell, judged, untouched)
    overfitting.diagnose(job, run, judgement, untouched)


def measured(job: Job, run: Run, tell: Tell, known: HeldOut | None = None) -> Job:
    """Settle what must be measured on the rows (head, micro-batch, whether augmentation helps, and the length where no
    row is set aside), and write it to measured.json; a resume reads it there."""
    stored = run.measured if (run.path / "measured.json").is_file() else {}
    if not stored:
        started = time.perf_counter()
        job, stored["head"] = choices.with_head(job, tell)
        job, stored["micro"] = choices.with_micro(job, tell)
        job, stored["stages"] = choices.with_stages(job, steps, tell)
        stored["target"] = job.rows.target.as_json()
        job, stored["augment"], answered = choices.with_augment(job, held_out, tell)
        if job.rows.cross_validated:
            stored["length"] = cross_validate(job, run, tell, known or answered)
        stored = job.machine.agree(stored)
        if job.machine.first:
            run.write("measured.json", stored)
            run.append_event("prepare", seconds=round(time.perf_counter() - started, 3))
    length = stored.get("length")
    head = Choice(name=stored["head"]["name"], options=stored["head"]["options"])
    rows = replace(job.rows, target=Target.from_json(stored["target"]))
    job = surgery.with_stages(job, stored["stages"]["train"]) if stored.get("stages") else job
    job = remedy.remedied(job) if length and length.get("attempt") else job
    if stored.get("augment") and not stored["augment"]["kept"]:
        job = replace(job, augmented=None)
    return replace(job, rows=rows, head=head, micro=stored["micro"], epochs=length and length["epochs"])


def following(trackers: Trackers) -> Follow:
    """What trackers do after a step; it is never enough for them."""

    def follow(_state: State) -> bool:
        trackers.follow()
        return False

    return follow


def train(job: Job, run: Run, tell: Tell, quiet: bool, follow: Follow = lambda _state: False) -> Tunable:
    """Train through the plan's phases; evaluate, keep the best, save, stop: the lines under the `for`."""
    state, feed = State(job.net()), job.feed(job.rows.split.train)
    cadence = job.cadence(feed.steps_per_epoch)
    regularization.begin(job, state)
    plan_file.write(job, run, state.net, cadence)
    saved = folder.newest_checkpoint(job, run, tell)
    if saved is not None:
        checkpoint.resume_counters(state, saved)
    if job.machine.first:
        folder.cut_events(run, state.events_bytes)
    log, progress = EventLog(run if job.machine.first else None), Progress(cadence.total, quiet)
    with contextlib.closing(progress), Signals() as signals:
        tried = attempts.attempts(
            job,
            state,
            run,
            lambda job, saved, watch: steps(job, state, feed, cadence, saved, tell=tell, log=log, watch=watch),
            feed=feed,
            cadence=cadence,
            saved=saved,
            log=log,
            tell=tell,
        )
        for event in tried if not out_of_patience(job, state) else ():
            log.step(event)
            progress.step(event)
            last = event.step == cadence.total
            judged = len(job.rows.split.valid) and job.plan.answers(state.phase)
            if judged and due(event.step, cadence.evaluate, last):
                with evaluated(state.optimizer), regularization.judged(job, state, feed):
                    value = validate(job, state, feed, log)
                    keep(job, state, run, value)
                progress.scored(job.select, value)
            ended = follow(state)
            enough = ended or out_of_patience(job, state)
            asked = job.machine.most(signals.code)
            if asked or due(event.step, cadence.save, last or enough):
                folder.save_checkpoint(job, run, state, log)
            if asked:
                raise Interrupted(
                    f"saved at step {event.step}; continue with: tunesmith fit --resume {run.path}", asked
                )
            if ended:
                break
            if enough and not last and state.best is not None:
                tell(f"stopped at step {event.step} of {cadence.total}: no better since step {state.best['step']}")
                break
    log.flush()
    still_true(job, state, feed)
    if state.best is not None:
        checkpoint.load_best(state, run.checkpoints)
        tell(f"best valid {job.select}: {state.best['value']:.3f} at step {state.best['step']}")
    else:
        finish(state.optimizer)
        regularization.settle(job, state, feed)
    blend(job, state, run, feed, log, tell)
    log.line("memory", **measure.most_memory(job.machine))
    return state.net


def steps(
    job: Job,
    state: State,
    feed: Feed,
    cadence: Cadence,
    saved: Path | None = None,
    *,
    tell: Tell,
    log: EventLog | None = None,
    watch: Watch | None = None,
) -> Iterator[Event]:
    """The steps of all phases, from where the State stands."""
    plan = job.plan
    regularization.begin(job, state)
    average, told = job.average, set[str]()
    for index, phase in enumerate(plan.phases):
        if index < state.phase:
            continue
        if index > state.phase:
            state.phase, state.phase_step = index, 0
        objective = job.objective(phase)
        still_true(job, state, feed)
        feed.kept = None
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
        pace = job.pace(index, cadence, feed.steps_per_epoch, regularization.penalty(job, state), state.scores)
        feed.kept = kept_rows(job, state, feed, pace.last_step - state.step, tell, log)
        if watch is not None:
            constant = remedy.constant_loss(job, phase, state.net, feed.rows)
            watch.open(state, pace.last_step - state.step, constant)
        for event in train_phase(state, phase.name, job.steps(phase, feed), objective, pace, job.machine):
            if watch is not None:
                watch.see(state, event)
            if average.step is not None:
                evaluates = due(event.step, cadence.evaluate, event.step == cadence.total)
                average.step(state, event.step / cadence.total, evaluates)
            yield event


def due(step: int, every: int, last: bool) -> bool:
    """Whether something that happens every so many steps (0 = never) happens at this one; always at the last."""
    return every > 0 and (last or step % every == 0)


def validate(job: Job, state: State, feed: Feed, log: EventLog) -> float:
    """Score the validation rows; the score goes into the State, which decides from it on every rank alike."""
    started = time.perf_counter()
    rows = job.rows.split.valid
    # An average may differ from the weights whose frozen prefix is kept.
    encoded = job.encoded if job.average.scored else feed.plain
    outputs = outputs_of(state.net, encoded, rows, job.machine)
    value = scores.value_of(job, rows, outputs)
    known = None if np.isnan(value) else value
    state.scores.append({"step": state.step, "phase": state.phase, "value": known})
    seconds = round(time.perf_counter() - started, 4)
    log.line("evaluate", step=state.step, metric=job.select, value=known, seconds=seconds)
    return value


def out_of_patience(job: Job, state: State) -> bool:
    """Whether the last `patience` evaluations brought no better score; only those of the last phase count."""
    patience = job.recipe.train.patience
    assert patience != "auto"
    if patience == 0 or state.best is None:
        return False
    since = [score for score in state.scores if score["step"] > state.best["step"]]
    return sum(1 for score in since if score["phase"] == len(job.plan.phases) - 1) >= patience


def cross_validate(job: Job, run: Run, tell: Tell, known: HeldOut | None = None) -> dict[str, Any]:
    """Train on folds of the training rows, unless that is `known`; the number of epochs whose held-out score is best,
    and the held-out outputs at that epoch, which are the honest valid predictions of a run that sets no row aside."""
    rows = job.rows.split.train
    folds = job.rows.folds(rows)
    if known is None:
        *_, known = held_out(job, rows, folds, tell)
    attempt, found = known
    there = ~np.isnan(next(iter(found.values()))).any(1)
    values = {epoch: scores.value_of(job, rows[there], whole[there]) for epoch, whole in found.items()}
    best = max(values, key=lambda epoch: (values[epoch] if rising(job.select) else -values[epoch], -epoch))
    if job.machine.first:
        scores.save_folds(job, run, found[best])
    tell(f"cross-validated {job.select}: {values[best]:.3f}, best after {best} of {max(values)} epochs")
    # The last epoch may be a part of one, when the length is told in steps: then it is the recipe's own length.
    length = {"epochs": best if best < max(values) else None, "folds": len(folds), "scores": values}
    return length | ({"attempt": attempt} if attempt else {})


def held_out(job: Job, rows: np.ndarray, folds: Folds, tell: Tell, attempt: int = 0) -> Iterator[HeldOut]:
    """Train on one side of each fold, places in `rows`, and ask about the other; after each fold the attempt that did
    not collapse, and epoch -> the outputs of all rows to be asked about, in the order of `rows`, NaN of later folds.
    A collapse begins the folds anew."""
    asked = np.sort(np.concatenate([held for _, held in folds]))
    untouched = {name: tensor.detach().clone() for name, tensor in job.net().state_dict().items()}
    found: dict[int, np.ndarray] = {}
    for number, (fitting, held) in enumerate(folds, 1):
        if len(folds) > 1:
            tell(f"cross-validation: fold {number} of {len(folds)}")
        net, feed = job.net(), job.feed(rows[fitting])
        net.load_state_dict(untouched)
        cadence, state = job.cadence(feed.steps_per_epoch), State(net, attempt=attempt)
        regularization.begin(job, state)
        state.keep_start()
        watch = remedy.watch(job, net, feed, _say_nothing)
        for event in steps(job, state, feed, cadence, tell=_say_nothing, watch=watch):
            if collapse.pending(state) is not None:
                net.load_state_dict(untouched)
                yield from held_out(attempts.again(job, state, tell), rows, folds, tell, 1)
                return
            last = event.step == cadence.total
            if last or (job.plan.shortens and due(event.step, feed.steps_per_epoch, last)):
                epoch = -(-event.step // feed.steps_per_epoch)
                nothing = np.full((len(asked), job.rows.target.num_outputs), np.nan, np.float32)
                with evaluated(state.optimizer), regularization.judged(job, state, feed):
                    encoded = job.encoded if job.average.scored else feed.plain
                    outputs = outputs_of(net, encoded, rows[held], job.machine)
                found.setdefault(epoch, nothing)[np.searchsorted(asked, held)] = outputs
        net.load_state_dict(untouched)
        so_far = np.searchsorted(asked, np.concatenate([held for _, held in folds[:number]]))
        yield attempt, {epoch: whole for epoch, whole in found.items() if not np.isnan(whole[so_far]).any()}


def _say_nothing(_line: str) -> None:
    """What ranks other than the first tell."""
