"""Trials of a search as tasks of a Ray cluster, which is started here."""

from __future__ import annotations

import json

import pytest

import tunesmith as package
from tunesmith.testing import tiny_model, tiny_rows

pytest.importorskip("ray", reason="needs the extra ray: make ray")


def test_workers_of_a_ray_cluster_run_trials_of_a_search(tmp_path, write_csv):
    rows, told = write_csv(tmp_path / "rows.csv", tiny_rows(240)), []
    settings = ('search.space={"train.length" = "2 epochs", "model.head" = "pooled"}', 'evaluate.metrics=["accuracy"]')
    run = package.search(
        rows,
        tiny_model(tmp_path / "model"),
        workers="ray:1",
        trials=60,
        budget="10m",
        out=tmp_path / "run",
        settings=settings,
        tell=told.append,
    )
    records = [json.loads(path.read_text()) for path in sorted((run.path / "trials").glob("[0-9]*.json"))]
    trials = [record for record in records if record["role"] == "trial"]
    assert [record["number"] for record in trials] == list(range(1, 61))
    assert len({record["worker"] for record in trials}) == 2, "this process and a task of Ray"
    assert any("Ray: 1 workers" in line for line in told) and run.finished
