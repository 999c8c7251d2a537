"""One trial of a search: trained as a fit would, ended early where it is not worth its time, and scored on valid."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tunesmith.assemble.job import Job
from tunesmith.assemble.rows import Rows
from tunesmith.delivery.scores import Thresholds
from tunesmith.errors import TunesmithError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.tunable import Tunable
from tunesmith.pipeline import measured, train
from tunesmith.run import Run, events_of
from tunesmith.study.record import Record
from tunesmith.study.workbench import TIMED, Workbench
from tunesmith.training.state import State

NINTHS = 9
"""A report is made at so many parts of a trial's length at most."""


@dataclass(frozen=True)
class Trained:
    """What a trial left in memory: the net at its best step, of the first split where there are several."""

    record: Record
    job: Job
    run: Run
    net: Tunable
    epochs: float
    """The passes over the training rows to its best step."""


@dataclass
class Follower:
    """Looks at a trial after each step: it tells its scores, and says when it is enough, and why."""

    record: Record
    until: float
    """The moment (`time.time()`) at which it must end."""
    length: int
    """Steps of one split."""
    tell: Callable[[Record], Record]
    """Takes the record after each further ninth, and gives it back, pruned if it is not worth it."""
    beat: Callable[[Record], None]
    alone: bool = True
    """Whether there is one split: of several only whole ones are reported."""
    seen: int = 0
    step: int = 0
    """Steps of this split so far."""

    def __call__(self, state: State) -> bool:
        self.step = state.step
        self.beat(self.record)
        new = [score for score in state.scores[self.seen :] if score["value"] is not None]
        self.seen = len(state.scores)
        if new and self.alone:
            best = state.best["value"] if state.best is not None else new[-1]["value"]
            self.report(state.step / max(1, self.length), float(best))
        if self.record.state == "running" and time.time() > self.until:
            self.record = replace(self.record, state="stopped", why="its time was over")
        return self.record.state != "running"

    def report(self, share: float, value: float) -> None:
        """Tell the score that was reached by a share of the whole length."""
        ninths = int(NINTHS * share + 1e-9)
        if ninths <= (self.record.reports[-1][0] if self.record.reports else 0):
            return
        self.record = replace(self.record, reports=(*self.record.reports, (ninths, value)))
        self.record = self.tell(self.record)


def run_trial(
    bench: Workbench,
    record: Record,
    job: Job,
    *,
    until: float,
    tell: Callable[[Record], Record],
    beat: Callable[[Record], None],
    keep: Callable[[Trained], None],
) -> Record:
    """Train the Job of a record and give the record as it ended; what it left in memory goes to `keep` while it is
    there. What nobody could foresee, a collapse or settings that do not go together, is a finding of the search."""
    started, splits = time.perf_counter(), bench.splits
    answers: list[np.ndarray] = []
    done = 0
    trained: Trained | None = None
    with tempfile.TemporaryDirectory(prefix="tunesmith-trial-") as folder:
        try:
            for number, rows in enumerate(splits):
                run = Run(Path(folder) / str(number))
                run.path.mkdir()
                job = measured(bench.prepared(record.settings, rows) if number else job, run, _nothing)
                feed = job.feed(rows.split.train)
                length = job.cadence(feed.steps_per_epoch).total
                record = replace(record, length=length * len(splits))
                follower = Follower(record, until, length, tell, beat, alone=len(splits) == 1)
                net = train(job, run, _nothing, True, follower)
                answers.append(outputs_of(net, job.encoded, rows.split.valid, replace(job.machine, precision="fp32")))
                done += follower.step
                record = _scored(job, splits[: number + 1], answers, follower.record)
                if not follower.alone and record.state == "running" and record.value is not None:
                    follower.record = record
                    follower.report((number + 1) / len(splits), record.value)
                    record = follower.record
                if any(event["event"] == "restart" for event in events_of(run)):
                    record = replace(record, why=f"{record.why}; collapsed, begun again at a lower rate".lstrip("; "))
                if trained is None:
                    trained = Trained(record, job, run, net, _best_step(job, run, follower.step) / feed.steps_per_epoch)
                if record.state != "running":
                    break
            assert trained is not None
            record = replace(record, state="done" if record.state == "running" else record.state, steps=done)
            record = replace(_costed(trained, record), seconds=round(time.perf_counter() - started, 3))
            keep(replace(trained, record=record))
        except (TunesmithError, torch.OutOfMemoryError) as error:
            what = str(error).splitlines()[0]
            record = replace(record, state="failed", why=what, seconds=round(time.perf_counter() - started, 3))
    return record


def _scored(job: Job, splits: Sequence[Rows], answers: Sequence[np.ndarray], record: Record) -> Record:
    """The record with the score of all rows that were held out so far."""
    target = job.rows.target
    valid = np.concatenate([rows.split.valid for rows in splits])
    outputs = np.concatenate(answers) * target.std + target.mean
    parts = (job.rows.table.ids()[valid], job.rows.codes[valid], outputs, job.rows.task, target)
    predictions = Thresholds(job).decided("", "valid", Predictions(*parts))
    name = job.select.removeprefix("memory:")
    return replace(record, **intervals.score(predictions, [name], job.objects.metrics, classes=False)[name])


def _costed(trained: Trained, record: Record) -> Record:
    """The record with what the model would cost whoever uses it."""
    job, valid = trained.job, trained.job.rows.split.valid
    started = time.perf_counter()
    outputs_of(trained.net, job.encoded, valid[:TIMED], replace(job.machine, precision="fp32"))
    seconds = (time.perf_counter() - started) / len(valid[:TIMED])
    size = sum(p.numel() for p in trained.net.parameters())
    cost = {"parameters": float(size), "bytes": 4.0 * size, "row_seconds": seconds}
    return replace(record, cost={**record.cost, **cost})


def _best_step(job: Job, run: Run, last: int) -> int:
    """The step whose weights were kept: that of the best evaluation, the first of equals."""
    scored = [event for event in events_of(run) if event["event"] == "evaluate" and event["value"] is not None]
    sign = 1 if intervals.rising(job.select) else -1
    return int(max(scored, key=lambda event: (sign * event["value"], -event["step"]))["step"]) if scored else last


def _nothing(_line: str) -> None:
    """What a trial tells."""
