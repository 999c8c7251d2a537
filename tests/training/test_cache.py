"""The cache of the frozen prefix in a run: every row once, whatever reads it, and the same result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith import pipeline
from tunesmith.assemble import kept
from tunesmith.errors import Interrupted, MachineError
from tunesmith.models import store
from tunesmith.models.prefix import Uncacheable
from tunesmith.run import Run
from tunesmith.strategies.plan import Phase, Plan, Rule
from tunesmith.testing import tiny_rows
from tunesmith.training import frozen
from tunesmith.training.frozen import cached_rows

LAST = Plan((Phase("last", (Rule("stem/*", None), Rule("block.0/*", None), Rule("*", 1.0))),))
HEAD = Plan((Phase("head", (Rule("head/*", 1.0), Rule("*", None)), moves="head"),))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def job(job_of, monkeypatch):
    def build(plan, length="3 epochs", **train):
        rows = {name: values + values[:10] for name, values in tiny_rows(60, 3).items()}
        made = job_of(rows=rows, train={"length": length, "every": {"evaluate": "1 epoch"}, **train})
        monkeypatch.setattr(type(made), "plan", plan)
        return replace(made, micro=8)

    return build


class Passes:
    """How many rows ran through each block of the body."""

    def __init__(self, job):
        self.rows = {}
        for number, block in enumerate(job.pretrained.body.encoder.layer):
            block.attention.register_forward_hook(self._hook(number))

    def _hook(self, number):
        def count(_module, _args, output):
            self.rows[number] = self.rows.get(number, 0) + len(output[0])

        return count


def train(job, path):
    """Train as fit does; the weights, what was told, and the rows that ran through each block."""
    told, run = [], Run(path)
    path.mkdir(exist_ok=True)
    passes = Passes(job)
    net = pipeline.train(job, run, told.append, True)
    return {name: value.clone() for name, value in net.state_dict().items()}, told, passes.rows, run


def cache_lines(run):
    import json

    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "cache"]


@pytest.mark.parametrize("plan", [LAST, HEAD], ids=["last", "head"])
def test_each_frozen_stage_runs_once_a_row_and_in_a_second_run_not_at_all(job, tmp_path, plan):
    made = job(plan)
    rows = np.union1d(made.rows.split.train, made.rows.split.valid)
    different = len(set(made.encoded.keys(rows)))
    assert different < len(rows), "some rows are equal"
    _, told, first, run = train(made, tmp_path / "first")
    assert cache_lines(run)[0]["computed"] == different and cache_lines(run)[0]["found"] == 0
    assert any(f"{different} rows computed" in line for line in told)
    _, told, second, run = train(job(plan), tmp_path / "second")
    assert first[0] - second[0] == different, "but for what verifies it, the prefix ran once a row, then not at all"
    assert second[0] < 3 * len(rows), "verifying it is less than the passes it saves"
    assert cache_lines(run)[0]["computed"] == 0 and cache_lines(run)[0]["found"] == different
    assert any(f"{different} found on disk" in line for line in told)


@pytest.mark.parametrize("plan", [LAST, HEAD], ids=["last", "head"])
def test_a_run_with_the_cache_ends_as_one_without(job, tmp_path, plan):
    cached, told, _, _ = train(job(plan), tmp_path / "cached")
    live, other, *_ = train(job(plan, cache="off"), tmp_path / "live")
    assert any("run once a row" in line for line in told) and not any("once a row" in line for line in other)
    assert max(float((cached[name] - live[name]).abs().max()) for name in live) < 1e-3
    again, _, _, _ = train(job(plan), tmp_path / "again")
    assert all(torch.equal(again[name], cached[name]) for name in cached), "found or computed: the same bits"


def test_bfloat16_keeps_half_the_bytes_and_about_the_same_result(job, tmp_path):
    exact, _, _, _ = train(job(HEAD, cache="fp32"), tmp_path / "exact")
    half, _, _, _ = train(job(HEAD, cache="bf16"), tmp_path / "half")
    sizes = sorted((store.root() / entry["name"] / "data.bin").stat().st_size for entry in store.entries())
    assert len(sizes) == 2 and sizes[1] == 2 * sizes[0]
    head = [name for name in exact if name.startswith("heads.")]
    difference = max(float((exact[name] - half[name]).abs().max()) for name in head)
    assert 0 < difference < 0.05


def test_a_damaged_row_is_computed_again(job, tmp_path):
    first, _, _, _ = train(job(LAST), tmp_path / "first")
    (entry,) = store.root().iterdir()
    data = bytearray((entry / "data.bin").read_bytes())
    data[5] ^= 1
    (entry / "data.bin").write_bytes(bytes(data))
    second, _, _, run = train(job(LAST), tmp_path / "second")
    assert cache_lines(run)[0]["computed"] == 1
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5


def test_other_weights_below_the_cut_share_nothing(job, tmp_path):
    train(job(LAST), tmp_path / "first")
    made = job(LAST)
    with torch.no_grad():
        made.pretrained.body.encoder.layer[0].output.dense.weight.add_(0.01)
    *_, run = train(made, tmp_path / "second")
    assert cache_lines(run)[0]["found"] == 0
    assert len(store.entries()) == 2


def test_without_room_on_disk_the_run_goes_on_live_and_says_why(job, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE_GB", "0.000001")
    _, told, _, run = train(job(LAST), tmp_path / "run")
    assert any("run in every step" in line and "budget" in line for line in told)
    assert not cache_lines(run) and not store.entries()


def test_a_disk_that_fails_leaves_the_run_alive(job, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "append", full)
    _, told, _, _ = train(job(LAST), tmp_path / "run")
    assert any("No space left on device" in line for line in told)


def test_a_phase_that_reads_each_row_once_computes_nothing_ahead_but_uses_what_is_there(job, tmp_path):
    _, told, _, run = train(job(LAST, length="1 epoch"), tmp_path / "once")
    assert any("each row is read once only" in line for line in told) and not cache_lines(run)
    train(job(LAST, length="2 epochs"), tmp_path / "twice")
    _, _, _, run = train(job(LAST, length="1 epoch"), tmp_path / "found")
    assert cache_lines(run)[0]["computed"] == 0


def test_a_resumed_run_reads_the_same_rows_and_ends_in_the_same_bits(job, tmp_path, monkeypatch):
    whole, _, _, _ = train(job(LAST), tmp_path / "whole")

    class Asked:
        code = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def stopping(step):
        original = pipeline.EventLog.step

        def struck(self, event):
            original(self, event)
            Asked.code = 130 if event.step == step else 0

        monkeypatch.setattr(pipeline.EventLog, "step", struck)
        monkeypatch.setattr(pipeline, "Signals", Asked)

    stopping(9)
    with pytest.raises(Interrupted):
        train(job(LAST), tmp_path / "stopped")
    Asked.code = 0
    stopping(-1)
    made = job(LAST)
    resumed, _, _, run = train(made, tmp_path / "stopped")
    assert cache_lines(run)[-1]["computed"] == 0
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_kept_outputs_that_differ_from_live_ones_are_not_trusted(job, monkeypatch):
    made = job(LAST)
    net = made.net()
    pipeline.phases.open_phase(net, LAST.phases[0])
    rows = made.rows.split.train
    kept = cached_rows(net, made.encoded, rows, made.machine, "fp32")
    frozen.compare(net, kept, made.machine)
    with torch.no_grad():
        made.pretrained.body.encoder.layer[0].output.dense.weight.mul_(1.5)
    with pytest.raises(Uncacheable, match="differ by"):
        frozen.compare(net, kept, made.machine)


def test_a_body_that_changed_under_the_cache_is_an_error_at_the_end(job, tmp_path, monkeypatch):
    def differ(*_args):
        raise Uncacheable("kept and live outputs differ by 10 %")

    monkeypatch.setattr(kept, "compare", differ)
    with pytest.raises(MachineError, match=r"(?s)differ by 10 %.*train\.cache=off"):
        train(job(LAST), tmp_path / "run")


def test_rows_made_anew_each_time_and_too_few_rows_are_not_kept(job):
    made = job(LAST)
    net = made.net()
    pipeline.phases.open_phase(net, LAST.phases[0])
    with pytest.raises(Uncacheable, match="fewer than five"):
        cached_rows(net, made.encoded, made.rows.split.train[:4], made.machine, "fp32")
    opaque = replace(made.encoded, lengths=None, _fields=None)
    with pytest.raises(Uncacheable, match="how long its rows are"):
        cached_rows(net, opaque, made.rows.split.train, made.machine, "fp32")


def test_fixed_views_are_kept_each_and_views_without_end_are_not(job_of, tmp_path, monkeypatch):
    def build(**options):
        made = job_of(
            train={"length": "4 epochs", "every": {"evaluate": "1 epoch"}},
            data={"source": "memory:rows", "split": "hash", "augment": {"name": "words", **options}},
        )
        monkeypatch.setattr(type(made), "plan", LAST)
        return replace(made, micro=8)

    _, told, _, _ = train(build(), tmp_path / "endless")
    assert any("augmented anew in each epoch" in line for line in told)
    cached, told, _, run = train(build(views=2), tmp_path / "cached")
    assert len(build().rows.split.train) < cache_lines(run)[0]["computed"] <= 2 * len(build().rows.split.train)
    monkeypatch.setattr(kept, "frozen_depth", lambda _net: 0)
    live, *_ = train(build(views=2), tmp_path / "live")
    assert max(float((cached[name] - live[name]).abs().max()) for name in live) < 1e-3


def test_pooled_features_are_the_same_behind_the_prefix(job):
    made = job(LAST)
    net = made.net()
    pipeline.phases.open_phase(net, LAST.phases[0])
    rows = made.rows.split.train
    stored = cached_rows(net, made.encoded, rows, made.machine, "fp32").batch(rows[:5])
    assert any(name.startswith("stored.") for name in stored)
    net.eval()
    with torch.no_grad():
        assert torch.allclose(net.features(stored), net.features(made.encoded.batch(rows[:5])), atol=1e-5)
