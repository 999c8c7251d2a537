"""Several labels a row: lists, columns of 0 and 1, or a text with a separator."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.errors import DataError
from tunesmith.tasks.multilabel import TASK


def test_lists_of_labels():
    values = [["b", "a"], [], ["b"]]
    target = TASK.learn(("tags",), values)
    assert target.labels == ("a", "b") and target.counts == (1, 2)
    assert TASK.encode(values, target).tolist() == [[1, 1], [0, 0], [0, 1]]


def test_columns_of_zero_and_one_keep_their_names_and_order():
    values = [(1, "0"), (True, "false"), (0.0, "yes")]
    target = TASK.learn(("zeta", "alpha"), values)
    assert target.labels == ("zeta", "alpha") and target.counts == (2, 1)
    assert TASK.encode(values, target).tolist() == [[1, 0], [1, 0], [0, 1]]


def test_columns_follow_their_labels_into_another_order():
    values = [(1, 0), (1, 0), (0, 1)]
    target = TASK.learn(("zeta", "alpha"), values).ordered(["alpha", "zeta"])
    assert target.counts == (1, 2)
    assert TASK.encode(values, target).tolist() == [[0, 1], [0, 1], [1, 0]]


def test_a_separator_splits_a_text():
    target = TASK.learn(("tags",), ["b; a", "", "b"], separator=";")
    assert target.labels == ("a", "b")
    assert TASK.encode([" a ;b;", "a", None], target).tolist() == [[1, 1], [1, 0], [0, 0]]


def test_a_label_that_training_never_saw_is_left_out():
    target = TASK.learn(("tags",), [["a"], ["b"]])
    assert TASK.encode([["c"], ["a", "c"]], target).tolist() == [[0, 0], [1, 0]]


def test_what_is_no_truth_value_is_named_with_its_column():
    with pytest.raises(DataError, match='"alpha" holds "maybe"'):
        TASK.learn(("zeta", "alpha"), [(1, "maybe")])


def test_fewer_than_two_labels_are_an_error_that_says_what_to_give():
    with pytest.raises(DataError, match="fewer than two labels") as caught:
        TASK.learn(("tags",), ["a;b", "a;b"])
    assert "separator" in str(caught.value)


def test_labels_at_or_over_one_half_are_told():
    target = TASK.learn(("tags",), [["a"], ["b"]])
    chances = TASK.probabilities(np.array([[0.0, 3.0], [-3.0, -3.0]], dtype=np.float32))
    assert chances[0, 0] == 0.5
    assert TASK.decode(chances, target) == [["a", "b"], []]
