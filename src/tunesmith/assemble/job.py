"""Rows + model -> Job: a recipe with everything it names, live, and what the loop needs of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith import plugins
from tunesmith.assemble import accounts, opened
from tunesmith.assemble.feeds import Feed, Steps, augmented_rows, check_reads, steps_of
from tunesmith.assemble.rows import Objects, Rows, open_rows, without_unreadable
from tunesmith.assemble.thresholds import with_threshold
from tunesmith.data.augmented import AugmentedRows
from tunesmith.data.encoded import Encoded, Encoder
from tunesmith.data.ledger import UNLABELLED
from tunesmith.data.split import PART_OF
from tunesmith.duration import Duration
from tunesmith.errors import ModelError, Problem, RecipeError, nearest
from tunesmith.evaluation.intervals import rising
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import Objective, reads
from tunesmith.recipe.check import takes_scores
from tunesmith.recipe.facts import Facts
from tunesmith.recipe.resolve import resolve
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.seeds import fold, seed_everything
from tunesmith.strategies.plan import Edit, Phase, Plan, then_head
from tunesmith.training.averaging import Average
from tunesmith.training.loop import Pace, Penalty
from tunesmith.training.machine import Machine

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cadence:
    """A run's lengths in optimizer steps."""

    total: int
    evaluate: int
    save: int

    def ends(self, plan: Plan) -> list[int]:
        """The last step of each phase."""
        return [int(end) for end in np.round(np.cumsum([phase.share for phase in plan.phases]) * self.total)]


@dataclass(frozen=True)
class Job:
    """A recipe with everything it names, live. `head` and `micro` are None until they are measured."""

    recipe: Recipe
    reasons: dict[str, str]
    objects: Objects
    rows: Rows
    pretrained: Pretrained
    encoder: Encoder
    encoded: Encoded
    machine: Machine
    head: Choice | None = None
    micro: int | None = None
    epochs: int | None = None
    """A length that cross-validation measured, in place of the recipe's."""
    strategy: Choice | None = None
    """The strategy with the stages that were measured, in place of the recipe's."""
    augmented: AugmentedRows | None = None
    """The rows as training sees them, where the recipe augments them."""
    unlabelled: AugmentedRows | None = None
    """Rows without a target."""

    @property
    def select(self) -> str:
        """The metric that decides."""
        return self.recipe.evaluate.select

    @functools.cached_property
    def plan(self) -> Plan:
        """What trains, how fast and when."""
        return plan_of(self.recipe, self.pretrained, self.strategy)

    @property
    def pooled(self) -> bool:
        """Whether an objective of the plan reads pooled features, which the model's own head does not have."""
        return any(reads(self.minimised(phase).name) == "pairs" for phase in self.plan.phases)

    def net(self) -> Tunable:
        """The Tunable on its device; the seed decides the new head's weights, whatever happened before."""
        assert self.head is not None
        seed_everything(fold(self.recipe.seed, "head"))
        net = Tunable(self.pretrained, self.head.name, self.head.options, self.rows.target.num_outputs)
        target = self.rows.target
        if self.pretrained.labels and (target.mean, target.std) != (0.0, 1.0):
            # A regression head that is kept answers in the target's unit; training works in standard deviations.
            # Every net shares the model's own head, a pooled one is made anew for each.
            if not (net.own and self.pretrained.standardised):
                net.fold_scale(-target.mean / target.std, 1 / target.std)
            self.pretrained.standardised = True
        self.machine.place(net)
        return net

    def feed(self, rows: npt.NDArray[np.int64], micro: int | None = None) -> Feed:
        """The batches of the given rows."""
        dtype = torch.int64 if self.rows.codes.dtype.kind == "i" else torch.float32
        codes = torch.from_numpy(self.rows.codes).to(dtype)
        batch = self.recipe.train.batch
        assert isinstance(batch, int)
        micro = micro or self.micro or batch
        seed, is_balanced = self.recipe.seed, self.recipe.data.sampler == "balanced"
        return Feed(self.encoded, codes, rows, batch, micro, seed, self.machine, self.augmented, balanced=is_balanced)

    def steps(self, phase: Phase, feed: Feed) -> Steps:
        """The batches that the phase's objective reads."""
        return steps_of(self.minimised(phase), feed, self.unlabelled)

    def cadence(self, steps_per_epoch: int) -> Cadence:
        """The recipe's lengths for so many steps an epoch."""
        train = self.recipe.train
        length = Duration(self.epochs, "epochs") if self.epochs else Duration.parse(train.length)
        total = length.steps(steps_per_epoch=steps_per_epoch)
        evaluate, save = (
            Duration.parse(text).steps(steps_per_epoch=steps_per_epoch, total=total)
            for text in (train.every.evaluate, train.every.save)
        )
        return Cadence(total, evaluate, save)

    def minimised(self, phase: Phase | None = None) -> Choice:
        """What a phase minimises: the recipe's objective, unless it names another; that one has no options."""
        own, name = self.recipe.objective, None if phase is None else phase.objective
        return own if name is None or name == own.name else Choice(name=name)

    def objective(self, phase: Phase | None = None) -> Objective:
        choice = self.minimised(phase)
        make = plugins.get("objective", "supervised" if choice.name.startswith("memory:") else choice.name)
        made: Objective = make(self.rows.task, self.rows.target, self.objects.loss, **choice.options)
        return made

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        choice = self.recipe.train.optimizer
        made: torch.optim.Optimizer = plugins.get("optimizer", choice.name)(groups, **choice.options)
        return made

    def pace(
        self,
        index: int,
        cadence: Cadence,
        steps_per_epoch: int,
        penalty: Penalty | None = None,
        scores: Sequence[dict[str, Any]] = (),
    ) -> Pace:
        """How a phase moves; its schedule runs over the phase, or over the whole where the plan carries."""
        plan, lr = self.plan, self.recipe.train.lr
        assert lr != "auto"
        ends = cadence.ends(plan)
        start = ends[index - 1] if index and not plan.carry else 0
        total = (cadence.total if plan.carry else ends[index]) - start
        peak = lr[plan.phases[index].name] if isinstance(lr, dict) else lr
        factor = self.factor(total, steps_per_epoch, scores, start)
        return Pace(ends[index], lambda step: peak * factor(step - start), self.recipe.seed, self.clip(), penalty)

    def factor(
        self, total: int, steps_per_epoch: int, scores: Sequence[dict[str, Any]] = (), start: int = 0
    ) -> Callable[[int], float]:
        """The rate's factor at a step of `total`: a straight rise over the warm-up, then the schedule over the rest.

        `scores` are those of the State, which grow; the first step is number `start` of the run."""
        choice = self.recipe.train.schedule
        schedule = plugins.get("schedule", choice.name)
        warmup = Duration.parse(self.recipe.train.warmup).steps(steps_per_epoch=steps_per_epoch, total=total)
        sign, reads_scores = (1 if rising(self.select) else -1), takes_scores(schedule)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            since = [
                (score["step"] - start - warmup, sign * (math.nan if score["value"] is None else score["value"]))
                for score in scores
                if score["step"] > start + warmup
            ]
            return float(schedule(step - warmup, max(1, total - warmup), *[since] * reads_scores, **choice.options))

        return factor

    @property
    def average(self) -> Average:
        """The weights that are kept along the way, scored and mixed, in place of the last."""
        return average_of(self.recipe)

    def clip(self) -> Callable[[list[torch.nn.Parameter]], None] | None:
        """What limits the gradients of a step."""
        choice = self.recipe.train.clip
        assert choice != "auto"
        if not isinstance(choice, Choice):
            choice = Choice(name="norm", options={"limit": choice})
            if not choice.options["limit"]:
                return None
        return functools.partial(plugins.get("clip", choice.name), **choice.options)


def plan_of(recipe: Recipe, pretrained: Pretrained, strategy: Choice | None = None) -> Plan:
    """The plan of the strategy, if not given the recipe's, for a model's stages."""
    names = [*(stage.name for stage in pretrained.stages), "head"]
    choice = strategy or recipe.strategy
    made: Plan = plugins.get("strategy", choice.name)(names, **choice.options)
    return then_head(made, recipe.objective.name) if reads(recipe.objective.name) == "pairs" else made


def apply_edits(recipe: Recipe, pretrained: Pretrained) -> None:
    """Change the network as the recipe, then the strategy, ask; what an edit draws follows the seed."""

    def edits() -> Iterator[Edit]:
        yield from (Edit(name, options) for name, options in recipe.model.edits.items())
        yield from plan_of(recipe, pretrained).edits  # Of the stages that the recipe's own edits have left.

    for number, edit in enumerate(edits()):
        seed_everything(fold(recipe.seed, "edit", number, edit.name))
        homes = pretrained.homes()
        plugins.get("edit", edit.name)(pretrained, **edit.options)
        pretrained.restage(homes)


def prepare(
    recipe: Recipe,
    objects: Objects,
    machine: Machine,
    tell: Tell,
    fewer: Callable[[Rows], Rows] | None = None,
    *,
    rows: Rows | None = None,
) -> Job:
    """Open the rows, unless they are there, and the model, and fill in every "auto" that facts decide. `fewer` leaves
    out some of the rows before anything is learnt from them."""
    rows = open_rows(recipe, objects, opened.reads(recipe, objects)) if rows is None else rows
    rows = fewer(rows) if fewer is not None else rows
    for note in rows.notes:
        tell(note)
    rows = with_threshold(recipe, rows, tell)
    pretrained, encoder = opened.opened(recipe, objects, rows)
    tell(pretrained.told)
    if recipe.model.head != "auto":
        _check_head(recipe.model.head, pretrained)
    apply_edits(recipe, pretrained)
    rows = rows.ordered(pretrained.labels)
    encoded = encoder.encode(rows.table, rows.inputs)
    told = len(rows.notes)
    rows = without_unreadable(rows, encoded, recipe.data.clean.missing)
    rows = accounts.compared(rows, encoded, recipe.data.clean)
    for note in rows.notes[told:]:
        tell(note)
    plan = plan_of(recipe, pretrained)
    _check_rates(recipe, plan)
    _check_average(recipe, rows)
    if recipe.data.sampler == "balanced" and rows.task.name != "classification":
        what = f"data.sampler = balanced draws classes alike, and this is a {rows.task.name}"
        raise RecipeError(what, remedy="leave it out")
    check_reads(recipe, plan)
    augmented, unlabelled = augmented_rows(recipe, rows, encoded, encoder, lambda: pretrained.embeddings)
    more = None if unlabelled is None else unlabelled.encoded
    rows = replace(rows, ledger=accounts.settled(rows, encoded, more, recipe.data.limits))
    facts = facts_of(rows, pretrained, encoded, machine, plan)
    recipe, reasons = resolve(opened.with_places(recipe, objects), facts)
    for line in (*encoded.notes, *_told(rows, encoded, encoder)):
        tell(line)
    head = None if recipe.model.head == "auto" else recipe.model.head
    micro = None if recipe.train.micro == "auto" else recipe.train.micro
    parts = (recipe, reasons, objects, rows, pretrained, encoder, encoded, machine)
    job = Job(*parts, head=head, micro=micro, augmented=augmented, unlabelled=unlabelled)
    for phase in plan.phases:
        job.objective(phase)
    return job


def facts_of(rows: Rows, pretrained: Pretrained, encoded: Encoded, machine: Machine, plan: Plan) -> Facts:
    """What `resolve` may look at."""
    return Facts(
        name=_name(rows),
        task=rows.task.name,
        inputs=rows.inputs,
        target=rows.columns[0] if len(rows.columns) == 1 else rows.columns,
        num_train=len(rows.split.train),
        num_valid=len(rows.split.valid),
        num_outputs=rows.target.num_outputs,
        num_parameters=sum(parameter.numel() for parameter in pretrained.body.parameters()),
        phases=tuple((phase.name, phase.moves) for phase in plan.phases),
        pairs=any(phase.objective and reads(phase.objective) == "pairs" for phase in plan.phases),
        modality=rows.modality,
        max_positions=pretrained.max_positions,
        longest=encoded.longest,
        seconds=getattr(encoded, "seconds", 0.0),
        pretrained=not pretrained.origin.name.startswith("new:"),
        device=str(machine.device) if machine.world == 1 else machine.device.type,
        precision=machine.precision,
        split=rows.split.how,
        select=rows.task.select,
        metrics=rows.metrics,
    )


def _name(rows: Rows) -> str:
    place = Path(rows.table.origin[0][0] if rows.table.origin else "")
    source = place.parent.name if place.name.lower() in PART_OF and place.parent.name else place.stem
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in source).strip("-")
    return name or "run"


def _told(rows: Rows, encoded: Encoded, encoder: Encoder) -> list[str]:
    split, target = rows.split, rows.target
    sizes = f"{len(split.train)} train, {len(split.valid)} valid, {len(split.test)} test rows"
    lines = [
        f"{sizes} ({split.how})",
        *(str(entry) for entry in rows.ledger.entries if entry.action != "cut" or entry.part == UNLABELLED),
    ]
    if rows.task.name != "regression":
        pairs = list(zip(target.labels, target.counts, strict=True))
        shown = ", ".join(f"{label} {count}" for label, count in pairs[:12]) + (" ..." if len(pairs) > 12 else "")
        positive = "" if target.positive is None else f'; positive label: "{target.labels[target.positive]}"'
        lines.append(f"labels in order, with training rows: {shown}{positive}")
    if encoded.num_cut:
        most, longest = encoder.most, encoded.longest
        read, used = (sum(pair[place] for pair in rows.ledger.tokens.values()) for place in (0, 1))
        share = f"; {1 - used / read:.1%} of all tokens are lost" if read else ""
        lines.append(f"{encoded.num_cut} rows are longer than {most} and are cut (longest: {longest}){share}")
    return lines


def average_of(recipe: Recipe) -> Average:
    """What is averaged; nothing unless the recipe says so."""
    choice = recipe.train.average
    made: Average = plugins.get("average", choice.name)(**choice.options) if choice else Average()
    return made


def _check_average(recipe: Recipe, rows: Rows) -> None:
    """RecipeError for an average that is chosen on validation rows where there are none."""
    choice = recipe.train.average
    if choice is None or average_of(recipe).finish is None or len(rows.split.valid):
        return
    what = f"train.average = {choice.name} is chosen on validation rows, and no row is set aside"
    other = "the option coefficient (0.5 is the published advice)" if choice.name == "wise_ft" else "average = ema"
    raise RecipeError(what, remedy=f"set data.valid or data.split, or {other}")


def _check_rates(recipe: Recipe, plan: Plan) -> None:
    """Rates by phase must name the phases, each once."""
    lr, names = recipe.train.lr, [phase.name for phase in plan.phases]
    if isinstance(lr, dict):
        for name in lr:
            if name not in names:
                what = f'"train.lr": the strategy {recipe.strategy.name} has no phase "{name}"'
                raise RecipeError(what, remedy=nearest(name, names))
        if missing := [name for name in names if name not in lr]:
            raise RecipeError(
                f'"train.lr" says nothing of the phase {missing[0]}', remedy=f"phases: {', '.join(names)}"
            )


def _check_head(head: Choice, pretrained: Pretrained) -> None:
    problems = []
    if head.name == "own" and not pretrained.own_head:
        problems.append(
            Problem("its family has no classification head of its own", pretrained.origin.name, "head = pooled")
        )
    if head.name == "own" and head.options and not pretrained.head_path:
        what = "its own head is found by its library"
        problems.append(Problem(what, pretrained.origin.name, "leave the options of model.head out"))
    if head.name == "pooled" and not pretrained.poolings:
        what = "its hidden states cannot be pooled into one vector a row"
        problems.append(Problem(what, pretrained.origin.name, "use --set model.head=own"))
    if problems:
        raise ModelError(problems)


def with_assumed_head(job: Job) -> Job:
    """The Job with a head, unmeasured: the recipe's, else that which was trained for these labels, else the first
    pooling, else the model's own."""
    if job.head is not None:
        return job
    pretrained = job.pretrained
    options = pretrained.head_choice.get("options") if pretrained.labels else None
    if options is None and not pretrained.labels and pretrained.poolings:
        options = {"pooling": pretrained.poolings[0]}
    return replace(job, head=Choice(name="own") if options is None else Choice(name="pooled", options=options))
