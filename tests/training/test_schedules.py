"""Schedules at known points, and the warm-up before them."""

from __future__ import annotations

import pytest

from tunesmith.training.schedules import constant, linear


def test_linear_falls_from_one_to_its_floor():
    assert [linear(step, 4) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert linear(4, 4, floor=0.1) == pytest.approx(0.1) and linear(2, 4, floor=0.5) == 0.75


def test_constant_stays():
    assert {constant(step, 10) for step in range(11)} == {1.0}


def test_the_warm_up_rises_in_a_straight_line_and_the_schedule_takes_over(job_of):
    job = job_of(train={"length": "10 steps", "warmup": "4 steps"})
    factor = job.factor(job.cadence(6))
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4) == 1.0 and factor(7) == 0.5 and factor(9) == pytest.approx(1 / 6)


def test_without_a_warm_up_the_first_step_has_the_peak_rate(job_of):
    job = job_of(train={"length": "10 steps", "warmup": "never", "schedule": "constant"})
    assert job.factor(job.cadence(6))(0) == 1.0
