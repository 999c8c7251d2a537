"""Feeds: the batches of a step, of rows with their targets, of pairs of rows, and of rows without a target.

Each is a function of the step: the same on every rank, and after a resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from tunesmith import plugins
from tunesmith.assemble.rows import Rows
from tunesmith.data.augment import USUAL
from tunesmith.data.augmented import Augmentation, AugmentedRows, Changeable, FixedViews
from tunesmith.data.batch import FIRST, MAIN, SECOND, Batch
from tunesmith.data.encoded import Encoded, Encoder
from tunesmith.data.encoders.text import TextEncoder
from tunesmith.data.items import reading
from tunesmith.data.mixing import Mix, Mixture
from tunesmith.data.order import balanced, epoch_batches, parts
from tunesmith.errors import DataError, Problem, RecipeError
from tunesmith.objectives.objective import reads
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.seeds import fold
from tunesmith.strategies.plan import Plan
from tunesmith.training.frozen import CachedRows
from tunesmith.training.machine import Machine

PLURALS = {
    "text": "texts",
    "image": "images",
    "sound": "sounds",
    "table": "the columns of a table",
    "tensor": "tensors",
}
"""What rows are to a model, in words."""
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Steps(Protocol):
    """What gives a phase its batches."""

    def __call__(self, step: int) -> tuple[list[Batch], int]:
        """This rank's parts of the step's batch, and the rows of the whole batch."""

    def longest(self, num_rows: int) -> Batch:
        """The batch of so many rows that needs the most memory."""


@dataclass
class Feed:
    """`feed(step)` -> this rank's parts of the step's batch, and the rows of the whole batch; pure in the step."""

    encoded: Encoded
    codes: torch.Tensor
    rows: npt.NDArray[np.int64]
    batch: int
    micro: int
    seed: int
    machine: Machine
    augmented: AugmentedRows | None = None
    kept: CachedRows | None = None
    """What the frozen prefix gave for the rows, or for their views where there are any, while a phase reads it."""
    views: FixedViews | None = None
    """The fixed views of the rows that `kept` holds."""
    balanced: bool = False
    """Whether an epoch draws each class as often as any other, and not each row once."""
    _epoch: tuple[int, list[npt.NDArray[np.int64]]] = field(default=(-1, []), init=False)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.rows) // self.batch)

    def __call__(self, step: int) -> tuple[list[Batch], int]:
        epoch, index = divmod(step, self.steps_per_epoch)
        rows = self.epoch(epoch)[index]
        cut = parts(np.arange(len(rows)), micro=self.micro, world=self.machine.world)
        mixture = None if self.mix is None else self.mix.drawn(rows, self.seed, step)
        made = [
            self.make(rows[part], epoch, None if mixture is None else mixture.take(part))
            for part in cut[self.machine.rank :: self.machine.world]
        ]
        return made, len(rows)

    def epoch(self, number: int) -> list[npt.NDArray[np.int64]]:
        """The row numbers of each batch of an epoch."""
        if self._epoch[0] != number:
            rows = self.rows
            if self.balanced:
                rows = rows[balanced(self.codes[torch.from_numpy(rows)].numpy(), seed=self.seed, epoch=number)]
            lengths = None if self.encoded.lengths is None else self.encoded.lengths[rows]
            batches = epoch_batches(len(rows), lengths, batch=self.batch, seed=self.seed, epoch=number)
            self._epoch = (number, [rows[positions] for positions in batches])
        return self._epoch[1]

    @property
    def mix(self) -> Mix | None:
        """How the rows of a step are mixed with each other."""
        return None if self.augmented is None else self.augmented.augmentation.mix

    def make(self, rows: npt.NDArray[np.int64], view: int | None = None, mixture: Mixture | None = None) -> Batch:
        """The Batch of some rows, on the device; with a view, as the augmentation changes them if there is one; with a
        mixture, others of their step mixed in."""
        if mixture is not None and view is not None:
            return self._mixed(rows, view, mixture)
        if self.augmented is None or view is None:
            with reading(fold(self.seed, "epoch", view or 0)):
                inputs = self.machine.put(self.plain.batch(rows))
        elif self.views is None or self.kept is None:
            inputs = self.machine.put(self.augmented.batch(rows, view))
        else:
            inputs = self.machine.put(self.kept.batch(self.views.numbers(rows, view)))
        target = self.codes[torch.from_numpy(rows)].to(self.machine.device)
        weight = torch.ones(len(rows), device=self.machine.device)
        return Batch(tuple(int(row) for row in rows), {MAIN: inputs}, target, weight)

    def _mixed(self, rows: npt.NDArray[np.int64], view: int, mixture: Mixture) -> Batch:
        assert self.augmented is not None
        mixed, share = mixture.mixed(self.augmented.batch(rows, view), self.augmented.batch(mixture.others, view))
        device = self.machine.device
        target, others = (self.codes[torch.from_numpy(some)].to(device) for some in (rows, mixture.others))
        weight = torch.ones(len(rows), device=device)
        inputs = {MAIN: self.machine.put(mixed)}
        return Batch(tuple(int(row) for row in rows), inputs, target, weight, others, share.to(device))

    @property
    def plain(self) -> Encoded | CachedRows:
        """The rows as they are, not augmented."""
        return self.encoded if self.kept is None or self.views is not None else self.kept

    def longest(self, num_rows: int) -> Batch:
        """The batch that needs the most memory: the longest training rows."""
        if self.encoded.lengths is None:
            return self.make(self.rows[:num_rows])
        order = np.argsort(-self.encoded.lengths[self.rows], kind="stable")
        return self.make(self.rows[order[:num_rows]])


@dataclass
class Pairs:
    """Each row of the step's batch beside one of its class, or beside one of another: half of the pairs each.

    A row is the first of one pair in each epoch. Its partner is drawn from all rows of its class but itself, or from
    all rows of other classes (for rows of equal chance, not classes). The rows' numbers by class are all that is kept;
    no list of pairs is made. A row that is alone in its class is never of a pair of one class."""

    feed: Feed
    _codes: Numbers = field(init=False)
    _by_class: Numbers = field(init=False)
    """Positions in `feed.rows`, class by class; those of class c begin at `_starts[c]`."""
    _starts: Numbers = field(init=False)
    _places: Numbers = field(init=False)
    """The place of each position in `_by_class`."""
    _order: Numbers = field(init=False)

    def __post_init__(self) -> None:
        rows = self.feed.rows
        _, self._codes = np.unique(self.feed.codes.numpy()[rows], return_inverse=True)
        counts = np.bincount(self._codes)
        if len(counts) < 2 or counts.max() < 2:
            what = f"pairs need two classes, one of two rows at least: {len(rows)} rows of {len(counts)} classes"
            raise DataError(what, remedy="add rows, or use objective = supervised")
        self._by_class = np.argsort(self._codes, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._places = np.empty(len(rows), np.int64)
        self._places[self._by_class] = np.arange(len(rows))
        self._order = np.argsort(rows)

    def __call__(self, step: int) -> tuple[list[Batch], int]:
        epoch, first, second = self.pairs(step)
        machine = self.feed.machine
        cut = parts(np.arange(len(first)), micro=max(1, self.feed.micro // 2), world=machine.world)
        mine = cut[machine.rank :: machine.world]
        return [self.feed.make(np.concatenate([first[part], second[part]]), epoch) for part in mine], 2 * len(first)

    def pairs(self, step: int) -> tuple[int, Numbers, Numbers]:
        """The epoch, and the row numbers of both sides of each pair of a step."""
        epoch, index = divmod(step, self.feed.steps_per_epoch)
        first = self.feed.epoch(epoch)[index]
        positions = self._order[np.searchsorted(self.feed.rows[self._order], first)]
        random = np.random.Generator(np.random.PCG64(fold(self.feed.seed, "pairs", step)))
        codes = self._codes[positions]
        start, end = self._starts[codes], self._starts[codes + 1]
        wanted = random.permutation((np.arange(len(first)) + random.integers(2)) % 2 == 0)
        same = _exchanged(wanted, end - start > 1, random)
        # One place fewer to draw from: the row's own, or those of its class; the places behind move up by as many.
        lot = random.random(len(first))
        skipped = np.where(same, 1, end - start)
        low, high = np.where(same, start, 0), np.where(same, end, len(self._codes))
        drawn = low + (lot * (high - low - skipped)).astype(np.int64)
        drawn += np.where(drawn >= np.where(same, self._places[positions], start), skipped, 0)
        return epoch, first, self.feed.rows[self._by_class[drawn]]

    def longest(self, num_rows: int) -> Batch:
        """The longest training rows."""
        return self.feed.longest(num_rows)


@dataclass
class Unlabelled:
    """The step's rows with targets, and `ratio` times as many without, in batches of their own.

    Rows without a target go round in epochs of their own. Their weights make their sum count as if they were as many as
    the rows with targets of the step."""

    feed: Feed
    rows: AugmentedRows
    ratio: int
    plain: bool
    """Whether the first view is the row as it is; else both are augmented."""
    _epoch: tuple[int, list[Numbers]] = field(default=(-1, []), init=False)

    def __call__(self, step: int) -> tuple[list[Batch], int]:
        batches, num_rows = self.feed(step)
        epoch, rows = self.drawn(step)
        machine = self.feed.machine
        cut = parts(rows, micro=max(1, self.feed.micro // 2), world=machine.world)
        more = [self.make(part, epoch, num_rows / len(rows)) for part in cut[machine.rank :: machine.world]]
        return [*batches, *more], num_rows + len(rows)

    def drawn(self, step: int) -> tuple[int, Numbers]:
        """The epoch, and the row numbers (of the table without targets) of a step."""
        lengths, num_rows = self.rows.encoded.lengths, self.rows.encoded.table.num_rows
        batch = self.ratio * self.feed.batch
        number, index = divmod(step, -(-num_rows // batch))
        if self._epoch[0] != number:
            seed = fold(self.feed.seed, "unlabelled")
            self._epoch = (number, epoch_batches(num_rows, lengths, batch=batch, seed=seed, epoch=number))
        return number, self._epoch[1][index]

    def make(self, rows: Numbers, epoch: int, weight: float) -> Batch:
        """The Batch of some rows without targets: both views, and no target."""
        if self.plain:
            views = {FIRST: self.rows.encoded.batch(rows), SECOND: self.rows.batch(rows, epoch)}
        else:
            views = {FIRST: self.rows.batch(rows, 2 * epoch), SECOND: self.rows.batch(rows, 2 * epoch + 1)}
        device = self.feed.machine.device
        inputs = {view: self.feed.machine.put(tensors) for view, tensors in views.items()}
        none = torch.empty(0, dtype=torch.int64, device=device)
        return Batch(tuple(int(row) for row in rows), inputs, none, torch.full((len(rows),), weight, device=device))

    def longest(self, num_rows: int) -> Batch:
        """The longest rows, with targets or without: these have two views."""
        longest, lengths = self.feed.longest(num_rows), self.rows.encoded.lengths
        known = self.feed.encoded.lengths
        if lengths is None or known is None or lengths.max() <= known[self.feed.rows].max():
            return longest
        return self.make(np.argsort(-lengths, kind="stable")[: max(1, num_rows // 2)], 0, 1.0)


def steps_of(choice: Choice, feed: Feed, unlabelled: AugmentedRows | None) -> Steps:
    """What gives a phase under this objective its batches."""
    kind = reads(choice.name)
    if kind == "pairs":
        return Pairs(feed)
    if kind == "rows":
        return feed
    assert unlabelled is not None
    known = plugins.options(plugins.get("objective", choice.name))
    ratio, divergence = (choice.options.get(name, known[name].default) for name in ("ratio", "divergence"))
    return Unlabelled(feed, unlabelled, ratio, plain=divergence == "sharpened")


def augmented_rows(
    recipe: Recipe, rows: Rows, encoded: Encoded, encoder: Encoder, embeddings: Callable[[], torch.Tensor]
) -> tuple[AugmentedRows | None, AugmentedRows | None]:
    """The training rows as the recipe augments them ("auto": as it would), and the rows without a target.

    `embeddings` gives the model's own table of them, for what replaces words by their neighbours in it."""
    choice = recipe.data.augment
    if choice == "auto":
        if rows.modality not in USUAL:
            raise RecipeError(f"nothing augments {PLURALS[rows.modality]}", where="data.augment", remedy="leave it out")
        choice = Choice(name=USUAL[rows.modality])
    if choice is None:
        return None, None
    made: Augmentation = plugins.get("augment", choice.name)(**choice.options)
    if made.modality != rows.modality:
        what = f"{choice.name} changes {PLURALS[made.modality]}, and the model reads {PLURALS[rows.modality]}"
        fitting = USUAL.get(rows.modality)
        remedy = f"use {fitting}" if fitting else "leave data.augment out"
        raise RecipeError(what, where="data.augment", remedy=remedy)
    if made.neighbours is not None and isinstance(encoder, TextEncoder):
        made = replace(made, change=made.neighbours(embeddings, encoder.tokenizer))
    changeable = cast("Changeable", encoded)
    changeable.changed(rows.split.train[:1], lambda _place, value: value)
    augmented = AugmentedRows(changeable, made, recipe.seed)
    if rows.unlabelled is None:
        return augmented, None
    if isinstance(encoder, TextEncoder):
        # As long as the longest row with a target, which is what a resume reads in the recipe.
        encoder = replace(encoder, max_length=min(encoder.max_length, encoded.longest))
    more = cast("Changeable", encoder.encode(rows.unlabelled, rows.inputs))
    if more.unreadable:
        row, why = next(iter(more.unreadable.items()))
        where = rows.unlabelled.where(row)
        raise DataError(f"cannot be read: {why}", where=where, remedy="leave the row out of data.unlabelled")
    return augmented, AugmentedRows(more, made, recipe.seed)


def check_reads(recipe: Recipe, plan: Plan) -> None:
    """Refuse what an objective of the plan lacks, and rows without a target that none reads."""
    named = [phase.objective or recipe.objective.name for phase in plan.phases]
    kinds = {reads(name): name for name in named}
    data, problems = recipe.data, []
    if (name := kinds.get("unlabelled")) is not None:
        if data.unlabelled is None:
            problems.append(Problem(f"{name} reads rows without a target", "objective", "set data.unlabelled = FILE"))
        if data.augment is None:
            problems.append(Problem(f"{name} compares augmented views", "objective", "set data.augment = words"))
        elif (
            isinstance(data.augment, Choice)
            and recipe.objective.options.get("divergence") == "symmetric"
            and data.augment.options.get("views") == 1
        ):
            what = "the symmetric divergence compares two views"
            problems.append(Problem(what, "data.augment", "give views = 2 or more, or leave views out"))
    elif data.unlabelled is not None:
        what = f'"data.unlabelled" has no effect with the objective {recipe.objective.name}'
        problems.append(Problem(what, "recipe", "use objective = consistency"))
    if "unlabelled" in kinds and data.augment == "auto":
        problems.append(Problem(f"{kinds['unlabelled']} needs its views", "data.augment", "name a way, such as words"))
    if "pairs" in kinds and isinstance(data.augment, Choice) and {"mixup", "cutmix"} & set(data.augment.options):
        what = f"{kinds['pairs']} compares rows of one class, and mixed rows have none"
        problems.append(Problem(what, "data.augment", "leave mixup and cutmix out"))
    head = recipe.model.head
    if "pairs" in kinds and head != "auto" and head.name == "own":
        what = f"{kinds['pairs']} compares pooled features, and the model's own head has none"
        problems.append(Problem(what, "model.head", "use model.head = pooled"))
    if problems:
        raise RecipeError(problems)


def _exchanged(wanted: Flags, able: Flags, random: np.random.Generator) -> Flags:
    """`wanted` where `able`; as many others take the places that cannot be, as far as there are any."""
    same = wanted & able
    others = np.flatnonzero(able & ~wanted)
    same[random.permutation(others)[: int((wanted & ~able).sum())]] = True
    return same
