"""What a run and `evaluate` say of slices, and what a run says of its own fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import tunesmith as library
from tunesmith.run import Run
from tunesmith.testing import tiny_rows


@pytest.fixture(scope="module")
def rows():
    """Rows whose label is right but in those of one source, where it is drawn."""
    found, random = tiny_rows(400), np.random.default_rng(0)
    found["source"] = random.choice(["mail", "chat", "fax"], 400).tolist()
    for number in np.flatnonzero(np.array(found["source"]) == "fax"):
        found["label"][number] = str(random.choice(["apple", "bread"]))
    return found


@pytest.fixture(scope="module")
def run(rows, bert, write_csv, quick, tmp_path_factory):
    place = tmp_path_factory.mktemp("judging")
    path = write_csv(place / "rows.csv", rows)
    settings = ["train.length=8 epochs", "data.target=label", 'data.inputs=["text"]', "data.split.test=0.4"]
    return quick(path, bert, settings=settings, out=place / "run"), path


def test_a_run_scores_slices_of_the_test_rows_and_names_the_worse_ones(run, tunesmith):
    found = run[0].scores
    assert "slices" not in found["valid"]
    slices = {one["slice"]: one for one in found["test"]["slices"]}
    assert [name for name, one in slices.items() if one["worse"]] == ["source = fax"]
    assert {one["kind"] for one in slices.values()} == {"class", "length", "column"}
    assert (
        sum(one["rows"] for one in slices.values() if one["kind"] == "class")
        == run[0].read("data.json")["split"]["test"]
    )
    from tunesmith.delivery.summary import summary

    assert f"worse than elsewhere: 1 of {len(slices)} slices\n  source = fax: accuracy 0." in summary(run[0])


def test_evaluate_slices_by_the_columns_that_it_is_given(run, tunesmith, tmp_path):
    answer = tunesmith("evaluate", run[0].path, run[1], "--slices", "source", "-o", tmp_path / "scores.json")
    assert answer.code == 0 and "\n  source = fax: accuracy" in answer.out, answer.err
    found = json.loads((tmp_path / "scores.json").read_text())["slices"]
    assert {one["column"] for one in found} == {None, "source"}
    plain = library.evaluate(run[0], run[1], out=tmp_path / "plain.json", tell=str)["slices"]
    assert plain == found, "auto finds the same column"
    none = library.evaluate(run[0], run[1], slices=[], out=tmp_path / "none.json", tell=str)["slices"]
    assert {one["column"] for one in none} == {None}


def test_a_column_that_is_not_there_is_named_with_the_nearest_before_anything_is_trained(
    run, tunesmith, bert, tmp_path
):
    answer = tunesmith("evaluate", run[0].path, run[1], "--slices", "sorce")
    assert answer.code == 1 and 'there is no column "sorce"' in answer.err and 'did you mean "source"?' in answer.err
    out, setting = tmp_path / "run", 'evaluate.slices=["sorce"]'
    answer = tunesmith("fit", run[1], "--model", bert, "--target", "label", "--out", out, "--set", setting, fast=True)
    assert answer.code == 1 and 'did you mean "source"?' in answer.err and not out.exists()


def test_a_recipe_names_the_columns_that_its_run_slices_by(rows, bert, quick, tmp_path):
    columns = rows | {"region": ["north", "south"] * 200}
    settings = ["data.target=label", 'data.inputs=["text"]', 'evaluate.slices=["region"]']
    found = quick(columns, bert, settings=settings, out=tmp_path / "run")
    assert {one["column"] for one in found.scores["test"]["slices"]} == {None, "region"}
    # Rows that lack the column are evaluated without it.
    other = library.evaluate(found, {"text": rows["text"], "label": rows["label"]}, tell=str)
    assert {one["column"] for one in other["slices"]} == {None}


def test_a_run_says_what_it_scores_on_rows_that_trained_it_and_what_that_calls_for(run):
    found = run[0].read("diagnosis.json")
    assert found["judged_on"] == "valid" and found["metric"] == "accuracy"
    assert found["gap"]["value"] == pytest.approx(found["train"]["value"] - found["judged"]["value"])
    assert found["judged"] == {key: run[0].scores["valid"]["accuracy"][key] for key in ("value", "low", "high")}
    assert [point["epoch"] for point in found["curve"]] == list(range(1, 9))
    lines = [json.loads(line) for line in (run[0].path / "events.jsonl").read_text().splitlines()]
    assert [point["valid"] for point in found["curve"]] == [e["value"] for e in lines if e["event"] == "evaluate"]
    train = run[0].read("data.json")["split"]["train"]
    assert [point["rows"] for point in found["rows_curve"]][-1] == train
    assert found["rows_curve_of"] == "frozen_logistic"
    assert found["log_loss"]["train"]["value"] > 0 and found["sentence"].startswith("train ")


def test_an_overfit_is_told_in_the_summary(tunesmith, write_csv, tmp_path):
    random = np.random.default_rng(0)
    values = random.normal(size=(400, 30))
    label = (values[:, :8].sum(1) > 0).astype(int)
    rows = {f"x{place}": values[:, place].round(4).tolist() for place in range(30)} | {"y": label.tolist()}
    train = write_csv(tmp_path / "train.csv", {name: column[:100] for name, column in rows.items()})
    valid = write_csv(tmp_path / "valid.csv", {name: column[100:] for name, column in rows.items()})
    asked = ("train.length=40 epochs", "train.lr=3e-3", "train.patience=0")
    words = [word for setting in asked for word in ("--set", setting)]
    out = tmp_path / "run"
    answer = tunesmith("fit", train, "--model", "new:mlp", "--valid", valid, "--target", "y", "--out", out, *words)
    found = Run(out).read("diagnosis.json")
    assert found["finding"] in ("more data", "more regularization") and found["gap"]["low"] > 0
    told = np.array([int(one) for one in library.load(out).predict(train)])
    assert found["train"]["value"] == (told == label[:100]).mean(), "the saved model's, on the rows that trained it"
    assert found["rows_curve_of"] == "boosted_trees"
    assert f"fit:  {found['sentence']}\n" in answer.out and "overfits" in found["sentence"]


def test_without_a_row_set_aside_folds_judge_and_few_rows_have_no_curve(bert, quick, tmp_path):
    run = quick(tiny_rows(48), bert, out=tmp_path / "run")
    found = run.read("diagnosis.json")
    assert found["judged_on"] == "valid" and found["rows_curve"] == [] and found["curve"] == []
    assert found["rows_curve_skipped"] == "under 64 training rows"
    assert found["judged"]["value"] == run.scores["valid"]["accuracy"]["value"]


def test_a_network_in_memory_and_a_metric_of_ones_own_are_diagnosed(quick, tmp_path):
    random = np.random.default_rng(0)
    values = random.normal(size=(300, 2))
    rows = {"a": values[:, 0], "b": values[:, 1], "y": values.sum(1)}

    def nearness(truth, told):
        return -float(np.abs(np.array(truth) - np.array(told)).mean())

    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    settings = ["train.length=5 epochs", "model.head=own", "evaluate.select=nearness", 'evaluate.metrics=["mae"]']
    run = quick(rows, net, target="y", metrics=[nearness], settings=settings, out=tmp_path / "run")
    found = run.read("diagnosis.json")
    assert found["metric"] == "nearness" and found["train"]["value"] < 0 and len(found["rows_curve"]) == 4
    assert run.scores["test"]["slices"] == []
