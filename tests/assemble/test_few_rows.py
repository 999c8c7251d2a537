"""A contrastive run from its recipe to its folder: what is measured, and what cross-validation may decide."""

from __future__ import annotations

import json

import pytest

import tunesmith
from tunesmith import choices
from tunesmith.errors import RecipeError
from tunesmith.testing import tiny_rows

SETTINGS = ["objective=contrastive", "train.length=4 epochs", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]']


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    columns = tiny_rows(24, 3)
    path = tmp_path_factory.mktemp("rows") / "few.csv"
    lines = [f"{text},{label}" for text, label in zip(columns["text"], columns["label"], strict=True)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def test_only_poolings_are_measured_and_the_length_stays(rows, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "_measured_heads", lambda job: {"own": 0.9, "mean": 0.5, "cls": 0.3, "max": 0.4})
    run = tunesmith.fit(rows, str(tiny_folder), settings=SETTINGS, out=tmp_path / "run", quiet=True)
    measured = json.loads((run.path / "measured.json").read_text())
    assert measured["head"]["options"] == {"pooling": "mean"} and "own" not in measured["head"]["candidates"]
    # Half-way the head is as it was made: its score must not shorten the run.
    assert measured["length"]["epochs"] is None and list(measured["length"]["scores"]) == ["4"]
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    phases = [event["phase"] for event in events if event["event"] == "step"]
    assert phases == ["full"] * 4 + ["head"] * 4
    with pytest.raises(RecipeError, match="pooled features"):
        settings = [*SETTINGS, "data.split=all"]
        tunesmith.fit(rows, own_run(rows, tiny_folder, tmp_path), settings=settings, out=tmp_path / "no", quiet=True)


def test_valid_rows_are_scored_once_there_is_a_head_to_score(rows, tiny_folder, tmp_path):
    settings = [*SETTINGS, "data.split=hash", "model.head=pooled"]
    run = tunesmith.fit(rows, str(tiny_folder), valid=rows, settings=settings, out=tmp_path / "run", quiet=True)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    order = [event.get("phase", event["event"]) for event in events if event["event"] in ("step", "evaluate")]
    assert "evaluate" not in order[: order.index("head")] and "evaluate" in order


def own_run(rows, tiny_folder, tmp_path):
    """A Run whose head is the model's own."""
    settings = ["model.head=own", "train.length=1 steps", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]']
    run = tunesmith.fit(rows, str(tiny_folder), settings=settings, out=tmp_path / "own", quiet=True)
    return str(run.path)


def test_the_lengths_of_auto_are_those_of_setfit(job_of):
    job = job_of(tiny_rows(48, 6), objective="contrastive", train={"batch": "auto", "lr": "auto"})
    feed = job.feed(job.rows.split.train)
    assert (job.recipe.train.batch, feed.steps_per_epoch) == (16, 3)
    cadence = job.cadence(feed.steps_per_epoch)
    assert cadence.ends(job.plan) == [120, 240]
    pairs = job.steps(job.plan.phases[0], feed)
    assert sum(pairs(step)[1] // 2 for step in range(120)) == 2 * 20 * 48, (
        "R = 20 pairs of one class and 20 of two for each row"
    )
    assert job.recipe.train.lr == {"full": 1e-3, "head": 3e-3}
