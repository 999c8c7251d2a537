"""Ranks: two of them are one, at the same `train.batch`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_model, tiny_rows


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    folder = tmp_path_factory.mktemp("ranks")
    tiny_model(folder / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # One row of 49 is left for the last batch of 8: the second rank has none.
    train, valid = tiny_rows(49, 3), tiny_rows(31, 3, seed=1)
    write_rows(folder / "train.csv", train)
    write_rows(folder / "valid.csv", valid)
    write_rows(folder / "odd.csv", {name: values[:45] for name, values in train.items()})
    return folder


@pytest.fixture(scope="module")
def arguments(place, settings):
    """The command line of a fit without dropout."""

    def build(rows, out, **others):
        others = {"train.length": "3 epochs", "train.every.evaluate": "5 steps"} | others
        words = ["fit", place / rows, "--valid", place / "valid.csv", "--model", place / "model", "--out", out]
        # In the recipe the head is a table, so that its dropout can be set.
        head = '{ name = "pooled", pooling = "mean", dropout = 0.0 }'
        return [*words, "--quiet", *settings(model__head=head, **others)]

    return build


def assert_close(run, other):
    own, others = (load_file(folder / "tunesmith.safetensors") for folder in (run, other))
    assert max(float((own[name] - others[name]).abs().max()) for name in own) < 1e-6


def scores_of(run):
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [(line["step"], line["value"]) for line in lines if line["event"] == "evaluate"]


@pytest.mark.parametrize("rows", ["odd.csv", "train.csv"])
def test_two_ranks_equal_one_rank_also_where_one_has_no_rows(rows, tmp_path, process, arguments):
    for ranks in (1, 2):
        code, text = process(*arguments(rows, tmp_path / str(ranks), train__lr="3e-4"), ranks=ranks)
        assert code == 0, text
    assert_close(tmp_path / "1", tmp_path / "2")
    ids = pq.read_table(tmp_path / "2" / "predictions" / "valid.parquet").column("id").to_pylist()
    assert len(ids) == len(set(ids)) == 31
    assert ids == pq.read_table(tmp_path / "1" / "predictions" / "valid.parquet").column("id").to_pylist()
    assert scores_of(tmp_path / "1") == scores_of(tmp_path / "2")


def test_both_ranks_stop_at_the_same_step_and_continue_from_it(tmp_path, process, arguments):
    words = {"train.patience": 2, "train.lr": "1e-9", "train.every.save": "5 steps", "train.every.evaluate": "2 steps"}
    # Ranks that disagree would wait for each other until torch gives up: then this does not end with 0.
    code, text = process(*arguments("odd.csv", tmp_path / "run", **words), ranks=2)
    assert code == 0, text
    assert [step for step, _ in scores_of(tmp_path / "run")] == [2, 4, 6]


def test_a_signal_to_two_ranks_saves_once_and_the_resumed_run_is_bit_equal(tmp_path, process, arguments):
    assert process(*arguments("odd.csv", tmp_path / "unbroken"), ranks=2)[0] == 0
    assert process(*arguments("odd.csv", tmp_path / "run"), ranks=2, signal=15, step=7)[0] == 75
    code, text = process("fit", "--resume", tmp_path / "run", ranks=2)
    assert code == 0, text
    own, others = (load_file(tmp_path / run / "tunesmith.safetensors") for run in ("run", "unbroken"))
    assert all(torch.equal(own[name], others[name]) for name in own)


def test_statistics_of_batches_are_those_of_all_ranks_and_outlive_a_signal(tmp_path, process, settings):
    random = np.random.default_rng(0)
    # Batches of 8, 8, 8, 8 and 3 rows: a rank with one row of the last would have no statistics.
    labels = np.arange(35) % 2
    images = (random.integers(0, 99, (35, 8, 8)) + labels[:, None, None] * 99).astype(np.uint8)
    data = tmp_path / "digits.npz"
    np.savez(data, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    asked = settings(model__head="own", train__length="3 epochs", train__lr="1e-3", data__split="auto")
    words = ["fit", data, "--valid", data, "--model", "new:cnn", "--quiet", *asked]
    code, text = process(*words, "--out", tmp_path / "unbroken", ranks=2)
    assert code == 0, text
    assert process(*words, "--out", tmp_path / "run", ranks=2, signal=15, step=7)[0] == 75
    code, text = process("fit", "--resume", tmp_path / "run", ranks=2)
    assert code == 0, text
    own, others = (load_file(tmp_path / run / "tunesmith.safetensors") for run in ("run", "unbroken"))
    assert any("running_mean" in name for name in own)
    assert all(torch.equal(own[name], others[name]) for name in own)


def test_of_two_ranks_the_first_alone_has_observers(tmp_path, process, arguments):
    pytest.importorskip("tensorboard")
    words = {"train.length": "3 steps", "deliver.observers": '["tensorboard"]'}
    code, text = process(*arguments("odd.csv", tmp_path / "run", **words), ranks=2)
    assert code == 0, text
    assert len([*(tmp_path / "run" / "tensorboard").iterdir()]) == 1


@pytest.mark.slow
def test_torchrun_starts_the_ranks(tmp_path, process, arguments):
    words = arguments("train.csv", tmp_path / "2", train__lr="3e-4")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, shutil.which("tunesmith", path=os.path.dirname(sys.executable)), *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert process(*arguments("train.csv", tmp_path / "1", train__lr="3e-4"))[0] == 0
    assert_close(tmp_path / "1", tmp_path / "2")
