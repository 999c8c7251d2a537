"""Trackers hold what events.jsonl holds, read back as their own libraries wrote it: each step once, in order, whatever
killed the run in between."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.errors import MachineError
from tunesmith.files import write_json
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.schema import Choice
from tunesmith.run import Run
from tunesmith.training.tracking import Trackers

PACKAGES = ["tensorboard", "mlflow", "wandb", "trackio"]
SCORES = {"test": {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}, "classes": {"a": {"rows": 3}}}}
ENDED = {"test/accuracy": 0.75, "test/accuracy_low": 0.5, "test/accuracy_high": 1.0}
KILLED = """
import os, sys
from pathlib import Path
from tunesmith.recipe.schema import Choice
from tunesmith.run import Run
from tunesmith.training.tracking import Trackers
Trackers(Run(Path(sys.argv[1])), [Choice(name=sys.argv[2])], print).follow()
os._exit(9)
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=PACKAGES)
def name(request):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed here: make trackers")
    return request.param


@pytest.fixture
def run(tmp_path):
    """A run folder with a recipe, a space in its name, and no step yet."""
    run = Run(tmp_path / "my run")
    run.path.mkdir()
    recipe = {"data": "rows.csv", "model": "new:mlp", "train": {"lr": 0.5, "optimizer": {"name": "sgd", "momentum": 0}}}
    (run.path / "recipe.toml").write_text(recipe_file.dump(recipe_file.build(recipe)))
    run.append_event("prepare", seconds=1.0)
    return run


def train(run: Run, first: int, last: int) -> None:
    """The lines of some steps; every third is scored, and the loss of the fifth is no number."""
    for step in range(first, last + 1):
        loss = None if step == 5 else 1 / step
        run.append_event("step", step=step, phase="all", loss=loss, rows=8, rate=step / 100, seconds=0.5)
        if step % 3 == 0:
            run.append_event("evaluate", step=step, metric="accuracy", value=step / 10, seconds=0.1)
            run.append_event("save", step=step)


def cut(run: Run, step: int) -> None:
    """What a resume does first: events.jsonl ends at the checkpoint of a step."""
    path = run.path / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: lines.index(f'{{"event": "save", "step": {step}}}\n') + 1]))


def curves(name: str, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Name -> the (step, value) pairs in the order in which the library wrote them, of the only run that it holds."""
    return globals()[f"_{name}"](run)


def _tensorboard(run: Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    found.Reload()
    return {tag: [(item.step, item.value) for item in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def _mlflow(run: Run) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient(tracking_uri=str(run.path / "mlruns"))
        [number] = [found.experiment_id for found in client.search_experiments() if found.name == "tunesmith"]
        [only] = client.search_runs([number])
        assert only.info.run_name == "my run" and only.data.params["train.optimizer.momentum"] == "0"
        names = only.data.metrics
        return {
            metric: [(item.step, item.value) for item in client.get_metric_history(only.info.run_id, metric)]
            for metric in names
        }


def _wandb(run: Run) -> dict[str, list[tuple[int, float]]]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # Its own process writes the file, and ends with this.
    [path] = run.path.glob("wandb/offline-run-*/run-*.wandb")
    found: dict[str, list[tuple[int, float]]] = {}
    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for metric, value in row.items():
            if not metric.startswith("_"):
                found.setdefault(metric, []).append((row["_step"], value))
        for item in record.summary.update:
            metric = "/".join(item.nested_key) or item.key
            if metric.startswith("test/"):
                found[metric] = [(0, json.loads(item.value_json))]
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    place, begun = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _crc, length, kind = struct.unpack_from("<IHB", data, place)
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def _trackio(run: Run) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    with sqlite3.connect(run.path / "trackio" / "tunesmith.db") as opened:
        rows = opened.execute("select run_name, step, metrics from metrics order by id").fetchall()
    opened.close()
    for run_name, step, metrics in rows:
        assert run_name == "my run"
        for metric, value in json.loads(metrics).items():
            found.setdefault(metric, []).append((step, value))
    return found


def assert_holds(found: dict[str, list[tuple[int, float]]], last: int, *, ended: bool) -> None:
    """Every figure of steps 1 to `last` once, in order, and the scores if the run ended."""
    steps = range(1, last + 1)
    expected = {
        "train/loss": [(step, pytest.approx(1 / step)) for step in steps if step != 5],
        "train/rate": [(step, pytest.approx(step / 100)) for step in steps],
        "train/rows_per_second": [(step, 16) for step in steps],
        "train/phase": [(step, 1) for step in steps],
        "valid/accuracy": [(step, pytest.approx(step / 10)) for step in steps if step % 3 == 0],
    }
    drawn = {metric: values for metric, values in found.items() if "test/" not in metric}
    assert drawn == {metric: values for metric, values in expected.items() if values}
    scores = {metric: [value for _, value in values] for metric, values in found.items() if "test/" in metric}
    assert scores == ({metric: [value] for metric, value in ENDED.items()} if ended else {})


def opened(run: Run, *observers: str, **options: object) -> Trackers:
    return Trackers(run, [Choice(name=name, options=options) for name in observers], pytest.fail)


def test_a_tracker_holds_every_step_once_and_the_scores(name, run, capfd):
    trackers = opened(run, name)
    for first, last in ((1, 2), (3, 3), (4, 7)):
        train(run, first, last)
        trackers.follow()
    write_json(run.path / "scores.json", SCORES)
    trackers.finish()
    trackers.close()
    assert_holds(curves(name, run), 7, ended=True)
    assert capfd.readouterr().out == ""


def test_a_run_that_was_stopped_goes_on_in_the_same_tracker_run(name, run):
    train(run, 1, 5)
    opened(run, name).close()
    assert_holds(curves(name, run), 5, ended=False)
    before = run.read("trackers.json")
    cut(run, 3)
    resumed = opened(run, name)
    train(run, 4, 7)
    resumed.close()
    write_json(run.path / "scores.json", SCORES)
    # Stopped before it was scored, and killed before it was finished: it is scored once more.
    opened(run, name).finish()
    opened(run, name).finish()
    assert_holds(curves(name, run), 7, ended=True)
    assert run.read("trackers.json") == before


def test_what_a_killed_process_lost_is_given_again(name, run):
    train(run, 1, 5)
    # wandb tells the processes that this one starts of its own server.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run([sys.executable, "-c", KILLED, str(run.path), name], env=environment, capture_output=True)
    assert done.returncode == 9, done.stderr
    cut(run, 3)
    resumed = opened(run, name)
    resumed.follow()
    train(run, 4, 7)
    resumed.close()
    assert_holds(curves(name, run), 7, ended=False)


def test_two_runs_of_one_process_lie_each_in_its_own_folder(name, run, tmp_path):
    train(run, 1, 1)
    opened(run, name).close()
    other = Run(tmp_path / "other" / "my run")
    other.path.mkdir(parents=True)
    (other.path / "recipe.toml").write_bytes((run.path / "recipe.toml").read_bytes())
    train(other, 1, 3)
    opened(other, name).close()
    assert_holds(curves(name, run), 1, ended=False)
    assert_holds(curves(name, other), 3, ended=False)


def test_the_parameters_of_tensorboard_stand_beside_the_scores(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    write_json(run.path / "scores.json", SCORES)
    train(run, 1, 2)
    opened(run, "tensorboard").finish()
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    stored = HParamsPluginData.FromString(found.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    assert stored.session_start_info.hparams["train.lr"].number_value == 0.5
    assert stored.session_start_info.hparams["train.optimizer"].string_value == "sgd"
    assert "train.optimizer = sgd" in found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()


def test_mlflow_goes_where_its_variable_says(run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed here: make trackers")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "elsewhere"))
    train(run, 1, 1)
    opened(run, "mlflow", experiment="mine").close()
    assert not (run.path / "mlruns").exists()
    assert "mine" in "".join(path.read_text() for path in (tmp_path / "elsewhere").glob("*/meta.yaml"))


def test_two_runs_of_one_name_stay_two_in_the_folder_that_trackios_variable_names(run, tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed here: make trackers")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    train(run, 1, 2)
    other = Run(tmp_path / "other" / "my run")
    shutil.copytree(run.path, other.path)
    for one in (run, other):
        opened(one, "trackio").close()
    kept = [one.read("trackers.json")["trackio"]["1"]["run"] for one in (run, other)]
    assert len(set(kept)) == 2
    assert [step for step, _ in _trackio(Run(tmp_path))["train/loss"]] == [1, 2, 1, 2]


def test_wandb_stays_offline_whatever_its_variable_says(run, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed here: make trackers")
    monkeypatch.setenv("WANDB_MODE", "online")
    train(run, 1, 1)
    opened(run, "wandb").close()
    assert_holds(curves("wandb", run), 1, ended=False)


def test_a_second_attempt_is_a_run_of_its_own(run):
    pytest.importorskip("tensorboard")
    train(run, 1, 4)
    run.append_event("restart", attempt=1, lr=0.1, warmup="1 steps")
    train(run, 1, 2)
    opened(run, "tensorboard").close()
    second = Run(run.path / "second")
    second.path.mkdir()
    (run.path / "tensorboard" / "attempt-2").rename(second.path / "tensorboard")
    assert_holds(curves("tensorboard", run), 4, ended=False)
    assert_holds(curves("tensorboard", second), 2, ended=False)
    assert run.read("trackers.json")["tensorboard"]["2"] == {"name": "my run attempt 2"}


def test_half_a_line_waits_for_its_end(run):
    pytest.importorskip("tensorboard")
    trackers, path = opened(run, "tensorboard"), run.path / "events.jsonl"
    train(run, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    trackers.follow()
    path.write_bytes(whole)
    trackers.close()
    assert_holds(curves("tensorboard", run), 2, ended=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_an_error_with_the_line_that_brings_it(package, run, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "trackio":  # It is imported anew for each folder, unless its own is set.
        monkeypatch.setenv("TRACKIO_DIR", str(run.path))
    with pytest.raises(MachineError, match=rf'pip install "tunesmith\[{package}\]"'):
        Trackers(run, [Choice(name=package)], pytest.fail)


def test_without_observers_nothing_is_read_or_written(run):
    train(run, 1, 3)
    before = sorted(run.path.iterdir())
    trackers = opened(run)
    trackers.follow()
    trackers.finish()
    trackers.close()
    assert sorted(run.path.iterdir()) == before
    assert Path(run.path / "trackers.json") not in before
