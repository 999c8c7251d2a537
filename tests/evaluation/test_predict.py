"""Predicting: every row once, in its order, on any number of ranks."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunesmith import plugins
from tunesmith.evaluation.predict import Predictions, of_probabilities, outputs_of
from tunesmith.tasks.task import Target


class Encoded:
    """Rows of known lengths; the batch of a row is its number, padded."""

    def __init__(self, lengths):
        self.lengths = lengths
        self.asked = []

    def batch(self, rows):
        self.asked += list(rows)
        return {"number": torch.tensor(np.asarray(rows, dtype=np.float32))[:, None]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, inputs):
        return self.dropout(torch.cat([inputs["number"], -inputs["number"]], 1))


@dataclass
class Ranks:
    """Ranks as threads that meet at a barrier."""

    rank: int = 0
    world: int = 1
    meeting: Any = None
    shared: Any = None
    tokens: int = 20

    def put(self, tensors):
        return tensors

    def autocast(self):
        return contextlib.nullcontext()

    def gather(self, value):
        if self.world == 1:
            return [value]
        self.shared[self.rank] = value
        self.meeting.wait()
        return self.shared


@pytest.mark.parametrize("lengths", [None, np.random.default_rng(0).integers(1, 30, size=50)], ids=["unknown", "known"])
def test_outputs_are_in_the_order_of_the_rows_without_dropout_and_modes_come_back(lengths):
    net, rows = Net(), np.array([40, 3, 17, 3, 49, 0])
    net.train()
    outputs = outputs_of(net, Encoded(lengths), rows, Ranks())
    assert outputs.tolist() == [[float(row), -float(row)] for row in rows]
    assert net.training and net.dropout.training


def test_the_longest_rows_are_read_first_and_a_batch_holds_so_many_tokens():
    lengths, sizes = np.arange(1, 41), []
    encoded = Encoded(lengths)
    outputs_of(Net(), encoded, np.arange(40), Ranks(tokens=60), sizes.append)
    assert encoded.asked == list(range(39, -1, -1))
    assert sizes[:6] == [1, 1, 1, 1, 1, 1] and max(sizes) >= 5 and sum(sizes) == 40


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_rows_each_is_read_once_and_all_get_all(world):
    rows, found = np.arange(23), [None] * world
    encoded = [Encoded(np.arange(1, 24)) for _ in range(world)]
    meeting, shared = threading.Barrier(world), [None] * world

    def work(rank):
        found[rank] = outputs_of(Net(), encoded[rank], rows, Ranks(rank, world, meeting, shared))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(row for part in encoded for row in part.asked) == list(range(23))
    for outputs in found:
        assert outputs[:, 0].tolist() == rows.tolist()


def test_no_rows_give_no_outputs():
    assert len(outputs_of(Net(), Encoded(np.arange(1, 5)), np.array([], dtype=np.int64), Ranks())) == 0


KEPT = {
    "classification": (np.array([1, 0, -1]), np.array([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]]), ("no", "yes")),
    "multilabel": (np.array([[1, 0], [0, 0], [1, 1]], np.float32), np.array([[0.9, 0.2]] * 3), ("a", "b")),
    "regression": (np.array([1.5, np.nan, -2.0]), np.array([[1.0], [2.0], [3.0]]), ("value",)),
}


@pytest.mark.parametrize("kind", KEPT)
def test_saved_predictions_are_loaded_as_they_were(kind, tmp_path):
    codes, chances, labels = KEPT[kind]
    task, target = of_probabilities(plugins.get("task", kind)), Target(("y",), labels)
    Predictions(np.array(["x", "y", "z"]), codes, chances, task, target).save(tmp_path / "valid.parquet")
    found = Predictions.load(tmp_path / "valid.parquet", plugins.get("task", kind), target)
    assert found.ids.tolist() == ["x", "y", "z"]
    assert found.codes.dtype == codes.dtype
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.probabilities, chances)
