"""Overfit or underfit: each rule of the decision, on numbers as runs measure them."""

from __future__ import annotations

import pytest

from tunesmith.evaluation.diagnosis import (
    Evidence,
    Point,
    course,
    diagnose,
    last_attempt,
    losses_of,
    opened,
    unfinished,
)


def around(value, reach=0.02):
    return {"value": value, "low": value - reach, "high": value + reach}


def evidence(train, valid, *, reach=0.02, metric="accuracy", chance=0.5, **others):
    sign = -1 if metric in ("rmse", "log_loss") else 1
    gap = around(sign * (train - valid), reach)
    return Evidence(metric, around(train, reach), around(valid, reach), gap, chance, **others)


def test_a_sure_gap_is_an_overfit_and_the_curve_over_rows_tells_which_remedy():
    found = diagnose(evidence(0.99, 0.81, gain=0.05))
    assert found.finding == "more data" and found.sentence.startswith("train 0.99, valid 0.81: overfits; more data")
    assert diagnose(evidence(0.99, 0.81, gain=0.03)).finding == "more regularization", "it would close under a fifth"
    assert diagnose(evidence(0.99, 0.81, gain=0.0)).finding == "more regularization"
    unmeasured = diagnose(evidence(0.99, 0.81))
    assert unmeasured.finding == "more regularization" and "or more data" in unmeasured.sentence


def test_the_epoch_where_it_opened_is_said():
    since = Point(30, 2.0, 0.5, 0.81)
    assert "overfits since epoch 2;" in diagnose(evidence(0.99, 0.81, opened=since)).sentence


def test_a_small_gap_and_fitted_rows_leave_nothing_to_change_unless_a_baseline_is_better_for_sure():
    others = {"unfinished": True, "opened": Point(1, 1.0, 0.1, 0.97)}
    assert diagnose(evidence(0.99, 0.97, baseline=("trees", 0.98), **others)).finding == "nothing to change"
    assert diagnose(evidence(0.99, 0.97, baseline=("trees", 1.0), **others)).finding == "larger model"


def test_a_gap_that_is_small_beside_what_was_learnt_is_none_even_if_it_is_sure():
    assert diagnose(evidence(0.99, 0.95, reach=0.005)).finding == "nothing to change"
    assert diagnose(evidence(0.99, 0.95, reach=0.005, chance=0.9)).finding == "more regularization"


def test_rows_that_are_not_fitted_while_a_baseline_is_better_or_the_loss_falls_are_an_underfit():
    beaten = diagnose(evidence(0.7, 0.69, baseline=("boosted_trees", 0.9)))
    assert beaten.finding == "larger model" and "boosted_trees has 0.9" in beaten.sentence
    falling = diagnose(evidence(0.7, 0.69, unfinished=True))
    assert falling.finding == "larger model" and "train longer" in falling.sentence
    learnt_nothing = diagnose(evidence(0.5, 0.5, baseline=("boosted_trees", 0.9)))
    assert learnt_nothing.finding == "larger model"


def test_a_gap_of_a_model_that_learnt_next_to_nothing_is_no_overfit():
    shares = evidence(0.54, 0.47, chance=0.54, baseline=("boosted_trees", 0.88), gain=0.1)
    assert diagnose(shares).finding == "larger model"
    assert diagnose(evidence(0.56, 0.47, chance=0.54)).finding == "cannot be told"


def test_a_baseline_within_the_interval_is_not_better():
    found = diagnose(evidence(0.7, 0.69, baseline=("boosted_trees", 0.7)))
    assert found.finding == "cannot be told" and "cannot be told apart" in found.sentence


def test_a_best_step_before_the_rows_are_fitted_is_an_overfit_that_an_early_stop_hid():
    hidden = evidence(0.8, 0.79, baseline=("boosted_trees", 0.9), opened=Point(10, 10.0, 0.5, 0.79))
    assert diagnose(hidden).finding == "more regularization"


def test_a_wide_interval_and_a_model_that_learnt_nothing_cannot_be_told():
    wide = diagnose(evidence(0.99, 0.9, reach=0.1))
    assert wide.finding == "cannot be told" and "too few rows" in wide.sentence
    nothing = diagnose(evidence(0.5, 0.5))
    assert nothing.finding == "cannot be told" and "no better than a model that reads nothing" in nothing.sentence
    undefined = evidence(0.9, 0.9, metric="auroc")
    undefined.judged["value"] = None
    assert diagnose(undefined).finding == "cannot be told"


@pytest.mark.parametrize(
    ("train", "valid", "finding"),
    [(1.0, 3.0, "more regularization"), (0.2, 0.25, "nothing to change"), (3.0, 3.1, "larger model")],
)
def test_an_error_in_any_unit_is_measured_by_what_the_mean_has(train, valid, finding):
    for unit in (1, 1000):
        found = evidence(
            unit * train,
            unit * valid,
            reach=0.05 * unit,
            metric="rmse",
            chance=5.0 * unit,
            baseline=("trees", 2.0 * unit),
        )
        assert diagnose(found).finding == finding


def steps(losses, evaluations):
    for number, loss in enumerate(losses, 1):
        yield {"event": "step", "step": number, "loss": loss}
        if number in evaluations:
            yield {"event": "evaluate", "step": number, "value": evaluations[number]}


def test_the_course_is_each_evaluation_with_the_mean_loss_before_it_and_of_the_last_attempt():
    first = list(steps([9.0, 9.0], {2: 0.1}))
    again = [
        {"event": "prepare"},
        *first,
        *steps([1.0, 3.0, None, 0.5], {2: 0.7, 4: 0.8}),
        {"event": "save", "step": 4},
    ]
    points = course(last_attempt(again), 2)
    assert points == [Point(2, 1.0, 2.0, 0.7), Point(4, 2.0, 0.5, 0.8)]
    assert losses_of(last_attempt(again)) == [1.0, 3.0, 0.5] and last_attempt([{"event": "prepare"}]) == []


def test_it_opens_at_the_first_best_evaluation_if_the_loss_falls_on():
    points = [
        Point(n, float(n), loss, valid) for n, (loss, valid) in enumerate(((2, 0.7), (1, 0.8), (0.7, 0.8), (0.3, 0.7)))
    ]
    assert opened(points, "accuracy") == points[1]
    assert opened(points[:3], "accuracy") == points[1] and opened(points[:2], "accuracy") is None
    assert opened(points, "log_loss") == points[0], "less is better: the first of the two best"
    level = [Point(1, 1.0, 1.0, 0.8), Point(2, 2.0, 0.9, 0.7)]
    assert opened(level, "accuracy") is None, "the loss did not fall on by a quarter"
    assert opened([], "accuracy") is None and opened([Point(1, 1.0, None, None)], "accuracy") is None


def test_training_is_unfinished_where_the_loss_falls_until_the_end_and_the_last_score_is_the_best():
    falling, level = [8, 7, 6, 5, 4, 3, 2, 1], [8, 4, 2, 1, 1, 1, 1, 1]
    rising, fallen = (
        [Point(1, 1.0, 1.0, 0.6), Point(2, 2.0, 1.0, 0.7)],
        [Point(1, 1.0, 1.0, 0.7), Point(2, 2.0, 1.0, 0.6)],
    )
    assert unfinished(falling, rising, "accuracy") and unfinished(falling, [], "accuracy")
    assert not unfinished(level, rising, "accuracy") and not unfinished(falling, fallen, "accuracy")
    assert unfinished(falling, fallen, "log_loss") and not unfinished([2, 1, 0], [], "accuracy")
