"""JSON rows: lines and arrays, unequal keys, mixed types, broken lines."""

import json

import pytest

from tunesmith.data import records, spill
from tunesmith.data.sources import jsonl, open_source
from tunesmith.errors import DataError


def read(folder, content, name="toy.jsonl"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return open_source(path)[""]


def test_unequal_keys_are_null(tmp_path):
    table = read(tmp_path, '{"a": 1}\n\n{"b": "x"}\n')
    assert table.arrow.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_lists_of_labels_stay_lists(tmp_path):
    assert read(tmp_path, '{"l": ["a", "b"]}\n{"l": []}\n').column("l").to_pylist() == [["a", "b"], []]


def test_objects_and_whole_and_broken_numbers_are_kept(tmp_path):
    table = read(tmp_path, '{"n": 1, "m": [{"role": "user"}]}\n{"n": 2.5, "m": null}\n')
    assert table.column("n").to_pylist() == [1.0, 2.5]
    assert table.column("m").to_pylist() == [[{"role": "user"}], None]


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
def test_an_array_is_read_in_any_windows(tmp_path, monkeypatch, size):
    monkeypatch.setattr(jsonl, "BLOCK", max(size, 4))
    rows = [{"text": f"]{{, [{n}\n", "n": n} for n in range(7)]
    assert read(tmp_path, "  [" + json.dumps(rows, indent=2)[1:], "toy.json").arrow.to_pylist() == rows


def test_schemas_may_grow_over_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROWS_PER_CHUNK", 2)
    monkeypatch.setattr(spill, "IN_MEMORY_BYTES", 10)
    rows = [{"a": None}, {"a": None}, {"a": "x", "b": 1}, {"a": "y", "b": 2}, {"b": 0.5}]
    table = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert table.column("a").to_pylist() == [None, None, "x", "y", None]
    assert table.column("b").to_pylist() == [None, None, 1.0, 2.0, 0.5]


@pytest.mark.parametrize("size", [2, 50_000])
def test_mixed_types_are_named_with_the_first_two_rows(tmp_path, monkeypatch, size):
    monkeypatch.setattr(records, "ROWS_PER_CHUNK", size)
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"y": null}\n{"y": "a"}\n\n{"y": "b"}\n{"y": 3}\n')
    assert (
        'toy.jsonl, row 2 (line 2): column "y" is of mixed types: text here, number in toy.jsonl, row 4 (line 5)'
        in str(caught.value)
    )


@pytest.mark.parametrize(
    ("content", "name", "what"),
    [
        ('{"a": 1}\n{"a": \n', "toy.jsonl", "toy.jsonl, line 2: this is not whole JSON"),
        ('{"a": 1}\n[1]\n', "toy.jsonl", "toy.jsonl, line 2: a row is a list"),
        ('[\n{"a": 1},\n{"a": \n', "toy.json", "toy.json, line 3: this is not whole JSON"),
        ('[\n{"a": 1},\n7]', "toy.json", "toy.json, line 3: a row is a int"),
        ('[{"a": 1}', "toy.json", "toy.json, line 1: this is not whole JSON"),
        ("", "toy.jsonl", "toy.jsonl: the file is empty"),
        ("[]", "toy.json", "toy.json: the file is empty"),
        ('{"a": 123456789012345678901234567890}', "toy.jsonl", 'column "a" cannot be kept'),
        ('{"a": {"b": 1}}\n{"a": {"b": "x"}}', "toy.jsonl", 'column "a" cannot be kept'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, name, what):
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path, content, name)
    assert all(problem.remedy for problem in caught.value.problems)


def test_several_broken_lines_are_shown_together(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, "x\n" * 9)
    assert len(caught.value.problems) == 5
