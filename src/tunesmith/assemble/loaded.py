"""Run -> Tunable again: the net as it was saved, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors.torch import load_model
from torch import nn

from tunesmith import plugins
from tunesmith.assemble.opened import encoder_of, rebuilt
from tunesmith.assemble.rows import refuse_unreadable
from tunesmith.data.encoded import Encoder
from tunesmith.data.table import Table
from tunesmith.errors import ModelError
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

    def predict_table(self, table: Table, codes: np.ndarray | None = None) -> Predictions:
        """Predictions for every row of an identified Table, in its order."""
        encoded = self.encoder.encode(table, self.inputs)
        refuse_unreadable(table, self.inputs, encoded)
        outputs = outputs_of(self.net, encoded, np.arange(table.num_rows), self.machine)
        return Predictions(table.ids(), codes, outputs, self.task, self.target)


def load_run(run: Run, machine: Machine, module: nn.Module | None = None) -> Loaded:
    """The net of a Run as it was saved; the machine decides where it computes. `module`: the network in memory that it
    was made from, where it was."""
    recipe, measured = run.recipe, run.measured
    assert recipe.task != "auto" and recipe.data.inputs != "auto"
    task: Task = plugins.get("task", recipe.task.name)
    target = Target.from_json(measured["target"])
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
