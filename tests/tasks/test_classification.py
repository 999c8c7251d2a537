"""Classification: labels in a stable order, the positive one, labels that training never saw."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from tunesmith.errors import DataError
from tunesmith.tasks.classification import TASK
from tunesmith.tasks.task import Target, as_label, label_order


def learn(*values, **options):
    return TASK.learn(("label",), values, **options)


def test_labels_are_in_one_order_whatever_the_order_of_the_rows():
    assert learn("b", "a", "10", "9", "a").labels == learn("9", "a", "10", "b").labels == ("9", "10", "a", "b")
    assert label_order(["-1", "2.5", "2", "zebra", "Ant"]) == ("-1", "2", "2.5", "Ant", "zebra")
    assert learn("b", "a", "b").counts == (1, 2)


def test_numbers_and_words_are_the_same_label_where_a_person_sees_no_difference():
    assert as_label(1.0) == as_label(1) == as_label("1") == as_label(" 1 ") == "1"
    assert as_label(1.5) == "1.5" and as_label(True) == "True"
    assert learn(1.0, 0.0).labels == ("0", "1")


def test_an_unseen_label_is_minus_one():
    assert TASK.encode(["b", "c", "a"], learn("a", "b")).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("labels", "positive"),
    [(("0", "1"), "1"), (("no", "yes"), "yes"), (("ham", "spam"), "spam"), (("Positive", "negative"), "Positive"),
     (("cat", "dog"), "dog"), (("pos", "neg"), "pos"), ((False, True), "True")],
)  # fmt: skip
def test_the_positive_label_is_the_word_that_says_so_else_the_second(labels, positive):
    target = learn(*labels)
    assert target.labels[target.positive] == positive


def test_the_positive_label_can_be_set():
    target = learn("cat", "dog", positive="cat")
    assert target.labels[target.positive] == "cat"
    assert learn(0, 1, positive=0).positive == 0


def test_a_positive_label_that_does_not_occur_or_has_no_meaning_is_an_error():
    with pytest.raises(DataError, match='did you mean "spam"'):
        learn("spam", "ham", positive="spma")
    with pytest.raises(DataError, match="no effect with 3 classes"):
        learn("a", "b", "c", positive="a")
    assert learn("a", "b", "c").positive is None


def test_one_class_alone_is_an_error_that_names_it():
    with pytest.raises(DataError, match='"label" has one class only: a'):
        learn("a", "a")


def test_probabilities_are_the_softmax_and_the_most_probable_label_is_told():
    outputs = np.array([[1.0, 3.0], [2.0, -1.0]], dtype=np.float32)
    chances = TASK.probabilities(outputs)
    np.testing.assert_allclose(chances, scipy.special.softmax(outputs.astype(float), axis=1))
    assert TASK.decode(chances, learn("a", "b")) == ["b", "a"]


def test_another_order_of_the_labels_keeps_counts_and_the_positive_one():
    target = learn("ham", "spam", "spam").ordered(["spam", "ham"])
    assert (target.labels, target.counts, target.positive) == (("spam", "ham"), (2, 1), 0)


def test_a_target_comes_back_from_json():
    target = learn("a", "b", "b")
    assert Target.from_json(target.as_json()) == target
    import json

    assert Target.from_json(json.loads(json.dumps(target.as_json()))) == target
