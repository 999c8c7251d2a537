"""When to stop, when to save, and which weights are the best."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from tunesmith import pipeline
from tunesmith.delivery import folder
from tunesmith.delivery.weights import is_best
from tunesmith.pipeline import due, out_of_patience
from tunesmith.run import Run
from tunesmith.training.observers import EventLog
from tunesmith.training.state import State


def test_something_due_every_few_steps_happens_then_and_at_the_last_and_never_at_zero():
    assert [step for step in range(1, 9) if due(step, 3, step == 8)] == [3, 6, 8]
    assert not any(due(step, 0, step == 8) for step in range(1, 9))


def test_the_best_score_is_the_largest_or_of_an_error_the_smallest():
    best = State(None, best={"value": 0.5})
    assert is_best(best, 0.6, "accuracy") and not is_best(best, 0.4, "accuracy")
    assert is_best(best, 0.4, "rmse") and not is_best(best, 0.6, "rmse")
    for metric in ("accuracy", "rmse"):
        assert not is_best(best, 0.5, metric) and not is_best(best, math.nan, metric)
        assert is_best(State(None), 0.1, metric) and not is_best(State(None), math.nan, metric)


@pytest.mark.parametrize(
    ("patience", "later", "stops"), [(2, 1, False), (2, 2, True), (1, 1, True), (0, 9, False), (3, 2, False)]
)
def test_patience_counts_evaluations_after_the_best_and_zero_is_off(patience, later, stops):
    plan = SimpleNamespace(phases=("probe", "full"))
    job = SimpleNamespace(recipe=SimpleNamespace(train=SimpleNamespace(patience=patience)), plan=plan)
    scores = [{"step": step, "phase": 1, "value": 0.1} for step in range(1, 5 + later)]
    assert out_of_patience(job, State(None, scores=scores, best={"step": 4})) is stops
    assert not out_of_patience(job, State(None, scores=scores))
    earlier = [score | {"phase": 0} for score in scores]
    assert not out_of_patience(job, State(None, scores=earlier, best={"step": 4})), "an early phase runs its course"


@pytest.fixture
def train_with(job_of, tmp_path, monkeypatch):
    """Train with given validation scores; the State's weights at each step, the final net, what was told."""

    def run(values, patience):
        job = job_of(train={"length": "6 steps", "patience": patience, "every": {"evaluate": "1 steps"}})
        path, seen, told, given = Run(tmp_path / "run"), {}, [], iter(values)
        path.path.mkdir()

        def validate(job, state, feed, log):
            seen[state.step] = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}
            value = next(given)
            state.scores.append({"step": state.step, "phase": state.phase, "value": value})
            return value

        monkeypatch.setattr(pipeline, "validate", validate)
        net = pipeline.train(job, path, told.append, True)
        return net.state_dict(), seen, told

    return run


def test_early_stopping_restores_the_best_weights_when_the_last_are_worse(train_with):
    final, seen, told = train_with([0.1, 0.9, 0.8, 0.7, 0.6, 0.5], patience=2)
    assert max(seen) == 4
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in final.items())
    assert any(not torch.equal(tensor, seen[4][name]) for name, tensor in final.items())
    assert "stopped at step 4 of 6: no better since step 2" in told
    assert any("0.900 at step 2" in line for line in told)


def test_without_patience_all_steps_run_and_the_best_still_wins(train_with):
    final, seen, told = train_with([0.1, 0.9, 0.8, 0.7, 0.6, 0.5], patience=0)
    assert max(seen) == 6 and not any("stopped" in line for line in told)
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in final.items())


def test_a_score_that_the_rows_do_not_define_is_null_in_events_and_checkpoints(job_of, tmp_path):
    job = job_of(
        evaluate={"select": "auroc"}, train={"length": "2 steps", "every": {"evaluate": "1 steps", "save": "1 steps"}}
    )
    one_class = job.rows.split.valid[job.rows.codes[job.rows.split.valid] == 0][:1]
    object.__setattr__(job.rows.split, "valid", one_class)
    run = Run(tmp_path)
    pipeline.train(job, run, list, True)
    events = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "events.jsonl").read_text().splitlines()
    ]
    assert [event["value"] for event in events if event["event"] == "evaluate"] == [None, None]
    state = json.loads((tmp_path / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert state["scores"] == [{"step": step, "phase": 0, "value": None} for step in (1, 2)] and state["best"] is None


def test_a_loss_that_is_not_finite_is_null_in_the_events(tmp_path):
    log = EventLog(Run(tmp_path))
    log.step(SimpleNamespace(step=1, phase="full", loss=torch.tensor(math.nan), rows=1, rate=0.1, seconds=0.1))
    log.flush()
    assert json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None


def test_events_are_cut_to_the_checkpoint_and_without_one_to_what_came_before_training(tmp_path):
    path = tmp_path / "events.jsonl"
    prepare, step = '{"event": "prepare", "seconds": 1}\n', '{"event": "step", "step": 1}\n'
    path.write_text(prepare + step + step)
    folder.cut_events(Run(tmp_path), len(prepare + step))
    assert path.read_text() == prepare + step
    folder.cut_events(Run(tmp_path), 0)
    assert path.read_text() == prepare
    path.write_text(prepare[:-4])
    folder.cut_events(Run(tmp_path), 0)
    assert path.read_text() == ""
