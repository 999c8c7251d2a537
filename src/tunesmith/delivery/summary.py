"""What a person reads at the end: the scores beside the baselines, where everything lies, what to try next."""

from __future__ import annotations

import shlex
from typing import Any

from tunesmith.assemble.thresholds import target_of, told
from tunesmith.delivery.card import EXAMPLES, asked_again, num_folds, shown
from tunesmith.delivery.reporting.page import FILE
from tunesmith.run import Run

NOT_METRICS = ("classes", "baselines", "default_threshold", "data", "rows")


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
        lines += [f"  {name:<16} {shown(values.get(metric))}" for name, values in rows.items()]
        lines += _about_threshold(run) if default else []
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
    own = "; each baseline has its own" if run.recipe.evaluate.threshold == "auto" else ", for the baselines too"
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
    return lines
