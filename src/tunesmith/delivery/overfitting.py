"""What the trained model scores on rows that trained it, beside rows that did not, and what that calls for.

What more rows would bring is asked of a simple model: a linear one on the frozen features, or for a network that is not
pretrained the plain baseline of such rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from tunesmith.assemble.job import Job
from tunesmith.data.split import nested
from tunesmith.delivery.beside import Frozen, answers, simple_model, told
from tunesmith.delivery.scores import Judgement, Thresholds, plain_name
from tunesmith.evaluation import diagnosis, intervals
from tunesmith.evaluation.power_law import look_ahead
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.run import Run
from tunesmith.training import measure

FEWEST, MOST = 200, 2000
"""Training rows that are scored: as many as are judged, but within these."""
CURVE_ROWS, CURVE_FEWEST = 2000, 64
"""Training rows of the learning curve at most, and at least; it is asked on half as many."""
SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))


def rows_curve(job: Job, untouched: Frozen | None) -> dict[str, Any]:
    """`points`: what a simple model scores with an eighth, a quarter, half and all of the training rows; `of`: which
    model; `gain`: what twice the rows would likely bring. `skipped` says why there are none."""
    split, name = job.rows.split, plain_name(job.select)
    known = split.train if untouched is None else split.train[np.isin(split.train, untouched.rows)]
    train = measure.spread(known, CURVE_ROWS)
    if len(train) < CURVE_FEWEST:
        return {"points": [], "gain": None, "skipped": f"under {CURVE_FEWEST} training rows"}
    folds = [(train, measure.spread(split.valid, CURVE_ROWS // 2))]
    if not len(split.valid):
        folds = [(train[fitting], train[held]) for fitting, held in job.rows.folds(train)]
    of = simple_model(job, untouched)
    if of is None:
        return {"points": [], "gain": None, "skipped": f"a {job.rows.task.name} has no baseline"}
    asked = np.concatenate([held for _, held in folds])
    points, drawn = [], []
    for share in SHARES:
        parts = [(_part(job, fitting, share), held) for fitting, held in folds]
        outputs = np.concatenate([answers(job, of, fitting, held, untouched) for fitting, held in parts])
        predictions = told(job, asked, outputs)
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


def diagnose(job: Job, run: Run, judgement: Judgement, untouched: Frozen | None) -> None:
    """Score training rows with the model as it was saved, hold them against the valid rows (else test), and write
    diagnosis.json."""
    part = next((part for part in ("valid", "test") if part in judgement.rows), None)
    asked = 0 if part is None else len(judgement.rows[part])
    rows = measure.spread(job.rows.split.train, min(MOST, max(FEWEST, asked)))
    outputs = outputs_of(judgement.loaded.net, job.encoded, rows, judgement.loaded.machine) if asked else None
    if not job.machine.first:
        return
    curve = rows_curve(job, untouched)
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
    outputs = answers(job, job.rows.task.baselines[0], job.rows.split.train, rows, None)
    found = intervals.value(told(job, rows, outputs), plain_name(job.select), job.objects.metrics)
    return None if np.isnan(found) else found


def _best(baselines: dict[str, Any], name: str) -> tuple[str, float] | None:
    """The best baseline and its score."""
    sign = 1 if intervals.rising(name) else -1
    known = {one: found[name]["value"] for one, found in baselines.items() if found[name]["value"] is not None}
    return max(known.items(), key=lambda item: sign * item[1]) if known else None
