"""The final of a search: other rows than those that chose, and who is best on them."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.csv import write_csv

from tunesmith.assemble.rows import Objects
from tunesmith.given import recipe_of
from tunesmith.study.finalists import best_epoch, hold
from tunesmith.study.record import Record
from tunesmith.study.workbench import Workbench, open_workbench
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine

QUIET = ["model.head=pooled", "train.length=3 epochs", 'evaluate.metrics=["accuracy"]']


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    folder = tmp_path_factory.mktemp("final")
    write_csv(pa.table(tiny_rows(300)), folder / "rows.csv")
    fields = {"data": str(folder / "rows.csv"), "model": str(tiny_model(folder / "model"))}
    recipe = recipe_of(Objects(), fields, QUIET)
    return open_workbench(recipe, Objects(), machine.start("cpu", "fp32"), lambda _line: None)


def trial(number, rate, value):
    interval = {"value": value, "low": value - 0.2, "high": min(1.0, value + 0.2)}
    return Record(
        number, "full", settings={"train.lr": rate}, state="done", seconds=0.1, steps=36, length=36, **interval
    )


def test_the_one_that_is_better_on_rows_that_did_not_choose_wins(bench):
    lucky, good = trial(1, 1e-6, 0.9), trial(2, 1e-2, 0.85)
    final = hold(bench, [lucky, good], time.time() + 300, lambda _line: None)
    assert final.winner.number == 2 and "rows that had not chosen" in final.why
    assert {judged.role for judged in final.judged} == {"finalist"}
    assert all(judged.settings in (lucky.settings, good.settings) for judged in final.judged)
    train, valid = set(bench.rows.split.train.tolist()), set(bench.rows.split.valid.tolist())
    asked = set(final.rows.tolist())
    assert asked == train and not asked & valid, "no valid row is asked again"
    assert best_epoch(final, bench.prepared(good.settings)) in final.answers


def test_one_that_the_valid_rows_tell_from_the_best_is_no_finalist(bench):
    final = hold(bench, [trial(1, 1e-2, 0.95), trial(2, 1e-2, 0.5)], time.time() + 300, lambda _line: None)
    assert len(final.judged) == 1 and final.winner.number == 1


def test_without_time_for_a_fold_the_best_trial_wins(bench):
    final = hold(bench, [trial(1, 1e-2, 0.9), trial(2, 1e-2, 0.85)], time.time() - 1, lambda _line: None)
    assert final.winner.number == 1 and not final.judged and not len(final.rows)
    assert isinstance(final.rows, np.ndarray) and "no time" in final.why
