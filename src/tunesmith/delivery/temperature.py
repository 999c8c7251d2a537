"""The temperature of a run: chosen on rows that did not train, and folded into the net before it is saved."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tunesmith.assemble.job import Job, Tell
from tunesmith.delivery.scores import folds_of
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.evaluation.temperature import fitted
from tunesmith.models.tunable import Tunable
from tunesmith.run import Run

TRIED = 8
"""Rows that must be answered as they should by the net that a temperature was folded into."""


def calibrate(job: Job, run: Run, net: Tunable, tell: Tell) -> None:
    """Choose the temperature on rows that did not train and fold it into the net's output layer, so that whoever loads
    the model has it. It stands in measured.json before anything is saved. A resumed run takes it from there; its net
    comes from a checkpoint, into which none was folded."""
    if job.rows.task.name == "regression":
        return
    found = job.machine.agree(run.measured.get("temperature") if job.machine.first else None)
    if found is None:
        found = _chosen(job, run, net)
    if found["applied"] and not _folded(job, net, found["value"]):
        found |= {"applied": False, "why": "this net's outputs do not come straight from a linear layer"}
    if job.machine.first:
        run.write("measured.json", run.measured | {"temperature": found})
    if found["value"] is not None:
        tell(f"temperature {found['value']:.3f}, {'' if found['applied'] else 'not '}applied: {found['why']}")


def _chosen(job: Job, run: Run, net: Tunable) -> dict[str, Any]:
    """The temperature that the recipe gives, or the rows choose, as measured.json keeps it."""
    asked, rows, machine = job.recipe.evaluate.temperature, job.rows.split.valid, job.machine
    nothing = {"value": None, "applied": False, "fitted_on": None, "rows": 0}
    if asked == 1:
        return nothing | {"why": "evaluate.temperature = 1"}
    if asked != "auto":
        return nothing | {"value": asked, "applied": True, "why": "the recipe gave it"}
    by_folds = job.rows.cross_validated
    if not len(rows) and not by_folds:
        return nothing | {"why": "no row was set aside"}
    if by_folds:
        rows, outputs = machine.agree(folds_of(job, run) if machine.first else None)
    else:
        outputs = outputs_of(net, job.encoded, rows, replace(machine, precision="fp32"))
    codes = job.rows.codes[rows]
    known = np.flatnonzero(intervals.known_rows(codes))
    best = fitted(Predictions(rows.astype(str), codes, outputs, job.rows.task, job.rows.target).take(known))
    fitted_on = "cross-validated" if by_folds else "valid"
    return nothing | asdict(best) | {"fitted_on": fitted_on, "rows": len(known)}


def _folded(job: Job, net: Tunable, temperature: float) -> bool:
    """Whether the net now answers with its outputs divided by that; if it does not, it is as it was."""
    machine, rows = replace(job.machine, precision="fp32"), job.rows.split.train[:TRIED]
    try:
        layer = net.output_layer()
    except ValueError:
        return False
    before = outputs_of(net, job.encoded, rows, machine)
    untouched = {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}
    net.fold_scale(0.0, 1 / temperature)
    after = outputs_of(net, job.encoded, rows, machine)
    if np.allclose(after * temperature, before, rtol=1e-3, atol=1e-4 * float(np.abs(before).max())):
        return True
    layer.load_state_dict(untouched)
    return False
