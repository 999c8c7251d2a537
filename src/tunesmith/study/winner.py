"""What leaves a search: the best model so far, kept usable on disk, and at the end the Run of the winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from tunesmith.assemble.job import Job
from tunesmith.choices import HeldOut
from tunesmith.delivery import folder
from tunesmith.delivery.beside import frozen
from tunesmith.files import whole_folder, write_text
from tunesmith.models.tunable import Tunable
from tunesmith.pipeline import judge, measured, run_recipe
from tunesmith.run import Run
from tunesmith.study.record import Record
from tunesmith.study.trial import Trained
from tunesmith.study.workbench import Workbench
from tunesmith.training import checkpoint, phases

Tell = Callable[[str], None]

KEPT = 3
"""The weights of so many trials are kept: one of them is the winner."""


def keep_weights(trained: Trained, trials: Path) -> None:
    """Write what moved in a trial, and its events, beside its record."""
    moved = phases.moving(trained.net, trained.job.plan)
    buffers = {name for name, _ in trained.net.named_buffers()}
    state = {name: tensor for name, tensor in trained.net.state_dict().items() if name in moved | buffers}
    target = _weights(trials, trained.record)
    temporary = target.with_name(f".{target.name}.tmp")
    save_file(checkpoint.contiguous(state), temporary, metadata={"epochs": str(trained.epochs)})
    temporary.replace(target)
    write_text(target.with_suffix(".jsonl"), (trained.run.path / "events.jsonl").read_text(encoding="utf-8"))


def forget_weights(records: Sequence[Record], best: Sequence[Record], trials: Path) -> None:
    """Remove the weights of all trials but the best."""
    kept = {record.number for record in best}
    for record in records:
        if record.number not in kept:
            for suffix in (".safetensors", ".jsonl"):
                _weights(trials, record).with_suffix(suffix).unlink(missing_ok=True)


def has_weights(record: Record, trials: Path) -> bool:
    """Whether the weights of a trial are kept."""
    return _weights(trials, record).is_file()


def net_of(job: Job, record: Record, trials: Path) -> Tunable:
    """The net of a trial as it was at its best step; `job` is that of its settings."""
    net = job.net()
    found = load_file(_weights(trials, record))
    net.load_state_dict(found, strict=False)
    job.machine.place(net)
    return net


def keep_best(trained: Trained, study: Path, metric: str) -> None:
    """Leave the trial as `best/`, a Run that can predict, in place of the one before; no test row was asked."""
    job = trained.job
    none = job.rows.split.test[:0]
    job = replace(job, rows=replace(job.rows, split=replace(job.rows.split, test=none)))
    with whole_folder(study / "best") as temporary:
        run = folder.begin(job, temporary)
        run.write("measured.json", trained.run.measured)
        folder.save_model(job, run, trained.net)
        record = trained.record
        score = {"value": record.value, "low": record.low, "high": record.high}
        run.write("scores.json", {"valid": {metric: score}})
        text = f"The best of a search so far: trial {record.number}, {record.arm}, valid {metric} {record.value:.3f}.\n"
        write_text(run.path / "README.md", text)


def deliver(bench: Workbench, record: Record, study: Path, tell: Tell) -> Run:
    """Make the Run of a trial whose weights are kept: saved, scored on test, reported, as a fit of its recipe would."""
    job = bench.prepared(record.settings)
    run = folder.begin(job, study)
    job = measured(job, run, _nothing)
    untouched = frozen(job)
    net = net_of(job, record, study / "trials")
    with open(run.path / "events.jsonl", "a", encoding="utf-8") as events:
        lines = _weights(study / "trials", record).with_suffix(".jsonl").read_text(encoding="utf-8")
        events.writelines(line + "\n" for line in lines.splitlines() if not line.startswith('{"event": "prepare"'))
    judge(job, run, net, untouched, tell)
    folder.finish(job, run, tell)
    return run


def deliver_refit(
    bench: Workbench, settings: Mapping[str, Any], known: HeldOut, study: Path, tell: Tell, quiet: bool
) -> Run:
    """Train the winner's settings on all rows but those of test, for as long as was best; `known` is what rows that did
    not train have been answered, from which the valid scores come."""
    recipe = bench.recipe_with(settings)
    return run_recipe(recipe, bench.objects, out=study, rows=bench.all_rows, known=known, tell=tell, quiet=quiet)


def epochs_of(record: Record, trials: Path) -> float:
    """The passes over the training rows to the best step of a trial whose weights are kept."""
    from safetensors import safe_open

    with safe_open(_weights(trials, record), framework="pt") as opened:
        return float((opened.metadata() or {})["epochs"])


def answered(bench: Workbench, rows: np.ndarray, outputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Outputs of some rows by epoch, laid out over all rows that train in the end; NaN of the others."""
    train = bench.all_rows.split.train
    places = np.searchsorted(train, rows)
    found = {}
    for epoch, some in outputs.items():
        whole = np.full((len(train), some.shape[1]), np.nan, np.float32)
        whole[places] = some
        found[epoch] = whole
    return found


def _weights(trials: Path, record: Record) -> Path:
    return trials / f"{record.number:04}.safetensors"


def _nothing(_line: str) -> None:
    """What is told again."""
