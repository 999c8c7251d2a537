"""Forgetting with several ranks and with real signals: what is kept is the same."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_model, tiny_rows


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, write_rows, process, settings):
    """The command line of a fit on another task that keeps a share of the old score."""
    place = tmp_path_factory.mktemp("forgetting")
    tiny_model(place / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    old = tiny_rows(160, 2)
    write_rows(place / "old.csv", old)
    # Labels that have nothing to do with the words: to learn them the body must forget these.
    write_rows(place / "new.csv", {"text": old["text"], "label": ["yes", "yes", "no", "no"] * 40})
    first = ["fit", place / "old.csv", "--model", place / "model", "--quiet", "--out", place / "old"]
    code, text = process(*first, *settings(train__length="4 epochs"))
    assert code == 0, text

    def build(out):
        words = ["fit", place / "new.csv", "--model", place / "old", "--source-task", place / "old.csv", "--out", out]
        head = '{ name = "pooled", pooling = "mean", dropout = 0.0 }'
        others = settings(model__head=head, train__length="6 epochs", train__lr="3e-2", data__target="label")
        return [*words, "--keep", "0.8", "--quiet", *others]

    return build


def drift(run):
    return json.loads((run / "drift.json").read_text())


def test_two_ranks_measure_and_keep_together_and_leave_one_whole_model(tmp_path, process, arguments):
    code, text = process(*arguments(tmp_path / "2"), ranks=2)
    assert code == 0, text
    found = drift(tmp_path / "2")
    assert found["kept"]["share"] < 1 and len(found["blend"]) == 11
    assert {stage["stage"] for stage in found["stages"] if stage["moves"]} == {"stem", "block.0", "block.1"}
    scores = json.loads((tmp_path / "2" / "scores.json").read_text())
    point = next(point for point in found["blend"] if point["share"] == found["kept"]["share"])
    assert scores["valid"]["accuracy"] == point["new"]


def test_a_run_that_a_signal_ended_keeps_the_same(tmp_path, process, arguments):
    assert process(*arguments(tmp_path / "unbroken"))[0] == 0
    assert process(*arguments(tmp_path / "run"), signal=15, step=20)[0] == 75
    assert not (tmp_path / "run" / "drift.json").exists()
    code, text = process("fit", "--resume", tmp_path / "run")
    assert code == 0, text
    own, others = (load_file(tmp_path / run / "tunesmith.safetensors") for run in ("run", "unbroken"))
    assert all(torch.equal(own[name], others[name]) for name in own)
    assert drift(tmp_path / "run") == drift(tmp_path / "unbroken")
    assert drift(tmp_path / "run")["kept"]["share"] < 1
