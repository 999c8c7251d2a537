"""What the trials of a search share: the rows, opened once, the place that trains, and what was measured for all."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tunesmith import choices
from tunesmith.assemble import opened
from tunesmith.assemble.job import Job, facts_of, plan_of, prepare, with_assumed_head
from tunesmith.assemble.rows import Objects, Rows, open_rows
from tunesmith.data.ledger import Entry
from tunesmith.data.split import make_folds
from tunesmith.delivery.beside import Frozen, answers, baselines_of, frozen, told
from tunesmith.delivery.overfitting import rows_curve
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import outputs_of
from tunesmith.models.pretrained import Pretrained
from tunesmith.recipe.resolve import resolve
from tunesmith.recipe.schema import Choice, Recipe, Search
from tunesmith.study.arms import situation_of
from tunesmith.study.default_space import Situation
from tunesmith.study.space import with_settings
from tunesmith.training.machine import Machine
from tunesmith.training.measure import spread

Tell = Callable[[str], None]

FIFTH = 5
"""Where the recipe sets few rows aside, one row in so many chooses during the search; the winner trains on all."""
ENOUGH = 300
"""So many valid rows choose well enough (the spread of an accuracy of 0.9 is then 0.017)."""
FEW = 200
"""Of fewer rows a fifth chooses by lot: each trial is trained five times, and asked about all of them."""
TIMED = 64
"""Rows whose prediction is timed."""
SPLITS = ("auto", "hash", "stratified", "random")
"""Splits made by lot, whose valid rows may train the winner in the end: what a person set aside by name may not."""


@dataclass(frozen=True)
class Measured:
    """What is measured once for all workers of a search, and noted for those who come later."""

    row_seconds: float
    """One pass of a row through the whole net, forward."""
    baselines: dict[str, float]
    """What each baseline scores on the valid rows."""
    baseline_seconds: float
    """What learning and asking them took."""
    more_rows: bool
    """Whether a simple model of the rows is better with all of them than with fewer."""


@dataclass
class Workbench:
    """The rows of a search, `whole` as the recipe splits them, and what was measured on them for all trials."""

    recipe: Recipe
    objects: Objects
    machine: Machine
    whole: Rows
    splits: tuple[Rows, ...]
    """The rows with the split that a trial is trained on; where rows are few several, which hold out each row once."""
    job: Job
    """That of the recipe as it was asked for, with its head."""
    measured: Measured
    heads: dict[str, Choice] = field(default_factory=dict)
    """Of each backbone the head that was measured, as the recipe writes it."""

    @property
    def rows(self) -> Rows:
        """The rows with the first split, or the only one."""
        return self.splits[0]

    @property
    def may_refit(self) -> bool:
        """Whether the valid rows may train in the end."""
        return may_refit(self.recipe, self.objects, self.whole)

    @property
    def all_rows(self) -> Rows:
        """The rows as a winner that trains on all has them: none is valid."""
        return self.whole if self.whole.cross_validated else together(self.whole)

    def recipe_with(self, settings: Mapping[str, Any]) -> Recipe:
        """The asked recipe with settings put over it."""
        return with_settings(self.recipe, settings)

    def prepared(self, settings: Mapping[str, Any], rows: Rows | None = None) -> Job:
        """The Job of a trial, with the head that was measured for its backbone where none is named."""
        recipe = self.recipe_with(settings)
        job = prepare(recipe, self.objects, self.machine, _nothing, rows=rows or self.rows)
        if job.head is not None:
            return job
        if job.recipe.model.name not in self.heads:
            head = choices.with_head(job, _nothing)[0].head
            assert head is not None
            self.heads[job.recipe.model.name] = head
        return replace(job, head=self.heads[job.recipe.model.name])

    def situations(self, backbones: Sequence[str]) -> dict[str, Situation]:
        """Each backbone, and what the space of a search with it depends on."""
        own = self.job.recipe.model.name if len(backbones) == 1 else ""
        return {name: situation_of(self.job if own else self.prepared({"model.name": name})) for name in backbones}

    def filled(self, recipe: Recipe) -> Recipe:
        """A recipe with every "auto" that facts decide, reckoned on the network that was asked for."""
        plan = plan_of(recipe, _as_trimmed(recipe, self.job.pretrained))
        parts = (self.job.rows, self.job.pretrained, self.job.encoded, self.machine, plan)
        return resolve(recipe, facts_of(*parts))[0]

    def sketched(self, settings: Mapping[str, Any]) -> Job:
        """The Job of a trial as far as its work can be counted by it, without loading anything."""
        recipe = self.filled(self.recipe_with(settings))
        head = None if recipe.model.head == "auto" else recipe.model.head
        return replace(self.job, recipe=recipe, head=head or self.heads[self.job.recipe.model.name])


def open_workbench(
    recipe: Recipe, objects: Objects, machine: Machine, tell: Tell, known: Mapping[str, Any] | None = None
) -> Workbench:
    """Read the rows, set some aside to choose by, and measure what all trials share: the head, the seconds of a row,
    what the baselines score; of that what is `known` is not measured again."""
    whole = open_rows(recipe, objects, opened.reads(recipe, objects))
    splits = splits_of(recipe, objects, whole)
    recipe = recipe.model_copy(update={"search": Search()})
    job = prepare(recipe, objects, machine, tell, rows=splits[0])
    head = choices.with_head(job, tell)[0].head
    assert head is not None
    job = replace(job, head=head)
    measured = Measured(**known) if known else _measured(job, splits)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in measured.baselines.items())
    tell(f"baselines, valid {job.select}: {shown}")
    heads = {job.recipe.model.name: head}
    return Workbench(recipe, objects, machine, whole, splits, job, measured, heads)


def _as_trimmed(recipe: Recipe, pretrained: Pretrained) -> Pretrained:
    """The network with the stages that the recipe leaves it, by which phases and their rates are called."""
    keep = recipe.model.edits.get("trim", {}).get("keep")
    if keep is None:
        return pretrained
    trimmed, gone = copy.copy(pretrained), {f"block.{number}" for number in range(keep, len(pretrained.stages))}
    trimmed.stages = tuple(stage for stage in pretrained.stages if stage.name not in gone)
    return trimmed


def _measured(job: Job, splits: Sequence[Rows]) -> Measured:
    untouched = frozen(job)
    started = time.perf_counter()
    baselines = _baselines(job, splits, untouched)
    seconds = time.perf_counter() - started
    return Measured(_row_seconds(job), baselines, seconds, bool(rows_curve(job, untouched)["gain"]))


def may_refit(recipe: Recipe, objects: Objects, whole: Rows) -> bool:
    """Whether the valid rows may train in the end: a person who sets rows aside by name means it."""
    by_lot = recipe.data.split == "auto" or recipe.data.split.name in SPLITS
    return whole.cross_validated or (by_lot and recipe.data.valid is None and objects.valid is None)


def together(rows: Rows) -> Rows:
    """The rows with the valid ones among those that train."""
    train = np.sort(np.concatenate([rows.split.train, rows.split.valid]))
    split = replace(rows.split, train=train, valid=train[:0], how="all")
    moved = Entry("valid", "search", "moved", len(rows.split.valid), "the winner trains on them too", to="train")
    return replace(rows, split=split, ledger=rows.ledger.with_entries([moved])).recounted()


def splits_of(recipe: Recipe, objects: Objects, whole: Rows) -> tuple[Rows, ...]:
    """The recipe's own split; where it sets few rows aside and may set others, a fifth of each class, and of few rows
    each fifth in its turn."""
    if len(whole.split.valid) >= ENOUGH or not may_refit(recipe, objects, whole):
        return (whole,)
    rows = whole if whole.cross_validated else together(whole)
    train = rows.split.train
    labels = None if rows.labels is None else rows.labels[train]
    folds = make_folds(rows.table.hashes[train], labels, FIFTH)
    found = []
    for fitting, held in folds if len(train) < FEW else folds[:1]:
        moved = Entry("train", "search", "moved", len(held), "they choose among trials", to="valid")
        split = replace(rows.split, train=train[fitting], valid=train[held], how="hash")
        found.append(replace(rows, split=split, ledger=rows.ledger.with_entries([moved])).recounted())
    return tuple(found)


def _row_seconds(job: Job) -> float:
    net = with_assumed_head(job).net()
    rows = spread(job.rows.split.train, TIMED)
    outputs_of(net, job.encoded, rows[:8], job.machine)
    started = time.perf_counter()
    outputs_of(net, job.encoded, rows, job.machine)
    return (time.perf_counter() - started) / len(rows)


def _baselines(job: Job, splits: Sequence[Rows], untouched: Frozen | None) -> dict[str, float]:
    """Name -> the score on valid of each baseline that has what it reads."""
    found, valid = dict[str, float](), np.concatenate([rows.split.valid for rows in splits])
    for name in baselines_of(job.rows.task.baselines, job.rows.modality):
        if name.startswith("frozen") and untouched is None:
            continue
        parts = [answers(job, name, rows.split.train, rows.split.valid, untouched) for rows in splits]
        predictions = told(job, valid, np.concatenate(parts))
        value = intervals.value(predictions, job.select.removeprefix("memory:"), job.objects.metrics)
        if not np.isnan(value):
            found[name] = float(value)
    return found


def _nothing(_line: str) -> None:
    """What the trials tell."""
