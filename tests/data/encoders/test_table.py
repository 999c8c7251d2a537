"""Columns to numbers and codes: learnt from the training rows, the same at every later reading, strict about types."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pytest
import torch

from tunesmith.data.encoders.table import TableEncoder, account, learnt, shared
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError, RecipeError

ALL = np.arange(8)


def _table(**columns):
    return open_source(columns)[""]


def _learnt(rows=ALL, asked=None, **columns):
    table = _table(**columns)
    return learnt(table, tuple(columns), rows, asked or {}), table


def _numbers(encoder, table):
    return encoder.encode(table, ()).batch(np.arange(table.num_rows))["numbers"].numpy()


def _codes(encoder, table):
    return encoder.encode(table, ()).batch(np.arange(table.num_rows))["categories"][:, 0].tolist()


def test_numbers_are_scaled_by_the_training_rows_alone():
    encoder, table = _learnt(np.arange(4), x=[0.0, 1.0, 2.0, 3.0, 1e6, 1e6, 1e6, 1e6])
    values = _numbers(encoder, table)[:, 0]
    assert encoder.columns[0].centre == 1.5
    assert values[:4].mean() == pytest.approx(0, abs=1e-6)
    assert 2.9 < values[4] <= 3.0  # far out, drawn towards 3


def test_numbers_written_as_text_and_marks_for_what_is_missing_are_read():
    encoder, table = _learnt(x=["1", " 2.5", "?", "NA", "nan", "", "1e1", "-4"])
    values = _numbers(encoder, table)
    assert encoder.columns[0].parts == ("value", "missing")
    assert values[:, 1].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert (values[values[:, 1] == 1, 0] == 0).all()


def test_what_is_first_missing_at_prediction_reads_as_the_middle():
    encoder, _ = _learnt(x=[float(i) for i in range(8)])
    assert _numbers(encoder, _table(x=[None, 3.5])).tolist() == [[0.0], [0.0]]


def test_rare_and_unseen_categories_are_one_and_missing_is_another():
    encoder, table = _learnt(c=["a", "a", "a", "b", "b", "b", "rare", None])
    assert encoder.columns[0].values == ("a", "b")
    assert _codes(encoder, table) == [2, 2, 2, 3, 3, 3, 1, 0]
    assert _codes(encoder, _table(c=["new", "b", "?"])) == [1, 3, 0]
    assert _learnt(asked={"rare": 1}, c=["a", "a", "a", "b", "b", "b", "rare", None])[0].columns[0].values[-1] == "rare"


def test_truths_are_the_same_from_a_file_and_from_memory():
    encoder, _ = _learnt(flag=[True, False] * 4)
    assert _codes(encoder, _table(flag=["True", "false"])) == _codes(encoder, _table(flag=[True, False]))


def test_dates_become_days_and_what_goes_round():
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(8)]
    encoder, table = _learnt(d=days)
    assert encoder.columns[0].parts == ("value", "weekday sin", "weekday cos")
    values = _numbers(encoder, table)
    assert (np.diff(values[:, 0]) > 0).all()
    assert np.allclose(values[0, 1:], values[7, 1:]) and not np.allclose(values[0, 1:], values[1, 1:])
    as_text = _table(d=[f"{day.isoformat()}T00:00:00Z" for day in days])
    assert np.array_equal(_numbers(encoder, as_text), values)
    hours = _learnt(d=[f"2024-01-0{i + 1} {3 * i:02}:30" for i in range(8)])[0]
    assert "hour sin" in hours.columns[0].parts


def test_a_run_keeps_the_encoder_as_json():
    columns = {"x": [1, 2, 3, None] * 2, "c": list("aaaabbbb"), "d": [f"2024-0{i + 1}-03" for i in range(8)]}
    encoder, table = _learnt(**columns)
    again = TableEncoder.from_json(json.loads(json.dumps(encoder.as_json())))
    assert again == encoder
    assert np.array_equal(_numbers(again, table), _numbers(encoder, table))


def test_keys_are_of_what_is_read_not_of_the_row():
    encoder, table = _learnt(x=[1, 2, 1, 2, 3, 3, 3, 3], c=list("aaabbbbb"))
    keys = encoder.encode(table, ()).keys(ALL)
    assert keys[0] == keys[2] != keys[1]
    assert keys[1] != keys[3]  # another category alone


def test_the_blank_rows_tell_how_many_codes_a_column_has():
    encoder, _ = _learnt(x=[1, 2] * 4, c=list("aaaabbbb"))
    blank = encoder.blank(2)
    assert blank["numbers"].shape == (2, 1) and blank["categories"].tolist() == [[3], [3]]
    assert set(_learnt(c=list("aaaabbbb"))[0].blank(2)) == {"categories"}


def test_a_flat_row_is_one_tensor_with_a_column_for_each_category():
    table = _table(x=[1, 2] * 4, c=list("aaaabbb?"))
    encoder = learnt(table, ("x", "c"), ALL, {}, flat=True)
    batch = encoder.encode(table, ()).batch([0, 4, 7])
    assert set(batch) == {"x"} and batch["x"].dtype == torch.float32
    assert batch["x"][:, 1:].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_trees_get_numbers_in_their_unit_and_nan_for_what_is_missing():
    encoder, table = _learnt(x=[10.0, None, 30.0, 40.0] * 2, c=["a", "a", "a", "a", None, "b", "b", "b"])
    plain = encoder.plain(table, (), np.array([0, 1, 4]))
    assert np.array_equal(plain, [[10.0, 2.0], [np.nan, 2.0], [10.0, np.nan]], equal_nan=True)
    assert encoder.categorical == [False, True]


WRONG = {
    "text where numbers were": ({"x": [1.0] * 3 + ["oops"]}, ('"x" holds "oops" where numbers were', "row 4")),
    "an infinite value": ({"x": [1.0, float("-inf")]}, ('"x" holds an infinite value', "row 2")),
    "an infinite value as text": ({"x": ["1", "Infinity"]}, ('"x" holds an infinite value', "row 2")),
    "no such column": ({"y": [1.0]}, ('no column "x"', "columns|->")),
}


@pytest.mark.parametrize("rows, words", WRONG.values(), ids=WRONG)
def test_a_column_that_cannot_be_read_is_named_with_its_row(rows, words):
    encoder, _ = _learnt(x=[1.0, 2.0] * 4)
    with pytest.raises(DataError) as error:
        encoder.encode(_table(**{name: list(map(str, v)) if "oops" in v else v for name, v in rows.items()}), ())
    assert words[0] in str(error.value)
    assert any(word in str(error.value) for word in words[1].split("|"))


def test_numbers_where_categories_were_are_an_error():
    encoder, _ = _learnt(c=list("aaaabbbb"))
    with pytest.raises(DataError, match='"c" holds numbers where categories such as "a" were'):
        encoder.encode(_table(c=[1, 2]), ())


def test_a_column_that_tells_nothing_is_refused_when_it_is_asked_for():
    with pytest.raises(DataError, match='"x" is empty'):
        _learnt(x=[None] * 8)
    with pytest.raises(DataError, match="free text"):
        _learnt(x=[f"the text number {i}" for i in range(8)])
    with pytest.raises(DataError, match="holds list"):
        _learnt(x=[[1], [2]] * 4)
    with pytest.raises(RecipeError, match='has no "rar"'):
        _learnt(asked={"rar": 1}, x=[1, 2] * 4)


def test_a_column_that_no_training_row_fills_is_read_all_the_same():
    encoder, table = _learnt(np.arange(4), x=[None] * 4 + [1.0, 2.0, 3.0, 4.0], y=[1, 2] * 4)
    assert np.isfinite(_numbers(encoder, table)).all()


def test_an_earlier_encoder_keeps_its_columns_and_new_ones_are_learnt():
    before, _ = _learnt(x=[1.0, 2.0] * 4, c=list("aaaabbbb"), gone=[1, 2] * 4, turned=[1, 2] * 4)
    columns = {"new": [5, 6] * 4, "c": list("bbbbzzzz"), "x": [100.0, 200.0] * 4, "turned": list("ppppqqqq")}
    now = learnt(_table(**columns), tuple(columns), ALL, {}, known=before)
    assert now.columns[1] == before.columns[1] and now.columns[2] == before.columns[0]
    assert account(before, now) == "columns kept: c, x; new: new, turned; gone: gone"
    assert shared(before, now) == {"numbers": [(0, 1)], "categories": [(0, 0), (1, 1), (2, 2), (3, 3)]}
