"""Recipe -> Rows: the data read, checked, cleaned and split, with the coded targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith import plugins
from tunesmith.assemble.leaks import without_leaks
from tunesmith.data import cleaning, profile, similar
from tunesmith.data import columns as guessing
from tunesmith.data.encoded import Encoded
from tunesmith.data.items import Modality
from tunesmith.data.ledger import UNLABELLED, Entry, Ledger
from tunesmith.data.sources import open_source
from tunesmith.data.split import PARTS, Split, join, make_folds
from tunesmith.data.table import Table
from tunesmith.errors import DataError, Problem, RecipeError, nearest
from tunesmith.evaluation.intervals import known_rows
from tunesmith.recipe.resolve import SMALL_CLASS, SMALL_SET
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.tasks.task import Target, Task, as_label

OF_POSITIVE = ("precision", "recall", "f1")
"""Metrics of the positive label of a binary task."""

FEWEST_JUDGES = 300
"""Of 300 validation rows the difference of two scores still has a standard error of about two points."""
FOLDED = ("kfold", "fold")
"""Splits of one table into folds."""

FEW_ROWS = 200
"""Under so many rows a cross-validation has five folds."""


@dataclass(frozen=True)
class Objects:
    """What a Python caller hands over in memory: the recipe records it as `memory:...` only."""

    data: Any = None
    valid: Any = None
    test: Any = None
    model: torch.nn.Module | None = None
    loss: Callable[..., Any] | None = None
    metrics: tuple[Callable[..., float], ...] = ()
    source_task: Any = None


@dataclass(frozen=True)
class Rows:
    """The rows of a run: one Table, who trains and who judges, and the coded targets."""

    table: Table
    split: Split
    task: Task
    target: Target
    codes: npt.NDArray[Any]
    inputs: tuple[str, ...]
    columns: tuple[str, ...]
    """The target columns."""
    ledger: Ledger
    """What became of every row that was read."""
    modality: Modality = "text"
    notes: tuple[str, ...] = ()
    unlabelled: Table | None = None
    """Rows without a target, of no part of the split."""

    @property
    def cross_validated(self) -> bool:
        """Whether no row is set aside to choose by: all train, and choices are made by cross-validation."""
        return self.split.how == "all"

    @property
    def few_judges(self) -> bool:
        """Whether the validation rows are too few to tell a small gain from noise."""
        return len(self.split.valid) < FEWEST_JUDGES

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that fit the task; those of a positive label where there is one."""
        return metrics_of(self.task, self.target)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class codes where each row has one, to spread classes over folds."""
        return self.codes if self.codes.dtype.kind == "i" else None

    def folds(self, rows: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Pairs of positions in `rows` to train on and to hold out: 3 folds, 5 where each row counts."""
        labels = None if self.labels is None else self.labels[rows]
        return make_folds(self.table.hashes[rows], labels, 5 if len(rows) < FEW_ROWS else 3)

    def recounted(self) -> Rows:
        """The same rows with the training rows of each label counted again."""
        codes, num_labels = self.codes[self.split.train], len(self.target.labels)
        if self.task.name == "regression":
            return self
        counts = codes.sum(0) if codes.ndim == 2 else np.bincount(codes[codes >= 0], minlength=num_labels)
        return replace(self, target=replace(self.target, counts=tuple(int(count) for count in counts)))

    def ordered(self, labels: Sequence[str]) -> Rows:
        """The same rows with the labels in the order of a head that is kept."""
        if not labels or tuple(labels) == self.target.labels:
            return self
        target = self.target.ordered(labels)
        return replace(self, target=target, codes=self.task.encode(target_values(self.table, self.columns), target))


def open_rows(
    recipe: Recipe,
    objects: Objects,
    reads: Callable[[Modality], Modality] = lambda modality: modality,
    tables: Mapping[str, Table] | None = None,
) -> Rows:
    """Read, check, clean and split the data; DataError collects what is wrong with it. `reads`: what the columns hold
    -> what a row is to the model. `tables`: the data, if they have been read."""
    tables = dict(tables or read_tables(recipe, objects))
    train = tables.get("", tables.get("train", next(iter(tables.values()))))
    asked = recipe.data
    guess, leaks = without_leaks(recipe, guessed(recipe, train, reads), tables)
    columns = guess.targets
    notes = [*(note for table in tables.values() for note in table.notes), *guess.notes, *leaks]
    needed = () if guess.modality == "table" else guess.inputs  # A table's encoder fills in what is missing.
    ledger = Ledger({part: table.num_rows for part, table in tables.items()})
    for part, table in tables.items():
        tables[part], entries = cleaning.without_missing(table, part, needed, columns, asked.clean.missing)
        ledger = ledger.with_entries(entries)
    training = "train" if "" not in tables else ""
    identified = tables[training].identified(guess.inputs)
    tables[training], entries = cleaning.limited(identified, training, asked.limit)
    ledger = ledger.with_entries(entries)
    separated = recipe.task != "auto" and "separator" in recipe.task.options
    checked = tables.get("", tables.get("train", train))
    if not separated and (problems := profile.check_target(checked, guess.target, guess.task)):
        raise DataError(problems)
    table, split = _split(tables, guess.inputs, columns, guess.task, recipe)
    task: Task = plugins.get("task", guess.task)
    options = {} if recipe.task == "auto" else recipe.task.options
    values = target_values(table, columns)

    def learn(split: Split) -> Target:
        return task.learn(columns, [values[row] for row in split.train], **options)

    try:
        target = learn(split)
        if recipe.data.split == "auto" and "valid" not in tables and _is_too_small(split, target, task):
            split = _all_train(split)
        ledger = ledger.with_entries(_moved(tables, split))
        if table.arrow is not None and guess.modality in ("text", "table"):
            pairs = similar.of_rows(table, guess.inputs, guess.modality)
            split, ledger, more = cleaning.cleaned(asked.clean.model_dump(), table, columns, split, pairs, ledger)
            notes += more
        target = learn(split)
        codes = task.encode(values, target)
    except DataError as error:
        raise DataError([replace(problem, where=problem.where or table.source) for problem in error.problems]) from None
    unlabelled, last, ledger = _unlabelled(recipe, guess.inputs, table.hashes[split.test], ledger)
    told = (*notes, *split.notes, *last)
    rows = Rows(table, split, task, target, codes, guess.inputs, columns, ledger, guess.modality, told, unlabelled)
    _check_judging(recipe, rows)
    return _without_unseen(rows)


def guessed(recipe: Recipe, train: Table, reads: Callable[[Modality], Modality]) -> guessing.Guess:
    """What is read and predicted, as far as the recipe does not say; DataError where that cannot be told."""
    asked = recipe.data
    inputs = None if asked.inputs == "auto" else asked.inputs
    targets = () if asked.target == "auto" else (asked.target,) if isinstance(asked.target, str) else asked.target
    return guessing.guess(
        train,
        inputs=inputs,
        target=None if asked.target == "auto" else asked.target,
        task=None if recipe.task == "auto" else recipe.task.name,
        modality=reads(guessing.modality_of(train, inputs or (), targets)),
    )


def metrics_of(task: Task, target: Target) -> tuple[str, ...]:
    """The metrics that fit a task; those of a positive label where there is one."""
    return (*task.metrics, *(OF_POSITIVE if target.positive is not None else ()))


def fits(name: str, metrics: Sequence[str]) -> bool:
    """Whether a metric is among those of a task, or is of no task: another package's, or a function in memory."""
    of_tasks = {metric for task in plugins.names("task") for metric in plugins.get("task", task).metrics}
    return name in metrics or name not in of_tasks | {*OF_POSITIVE}


def _check_judging(recipe: Recipe, rows: Rows) -> None:
    """Refuse, before anything is trained, metrics of another task, and slices by columns that are not there."""
    for name in () if recipe.evaluate.slices == "auto" else recipe.evaluate.slices:
        rows.table.column(name)
    asked = {"metrics": recipe.evaluate.metrics, "select": (recipe.evaluate.select,)}
    what = "regression" if rows.task.name == "regression" else f"{rows.task.name} with {len(rows.target.labels)} labels"
    problems = [
        Problem(f'"evaluate.{key}": "{name}" does not fit a {what}', "recipe", nearest(name, rows.metrics))
        for key, names in asked.items()
        for name in (names if isinstance(names, tuple) else ())
        if not fits(name, rows.metrics)
    ]
    if problems:
        raise RecipeError(problems)


def target_values(table: Table, columns: tuple[str, ...]) -> list[Any]:
    """One value a row, or a tuple of them when the target has several columns."""
    lists = [table.column(name).to_pylist() for name in columns]
    return lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))


def read_tables(recipe: Recipe, objects: Objects) -> dict[str, Table]:
    data = recipe.data
    tables = open_source(objects.data if objects.data is not None else data.source)
    for part, thing, path in (("valid", objects.valid, data.valid), ("test", objects.test, data.test)):
        if thing is None and path is None:
            continue
        found = open_source(thing if thing is not None else path)
        if "" in tables:
            tables["train"] = tables.pop("")
        tables[part] = found.get("", found.get(part, next(iter(found.values()))))
    return tables


def _unlabelled(
    recipe: Recipe, inputs: tuple[str, ...], tested: npt.NDArray[np.uint64], ledger: Ledger
) -> tuple[Table | None, list[str], Ledger]:
    """The rows without a target, what a person should know of them, and the ledger with them."""
    if recipe.data.unlabelled is None:
        return None, [], ledger
    found = open_source(recipe.data.unlabelled)
    table = found.get("", found.get("train", next(iter(found.values()))))
    if absent := [name for name in inputs if name not in table.column_names]:
        known = f"its columns: {', '.join(table.column_names)}; give it the same names"
        raise DataError(f'the column "{absent[0]}" is missing', where=table.source, remedy=known)
    ledger = replace(ledger, read={**ledger.read, UNLABELLED: table.num_rows})
    table, dropped = cleaning.without_missing(table, UNLABELLED, inputs, (), recipe.data.clean.missing)
    table = table.identified(inputs)
    notes = [*table.notes, f"{table.num_rows} rows without a target"]
    if shared := int(np.isin(tested, table.hashes).sum()):
        notes.append(
            f"{shared} of {len(tested)} test texts are among the rows without a target: no target leaks, but the "
            "scores are for rows that were seen in training (transductive)"
        )
    return table, notes, ledger.with_entries(dropped)


def _split(
    tables: dict[str, Table], inputs: tuple[str, ...], columns: tuple[str, ...], task: str, recipe: Recipe
) -> tuple[Table, Split]:
    folded = recipe.data.split != "auto" and recipe.data.split.name in FOLDED
    if "" not in tables:
        if folded:
            what = "the files say which rows choose and which judge, so that there are no folds to make"
            raise DataError(what, where=", ".join(sorted(tables)), remedy="give one file, or leave data.split out")
        table, split = join(tables, inputs, [*inputs, *columns])
        all_train = recipe.data.split != "auto" and recipe.data.split.name == "all"
        return table, _all_train(split) if all_train else split
    table = tables[""]
    choice = Choice(name="hash") if recipe.data.split == "auto" else recipe.data.split
    labels = None
    if task == "classification":
        labels = cleaning.numbered(table, columns)
    elif task == "regression" and (folded or choice.name == "stratified"):
        values = profile.numbers(table.column(columns[0]))
        labels = np.searchsorted(np.nanquantile(values, np.linspace(0.1, 0.9, 9)), values).astype(np.int64)
    made: Split = plugins.get("split", choice.name)(table, labels, **choice.options)
    return table, made


def _moved(tables: Mapping[str, Table], split: Split) -> list[Entry]:
    """Of rows that were read as one part and are now of another."""
    if "" in tables:
        return []
    read = np.repeat([part for part in PARTS if part in tables], [tables[p].num_rows for p in PARTS if p in tables])
    counts = {(a, b): int((read[getattr(split, b)] == a).sum()) for a in PARTS for b in PARTS if a != b}
    why = "every row trains" if split.how == "all" else "no rows were given to choose by"
    return [Entry(a, "split", "moved", number, why, to=b) for (a, b), number in counts.items()]


def _is_too_small(split: Split, target: Target, task: Task) -> bool:
    """Under 200 rows, or 50 per class, none is set aside."""
    num_rows = len(split.train) + len(split.valid) + (len(split.test) if split.how == "hash" else 0)
    if task.name == "regression":
        return num_rows < SMALL_SET
    return num_rows < SMALL_SET or num_rows / target.num_outputs < SMALL_CLASS


def _all_train(split: Split) -> Split:
    """All rows train but test rows that were given."""
    made_here = split.how == "hash"
    aside = [split.valid, split.test] if made_here else [split.valid]
    train = np.sort(np.concatenate([split.train, *aside]))
    none = np.empty(0, np.int64)
    few = f"under {SMALL_SET} rows, or {SMALL_CLASS} per class"
    note = f"{few}: all {len(train)} rows train, and cross-validation makes the choices"
    return Split(train, none, none if made_here else split.test, "all", (note,))


def without_unreadable(rows: Rows, encoded: Encoded, how: str) -> Rows:
    """The rows but those whose image or sound cannot be read; DataError with their files unless they are dropped."""
    parts = (rows.split.train, rows.split.valid, rows.split.test)
    wrong = np.intersect1d(np.array(list(encoded.unreadable), np.int64), np.concatenate(parts)).tolist()
    if not wrong:
        return rows
    listed = _files(rows.table, rows.inputs[0], wrong, encoded.unreadable)
    if how == "error":
        what = f"{len(wrong)} of {rows.table.num_rows} {rows.modality}s cannot be read{listed}"
        remedy = "mend or remove them, or leave them out: --set data.clean.missing=drop"
        raise DataError(what, where=rows.table.source, remedy=remedy)
    train, valid, test = (np.setdiff1d(part, wrong) for part in parts)
    note = f"{rows.table.source}: left out {len(wrong)} {rows.modality}s that cannot be read{listed}"
    split = replace(rows.split, train=train, valid=valid, test=test)
    files = [_file(rows.table.column(rows.inputs[0])[row].as_py(), rows.table, row) for row in wrong]
    entries = [
        Entry(
            part,
            "unreadable",
            "dropped",
            len(gone),
            "cannot be read",
            where=tuple(files[wrong.index(row)] for row in gone[:5]),
        )
        for part, gone in ((part, np.intersect1d(getattr(rows.split, part), wrong).tolist()) for part in PARTS)
    ]
    ledger = rows.ledger.with_entries(entries)
    return replace(rows, split=split, notes=(*rows.notes, note), ledger=ledger).recounted()


def refuse_unreadable(table: Table, inputs: Sequence[str], encoded: Encoded) -> None:
    """DataError with the files among the rows to predict that cannot be read: no answer is better than one to silence
    or a black picture."""
    if wrong := sorted(encoded.unreadable):
        listed = _files(table, inputs[0], wrong, encoded.unreadable)
        what = f"{len(wrong)} of {table.num_rows} files cannot be read{listed}"
        raise DataError(what, where=table.source, remedy="mend or remove them")


def _files(table: Table, column: str, rows: Sequence[int], reasons: Mapping[int, str]) -> str:
    """The files of rows that cannot be read, a line each, and why."""
    names = table.column(column)
    shown = [f"{_file(names[row].as_py(), table, row)}: {reasons[row]}" for row in rows[:5]]
    return "".join(f"\n    {line}" for line in shown) + (" ..." if len(rows) > 5 else "")


def _file(value: Any, table: Table, row: int) -> str:
    """The file that a row names, or the row's place."""
    name = value.get("path") if isinstance(value, dict) else value
    return name if isinstance(name, str) else table.where(row)


def unseen_labels(task: Task, target: Target, values: Sequence[Any]) -> list[str]:
    """The labels among `values` that the training rows do not have."""
    if task.name == "regression" or not len(values) or isinstance(values[0], tuple):
        return []
    separator = next((n.removeprefix("separator=") for n in target.columns if n.startswith("separator=")), None)
    items = [
        value if isinstance(value, list) else str(value).split(separator) if separator else [value]
        for value in values
        if value is not None
    ]
    return sorted({as_label(item) for row in items for item in row} - {*target.labels, ""})


def _without_unseen(rows: Rows) -> Rows:
    """Tell of labels that training never sees; rows with no other label are left out of valid and test."""
    known = known_rows(rows.codes)
    values = target_values(rows.table, rows.columns)
    notes, kept, entries = [], {}, []
    for part in ("valid", "test"):
        numbers = getattr(rows.split, part)
        kept[part] = numbers[known[numbers]]
        unseen = unseen_labels(rows.task, rows.target, [values[row] for row in numbers])
        if unseen:
            left_out = len(numbers) - len(kept[part])
            why = f"labels that no training row has: {', '.join(unseen[:5])}"
            entries.append(Entry(part, "unseen", "dropped", left_out, why))
            what = f"{left_out} rows are left out of the scores" if left_out else "their other labels are scored"
            notes.append(
                f"{part} has labels that no training row has ({', '.join(unseen[:5])}): {what}, and the model can "
                "only be wrong on them"
            )
    ledger = rows.ledger.with_entries(entries)
    return replace(rows, split=replace(rows.split, **kept), notes=(*rows.notes, *notes), ledger=ledger)
