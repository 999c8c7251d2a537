"""Columns that leak are told before anything trains, and left out where the recipe says so."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import tunesmith
from tunesmith.errors import DataError
from tunesmith.testing import tiny_model, tiny_rows

FAST = ("train.length=1 epochs", "model.options={layers = 1, width = 8}", "data.split=hash")


def rows_of(num_rows=240, seed=0):
    random = np.random.default_rng(seed)
    label = random.integers(2, size=num_rows)
    return {
        "size": random.normal(size=num_rows).round(3).tolist(),
        "outcome_code": [["A7", "B2"][one] for one in label],
        "speaker": [f"s{number}" for number in random.integers(6, size=num_rows)],
        "label": [["no", "yes"][one] for one in label],
    }


def fit(data, out, *settings, **options):
    told = []
    options = {"target": "label", "task": "classification", **options}
    run = tunesmith.fit(data, options.pop("model", "new:mlp"), out=out, settings=[*FAST, *settings],
                        tell=told.append, **options)  # fmt: skip
    return run, [line for line in told if line.startswith(("giveaway", "groups"))]


def test_a_column_that_gives_the_target_away_is_told_and_may_be_left_out(tmp_path):
    run, told = fit(rows_of(), tmp_path / "kept")
    (line,) = [line for line in told if line.startswith("giveaway")]
    assert '"outcome_code" gives "label" away' in line and "data.clean.leaks=drop" in line
    assert "outcome_code" in run.recipe.data.inputs
    run, told = fit(rows_of(), tmp_path / "dropped", "data.clean.leaks=drop")
    assert any("it is not read" in line for line in told)
    assert run.recipe.data.inputs == ("size", "speaker")
    clean = {name: values for name, values in rows_of().items() if name != "outcome_code"}
    assert tunesmith.load(run).predict({name: clean[name][:3] for name in ("size", "speaker")})
    assert not any(line.startswith("giveaway") for line in fit(clean, tmp_path / "clean")[1])


def test_where_nothing_else_is_left_it_is_an_error(tmp_path):
    rows = {name: values for name, values in rows_of().items() if name in ("outcome_code", "label")}
    with pytest.raises(DataError, match="every column gives label away"):
        fit(rows, tmp_path / "run", "data.clean.leaks=drop")


def test_groups_that_may_fall_into_several_parts_are_told_with_the_split_that_keeps_them(tmp_path):
    _, told = fit(rows_of(), tmp_path / "hash")
    (line,) = [line for line in told if line.startswith("groups")]
    assert '"speaker" names 6 groups' in line and """'data.split={name="group", by="speaker"}'""" in line
    run, told = fit(rows_of(), tmp_path / "group", "data.split={name='group', by='speaker'}")
    assert [line for line in told if line.startswith("groups")] == ['groups: "speaker" names them and is not read']
    assert "speaker" not in run.recipe.data.inputs
    named = ["data.inputs=['size', 'speaker']", "data.split={name='group', by='speaker'}"]
    assert "speaker" in fit(rows_of(), tmp_path / "named", *named)[0].recipe.data.inputs


def test_of_given_files_groups_are_told_only_where_two_share_one(tmp_path):
    model = tiny_model(tmp_path / "model")

    def write(name, speakers, seed):
        texts = tiny_rows(60, 2, seed=seed)
        speaker = [speakers[row % len(speakers)] for row in range(60)]
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label", "speaker"), *zip(*texts.values(), speaker, strict=True)])
        return str(tmp_path / name)

    train = write("train.csv", ["ann", "bob"], 0)
    for number, (speakers, shared) in enumerate(((["bob", "eve"], True), (["eve", "dan"], False))):
        files = {"valid": write("valid.csv", ["fay", "gus"], 2), "test": write("test.csv", speakers, 1)}
        settings = ["train.length=1 epochs"]
        told = []
        tunesmith.fit(train, model, out=tmp_path / f"{number}", settings=settings, tell=told.append, **files)
        assert any(line.startswith('groups: "speaker"') for line in told) is shared
