"""The outlook: what a known law would give, and silence where scores do not rise."""

import numpy as np
import pytest

from tunesmith.evaluation.power_law import look_ahead

SIZES = [100, 200, 400, 800]


def resampled(scores, noise, *, shared=0.0, num=400):
    """Scores with noise of their own, and noise that all sizes share, as of the same valid rows."""
    random = np.random.default_rng(0)
    own, common = random.normal(size=(num, len(scores))), random.normal(size=(num, 1))
    return np.asarray(scores) + noise * own + shared * common


def law(exponent, limit=0.9, gap=0.4):
    return [limit - gap * (size / 100) ** -exponent for size in [*SIZES, 1600]]


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_a_power_law_is_continued_exactly(exponent):
    *scores, ahead = law(exponent)
    found = look_ahead(SIZES, scores, resampled(scores, 1e-6), rising=True)
    assert (found.rows, found.value) == (1600, pytest.approx(ahead, abs=1e-4))
    assert found.gain == pytest.approx(ahead - scores[-1], abs=1e-4)
    assert found.low <= found.gain + 1e-6 and found.gain - 1e-6 <= found.high


def test_of_a_falling_metric_the_gain_is_a_fall():
    *scores, ahead = (1.0 - score for score in law(0.5))
    found = look_ahead(SIZES, scores, resampled(scores, 1e-6), rising=False)
    assert found.value == pytest.approx(ahead, abs=1e-4) and found.gain < 0


def test_the_interval_holds_what_the_law_gives_where_the_scores_are_noisy():
    *scores, ahead = law(0.5)
    noisy = [score + off for score, off in zip(scores, (0.01, -0.01, 0.005, -0.005), strict=True)]
    found = look_ahead(SIZES, noisy, resampled(noisy, 0.01), rising=True)
    assert found.value + found.low - found.gain <= ahead <= found.value + found.high - found.gain
    assert found.high - found.low > 0.01


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5, 0.5], [0.6, 0.55, 0.5, 0.5], [0.5, 0.51, 0.5, 0.52]])
def test_scores_that_do_not_rise_for_sure_foretell_nothing(scores):
    found = look_ahead(SIZES, scores, resampled(scores, 0.03), rising=True)
    assert found.value is None
    assert found.gain == pytest.approx(scores[-1] - scores[0]) and found.low < found.high


def test_what_all_sizes_share_does_not_hide_that_they_rise():
    """Few valid rows: each score is unsure by 0.1, but they are the same rows, and the differences are sure."""
    *scores, _ = law(0.5)
    assert look_ahead(SIZES, scores, resampled(scores, 0.005, shared=0.1), rising=True).value is not None
    assert look_ahead(SIZES, scores, resampled(scores, 0.2), rising=True).value is None


def test_nothing_better_than_the_best_is_foretold():
    scores = [0.7, 0.8, 0.9, 0.99]
    found = look_ahead(SIZES, scores, resampled(scores, 1e-3), rising=True)
    assert found.value == pytest.approx(1.0)
    unsure = look_ahead(SIZES, scores, resampled(scores, 1e-2, shared=0.05), rising=True)
    assert scores[-1] + unsure.high == pytest.approx(1.0), "nor at the end of the interval"
    fallen = look_ahead(SIZES, [3.0, 2.0, 1.0, 0.1], resampled([3.0, 2.0, 1.0, 0.1], 1e-3), rising=False)
    assert fallen.value == pytest.approx(0.0)
    large = look_ahead(SIZES, [7.0, 8.0, 9.0, 9.9], resampled([7.0, 8.0, 9.0, 9.9], 1e-3), rising=True)
    assert large.value > 10


def test_resamples_that_do_not_define_the_metric_are_left_out():
    *scores, ahead = law(0.5)
    drawn = resampled(scores, 1e-6)
    drawn[::2, 1] = np.nan
    assert look_ahead(SIZES, scores, drawn, rising=True).value == pytest.approx(ahead, abs=1e-4)
    assert look_ahead(SIZES, scores, np.full((3, 4), np.nan), rising=True).value is None
