"""Data sets of the `datasets` library: saved, in memory, named on the hub."""

import os
import subprocess
import sys

import datasets
import pytest

from tunesmith.data.sources import open_source
from tunesmith.errors import DataError


@pytest.fixture
def toy():
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "tags": datasets.List(datasets.ClassLabel(names=["a", "b"])),
        }
    )
    rows = {"text": ["x", "y", "z"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}
    return datasets.Dataset.from_dict(rows, features=features)


def assert_named(table):
    assert table.column("label").to_pylist() == ["pos", "neg", None]
    assert table.column("tags").to_pylist() == [["a", "b"], [], ["b"]]
    assert 'the numbers in "label" stand for neg, pos' in table.notes[0]


def test_class_numbers_become_names_and_it_is_told(toy):
    assert_named(open_source(toy)[""])


def test_a_saved_data_set_is_read(toy, tmp_path):
    toy.save_to_disk(tmp_path / "saved")
    assert_named(open_source(tmp_path / "saved")[""])


def test_saved_splits_get_our_names_and_others_are_left_out(toy, tmp_path):
    splits = datasets.DatasetDict({"train": toy, "validation": toy, "test": toy, "unsupervised": toy})
    splits.save_to_disk(tmp_path / "saved")
    for tables in (open_source(splits), open_source(str(tmp_path / "saved"))):
        assert sorted(tables) == ["test", "train", "valid"]
        assert "left out unsupervised" in tables["train"].notes[0]


def test_rows_that_were_selected_are_the_rows_that_are_read(toy):
    assert open_source(toy.select([2, 0]))[""].column("text").to_pylist() == ["z", "x"]


def test_splits_of_other_names_are_an_error(toy):
    with pytest.raises(DataError, match="no split is called train"):
        open_source(datasets.DatasetDict({"one": toy, "two": toy}))


def test_a_damaged_saved_data_set_is_an_error(toy, tmp_path):
    toy.save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"no")
    with pytest.raises(DataError, match="the saved data set cannot be read"):
        open_source(tmp_path / "saved")


def test_a_name_that_is_not_there_gives_one_sentence_when_offline(tmp_path):
    program = "from tunesmith.data.sources import open_source; open_source('nobody/nothing')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    error = subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stderr
    assert "DataError: nobody/nothing: there is no such file, and no data set of that name could be loaded" in error
    assert "direct cause" not in error
    assert "During handling" not in error
