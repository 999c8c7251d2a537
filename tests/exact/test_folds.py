"""k-fold runs that are stopped: what is done is kept, what was begun goes on, and the scores are the same."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_model, tiny_rows

SPLIT = {"data.split": '{name="kfold", k=3}', "train.length": "12 steps", "train.every.save": "3 steps"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    folder = tmp_path_factory.mktemp("folds")
    tiny_model(folder / "model", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    write_rows(folder / "rows.csv", tiny_rows(60, 3))
    return folder


@pytest.fixture(scope="module")
def begin(place, process, settings):
    def run(out, **order):
        words = ("fit", place / "rows.csv", "--model", place / "model", "--out", out, *settings(**SPLIT))
        return process(*words, **order)

    return run


@pytest.fixture(scope="module")
def unbroken(place, begin):
    code, text = begin(place / "unbroken")
    assert code == 0, text
    return place / "unbroken"


def assert_equal(run, other):
    own, others = (load_file(folder / "tunesmith.safetensors") for folder in (run, other))
    assert all(torch.equal(own[name], others[name]) for name in own)
    for name in ("scores.json", "folds/1/scores.json", "folds/3/scores.json", "folds/2/recipe.toml"):
        assert (run / name).read_text().replace(str(run), str(other)) == (other / name).read_text(), name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_run_stopped_in_its_second_fold_goes_on_there(number, code, tmp_path, begin, process, unbroken):
    run = tmp_path / "run"
    found, text = begin(run, signal=number, step=7, time=2)
    assert found == code, text
    assert "fold 1 of 3" in text and "fold 2 of 3:" not in text
    assert (run / "folds" / "1" / "scores.json").is_file() and not (run / "folds" / "2" / "scores.json").exists()
    if number != signal.SIGKILL:
        assert f"interrupted in fold 2 of 3; continue with: tunesmith fit --resume {run}\n" in text
        assert list((run / "folds" / "2" / "checkpoints").glob("step-00000007"))
    first = (run / "folds" / "1" / "events.jsonl").read_text()
    found, text = process("fit", "--resume", run)
    assert found == 0, text
    assert (run / "folds" / "1" / "events.jsonl").read_text() == first, "it was not run again"
    steps = [json.loads(line) for line in (run / "folds" / "2" / "events.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["event"] == "step"] == list(range(1, 13))
    assert_equal(run, unbroken)


def test_a_run_stopped_in_the_model_that_is_delivered_runs_no_fold_again(tmp_path, begin, process, unbroken):
    run = tmp_path / "run"
    found, text = begin(run, signal=signal.SIGINT, step=5, time=4)
    assert found == 130 and f"saved at step 5; continue with: tunesmith fit --resume {run}\n" in text
    assert "fold 3 of 3:" in text
    # Every fold has 12 steps: a signal at any of them would be seen.
    found, text = process("fit", "--resume", run, signal=signal.SIGKILL, step=3)
    assert found == 0, text
    assert_equal(run, unbroken)


def test_a_fold_killed_while_its_weights_are_removed_is_not_run_again(tmp_path, begin, process, unbroken):
    run = tmp_path / "run"
    assert begin(run, signal=signal.SIGKILL, step=2, time=2)[0] == -9
    fold = run / "folds" / "1"
    (fold / "model").mkdir()
    (fold / ".checkpoints.gone.7.tmp").mkdir()
    found, text = process("fit", "--resume", run)
    assert found == 0, text
    assert not (fold / "model").exists() and not list(fold.glob(".*"))
    assert_equal(run, unbroken)


def test_other_rows_are_refused_before_a_fold_begins(tmp_path, begin, process, place, write_rows):
    run = tmp_path / "run"
    assert begin(run, signal=signal.SIGTERM, step=2)[0] == 75
    shutil.rmtree(run / "folds" / "1")  # As of a run that was stopped between two folds.
    rows = (place / "rows.csv").read_text()
    try:
        write_rows(place / "rows.csv", tiny_rows(60, 3, seed=5))
        found, text = process("fit", "--resume", run)
    finally:
        (place / "rows.csv").write_text(rows)
    assert found == 1 and "cannot continue: there are other rows" in text
    assert not list((run / "folds").iterdir())


def test_two_ranks_run_the_same_folds(tmp_path, begin, process, unbroken):
    run = tmp_path / "run"
    found, text = begin(run, ranks=2)
    assert found == 0, text
    own, other = (json.loads((folder / "scores.json").read_text()) for folder in (run, unbroken))
    assert own["test"].keys() == other["test"].keys()
    assert len(own["test"]["accuracy"]["folds"]) == 3
    assert text.count("fold 1 of 3:") == 1, "the first rank speaks"
