"""The source task: labelled rows of what a model could do before it was tuned, and the model with the head for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tunesmith import plugins
from tunesmith.assemble.loaded import load_run
from tunesmith.assemble.opened import encoder_of
from tunesmith.assemble.rows import Objects, Rows, refuse_unreadable, target_values
from tunesmith.data import columns as guessing
from tunesmith.data.encoded import Encoded, Encoder
from tunesmith.data.sources import open_source
from tunesmith.data.table import Table
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluation.intervals import known_rows
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.loaders import named, transformers
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run, is_run
from tunesmith.tasks.task import Target, Task
from tunesmith.training.machine import Machine
from tunesmith.training.measure import spread

MOST_ROWS = 1000
"""Of more source rows so many are asked, evenly spaced: they are asked at every point of the curve."""
UNNAMED = "LABEL_"
"""What transformers calls labels that nobody named, before their numbers."""


@dataclass(frozen=True)
class Former:
    """A model as it was, with its own head, what the head reads and means, and the rows of a source under its names."""

    net: Tunable
    pretrained: Pretrained
    encoder: Encoder
    task: Task
    target: Target
    inputs: tuple[str, ...]
    table: Table
    columns: tuple[str, ...]
    """The target columns of the rows."""
    metric: str
    """What decided when the model was made."""
    trained_on: frozenset[str] = frozenset()
    """The contents of the rows that it was made of, where it tells them."""


@dataclass(frozen=True)
class SourceTask:
    """The old task, live: the model as it was, and the rows that its head is asked about."""

    former: Former
    encoded: Encoded
    codes: npt.NDArray[Any]
    halves: npt.NDArray[np.bool_]
    """Which of the rows choose where something is chosen, by their content; the others judge."""
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Where its rows came from."""
        return self.former.table.source

    def predictions(self, machine: Machine) -> Predictions:
        """What the old head answers on the body as it is now."""
        outputs = outputs_of(self.former.net, self.encoded, np.arange(len(self.codes)), machine)
        return Predictions(self.encoded.table.ids(), self.codes, outputs, self.former.task, self.former.target)


def open_source_task(recipe: Recipe, objects: Objects, rows: Rows, machine: Machine) -> SourceTask:
    """The model that the recipe begins with, untouched, and the rows of `evaluate.source_task`.

    Rows that an earlier Run trained on are left out, and rows with labels that its head does not know. ModelError for a
    model without a head that says what its outputs mean; DataError where no row is left."""
    data = recipe.evaluate.source_task if objects.source_task is None else objects.source_task
    former = _former(recipe, objects, rows, data, machine)
    table, task, target = former.table, former.task, former.target
    codes = task.encode(target_values(table, former.columns), target)
    known, notes = known_rows(codes), []
    if not known.any():
        what = f"no row has a {' or '.join(former.columns)} that the head of {recipe.model.name} knows"
        kinds = "numbers" if task.name == "regression" else f"labels: {', '.join(target.labels[:12])}"
        raise DataError(what, where=table.source, remedy=f"it knows {kinds}")
    if not known.all():
        notes.append(f"{(~known).sum()} of {len(known)} rows have no label that the old head knows: left out")
    if former.trained_on and table.arrow is not None:
        seen = np.array([_content(name) in former.trained_on for name in table.ids().tolist()])
        if not (known & ~seen).any():
            what, remedy = f"{recipe.model.name} was trained on each of these rows", "give rows that were held out"
            raise DataError(what, where=table.source, remedy=remedy)
        notes += [f"{(known & seen).sum()} rows trained the old model: left out"] * bool((known & seen).any())
        known &= ~seen
    kept = np.flatnonzero(known)
    notes += [f"{MOST_ROWS} of its {len(kept)} rows are asked"] * (len(kept) > MOST_ROWS)
    kept = spread(kept, MOST_ROWS)
    table = table.take(kept)
    encoded = former.encoder.encode(table, former.inputs)
    refuse_unreadable(table, former.inputs, encoded)
    return SourceTask(former, encoded, codes[kept], table.hashes % 2 == 0, tuple(notes))


def refuse_other_body(source: SourceTask, pretrained: Pretrained) -> None:
    """ModelError where the tuned body will not fit under the old head, because the new rows have other columns."""
    now = pretrained.weights
    for name, tensor in source.former.pretrained.weights.items():
        if name in now and now[name].shape != tensor.shape:
            what = f"the new rows have other columns, for which {name} has another shape: the old head does not fit"
            raise ModelError(what, where=source.name, remedy="leave evaluate.source_task out")


def _former(recipe: Recipe, objects: Objects, rows: Rows, data: Any, machine: Machine) -> Former:
    """The model with the head that it came with: of an earlier Run, or of a checkpoint of the transformers library."""
    name = recipe.model.name
    if is_run(Path(name)):
        return _of_run(Run(Path(name)), data, objects, machine)
    if objects.model is None and not named.matches(name):
        return _of_checkpoint(recipe, data, rows, machine)
    what = "nothing says what the outputs of its head mean, so that its old task cannot be scored"
    raise ModelError(what, where=name, remedy="fit it on the old task first, and give that Run as the model")


def _of_run(run: Run, data: Any, objects: Objects, machine: Machine) -> Former:
    """An earlier Run with its head; the rows have the columns that it knows."""
    loaded = load_run(run, machine, objects.model)
    task, target, table = loaded.task, loaded.target, loaded.table(data)
    columns = tuple(name for name in target.columns if not name.startswith("separator="))
    if not {*columns} <= {*table.column_names}:
        modality = loaded.encoder.modality
        columns = guessing.guess(table, inputs=loaded.inputs, task=task.name, modality=modality).targets
    select = run.recipe.evaluate.select
    metric = task.select if select.startswith("memory:") else select
    split = pq.read_table(run.path / "split.parquet").to_pydict()
    trained = {_content(name) for name, part in zip(split["id"], split["split"], strict=True) if part == "train"}
    parts = (loaded.net, loaded.pretrained, loaded.encoder, task, target, loaded.inputs, table, columns, metric)
    return Former(*parts, frozenset(trained))


def _of_checkpoint(recipe: Recipe, data: Any, rows: Rows, machine: Machine) -> Former:
    """A checkpoint with its own head; the columns of the rows are found as a fit finds them."""
    asked = recipe.model
    labels, problem_type = transformers.own_head(asked.name, asked.revision, asked.trust)
    tasks: list[Task] = [plugins.get("task", name) for name in plugins.names("task")]
    task = next(task for task in tasks if task.problem_type == problem_type)
    pretrained = transformers.load(asked.name, labels, problem_type, revision=asked.revision, trust=asked.trust)
    if not pretrained.labels:
        raise ModelError("the weights of its head are not in its files", where=asked.name)
    net = Tunable(pretrained, "own", {}, len(labels))
    machine.place(net)
    net.eval()
    tables = open_source(data)
    table = tables.get("", tables.get("test", next(iter(tables.values()))))
    inputs = rows.inputs if {*rows.inputs} <= {*table.column_names} else None
    guess = guessing.guess(table, inputs=inputs, task=task.name, modality=rows.modality)
    if all(label.startswith(UNNAMED) for label in labels):
        labels = [label.removeprefix(UNNAMED) for label in labels]
    # What the new rows need, such as their longest, says nothing of the old ones.
    plain = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_length": "auto"})})
    encoder, target = encoder_of(pretrained, plain, rows), Target(guess.targets, tuple(labels))
    table = table.identified(guess.inputs)
    return Former(net, pretrained, encoder, task, target, guess.inputs, table, guess.targets, task.select)


def _content(name: str) -> str:
    """What the rows of one content have in common of their ids."""
    return name.partition("-")[0]
