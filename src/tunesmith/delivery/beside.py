"""The baselines of a run beside its model: learnt from the same rows, asked about the same, and compared with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.evaluation import intervals
from tunesmith.evaluation.baselines import MOST_ROWS
from tunesmith.evaluation.learnable import Learnable
from tunesmith.evaluation.predict import Predictions, of_probabilities
from tunesmith.run import Run
from tunesmith.training import measure

MOST_FROZEN = 10_000
"""Training rows whose frozen features are computed for the baselines alone, evenly spaced."""
FEW_ROWS = 2000
ONLY: dict[str, dict[str, tuple[str, ...]]] = {
    "image": {
        "tfidf_logistic": ("plain_logistic", "edges_logistic"),
        "tfidf_ridge": ("plain_ridge", "edges_ridge"),
    },
    "table": {"tfidf_logistic": ("boosted_trees",), "tfidf_ridge": ("boosted_trees",)},
    "text": {},
}
"""Modality -> what stands for a baseline of texts where rows are others."""
OTHERS = {"tfidf_logistic": ("plain_logistic",), "tfidf_ridge": ("plain_ridge",)}


@dataclass(frozen=True)
class Frozen:
    """What the untouched body gives for `rows` (ascending): features (rows, width), and the seconds that it took."""

    rows: np.ndarray
    features: np.ndarray
    seconds: float

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The features of some of the rows."""
        return np.asarray(self.features[np.searchsorted(self.rows, rows)])


def frozen_rows(job: Job) -> np.ndarray:
    """The rows whose features the baselines read; none of a net that was not pretrained."""
    split = job.rows.split
    if job.pretrained.origin.name.startswith("new:"):
        return split.train[:0]
    train = split.train if job.rows.cross_validated else measure.spread(split.train, MOST_FROZEN)
    return np.sort(np.concatenate([train, split.valid, split.test]))


def frozen(job: Job) -> Frozen | None:
    """Read what the head will read, off the body before anything trains; None where that is of no use, or where the
    last layer of the net is not found."""
    started, rows, num_outputs = time.perf_counter(), frozen_rows(job), job.rows.target.num_outputs
    if not len(rows) or not job.machine.first:
        return None
    net = job.net()
    try:
        net.output_layer()
    except ValueError:
        return None
    cache = job.recipe.train.cache
    found = measure.frozen_features(job.pretrained, num_outputs, job.encoded, rows, job.machine, cache=cache)
    features = found.get("own" if net.own else net.head_options.get("pooling", "mean"))
    return None if features is None else Frozen(rows, features, time.perf_counter() - started)


def beside(
    job: Job,
    run: Run,
    part: str,
    rows: np.ndarray,
    model: Predictions,
    *,
    names: Sequence[str],
    decided: Callable[[str, str, Predictions], Predictions],
    untouched: Frozen | None,
) -> dict[str, Any]:
    """`baselines` (name -> metric -> interval), and `against` (name -> by how much the model is better at what decides,
    on the same resamples of the rows); their predictions lie beside those of the model, their seconds in events.jsonl.
    `decided(name, part, predictions)` gives predictions as they are decided."""
    select, own = job.select.removeprefix("memory:"), job.objects.metrics
    found: dict[str, dict[str, Any]] = {"baselines": {}, "against": {}}
    for name in baselines_of(job.rows.task.baselines, job.rows.modality):
        started, reads = time.perf_counter(), getattr(plugins.get("baseline", name), "reads", "plain")
        if reads == "frozen" and untouched is None:
            continue
        answer = decided(name, part, told(job, rows, _answers_for(job, part, rows, name, untouched)))
        answer.save(run.path / "predictions" / "baselines" / part / f"{name}.parquet")
        found["baselines"][name] = intervals.score(answer, names, own, classes=False)
        found["against"][name] = intervals.difference(answer, model, select, own)
        seconds = time.perf_counter() - started + (untouched.seconds if reads == "frozen" and untouched else 0)
        run.append_event("baseline", name=name, split=part, seconds=round(seconds, 3))
    return found


def baselines_of(names: Sequence[str], modality: str) -> list[str]:
    """The baselines of a task for rows of this kind."""
    others = ONLY.get(modality, OTHERS)
    return [other for name in names for other in others.get(name, (name,))]


def simple_model(job: Job, untouched: Frozen | None) -> str | None:
    """The baseline that learns most in little time: a linear model on frozen features, else that of plain rows; None
    of a task without one."""
    names = baselines_of(job.rows.task.baselines, job.rows.modality)
    frozen_ones = [name for name in names if getattr(plugins.get("baseline", name), "reads", "plain") == "frozen"]
    plain_ones = [name for name in names if name not in frozen_ones]
    return next(iter([*(frozen_ones if untouched is not None else ()), *reversed(plain_ones)]), None)


def told(job: Job, rows: np.ndarray, outputs: np.ndarray) -> Predictions:
    """What a baseline answers for rows, as Predictions; its outputs are probabilities already, or values."""
    task = of_probabilities(job.rows.task)
    return Predictions(job.rows.table.ids()[rows], job.rows.codes[rows], outputs, task, job.rows.target)


def answers(job: Job, name: str, train: np.ndarray, asked: np.ndarray, untouched: Frozen | None) -> np.ndarray:
    """The outputs of a baseline for the rows `asked`, learnt from those of `train`."""
    train, learn = measure.spread(train, MOST_ROWS), plugins.get("baseline", name)
    what = getattr(learn, "reads", "plain")
    if what == "frozen":
        assert untouched is not None
        train = train[np.isin(train, untouched.rows)]
        known, wanted = untouched.of(train), untouched.of(asked)
    else:
        read = getattr(job.encoder, what)
        known, wanted = (read(job.rows.table, job.rows.inputs, rows) for rows in (train, asked))
    categorical = getattr(job.encoder, "categorical", ())
    rows_told = Learnable(known, job.rows.codes[train], wanted, job.rows.target, categorical)
    # Over few rows more threads wait for each other longer than they work.
    with threadpool_limits(1) if len(train) <= FEW_ROWS else contextlib.nullcontext():
        return np.asarray(learn(rows_told))


def _answers_for(job: Job, part: str, rows: np.ndarray, name: str, untouched: Frozen | None) -> np.ndarray:
    """The outputs for rows, by one that learnt from the training rows; for these themselves, where the run is
    cross-validated, each by one that learnt from other folds."""
    train = job.rows.split.train
    if part != "valid" or not job.rows.cross_validated:
        return answers(job, name, train, rows, untouched)
    outputs = np.zeros((len(train), job.rows.target.num_outputs))
    for fitting, held in job.rows.folds(train):
        outputs[held] = answers(job, name, train[fitting], train[held], untouched)
    return outputs[np.isin(train, rows)]
