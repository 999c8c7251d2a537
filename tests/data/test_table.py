"""Tables: stable ids, places for people, taking, joining."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.table import Table, concat
from tunesmith.errors import DataError

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=30)


def texts(values, name="toy.csv"):
    return Table(arrow=pa.table({"text": pa.array(values, pa.string())}), origin=((name, len(values)),))


@given(TEXTS)
def test_ids_are_unique_and_equal_rows_are_numbered(values):
    ids = texts(values).identified(["text"]).ids()
    assert len(set(ids)) == len(values)
    stems = [name.partition("-")[0] for name in ids]
    assert [stems.index(stem) for stem in stems] == [values.index(value) for value in values]


def test_second_and_tenth_occurrence_say_so():
    ids = texts(["a", "b", "a"] + ["a"] * 8).identified(["text"]).ids()
    assert ids[2] == f"{ids[0]}-2"
    assert ids[10] == f"{ids[0]}-10"
    assert len(ids[1]) == 16


@given(TEXTS, TEXTS)
def test_adding_rows_changes_no_id_before_them(old, new):
    before = texts(old).identified(["text"]).ids()
    after = texts(old + new).identified(["text"]).ids()
    assert after[: len(old)].tolist() == before.tolist()


@given(TEXTS, st.integers(1, 7))
def test_hashes_do_not_depend_on_chunks(values, size):
    whole = texts(values)
    pieces = [pa.array(values[i : i + size], pa.string()) for i in range(0, len(values), size)]
    cut = Table(arrow=pa.table({"text": pa.chunked_array(pieces, pa.string())}), origin=whole.origin)
    assert np.array_equal(whole.identified(["text"]).hashes, cut.identified(["text"]).hashes)
    assert whole.fingerprint(["text"]) == cut.fingerprint(["text"])


def test_the_border_between_two_inputs_counts(table_of):
    table = table_of(a=["ab", "a", "", None], b=["c", "bc", None, ""]).identified(["a", "b"])
    assert len(set(table.hashes.tolist())) == 4


def test_the_hash_is_blake2b_of_the_netstring():
    expected = int.from_bytes(hashlib.blake2b(b"5:hello", digest_size=8).digest(), "big")
    assert texts(["hello"]).identified(["text"]).hashes[0] == expected


def test_numbers_lists_and_categories_have_hashes(table_of):
    table = table_of(n=[1, 2], f=[0.5, math.pi], l=[["a"], ["b"]], d=pa.array(["x", "x"]).dictionary_encode())
    for name in table.column_names:
        assert table.identified([name]).hashes.size == 2


def test_fingerprint_sees_order_values_and_number_of_columns(table_of):
    table = table_of(text=["a", "b"], label=["x", "y"])
    prints = {
        table.fingerprint(["text", "label"]),
        table.fingerprint(["text"]),
        table.take(np.array([1, 0])).fingerprint(["text", "label"]),
        table_of(text=["a", "b"], label=["x", "x"]).fingerprint(["text", "label"]),
    }
    assert len(prints) == 4


def test_a_row_keeps_its_place_when_rows_are_taken_and_joined():
    joined = concat([texts(["a", "b"], "one.csv"), texts(["c", "d", "e"], "two.csv").take(np.array([0, 2]))])
    assert joined.where(1) == "one.csv, row 2"
    assert joined.take(np.array([3, 0])).where(0) == "two.csv, row 3"
    assert joined.take(np.array([3, 0])).column("text").to_pylist() == ["e", "a"]


def test_a_wrong_column_name_gets_the_nearest_right_one(table_of):
    with pytest.raises(DataError, match='did you mean "message"'):
        table_of(message=["a"]).column("mesage")


def test_numbers_here_and_their_text_there_join_as_text(table_of):
    joined = concat([table_of(label=["1"]), table_of(label=[0])])
    assert joined.column("label").to_pylist() == ["1", "0"]


def test_lists_and_texts_do_not_join(table_of):
    with pytest.raises(DataError, match='"label" is of different types'):
        concat([table_of(label=["1"]), table_of(label=[["1"]])])


def test_a_table_and_a_dataset_do_not_join(table_of):
    with pytest.raises(DataError, match="cannot be joined"):
        concat([table_of(label=["1"]), Table(items=[("a", 1)], origin=(("toy", 1),))])
