"""Plug-ins of other packages do their work: a head is built, a metric of which less is better decides that way."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest

import tunesmith as ts
from tunesmith.evaluation.intervals import rising
from tunesmith.models.pooling import Pooled
from tunesmith.testing import tiny_rows

QUICK = ["train.length=2 steps", 'evaluate.metrics=["accuracy"]']


def widest(width: int, num_outputs: int, *, hidden: int = 3) -> Pooled:
    """The largest states, then a narrow layer."""
    return Pooled(width, num_outputs, "max", 1, hidden, 0.0)


def wrong(codes, chances, target):
    """Share of rows that are wrong."""
    return 1 - (chances.argmax(-1) == codes).double().mean(-1)


wrong.falling = True


@pytest.fixture
def installed(monkeypatch):
    real = importlib.metadata.entry_points
    things = {"tunesmith.head": widest, "tunesmith.metric": wrong}

    def entries(**asked):
        thing = things.get(asked.get("group"))
        return [SimpleNamespace(name=thing.__name__, value="other", load=lambda: thing)] if thing else real(**asked)

    monkeypatch.setattr(importlib.metadata, "entry_points", entries)


def test_a_head_of_another_package_is_the_one_that_trains(installed, bert, tmp_path):
    settings = [*QUICK, 'model.head={name="widest", hidden=5}']
    run = ts.fit(tiny_rows(240), bert, settings=settings, out=tmp_path / "run", quiet=True)
    head = ts.load(run, device="cpu").loaded.net.heads["label"]
    assert (head.pooling, head.hidden[0].out_features) == ("max", 5)


def test_a_metric_of_another_package_says_that_less_is_better(installed):
    assert not rising("wrong")
    assert not rising("rmse") and rising("accuracy")


def test_a_separator_makes_several_labels_of_a_text(bert, tmp_path):
    rows = tiny_rows(240)
    rows["label"] = [f"{label}; x" if number % 2 else label for number, label in enumerate(rows["label"])]
    settings = ["train.length=2 steps", "model.head=pooled", 'task={name="multilabel", separator=";"}']
    run = ts.fit(rows, bert, target="label", settings=settings, out=tmp_path / "run", quiet=True)
    labels = sorted({part.strip() for text in rows["label"] for part in text.split(";")})
    assert sorted(ts.load(run, device="cpu").labels) == labels
    assert run.scores["test"]["f1_micro"]["value"] is not None
