"""Regression: numbers in their own unit."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.errors import DataError
from tunesmith.tasks.regression import TASK


def test_mean_and_spread_are_those_of_the_training_rows():
    target = TASK.learn(("price",), ["10", 20, 30.0])
    assert (target.mean, target.labels) == (20.0, ("value",)) and target.std == pytest.approx(np.std([10, 20, 30]))


@pytest.mark.parametrize("value", ["ten", None, "nan", float("inf"), "3,5"])
def test_what_is_no_number_is_named(value):
    with pytest.raises(DataError, match=f'"price" holds "{value}", which is no number'):
        TASK.learn(("price",), [1.0, value, 2.0])


def test_a_target_that_never_changes_is_an_error():
    for value in (3.0, 0.1):
        with pytest.raises(DataError, match=f"is {value:g} in every row"):
            TASK.learn(("price",), [value] * 10)


def test_a_row_without_a_number_is_not_a_number():
    codes = TASK.encode(["1.5", "x", "-inf", None], TASK.learn(("price",), [1, 2]))
    assert codes[0] == 1.5 and np.isnan(codes[1:]).all()


def test_values_are_told_as_they_are():
    assert TASK.decode(TASK.probabilities(np.array([[1.5], [-2.0]])), TASK.learn(("y",), [1, 2])) == [1.5, -2.0]
