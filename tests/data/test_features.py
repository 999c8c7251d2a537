"""Which columns a model of tables reads, and why it leaves the others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data import features
from tunesmith.data.columns import guess
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError

COLUMNS = {
    "few whole numbers": ([1, 2] * 10, ""),
    "numbers as text with marks": (["1.5", "NA", "3", "?"] * 5, ""),
    "dates that all differ": ([f"2024-01-{i + 1:02}" for i in range(20)], ""),
    "few words": (["a", "b"] * 10, ""),
    "one word or nothing": (["a", None] * 10, ""),
    "one word": (["a"] * 20, "always the same"),
    "nothing": ([None] * 20, "empty"),
    "texts": ([f"the text {i}" for i in range(20)], "free text, 20 different in 20 rows"),
    "rows counted": (list(range(7, 27)), "numbers the rows"),
    "numbers with a word": ([*map(str, np.arange(19) / 7), "high"], 'numbers, but "high" in row 20'),
    "user_id": ([3, 3, 4, 4] * 5, "names the rows"),
    "userId": ([3, 3, 4, 4] * 5, "names the rows"),
    "citric acid": ([1, 2] * 10, ""),
    "price index": ([101.5, 99.25] * 10, ""),
    "lists": ([[1], [2]] * 10, "holds list<item: int64>"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_read_or_left_with_a_reason(name):
    values, reason = COLUMNS[name]
    assert features.why_not(open_source({name: values})[""], name).replace("element:", "item:") == reason


def test_what_is_left_out_is_told_with_its_reason():
    columns = {"x": [0.5, 1.5] * 10, "text": [f"a text {i}" for i in range(20)], "y": ["p", "q"] * 10}
    made = guess(open_source(columns)[""], target="y", modality="table")
    assert made.inputs == ("x",)
    assert "left out: text: free text, 20 different in 20 rows" in made.notes[0]


def test_a_table_without_a_usable_column_is_told_column_by_column():
    table = open_source({"one": ["a"] * 20, "text": [f"a text {i}" for i in range(20)], "y": ["p", "q"] * 10})[""]
    with pytest.raises(DataError) as error:
        guess(table, target="y", modality="table")
    assert '"one": always the same' in str(error.value) and '"text": free text' in str(error.value)


def test_moments_are_read_alike_from_arrow_and_from_text():
    seconds = [1704067200, 1704110400]
    arrow = pa.chunked_array([pa.array(seconds, pa.timestamp("s"))])
    texts = pa.chunked_array([pa.array(["2024-01-01", "2024-01-01 12:00"])])
    assert features.moments(arrow).tolist() == features.moments(texts).tolist() == seconds
    wrong = pa.chunked_array([pa.array(["2024-13-01", "2024-1-1", "soon", None])])
    assert np.isnan(features.moments(wrong)).all()
