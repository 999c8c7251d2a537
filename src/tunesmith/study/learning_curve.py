"""The learning curve of a recipe: what it scores with an eighth, a quarter, half and all of its training rows."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from tunesmith.assemble.rows import Objects, Rows
from tunesmith.data.ledger import Entry
from tunesmith.data.split import nested
from tunesmith.delivery import drawing
from tunesmith.delivery.estimate import opened
from tunesmith.delivery.scores import Thresholds, metric_names
from tunesmith.errors import DataError, Interrupted
from tunesmith.evaluation import intervals
from tunesmith.evaluation.intervals import shown
from tunesmith.evaluation.power_law import Outlook, look_ahead
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.pipeline import measured, train
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.signals import terminable
from tunesmith.study import curve_picture
from tunesmith.training.machine import is_first

Tell = Callable[[str], None]

SHARES = (Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 8))
"""All rows first: what is wrong with them is known before anything trains."""
FEWEST = 64
"""Training rows: of fewer an eighth says nothing."""


@dataclass(frozen=True)
class Point:
    """The score on the valid rows after training on so many rows."""

    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """The scores of each size, and what twice the rows would likely bring."""

    recipe: Recipe
    """Of all rows, with every "auto" that facts decide filled in."""
    metric: str
    points: tuple[Point, ...]
    outlook: Outlook

    def draw(self, path: Path | str) -> None:
        """Write the curve as a PNG of 1000 x 600."""
        title = f"{self.recipe.strategy.name} on {self.recipe.model.name}"
        curve_picture.draw(Path(path), title, self.metric, self._drawn, self.outlook)

    @property
    def _drawn(self) -> list[curve_picture.Point]:
        return [(point.rows, point.value, point.low, point.high) for point in self.points]

    def __str__(self) -> str:
        lines = [f"{'rows':>8}  valid {self.metric}, with 95 % interval"]
        lines += [f"{point.rows:>8,}  {shown(vars(point))}" for point in self.points]
        lines += ["", *curve_picture.blocks(self.metric, self._drawn, self.outlook), "", self._said]
        return "\n".join(lines)

    @property
    def _said(self) -> str:
        """What twice the rows would likely bring."""
        found, last = self.outlook, self.points[-1]
        interval = f"{found.gain:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        if found.value is None:
            sizes = f"from {self.points[0].rows:,} to {last.rows:,} rows"
            what = f"{sizes} the {self.metric} changes by {interval}, which may be chance"
            return f"whether more rows would help cannot be told: {what}; more valid rows would tell it better"
        what = f"{found.rows:,} training rows would likely bring {self.metric} {found.value:.3f}"
        return f"twice the rows: {what}, {interval} (a power law; each size was trained once)"


def learning_curve(recipe: Recipe, objects: Objects, tell: Tell, png: Path | None = None) -> LearningCurve:
    """Train the recipe on nested, stratified parts of its training rows, each as a fit with so many rows would, score
    all on the same valid rows, and write the picture to `png`; no Run is left.

    RecipeError where no row is set aside to score on, or `png` is in no folder; DataError for too few rows."""
    drawing.require_folder(png)
    tell = tell if is_first() else _nothing
    points: list[Point] = []
    drawn: list[np.ndarray] = []
    resolved: Recipe | None = None
    for share in SHARES:
        try:
            found, num_rows, predictions = _trained(recipe, objects, share, _nothing if points else tell)
        except Interrupted as error:
            raise Interrupted("interrupted; of a learning curve nothing is kept", error.code) from None
        resolved = resolved or found
        metric = resolved.evaluate.select.removeprefix("memory:")
        scored = intervals.score(predictions, metric_names(resolved), objects.metrics, classes=False)[metric]
        if None in scored.values():
            what = f"the {len(predictions.ids)} valid rows do not define {metric}"
            raise DataError(what, where=recipe.data.source, remedy="set more rows aside, or another evaluate.select")
        points.insert(0, Point(num_rows, **scored))
        drawn.insert(0, intervals.resamples(predictions, metric, objects.metrics))
        tell(f"{'all' if share == 1 else share} of the training rows, {num_rows:,}: valid {metric} {shown(scored)}")
    sizes, values = [point.rows for point in points], [point.value for point in points]
    outlook = look_ahead(sizes, values, np.stack(drawn, 1), rising=intervals.rising(metric))
    assert resolved is not None
    curve = LearningCurve(resolved, metric, tuple(points), outlook)
    if png is not None and is_first():
        drawing.write(curve.draw, png, tell)
    return curve


def part_of(rows: Rows, share: Fraction) -> Rows:
    """The rows with a share of those that train: of each class the ones with the lowest hashes, at least one, so that
    a smaller share is part of a larger one."""
    if not len(rows.split.valid):
        what = f"no row is set aside to score on: all {len(rows.split.train)} train"
        raise DataError(what, where=rows.table.source, remedy="--valid FILE, or --set data.split=hash")
    train = rows.split.train
    if len(train) < FEWEST:
        what = f"{len(train)} training rows are too few for a learning curve"
        raise DataError(what, where=rows.table.source, remedy=f"{FEWEST} or more")
    kept = train[nested(rows.table.hashes[train], None if rows.labels is None else rows.labels[train], share)]
    left_out = Entry("train", "curve", "dropped", len(train) - len(kept), f"{share} of the rows train")
    ledger = rows.ledger.with_entries([left_out])
    return replace(rows, split=replace(rows.split, train=kept), ledger=ledger).recounted()


def _trained(recipe: Recipe, objects: Objects, share: Fraction, tell: Tell) -> tuple[Recipe, int, Predictions]:
    """The recipe as it is resolved for a share of the training rows, their number, and how the valid rows are answered
    after training on them."""
    if share < 1:  # What the recipe allows is asked of all rows.
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"limits": {}})})
    with terminable(), contextlib.ExitStack() as stack:
        job = stack.enter_context(opened(recipe, objects, tell, lambda rows: part_of(rows, share)))
        place = tempfile.TemporaryDirectory(prefix="tunesmith-curve-") if job.machine.first else None
        run = Run(Path(job.machine.agree(stack.enter_context(place) if place else None)))
        job = measured(job, run, _nothing)
        net = train(job, run, _nothing, quiet=not sys.stderr.isatty())
        target, valid = job.rows.target, job.rows.split.valid
        outputs = outputs_of(net, job.encoded, valid, replace(job.machine, precision="fp32"))
        outputs = outputs * target.std + target.mean
        job.machine.gather(None)  # The folder goes with the first rank.
        parts = (job.rows.table.ids()[valid], job.rows.codes[valid], outputs, job.rows.task, target)
        predictions = Thresholds(job).decided("", "valid", Predictions(*parts))
        return job.recipe, len(job.rows.split.train), predictions


def _nothing(_line: str) -> None:
    """What the trainings tell."""
