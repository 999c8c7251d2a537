"""The remedy for a run that collapsed: who watches it, and the rate and warm-up with which it is tried again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Job, facts_of
from tunesmith.data.batch import MAIN, Batch
from tunesmith.duration import Duration
from tunesmith.evaluation.predict import outputs_of
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.resolve import resolve
from tunesmith.strategies.plan import Phase
from tunesmith.training import measure
from tunesmith.training.collapse import Watch

ROWS = 16
"""Training rows whose outputs are looked at: enough to tell the same answer for all from different ones."""
MOST_CODES = 10_000
"""Targets that the best constant answer is computed from at most, evenly spaced."""


def watch(job: Job, net: Tunable, feed: Feed, told: Callable[[str], None]) -> Watch:
    """Who looks at outputs of some of the training rows on their way, as the recipe says."""
    some = measure.spread(feed.rows, ROWS)
    return Watch(lambda: outputs_of(net, feed.plain, some, job.machine), job.recipe.train.on_collapse, told)


def constant_loss(job: Job, phase: Phase, net: Tunable, rows: np.ndarray) -> float | None:
    """The loss of the best answer that is the same for every row, of cross-entropy the entropy of the labels; None
    where the phase does not tune the head by its answers, or where that loss is no number."""
    head = [p for name, p in net.named_parameters() if name in net.stages[-1].parameters]
    name = job.minimised(phase).name
    if not any(p.requires_grad for p in head) or (name != "supervised" and not name.startswith("memory:")):
        return None
    dtype = torch.int64 if job.rows.codes.dtype.kind == "i" else torch.float32
    codes = torch.from_numpy(job.rows.codes[measure.spread(rows, MOST_CODES)]).to(dtype)
    answer = _constant(job, codes)
    batch = Batch((), {MAIN: {}}, codes, torch.ones(len(codes)))
    loss = job.objective(phase)(lambda _inputs: answer.expand(len(codes), -1), batch)  # type: ignore[arg-type]
    value = float(loss.sum / loss.count)
    return value if math.isfinite(value) else None


def remedied(job: Job) -> Job:
    """The job as it is tried again: at most a third of its rate, and no more than what is published for what moves;
    a warm-up of 20 % of the length, or twice its own up to a half (Mosbach et al. 2021, Zhang et al. 2021)."""
    train = job.recipe.train
    asked = job.recipe.model_copy(update={"train": train.model_copy(update={"lr": "auto"})})
    known = resolve(asked, facts_of(job.rows, job.pretrained, job.encoded, job.machine, job.plan))[0].train.lr
    names = [phase.name for phase in job.plan.phases]
    own, published = _by_phase(train.lr, names), _by_phase(known, names)
    rates = {name: min(own[name] / 3, published[name]) for name in names}
    lower = rates if len(set(rates.values())) > 1 else rates[names[0]]
    feed = job.feed(job.rows.split.train)
    total = job.cadence(feed.steps_per_epoch).total
    warmup = Duration.parse(train.warmup).steps(steps_per_epoch=feed.steps_per_epoch, total=total) / max(1, total)
    longer = f"{100 * min(0.5, max(0.2, 2 * warmup)):.0f} %"
    changed = train.model_copy(update={"lr": lower, "warmup": longer})
    return replace(job, recipe=job.recipe.model_copy(update={"train": changed}))


def _by_phase(rate: float | dict[str, float] | str, names: list[str]) -> dict[str, float]:
    """One rate for each phase."""
    assert not isinstance(rate, str), "a Job's rates are settled"
    return rate if isinstance(rate, dict) else dict.fromkeys(names, rate)


def _constant(job: Job, codes: Tensor) -> Tensor:
    """Outputs (1, outputs) that answer with the share of each label, or with the mean."""
    width = job.rows.target.num_outputs
    if job.rows.task.name == "regression":
        return torch.zeros(1, width)
    shares = codes.float().mean(0) if codes.dim() == 2 else torch.bincount(codes, minlength=width) / len(codes)
    shares = shares.clamp(1e-6, 1 - 1e-6)
    return (torch.logit(shares) if codes.dim() == 2 else shares.log())[None]
