"""The baselines of a run: beside the model, on the same rows, and what the model gains over each."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import tunesmith
from tunesmith.delivery import beside
from tunesmith.evaluation.linear import tuned_outputs

FAST = ["train.length=1 epochs", "train.lr=1e-2", "model.head=pooled", 'evaluate.metrics=["accuracy", "log_loss"]']


@pytest.fixture(scope="module")
def run(bert, csv, tmp_path_factory):
    return tunesmith.fit(csv, bert, out=tmp_path_factory.mktemp("runs") / "a", settings=FAST, quiet=True)


def test_each_has_its_interval_its_seconds_its_predictions_and_what_the_model_gains_over_it(run):
    found = run.scores["test"]
    assert list(found["baselines"]) == ["majority", "tfidf_logistic", "frozen_logistic", "frozen_neighbours"]
    mine = pq.read_table(run.path / "predictions" / "test.parquet")
    lines = map(json.loads, (run.path / "events.jsonl").read_text().splitlines())
    told = {line["name"]: line["seconds"] for line in lines if line["event"] == "baseline" and line["split"] == "test"}
    assert list(told) == list(found["baselines"]) and min(told.values()) > 0
    for name, values in found["baselines"].items():
        gain = found["accuracy"]["value"] - values["accuracy"]["value"]
        assert found["against"][name]["value"] == pytest.approx(gain)
        assert found["against"][name]["low"] <= gain <= found["against"][name]["high"]
        kept = pq.read_table(run.path / "predictions" / "baselines" / "test" / f"{name}.parquet")
        assert kept["id"] == mine["id"] and kept["target"] == mine["target"]
        assert kept.column_names == mine.column_names
        right = np.mean([one == other for one, other in zip(kept["target"], kept["prediction"], strict=True)])
        assert values["accuracy"]["value"] == pytest.approx(right)


def test_frozen_features_are_those_of_the_model_before_it_was_tuned(bert, csv, tmp_path, monkeypatch):
    seen, answers = {}, beside.answers

    def learn(job, name, train, asked, untouched):
        if name == "frozen_logistic":
            seen["job"], seen["frozen"], seen["train"] = job, untouched, train
        return answers(job, name, train, asked, untouched)

    monkeypatch.setattr(beside, "answers", learn)
    run = tunesmith.fit(csv, bert, out=tmp_path / "run", settings=[*FAST, "model.head.pooling=max"], quiet=True)
    model = tunesmith.load(run).loaded
    rows, frozen = seen["train"][:8], seen["frozen"]
    again = tunesmith.fit(csv, bert, out=tmp_path / "head", strategy="head", settings=FAST, quiet=True)
    before = tunesmith.load(again).loaded
    inputs = seen["job"].encoded.batch(rows)
    states = before.net.calling.states(before.net.calling.run(before.net.body, inputs), inputs)
    masked = states[0].masked_fill(states[1].unsqueeze(-1) == 0, -1e9).amax(1).detach().numpy()
    np.testing.assert_allclose(frozen.of(rows), masked, atol=1e-5)
    tuned = model.net.features(inputs).detach().numpy()
    assert np.abs(tuned - masked).max() > 0.01, "the tuned body gives others"


def test_of_a_network_that_was_never_pretrained_nothing_frozen_is_asked(tmp_path, write_csv):
    random = np.random.default_rng(0)
    size = random.normal(size=300)
    rows = {"size": size.tolist(), "weight": random.normal(size=300).tolist(), "big": ["ny"[int(x > 0)] for x in size]}
    file = write_csv(tmp_path / "table.csv", rows)
    settings = ["train.length=2 epochs", 'evaluate.metrics=["accuracy"]']
    run = tunesmith.fit(file, "new:mlp", target="big", out=tmp_path / "run", settings=settings, quiet=True)
    assert list(run.scores["test"]["baselines"]) == ["majority", "boosted_trees"]


def test_without_a_row_set_aside_every_baseline_learns_from_the_other_folds(bert, tmp_path, write_csv):
    from tunesmith.testing import tiny_rows

    file = write_csv(tmp_path / "few.csv", tiny_rows(60))
    run = tunesmith.fit(file, bert, out=tmp_path / "run", settings=FAST, quiet=True)
    assert "frozen_logistic" in run.scores["valid"]["baselines"]
    kept = pq.read_table(run.path / "predictions" / "baselines" / "valid" / "frozen_neighbours.parquet")
    assert len(kept) == run.read("data.json")["split"]["train"]


def test_more_training_rows_than_are_read_off_the_body_are_evenly_spaced(bert, csv, tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "MOST_FROZEN", 20)
    sizes = []
    answers = beside.answers

    def learn(job, name, train, asked, untouched):
        sizes.append(len(untouched.rows) - len(job.rows.split.valid) - len(job.rows.split.test))
        return answers(job, name, train, asked, untouched)

    monkeypatch.setattr(beside, "answers", learn)
    run = tunesmith.fit(csv, bert, out=tmp_path / "run", settings=FAST, quiet=True)
    assert set(sizes) == {20} and run.scores["test"]["baselines"]["frozen_logistic"]["accuracy"]["value"] > 0.5


def test_the_penalty_of_few_rows_is_not_chosen():
    features, codes = np.eye(4), np.array([0, 1, 0, 1])
    assert tuned_outputs(features, codes, features, 2).argmax(1).tolist() == [0, 1, 0, 1]
