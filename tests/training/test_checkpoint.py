"""Checkpoints: whole or absent, verified, with the best weights that they refer to."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from tunesmith.errors import MachineError
from tunesmith.training import checkpoint
from tunesmith.training.state import State


@pytest.fixture
def state():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    found = State(net, torch.optim.AdamW(net.parameters(), lr=0.1), moved={name for name, _ in net.named_parameters()})
    train(found)
    return found


def train(state):
    state.net(torch.ones(4, 3) * torch.arange(4.0)[:, None]).pow(2).sum().backward()
    state.optimizer.step()
    state.step += 1


def snapshot(state):
    return {name: tensor.clone() for name, tensor in state.net.state_dict().items()}


def test_a_checkpoint_restores_weights_buffers_optimizer_and_counters(state, tmp_path):
    state.scores, state.phase, state.events_bytes = [{"step": 1, "value": None}], 2, 77
    path = checkpoint.save(state, tmp_path)
    before, moments = snapshot(state), json.dumps(str(state.optimizer.state_dict()))
    train(state)
    other = State(state.net, state.optimizer)
    checkpoint.resume_counters(other, path)
    checkpoint.restore(other, path)
    assert (other.step, other.phase, other.events_bytes, other.scores) == (1, 2, 77, [{"step": 1, "value": None}])
    assert other.moved == state.moved
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.net.state_dict().items())
    assert json.dumps(str(state.optimizer.state_dict())) == moments


def test_only_the_two_newest_stay(state, tmp_path):
    for _ in range(4):
        train(state)
        checkpoint.save(state, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]
    assert checkpoint.newest(tmp_path).name == "step-00000005"


def test_every_file_of_a_checkpoint_is_guarded_against_every_flipped_byte(state, tmp_path):
    path = checkpoint.save(state, tmp_path)
    for file in path.iterdir():
        content = file.read_bytes()
        for position in {0, len(content) // 2, len(content) - 3}:
            file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            assert not checkpoint.verifies(path), (file.name, position)
        file.write_bytes(content)
    assert checkpoint.verifies(path)


def test_a_later_best_does_not_take_the_best_of_an_older_checkpoint(state, tmp_path):
    # A GPU may not find the later best again: the older checkpoint must be able to end with its own.
    checkpoint.save_best(state, tmp_path, 0.5)
    best = snapshot(state)
    checkpoint.save(state, tmp_path)
    old = state.best
    train(state)
    checkpoint.save_best(state, tmp_path, 0.6)
    assert checkpoint.verifies(tmp_path / "step-00000001")
    state.best = old
    checkpoint.load_best(state, tmp_path)
    assert all(torch.equal(tensor, best[name]) for name, tensor in state.net.state_dict().items())


def test_bests_that_no_checkpoint_refers_to_are_removed(state, tmp_path):
    for value in (0.1, 0.2, 0.3, 0.4):
        checkpoint.save_best(state, tmp_path, value)
        checkpoint.save(state, tmp_path)
        train(state)
    assert sorted(path.name for path in tmp_path.glob("best-*")) == [
        "best-00000003.safetensors",
        "best-00000004.safetensors",
    ]


def test_a_checkpoint_whose_best_weights_are_damaged_does_not_verify(state, tmp_path):
    checkpoint.save_best(state, tmp_path, 0.5)
    path = checkpoint.save(state, tmp_path)
    best = tmp_path / "best-00000001.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    assert not checkpoint.verifies(path)
    with pytest.raises(MachineError, match="missing or damaged"):
        checkpoint.load_best(state, tmp_path)


def test_what_a_killed_process_left_is_removed_and_the_rest_stays(state, tmp_path):
    good = checkpoint.save(state, tmp_path)
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / ".step-00000009.1.tmp").mkdir()
    (tmp_path / ".best-00000009.safetensors.tmp").touch()
    assert checkpoint.newest(tmp_path) == good
    checkpoint.forget_newer(tmp_path, good)
    assert list(tmp_path.iterdir()) == [good]


def test_a_process_killed_while_it_removes_an_old_checkpoint_leaves_none_in_part(state, tmp_path, monkeypatch):
    def killed(path, **_):
        next(path.glob("state.json")).unlink()
        raise KeyboardInterrupt

    for step in (1, 2):
        state.step = step
        checkpoint.save(state, tmp_path)
    state.step = 3
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tunesmith.files.shutil.rmtree", lambda path, **how: None if how else killed(path))
        checkpoint.save(state, tmp_path)
    found = checkpoint.newest(tmp_path)
    checkpoint.forget_newer(tmp_path, found)
    checkpoint.save_best(state, tmp_path, 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-00000003.safetensors", "step-00000002", "step-00000003",
    ]  # fmt: skip


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    net = nn.Linear(2, 2)
    net.register_buffer("one", torch.arange(4.0))
    net.register_buffer("two", net.one[:2])
    state = State(net, moved={"weight"})
    path = checkpoint.save(state, tmp_path)
    net.one.fill_(math.nan)
    checkpoint.restore(state, path)
    assert net.one.tolist() == [0.0, 1.0, 2.0, 3.0] and net.two.tolist() == [0.0, 1.0]
