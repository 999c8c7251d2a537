"""What a run would cost, measured without training: seconds, memory and disk, from passes over real batches."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Cadence, Job, Tell, prepare, with_assumed_head
from tunesmith.assemble.rows import Objects, Rows
from tunesmith.data.batch import Batch
from tunesmith.data.split import each_fold
from tunesmith.delivery.beside import baselines_of, frozen_rows
from tunesmith.delivery.folder import needed_bytes
from tunesmith.delivery.scores import metric_names
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.files import digest, size
from tunesmith.models.prefix import Uncacheable, frozen_depth
from tunesmith.models.tunable import Tunable
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Recipe
from tunesmith.strategies.plan import Phase, assign
from tunesmith.training import machine, measure, phases
from tunesmith.training.frozen import CachedRows, cached_rows
from tunesmith.training.loop import Pace, train_phase
from tunesmith.training.state import State

SAMPLES = 8
"""Batches of a phase that are timed at most."""


@dataclass(frozen=True)
class Estimate:
    """What `check` found. `seconds` is for the whole length: an early stop ends sooner."""

    recipe: Recipe
    reasons: dict[str, str]
    trains: tuple[str, ...]
    """A line per phase and stage: parameters that train, and at what rate."""
    steps: int
    seconds: float
    peak_bytes: int
    disk_bytes: int
    folds: int = 0
    seeds: int = 0
    """Trainings besides that of the delivered model; `seconds` is for all of them."""

    def __str__(self) -> str:
        what = f"{self.steps} steps"
        if self.folds:
            what = f"{self.folds + 1} trainings: {self.folds} folds, then all rows ({what})"
        if self.seeds:
            what = f"{self.seeds + 1} trainings: one a seed ({what} each)"
        lines = [
            recipe_file.dump(self.recipe, self.reasons),
            *self.trains,
            f"time: about {_clock(self.seconds)} for {what}, measured here on {self.recipe.train.device}",
            f"memory: about {size(self.peak_bytes)} at the peak",
            f"disk: about {size(self.disk_bytes)} at the peak",
        ]
        return "\n".join(lines)


@contextlib.contextmanager
def opened(recipe: Recipe, objects: Objects, tell: Tell, fewer: Callable[[Rows], Rows] | None = None) -> Iterator[Job]:
    """The Job that `fit` would prepare, for as long as the `with` lasts; of `fewer` rows, if that is given."""
    check_recipe(recipe)
    place = machine.start(recipe.train.device, recipe.train.precision, deterministic=recipe.train.deterministic)
    with contextlib.closing(place):
        yield prepare(recipe, objects, place, tell, fewer)


def enter(job: Job, net: Tunable, feed: Feed, phase: Phase) -> list[str]:
    """Open a phase as the run does; the names of what it would train but the loss does not reach."""
    phases.open_phase(net, phase)
    return phases.freeze_unreached(net, job.objective(phase), feed.make(feed.rows[:2]))


def estimate(recipe: Recipe, objects: Objects, tell: Tell) -> Estimate:
    """Prepare the run as `fit` would, time a few real steps on a net that is thrown away, and reckon the rest."""
    started = time.perf_counter()
    with opened(recipe, objects, tell) as job:
        reading = time.perf_counter() - started
        # From the start of the process: a fit imports, reads and loads just as this check did.
        prepared = time.time() - psutil.Process().create_time()
        job = with_assumed_head(job)
        net = job.net()
        feed = job.feed(job.rows.split.train)
        cadence = job.cadence(feed.steps_per_epoch)
        before = _in_use(job)
        seconds, peak = _training_cost(job, net, feed, cadence)
        judging, judge_bytes = _judging_cost(job)
        # At the end the saved model is read again, beside what judging imports: its file as mapped, a second net, and
        # the weights that are copied into it.
        model = sum(p.numel() * 4 for p in job.pretrained.module.parameters())
        split = job.recipe.data.split
        folded = split != "auto" and split.name == "kfold"
        folds = each_fold(**split.options) if folded and split != "auto" else []
        others, each = len(folds) or job.recipe.evaluate.seeds - 1, reading + seconds + judging
        if folds:
            each = reading + (1 - 1 / folds[0]["k"]) * seconds + _judging_cost(_fold(job, folds[0]["k"]))[0]
        # They read the rows and the model again, and so does the model that is delivered after them.
        seconds = prepared + seconds + judging + others * each + (reading if others else 0)
        peak = max(peak, before + judge_bytes + 3 * model)
        trains = tuple(line for phase in job.plan.phases for line in _what_trains(job, net, feed, phase))
        parts = (job.recipe, job.reasons, trains, cadence.total, seconds, peak, needed_bytes(job))
        return Estimate(*parts, folds=len(folds), seeds=job.recipe.evaluate.seeds - 1)


def _fold(job: Job, k: int) -> Job:
    """The Job with a fold's number of rows to judge by."""
    test = job.rows.split.train[::k]
    return replace(job, rows=replace(job.rows, split=replace(job.rows.split, test=test)))


def _training_cost(job: Job, net: Tunable, feed: Feed, cadence: Cadence) -> tuple[float, int]:
    """Seconds of training, evaluating and saving, and the most bytes in use: the phases one after another, each with
    its own cost of a step."""
    plan, split = job.plan, job.rows.split
    spread = _spread(feed, max(3, min(SAMPLES, 3 * SAMPLES // len(plan.phases))))
    ends = cadence.ends(plan)
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    costs = [_phase_cost(job, net, feed, index, spread, length) for index, length in enumerate(lengths)]
    stepping = sum(length * cost.seconds for length, cost in zip(lengths, costs, strict=True))
    # A checkpoint holds what any phase moves (about what the largest does), and the two moments of what moves now.
    moved = max(cost.trained_bytes for cost in costs)
    saves = cadence.total // cadence.save if cadence.save else 0
    each = [moved + 2 * cost.trained_bytes for cost in costs]
    saved = saves * sum(length * part for length, part in zip(lengths, each, strict=True)) / max(1, cadence.total)
    evaluations = cadence.total // cadence.evaluate if cadence.evaluate else 0
    # Where frozen stages run once a row, that is one pass over all rows, and next to nothing for an evaluation.
    live = sum(length for length, cost in zip(lengths, costs, strict=True) if cost.once is None)
    passes = len(split.valid) * (evaluations * live / max(1, cadence.total) + 1) + len(split.test)
    # What the baselines read of the frozen body, a phase that runs it once reads too.
    passes += max(len(frozen_rows(job)), sum(cost.once or 0 for cost in costs)) + _measured_rows(job)
    rows = np.concatenate([split.train, split.valid])
    rows = rows[:: max(1, len(rows) // 128)][:128]
    started = time.perf_counter()
    outputs_of(net, job.encoded, rows, job.machine)
    per_row = (time.perf_counter() - started) / len(rows)
    seconds = stepping + passes * per_row + saved / _write_speed()
    folds = len(job.rows.folds(split.train)) if job.rows.cross_validated else 0
    if job.recipe.data.augment == "auto":
        folds = 2 * (len(job.rows.folds(split.train)) if job.rows.few_judges else 1)
    return seconds * (1 + folds), max(cost.peak_bytes for cost in costs) + moved


@dataclass(frozen=True)
class _Cost:
    """Of a phase: seconds of a step, the most bytes in use, bytes of what trains, and the rows that run through its
    frozen stages once, before its steps enter behind them; None where they run in every step."""

    seconds: float
    peak_bytes: int
    trained_bytes: int
    once: int | None


def _phase_cost(job: Job, net: Tunable, feed: Feed, index: int, spread: list[int], length: int) -> _Cost:
    """Steps on the longest real batch and on batches spread over all lengths, with the real optimizer at rate 0."""
    phase = job.plan.phases[index]
    enter(job, net, feed, phase)
    state = State(net, job.optimizer(phases.groups(net, phase)))
    feed.kept = _kept(job, net, feed, spread, length)
    batches = job.steps(phase, feed)

    def some(step: int) -> tuple[list[Batch], int]:
        """The longest batch twice, then those that are timed."""
        return batches(spread[-1] if step < 2 else spread[step - 2])

    in_use = _in_use(job)
    with measure.peak_memory(job.machine) as peak:
        pace = Pace(len(spread) + 2, lambda _step: 0.0, job.recipe.seed, job.clip())
        events = list(train_phase(state, phase.name, some, job.objective(phase), pace, job.machine))
    once = None
    if feed.kept is not None:
        once = len(job.rows.split.train) + len(job.rows.split.valid)
        # What chose the head on features of the whole body has kept them.
        once -= _measured_rows(job) if frozen_depth(net) == len(net.stages) - 1 else 0
    feed.kept = None
    trained = sum(p.numel() * 4 for p in net.parameters() if p.requires_grad)
    return _Cost(float(np.mean([event.seconds for event in events[2:]])), in_use + peak(), trained, once)


def _measured_rows(job: Job) -> int:
    """Rows that run through the body to choose the head."""
    if job.recipe.model.head != "auto" or job.pretrained.labels:
        return 0
    return sum(min(measure.MOST_ROWS, len(rows)) for rows in (job.rows.split.train, job.rows.split.valid))


def _kept(job: Job, net: Tunable, feed: Feed, spread: list[int], length: int) -> CachedRows | None:
    """The rows to be timed behind the frozen stages, where the run would keep every row there; a fit finds them."""
    how = job.recipe.train.cache
    if how == "off" or frozen_depth(net) < 2 or length <= feed.steps_per_epoch or feed.augmented is not None:
        return None
    rows = np.unique(np.concatenate([feed.epoch(0)[step] for step in spread]))
    try:
        return cached_rows(net, job.encoded, rows, job.machine, how)
    except Uncacheable:
        return None


def _judging_cost(job: Job) -> tuple[float, int]:
    """Seconds and bytes of scoring the model and its baselines at the end: one is scored here, on random outputs."""
    split = job.rows.split
    parts = [rows for rows in (split.valid if len(split.valid) else split.train, split.test) if len(rows)]
    started, before = time.perf_counter(), psutil.Process().memory_info().rss
    rows = parts[-1]
    shape = (len(rows), job.rows.target.num_outputs)
    outputs = np.random.Generator(np.random.PCG64(0)).normal(size=shape)
    made = Predictions(rows.astype(str), job.rows.codes[rows], outputs, job.rows.task, job.rows.target)
    intervals.score(made, metric_names(job.recipe), classes=False)
    first = time.perf_counter() - started
    started = time.perf_counter()
    intervals.score(made, metric_names(job.recipe), classes=False)
    again = time.perf_counter() - started
    # Each baseline is scored, and compared with the model.
    times = 1 + 2 * len(baselines_of(job.rows.task.baselines, job.rows.modality))
    scored = sum(len(part) for part in parts) / len(rows) * times
    in_memory = 0 if job.machine.device.type == "cuda" else psutil.Process().memory_info().rss - before
    return first + again * max(0.0, scored - 1), max(0, in_memory)


def _spread(feed: Feed, most: int) -> list[int]:
    """At most so many steps of the first epoch, whose batches are spread evenly over all lengths."""
    steps = np.arange(feed.steps_per_epoch)
    if feed.encoded.lengths is not None:
        widths = [int(feed.encoded.lengths[rows].max()) * len(rows) for rows in feed.epoch(0)]
        steps = np.argsort(widths, kind="stable")
    positions = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [int(step) for step in steps[positions]]


def _in_use(job: Job) -> int:
    if job.machine.device.type == "cuda":
        return int(torch.cuda.memory_allocated(job.machine.device))
    return int(psutil.Process().memory_info().rss)


def _write_speed() -> float:
    """Bytes a second that are written, flushed and digested here."""
    data = os.urandom(16_000_000)
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        path = Path(name) / "data"
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        digest(path)
        return len(data) / (time.perf_counter() - started)


def _what_trains(job: Job, net: Tunable, feed: Feed, phase: Phase) -> list[str]:
    """For each stage: how many parameters train, of how many, and at what multiple of the rate."""
    enter(job, net, feed, phase)
    rules, address = assign(phase.rules, net.kinds()), net.address()
    lines = []
    for stage in net.stages:
        mine = {name: p for name, p in address.items() if name.startswith(f"{stage.name}/")}
        training = {name: p for name, p in mine.items() if p.requires_grad}
        rates = sorted({f"{rules[name].lr:g}" for name in training})
        share = f"trains at {', '.join(rates)} x lr" if training else "frozen, or not read by the head"
        counts = [f"{sum(p.numel() for p in some.values()):>12,}" for some in (training, mine)]
        lines.append(f"{phase.name:>8}  {stage.name:<9} {' of '.join(counts)}  {share}")
    return lines


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
