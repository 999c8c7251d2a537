"""Averages: their formulas, which weights are scored and kept, what is chosen at the end, and exact resumes."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from tunesmith import pipeline
from tunesmith.assemble import regularization
from tunesmith.delivery import folder
from tunesmith.errors import Interrupted, MachineError, RecipeError
from tunesmith.recipe.check import check_choice, check_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.training import averaging, checkpoint
from tunesmith.training.state import State


@pytest.fixture
def state():
    net = nn.Linear(1, 1, bias=False)
    return State(net, moved={"weight"}, start={"weight": torch.tensor([[10.0]])})


def feed(state, average, values, evaluated=lambda step: True):
    """The average of a weight that takes these values, one a step."""
    for step, value in enumerate(values, 1):
        nn.init.constant_(state.net.weight, value)
        average.step(state, step / len(values), evaluated(step))
    scored = average.scored(state)
    return None if scored is None else scored["weight"].item()


def test_an_exponential_average_counts_steps_by_powers_of_the_decay(state):
    values = [1.0, 5.0, 2.0, 8.0]
    weights = [0.9 ** (4 - number) for number in range(1, 5)]
    expected = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    assert feed(state, averaging.ema(decay=0.9), values) == pytest.approx(expected)


def test_a_stochastic_average_is_the_mean_from_its_start_on(state):
    assert feed(state, averaging.swa(start=0.5), [100.0, 100.0, 3.0, 5.0]) == pytest.approx(4.0)


def test_a_stochastic_average_of_evaluations_takes_only_these(state):
    average = averaging.swa(start=0.0, every="evaluation")
    assert feed(state, average, [1.0, 3.0, 50.0, 7.0], lambda step: step % 2 == 0) == pytest.approx(5.0)


def test_before_its_start_a_stochastic_average_is_the_weights_themselves(state):
    assert feed(state, averaging.swa(start=0.9), [100.0] * 3) == 100.0
    assert (
        feed(State(state.net, moved={"weight"}), averaging.swa(every="evaluation"), [1.0] * 3, lambda step: False)
        is None
    )


def test_a_given_coefficient_is_scored_all_along_and_new_weights_stay(state):
    nn.init.constant_(state.net.weight, 20.0)
    assert averaging.wise_ft(coefficient=0.3).scored(state)["weight"].item() == pytest.approx(13.0)
    state.fresh = {"weight"}
    assert averaging.wise_ft(coefficient=0.3).scored(state)["weight"].item() == 20.0


def test_what_is_scored_stands_in_the_net_only_for_as_long_as_the_with_lasts(state):
    average = averaging.ema(decay=0.5)
    feed(state, average, [1.0, 4.0])
    with average.in_place(state, list):
        assert state.net.weight.item() == pytest.approx(3.0)
    assert state.net.weight.item() == 4.0


def score_of(state, best_at):
    """A score that falls with the distance of the weight from `best_at`."""

    def score(weights):
        state.load_weights(weights)
        return -abs(state.net.weight.item() - best_at)

    return score


def test_the_coefficient_is_the_best_of_eleven_and_the_larger_of_equals(state):
    nn.init.constant_(state.net.weight, 20.0)
    told, fields = averaging.wise_ft().finish(state, None, score_of(state, 13.2))
    assert fields == {"coefficient": 0.3} and state.net.weight.item() == pytest.approx(13.0)
    assert "tuned weights at 0.3, the pretrained at 0.7" in told
    nn.init.constant_(state.net.weight, 20.0)
    state.start = {"weight": torch.tensor([[20.0]])}
    assert averaging.wise_ft().finish(state, None, score_of(state, 0.0))[1] == {"coefficient": 1.0}


def keep(state, place, *values, most=3):
    """Keep weights whose value and score are these, one a step."""
    for weight, value in values:
        state.step += 1
        nn.init.constant_(state.net.weight, weight)
        if state.best is None or value > state.best["value"]:
            checkpoint.save_best(state, place, value)
        checkpoint.save_member(state, place, value, most, rising=True)
        checkpoint.save(state, place)


def test_a_soup_takes_a_checkpoint_unless_the_score_falls(state, tmp_path):
    keep(state, tmp_path, (4.0, 0.9), (20.0, 0.8), (6.0, 0.7), (8.0, 0.6), most=4)
    # 4 is best alone; the mean with 20 would be worse, those with 6 and then with 8 are better; each counts alike.
    told, fields = averaging.soup(size=4).finish(state, tmp_path, score_of(state, 6.2))
    assert fields == {"steps": [1, 3, 4], "of": 4} and state.net.weight.item() == pytest.approx(6.0)
    assert told == "the mean of 3 of 4 checkpoints, of the steps 1, 3, 4"


def test_the_members_are_the_best_by_score_with_their_files_and_no_others(state, tmp_path):
    keep(state, tmp_path, (1.0, 0.1), (2.0, 0.5), (3.0, 0.3), (4.0, 0.3), (5.0, 0.2), (6.0, 0.1))
    assert [member["step"] for member in state.members] == [2, 3, 4] and state.best["step"] == 2
    assert sorted(path.name for path in tmp_path.glob("best-*")) == [
        f"best-0000000{step}.safetensors" for step in (2, 3, 4)
    ]
    weights = [checkpoint.kept_weights(member, tmp_path)["weight"].item() for member in state.members]
    assert weights == [2.0, 3.0, 4.0]


def test_members_of_an_error_are_those_with_the_lowest(state, tmp_path):
    for value in (3.0, 1.0, 2.0):
        state.step += 1
        checkpoint.save_member(state, tmp_path, value, 2, rising=False)
    assert [member["step"] for member in state.members] == [2, 3]


def test_an_older_checkpoint_keeps_its_members_and_a_damaged_one_is_not_trusted(state, tmp_path):
    keep(state, tmp_path, (1.0, 0.1), (2.0, 0.2), (3.0, 0.3))
    keep(state, tmp_path, (4.0, 0.4))
    assert checkpoint.verifies(tmp_path / "step-00000003") and checkpoint.verifies(tmp_path / "step-00000004")
    lost = tmp_path / "best-00000002.safetensors"
    lost.write_bytes(lost.read_bytes()[:-1])
    assert not checkpoint.verifies(tmp_path / "step-00000004")
    with pytest.raises(MachineError, match="missing or damaged"):
        averaging.soup().finish(state, tmp_path, score_of(state, 0.0))


def test_the_statistics_of_a_batch_norm_are_those_of_the_averaged_weights():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1), nn.Dropout(0.9))
    state = State(net, moved={"0.weight"})
    average = averaging.ema(decay=0.5)
    for value in (1.0, 4.0):
        nn.init.constant_(net[0].weight, value)
        average.step(state, 1.0, True)
    before = copy.deepcopy(net.state_dict())
    rows = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    net.forward = lambda inputs: nn.Sequential.forward(net, inputs["rows"])
    with average.in_place(state, lambda: [{"rows": rows}]):
        assert net[1].running_mean.item() == pytest.approx(3.0 * 3.0)
        assert net[1].running_var.item() == pytest.approx(9.0 * float(rows.var()))
        assert net[1].training and net[2].training and net[1].momentum == 0.1
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net[1].eval()
    with average.in_place(state, lambda: [{"rows": rows}]):
        assert torch.equal(net[1].running_mean, before["1.running_mean"]), "a frozen one keeps its statistics"


AVERAGES = [
    {"name": "ema", "decay": 0.8},
    {"name": "swa", "start": 0.4},
    {"name": "swa", "start": 0.2, "every": "evaluation"},
    {"name": "soup", "size": 3},
    {"name": "wise_ft"},
    {"name": "wise_ft", "coefficient": 0.5},
]


@pytest.fixture
def train(job_of, monkeypatch):
    """Train a job with an average in a folder, stopped after some step if one is given; net, what was told, events."""

    def run(place, average, stop=None):
        every = {"evaluate": "2 steps", "save": "1 steps"}
        job = job_of(train={"length": "10 steps", "patience": 0, "every": every, "average": average})
        untouched = {name: tensor.clone() for name, tensor in job.net().state_dict().items()}
        told = []
        with monkeypatch.context() as patched:
            if stop is not None:
                save = folder.save_checkpoint

                def save_and_stop(job, run, state, log):
                    save(job, run, state, log)
                    if state.step == stop:
                        raise Interrupted("stopped", 75)

                patched.setattr(folder, "save_checkpoint", save_and_stop)
            place.mkdir(exist_ok=True)
            try:
                net = pipeline.train(job, Run(place), told.append, True)
                final = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            except Interrupted:
                final = None
        job.net().load_state_dict(untouched, strict=False)
        events = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
        return final, told, events

    return run


@pytest.mark.parametrize("average", AVERAGES, ids=lambda average: "-".join(map(str, average.values())))
@pytest.mark.parametrize("stop", [7, 10])
def test_a_run_that_was_stopped_ends_in_the_same_bits(average, stop, train, tmp_path):
    whole, told, events = train(tmp_path / "whole", average)
    assert train(tmp_path / "run", average, stop)[0] is None
    resumed, told_again, events_again = train(tmp_path / "run", average)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert told_again == told
    keys = ("event", "step", "loss", "value", "steps", "coefficient")
    assert [[e.get(key) for key in keys] for e in events_again] == [[e.get(key) for key in keys] for e in events]


def test_the_scores_and_the_best_weights_are_those_of_the_average(train, tmp_path):
    plain, _, events = train(tmp_path / "plain", None)
    averaged, _, others = train(tmp_path / "averaged", {"name": "ema", "decay": 0.9})
    losses = [[event["loss"] for event in each if event["event"] == "step"] for each in (events, others)]
    assert losses[0] == losses[1], "an average does not change what trains"
    assert any(not torch.equal(tensor, averaged[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("name", ["soup", "wise_ft"])
def test_what_was_chosen_is_told_in_a_line_and_in_the_events_and_is_no_worse(name, train, tmp_path):
    _, told, events = train(tmp_path / "run", name)
    (chosen,) = [event for event in events if event["event"] == "average"]
    best = max(event["value"] for event in events if event["event"] == "evaluate")
    assert chosen["name"] == name and chosen["value"] >= best
    assert any(line.startswith(f"{name}: the ") and f"{chosen['value']:.3f}" in line for line in told)


def test_without_an_evaluation_the_final_weights_are_the_average(job_of, tmp_path):
    job = job_of(train={"length": "4 steps", "every": {"evaluate": "never"}, "average": {"name": "swa", "start": 0.0}})
    state, feed_ = State(job.net()), job.feed(job.rows.split.train)
    seen = []
    for _ in pipeline.steps(job, state, feed_, job.cadence(feed_.steps_per_epoch), tell=list):
        seen.append({name: tensor.clone() for name, tensor in state.weights().items()})
    regularization.settle(job, state, feed_)
    name = "heads.label.output.weight" if "heads.label.output.weight" in state.moved else sorted(state.moved)[0]
    mean = torch.stack([weights[name] for weights in seen]).mean(0)
    assert torch.allclose(state.weights()[name], mean, atol=1e-6)


@pytest.mark.parametrize("average", [{"name": "soup"}, {"name": "wise_ft"}])
def test_what_is_chosen_on_validation_rows_needs_some(average, job_of):
    with pytest.raises(RecipeError, match="no row is set aside"):
        job_of(data={"source": "memory:rows", "split": "all"}, train={"average": average})
    job_of(data={"source": "memory:rows", "split": "all"}, train={"average": {"name": "wise_ft", "coefficient": 0.5}})


def test_options_out_of_range_are_refused_before_anything_is_read():
    for name, options in (
        ("ema", {"decay": 1.0}),
        ("swa", {"start": 1.0}),
        ("soup", {"size": 1}),
        ("wise_ft", {"coefficient": 1.1}),
    ):
        assert check_choice("average", Choice(name=name, options=options), "train.average")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"average": "soup", "every": {"evaluate": "never"}, "patience": 0}, "averages what was evaluated"),
        ({"average": {"name": "swa", "every": "evaluation"}, "every": {"evaluate": "never"}}, "averages what was"),
        ({"average": "ema", "optimizer": "schedule_free"}, "which averages by itself"),
    ],
)
def test_an_average_that_could_have_no_effect_is_refused(train, said):
    with pytest.raises(RecipeError, match=said):
        check_recipe(Recipe.model_validate({"data": "rows.csv", "model": "bert", "train": train}))
