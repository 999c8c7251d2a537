"""Collapse: seen early, told in words, answered once with the remedy, exact through a resume; no false alarm."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunesmith import pipeline
from tunesmith.assemble import remedy
from tunesmith.delivery import folder
from tunesmith.errors import Interrupted
from tunesmith.run import Run
from tunesmith.training import checkpoint, collapse
from tunesmith.training.collapse import CollapseError, Look, Watch, answer, is_over, judge, pending, spread
from tunesmith.training.state import State

WILD = {
    "lr": 0.1,
    "warmup": "never",
    "length": "40 steps",
    "patience": 0,
    "every": {"evaluate": "8 steps", "save": "1 steps"},
}


def looks(*pairs):
    return [Look(step, loss, wide) for step, (loss, wide) in enumerate(pairs, 1)]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (looks((1.1, 0.001), (1.1, 0.001)), "every row gets the same answer"),
        (looks((0.3, 0.001), (0.3, 0.001)), "every row gets the same answer"),
        (looks((1.4, 0.01), (1.4, 0.01)), "nearly the same answer"),
        (looks((9.0, 5.0), (8.0, 5.0)), "the loss has grown to 8 from 1.1"),
        (looks((9.0, None), (8.0, None)), "the loss has grown"),
        (looks((math.nan, None)), "not a finite number"),
        (looks((1.0, 0.1), (math.inf, 0.1)), "not a finite number"),
    ],
)
def test_a_collapse_is_told_in_words(seen, said):
    assert said in judge(seen, 1.1, 1.0, 0.1)


@pytest.mark.parametrize(
    "seen",
    [
        looks(),
        looks((1.1, 0.001)),
        looks((9.0, 5.0)),
        looks((1.1, 0.001), (1.1, 0.09)),
        looks((1.4, 0.01), (1.1, 0.01)),
        looks((9.0, 5.0), (2.0, 5.0)),
        looks((1.2, 0.05), (1.2, 0.05)),
        looks((3.0, None), (3.0, None)),
        looks((1.1, None), (1.1, None)),
    ],
)
def test_what_is_slow_or_turns_round_or_recovers_is_no_collapse(seen):
    assert judge(seen, 1.1, 1.0, 0.1) is None


def test_a_head_that_begins_at_zero_is_not_taken_for_a_collapse():
    assert judge(looks((1.0, 0.0), (1.0, 0.0)), 1.0, 1.0, 0.0) is None


@pytest.mark.parametrize(
    ("policy", "attempt", "finite", "has_best", "expected"),
    [
        ("restart", 0, True, True, "restart"),
        ("restart", 0, False, True, "restart"),
        ("restart", 1, True, False, "go on"),
        ("restart", 1, False, True, "end"),
        ("restart", 1, False, False, "stop"),
        ("continue", 0, True, True, "go on"),
        ("continue", 0, False, True, "end"),
        ("stop", 0, True, True, "stop"),
        ("stop", 1, False, True, "stop"),
    ],
)
def test_what_follows_from_a_collapse(policy, attempt, finite, has_best, expected):
    assert answer(policy, attempt, can_restart=True, finite=finite, has_best=has_best) == expected


def test_without_the_weights_to_begin_from_a_run_is_not_begun_again():
    assert answer("restart", 0, can_restart=False, finite=False, has_best=True) == "end"


def test_the_spread_is_the_mean_deviation_over_rows_and_undefined_for_what_is_not_finite():
    assert spread(np.array([[0.0, 5.0], [4.0, 5.0]])) == 1.0
    assert spread(np.array([[0.0, math.nan]])) is None


@pytest.fixture
def train(job_of, monkeypatch):
    """Train a wild job in a folder, stopped after a save if its number is given; net, what was told, events."""

    def run(place, policy="restart", stop=None, **more):
        job = job_of(train=WILD | {"on_collapse": policy} | more)
        told, saves, final = [], [], None
        with monkeypatch.context() as patched:
            save = folder.save_checkpoint

            def save_and_stop(job, run, state, log):
                save(job, run, state, log)
                saves.append(state.step)
                if len(saves) == stop:
                    raise Interrupted("stopped", 75)

            patched.setattr(folder, "save_checkpoint", save_and_stop)
            place.mkdir(exist_ok=True)
            try:
                net = pipeline.train(job, Run(place), told.append, True)
                final = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            except Interrupted:
                pass
        events = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
        return SimpleNamespace(final=final, told=told, events=events, job=job, saves=saves)

    return run


@pytest.fixture(scope="module")
def shared():
    """What tests of this module need once."""
    return {}


@pytest.fixture
def whole(shared, train, tmp_path):
    """The wild run that nothing stopped."""
    if "whole" not in shared:
        shared["whole"] = train(tmp_path / "whole")
    return shared["whole"]


def named(events, name):
    return [event for event in events if event["event"] == name]


def test_a_collapse_is_seen_before_a_third_and_the_second_attempt_is_the_remedied_run_to_the_bit(
    whole, train, tmp_path
):
    (seen,), (again,) = named(whole.events, "collapse"), named(whole.events, "restart")
    assert seen["step"] <= 12 and seen["answer"] == "restart" and "the same answer" in seen["reason"]
    assert again["attempt"] == 1 and again["lr"] == 1e-3 and again["warmup"] == "20 %"
    (line,) = [line for line in whole.told if "collapsed" in line]
    assert "begun again from the pretrained weights with lr 0.001 and a warm-up of 20 %" in line
    gentle = train(tmp_path / "gentle", lr=again["lr"], warmup=again["warmup"])
    assert not named(gentle.events, "collapse")
    assert all(torch.equal(tensor, whole.final[name]) for name, tensor in gentle.final.items())
    after = whole.events[whole.events.index(again) :]
    keys = ("step", "loss", "rate", "value")
    for name in ("step", "evaluate"):
        assert [[e.get(key) for key in keys] for e in named(after, name)] == [
            [e.get(key) for key in keys] for e in named(gentle.events, name)
        ]


@pytest.mark.parametrize("stop", ["before", "at", "begun", "after"])
def test_a_run_stopped_around_its_collapse_ends_in_the_same_bits(stop, whole, train, tmp_path):
    step = named(whole.events, "collapse")[0]["step"]
    number = {"before": step - 1, "at": step, "begun": step + 1, "after": step + 5}[stop]
    stopped = train(tmp_path / "run", stop=number)
    assert stopped.final is None and stopped.saves[-1] == {"before": step - 1, "at": step, "begun": 0, "after": 4}[stop]
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == [
        f"step-{last:08d}"
        for last in {"before": [step - 2, step - 1], "at": [step - 1, step], "begun": [0], "after": [3, 4]}[stop]
    ], "those of the first attempt are gone when the second begins"
    resumed = train(tmp_path / "run")
    assert all(torch.equal(tensor, resumed.final[name]) for name, tensor in whole.final.items())
    keys = ("event", "step", "loss", "value", "attempt", "reason", "answer")
    assert [[e.get(key) for key in keys] for e in resumed.events] == [
        [e.get(key) for key in keys] for e in whole.events
    ]


def test_the_recipe_may_ask_to_stop_and_the_error_names_a_remedy(train, tmp_path):
    with pytest.raises(CollapseError, match="collapsed at step") as caught:
        train(tmp_path / "run", "stop")
    assert "set train.lr to 0.001 and train.warmup to 20 %" in str(caught.value)


def test_the_recipe_may_ask_to_go_on_and_it_is_told_once(train, tmp_path):
    went_on = train(tmp_path / "run", "continue")
    assert [event["answer"] for event in named(went_on.events, "collapse")] == ["go on"]
    assert sum("it goes on, as the recipe says" in line for line in went_on.told) == 1
    assert named(went_on.events, "step")[-1]["step"] == 40


def test_a_second_collapse_is_told_and_the_run_goes_on(train, monkeypatch, tmp_path):
    monkeypatch.setattr(remedy, "remedied", lambda job: job)
    twice = train(tmp_path / "run")
    assert [event["answer"] for event in named(twice.events, "collapse")] == ["restart", "go on"]
    assert any("having been begun again once" in line for line in twice.told)


@pytest.mark.parametrize("lr", [1e-2, 1e-5])
def test_a_run_that_learns_and_one_that_hardly_moves_are_left_alone(lr, train, tmp_path):
    assert not named(train(tmp_path / "run", lr=lr).events, "collapse")


def test_the_copy_of_the_first_weights_is_given_back_when_no_restart_will_ask_for_it(job_of, tmp_path, monkeypatch):
    made, kept = pipeline.State, []
    monkeypatch.setattr(pipeline, "State", lambda *args, **more: kept.append(made(*args, **more)) or kept[-1])
    for penalty, is_given_back in ((None, True), ("l2_sp", False)):
        place = tmp_path / str(penalty)
        place.mkdir()
        pipeline.train(job_of(train=WILD | {"lr": 1e-3, "penalty": penalty}), Run(place), list, True)
        assert is_over(kept[-1], 1) and (kept[-1].start is None) == is_given_back


def nan_from(job, step):
    """The job, whose loss is no number from this step on."""
    seen = []

    def own(outputs, targets):
        seen.append(None)
        each = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
        # Three micro-batches a step, and one look of `freeze_unreached` before the first.
        return each * (math.nan if len(seen) > 3 * step else 1.0)

    return replace(job, objects=replace(job.objects, loss=own))


def test_a_loss_that_is_no_number_late_ends_the_run_with_the_best_weights_so_far(job_of, tmp_path):
    job = nan_from(job_of(train=WILD | {"lr": 1e-3, "every": {"evaluate": "4 steps", "save": "4 steps"}}), 24)
    told = []
    pipeline.train(job, Run(tmp_path), told.append, True)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (seen,) = named(events, "collapse")
    assert 24 <= seen["step"] <= 28 and seen["answer"] == "end" and "not a finite number" in seen["reason"]
    assert named(events, "step")[-1]["step"] == seen["step"]
    assert any("best valid accuracy" in line for line in told)


def test_a_collapse_at_the_first_step_that_is_no_longer_watched_is_still_begun_again(job_of, tmp_path):
    # Of 15 steps the fifth is the first after the watch, and is looked at: with a loss that is no number.
    job = nan_from(job_of(train=WILD | {"lr": 1e-3, "length": "15 steps", "on_collapse": "restart"}), 5)
    with contextlib.suppress(CollapseError):
        pipeline.train(job, Run(tmp_path), list, True)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    first = named(events, "collapse")[0]
    assert (first["step"], first["answer"]) == (5, "restart")
    assert named(events, "restart")


def test_a_loss_that_is_no_number_and_nothing_to_keep_is_an_error(job_of, tmp_path):
    quiet = {"every": {"evaluate": "never", "save": "never"}, "on_collapse": "continue"}
    job = nan_from(job_of(train=WILD | {"lr": 1e-3} | quiet), 20)
    with pytest.raises(CollapseError, match="not a finite number"):
        pipeline.train(job, Run(tmp_path), list, True)


def test_what_is_watched_survives_a_checkpoint_even_a_loss_that_is_no_number(tmp_path):
    net = torch.nn.Linear(1, 1)
    state = State(net, moved={"weight"}, phase_step=1)
    watch = Watch(lambda: np.array([[0.0], [1.0]]), "restart", list)
    watch.open(state, 100, 0.7)
    for value in (0.5, math.nan):
        watch.see(state, SimpleNamespace(loss=torch.tensor(value)))
    other = State(net, phase_step=1)
    checkpoint.resume_counters(other, checkpoint.save(state, tmp_path))
    watch.open(other, 100, None)
    assert other.watched == state.watched | {"losses": [0.5, None]}
    other.phase_step = 5
    watch.see(other, SimpleNamespace(loss=torch.tensor(0.4)))
    assert pending(other) == "the loss is not a finite number" and other.watched["answer"] == "stop"


def test_the_remedy_is_a_third_of_the_rate_and_no_more_than_the_published_one(job_of):
    for lr, warmup, expected in (
        (0.1, "never", (1e-3, "20 %")),
        (9e-5, "15 %", (3e-5, "30 %")),
        (9e-5, "90 %", (3e-5, "50 %")),
    ):
        train = remedy.remedied(job_of(train={"lr": lr, "warmup": warmup, "length": "100 steps"})).recipe.train
        assert (train.lr, train.warmup) == (pytest.approx(expected[0]), expected[1])


def test_the_loss_of_the_best_constant_answer_is_the_entropy_of_the_labels(job_of):
    job = job_of()
    rows = job.rows.split.train
    counts = np.bincount(job.rows.codes[rows]) / len(rows)
    net, phase = job.net(), job.plan.phases[0]
    assert remedy.constant_loss(job, phase, net, rows) == pytest.approx(-(counts * np.log(counts)).sum(), abs=1e-5)
    net.requires_grad_(False)
    assert remedy.constant_loss(job, phase, net, rows) is None


def test_folds_that_collapse_are_trained_again_and_so_is_the_run(job_of, tmp_path):
    parts = {"data": {"source": "memory:rows", "split": "all"}, "evaluate": {"select": "accuracy"}}
    job, told = job_of(train=WILD | {"length": "5 epochs", "every": {"evaluate": "1 epoch"}}, **parts), []
    measured = pipeline.cross_validate(job, Run(tmp_path), told.append)
    assert measured["attempt"] == 1
    assert any("cross-validation collapsed" in line and "lr 0.001" in line for line in told)
    with pytest.raises(CollapseError, match="cross-validation collapsed"):
        other = job_of(train=WILD | {"length": "5 epochs", "on_collapse": "stop"}, **parts)
        pipeline.cross_validate(other, Run(tmp_path), told.append)


def test_a_restart_forgets_what_a_tuned_body_gave_while_it_was_frozen(job_of, tmp_path, monkeypatch):
    judge, kept_rows, planted = collapse.judge, pipeline.kept_rows, []

    def kept_and_then_collapsed(*args):
        found = kept_rows(*args)
        planted.extend(["planted"] * (found is not None and not planted))
        return found

    def judged(*args):
        return planted.append("over") or "planted" if planted == ["planted"] else judge(*args)

    monkeypatch.setattr(pipeline, "kept_rows", kept_and_then_collapsed)
    monkeypatch.setattr(collapse, "judge", judged)
    train = {"lr": 1e-2, "length": "8 epochs", "batch": 8, "cache": "fp32", "on_collapse": "restart"}
    job = job_of(objective="contrastive", train=train)
    (tmp_path / "run").mkdir()
    pipeline.train(job, Run(tmp_path / "run"), list, True)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    (again,) = [number for number, event in enumerate(events) if event["event"] == "restart"]
    assert "head" in {event.get("phase") for event in events[:again]}, "the body had been tuned, and was frozen"
    assert [event["phase"] for event in named(events[again:], "cache")] == ["head"]
