"""From a Recipe to a Run, every stage one visible line; read this page first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.assemble import regularization, surgery
from tunesmith.assemble.job import Cadence, Feed, Job, Tell, prepare
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder, scores
from tunesmith.errors import Interrupted, MachineError, RecipeError, TunesmithError
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.linear import score_features
from tunesmith.evaluation.predict import outputs_of
from tunesmith.files import full, no_space
from tunesmith.models.prefix import Uncacheable, frozen_depth
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.signals import Signals, terminable
from tunesmith.tasks.task import Target
from tunesmith.training import checkpoint, gradient_norms, machine, measure, phases
from tunesmith.training.frozen import CachedRows, cached_rows, compare
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
        job, stored["stages"] = _with_stages(job, tell)
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
    job = surgery.with_stages(job, stored["stages"]["train"]) if stored.get("stages") else job
    return replace(job, rows=rows, head=head, micro=stored["micro"], epochs=length and length["epochs"])


def train(job: Job, run: Run, tell: Tell, quiet: bool) -> Tunable:
    """Train through the plan's phases; evaluate, keep the best, save, stop: the lines under the `for`."""
    state, feed = State(job.net()), job.feed(job.rows.split.train)
    cadence = job.cadence(feed.steps_per_epoch)
    regularization.begin(job, state)
    saved = folder.newest_checkpoint(job, run, tell)
    if saved is not None:
        checkpoint.resume_counters(state, saved)
    if job.machine.first:
        folder.cut_events(run, state.events_bytes)
    log, progress = EventLog(run if job.machine.first else None), Progress(cadence.total, quiet)
    with contextlib.closing(progress), Signals() as signals:
        for event in (
            steps(job, state, feed, cadence, saved, tell=tell, log=log) if not out_of_patience(job, state) else ()
        ):
            log.step(event)
            progress.step(event)
            last = event.step == cadence.total
            if due(event.step, cadence.evaluate, last) and len(job.rows.split.valid):
                with regularization.judged(job, state, feed):
                    value = validate(job, state, feed, log)
                    keep(job, state, run, value)
                progress.scored(job.select, value)
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
    still_true(job, state, feed)
    if state.best is not None:
        checkpoint.load_best(state, run.checkpoints)
        tell(f"best valid {job.select}: {state.best['value']:.3f} at step {state.best['step']}")
    else:
        regularization.settle(job, state, feed)
    blend(job, state, run, feed, log, tell)
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
) -> Iterator[Event]:
    """The steps of all phases, from where the State stands."""
    plan = job.plan
    regularization.begin(job, state)
    average, told = regularization.average(job.recipe), set[str]()
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
        pace = job.pace(index, cadence, feed.steps_per_epoch, regularization.penalty(job, state))
        feed.kept = kept_rows(job, state, feed, pace.last_step - state.step, tell, log)
        for event in train_phase(state, phase.name, job.steps(phase, feed), objective, pace, job.machine):
            if average.step is not None:
                evaluates = due(event.step, cadence.evaluate, event.step == cadence.total)
                average.step(state, event.step / cadence.total, evaluates)
            yield event


def kept_rows(
    job: Job, state: State, feed: Feed, num_steps: int, tell: Tell, log: EventLog | None
) -> CachedRows | None:
    """What the frozen prefix of a phase gives for every row, computed once where the phase reads it more often."""
    how, depth = job.recipe.train.cache, frozen_depth(state.net)
    if how == "off" or depth < 2:
        return None
    rows = np.union1d(job.rows.split.train, job.rows.split.valid)
    started = time.perf_counter()
    phase = job.plan.phases[state.phase].name
    try:
        if feed.augmented is not None:
            raise Uncacheable("the rows are augmented anew in each epoch")
        once = num_steps <= feed.steps_per_epoch
        kept = cached_rows(state.net, job.encoded, rows, job.machine, how, only_found=once)
    except Uncacheable as reason:
        tell(f"phase {phase}: its {depth} frozen stages run in every step: {reason}")
        return None
    seconds, total = time.perf_counter() - started, len(set(kept.keys.values()))
    found = f", {total - kept.num_computed} found on disk" if kept.num_computed < total else ""
    tell(
        f"phase {phase}: its {depth} frozen stages run once a row: {kept.num_computed} rows computed{found}, "
        f"in {seconds:.1f} s, for {num_steps / feed.steps_per_epoch:.3g} passes"
    )
    if log is not None:
        fields = {"phase": phase, "stages": depth, "computed": kept.num_computed, "found": total - kept.num_computed}
        log.line("cache", **fields, seconds=round(seconds, 3))
    return kept


def still_true(job: Job, state: State, feed: Feed) -> None:
    """At the end of a phase that read kept outputs: one batch of them against the same batch live."""
    if feed.kept is None:
        return
    try:
        compare(state.net, feed.kept, feed.rows, job.machine)
    except Uncacheable as reason:
        remedy = "run again with --set train.cache=off, and report this"
        raise MachineError(f"the frozen prefix changed while it was in use: {reason}", remedy=remedy) from None


def due(step: int, every: int, last: bool) -> bool:
    """Whether something that happens every so many steps (0 = never) happens at this one; always at the last."""
    return every > 0 and (last or step % every == 0)


def validate(job: Job, state: State, feed: Feed, log: EventLog) -> float:
    """Score the validation rows; the score goes into the State, which decides from it on every rank alike."""
    started = time.perf_counter()
    rows = job.rows.split.valid
    # An average may differ from the weights whose frozen prefix is kept.
    kept = None if regularization.average(job.recipe).scored else feed.kept
    outputs = outputs_of(state.net, kept or job.encoded, rows, job.machine)
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


def keep(job: Job, state: State, run: Run, value: float) -> None:
    """Keep the weights as they are if they are the best so far, or one of those that an average may be made of."""
    if is_best(state, value, job.select):
        checkpoint.save_best(state, run.checkpoints, value, write=job.machine.first)
    members = regularization.average(job.recipe).members
    if members and not np.isnan(value):
        rises = rising(job.select)
        checkpoint.save_member(state, run.checkpoints, value, members, rising=rises, write=job.machine.first)


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
        cadence, state = job.cadence(feed.steps_per_epoch), State(net)
        for event in steps(job, state, feed, cadence, tell=_say_nothing):
            last = event.step == cadence.total
            if last or (job.plan.shortens and due(event.step, feed.steps_per_epoch, last)):
                epoch = -(-event.step // feed.steps_per_epoch)
                nothing = np.full((len(rows), job.rows.target.num_outputs), np.nan, np.float32)
                with regularization.judged(job, state, feed):
                    kept = None if regularization.average(job.recipe).scored else feed.kept
                    outputs = outputs_of(net, kept or job.encoded, rows[held], job.machine)
                held_out.setdefault(epoch, nothing)[held] = outputs
        net.load_state_dict(untouched)
    values = {
        epoch: scores.value_of(job, rows, whole) for epoch, whole in held_out.items() if not np.isnan(whole).any()
    }
    best = max(values, key=lambda epoch: (values[epoch] if rising(job.select) else -values[epoch], -epoch))
    if job.machine.first:
        scores.save_folds(run, held_out[best])
    tell(f"cross-validated {job.select}: {values[best]:.3f}, best after {best} of {max(values)} epochs")
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
        names = [*["own"] * (pretrained.own_head and not job.pooled), *pretrained.poolings]
        top = max((value for name, value in candidates.items() if name in names), default=None)
        best = next((name for name in names if candidates.get(name) == top), "own")
        head = Choice(name="own") if best == "own" else Choice(name="pooled", options={"pooling": best})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in candidates.items())
        how = f"best of {shown} ({job.select} of a linear model on frozen features)"
    if job.pooled and head.name == "own":
        what = f"{job.recipe.objective.name} compares pooled features, and this model's own head has none"
        raise RecipeError(what, where=pretrained.origin.name, remedy="use objective = supervised, or another model")
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
    outputs, cache = job.rows.target.num_outputs, job.recipe.train.cache
    features = measure.frozen_features(job.pretrained, outputs, job.encoded, rows, job.machine, cache=cache)
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
    phase = job.plan.heaviest
    longest = job.steps(phase, job.feed(job.rows.split.train, micro=batch)).longest
    phases.open_phase(net, phase)
    micro = measure.fitting_micro(net, job.objective(phase), longest, batch, job.machine)
    micro = -job.machine.most(-micro)
    if micro < batch:
        tell(f"micro-batch: {micro} of the step's {batch} rows at once, to fit into memory")
    return replace(job, micro=micro), micro


def _with_stages(job: Job, tell: Tell) -> tuple[Job, dict[str, Any] | None]:
    """The stages that a strategy's `train = "auto"` stands for: those whose gradients are largest beside their weights,
    under a head that was fitted for a few steps on the frozen body. The net is left as it was."""
    count = surgery.num_wanted(job.recipe)
    if count is None:
        return job, None
    net, feed, probe = job.net(), job.feed(job.rows.split.train), surgery.probe(job)
    untouched = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    for _ in steps(probe, State(net), feed, probe.cadence(feed.steps_per_epoch), tell=_say_nothing):
        pass
    feed.kept = None
    phases.open_phase(net, job.plan.phases[-1])
    phases.freeze_unreached(net, probe.objective(), feed.make(feed.rows[:2]))
    batches = [feed(step)[0] for step in range(surgery.BATCHES)]
    norms = gradient_norms.relative_norms(net, probe.objective(), batches, job.machine)
    net.load_state_dict(untouched)
    chosen = surgery.largest(norms, count)
    shown = ", ".join(f"{stage} {norm:.2g}" for stage, norm in norms.items())
    tell(f"stages that train: {', '.join(chosen)} (relative gradient norms: {shown})")
    return surgery.with_stages(job, chosen), {"train": chosen, "relative_gradient_norms": norms}


def _say_nothing(_line: str) -> None:
    """What ranks other than the first tell."""
