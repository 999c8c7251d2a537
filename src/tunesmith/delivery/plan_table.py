"""The plan as a table: every parameter of each phase with its rule, its rate and its weight decay."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.assemble import surgery
from tunesmith.assemble.job import Job, Tell, with_assumed_head
from tunesmith.assemble.rows import Objects
from tunesmith.delivery.estimate import enter, opened
from tunesmith.models.kinds import Kind
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.strategies.plan import Rule, assign
from tunesmith.training import phases

HEADINGS = ("parameter", "shape", "number", "kind", "rule", "rate", "decay")
INTEGER = re.compile(r"(?<!\d)(0|[1-9]\d*)(?!\d)")


@dataclass(frozen=True)
class Row:
    """One parameter in one phase. `rate` is None where it does not move; `decay` then too."""

    address: str
    """`stage/name`: what the globs of rules are held against."""
    shape: tuple[int, ...]
    kind: Kind
    rule: Rule
    rate: float | None
    """The highest learning rate of the phase, times the rule's multiple."""
    decay: float | None
    """What the optimizer's weight decay is multiplied by."""
    reached: bool = True
    """False for a parameter that the rule would move, but that the loss does not depend on: it stays as it is."""

    @property
    def number(self) -> int:
        return math.prod(self.shape)

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows after the address and the number."""
        rule = f"{self.rule.match} of kind {self.rule.kind}" if self.rule.kind else self.rule.match
        shape = " x ".join(map(str, self.shape)) or "scalar"
        if self.rate is None:
            return shape, self.kind, rule, "frozen" if self.reached else "not reached by the loss", ""
        return shape, self.kind, rule, f"{self.rate:.3g}", f"{self.decay:g}"


@dataclass(frozen=True)
class PhaseTable:
    """One phase: the steps after `start` up to `end`, and a row for each parameter in depth order."""

    name: str
    objective: str
    start: int
    end: int
    rate: float
    """The highest rate of the phase, before the rules multiply it."""
    rows: tuple[Row, ...]

    @property
    def trainable(self) -> int:
        """Numbers that move."""
        return sum(row.number for row in self.rows if row.rate is not None)

    @property
    def frozen(self) -> int:
        """Numbers that do not move."""
        return sum(row.number for row in self.rows if row.rate is None)

    def lines(self, total: int) -> list[str]:
        """The table and the counts; `total` is the number of steps of the run."""
        steps = f"steps {self.start + 1} to {self.end} of {total}" if self.end > self.start else f"0 of {total} steps"
        share = (self.end - self.start) / max(1, total)
        cells = [HEADINGS, *_cells(self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
        right = {HEADINGS.index("number")}
        table = [
            "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        unreached = sum(row.number for row in self.rows if not row.reached)
        lost = f", of which the loss does not reach {unreached:,}" if unreached else ""
        return [
            f"phase {self.name}: {steps} ({share:.0%}), {self.objective}, highest rate {self.rate:.3g}",
            *(f"  {line}" for line in table),
            f"  trainable {self.trainable:,}; frozen {self.frozen:,}{lost}",
        ]


@dataclass(frozen=True)
class PlanTable:
    """What `check` shows of a plan: its edits, then its phases."""

    recipe: Recipe
    """With every "auto" that facts decide filled in."""
    head: Choice
    steps: int
    edits: tuple[str, ...]
    added: int
    """Numbers that the edits added."""
    phases: tuple[PhaseTable, ...]

    def __str__(self) -> str:
        train, strategy = self.recipe.train, self.recipe.strategy
        names = f"{_named(strategy.name, strategy.options)} on {self.recipe.model.name}"
        length = f"{train.length} = {self.steps} steps of {train.batch} rows"
        optimizer = _named(train.optimizer.name, train.optimizer.options)
        lines = [f"plan: {names}; {length}; {optimizer}"]
        assumed = " (assumed: fit measures which)" if self.recipe.model.head == "auto" else ""
        lines.append(f"head: {_named(self.head.name, self.head.options)}{assumed}")
        if (count := surgery.num_wanted(self.recipe)) is not None:
            lines.append(f"stages: fit measures which {count} move; until then each of them may")
        if self.edits:
            lines += [f"edit {number}: {edit}" for number, edit in enumerate(self.edits, 1)]
            lines.append(f"  they added {self.added:,} numbers")
        else:
            lines.append("edits: none")
        for phase in self.phases:
            lines += ["", *phase.lines(self.steps)]
        return "\n".join(lines)


def plan_table(recipe: Recipe, objects: Objects, tell: Tell) -> PlanTable:
    """Prepare the run as `fit` would and read off what each phase does to each parameter; nothing is trained or timed.

    Two rows go through the net and back, once a phase: so the parameters that the loss does not reach are found."""
    with opened(recipe, objects, tell) as job:
        job = with_assumed_head(job)
        assert job.head is not None
        plan, net = job.plan, job.net()
        asked = [f"{_named(name, options)}, from the recipe" for name, options in job.recipe.model.edits.items()]
        asked += [f"{_named(edit.name, edit.options)}, from the strategy" for edit in plan.edits]
        added = sum(p.numel() for p in net.parameters() if id(p) in job.pretrained.added)
        tables = _phase_tables(job, net)
        return PlanTable(job.recipe, job.head, tables[-1].end, tuple(asked), added, tables)


def _phase_tables(job: Job, net: Tunable) -> tuple[PhaseTable, ...]:
    feed, plan = job.feed(job.rows.split.train), job.plan
    cadence = job.cadence(feed.steps_per_epoch)
    ends, start, found = cadence.ends(plan), 0, []
    address, kinds = net.address(), net.kinds()
    addresses = {id(parameter): name for name, parameter in address.items()}
    parameters = dict(net.named_parameters())
    for index, (phase, end) in enumerate(zip(plan.phases, ends, strict=True)):
        unreached = {addresses[id(parameters[name])] for name in enter(job, net, feed, phase)}
        pace = job.pace(index, cadence, feed.steps_per_epoch)
        peak = max((pace.rate(step) for step in range(start, end)), default=0.0)
        rules = assign(phase.rules, kinds)
        # What the optimizer is given, so that the table cannot tell anything else.
        moving = {id(p): group for group in phases.groups(net, phase) for p in group["params"]}
        rows = []
        for name, parameter in address.items():
            group = moving.get(id(parameter))
            rate, decay = (None, None) if group is None else (peak * group["multiple"], group["decay"])
            shape = tuple(parameter.shape)
            rows.append(Row(name, shape, kinds[name], rules[name], rate, decay, name not in unreached))
        found.append(PhaseTable(phase.name, job.minimised(phase).name, start, end, peak, tuple(rows)))
        start = end
    return tuple(found)


def _cells(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """The lines of the table; neighbouring stages that differ only in their numbers share lines, with the numbers as
    `{first..last}`: one line for `block.{0..5}/layer.{0..5}.bias` stands for six parameters, number by number."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(row.address.partition("/")[0], []).append(row)
    runs: list[list[list[Row]]] = []
    for stage in stages.values():
        if runs and _continues(runs[-1], stage):
            runs[-1].append(stage)
        else:
            runs.append([stage])
    lines = []
    for run in runs:
        for row, last in zip(run[0], run[-1], strict=True):
            count = f"{len(run)} x " if len(run) > 1 else ""
            shape, *others = row.cells
            lines.append((_ranged(row.address, last.address), shape, f"{count}{row.number:,}", *others))
    return lines


def _continues(run: Sequence[Sequence[Row]], stage: Sequence[Row]) -> bool:
    """Whether the stage is alike the last of the run in all that is shown, but for numbers one higher."""
    if len(stage) != len(run[-1]):
        return False
    for place, (last, row) in enumerate(zip(run[-1], stage, strict=True)):
        moves = _moves(last.address, row.address)
        if last.cells != row.cells or moves is None:
            return False
        if len(run) > 1 and moves != _moves(run[-2][place].address, last.address):
            return False
    return True


def _moves(one: str, other: str) -> list[int] | None:
    """By how much each number of an address grows from one to the other; None where more differs."""
    (*words, end), (*other_words, other_end) = INTEGER.split(one), INTEGER.split(other)
    if end != other_end or words[::2] != other_words[::2]:
        return None
    moves = [int(b) - int(a) for a, b in zip(words[1::2], other_words[1::2], strict=True)]
    return moves if set(moves) <= {0, 1} else None


def _ranged(first: str, last: str) -> str:
    """`block.{0..5}/layer.{0..5}.bias` for the first and the last address of a run."""
    pairs = zip(INTEGER.split(first), INTEGER.split(last), strict=True)
    return "".join(a if a == b else f"{{{a}..{b}}}" for a, b in pairs)


def _named(name: str, options: Mapping[str, Any]) -> str:
    """A choice in words: its name, and what was said of its options."""
    said = ", ".join(f"{key} = {value}" for key, value in options.items() if value is not None)
    return f"{name} ({said})" if said else name
