"""Overfit, underfit or neither: decided from what a run measured, with the one remedy that its numbers speak for.

Gaps and scores are told as shares of what was learnt: of the way from a model that reads nothing (the majority, the
mean) to the score on training rows. So one rule does for accuracies, errors in any unit and losses.

1. Overfit: training rows score better than the judged ones for sure (the gap's interval is above 0), and by a tenth of
   what was learnt, which is itself a tenth of the way to a perfect score (else the parts hold other shares of the
   classes, no more). Or training rows are not fitted yet at the best evaluation, and fitting them further (the loss
   fell on by a quarter) made valid no better. More data, where a simple model of the same rows says that twice as many
   would close a fifth of the gap; else more regularization.
2. Underfit: a baseline beats the model for sure; or training rows are left a tenth or more from a perfect score, the
   loss was still falling, and the last evaluation was the best.
3. Nothing to change: neither, training rows are fitted, and the gap is surely small.
4. Otherwise it cannot be told, and the sentence says what is lacking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.evaluation.intervals import rising

MATERIAL = 0.1
"""The share of what was learnt from which a gap, or what is lacking to a perfect score, counts."""
UNSURE = 0.3
"""A gap that may be so large a share leaves the question open."""
CLOSES = 0.2
"""The share of the gap that twice the rows must likely close to be what is lacking."""
FALLING = 0.05
"""The loss was still falling where the last quarter of the steps has one so much lower than the quarter before."""
FELL = 0.25
"""Training went on to fit its rows where the loss fell by so much more after the best evaluation."""
ZERO_IS_PERFECT = ("log_loss", "brier", "mse", "rmse", "mae")

Interval = dict[str, Any]
Name = Literal["more data", "more regularization", "larger model", "nothing to change", "cannot be told"]


@dataclass(frozen=True)
class Point:
    """An evaluation: the mean training loss since the one before, and the score on the valid rows."""

    step: int
    epoch: float
    train_loss: float | None
    valid: float | None


@dataclass(frozen=True)
class Evidence:
    """What a run measured: the deciding metric on training rows, on judged ones and their difference, with intervals;
    the gap is above 0 where training rows score better."""

    metric: str
    train: Interval
    judged: Interval
    gap: Interval
    chance: float | None
    """What a model that reads nothing scores on the training rows."""
    baseline: tuple[str, float] | None = None
    """The best baseline's name and score on the judged rows."""
    opened: Point | None = None
    unfinished: bool = False
    """Whether the loss was still falling at the end, and the last evaluation the best."""
    gain: float | None = None
    """What twice the rows would likely bring; None where that was not measured, 0 where it may be nothing."""
    judged_on: str = "valid"


@dataclass(frozen=True)
class Diagnosis:
    """The finding and what it means, in one sentence."""

    finding: Name
    sentence: str


def last_attempt(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of events.jsonl from the last first step on: a training that collapsed began again."""
    begun = [number for number, event in enumerate(events) if event["event"] == "step" and event["step"] == 1]
    return list(events[begun[-1] :]) if begun else []


def losses_of(events: Iterable[dict[str, Any]]) -> list[float]:
    """The losses of the steps, but those that were no number."""
    return [event["loss"] for event in events if event["event"] == "step" and event["loss"] is not None]


def course(events: Sequence[dict[str, Any]], steps_per_epoch: int) -> list[Point]:
    """The evaluations that lines of events.jsonl tell."""
    points, start = [], 0
    for number, event in enumerate(events):
        if event["event"] == "evaluate":
            losses = losses_of(events[start:number])
            loss = sum(losses) / len(losses) if losses else None
            points.append(Point(event["step"], round(event["step"] / steps_per_epoch, 3), loss, event["value"]))
            start = number
    return points


def opened(points: Sequence[Point], metric: str) -> Point | None:
    """The evaluation after which valid got no better while the training loss fell on by a quarter; None where the last
    one is the best, or the loss did not fall on."""
    known = [point for point in points if point.valid is not None and point.train_loss is not None]
    if not known:
        return None
    sign = 1 if rising(metric) else -1
    best = max(known, key=lambda point: (sign * (point.valid or 0.0), -point.step))
    assert best.train_loss is not None and known[-1].train_loss is not None
    fell = best.train_loss - known[-1].train_loss > FELL * abs(best.train_loss)
    return best if best is not known[-1] and fell else None


def unfinished(losses: Sequence[float], points: Sequence[Point], metric: str) -> bool:
    """Whether training stopped while it was still getting better: the loss of the steps fell until the end, and the
    last evaluation, if there was one, is the best."""
    quarter = len(losses) // 4
    if not quarter:
        return False
    before, last = (sum(some) / quarter for some in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    values = [(1 if rising(metric) else -1) * point.valid for point in points if point.valid is not None]
    return before - last > FALLING * abs(before) and (not values or values[-1] >= max(values))


def diagnose(found: Evidence) -> Diagnosis:
    """The finding, by the rules that stand at the top of this page."""
    if None in (*found.train.values(), *found.judged.values(), *found.gap.values()):
        return Diagnosis("cannot be told", f"its rows do not define {found.metric}: nothing can be said of its fit")
    train, judged, gap = found.train["value"], found.judged["value"], found.gap
    sign, chance = 1 if rising(found.metric) else -1, found.chance or 0.0
    scores = f"train {train:.3g}, {found.judged_on} {judged:.3g}"
    learnt = sign * (train - chance)
    perfect = 0.0 if found.metric in ZERO_IS_PERFECT else 1.0
    way = sign * (perfect - chance)
    fitted = learnt >= (1 - MATERIAL) * way
    sure = learnt >= MATERIAL * way and gap["low"] > 0 and gap["value"] >= MATERIAL * learnt
    if sure or (not fitted and found.opened is not None):
        return _overfit(found, scores)
    if better := _better(found, sign, fitted):
        return Diagnosis("larger model", f"{scores}: underfits, for {better}")
    if learnt <= 0:
        return Diagnosis("cannot be told", f"{scores}: no better than a model that reads nothing ({chance:.3g})")
    if gap["high"] >= UNSURE * learnt:
        ends = f"[{gap['low']:.3g}, {gap['high']:.3g}]"
        return Diagnosis("cannot be told", f"{scores}: too few rows to tell whether it overfits (gap {ends})")
    if fitted:
        return Diagnosis("nothing to change", f"{scores}: fits its rows, and carries over to others")
    why = "no baseline is better, and training had settled: a larger model, or rows that cannot be told apart better"
    return Diagnosis("cannot be told", f"{scores}: does not overfit, and what is lacking cannot be told: {why}")


def _overfit(found: Evidence, scores: str) -> Diagnosis:
    since = "" if found.opened is None else f" since epoch {found.opened.epoch:.3g}"
    what = f"{scores}: overfits{since}"
    if found.gain is None:
        return Diagnosis("more regularization", f"{what}; more regularization or more data")
    if found.gain >= CLOSES * found.gap["value"]:
        helps = f"twice the rows would likely bring {found.gain:.2g}"
        return Diagnosis("more data", f"{what}; more data would help most ({helps}), more regularization next")
    return Diagnosis("more regularization", f"{what}; more regularization, for more such rows would hardly help")


def _better(found: Evidence, sign: int, fitted: bool) -> str:
    """The signs that better can be had, and what to do; "" where there is none."""
    unfinished = found.unfinished and not fitted
    signs = ["the loss was still falling"] * unfinished
    if found.baseline is not None:
        name, score = found.baseline
        if sign * score > max(sign * found.judged["low"], sign * found.judged["high"]):
            signs.append(f"{name} has {score:.3g}")
    first = "train longer, then " if unfinished else ""
    return f"{' and '.join(signs)}; {first}a larger model, or more of it trained" if signs else ""
