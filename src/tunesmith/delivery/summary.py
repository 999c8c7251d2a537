"""What a person reads at the end: the scores beside the baselines, where everything lies, what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from tunesmith.assemble.thresholds import target_of, told
from tunesmith.delivery import probabilities
from tunesmith.delivery.card import EXAMPLES, asked_again, num_folds, over_seeds
from tunesmith.delivery.drift import in_words
from tunesmith.delivery.reporting.page import FILE
from tunesmith.evaluation.intervals import shown
from tunesmith.run import Run

BESIDE = ("classes", "baselines", "against", "default_threshold", "calibration", "slices")
NOT_METRICS = (*BESIDE, "data", "rows")
NAMED = 3
"""Slices that are named in the summary at most."""


def summary(run: Run) -> str:
    """The judging split's deciding metric with its interval and the baselines beside it, and the next commands."""
    scores, metric = run.scores, run.recipe.evaluate.select.removeprefix("memory:")
    split = "test" if "test" in scores else "valid"
    lines = ["", "no row was set aside: nothing was scored"]
    if scores:
        default = scores[split].get("default_threshold")
        rows = {"this model": scores[split]} | ({"  no threshold": default} if default else {})
        rows |= scores[split]["baselines"]
        folds = num_folds(scores)
        lines = ["", f"{split} {metric}{f', mean of {folds} folds' * bool(folds)}, with 95 % interval:"]
        width = max(map(len, rows))
        lines += [f"  {name:<{width}} {shown(values.get(metric))}" for name, values in rows.items()]
        lines += filter(None, [over_seeds(scores, metric)])
        lines += _about_threshold(run) if default else []
        lines += probabilities.lines(scores[split])
        lines += about_slices(scores[split].get("slices", []))
    if (run.path / "diagnosis.json").is_file():
        lines += [f"fit:  {run.read('diagnosis.json')['sentence']}"]
    if told := in_words(run.drift):
        lines += ["", *told]
    lines += ["", f"run:  {run.path}   (README.md says how to use it)"]
    lines += [f"report: {run.path / FILE}"] if (run.path / FILE).is_file() else []
    place, example = shlex.quote(str(run.path)), EXAMPLES[run.read("data.json")["modality"]]
    if example.unlabelled and not asked_again(run):
        lines += [
            f"next: tunesmith predict {place} {example.unlabelled} -o predictions.csv --proba",
            f"      tunesmith evaluate {place} {example.labelled}",
        ]
    return "\n".join(lines)


def _about_threshold(run: Run) -> list[str]:
    """What is decided, and that model/ does not do it."""
    own = "; each baseline has its own" if isinstance(run.recipe.evaluate.threshold, str) else ", for the baselines too"
    return [
        f"threshold: {told(target_of(run))}{own}",
        "model/ alone does not know of it: model/README.md says how to apply it",
    ]


def score_lines(scores: dict[str, Any]) -> list[str]:
    """One line a metric, then one a class."""
    lines = [f"{name:<20} {shown(value)}" for name, value in scores.items() if name not in NOT_METRICS]
    default = scores.get("default_threshold", {})
    lines += [f"  no threshold: {name:<4} {shown(value)}" for name, value in default.items()]
    for label, values in scores.get("classes", {}).items():
        parts = "  ".join(f"{name} {shown(value)}" for name, value in values.items() if name != "rows")
        lines.append(f"  {label:<18} {parts}  ({values['rows']} rows)")
    return lines + probabilities.lines(scores) + about_slices(scores.get("slices", []))


def about_slices(slices: Sequence[dict[str, Any]]) -> list[str]:
    """Which slices are worse than the rest, the surest first; nothing where none is."""
    worse = sorted((one for one in slices if one["worse"]), key=lambda one: one["p_adjusted"])
    tested = sum(one["p"] is not None for one in slices)
    lines = [
        f"  {one['slice']}: {one['metric']} {shown(one['value_of'])} on {one['rows']} rows, {one['rest']:.3f} elsewhere"
        for one in worse[:NAMED]
    ]
    more = f" (the {NAMED} surest)" if len(worse) > NAMED else ""
    return [f"worse than elsewhere: {len(worse)} of {tested} slices{more}", *lines] if worse else []
