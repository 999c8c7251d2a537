"""The verb search: within its budget, of strategies and numbers, resumable, and true about what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tunesmith as package
from tunesmith.errors import DataError, RecipeError, TunesmithError
from tunesmith.testing import tiny_rows

SMALL = ('search.space={"train.length" = "2 epochs", "model.head" = "pooled"}', 'evaluate.metrics=["accuracy"]')
"""Short trials."""
TWO_ARMS = ('search.space={"train.length" = "2 epochs", "model.head" = "pooled", "strategy" = ["full", "unfreeze"]}',)


@pytest.fixture(scope="module")
def sets(tmp_path_factory, write_csv):
    """240 rows to train on, and 60 to test on."""
    folder = tmp_path_factory.mktemp("search")
    rows = tiny_rows(300)
    return tuple(
        write_csv(folder / f"{name}.csv", {column: values[part] for column, values in rows.items()})
        for name, part in (("train", slice(240)), ("test", slice(240, 300)))
    )


@pytest.fixture(scope="module")
def found(bert, sets, tmp_path_factory):
    """A search of four trials, and what it told."""
    out, told = tmp_path_factory.mktemp("found") / "run", []
    train, test = sets
    run = package.search(
        train, bert, test=test, trials=4, budget="10m", out=out, settings=SMALL, quiet=False, tell=told.append
    )
    return run, told


def records_of(folder):
    return [json.loads(path.read_text()) for path in sorted((Path(folder) / "trials").glob("[0-9]*.json"))]


def test_a_search_tries_several_strategies_and_leaves_the_run_of_the_best(found, sets):
    run, told = found
    trials = [record for record in records_of(run.path) if record["role"] == "trial"]
    assert len(trials) == 4 and {record["state"] for record in trials} <= {"done", "pruned"}
    assert len({record["arm"] for record in trials}) > 1
    winner = json.loads((run.path / "search.json").read_text())["winner"]
    scored = [record for record in trials if record["value"] is not None]
    best = max(record["value"] for record in scored)
    assert trials[winner - 1]["high"] >= best, "the winner is one that the valid rows cannot tell from the best"
    assert run.finished and run.scores["test"]["accuracy"]["value"] > 0.5
    assert package.load(run).predict(["a text"]), "it can be used"
    assert any("all 4 trials that were allowed are done" in line for line in told)
    assert not (run.path / "best").exists() and not [*(run.path / "trials").glob("*.safetensors")]


def test_its_recipe_is_that_of_the_winner_and_says_nothing_of_a_search(found):
    run, _ = found
    winner = records_of(run.path)[json.loads((run.path / "search.json").read_text())["winner"] - 1]
    text = (run.path / "recipe.toml").read_text()
    assert "[search]" not in text and run.recipe.strategy.name == winner["settings"]["strategy"]
    rate = winner["settings"].get("train.lr")
    assert rate is None or run.recipe.train.lr == rate


def test_the_leaderboard_and_the_page_say_what_was_tried(found):
    run, told = found
    board = json.loads((run.path / "leaderboard.json").read_text())
    assert board[0]["score"] is not None and {"strategy", "score", "low", "high", "seconds", "state"} <= board[0].keys()
    assert [entry for entry in board if entry["role"] == "finalist"], (
        "the best were asked about rows that had not chosen"
    )
    page = (run.path / "search.html").read_text()
    assert "search" in page and all(record["arm"] in page for record in records_of(run.path))
    assert any("which were touched once" in line for line in told)
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(run.path / "trials" / "optuna.journal"))
    study = optuna.load_study(study_name="tunesmith search", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 4


def test_what_the_recipe_fixes_is_not_searched(bert, sets, tmp_path):
    train, test = sets
    settings = ("train.length=1 epochs", 'evaluate.metrics=["accuracy"]', "train.batch=32")
    run = package.search(
        train,
        bert,
        test=test,
        strategy="last",
        trials=2,
        budget="5m",
        out=tmp_path / "run",
        settings=settings,
        quiet=True,
    )
    trials = [record for record in records_of(run.path) if record["role"] == "trial"]
    assert {record["arm"] for record in trials} == {"last"}
    assert run.recipe.train.batch == 32 and not any("train.batch" in record["params"] for record in trials)
    rates = {record["settings"].get("train.lr") for record in trials}
    assert len(rates) == 2, "what was left open is"


def test_few_rows_are_each_asked_once_in_every_trial_and_all_train_in_the_end(bert, tmp_path, write_csv):
    few = write_csv(tmp_path / "few.csv", tiny_rows(40))
    run = package.search(few, bert, trials=2, budget="5m", out=tmp_path / "run", settings=SMALL, quiet=True)
    split = json.loads((run.path / "data.json").read_text())["split"]
    assert split["train"] == 40 and split["how"] == "all"
    first = records_of(run.path)[0]
    assert first["length"] == 5 * 2 * 2, "five splits of two epochs of two steps"
    assert [ninths for ninths, _ in first["reports"]] == [1, 3, 5, 7, 9]
    assert run.scores["valid"]["accuracy"]["value"] is not None


def test_rows_that_a_person_set_aside_never_train(bert, sets, tmp_path, write_csv):
    train, test = sets
    run = package.search(
        train, bert, valid=str(test), trials=2, budget="5m", out=tmp_path / "run", settings=SMALL, quiet=True
    )
    split = json.loads((run.path / "data.json").read_text())["split"]
    assert split == {"train": 240, "valid": 60, "test": 0, "how": "given"}
    # The Run is that of a trial: a fit of its recipe gives the same weights.
    again = package.fit(run.path / "recipe.toml", out=tmp_path / "again", quiet=True)
    own, other = load_file(run.weights), load_file(again.weights)
    assert own.keys() == other.keys() and all((own[name] == other[name]).all() for name in own)


def test_a_fit_refuses_what_only_a_search_uses_and_a_search_what_it_cannot_search(bert, sets, tmp_path):
    train, _ = sets
    with pytest.raises(RecipeError, match="no effect on a fit"):
        package.fit(train, bert, settings=["search.budget=5m"], out=tmp_path / "a", quiet=True)
    with pytest.raises(RecipeError, match="is no time"):
        package.search(train, bert, budget="soon", out=tmp_path / "b", quiet=True)
    with pytest.raises(RecipeError, match=r"train\.rate"):
        package.search(train, bert, settings=['search.space={"train.rate" = [1, 2]}'], out=tmp_path / "c", quiet=True)
    with pytest.raises(TunesmithError, match="no search"):
        package.search(resume=tmp_path / "d", quiet=True)
    with pytest.raises(RecipeError, match="no effect"):
        package.search(join=tmp_path / "d", budget="5m", quiet=True)
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize(("setting", "words"), [("memory", "of memory"), ("disk", "on disk")])
def test_a_trial_that_would_not_fit_is_not_begun(setting, words, bert, sets, tmp_path):
    train, test = sets
    with pytest.raises(DataError, match=f"found no model: not begun.*{words}"):
        package.search(
            train,
            bert,
            test=test,
            out=tmp_path / "run",
            settings=[*SMALL, f"search.{setting}=0.00001", *TWO_ARMS],
            quiet=True,
        )
    trials = records_of(tmp_path / "run")
    assert trials and all(record["state"] == "stopped" and not record["steps"] for record in trials)
    arms = [record["arm"] for record in trials]
    assert max(arms.count(arm) for arm in arms) == 2, "no arm is asked for ever"


COMMAND = "import sys; from tunesmith.cli import _run; sys.exit(_run(sys.argv[1:]))"


def begun(bert, sets, out, *more):
    """A search in a process of its own, after its first trial."""
    train, test = sets
    arguments = ["search", train, "--model", bert, "--test", test, "--budget", "10m", "--out", out, *more]
    arguments += [part for setting in SMALL for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
    )
    end = time.time() + 120
    while time.time() < end and process.poll() is None:
        if (out / "trials").is_dir() and sum(record["state"] == "done" for record in records_of(out)):
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


def test_a_killed_search_goes_on_where_it_was_and_its_best_can_be_used_meanwhile(bert, sets, tmp_path):
    out = tmp_path / "run"
    process = begun(bert, sets, out)
    process.kill()
    process.communicate()
    before = {record["number"]: record for record in records_of(out) if record["state"] == "done"}
    assert package.load(out / "best").predict(["a text"])
    used = json.loads((out / "search.json").read_text())["used"]
    text = json.loads((out / "search.json").read_text())
    text["recipe"]["search"]["trials"] = len(records_of(out)) + 1
    (out / "search.json").write_text(json.dumps(text))
    run = package.search(resume=out, quiet=True)
    after = {record["number"]: record for record in records_of(out)}
    assert all(after[number] == record for number, record in before.items()), "what was done stays as it was"
    assert not [record for record in after.values() if record["state"] in ("running", "waiting")]
    assert json.loads((out / "search.json").read_text())["used"] > used and run.finished
    with pytest.raises(TunesmithError, match="complete"):
        package.search(resume=out, quiet=True)


def test_sigterm_ends_a_search_at_once_with_its_own_code_and_the_way_to_go_on(bert, sets, tmp_path):
    out = tmp_path / "run"
    process = begun(bert, sets, out)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 75 and f"tunesmith search --resume {out}" in told
    assert package.load(out / "best").predict(["a text"]) and not (out / "scores.json").exists()


@pytest.mark.slow
def test_ctrl_c_ends_a_search_with_the_best_so_far(bert, sets, tmp_path):
    out = tmp_path / "run"
    process = begun(bert, sets, out)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "ended early, as asked" in told, told
    assert package.Run(out).finished and package.Run(out).scores["test"]["accuracy"]["value"] is not None


@pytest.mark.slow
def test_two_workers_share_the_trials_and_none_is_run_twice(bert, sets, tmp_path):
    train, test = sets
    run = package.search(
        train, bert, test=test, workers=2, trials=40, budget="10m", out=tmp_path / "run", settings=SMALL, quiet=True
    )
    trials = [record for record in records_of(run.path) if record["role"] == "trial"]
    assert [record["number"] for record in trials] == list(range(1, 41))
    assert len({record["worker"] for record in trials}) == 2
    params = [(record["arm"], json.dumps(record["params"], sort_keys=True)) for record in trials]
    assert len(set(params)) == len(params)
