"""Which arm is worth the next seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.study.gain import expected_gain, likely_seconds, room, scores_of
from tunesmith.study.record import Record


def test_before_any_trial_the_gain_is_that_of_what_is_believed():
    """Against a simulation of it: the baseline plus the promised share of what is left, give or take."""
    drawn = np.random.default_rng(0).normal(0.7 + 0.4 * 0.3, 0.3 * 0.3, 400_000)
    expected = np.maximum(drawn - 0.75, 0).mean()
    assert expected_gain([], 0.75, 0.7, 0.4, True) == pytest.approx(expected, rel=0.01)


def test_what_promises_more_gains_more_and_what_proved_bad_little():
    fresh = expected_gain([], 0.8, 0.7, 0.5, True)
    assert fresh > expected_gain([], 0.8, 0.7, 0.1, True)
    assert fresh > 5 * expected_gain([0.5, 0.52, 0.51], 0.8, 0.7, 0.5, True)


def test_an_arm_that_was_tried_often_gains_less_from_one_more():
    few, many = ([0.8 - 0.01 * (n % 3) for n in range(count)] for count in (3, 30))
    assert expected_gain(many, 0.8, 0.7, 0.3, True) < expected_gain(few, 0.8, 0.7, 0.3, True) / 2


def test_of_an_error_less_is_better():
    mirrored = expected_gain([0.8, 0.85], 0.85, 0.7, 0.3, True)
    assert expected_gain([0.2, 0.15], 0.15, 0.3, 0.3, False) == pytest.approx(mirrored)
    assert room(0.2, rising=False) == 0.2 and math.isclose(room(0.2, rising=True), 0.8)


def test_a_cheap_arm_comes_first_though_a_dear_one_promises_more():
    cheap, dear = (
        expected_gain([], 0.7, 0.7, promise, True) / likely_seconds(seconds, 0)
        for promise, seconds in ((0.0, 2.0), (0.5, 60.0))
    )
    assert cheap > dear
    tried = [0.71, 0.70, 0.69, 0.71, 0.70, 0.68, 0.70, 0.71]
    cheap = expected_gain(tried * 4, 0.71, 0.7, 0.0, True) / likely_seconds(2.0, 32)
    assert cheap < expected_gain([], 0.71, 0.7, 0.5, True) / likely_seconds(60.0, 0), "then it is exhausted"


def test_the_scores_of_an_arm_are_those_of_its_trials_that_have_one():
    records = [
        Record(1, "full", value=0.5),
        Record(2, "head", value=0.6),
        Record(3, "full"),
        Record(4, "full", value=0.7),
    ]
    assert scores_of(records, "full") == [0.5, 0.7]
