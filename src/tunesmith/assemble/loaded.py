"""Run -> Tunable again: the net as it was saved, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.torch import load_model
from torch import nn

from tunesmith import plugins
from tunesmith.assemble.opened import encoder_of, rebuilt
from tunesmith.assemble.rows import refuse_unreadable
from tunesmith.assemble.thresholds import target_of
from tunesmith.data import media
from tunesmith.data.encoded import Encoded, Encoder
from tunesmith.data.sources import open_source
from tunesmith.data.table import Table
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.loaders import transformers
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import Tunable
from tunesmith.run import Run
from tunesmith.tasks.task import Target, Task
from tunesmith.training.machine import Machine


@dataclass(frozen=True)
class Loaded:
    """A Run as a net that answers: what predict and evaluate need."""

    run: Run
    machine: Machine
    net: Tunable
    pretrained: Pretrained
    task: Task
    target: Target
    inputs: tuple[str, ...]
    encoder: Encoder

    def table(self, rows: Any) -> Table:
        """Rows of any source as an identified Table with the columns that the model reads.

        Beside what `fit` takes: a list of texts, of pairs, of files or of pictures, and an array of images."""
        inputs = self.inputs
        if isinstance(rows, str) and rows != "-" and not Path(rows).suffix and not Path(rows).exists() and " " in rows:
            raise DataError("one text alone is taken as the name of a file", where=rows, remedy="predict([text])")
        if len(inputs) == 1 and media.is_media(rows):
            rows = pa.table({inputs[0]: media.packed_column(rows)})
        several = str | list | tuple if isinstance(rows, list) else str  # (texts, labels) is a source, and a tuple
        if isinstance(rows, list | tuple | np.ndarray) and some(rows) and isinstance(rows[0], several):
            columns = [rows] if isinstance(rows[0], str) else list(zip(*rows, strict=True))
            if len(columns) != len(inputs):
                remedy = f"it reads {' and '.join(inputs)}"
                raise DataError(f"the model reads {len(inputs)} texts a row and got {len(columns)}", remedy=remedy)
            rows = dict(zip(inputs, map(list, columns), strict=True))
        tables = open_source(rows)
        table = self._named(tables.get("", tables.get("test", next(iter(tables.values())))))
        if missing := [name for name in inputs if name not in table.column_names]:
            what = f'the model reads the column "{missing[0]}", which is not there'
            raise DataError(what, where=table.source, remedy=f"columns: {', '.join(table.column_names)}")
        return table.identified(inputs)

    def _named(self, table: Table) -> Table:
        """The Table with its one column of images or sounds under the name that the model was trained with."""
        wanted = self.inputs[0]
        if self.encoder.modality not in ("image", "sound") or table.arrow is None or wanted in table.column_names:
            return table
        found = [name for name in table.column_names if media.kind_of(table, name) in (self.encoder.modality, "array")]
        if len(found) != 1:
            return table
        names = [wanted if name == found[0] else name for name in table.column_names]
        return replace(table, arrow=table.arrow.rename_columns(names))

    def encode(self, table: Table) -> Encoded:
        """The rows of an identified Table as the model reads them; DataError names those that cannot be read."""
        encoded = self.encoder.encode(table, self.inputs)
        refuse_unreadable(table, self.inputs, encoded)
        return encoded

    def predict_table(
        self, table: Table, codes: np.ndarray | None = None, encoded: Encoded | None = None
    ) -> Predictions:
        """Predictions for every row of an identified Table, in its order; `encoded`: its rows, if they are at hand."""
        encoded = encoded or self.encode(table)
        outputs = outputs_of(self.net, encoded, np.arange(table.num_rows), self.machine)
        return Predictions(table.ids(), codes, outputs, self.task, self.target)


def some(rows: Any) -> bool:
    """Whether there is a row; only what is plainly empty has none."""
    return not (isinstance(rows, list | tuple | np.ndarray) and len(rows) == 0)


def load_run(run: Run, machine: Machine, module: nn.Module | None = None) -> Loaded:
    """The net of a Run as it was saved; the machine decides where it computes. `module`: the network in memory that it
    was made from, where it was."""
    recipe, measured = run.recipe, run.measured
    assert recipe.task != "auto" and recipe.data.inputs != "auto"
    task: Task = plugins.get("task", recipe.task.name)
    target = target_of(run)
    if (run.path / "network.json").is_file():
        pretrained, encoder = rebuilt(run, target, module)
    else:
        pretrained = transformers.load(str(run.path), target.labels, task.problem_type, trust=recipe.model.trust)
        encoder = encoder_of(pretrained, recipe)
    head = measured["head"]
    net = Tunable(pretrained, head["name"], head["options"], target.num_outputs)
    try:
        load_model(net, run.weights)
    except Exception as error:
        what = f"does not fit the net of this run: {str(error).splitlines()[0]}"
        raise ModelError(what, where=str(run.weights), remedy="the file is damaged, or of another run") from None
    machine.place(net)
    net.eval()
    return Loaded(run, machine, net, pretrained, task, target, recipe.data.inputs, encoder)
