"""One trial of a search: it ends when its time is over or it is not worth it, and what it left can be used."""

from __future__ import annotations

import time
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow.csv import write_csv

from tunesmith.assemble.rows import Objects
from tunesmith.given import recipe_of
from tunesmith.study.record import Record
from tunesmith.study.trial import run_trial
from tunesmith.study.workbench import open_workbench
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    write_csv(pa.table(tiny_rows(300)), folder / "rows.csv")
    fields = {"data": str(folder / "rows.csv"), "model": str(tiny_model(folder / "model"))}
    settings = ["model.head=pooled", "train.length=9 epochs", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]']
    recipe = recipe_of(Objects(), fields, settings)
    return open_workbench(recipe, Objects(), machine.start("cpu", "fp32"), lambda _line: None)


def run(bench, until=float("inf"), tell=lambda record: record, settings=None):
    kept = []
    record = Record(1, "full", settings=settings or {}, state="running")
    job = bench.prepared(record.settings)
    done = run_trial(bench, record, job, until=until, tell=tell, beat=lambda record: None, keep=kept.append)
    return done, kept


def test_a_trial_reports_in_ninths_and_is_scored_on_the_valid_rows(bench):
    done, kept = run(bench)
    assert done.state == "done" and done.low <= done.value <= done.high
    assert [ninths for ninths, _ in done.reports] == list(range(1, 1 + len(done.reports)))
    assert done.steps <= done.length and done.seconds > 0
    assert {"parameters", "bytes", "row_seconds"} <= done.cost.keys() and kept[0].record == done


def test_a_trial_whose_time_is_over_ends_with_the_best_that_it_had(bench):
    done, kept = run(bench, until=time.time())
    assert done.state == "stopped" and done.steps == 1 and done.value is not None and kept


def test_a_trial_that_is_not_worth_it_ends_at_its_report(bench):
    def tell(record):
        return replace(record, state="pruned", why="enough", system_attrs={"rung": 1})

    done, _ = run(bench, tell=tell)
    assert done.state == "pruned" and len(done.reports) == 1 and done.steps < done.length
    assert done.system_attrs == {"rung": 1}, "what Optuna wants to know again stays with it"


def test_what_cannot_be_trained_is_a_finding_and_no_crash(bench):
    done, kept = run(bench, settings={"train.lr": 1e6, "train.on_collapse": "stop"})
    assert done.state == "failed" and done.why and not kept
