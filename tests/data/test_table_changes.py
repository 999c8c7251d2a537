"""Rows of a table changed at random: noise on what is there, columns that count as missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from tunesmith.data.augment import columns
from tunesmith.data.augmented import AugmentedRows
from tunesmith.data.encoders.table import learnt
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError

NAMES = ("size", "age", "colour", "town")


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    data = {
        "size": random.normal(size=40),
        "age": [None if row % 5 == 0 else float(row) for row in range(40)],
        "colour": [["red", "blue"][row % 2] for row in range(40)],
        "town": [["Rome", "Oslo", "Bonn"][row % 3] for row in range(40)],
    }
    table = Table(pa.table(data), origin=(("toy", 40),))
    return learnt(table, NAMES, np.arange(40), {}).encode(table, NAMES)


def views(rows, augmentation, times=200):
    made = AugmentedRows(rows, augmentation, seed=1)
    return [made.batch(range(40), view) for view in range(times)]


def test_noise_is_as_large_as_it_says_and_only_on_values_that_are_there(rows):
    plain = rows.batch(range(40))
    found = torch.stack([view["numbers"] for view in views(rows, columns(noise=0.1, drop=0.0))]) - plain["numbers"]
    spread = found.std(0)
    names = rows.encoder.numbers
    size, age, missing = (names.index(pair) for pair in (("size", "value"), ("age", "value"), ("age", "missing")))
    assert spread[:, size].mean() == pytest.approx(0.1, abs=0.01)
    absent = plain["numbers"][:, missing] > 0
    assert absent.any() and (spread[absent, age] == 0).all() and (spread[~absent, age] > 0.05).all()
    assert (spread[:, missing] == 0).all()


def test_a_column_that_is_dropped_looks_as_one_that_is_missing(rows):
    names, found = rows.encoder.numbers, views(rows, columns(noise=0.0, drop=0.25))
    plain = rows.batch(range(40))
    size, age, missing = (names.index(pair) for pair in (("size", "value"), ("age", "value"), ("age", "missing")))
    numbers, codes = (torch.stack([view[name] for view in found]) for name in ("numbers", "categories"))
    there = plain["numbers"][:, missing] == 0
    gone = (numbers[:, there][..., missing] == 1).float()
    assert gone.mean() == pytest.approx(0.25, abs=0.02)
    assert (numbers[:, there][..., age][gone.bool()] == 0).all()
    assert (numbers[..., size] == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    for place in range(2):
        kept = codes[..., place] == plain["categories"][:, place]
        assert (~kept).float().mean() == pytest.approx(0.25, abs=0.02) and (codes[..., place][~kept] == 0).all()


def test_never_all_columns_of_a_row_are_dropped(rows):
    # Of a row whose age is there: when its age is the column that stays, it is told as there.
    there = rows.batch(range(40))["numbers"][:, rows.encoder.numbers.index(("age", "missing"))] == 0
    for view in views(rows, columns(noise=0.0, drop=0.95), 50):
        numbers = view["numbers"][there]
        left = (numbers[:, 0] != 0) | (numbers[:, -1] == 0) | (view["categories"][there] != 0).any(1)
        assert left.all()


def test_impossible_options_are_refused():
    for options, words in (
        ({"noise": -0.1}, "noise"),
        ({"drop": 1.0}, "drop"),
        ({"noise": 0.0, "drop": 0.0}, "nothing"),
    ):
        with pytest.raises(RecipeError, match=words):
            columns(**options)
