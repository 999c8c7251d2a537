"""The seconds of a trial, foretold."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow.csv import write_csv

from tunesmith.assemble.rows import Objects
from tunesmith.given import recipe_of
from tunesmith.study.costs import STEP_SECONDS, Work, corrected, reckoned, work_of
from tunesmith.study.record import Record
from tunesmith.study.workbench import open_workbench
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine


def ended(number, arm, seconds, reckoned_seconds, steps=10, length=10):
    return Record(
        number, arm, state="done", seconds=seconds, steps=steps, length=length, cost={"reckoned": reckoned_seconds}
    )


def test_what_is_reckoned_grows_with_steps_and_passes():
    assert reckoned(Work(100, 1000, 5), 0.01, 2.0) == pytest.approx(2.0 + 100 * STEP_SECONDS + 10.0)


def test_an_arm_is_corrected_by_its_own_trials_a_new_one_by_those_of_others():
    records = [ended(1, "full", 30.0, 10.0), ended(2, "full", 20.0, 10.0), ended(3, "full", 40.0, 10.0)]
    assert corrected(5.0, "full", records) == pytest.approx(15.0), "the median of what they took of what was reckoned"
    assert corrected(5.0, "last", [*records, ended(4, "head", 2.0, 1.0)]) == pytest.approx(5.0 * 2.5)
    assert corrected(5.0, "full", []) == 5.0


def test_a_trial_that_was_pruned_counts_for_the_steps_that_it_took():
    assert corrected(8.0, "full", [ended(1, "full", 5.0, 20.0, steps=1, length=4)]) == pytest.approx(8.0)


def test_a_frozen_body_costs_little_and_a_moving_one_three_passes_a_row(tmp_path):
    rows = tmp_path / "rows.csv"
    write_csv(pa.table(tiny_rows(400)), rows)
    fields = {"data": str(rows), "model": str(tiny_model(tmp_path / "model")), "strategy": "head"}
    recipe = recipe_of(
        Objects(), fields, ["model.head=pooled", "train.length=4 epochs", 'evaluate.metrics=["accuracy"]']
    )
    bench = open_workbench(recipe, Objects(), machine.start("cpu", "fp32"), lambda _line: None)
    head = work_of(bench.prepared({}))
    full = work_of(bench.prepared({"strategy": "full"}))
    live = work_of(bench.prepared({"train.cache": "off"}))
    train, valid = len(bench.rows.split.train), len(bench.rows.split.valid)
    seen = head.steps * 16
    assert head.steps == full.steps == live.steps == 4 * -(-train // 16)
    assert head.passes == train + valid, "each row once"
    assert full.passes == 3 * seen + 4 * valid
    assert live.passes == seen + 4 * valid
    assert head.trained < full.trained
