"""The baselines of a run beside its model: learnt from the same rows, asked about the same, and compared with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.evaluation import intervals
from tunesmith.evaluation.baselines import MOST_ROWS, Baseline, Learnable
from tunesmith.evaluation.predict import Predictions
from tunesmith.run import Run
from tunesmith.tasks.task import Task
from tunesmith.training import measure

MOST_FROZEN = 10_000
"""Training rows whose frozen features are computed for the baselines alone, evenly spaced."""
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
    model: Predictions,
    *,
    names: Sequence[str],
    decided: Callable[[str, str, Predictions], Predictions],
    untouched: Frozen | None,
) -> dict[str, Any]:
    """`baselines` (name -> metric -> interval), `baseline_seconds`, and `against` (name -> by how much the model is
    better at what decides, on the same resamples of the rows); their predictions lie beside those of the model.
    `decided(name, part, predictions)` gives predictions as they are decided."""
    select, own = job.select.removeprefix("memory:"), job.objects.metrics
    found: dict[str, dict[str, Any]] = {"baselines": {}, "baseline_seconds": {}, "against": {}}
    for name in baselines_of(job.rows.task.baselines, job.rows.modality):
        learn, started = plugins.get("baseline", name), time.perf_counter()
        what = getattr(learn, "reads", "plain")
        if what == "frozen" and untouched is None:
            continue
        outputs = _answers(job, part, learn, untouched if what == "frozen" else None)
        told = Predictions(model.ids, model.codes, outputs, _of_probabilities(job.rows.task), job.rows.target)
        told = decided(name, part, told)
        told.save(run.path / "predictions" / "baselines" / part / f"{name}.parquet")
        found["baselines"][name] = intervals.score(told, names, own, classes=False)
        found["against"][name] = intervals.difference(told, model, select, own)
        seconds = time.perf_counter() - started + (untouched.seconds if what == "frozen" and untouched else 0)
        found["baseline_seconds"][name] = round(seconds, 3)
        run.append_event("baseline", name=name, split=part, seconds=round(seconds, 3))
    return found


def baselines_of(names: Sequence[str], modality: str) -> list[str]:
    """The baselines of a task for rows of this kind."""
    others = ONLY.get(modality, OTHERS)
    return [other for name in names for other in others.get(name, (name,))]


def _answers(job: Job, part: str, learn: Baseline, untouched: Frozen | None) -> np.ndarray:
    """The outputs for the rows of a part, by one that learnt from the training rows; of a cross-validated run, for the
    training rows, each by one that learnt from other folds."""
    train, split = job.rows.split.train, job.rows.split
    rows = split.test if part == "test" else split.valid
    folds = [(np.arange(len(train)), np.arange(len(rows)))]
    if part == "valid" and job.rows.cross_validated:
        rows, folds = train, job.rows.folds(train)
    outputs = np.zeros((len(rows), job.rows.target.num_outputs))
    for fitting, held in folds:
        outputs[held] = _learn(job, learn, train[fitting], rows[held], untouched)
    return outputs


def _learn(job: Job, learn: Baseline, train: np.ndarray, asked: np.ndarray, untouched: Frozen | None) -> np.ndarray:
    train = measure.spread(train, MOST_ROWS)
    if untouched is not None:
        train = train[np.isin(train, untouched.rows)]
        known, wanted = untouched.of(train), untouched.of(asked)
    else:
        read = getattr(job.encoder, getattr(learn, "reads", "plain"))
        known, wanted = (read(job.rows.table, job.rows.inputs, rows) for rows in (train, asked))
    categorical = getattr(job.encoder, "categorical", ())
    return learn(Learnable(known, job.rows.codes[train], wanted, job.rows.target, categorical))


def _of_probabilities(task: Task) -> Task:
    """The task for predictions that are probabilities already."""
    return replace(task, probabilities=lambda outputs: outputs)
