"""The pace of a phase: the warm-up, then the schedule, over the phase or over the whole."""

from __future__ import annotations

import pytest


def test_the_warm_up_rises_in_a_straight_line_and_the_schedule_takes_over(job_of):
    factor = job_of(train={"warmup": "4 steps"}).factor(10, 6)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4) == 1.0 and factor(7) == 0.5 and factor(9) == pytest.approx(1 / 6)


def test_without_a_warm_up_the_first_step_has_the_peak_rate(job_of):
    assert job_of(train={"warmup": "never", "schedule": "constant"}).factor(10, 6)(0) == 1.0


def test_a_schedule_that_reads_scores_gets_those_of_its_phase_with_more_as_better(job_of):
    plateau = {"name": "plateau", "patience": 1, "factor": 0.5}
    job = job_of(train={"warmup": "2 steps", "schedule": plateau}, evaluate={"select": "log_loss"})
    scores = [{"step": 3, "value": 0.1}, {"step": 15, "value": 0.5}]
    factor = job.factor(20, 6, scores, start=10)
    assert factor(5) == 1.0, "the score of an earlier phase is none of its own"
    scores.append({"step": 16, "value": 0.4})
    assert factor(7) == 1.0, "a smaller loss is better"
    scores += [{"step": 17, "value": 0.6}, {"step": 18, "value": None}]
    assert factor(9) == 0.25


def test_the_optimizers_rate_is_relative_to_adamws_and_lbfgs_finds_its_own(job_of):
    rates = {
        name: job_of(train={"lr": "auto", "optimizer": name}).recipe.train for name in ("adamw", "sgd", "lion", "lbfgs")
    }
    adamw = rates["adamw"].lr
    assert rates["sgd"].lr == pytest.approx(100 * adamw) and rates["lion"].lr == pytest.approx(0.2 * adamw)
    assert (rates["lbfgs"].lr, rates["lbfgs"].clip, rates["lbfgs"].warmup) == (1.0, 0.0, "never")
    assert rates["adamw"].clip == 1.0
