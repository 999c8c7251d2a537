"""Profiles of columns and the checks of a target."""

import numpy as np
import pytest

from tunesmith.data.profile import check_target, describe_columns, missing_rows, numbers


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["one text", "another text", "a third"], "text"),
        (["x", "y", "x", "y"], "category"),
        (["1", "2.5", " -3e4"], "number"),
        ([1, 2, None], "number"),
        ([["a"], ["b", "c"]], "list"),
        ([None, None], "empty"),
        (["", "  "], "empty"),
        ([True, False], "category"),
    ],
)
def test_kinds_of_columns(table_of, values, kind):
    assert describe_columns(table_of(x=values))[0].kind == kind


def test_a_column_is_described(table_of):
    (column,) = describe_columns(table_of(x=["ab", "abcd", "ab", None, "ab"]))
    assert (column.distinct, column.missing, column.mean_characters) == (2, 1, 2.5)
    assert str(column) == '"x": category, 2 characters on average, 2 distinct, 1 missing'


def test_missing_counts_are_exact_beyond_the_sample(table_of):
    values = ["a"] * 120_000
    values[70_001] = None
    assert describe_columns(table_of(x=values))[0].missing == 1


def test_labels_that_take_turns_are_all_seen_in_the_sample(table_of):
    assert describe_columns(table_of(x=[n % 20 for n in range(1_000_000)]))[0].distinct == 20


def test_null_nan_and_blanks_are_missing(table_of):
    table = table_of(a=["x", " \n", None, "y"], b=[1.0, 2.0, 3.0, float("nan")])
    assert missing_rows(table, ["a"]).tolist() == [1, 2]
    assert missing_rows(table, ["a", "b"]).tolist() == [1, 2, 3]


def test_numbers_are_read_from_their_text(table_of):
    found = numbers(table_of(x=["1", " 2.5 ", "n/a", None, "1e3"]).column("x"))
    assert np.array_equal(found, [1, 2.5, np.nan, np.nan, 1000], equal_nan=True)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 5, "classification"),
        (["1", "2"] * 5, "classification"),
        ([n / 7 for n in range(30)], "regression"),
        ([1, 2, 3], "regression"),
        ([["a"], ["b"]], "multilabel"),
        ([0, 1, None], "multilabel"),
        (["a summary"] * 3, "generation"),
    ],
)
def test_a_good_target_has_no_problem(table_of, values, task):
    assert check_target(table_of(y=values), "y", task) == []


@pytest.mark.parametrize(
    ("values", "task", "what", "where"),
    [
        (["a", "a", None], "classification", "nothing to tell apart", "toy.csv"),
        ([5, 5], "regression", "nothing to tell apart", "toy.csv"),
        ([None, ""], "classification", "is empty", "toy.csv"),
        ([f"user{n}" for n in range(20)], "classification", "20 different values in 20 rows", "toy.csv"),
        (list(range(20)), "regression", "numbers the rows", "toy.csv"),
        ([n / 7 for n in range(20)], "classification", "20 different values", "toy.csv"),
        (["1", "2", "n/a", "3", "?"], "classification", 'text in 2 rows, here "n/a"', "toy.csv, row 3"),
        (["1", "x", "y"], "regression", 'text in 2 rows, here "x"', "toy.csv, row 2"),
        (["good", "bad"], "regression", 'here "good"', "toy.csv, row 1"),
        ([["a"], ["a"]], "multilabel", "fewer than two labels", "toy.csv"),
        ([0, 1, 2], "multilabel", '"2" where 0 or 1 is expected', "toy.csv, row 3"),
        ([["a"], ["b"]], "classification", "not one value per row", "toy.csv"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_named(table_of, values, task, what, where):
    (problem,) = check_target(table_of(y=values), "y", task)
    assert what in problem.what
    assert problem.where == where
    assert problem.remedy


def test_different_numbers_under_the_name_of_an_id_are_an_id(table_of):
    values = [n * n for n in range(20)]
    assert check_target(table_of(user_id=values), "user_id", "regression")
    assert not check_target(table_of(price=values), "price", "regression")


def test_each_of_several_label_columns_is_checked(table_of):
    problems = check_target(table_of(a=[0, 1], b=["yes", "no"], c=["x", "y"]), ["a", "b", "c"], "multilabel")
    assert len(problems) == 2
