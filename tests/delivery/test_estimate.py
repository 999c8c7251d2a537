"""The estimate of several phases: each with its own cost of a step, and frozen stages that run once a row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunesmith.assemble.job import with_assumed_head
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import estimate
from tunesmith.delivery.folder import needed_bytes
from tunesmith.recipe.schema import Recipe
from tunesmith.testing import tiny_model, tiny_rows


@pytest.fixture
def job_of(tmp_path):
    """`job_of("full")` is the Job that a check of a tiny run of 40 steps opens."""

    def build(strategy, **train):
        train = {"device": "cpu", "batch": 8, "length": "40 steps", "precision": "fp32"} | train
        tree = {"data": {"source": "memory:rows", "split": "hash"}, "model": {"name": str(tiny_model(tmp_path))}}
        recipe = Recipe.model_validate(tree | {"strategy": strategy, "train": train})
        with estimate.opened(recipe, Objects(tiny_rows(60)), str) as job:
            return with_assumed_head(job)

    return build


def _parts(job):
    feed = job.feed(job.rows.split.train)
    return job, job.net(), feed, job.cadence(feed.steps_per_epoch)


def test_time_is_the_sum_over_the_phases_and_memory_the_most_of_any(job_of, monkeypatch):
    costs = {0: (1.0, 7_000_000, 1_000), 1: (100.0, 3_000_000, 50_000)}
    lengths = []

    def cost(job, net, feed, index, spread, length):
        lengths.append(length)
        return estimate._Cost(*costs[index], once=None)

    monkeypatch.setattr(estimate, "_phase_cost", cost)
    monkeypatch.setattr(estimate, "_write_speed", lambda: 1e12)
    seconds, peak = estimate._training_cost(*_parts(job_of("probe_then_full")))
    assert lengths == [12, 28]
    assert seconds == pytest.approx(12 * 1.0 + 28 * 100.0, abs=10)
    assert peak == 7_000_000 + 50_000


@pytest.mark.parametrize(
    ("strategy", "train", "behind"),
    [
        ("head", {}, True),
        ("head", {"cache": "off"}, False),
        ("head", {"length": "1 epoch"}, False),
        ("full", {}, False),
    ],
)
def test_steps_are_timed_behind_the_frozen_stages_where_the_run_keeps_their_output(job_of, strategy, train, behind):
    job, net, feed, cadence = _parts(job_of(strategy, **train))
    cost = estimate._phase_cost(job, net, feed, 0, [0, 1, 2], cadence.total)
    assert (cost.once is not None, feed.kept) == (behind, None)


def test_where_frozen_stages_run_once_a_row_that_is_reckoned_in_place_of_the_evaluations(job_of, monkeypatch):
    seconds = []
    job, net, feed, cadence = _parts(job_of("head"))
    split = job.rows.split
    rows = len(split.train) + len(split.valid)
    more = (
        rows + len(split.test) + 100
    )  # The baselines read all rows off the frozen body: what a phase runs beyond them is added.
    monkeypatch.setattr(estimate, "outputs_of", lambda *_: None)
    monkeypatch.setattr(estimate, "_write_speed", lambda: 1.0)
    for once in (None, more):
        monkeypatch.setattr(estimate, "_phase_cost", lambda *_, once=once: estimate._Cost(0.0, 0, 0, once))
        times = iter([0.0, float(rows)])
        with monkeypatch.context() as patched:
            patched.setattr(estimate.time, "perf_counter", lambda times=times: next(times))
            seconds.append(estimate._training_cost(job, net, feed, cadence)[0])
    evaluations = cadence.total // cadence.evaluate
    assert evaluations > 2
    assert seconds[1] - seconds[0] == pytest.approx(100 - evaluations * len(split.valid))


def test_rows_that_chose_the_head_run_through_a_wholly_frozen_body_only_then(job_of):
    job, net, feed, cadence = _parts(job_of("head"))
    rows = len(job.rows.split.train) + len(job.rows.split.valid)
    assert job.recipe.model.head == "auto"
    assert estimate._phase_cost(job, net, feed, 0, [0, 1, 2], cadence.total).once == 0
    recipe = job.recipe.model_copy(update={"model": job.recipe.model.model_copy(update={"head": job.head})})
    job = replace(job, recipe=recipe)
    assert estimate._phase_cost(job, net, feed, 0, [0, 1, 2], cadence.total).once == rows


def test_the_head_that_an_earlier_run_trained_is_assumed(job_of):
    job = job_of("full")
    pretrained = job.pretrained
    assert job.head.options == {"pooling": pretrained.poolings[0]}
    pretrained.labels, pretrained.head_choice = ("a", "b"), {"options": {"pooling": "cls"}}
    assert with_assumed_head(replace(job, head=None)).head.options == {"pooling": "cls"}
    pretrained.head_choice = {}
    assert with_assumed_head(replace(job, head=None)).head.name == "own"


def test_the_disk_that_is_asked_for_is_that_of_what_moves(job_of):
    model = sum(p.numel() * 4 for p in job_of("full").pretrained.module.parameters())
    assert needed_bytes(job_of("full")) > 13 * model + 10_000_000
    for strategy in ("head", "biases", "norms"):
        assert needed_bytes(replace(job_of(strategy), head=None)) < 5 * model + 10_000_000
