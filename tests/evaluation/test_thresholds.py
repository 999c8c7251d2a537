"""Thresholds: never worse than any other on the rows that chose them, stable where several are as good."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.evaluation import intervals, thresholds
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.thresholds import best_thresholds, reaching
from tunesmith.tasks.task import Target

OF_TWO = [name for name in plugins.names("metric") if hasattr(plugins.get("metric", name), "of_counts")]
OF_SEVERAL = [name for name in OF_TWO if name.endswith(("_macro", "_micro", "_weighted"))]
CHANCES = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.floats(0, 1, allow_subnormal=False))


def candidates(chances):
    """A threshold in each gap between neighbouring distinct probabilities, and beyond the first and the last."""
    values = np.unique(chances)
    inner = (values[1:] + values[:-1]) / 2
    return [values[0] / 2, *inner, *([(values[-1] + 1) / 2] if values[-1] < 1 else []), 0.5]


def binary(codes, chances, positive=1):
    codes, chances = np.asarray(codes, dtype=np.int64), np.asarray(chances, dtype=np.float64)
    columns = [1 - chances, chances] if positive else [chances, 1 - chances]
    target = Target(("y",), ("no", "yes"), positive=positive)
    return made("classification", codes if positive else 1 - codes, np.stack(columns, 1), target)


def several(codes, chances):
    codes, chances = np.asarray(codes, dtype=np.float32), np.asarray(chances, dtype=np.float64)
    return made("multilabel", codes, chances, Target(("y",), tuple("abcdef"[: codes.shape[1]])))


def made(task, codes, chances, target):
    from dataclasses import replace

    same = replace(plugins.get("task", task), probabilities=lambda outputs: outputs)
    return Predictions(np.arange(len(codes)).astype(str), codes, chances, same, target)


def value(predictions, chosen, name):
    return intervals.value(predictions.at(chosen), name)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), CHANCES), min_size=1, max_size=12), st.sampled_from(OF_TWO), st.booleans())
def test_no_threshold_of_two_classes_is_better_than_the_chosen_one(rows, name, positive):
    codes, chances = zip(*rows, strict=True)
    predictions = binary(codes, chances, int(positive))
    (chosen,) = best_thresholds(predictions, name)
    assert 0 <= chosen <= 1
    reached = value(predictions, (chosen,), name)
    for other in candidates(chances):
        assert reached >= value(predictions, (other,), name) - 1e-9, other


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(OF_SEVERAL), st.integers(2, 3), st.integers(1, 6))
def test_no_thresholds_of_several_labels_together_are_better_than_the_chosen_ones(data, name, labels, num_rows):
    codes = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=labels, max_size=labels), min_size=num_rows))
    chances = data.draw(
        st.lists(st.lists(CHANCES, min_size=labels, max_size=labels), min_size=len(codes), max_size=len(codes))
    )
    assume(len(codes) <= 7)
    predictions = several(codes, chances)
    reached = value(predictions, best_thresholds(predictions, name), name)
    for others in itertools.product(*(candidates(column) for column in np.asarray(chances).T)):
        assert reached >= value(predictions, others, name) - 1e-9, others


@pytest.mark.parametrize("seed", range(5))
def test_f1_micro_of_many_rows_is_the_best_that_two_thresholds_together_can_make_it(seed):
    random = np.random.default_rng(seed)
    chances = random.uniform(size=(15, 2))
    predictions = several(random.uniform(size=(15, 2)) < chances * (0.3, 0.9), chances)
    reached = value(predictions, best_thresholds(predictions, "f1_micro"), "f1_micro")
    pairs = itertools.product(*(candidates(column) for column in chances.T))
    assert reached == pytest.approx(max(value(predictions, pair, "f1_micro") for pair in pairs))


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_of_several_labels_is_best_as_far_as_one_label_alone_can_make_it(seed, case):
    codes, chances, _ = case("multilabel", num_rows=40, seed=seed)
    predictions = several(codes, chances)
    chosen = best_thresholds(predictions, "accuracy")
    reached = value(predictions, chosen, "accuracy")
    assert reached > value(predictions, (), "accuracy")
    for label, column in enumerate(chances.T):
        for other in candidates(column):
            moved = (*chosen[:label], other, *chosen[label + 1 :])
            assert reached >= value(predictions, moved, "accuracy") - 1e-9


@pytest.mark.parametrize("kind, name", [("two", "f1"), ("several", "f1_micro"), ("several", "accuracy")])
def test_the_thresholds_do_not_depend_on_how_many_cuts_are_computed_at_a_time(kind, name, monkeypatch):
    random = np.random.default_rng(0)
    codes, chances = random.integers(2, size=(90, 3)), random.uniform(size=(90, 3))
    predictions = binary(codes[:, 0], chances[:, 0]) if kind == "two" else several(codes, chances)
    whole = best_thresholds(predictions, name)
    monkeypatch.setattr(thresholds, "CHUNK", 7)
    assert best_thresholds(predictions, name) == whole


def test_one_half_stays_where_no_other_is_better():
    assert best_thresholds(binary([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9]), "f1") == (0.5,)
    assert best_thresholds(several([[0, 1], [1, 0]], [[0.1, 0.9], [0.6, 0.2]]), "f1_micro") == (0.5, 0.5)


def test_the_middle_of_the_best_stretch_is_chosen_and_of_several_that_nearest_to_one_half():
    assert best_thresholds(binary([0, 0, 1, 1], [0.01, 0.1, 0.3, 0.4]), "accuracy") == (0.2,)
    # At 0.15 and at 0.8 three of four are right; between them two.
    assert best_thresholds(binary([0, 1, 0, 1], [0.1, 0.2, 0.7, 0.9]), "accuracy") == (0.8,)
    # All thresholds up to 0.2 have the same recall: the stretch goes on below the row of the other class.
    assert best_thresholds(binary([0, 1, 1], [0.1, 0.2, 0.3]), "recall") == (0.1,)


def test_a_threshold_has_as_few_digits_as_its_place_allows():
    assert best_thresholds(binary([0, 1], [0.301, 0.322]), "accuracy") == (0.31,)
    assert best_thresholds(binary([0, 1], [0.30002, 0.30004]), "accuracy") == (0.30003,)
    tight = (0.3, float(np.nextafter(0.3, 1)))
    assert best_thresholds(binary([0, 1], tight), "accuracy") == (tight[1],)


def test_rows_that_tell_nothing_leave_one_half():
    assert best_thresholds(binary([0, 0], [0.2, 0.3]), "f1") == (0.5,)
    assert best_thresholds(several([[0, 0]], [[0.7, 0.2]]), "f1_macro") == (0.5, 0.5)
    assert best_thresholds(made("classification", np.array([-1]), np.array([[0.9, 0.1]]), TWO), "f1") == (0.5,)


def test_rows_with_an_unknown_label_do_not_choose():
    codes, chances = np.array([0, 1, -1, -1]), np.array([0.1, 0.3, 0.2, 0.25])
    predictions = made("classification", codes, np.stack([1 - chances, chances], 1), TWO)
    assert best_thresholds(predictions, "f1") == (0.2,)


def costly(truth, told):
    """A missed row costs five times what a false alarm does."""
    return -sum(5 if true == "yes" else 1 for true, said in zip(truth, told, strict=True) if true != said)


def right_labels(truth, told):
    return sum(len(set(true) & set(said)) - len(set(said) - set(true)) for true, said in zip(truth, told, strict=True))


def test_a_function_of_your_own_is_best_at_the_threshold_too():
    random = np.random.default_rng(0)
    chances = random.uniform(size=80)
    predictions = binary(random.uniform(size=80) < chances * 0.6, chances)
    (chosen,) = best_thresholds(predictions, "costly", [costly])
    values = [intervals.value(predictions.at((other,)), "costly", [costly]) for other in candidates(chances)]
    assert intervals.value(predictions.at((chosen,)), "costly", [costly]) == max(values)


def own_precision(truth, told):
    said = [true == "yes" for true, label in zip(truth, told, strict=True) if label == "yes"]
    return sum(said) / len(said) if said else float("nan")


def test_a_threshold_at_which_a_function_of_your_own_is_undefined_is_not_chosen():
    predictions = binary([0, 0, 1], [0.1, 0.2, 0.3])
    assert best_thresholds(predictions, "own_precision", [own_precision]) == (0.25,)


def test_a_function_of_your_own_has_one_threshold_for_all_of_several_labels(case):
    codes, chances, _ = case("multilabel")
    predictions = several(codes, chances)
    chosen = best_thresholds(predictions, "right_labels", [right_labels])
    assert len(chosen) == 4 and len({*chosen}) == 1
    best, default = (intervals.value(predictions.at(some), "right_labels", [right_labels]) for some in (chosen, ()))
    assert best > default


TWO = Target(("y",), ("no", "yes"), (1, 1), positive=1)
OF_PROBABILITIES = ("auroc", "average_precision", "log_loss", "brier")


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_thresholds_change_decisions_and_every_metric_of_them_but_no_metric_of_probabilities(kind, case, ask):
    codes, chances, target = case(kind)
    moved = target.at((0.8,) if kind == "binary" else (0.8, 0.1, 0.9, 0.7))
    names = OF_TWO if kind == "binary" else [*OF_SEVERAL, "accuracy"]
    changed = {
        name
        for name in (*names, *OF_PROBABILITIES)
        if ask(name, codes, chances, target) != ask(name, codes, chances, moved)
    }
    assert changed == {*names}


@pytest.mark.parametrize("positive", [0, 1])
def test_metrics_and_decoded_values_are_decided_alike(positive, ask):
    random = np.random.default_rng(1)
    chances = random.uniform(size=200).round(2)
    predictions = binary(random.integers(2, size=200), chances, positive).at((0.37,))
    is_yes = chances >= 0.37
    yes = predictions.target.labels[positive]
    assert [label == yes for label in predictions.decoded] == is_yes.tolist()
    expected = sk.f1_score(predictions.codes == positive, is_yes)
    assert ask("f1", predictions.codes, predictions.probabilities, predictions.target) == pytest.approx(expected)
    figures = intervals.score(predictions, ["f1"])
    assert figures["classes"][yes]["f1"]["value"] == pytest.approx(expected)


def test_several_labels_are_decided_each_at_its_own_threshold(ask):
    chances = np.array([[0.3, 0.3], [0.6, 0.6]])
    predictions = several([[1, 0], [1, 0]], chances).at((0.2, 0.9))
    assert predictions.decoded == [["a"], ["a"]]
    assert ask("accuracy", predictions.codes, chances, predictions.target) == 1


def test_a_target_keeps_its_thresholds_in_a_file_and_in_another_order():
    target = Target(("y",), ("a", "b", "c"), (1, 2, 3)).at((0.1, 0.2, 0.3))
    assert Target.from_json(target.as_json()) == target
    assert target.ordered(["c", "a", "b"]).thresholds == (0.3, 0.1, 0.2)
    assert TWO.at((0.3,)).ordered(["yes", "no"]).thresholds == (0.3,)


def test_a_probability_of_one_is_decided_at_every_threshold():
    predictions = binary([0, 1, 0], [1.0, 1.0, 0.4])
    (chosen,) = best_thresholds(predictions, "accuracy")
    assert 0.4 < chosen <= 1
    assert torch.equal(
        torch.tensor([label == "yes" for label in predictions.at((chosen,)).decoded]), torch.tensor([1, 1, 0]).bool()
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), CHANCES), min_size=1, max_size=12),
    st.sampled_from(["precision", "recall"]),
    st.sampled_from([0.3, 0.5, 0.75, 1.0]),
)
def test_the_threshold_of_an_aim_has_it_with_the_best_of_the_other(rows, name, least):
    codes, chances = zip(*rows, strict=True)
    predictions = binary(codes, chances)
    found = reaching(predictions, f"{name} >= {least}")[0]
    assert value(predictions, (found.threshold,), "precision") == pytest.approx(found.precision)
    assert value(predictions, (found.threshold,), "recall") == pytest.approx(found.recall)
    others = [(value(predictions, (cut,), name), cut) for cut in candidates(chances)]
    able = [cut for reached, cut in others if reached >= least - 1e-9]
    assert found.reached == bool(able)
    if able and name == "precision":
        assert found.recall == pytest.approx(max(value(predictions, (cut,), "recall") for cut in able))
    elif able:
        decided = sum(chance >= found.threshold for chance in chances)
        assert decided == min(sum(chance >= cut for chance in chances) for cut in able)
    else:
        assert getattr(found, name) == pytest.approx(max(reached for reached, _ in others))


def test_each_of_several_labels_has_its_own_threshold_for_an_aim():
    codes = [[1, 0], [0, 1], [1, 1], [0, 0]]
    found = reaching(several(codes, [[0.9, 0.2], [0.4, 0.3], [0.6, 0.8], [0.2, 0.1]]), "precision >= 0.95")
    assert [each.reached for each in found] == [True, True]
    assert 0.4 < found[0].threshold <= 0.6 and 0.2 < found[1].threshold <= 0.3


def test_an_aim_out_of_reach_has_the_threshold_that_comes_nearest():
    found = reaching(binary([1, 0, 1, 0], [0.2, 0.9, 0.6, 0.1]), "precision >= 0.95")[0]
    assert not found.reached and found.precision == pytest.approx(2 / 3) and found.recall == 1
    assert reaching(binary([0, 0], [0.2, 0.9]), "recall >= 0.9")[0].reached is False


def test_an_aim_is_chosen_for_in_place_of_the_metric():
    predictions = binary([0, 0, 1, 1], [0.2, 0.7, 0.6, 0.9])
    assert thresholds.chosen(predictions, "auto", "recall") == best_thresholds(predictions, "recall")
    (found,) = thresholds.chosen(predictions, "precision >= 1", "recall")
    assert 0.7 < found <= 0.9


def test_precision_and_recall_at_given_thresholds_are_those_of_scikit_learn():
    codes, chances = np.array([0, 1, 1, 0, 1]), np.array([0.2, 0.3, 0.8, 0.6, 0.9])
    found = thresholds.reached_at(binary(codes, chances), (0.5,))[0]
    assert found == pytest.approx((sk.precision_score(codes, chances > 0.5), sk.recall_score(codes, chances > 0.5)))
