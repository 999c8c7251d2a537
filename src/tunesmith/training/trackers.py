"""Trackers: programs that draw the curves of runs, a function each; its keyword-only parameters are the options.

None goes to the network unless its own environment variables, or an option, say so; files lie inside the Run."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.extras import need

Points = Sequence[tuple[int, Mapping[str, float]]]
"""(step, figures by name) in the order of the steps, each step once."""

MLFLOW_METRICS, MLFLOW_PARAMETERS, MLFLOW_LETTERS = 1000, 100, 6000
"""What MLflow takes at once, and the longest value of a parameter."""


@dataclass(frozen=True)
class Tracked:
    """What is tracked: one attempt of the run in `folder`; there is a second one where the first collapsed."""

    folder: Path
    name: str
    attempt: int
    parameters: Mapping[str, Any]
    """The resolved recipe, dotted field -> value."""
    kept: dict[str, str]
    """What the tracker must know again when the run is resumed; empty at first."""


@dataclass(frozen=True)
class Tracker:
    """A frozen record of functions. A resume opens it anew and gives all points again from the first step on: it begins
    its files anew, or leaves out what it holds."""

    log: Callable[[Points], None]
    close: Callable[[int, Mapping[str, float] | None], None]
    """(last step, scores of the finished run, or None where it did not finish)."""


def tensorboard(tracked: Tracked) -> Tracker:
    """TensorBoard's event files, in RUN/tensorboard: tensorboard --logdir RUN."""
    need("tensorboard", "the observer tensorboard")
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    folder = tracked.folder / "tensorboard" / (f"attempt-{tracked.attempt}" if tracked.attempt > 1 else "")
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    # A TensorBoard that is looking on forgets with purge_step what it has read of the files before.
    writer = SummaryWriter(str(folder), purge_step=0, flush_secs=10)
    writer.add_text("recipe", "\n".join(f"    {name} = {value}" for name, value in tracked.parameters.items()))

    def log(points: Points) -> None:
        for step, values in points:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    def close(step: int, scores: Mapping[str, float] | None) -> None:
        if scores is not None:
            log([(step, scores)])
            for part in hparams(dict(tracked.parameters), dict(scores)):
                writer._get_file_writer().add_summary(part)
        writer.close()

    return Tracker(log, close)


def mlflow(tracked: Tracked, *, experiment: str = "tunesmith") -> Tracker:
    """MLflow, at MLFLOW_TRACKING_URI or else in files in RUN/mlruns."""
    # Of the stores that need no server, the small package has the one in files, which it opens when told so.
    with _unless_set(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_FILE_STORE="true"):
        library = need("mlflow", "the observer mlflow")
        place = os.environ.get("MLFLOW_TRACKING_URI") or tracked.folder.resolve() / "mlruns"
        client = library.MlflowClient(tracking_uri=str(place))
        found = client.get_experiment_by_name(experiment)
    held: dict[str, int] = {}
    if identity := tracked.kept.get("run"):
        client.update_run(identity, status="RUNNING")
        for name in client.get_run(identity).data.metrics:
            held[name] = max(metric.step for metric in client.get_metric_history(identity, name))
    else:
        number = found.experiment_id if found else client.create_experiment(experiment)
        identity = tracked.kept["run"] = client.create_run(number, run_name=tracked.name).info.run_id
        parameters = [
            library.entities.Param(name, str(value)[:MLFLOW_LETTERS]) for name, value in tracked.parameters.items()
        ]
        for some in _parts(parameters, MLFLOW_PARAMETERS):
            client.log_batch(identity, params=some)

    def log(points: Points) -> None:
        now = int(time.time() * 1000)
        new = [
            library.entities.Metric(name, value, now, step)
            for step, values in points
            for name, value in values.items()
            if step > held.get(name, -1)
        ]
        for some in _parts(new, MLFLOW_METRICS):
            client.log_batch(identity, metrics=some)

    def close(step: int, scores: Mapping[str, float] | None) -> None:
        log([(step, scores or {})])
        client.set_terminated(identity, "KILLED" if scores is None else "FINISHED")

    return Tracker(log, close)


def wandb(tracked: Tracked, *, project: str = "tunesmith", mode: Literal["offline", "online"] = "offline") -> Tracker:
    """Weights & Biases: offline in RUN/wandb, for `wandb sync`; with mode = "online" also sent."""
    folder, identity = tracked.folder / "wandb", tracked.kept.setdefault("run", uuid.uuid4().hex[:8])
    quiet = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True, "save_code": False}
    with _unless_set(WANDB_ERROR_REPORTING="false", WANDB_CACHE_DIR=str(folder / "cache")):
        library = need("wandb", "the observer wandb")
        # An offline file cannot be continued, only written anew, whole and under the same id.
        for old in folder.glob(f"offline-run-*-{identity}") if mode == "offline" else ():
            shutil.rmtree(old)
        run = library.init(
            project=project,
            dir=str(tracked.folder),
            mode=mode,
            id=identity,
            resume="allow" if mode == "online" else None,
            name=tracked.name,
            config=dict(tracked.parameters),
            settings=library.Settings(**quiet),
        )
    begun = run.step

    def log(points: Points) -> None:
        for step, values in points:
            if step >= begun:
                run.log(dict(values), step=step)

    def close(_step: int, scores: Mapping[str, float] | None) -> None:
        run.summary.update(dict(scores or {}))
        run.finish(exit_code=int(scores is None))

    return Tracker(log, close)


def trackio(tracked: Tracked, *, project: str = "tunesmith") -> Tracker:
    """Trackio, at TRACKIO_DIR or else in RUN/trackio: TRACKIO_DIR=RUN/trackio trackio show."""
    if "TRACKIO_DIR" not in os.environ:
        # Its folder is read once, when it is imported: for another one it is imported anew.
        for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
            del sys.modules[name]
    with _unless_set(TRACKIO_DIR=str(tracked.folder.resolve() / "trackio")):
        library = need("trackio", "the observer trackio")
    # In a folder of many runs another one may have this name.
    resume = "allow" if "run" in tracked.kept else "never"
    quiet = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
    run = library.init(project, name=tracked.name, resume=resume, config=dict(tracked.parameters), **quiet)
    tracked.kept["run"], begun = run.id, run._next_step

    def log(points: Points) -> None:
        for step, values in points:
            if step >= begun:
                run.log(dict(values), step=step)

    def close(step: int, scores: Mapping[str, float] | None) -> None:
        if scores:
            log([(step + 1, scores)])  # At the last step itself they would count as held already.
        library.finish()

    return Tracker(log, close)


@contextlib.contextmanager
def _unless_set(**values: str) -> Iterator[None]:
    """Environment variables for a while, but those that are set already."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _parts(things: list[Any], size: int) -> Iterator[list[Any]]:
    """The things in lists of at most `size`."""
    return (things[start : start + size] for start in range(0, len(things), size))
