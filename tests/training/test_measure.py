"""What is measured before training: features of the frozen body, the cost of a step, the micro-batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.errors import MachineError
from tunesmith.models.pooling import pool
from tunesmith.strategies.plan import Phase, Rule
from tunesmith.training import measure, phases
from tunesmith.training.frozen import cached_rows
from tunesmith.training.machine import Machine, fast_precision, find_device, start


def test_features_are_in_the_order_of_the_rows_and_those_of_each_row_alone(job_of):
    job = job_of()
    rows = np.array([7, 2, 31, 4, 50, 11])
    found = measure.frozen_features(job.pretrained, 3, job.encoded, rows, job.machine, cache="off")
    assert set(found) == {"own", "mean", "cls", "max"}
    body = job.pretrained.body.eval()
    for index, row in enumerate(rows):
        inputs = job.encoded.batch([row])
        with torch.no_grad():
            output = body(**inputs)
        for name in ("mean", "cls", "max"):
            alone = pool(output.last_hidden_state, inputs["attention_mask"], name)[0].numpy()
            np.testing.assert_allclose(found[name][index], alone, atol=1e-5)
        np.testing.assert_allclose(found["own"][index], output.pooler_output[0].numpy(), atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in job.pretrained.module.modules())


def test_rows_for_the_choice_of_the_head_are_spread_over_a_sorted_table():
    rows = np.arange(10_000)
    some = measure.spread(rows, 100)
    assert len(some) == 100 and some[0] == 0 and some[-1] == 9999 and len(set(some.tolist())) == 100
    assert measure.spread(rows[:50], 100) is not None and len(measure.spread(rows[:50], 100)) == 50


def test_the_cost_of_a_step_is_measured_and_leaves_no_gradient(job_of):
    job = job_of()
    net = job.net()
    cost = measure.step_cost(net, job.objective(), job.feed(job.rows.split.train).longest(4), job.machine)
    assert cost.seconds > 0 and cost.peak_bytes >= 0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_batch_that_fits_is_not_cut_and_one_that_does_not_is(job_of, monkeypatch):
    job = job_of()
    feed = job.feed(job.rows.split.train)

    def micro(free):
        costs = iter([measure.Cost(0.1, 1000), measure.Cost(0.1, 2000)])
        monkeypatch.setattr(measure, "step_cost", lambda *_: next(costs))
        monkeypatch.setattr(measure.psutil, "virtual_memory", lambda: type("Memory", (), {"available": free}))
        return measure.fitting_micro(job.net(), job.objective(), feed.longest, 8, job.machine)

    assert micro(1e9) == 8
    assert micro(2 * 1000 * 5) == 4
    assert micro(100) == 1


def test_the_device_is_the_one_asked_for_or_the_error_says_what_to_write():
    assert find_device("cpu") == "cpu"
    with pytest.raises(MachineError, match="no device"):
        find_device("tpu9000")
    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="this machine has no device"):
            find_device("cuda")


def test_the_precision_is_what_the_recipe_says_else_what_the_processor_is_fast_at():
    assert start("cpu", "fp32").precision == "fp32" and start("cpu", "bf16").precision == "bf16"
    assert start("cpu", "auto").precision == fast_precision("cpu")
    with Machine(torch.device("cpu"), "bf16").autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


def test_features_of_frozen_rows_are_read_again_and_a_head_on_them_needs_no_pass(job_of, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    job, ran = job_of(), []
    rows = job.rows.split.train
    live = measure.frozen_features(job.pretrained, 3, job.encoded, rows, job.machine, cache="off")
    first = measure.frozen_features(job.pretrained, 3, job.encoded, rows, job.machine, cache="fp32")
    job.pretrained.body.encoder.layer[0].register_forward_hook(lambda _module, args, _output: ran.append(len(args[0])))
    again = measure.frozen_features(job.pretrained, 3, job.encoded, rows, job.machine, cache="fp32")
    assert not ran
    for name, values in live.items():
        assert np.allclose(values, first[name], atol=1e-6) and np.array_equal(first[name], again[name])
    net = job.net()
    phases.open_phase(net, Phase("head", (Rule("head/*", 1.0), Rule("*", None))))
    kept = cached_rows(net, job.encoded, rows, job.machine, "fp32")
    assert kept.num_computed == 0
