"""The scores of a run: of the model as saved and reloaded, in fp32, beside its baselines, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.assemble.loaded import load_run
from tunesmith.evaluation import intervals
from tunesmith.evaluation.baselines import MOST_ROWS, Learnable
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.tasks.task import Task

FOLDS_FILE = "predictions/folds.npy"
OF_ARRAYS = {"tfidf_logistic": "plain_logistic", "tfidf_ridge": "plain_ridge"}
"""What stands for a baseline of texts where rows are arrays."""
OF_TABLES = {"tfidf_logistic": "boosted_trees", "tfidf_ridge": "boosted_trees"}
"""What stands for it where rows are those of a table."""


def value_of(job: Job, rows: np.ndarray, outputs: np.ndarray) -> float:
    """The deciding metric on rows whose outputs come from the net in training (not yet in the target's unit)."""
    target = job.rows.target
    return value_of_outputs(job, job.rows.codes[rows], outputs * target.std + target.mean)


def value_of_outputs(job: Job, codes: np.ndarray, outputs: np.ndarray) -> float:
    """The deciding metric of outputs in the target's unit."""
    predictions = Predictions(np.arange(len(codes)).astype(str), codes, outputs, job.rows.task, job.rows.target)
    return intervals.value(predictions, job.select.removeprefix("memory:"), job.objects.metrics)


def metric_names(recipe: Recipe) -> list[str]:
    """What is reported by name: the recipe's metrics, and what decides."""
    asked = () if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    names = asked if recipe.evaluate.select in asked else (recipe.evaluate.select, *asked)
    return [name for name in names if not name.startswith("memory:")]


def score_run(job: Job, run: Run, judged: Mapping[str, Any]) -> None:
    """Predict valid and test with the reloaded model, learn the baselines, and write predictions and scores.json;
    `judged`: the scores of parts that other runs judged, for the same file."""
    started = time.perf_counter()
    loaded = load_run(run, replace(job.machine, precision="fp32"), job.objects.model)
    names = metric_names(job.recipe)
    scores: dict[str, Any] = {}
    parts = {"valid": job.rows.split.valid, "test": job.rows.split.test}
    if job.rows.cross_validated:
        parts["valid"] = job.rows.split.train
    for part, rows in parts.items():
        if not len(rows):
            continue
        by_folds = part == "valid" and job.rows.cross_validated
        outputs = (
            np.load(run.path / FOLDS_FILE) if by_folds else outputs_of(loaded.net, job.encoded, rows, loaded.machine)
        )
        predictions = Predictions(
            job.rows.table.ids()[rows], job.rows.codes[rows], outputs, job.rows.task, job.rows.target
        )
        if not job.machine.first:
            continue
        predictions.save(run.path / "predictions" / f"{part}.parquet")
        scores[part] = intervals.score(predictions, names, job.objects.metrics)
        scores[part]["baselines"] = _baselines(job, run, part, rows, names, by_folds)
    if job.machine.first:
        run.write("scores.json", {**scores, **judged})
        (run.path / FOLDS_FILE).unlink(missing_ok=True)
        run.append_event("score", seconds=round(time.perf_counter() - started, 3))
    job.machine.gather(None)


def save_folds(run: Run, outputs: np.ndarray) -> None:
    """Keep the held-out outputs of the cross-validation until the run is scored."""
    path = run.path / FOLDS_FILE
    path.parent.mkdir(exist_ok=True)
    np.save(path, outputs)


def _baselines(job: Job, run: Run, part: str, rows: np.ndarray, names: list[str], by_folds: bool) -> dict[str, Any]:
    """Baseline -> metric -> interval, learnt from the same training rows and asked about the same rows."""
    train = job.rows.split.train
    found: dict[str, Any] = {}
    for name in baselines_of(job.rows.task.baselines, job.rows.modality):
        learn, started = plugins.get("baseline", name), time.perf_counter()
        outputs = np.zeros((len(rows), job.rows.target.num_outputs))
        folds = [(np.arange(len(train)), np.arange(len(rows)))]
        if by_folds:
            folds = job.rows.folds(train)
        for fitting, held in folds:
            outputs[held] = _learn(job, learn, train[fitting], rows[held])
        predictions = Predictions(
            job.rows.table.ids()[rows], job.rows.codes[rows], outputs, _of_probabilities(job.rows.task), job.rows.target
        )
        found[name] = intervals.score(predictions, names, job.objects.metrics, classes=False)
        run.append_event("baseline", name=name, split=part, seconds=round(time.perf_counter() - started, 3))
    return found


def baselines_of(names: Sequence[str], modality: str) -> list[str]:
    """The baselines of a task for rows of this kind."""
    if modality == "text":
        return list(names)
    others = OF_TABLES if modality == "table" else OF_ARRAYS
    return [others.get(name, name) for name in names]


def _learn(job: Job, learn: Callable[[Learnable], np.ndarray], train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    if len(train) > MOST_ROWS:
        train = train[np.linspace(0, len(train) - 1, MOST_ROWS).astype(int)]
    known, wanted = (job.encoder.plain(job.rows.table, job.rows.inputs, rows) for rows in (train, asked))
    categorical = getattr(job.encoder, "categorical", ())
    return learn(Learnable(known, job.rows.codes[train], wanted, job.rows.target, categorical))


def _of_probabilities(task: Task) -> Task:
    """The task for predictions that are probabilities already."""
    return replace(task, probabilities=lambda outputs: outputs)
