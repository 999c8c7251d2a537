"""What the trained model scores on rows that trained it, beside rows that did not, and what that calls for.

What more rows would bring is asked of a simple model, before the body moves: a linear one on its frozen features, or
for a network that is not pretrained the task's own baseline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.data.split import nested
from tunesmith.delivery.scores import (
    Judgement,
    Thresholds,
    baseline_outputs,
    baselines_of,
    of_probabilities,
    plain_name,
)
from tunesmith.evaluation import diagnosis, intervals
from tunesmith.evaluation.linear import linear_outputs
from tunesmith.evaluation.power_law import look_ahead
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.models.pooling import output_layer
from tunesmith.run import Run
from tunesmith.training import measure

FEWEST, MOST = 200, 2000
"""Training rows that are scored: as many as are judged, but within these."""
CURVE_ROWS, CURVE_FEWEST = 2000, 64
"""Training rows of the learning curve at most, and at least; it is asked on half as many."""
SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))
MOST_SECONDS, TIMED = 10.0, 16
"""The features of the curve's rows are left where they would take longer; so many rows are timed."""

Answers = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows to learn from, rows to ask about) -> outputs of these."""


def rows_curve(job: Job) -> dict[str, Any]:
    """`points`: what a simple model scores with an eighth, a quarter, half and all of the training rows; `of`: which
    model; `gain`: what twice the rows would likely bring. `skipped` says why there are none."""
    split, name = job.rows.split, plain_name(job.select)
    train = measure.spread(split.train, CURVE_ROWS)
    if len(train) < CURVE_FEWEST:
        return {"points": [], "gain": None, "skipped": f"under {CURVE_FEWEST} training rows"}
    folds = [(train, measure.spread(split.valid, CURVE_ROWS // 2))]
    if not len(split.valid):
        folds = [(train[fitting], train[held]) for fitting, held in job.rows.folds(train)]
    of, answers, skipped = _simple_model(job, np.unique(np.concatenate([rows for fold in folds for rows in fold])))
    if answers is None:
        return {"points": [], "gain": None, "skipped": skipped}
    task = job.rows.task if of.startswith("linear") else of_probabilities(job.rows.task)
    asked = np.concatenate([held for _, held in folds])
    points, drawn = [], []
    for share in SHARES:
        parts = [(_part(job, fitting, share), held) for fitting, held in folds]
        outputs = np.concatenate([answers(fitting, held) for fitting, held in parts])
        ids = np.arange(len(asked)).astype(str)
        predictions = Predictions(ids, job.rows.codes[asked], outputs, task, job.rows.target)
        predictions = Thresholds(job).decided("", "valid", predictions)
        found = intervals.interval(predictions, name, job.objects.metrics)
        points.append({"rows": round(np.mean([len(fitting) for fitting, _ in parts])), **found})
        drawn.append(intervals.resamples(predictions, name, job.objects.metrics))
    gain = None
    if len(train) == len(split.train) and all(point["value"] is not None for point in points):
        sizes, values = [point["rows"] for point in points], [point["value"] for point in points]
        outlook = look_ahead(sizes, values, np.stack(drawn, 1), rising=intervals.rising(name))
        gain = 0.0 if outlook.value is None else abs(outlook.gain)
    return {"points": points, "gain": gain, "of": of}


def _part(job: Job, train: np.ndarray, share: Fraction) -> np.ndarray:
    """A share of the training rows, of each class alike."""
    labels = None if job.rows.labels is None else job.rows.labels[train]
    return train[nested(job.rows.table.hashes[train], labels, share)]


def _simple_model(job: Job, rows: np.ndarray) -> tuple[str, Answers | None, str]:
    """What learns in place of the model, how, and why nothing does; `rows`: all that it is going to read."""
    pretrained, num_outputs = job.pretrained, job.rows.target.num_outputs
    linear = not pretrained.origin.name.startswith("new:")
    try:
        output_layer(pretrained.module, num_outputs) if pretrained.own_head else None
    except ValueError:  # A network whose layers are not of torch.
        linear = False
    if not linear:
        names = baselines_of(job.rows.task.baselines, job.rows.modality)
        if not names:
            return "", None, f"a {job.rows.task.name} has no baseline"
        name, learn = names[-1], plugins.get("baseline", names[-1])
        return name, lambda fitting, asked: baseline_outputs(job, learn, fitting, asked), ""
    started = time.perf_counter()
    measure.frozen_features(pretrained, num_outputs, job.encoded, measure.spread(rows, TIMED), job.machine, cache="off")
    seconds = job.machine.agree((time.perf_counter() - started) * len(rows) / TIMED)
    if seconds > MOST_SECONDS:
        return "", None, f"the features of {len(rows)} rows would take about {seconds:.0f} s"
    cache = job.recipe.train.cache
    found = measure.frozen_features(pretrained, num_outputs, job.encoded, rows, job.machine, cache=cache)
    assert job.head is not None
    wanted = "own" if job.head.name == "own" else job.head.options.get("pooling", "mean")
    features = found.get(wanted, next(iter(found.values())))
    return "linear model on frozen features", lambda *asked: _linear(job, rows, features, *asked), ""


def _linear(job: Job, rows: np.ndarray, features: np.ndarray, fitting: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Outputs of a linear model on the standardised features of `rows`."""
    train, held = (features[np.searchsorted(rows, some)] for some in (fitting, asked))
    centre, spread = train.mean(0), train.std(0)
    train, held = ((some - centre) / np.where(spread > 0, spread, 1.0) for some in (train, held))
    return linear_outputs(train, job.rows.codes[fitting], held, job.rows.target.num_outputs)


def diagnose(job: Job, run: Run, judgement: Judgement, curve: dict[str, Any]) -> None:
    """Score training rows with the model as it was saved, hold them against the valid rows (else test), and write
    diagnosis.json."""
    part = next((part for part in ("valid", "test") if part in judgement.rows), None)
    asked = 0 if part is None else len(judgement.rows[part])
    rows = measure.spread(job.rows.split.train, min(MOST, max(FEWEST, asked)))
    outputs = outputs_of(judgement.loaded.net, job.encoded, rows, judgement.loaded.machine) if asked else None
    if not job.machine.first:
        return
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = diagnosis.last_attempt([json.loads(line) for line in lines])
    trained = diagnosis.course(events, job.feed(job.rows.split.train).steps_per_epoch)
    name, own = plain_name(job.select), job.objects.metrics
    kept: dict[str, Any] = {"metric": name, "judged_on": part}
    kept |= {"curve": [asdict(point) for point in trained], "rows_curve": curve["points"]}
    kept |= {f"rows_curve_{key}": curve[key] for key in ("of", "skipped") if key in curve}
    if part is None or outputs is None:
        sentence = "no row was set aside: whether it overfits cannot be told"
        run.write("diagnosis.json", kept | {"finding": "cannot be told", "sentence": sentence})
        return
    judged = judgement.predictions[part]
    seen = Predictions(job.rows.table.ids()[rows], job.rows.codes[rows], outputs, job.rows.task, judged.target)
    scores = run.scores[part]
    evidence = diagnosis.Evidence(
        metric=name,
        train=intervals.interval(seen, name, own),
        judged={end: scores[name][end] for end in ("value", "low", "high")},
        gap=intervals.gap(seen, judged, name, own),
        chance=_chance(job, rows),
        baseline=_best(scores["baselines"], name),
        opened=diagnosis.opened(trained, name),
        unfinished=diagnosis.unfinished(diagnosis.losses_of(events), trained, name),
        gain=curve["gain"],
        judged_on=part,
    )
    found = diagnosis.diagnose(evidence)
    overfits = found.finding in ("more data", "more regularization")
    since = evidence.opened if overfits else None
    if "log_loss" in job.rows.task.metrics:
        kept["log_loss"] = {
            "train": intervals.interval(seen, "log_loss"),
            "judged": intervals.interval(judged, "log_loss"),
        }
    kept |= {"train": evidence.train, "judged": evidence.judged, "gap": evidence.gap}
    kept |= {"opened": None if since is None else {"step": since.step, "epoch": since.epoch}}
    run.write("diagnosis.json", kept | asdict(found))


def _chance(job: Job, rows: np.ndarray) -> float | None:
    """What the task's first baseline, a model that reads nothing, scores on training rows."""
    if not job.rows.task.baselines:
        return None
    learn = plugins.get("baseline", job.rows.task.baselines[0])
    outputs = baseline_outputs(job, learn, job.rows.split.train, rows)
    parts = (rows.astype(str), job.rows.codes[rows], outputs, of_probabilities(job.rows.task), job.rows.target)
    found = intervals.value(Predictions(*parts), plain_name(job.select), job.objects.metrics)
    return None if np.isnan(found) else found


def _best(baselines: dict[str, Any], name: str) -> tuple[str, float] | None:
    """The best baseline and its score."""
    sign = 1 if intervals.rising(name) else -1
    known = {one: found[name]["value"] for one, found in baselines.items() if found[name]["value"] is not None}
    return max(known.items(), key=lambda item: sign * item[1]) if known else None
