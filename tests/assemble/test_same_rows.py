"""Predictions files of any tool are brought to the same rows, and what keeps them apart is said."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.assemble.answers import name_of, read
from tunesmith.assemble.same_rows import same_rows
from tunesmith.errors import DataError

FIRST = {"id": ["a", "b", "c", "d"], "target": ["x", "y", "x", "y"], "prediction": ["x", "y", "y", "y"]}
SECOND = {"id": ["d", "c", "b", "a"], "prediction": ["y", "x", "x", "x"]}


def _same(*sources, fair=True):
    return same_rows([read(source, f"{number}") for number, source in enumerate(sources)], fair=fair)


def _refused(*sources):
    with pytest.raises(DataError) as raised:
        _same(*sources)
    return str(raised.value)


def test_rows_are_matched_by_their_ids_in_the_order_of_the_first():
    rows = _same(FIRST, SECOND)
    assert rows.task.name == "classification" and rows.target.labels == ("x", "y")
    assert rows.answers[1].ids == ["a", "b", "c", "d"]
    assert rows.decided(0).decoded == ["x", "y", "y", "y"]
    assert rows.decided(1).decoded == ["x", "x", "x", "y"]
    assert rows.codes.tolist() == [0, 1, 0, 1] and rows.notes == ()


def test_the_file_that_has_the_targets_may_be_any():
    assert _same(SECOND, FIRST).codes.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_says_the_same(tmp_path, extension):
    path = tmp_path / f"other.{extension}"
    if extension == "parquet":
        pq.write_table(pa.table(SECOND), path)
    elif extension == "jsonl":
        path.write_text(
            "\n".join(json.dumps(dict(zip(SECOND, row, strict=True))) for row in zip(*SECOND.values(), strict=True))
        )
    else:
        mark = "," if extension == "csv" else "\t"
        path.write_text("\n".join(mark.join(row) for row in [[*SECOND], *zip(*SECOND.values(), strict=True)]) + "\n")
    assert _same(FIRST, path).decided(1).decoded == ["x", "x", "x", "y"]


def test_ids_and_labels_that_are_numbers_here_and_texts_there_are_the_same(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("id,label,probability\n1,0,0.9\n2,1,0.8\n")
    rows = _same({"id": [1, 2], "target": [0, 1], "prediction": [0, 0]}, path)
    assert rows.target.labels == ("0", "1")
    assert rows.decided(1).decoded == ["0", "1"]


def test_without_a_prediction_the_label_is_it_and_beside_one_it_is_the_target():
    alone, beside = {"id": ["1", "2"], "label": ["x", "y"]}, {"id": ["1", "2"], "prediction": ["y", "y"]}
    assert read(alone, "").told == ["x", "y"] and read(alone, "").truth is None
    both = read({**beside, **alone}, "")
    assert both.told == ["y", "y"] and both.truth == ["x", "y"]


def test_rows_that_not_all_have_are_left_out_and_told():
    fewer = {"id": ["b", "d", "z"], "prediction": ["y", "y", "y"]}
    rows = _same(FIRST, fewer)
    assert rows.answers[0].ids == ["b", "d"]
    assert rows.notes == ("compared on the 2 rows that all of them answered (0 4, 1 3)",)


def test_rows_without_a_target_are_left_out_and_told():
    rows = _same({**FIRST, "target": ["x", None, "x", "y"]}, SECOND)
    assert rows.answers[1].ids == ["a", "c", "d"] and rows.notes == ("1 rows without a target are left out",)


def test_rows_of_equal_content_are_matched_by_number_whatever_their_ids_count():
    content = "00f1a2b3c4d5e6f7"
    first = {"id": [content, f"{content}-2", "b"], "target": ["x", "y", "x"], "prediction": ["x", "y", "x"]}
    # The other run saw one more row of this content, in a part that is not compared.
    second = {"id": ["b", f"{content}-3", f"{content}-2"], "target": ["x", "y", "x"], "prediction": ["y", "x", "y"]}
    rows = _same(first, second)
    assert rows.decided(1).decoded == ["y", "x", "y"] and len(rows.codes) == 3


def test_lists_of_labels_are_read_from_text_too(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("id,prediction\n1,b|a\n2,\n3,b\n")
    rows = _same({"id": [1, 2, 3], "target": [["a"], [], ["b"]], "prediction": [["a"], ["a"], ["b"]]}, path)
    assert rows.task.name == "multilabel"
    assert rows.decided(1).decoded == [["a", "b"], [], ["b"]]
    assert rows.codes.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_numbers_with_a_fraction_are_a_regression():
    rows = _same(
        {"id": ["a", "b", "c"], "target": [0.5, 1.25, 3.0], "prediction": [1.0, 1, 2]},
        {"id": ["a", "b", "c"], "target": [0.5000000001, 1.25, 3.0], "prediction": ["0.5", "1.5", "2.5"]},
    )
    assert rows.task.name == "regression"
    assert rows.decided(1).decoded == [0.5, 1.5, 2.5] and rows.decided(0).outputs.shape == (3, 1)


def test_probabilities_are_read_by_label():
    rows = _same(FIRST, {**SECOND, "probability_y": [0.9, 0.2, 0.4, 0.1], "probability_x": [0.1, 0.8, 0.6, 0.9]})
    assert rows.probable(1).probabilities.tolist() == [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]]


@pytest.mark.parametrize("given", [[0.9, 0.8, 0.6, 0.9], [0.9, 0.2, 0.4, 0.1]], ids=["of the label told", "of y"])
def test_one_probability_is_of_the_label_told_or_of_the_positive_one(given):
    rows = _same(FIRST, {**SECOND, "probability": given})
    assert rows.probable(1).probabilities == pytest.approx(np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]]))


def test_decisions_stay_those_of_the_tool_where_its_threshold_is_another():
    rows = _same(FIRST, {**SECOND, "probability_y": [0.9, 0.7, 0.6, 0.1], "probability_x": [0.1, 0.3, 0.4, 0.9]})
    assert rows.decided(1).decoded == ["x", "x", "x", "y"]


THREE = {"id": ["a", "b", "c", "d"], "target": [*"xyzx"], "prediction": [*"xyzz"]}
WRONG = {
    "no id": ([FIRST, {"prediction": ["x"]}], r'no column tells which row is which.*add an "id"'),
    "no answers": ([FIRST, {"id": ["a"], "y": ["x"]}], r'predicted; columns: id, y.*"prediction"'),
    "no targets": ([SECOND, SECOND], 'no file has the targets.*"target"'),
    "an id twice": ([FIRST, {"id": ["a", "b", "a"], "prediction": [*"xyx"]}], "1 ids stand twice: a in rows 1 and 3"),
    "no answer": ([FIRST, {**SECOND, "prediction": ["y", None, "x", ""]}], "2 rows have no label.*: c, a"),
    "other targets": ([FIRST, {**SECOND, "target": [*"yyyx"]}], "1 of 4 rows have different targets: c: x and y"),
    "no shared row": ([FIRST, {"id": ["e"], "prediction": ["x"]}], "no row was answered by all.*such as a, e.*--data"),
    "one row left": ([FIRST, {"id": ["a"], "prediction": ["x"]}], "1 rows with a target are left"),
    "another label": ([FIRST, {**SECOND, "prediction": [*"yxXx"]}], r'1 answers are no label .*: b: "X"'),
}


@pytest.mark.parametrize("sources, words", WRONG.values(), ids=WRONG)
def test_what_cannot_be_compared_is_an_error_that_names_the_rows(sources, words):
    assert re.search(words, _refused(*sources), re.DOTALL)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("id,prediction\na,x\na,x\n")
    assert "twice.csv: 1 ids stand twice" in _refused(FIRST, path)


CHANCES = {
    "none": ({}, "no probabilities.*probability_<label>"),
    "one of three labels": ({"probability": [0.5] * 4}, "no probabilities.*probability_<label>"),
    "over one": ({f"probability_{label}": [1.2, 0, 0, 0] for label in "xyz"}, "4 rows have no prob.*add up, such as a"),
    "a label is lacking": ({"probability_x": [0.5] * 4, "probability_y": [0.2] * 4}, "4 rows.*x 0.5, y 0.2, z 0"),
    "not a number": ({f"probability_{label}": ["?", "1", "0", "0"] for label in "xyz"}, "rows have no prob"),
}


@pytest.mark.parametrize("columns, words", CHANCES.values(), ids=CHANCES)
def test_probabilities_that_are_none_are_an_error_only_where_they_are_asked_for(columns, words):
    rows = _same(THREE, {**THREE, **columns})
    assert rows.decided(1).decoded == [*"xyzz"]
    with pytest.raises(DataError, match=f"(?s){words}"):
        rows.probable(1)


def test_a_probability_that_contradicts_both_readings_is_an_error():
    rows = _same(FIRST, {**SECOND, "probability": [0.9, 0.2, 0.4, 0.7]})
    with pytest.raises(DataError, match=r'(?s)neither of the label told nor of "y".*probability_y'):
        rows.probable(1)


def test_what_a_column_of_probabilities_is_called_is_a_label_too():
    more = {"probability_x": [1.0, 0, 0, 0], "probability_y": [0, 1.0, 1, 1], "probability_w": [0.0] * 4}
    rows = _same(FIRST, {**SECOND, **more, "prediction": [*"yxwx"]})
    assert rows.target.labels == ("w", "x", "y") and rows.decided(1).decoded == [*"xwxy"]


def test_files_are_called_by_their_last_name_unless_two_have_the_same(tmp_path):
    sources = [tmp_path / "one" / "test.csv", str(tmp_path / "two" / "test.csv"), tmp_path / "other.csv", FIRST]
    assert [name_of(source, sources) for source in sources] == [*map(str, sources[:2]), "other.csv", "object 4"]
