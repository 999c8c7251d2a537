"""Answers: what a Run or another tool says of which rows, read from its predictions or asked now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tunesmith.assemble.loaded import Loaded
from tunesmith.assemble.rows import target_values
from tunesmith.data.profile import numbers
from tunesmith.data.sources import open_source
from tunesmith.data.table import Table
from tunesmith.errors import DataError
from tunesmith.evaluation.predict import readable
from tunesmith.run import Run
from tunesmith.tasks.task import as_label

CHANCE = "probability_"
CONTENT = re.compile(r"([0-9a-f]{16})(-\d+)?")
"""An id that `Table.ids` made of what a row holds."""


@dataclass(frozen=True)
class Answers:
    """What one model says: `told`, one a row; `truth`, where the file has the targets; `chances`, (rows,) by label, of
    `probability_<label>`, and of `probability` by ""."""

    name: str
    where: str
    """The file, for messages."""
    ids: list[str]
    told: list[Any]
    truth: list[Any] | None
    chances: dict[str, np.ndarray]
    run: Run | None = None
    table: Table | None = None
    """The rows themselves, where they were asked now."""

    @property
    def contents(self) -> list[str]:
        """What tells of each row whether another one says the same, whatever it is called here."""
        return [content(row_id) for row_id in (self.ids if self.table is None else self.table.ids().tolist())]

    def take(self, positions: Sequence[int]) -> Answers:
        """Some of the rows."""
        return replace(
            self,
            ids=[self.ids[row] for row in positions],
            told=[self.told[row] for row in positions],
            truth=None if self.truth is None else [self.truth[row] for row in positions],
            chances={label: values[positions] for label, values in self.chances.items()},
            table=None if self.table is None else self.table.take(np.asarray(positions, np.int64)),
        )


def kept(run: Run, name: str, split: str) -> Answers:
    """What a Run said of its valid or test rows when it ended."""
    path = run.path / "predictions" / f"{split}.parquet"
    if not path.is_file():
        there = [part for part in ("valid", "test") if (path.parent / f"{part}.parquet").is_file()]
        others = "".join(f"--split {part}, or " for part in there)
        raise DataError(
            f"this run has no {split} rows of its own",
            where=str(run.path),
            remedy=f"{others}--data FILE: labelled rows that no run learnt from",
        )
    return replace(read(path, name), run=run)


def asked(loaded: Loaded, name: str, data: Any) -> Answers:
    """What a Run says of labelled rows now; their own column `id`, if it tells them apart, is what they are called."""
    table = loaded.table(data)
    columns = tuple(column for column in loaded.target.columns if not column.startswith("separator="))
    truth = target_values(table, columns)
    if loaded.task.name == "multilabel":
        truth = readable(loaded.task.encode(truth, loaded.target), loaded.target)
    predictions = loaded.predict_table(table)
    chances = {key.removeprefix(CHANCE): values for key, values in predictions.probability_columns().items()}
    ids = _own_ids(table) if table.arrow is not None and "id" in table.column_names else []
    if len({*ids}) < table.num_rows:
        ids = table.ids().tolist()
    return Answers(name, table.source, ids, predictions.decoded, truth, chances, loaded.run, table)


def read(source: Any, name: str, beside: Answers | None = None) -> Answers:
    """A predictions file, or rows in memory: `id`, `prediction`, and where they are known `target` and
    `probability_<label>`.

    Without a `prediction`, `label` is it; beside one, `label` is the target, or what the Run `beside` predicts. Rows
    without an `id` that this Run knows are known by the columns that it reads."""
    tables = open_source(source)
    table = tables.get("", tables.get("test", next(iter(tables.values()))))
    names, where = table.column_names, table.source
    told = next((column for column in ("prediction", "label") if column in names), None)
    if told is None:
        remedy = 'call the column of answers "prediction" (or "label"), and give an "id"'
        raise DataError(f"no column tells what was predicted; columns: {', '.join(names)}", where=where, remedy=remedy)
    inputs: tuple[str, ...] = ()
    known = ["target", "label"]
    if beside is not None and beside.run is not None:
        recipe = beside.run.recipe.data
        inputs = () if recipe.inputs == "auto" else recipe.inputs
        known += [recipe.target] if isinstance(recipe.target, str) else []
    truth = next((column for column in known if column in names and column != told), None)
    ids = _own_ids(table) if "id" in names else []
    if inputs and set(inputs) <= {*names} and not (beside and {*ids} & {*beside.ids}):
        ids = table.identified(inputs).ids().tolist()
    if not ids:
        alike = f" or the columns that the run reads: {', '.join(inputs)}" if inputs else ""
        raise DataError("no column tells which row is which", where=where, remedy=f'add an "id"{alike}')
    chances = {column.removeprefix(CHANCE): table.column(column) for column in names if column.startswith(CHANCE)}
    if "probability" in names:
        chances[""] = table.column("probability")
    return Answers(
        name,
        where,
        ids,
        table.column(told).to_pylist(),
        None if truth is None else table.column(truth).to_pylist(),
        {label: numbers(values) for label, values in chances.items()},
    )


def _own_ids(table: Table) -> list[str]:
    """The column `id`, as text."""
    return [as_label(value) for value in table.column("id").to_pylist()]


def content(row_id: str) -> str:
    """The part of a row's id that is of its content, without the number among rows of the same.

    >>> content("00f1a2b3c4d5e6f7-2"), content("row-2")
    ('00f1a2b3c4d5e6f7', 'row-2')
    """
    found = CONTENT.fullmatch(row_id)
    return found[1] if found else row_id


def learnt_from(run: Run) -> set[str]:
    """The contents of the rows that a Run trained on or chose by."""
    path = run.path / "split.parquet"
    if not path.is_file():
        return set()
    rows = pq.read_table(path)
    pairs = zip(rows["id"].to_pylist(), rows["split"].to_pylist(), strict=True)
    return {content(row_id) for row_id, part in pairs if part != "test"}


def name_of(source: Any, others: Sequence[Any]) -> str:
    """What a Run or a file is called: its last name where no other has it, else its path; `object 2` in memory."""
    path = _path(source)
    if path is None:
        return f"object {next(number for number, other in enumerate(others, 1) if other is source)}"
    names = [place.absolute().name for other in others if (place := _path(other)) is not None]
    own = path.absolute().name
    return own if names.count(own) == 1 else str(path)


def _path(source: Any) -> Path | None:
    if isinstance(source, Run):
        return source.path
    return Path(source) if isinstance(source, str | Path) else None
