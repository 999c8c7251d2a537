"""One trial of a search: trained as a fit would, ended early where it is not worth its time, and scored on valid."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tunesmith.assemble.job import Job
from tunesmith.delivery.scores import Thresholds
from tunesmith.errors import TunesmithError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.tunable import Tunable
from tunesmith.pipeline import measured, train
from tunesmith.run import Run, events_of
from tunesmith.study.record import Record
from tunesmith.study.workbench import Workbench
from tunesmith.training.state import State

NINTHS = 9
"""A report is made at so many parts of a trial's length at most."""


@dataclass(frozen=True)
class Trained:
    """What a trial left in memory: the net at its best step, and what it answered the valid rows."""

    record: Record
    job: Job
    run: Run
    net: Tunable
    outputs: np.ndarray
    """Of the valid rows, in the unit that training has."""
    epochs: float
    """The passes over the training rows to its best step."""


@dataclass
class Follower:
    """Looks at a trial after each step: it tells its scores, and says when it is enough, and why."""

    record: Record
    until: float
    """The moment (`time.time()`) at which it must end."""
    length: int
    tell: Callable[[Record], bool]
    """Takes the record after each further ninth; whether it is to be pruned."""
    beat: Callable[[Record], None]
    seen: int = 0
    step: int = 0

    def __call__(self, state: State) -> bool:
        self.step = state.step
        self.beat(self.record)
        new = [score for score in state.scores[self.seen :] if score["value"] is not None]
        self.seen = len(state.scores)
        ninths = NINTHS * state.step // max(1, self.length)
        if new and ninths > (self.record.reports[-1][0] if self.record.reports else 0):
            best = state.best["value"] if state.best is not None else new[-1]["value"]
            self.record = replace(self.record, reports=(*self.record.reports, (ninths, float(best))), steps=state.step)
            if ninths < NINTHS and self.tell(self.record):
                self.record = replace(self.record, state="pruned", why=f"pruned at {ninths}/{NINTHS} of its length")
                return True
        if time.time() > self.until:
            self.record = replace(self.record, state="stopped", why="its time was over")
            return True
        return False


def run_trial(
    bench: Workbench,
    record: Record,
    job: Job,
    *,
    until: float,
    tell: Callable[[Record], bool],
    beat: Callable[[Record], None],
    keep: Callable[[Trained], None],
) -> Record:
    """Train the Job of a record and give the record as it ended; what it left in memory goes to `keep` while it is
    there. What a person could not have foreseen, a collapse or settings that do not go together, is a finding."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tunesmith-trial-") as folder:
        run = Run(Path(folder))
        try:
            job = measured(job, run, _nothing)
            feed = job.feed(job.rows.split.train)
            cadence = job.cadence(feed.steps_per_epoch)
            follower = Follower(replace(record, length=cadence.total), until, cadence.total, tell, beat)
            net = train(job, run, _nothing, True, follower)
            record = replace(follower.record, steps=follower.step)
            if record.state == "running":
                record = replace(record, state="done")
            outputs, record = _scored(job, net, record)
            events = [event for event in events_of(run) if event["event"] in ("collapse", "restart")]
            if any(event["event"] == "restart" for event in events):
                record = replace(record, why=f"{record.why}; collapsed, begun again at a lower rate".lstrip("; "))
            scored = [event for event in events_of(run) if event["event"] == "evaluate" and event["value"] is not None]
            best = _best_step(job, scored, follower.step)
            record = replace(record, seconds=round(time.perf_counter() - started, 3))
            keep(Trained(record, job, run, net, outputs, best / feed.steps_per_epoch))
        except (TunesmithError, torch.OutOfMemoryError) as error:
            what = str(error).splitlines()[0]
            record = replace(record, state="failed", why=what, seconds=round(time.perf_counter() - started, 3))
    return record


def _scored(job: Job, net: Tunable, record: Record) -> tuple[np.ndarray, Record]:
    """What the net answers the valid rows, in the unit that training has, and the record with its score and costs."""
    started, valid, target = time.perf_counter(), job.rows.split.valid, job.rows.target
    outputs = outputs_of(net, job.encoded, valid, replace(job.machine, precision="fp32"))
    seconds = (time.perf_counter() - started) / len(valid)
    scaled = outputs * target.std + target.mean
    parts = (job.rows.table.ids()[valid], job.rows.codes[valid], scaled, job.rows.task, target)
    predictions = Thresholds(job).decided("", "valid", Predictions(*parts))
    name = job.select.removeprefix("memory:")
    found = intervals.score(predictions, [name], job.objects.metrics, classes=False)[name]
    size = sum(p.numel() for p in net.parameters())
    cost = {"parameters": float(size), "bytes": 4.0 * size, "row_seconds": seconds}
    return outputs, replace(record, **found, cost={**record.cost, **cost})


def _best_step(job: Job, scored: list[dict[str, float]], last: int) -> int:
    """The step whose weights were kept: that of the best evaluation, the first of equals."""
    if not scored:
        return last
    sign = 1 if intervals.rising(job.select) else -1
    return int(max(scored, key=lambda event: (sign * event["value"], -event["step"]))["step"])


def _nothing(_line: str) -> None:
    """What a trial tells."""
