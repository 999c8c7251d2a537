"""Durations: a number with its unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.duration import Duration


@pytest.mark.parametrize(
    ("text", "steps"),
    [("3 epochs", 30), ("1 epoch", 10), ("0.25 epochs", 3), ("500 steps", 500), ("1step", 1), ("10 %", 20),
     ("never", 0), ("0 steps", 0), ("0.001 epochs", 1), (" 2  epochs ", 20)],
)  # fmt: skip
def test_a_length_in_steps(text, steps):
    assert Duration.parse(text).steps(steps_per_epoch=10, total=200) == steps


@pytest.mark.parametrize("text", ["3", "epochs", "-1 epochs", "3 days", "1.5 steps", "", "1e3 steps", "3 epochs 2"])
def test_what_is_no_length_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"3 epochs|steps are whole"):
        Duration.parse(text)


@given(st.integers(1, 10**6), st.sampled_from(["epochs", "steps", "%"]))
def test_what_is_written_is_read_back(amount, unit):
    made = Duration(amount, unit)
    assert Duration.parse(str(made)) == made


def test_a_tenth_is_not_rounded_up_by_an_inexact_product():
    assert Duration.parse("0.1 epochs").steps(steps_per_epoch=30) == 3
    assert str(Duration(0, "steps")) == "never" and str(Duration(1, "epochs")) == "1 epoch"
