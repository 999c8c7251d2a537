"""Folders: parts by name, shards, files that disagree."""

import pytest

from tunesmith.data.sources import open_source
from tunesmith.errors import DataError


def write(folder, **files):
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_names_give_the_parts_and_other_files_are_not_read(tmp_path):
    row = "text,label\na,x\n"
    write(tmp_path, Training__csv=row, dev__jsonl='{"text": "b", "label": "y"}\n', test__csv=row, SOURCE__txt="a, b\nc")
    tables = open_source(tmp_path)
    assert {part: table.source for part, table in tables.items()} == {
        "train": "Training.csv",
        "valid": "dev.jsonl",
        "test": "test.csv",
    }


def test_numbered_files_of_a_part_follow_each_other(tmp_path):
    for index in range(3):
        (tmp_path / f"train-0000{index}-of-00003.csv").write_text(f"text\nrow {index}\n")
    (tmp_path / "test.csv").write_text("text\nlast\n")
    train = open_source(tmp_path)["train"]
    assert train.column("text").to_pylist() == ["row 0", "row 1", "row 2"]
    assert train.where(2) == "train-00002-of-00003.csv, row 1"


def test_train_alone_is_one_table_without_a_split(tmp_path):
    assert list(open_source(write(tmp_path, train__csv="text\na\n"))) == [""]


def test_other_files_of_one_format_follow_each_other_by_name(tmp_path):
    folder = write(tmp_path, b__csv="text,label\nb,y\n", a__csv="label,text\nx,a\n", README__txt="read me")
    assert open_source(folder)[""].column("text").to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"a__csv": "text\na\n", "b__csv": "other\nb\n"}, "b.csv: its columns are other; those of a.csv are text"),
        ({"a__csv": "text\na\n", "b__jsonl": '{"text": "b"}'}, "files of several formats: a.csv, b.jsonl"),
        ({"train__csv": "text\na\n", "train__jsonl": '{"text": "b"}', "test__csv": "text\na\n"}, "several formats"),
        ({"page__html": ""}, "holds no data file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, files, what):
    with pytest.raises(DataError, match=what):
        open_source(write(tmp_path, **files))
