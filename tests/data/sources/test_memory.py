"""Objects in memory: shapes, lengths and types that do not fit are named."""

import numpy as np
import pandas as pd
import pytest
import torch

from tunesmith.data.sources import open_source
from tunesmith.errors import DataError


def test_texts_in_two_dimensions_are_several_inputs():
    table = open_source((np.array([["a", "b"], ["c", "d"]]), [1, 0]))[""]
    assert table.column_names == ("input_1", "input_2", "label")
    assert open_source(([("a", "b"), ("c", "d")], [1, 0]))[""].column("input_2").to_pylist() == ["b", "d"]


def test_labels_in_two_dimensions_are_several_labels():
    assert open_source((["a", "b"], np.eye(2)))[""].column_names == ("text", "label_1", "label_2")


def test_lists_of_labels_are_a_list_column():
    assert open_source((["a", "b"], [["x"], ["x", "y"]]))[""].column("label").to_pylist() == [["x"], ["x", "y"]]


def test_columns_may_be_arrays_series_and_tensors():
    columns = {"a": np.array([1.0, np.nan]), "b": pd.Series(["x", None]), "c": torch.tensor([1, 2]), 3: [True, False]}
    table = open_source(columns)[""]
    assert table.arrow.to_pylist() == [
        {"a": 1.0, "b": "x", "c": 1, "3": True},
        {"a": None, "b": None, "c": 2, "3": False},
    ]


def test_nan_in_a_text_column_is_null():
    frame = pd.DataFrame({"text": pd.Series(["a", float("nan")], dtype=object)})
    assert open_source(frame)[""].column("text").to_pylist() == ["a", None]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ({"a": [1, 2], "b": [1]}, 'column "[ab]" has'),
        ({"a": [1, 2], "b": [1, 2], "c": [1]}, 'column "c" has 1 values, others 2'),
        ({"a": "text"}, "not a list of values"),
        ({"a": ["x", 1]}, r'dict of columns, row 1: column "a" is of mixed types: text here, number in .*row 2'),
        ([{"a": "x"}, {"a": [1]}], "mixed types: text here, list in list of dicts, row 2"),
        ({"a": [object()]}, 'column "a" cannot be kept'),
        ((["a", "b"], [1]), "X has 2 rows and y has 1"),
        ((np.zeros((2, 3, 4, 5, 6)), [1, 0]), "torch Dataset"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), 'two columns are called "a"'),
        (pd.DataFrame({"a": pd.Series(["x", 1], dtype=object)}), "DataFrame, row 1: .*mixed types"),
        ({"a": []}, "no rows"),
        ({}, "no rows"),
    ],
)
def test_what_cannot_be_read_is_named(source, what):
    with pytest.raises(DataError, match=what) as caught:
        open_source(source)
    assert all(problem.remedy for problem in caught.value.problems)
