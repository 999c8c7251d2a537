"""The pace of a phase: the warm-up, then the schedule, over the phase or over the whole."""

from __future__ import annotations

import pytest


def test_the_warm_up_rises_in_a_straight_line_and_the_schedule_takes_over(job_of):
    factor = job_of(train={"warmup": "4 steps"}).factor(10, 6)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4) == 1.0 and factor(7) == 0.5 and factor(9) == pytest.approx(1 / 6)


def test_without_a_warm_up_the_first_step_has_the_peak_rate(job_of):
    assert job_of(train={"warmup": "never", "schedule": "constant"}).factor(10, 6)(0) == 1.0
