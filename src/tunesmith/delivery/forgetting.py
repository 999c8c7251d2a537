"""Forgetting: what the model could do before and can do now, and how much of the tuning is kept where that is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tunesmith.assemble.job import Job, Tell
from tunesmith.assemble.loaded import Loaded, load_run
from tunesmith.assemble.source_task import SourceTask, open_source_task, refuse_other_body
from tunesmith.delivery import drift, folder, scores
from tunesmith.errors import RecipeError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.check import TEXT
from tunesmith.run import Run
from tunesmith.training.machine import Machine
from tunesmith.training.measure import spread
from tunesmith.training.state import mixed

MOST_JUDGES = 300
"""Valid rows that are asked at every point of the curve, at most."""
FEWEST = 10
"""Source rows that choose, and that judge, at least."""
POINTS = 10
"""Of the curve, beside the pretrained weights."""


@dataclass(frozen=True)
class Point:
    """A body between the pretrained (share 0) and the tuned one (share 1), under the new head and under the old one."""

    share: float
    new: Predictions | None
    old: Predictions


def require_source_task(job: Job, tell: Tell) -> None:
    """Open what `evaluate.source_task` names and let it go again: what is wrong with it is said before training."""
    asked = job.recipe.evaluate
    if asked.source_task is None:
        return
    if asked.source_task.endswith(TEXT):
        drift.texts(asked.source_task)
        drift.language_model(job)
        return
    source = open_source_task(job.recipe, job.objects, job.rows, _exact(job))
    refuse_other_body(source, job.pretrained)
    for note in source.notes:
        tell(f"source task: {note}")
    if asked.keep is not None and min(source.halves.sum(), (~source.halves).sum()) < FEWEST:
        what = f"{len(source.codes)} rows are too few: one half chooses how much is kept, the other judges it"
        raise RecipeError(what, where="evaluate.keep", remedy=f"give {4 * FEWEST} or more")


def measure(job: Job, run: Run, net: Tunable, tell: Tell) -> None:
    """Write drift.json. Where the recipe keeps a share of the old score, save the model that does in place of the tuned
    one: `net` then holds it, and all that is measured is of it."""
    started = time.perf_counter()
    if job.recipe.model.name.startswith("new:") and job.recipe.model.weights is None:
        found: dict[str, Any] = {"stages": [], "skipped": drift.FROM_SCRATCH}
    else:
        tuned = load_run(run, _exact(job), job.objects.model)
        source = _source_task(job, run, net, tuned)  # First: it may change the weights.
        found = {**drift.of_stages(job, tuned), **source, **drift.of_language(job, tuned)}
    if job.machine.first:
        for line in drift.in_words(found):
            tell(line)
        run.write("drift.json", found)
        run.append_event("drift", seconds=round(time.perf_counter() - started, 3))
    job.machine.gather(None)


def _exact(job: Job) -> Machine:
    return replace(job.machine, precision="fp32")


def _source_task(job: Job, run: Run, net: Tunable, tuned: Loaded) -> dict[str, Any]:
    """The old score before and after with the curve between them, and what was kept, where a source task is given."""
    asked = job.recipe.evaluate
    if asked.source_task is None or asked.source_task.endswith(TEXT):
        return {}
    source = open_source_task(job.recipe, job.objects, job.rows, tuned.machine)
    metric, judges = source.former.metric, np.arange(len(source.codes))
    put, shares = _between(tuned, source)
    points = _curve(job, tuned, source, put, shares)
    chosen, found = points[-1], dict[str, Any]()
    if asked.keep is not None:
        choosing, judges = np.flatnonzero(source.halves), np.flatnonzero(~source.halves)
        chosen = kept_point(points, asked.keep, metric, choosing)
        chose = f"{len(choosing)} source rows, which judge nothing"
        found["kept"] = {"asked": asked.keep, "share": chosen.share, "chosen_on": chose}
    put(chosen.share)
    if chosen.share < 1:
        if job.machine.first:
            job.pretrained.put(tuned.pretrained.weights)
        folder.replace_model(job, run, net)
    before, after = (point.old.take(judges) for point in (points[0], chosen))
    values = [intervals.score(each, [metric], classes=False)[metric] for each in (before, after)]
    about = {"data": source.name, "metric": metric, "rows": len(judges), "before": values[0], "after": values[1]}
    found["source"] = {**about, "difference": difference(before, after, metric)}
    found["blend"] = [_as_json(job, point, judges, metric) for point in points]
    return found


def kept_point(points: list[Point], keep: float, metric: str, rows: np.ndarray) -> Point:
    """The point of the largest share whose old score, on `rows`, has lost at most the part 1 - `keep` of the score
    before; of an error, has risen by at most that part."""
    sign = 1 if intervals.rising(metric) else -1
    values = [sign * intervals.value(point.old.take(rows), metric) for point in points]
    least = values[0] - (1 - keep) * abs(values[0])
    # Of 0.9 x 0.8 and the like the last bits are noise.
    return [point for point, value in zip(points, values, strict=True) if value >= least - 1e-9][-1]


def difference(before: Predictions, after: Predictions, metric: str) -> dict[str, float | None]:
    """The gain of the second over the first on the same rows, below 0 where it is worse, with the ends of its 95 %
    interval: paired bootstrap (Efron & Tibshirani 1993)."""
    sign = 1 if intervals.rising(metric) else -1
    drawn = sign * (intervals.resamples(after, metric) - intervals.resamples(before, metric))
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (None, None)
    value = sign * (intervals.value(after, metric) - intervals.value(before, metric))
    return {"value": value, "low": None if low is None else float(low), "high": None if high is None else float(high)}


def _between(tuned: Loaded, source: SourceTask) -> tuple[Callable[[float], None], list[float]]:
    """What puts the weights at a share of the way from the pretrained to the tuned into both bodies, and the shares of
    the curve: one where nothing has moved."""
    bodies = (source.former.pretrained, tuned.pretrained)
    start, end = ({name: tensor.clone() for name, tensor in body.weights.items()} for body in bodies)
    end = {name: end[name] for name in start}

    def put(share: float) -> None:
        weights = mixed(start, end, share)
        for body in bodies:
            body.put(weights)

    moved = any(not torch.equal(start[name], end[name]) for name in start)
    return put, [number / POINTS for number in range(POINTS + 1)] if moved else [1.0]


def _curve(
    job: Job, tuned: Loaded, source: SourceTask, put: Callable[[float], None], shares: list[float]
) -> list[Point]:
    """The points of the curve."""
    rows, points = spread(job.rows.split.valid, MOST_JUDGES), []
    for share in shares:
        put(share)
        new = None
        if len(rows):
            outputs = outputs_of(tuned.net, job.encoded, rows, tuned.machine)
            new = scores.deciding(job, job.rows.codes[rows], outputs)
        points.append(Point(share, new, source.predictions(tuned.machine)))
    return points


def _as_json(job: Job, point: Point, judges: np.ndarray, metric: str) -> dict[str, Any]:
    own, name = job.objects.metrics, scores.plain_name(job.select)
    mine = [each for each in own if each.__name__ == name]
    new = None
    if point.new is not None:
        new = intervals.score(point.new, [] if mine else [name], mine, classes=False)[name]
    old = intervals.score(point.old.take(judges), [metric], classes=False)[metric]
    return {"share": point.share, "new": new, "old": old}
