"""The seconds of a trial, foretold from what a row and a step cost, and from what earlier trials of its arm took."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.assemble.job import Job
from tunesmith.models.prefix import frozen_depth
from tunesmith.study.record import Record
from tunesmith.training import phases

STEP_SECONDS = 0.0025
"""What a step costs beside its rows, on a usual core; what it really is, the first trials say."""
BACKWARD = 2.0
"""A backward pass costs about twice a forward pass (Kaplan et al. 2020, section 2.1)."""
LATEST = 5
"""So many of an arm's latest trials tell how far its costs are from what was reckoned."""


@dataclass(frozen=True)
class Work:
    """What a trial does: optimizer steps, and passes of a row forward through the whole net, or what is as much."""

    steps: int
    passes: float
    trained: int
    """Parameters that move in its last phase."""


def work_of(job: Job) -> Work:
    """Count the work of a Job whose head is known."""
    net, split = job.net(), job.rows.split
    batch = job.recipe.train.batch
    assert isinstance(batch, int)
    feed = job.feed(split.train)
    cadence = job.cadence(feed.steps_per_epoch)
    keeps = job.recipe.train.cache != "off" and job.augmented is None
    passes, start, trained = 0.0, 0, 0
    for phase, end in zip(job.plan.phases, cadence.ends(job.plan), strict=True):
        phases.open_phase(net, phase)
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        moving = 1 - frozen_depth(net) / max(1, len(net.stages) - 1)
        steps, pairs = end - start, 2 if job.minimised(phase).name == "contrastive" else 1
        kept = keeps and steps > feed.steps_per_epoch
        live = moving if kept else 1.0
        passes += steps * batch * pairs * (live + BACKWARD * moving)
        passes += (len(split.train) + len(split.valid)) * (1 - moving) if kept else 0
        passes += len(split.valid) * live * (steps // cadence.evaluate if cadence.evaluate else 0)
        start = end
    return Work(cadence.total, passes, trained)


def reckoned(work: Work, row_seconds: float, overhead: float) -> float:
    """Seconds for the whole length, before any trial has been timed."""
    return overhead + work.steps * STEP_SECONDS + work.passes * row_seconds


def corrected(seconds: float, arm: str, records: Sequence[Record]) -> float:
    """What was reckoned, times how far the arm's latest trials were off; those of all arms where it has none."""
    timed = [record for record in records if record.steps and record.length and record.cost.get("reckoned")]
    mine = [record for record in timed if record.arm == arm][-LATEST:] or timed[-LATEST:]
    ratios = [record.seconds / (record.cost["reckoned"] * record.steps / record.length) for record in mine]
    return seconds * statistics.median(ratios) if ratios else seconds
