"""The frozen prefix of a phase: whether its outputs are kept, what is told of it, and whether it is still true."""

from __future__ import annotations

import time

import numpy as np

from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Job, Tell
from tunesmith.data.augmented import fixed_views
from tunesmith.data.encoded import Encoded
from tunesmith.errors import MachineError
from tunesmith.models.prefix import Uncacheable, frozen_depth
from tunesmith.training.frozen import CachedRows, cached_rows, compare
from tunesmith.training.observers import EventLog
from tunesmith.training.state import State


def kept_rows(
    job: Job, state: State, feed: Feed, num_steps: int, tell: Tell, log: EventLog | None
) -> CachedRows | None:
    """What the frozen prefix of a phase gives for every row, computed once where the phase reads it more often."""
    how, depth = job.recipe.train.cache, frozen_depth(state.net)
    if how == "off" or depth < 2:
        return None
    started = time.perf_counter()
    phase = job.plan.phases[state.phase].name
    rows, passes = np.union1d(job.rows.split.train, job.rows.split.valid), 1
    encoded: Encoded = job.encoded
    try:
        if feed.augmented is not None:
            views = feed.views or fixed_views(feed.augmented, job.rows.split.train)
            if isinstance(views, str):
                raise Uncacheable(views)
            feed.views, encoded, passes = views, views.encoded, views.count
            rows = np.arange(views.num_rows)
        once = num_steps <= passes * feed.steps_per_epoch
        kept = cached_rows(state.net, encoded, rows, job.machine, how, only_found=once)
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
        compare(state.net, feed.kept, job.machine)
    except Uncacheable as reason:
        remedy = "run again with --set train.cache=off, and report this"
        raise MachineError(f"the frozen prefix changed while it was in use: {reason}", remedy=remedy) from None
