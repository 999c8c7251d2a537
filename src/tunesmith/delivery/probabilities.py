"""What the probabilities of a run are worth: calibration, sets, abstention and operating points of judged rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith.assemble.loaded import Loaded
from tunesmith.assemble.thresholds import decided
from tunesmith.errors import RecipeError
from tunesmith.evaluation import calibration, conformal, intervals
from tunesmith.evaluation.calibration import Decisions
from tunesmith.evaluation.intervals import shown
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.temperature import divided
from tunesmith.evaluation.thresholds import reached_at, reaching
from tunesmith.run import Run

COVERAGE = 0.9
"""How often the sets and intervals that are scored are to hold the truth."""

ASKED = ("precision >= 0.9", "precision >= 0.95", "recall >= 0.9", "recall >= 0.95")
"""The operating points that are told of each label that a threshold decides."""

SHOWN = 0.8
"""The coverage of the one point of the abstention curve that is told in words."""


def temperature_of(measured: dict[str, Any]) -> float:
    """What the outputs of a Run were divided by."""
    found = measured.get("temperature")
    return float(found["value"]) if found and found["applied"] else 1.0


def limit_of(loaded: Loaded, coverage: float) -> float:
    """How far off a row may be, so that sets of labels, or intervals of values, hold the truth in this share of rows:
    chosen by the Run's valid predictions. RecipeError where these cannot choose it."""
    run, task = loaded.run, loaded.task
    kept = run.path / "predictions" / "valid.parquet"
    what = ""
    if not 0 < coverage < 1:
        what, remedy = f"the coverage is a share between 0 and 1, not {coverage:g}", "0.9 asks for nine of ten"
    elif task.name == "multilabel":
        what, remedy = "sets of labels are for one label a row", "the Run's thresholds decide several"
    elif not kept.is_file():
        what, remedy = "no valid rows chose the sets", "set rows aside: data.valid or data.split"
    if not what:
        scores = conformal.nonconformity(Predictions.load(kept, task, loaded.target))
        most = conformal.limit(scores, coverage)
        if np.isfinite(most):
            return most
        what, remedy = f"{len(scores)} valid rows are too few for a coverage of {coverage:g}", "ask for less"
    raise RecipeError(what, where=str(run.path), remedy=remedy)


def figures(run: Run, part: str, predictions: Predictions) -> dict[str, Any]:
    """`calibration` of the rows of a part whose target is known; {} where none is. The valid rows choose the sets, the
    intervals and the operating points; of themselves they tell only the last."""
    assert predictions.codes is not None
    predictions = predictions.take(np.flatnonzero(intervals.known_rows(predictions.codes)))
    if not len(predictions.ids):
        return {}
    kept = run.path / "predictions" / "valid.parquet"
    chose = Predictions.load(kept, predictions.task, predictions.target) if kept.is_file() else None
    held = _held(chose, predictions) if chose is not None and part != "valid" else {}
    if predictions.task.name == "regression":
        return {"calibration": held} if held else {}
    decisions = Decisions.of(predictions)
    bins = calibration.reliability(decisions)
    error = calibration.calibration_error(decisions)
    found: dict[str, Any] = {
        "ece": {name: error[name] for name in ("value", "low", "high")},
        "ece_by_chance": {name: error[name] for name in ("mean", "most")},
        "binning": f"{len(bins)} bin{'s' * (len(bins) > 1)} of equal mass",
        "brier": intervals.score(predictions, ["brier"], classes=False)["brier"],
        "bins": bins,
        "temperature": _off_and_on(run.measured.get("temperature"), predictions),
        **held,
    }
    if decisions.confidence.shape[1] == 1:
        found["abstention"] = calibration.abstention(decisions)
    if chose is not None and (predictions.task.name == "multilabel" or predictions.target.positive is not None):
        found["operating_points"] = _operating_points(chose, predictions)
    return {"calibration": found}


def lines(scores: dict[str, Any]) -> list[str]:
    """What a person reads of the probabilities of a part; [] where there is nothing."""
    found, told = scores.get("calibration", {}), []
    if "ece" in found:
        told.append(f"probabilities: ECE {shown(found['ece'])}{_about_temperature(found['temperature'])}")
    if sets := found.get("sets"):
        size = f", {sets['mean_size']:.2f} labels on average" if "mean_size" in sets else ""
        told.append(
            f"sets of labels for {sets['coverage_asked']:.0%}: they hold the label in {shown(sets['coverage'])}{size}"
        )
    if around := found.get("intervals"):
        size = f" (+- {around['half_width']:.4g})" if "half_width" in around else ""
        told.append(
            f"intervals for {around['coverage_asked']:.0%}{size}: they hold the value in {shown(around['coverage'])}"
        )
    if points := found.get("abstention", {}).get("points"):
        some = next(point for point in points if point["coverage"] == SHOWN)
        told.append(
            f"of the surest {SHOWN:.0%} (confidence {some['confidence']:.3f} and more) {some['accuracy']:.3f} are right"
            f", of all {points[0]['accuracy']:.3f}"
        )
    return told


def _about_temperature(found: dict[str, Any]) -> str:
    """The temperature and what it changed, where there is one."""
    if found.get("value") is None or "off" not in found:
        return ""
    side, other = ("off", "before") if found["applied"] else ("on", "with it")
    applied = "applied" if found["applied"] else "not applied"
    return f"; temperature {found['value']:.2f} {applied} (ECE {found[side]['ece']:.3f} {other})"


def _off_and_on(found: dict[str, Any] | None, predictions: Predictions) -> dict[str, Any]:
    """The temperature of the Run, with the figures of these rows without it and with it."""
    if found is None or found["value"] is None:
        return found or {"value": None, "applied": False, "why": "this Run is older", "fitted_on": None, "rows": 0}
    scale = found["value"] if found["applied"] else 1.0
    values = {"off": 1 / scale, "on": found["value"] / scale}
    return found | {name: _point(divided(predictions, value)) for name, value in values.items()}


def _point(predictions: Predictions) -> dict[str, float]:
    """Calibration error, log loss and Brier score, without intervals."""
    named = {name: intervals.value(predictions, name) for name in ("log_loss", "brier")}
    return {"ece": calibration.plain_error(Decisions.of(predictions)), **named}


def _held(chose: Predictions, judged: Predictions) -> dict[str, Any]:
    """The sets of labels, or the intervals of values, that the one rows choose, on the others."""
    if judged.task.name == "multilabel":
        return {}
    assert chose.codes is not None
    scores = conformal.nonconformity(chose)
    most = conformal.limit(scores, COVERAGE)
    common = {"coverage_asked": COVERAGE, "rows": len(scores)}
    if not np.isfinite(most):
        return {}
    if judged.task.name == "regression":
        return {"intervals": common | {"half_width": most} | conformal.judged_intervals(judged, most)}
    held = common | {"threshold": 1 - most, "method": conformal.METHOD}
    return {"sets": held | conformal.judged_sets(judged, most)}


def _operating_points(chose: Predictions, judged: Predictions) -> list[dict[str, Any]]:
    """For each label and aim the threshold that the one rows choose, with what it has on the others; None where no
    threshold has what is asked."""
    found = []
    for asked in ASKED:
        reached = reaching(chose, asked)
        there = reached_at(judged, tuple(each.threshold for each in reached))
        for label, each, (precision, recall) in zip(decided(judged.target), reached, there, strict=True):
            point = {"label": label, "asked": asked, "threshold": each.threshold}
            values = {"precision": precision, "recall": recall}
            found.append(point | values if each.reached else point | dict.fromkeys(["threshold", *values]))
    return found
