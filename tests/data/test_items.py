"""Opaque sources: items are read when needed and inputs never kept."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from tunesmith.data.items import reading
from tunesmith.data.profile import missing_rows
from tunesmith.data.sources import open_source
from tunesmith.data.table import concat
from tunesmith.errors import DataError


class Toy(Dataset):
    def __init__(self, items):
        self.items = items
        self.num_read = 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.num_read += 1
        return self.items[index]


def table_of(items):
    return open_source(Toy(items))[""]


def test_tuples_have_an_input_and_a_target():
    table = table_of([(torch.zeros(3), 1), (torch.ones(3), torch.tensor(0))])
    assert table.column_names == ("input", "target")
    assert table.column("target").to_pylist() == [1, 0]


def test_pairs_and_dicts_are_named():
    assert table_of([("a", "b", 1)]).column_names == ("input_a", "input_b", "target")
    assert table_of([{"text": "a", "label": "x"}]).column("label").to_pylist() == ["x"]


def test_targets_are_read_once_and_inputs_never():
    table = table_of([("a", 1), ("b", 0), ("", 1)])
    before = table.items.items.num_read
    table.column("target")
    table.column("target")
    assert missing_rows(table, ["input", "target"]).size == 0
    assert table.identified(["input"]).ids().tolist() == ["row-0", "row-1", "row-2"]
    assert table.items.items.num_read <= before + 6
    assert "input" not in table._read


def test_several_labels_at_once_are_lists():
    assert table_of([("a", torch.tensor([1, 0]))]).column("target").to_pylist() == [[1, 0]]


def test_taken_and_joined_items_stay_readable_and_keep_their_ids():
    table = concat([table_of([("a", 1), ("b", 0)]), table_of([("c", 1)])]).identified(["input"])
    taken = table.take(np.array([2, 0]))
    assert [taken.items[i][0] for i in range(2)] == ["c", "a"]
    assert taken.ids().tolist() == ["row-2", "row-0"]
    assert taken.hashes.tolist() == table.hashes[[2, 0]].tolist()


def test_fingerprint_follows_the_targets():
    assert table_of([("a", 1)]).fingerprint(["input", "target"]) != table_of([("a", 0)]).fingerprint(
        ["input", "target"]
    )


def test_an_image_as_target_is_an_error():
    with pytest.raises(DataError, match="not a number, a text or a list"):
        table_of([("a", torch.zeros(2, 2))]).column("target")


def test_targets_of_two_types_are_an_error():
    with pytest.raises(DataError, match="not of one type"):
        table_of([("a", 1), ("b", "x")]).column("target")


def test_items_that_are_neither_tuple_nor_dict_are_an_error():
    with pytest.raises(DataError, match="does not tell the input from the target"):
        table_of([torch.zeros(3)])


def test_an_empty_dataset_is_an_error():
    with pytest.raises(DataError, match="empty"):
        table_of([])


class Dice(torch.utils.data.Dataset):
    """Items that draw at random, from each of the three generators."""

    def __len__(self):
        return 4

    def __getitem__(self, row):
        return torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()]), row % 2


def test_items_that_draw_at_random_draw_by_seed_and_row_and_disturb_nothing():
    items = open_source(Dice())[""].items
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    with reading(1):
        one, again, other_row = items[2][0], items[2][0], items[3][0]
    with reading(2):
        other_seed = items[2][0]
    assert torch.equal(torch.rand(()), expected)
    assert torch.equal(one, again)
    assert not any(torch.equal(one, other) for other in (other_row, other_seed))
    assert (one != other_row).all() and (one != other_seed).all(), "all three generators follow"


def test_of_a_dataloader_the_dataset_is_read_and_that_is_told():
    loader = torch.utils.data.DataLoader(Dice(), batch_size=2)
    table = open_source(loader)[""]
    assert table.num_rows == 4 and table.column_names == ("input", "target")
    assert "DataLoader are not used" in table.notes[0]
