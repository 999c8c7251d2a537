"""Observers from the recipe to the end of a run: they see what its files hold, and change nothing."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings
from types import SimpleNamespace

import pytest

from tunesmith import fit
from tunesmith.errors import MachineError, RecipeError
from tunesmith.recipe import file as recipe_file
from tunesmith.training.trackers import Tracked, Tracker

STEPS = ["train.length=2 epochs", 'train.every.save="1 epoch"', "train.lr=1e-2"]
OBSERVED = 'deliver.observers=[{name="remembering", word="here"}]'


@pytest.fixture
def seen(monkeypatch):
    """An observer of another package, and what it has seen: one entry each time that it was opened."""
    real, opened = importlib.metadata.entry_points, []

    def remembering(tracked: Tracked, *, word: str = "", fails: bool = False) -> Tracker:
        """Remembers what it is told."""
        warnings.warn("this library is old", DeprecationWarning, stacklevel=2)
        print("this library talks")
        mine = SimpleNamespace(word=word, tracked=tracked, points=[], calls=0, closed=[])
        opened.append(mine)

        def log(points):
            if fails:
                raise OSError("the server is gone\nfor good")
            mine.points += points
            mine.calls += 1

        return Tracker(log, lambda step, scores: mine.closed.append((step, scores)))

    entry = SimpleNamespace(name="remembering", value="other", load=lambda: remembering)
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **asked: [entry] if asked.get("group") == "tunesmith.observer" else real(**asked),
    )
    return opened


@pytest.fixture(scope="module")
def unobserved(quick, bert, csv, tmp_path_factory):
    return quick(csv, bert, settings=STEPS, out=tmp_path_factory.mktemp("runs") / "unobserved")


def events(run):
    return [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]


def steps(run):
    """Step -> its loss, and its valid score where it was evaluated, of events.jsonl."""
    found = {event["step"]: {"train/loss": event["loss"]} for event in events(run) if event["event"] == "step"}
    for event in events(run):
        if event["event"] == "evaluate":
            found[event["step"]]["valid/accuracy"] = event["value"]
    return found


def same_weights(one, other):
    return one.weights.read_bytes() == other.weights.read_bytes()


def test_an_observer_sees_what_the_run_leaves_and_changes_nothing(seen, unobserved, quick, bert, csv, tmp_path, capfd):
    run = quick(csv, bert, settings=[*STEPS, OBSERVED], out=tmp_path / "run")
    [mine] = seen
    assert [step for step, _ in mine.points] == sorted(steps(run))
    for step, values in mine.points:
        assert values.items() >= steps(run)[step].items()
        assert values.keys() >= {"train/rate", "train/rows_per_second", "train/phase"}
    [(last, scores)] = mine.closed
    assert last == max(steps(run))
    for split, name in (("test", "test/accuracy"), ("valid", "valid_final/accuracy")):
        interval = run.scores[split]["accuracy"]
        assert [scores[name + end] for end in ("", "_low", "_high")] == [interval[e] for e in ("value", "low", "high")]
    assert (mine.tracked.name, mine.tracked.parameters["train.lr"], mine.word) == ("run", 0.01, "here")
    assert mine.tracked.parameters["train.every.save"] == "1 epoch"
    assert same_weights(run, unobserved)
    assert capfd.readouterr().out == ""


def test_an_observer_sees_each_step_while_it_trains(seen, quick, bert, csv, tmp_path, monkeypatch):
    monkeypatch.setattr("tunesmith.training.observers.FLUSH_SECONDS", -1.0)  # No line waits for others.
    run = quick(csv, bert, settings=[*STEPS, OBSERVED], out=tmp_path / "run")
    assert seen[0].calls == len(steps(run))


def test_an_observer_that_fails_is_told_of_once_and_stops_nothing(seen, unobserved, bert, csv, tmp_path):
    told = []
    observers = 'deliver.observers=[{name="remembering", fails=true}]'
    common = ["model.head=pooled", 'evaluate.metrics=["accuracy"]', observers]
    run = fit(csv, bert, device="cpu", settings=[*STEPS, *common], out=tmp_path / "run", tell=told.append)
    [line] = [line for line in told if "the observer" in line]
    assert "remembering failed" in line and line.endswith("the server is gone")
    assert same_weights(run, unobserved) and run.finished
    assert seen[0].closed == []


def test_a_resumed_run_is_seen_whole_and_says_what_it_kept(seen, unobserved, quick, bert, csv, killed, tmp_path):
    with killed(1):
        quick(csv, bert, settings=[*STEPS, OBSERVED], out=tmp_path / "run")
    run = fit(resume=tmp_path / "run", quiet=True)
    first, second = seen
    assert first.closed == [(first.points[-1][0], None)] and len(first.points) == len(second.points) / 2
    assert second.points[: len(first.points)] == first.points
    assert [step for step, _ in second.points] == sorted(steps(run)) == sorted(steps(unobserved))
    assert second.tracked.kept == first.tracked.kept == {"name": "run"}
    assert same_weights(run, unobserved)


def test_the_folds_of_a_run_are_not_tracked(seen, quick, csv, tmp_path):
    settings = [OBSERVED, "train.length=2 steps", "data.split={name='kfold', k=2}", "model.head=auto"]
    quick(
        {"x": [i % 7 * 0.5 for i in range(60)], "label": ["a", "b"] * 30},
        "new:mlp",
        settings=settings,
        out=tmp_path / "run",
    )
    [mine] = seen
    assert mine.tracked.folder == tmp_path / "run"


def test_a_package_that_is_missing_is_told_before_anything_is_measured(quick, bert, csv, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MachineError, match=r'pip install "tunesmith\[wandb\]"'):
        quick(csv, bert, settings=['deliver.observers=["wandb"]'], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


WRONG = {
    "no such": ('["tensorbord"]', 'no observer is called "tensorbord".*did you mean "tensorboard"'),
    "no such option": ('[{name="wandb", entity="me"}]', 'wandb has no option "entity"'),
    "no such value": ('[{name="wandb", mode="secret"}]', "'offline' or 'online'"),
    "twice": ('["wandb", {name="wandb", mode="online"}]', '"deliver.observers" names wandb twice'),
}


@pytest.mark.parametrize("value, words", WRONG.values(), ids=WRONG)
def test_observers_that_cannot_be_are_errors_before_anything_is_read(value, words, tmp_path):
    with pytest.raises(RecipeError, match="(?s)" + words):
        fit("absent.csv", "new:mlp", settings=[f"deliver.observers={value}"], out=tmp_path / "run", quiet=True)


def test_observers_survive_the_recipes_file(tmp_path):
    observers = ["tensorboard", {"name": "mlflow", "experiment": "x"}]
    recipe = recipe_file.build({"data": "rows.csv", "model": "new:mlp", "deliver": {"observers": observers}})
    for number, text in enumerate((recipe_file.dump(recipe), recipe_file.template(recipe))):
        (tmp_path / f"{number}.toml").write_text(text)
        assert recipe_file.read(tmp_path / f"{number}.toml") == recipe
