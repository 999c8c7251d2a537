"""Thresholds: from which probability on a label is decided: where a metric is best, or precision or recall is reached.

All thresholds between two neighbouring distinct probabilities decide alike, so that there is one more to try than there
are distinct probabilities. One sorting tells the Counts of all of them (Fawcett 2006, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tunesmith import plugins
from tunesmith.evaluation import intervals
from tunesmith.evaluation.counting import Counts, count
from tunesmith.evaluation.intervals import Own, rising
from tunesmith.evaluation.predict import Predictions
from tunesmith.tasks.task import Target, decided_labels

DEFAULT = 0.5

SAME = 1e-12
"""Values that differ by no more are equal: sums of the same numbers in another order."""

OWN_CUTS = 200
"""A person's own function is asked at most so many times, at cuts evenly spaced among the probabilities."""

CHUNK = 4_000_000
"""Numbers of Counts that are held at a time."""

Measure = Callable[[Counts, Target], Tensor]


@dataclass(frozen=True)
class Reached:
    """A threshold with what it has on the rows that chose it, and whether that is what was asked."""

    threshold: float
    precision: float
    recall: float
    reached: bool


@dataclass(frozen=True)
class Cuts:
    """All thresholds that decide differently, from none decided to all: cut i is any in (low[i], high[i]]."""

    low: Tensor
    high: Tensor
    decided: Tensor
    """Rows at or over the cut."""
    hits: Tensor
    """Those of them that belong."""
    whole: Tensor
    """Rows that are right in all their labels."""

    @classmethod
    def of(cls, chances: Tensor, belongs: Tensor, others: Tensor | None = None) -> Cuts:
        """The cuts of one label's probabilities (rows,); `others`: rows that are right in all other labels."""
        order = chances.argsort(descending=True)
        ordered, truth = chances[order], belongs[order]
        others = torch.ones_like(truth) if others is None else others[order]
        steps = torch.cat([torch.zeros(1, dtype=torch.bool), ordered[1:] != ordered[:-1]]).nonzero().squeeze(1)
        decided = torch.cat([torch.tensor([0]), steps, torch.tensor([len(ordered)])])
        bounds = torch.cat([torch.ones(1, dtype=ordered.dtype), ordered, torch.zeros(1, dtype=ordered.dtype)])
        high, low = bounds[decided], bounds[decided + 1]
        if ordered[0] >= 1:  # No probability is above: these rows are decided at every threshold.
            decided, high, low = decided[1:], high[1:], low[1:]
        hits, found, lost = (
            torch.cat([torch.zeros(1, dtype=torch.long), some.cumsum(0)])[decided].double()
            for some in (truth, others & truth, others & ~truth)
        )
        whole = found + (others & ~truth).sum() - lost
        return cls(low, high, decided.double(), hits, whole)

    def best(self, values: Tensor) -> float:
        """The threshold at which `values`, one a cut, are highest: 0.5 if it is among the best, else the middle of the
        stretch of best ones that is nearest to 0.5, told with as few digits as keep it near the middle."""
        values = torch.where(values.isnan(), -torch.inf, values)
        is_best = values >= values.max() - SAME
        edges = torch.diff(torch.cat([torch.tensor([False]), is_best, torch.tensor([False])]).int())
        starts, ends = (edges == 1).nonzero().squeeze(1), (edges == -1).nonzero().squeeze(1) - 1
        highs, lows = self.high[starts], self.low[ends]
        if ((lows < DEFAULT) & (highs >= DEFAULT)).any():
            return DEFAULT
        nearest = int(((lows + highs) / 2 - DEFAULT).abs().argmin())
        return _short(float(lows[nearest]), float(highs[nearest]))

    def reaching(self, metric: str, least: float) -> Reached:
        """Of the thresholds whose precision is at least that the lowest, which has the highest recall; for `recall` the
        highest, which decides fewest. Where there is none, that of the best precision."""
        precision, recall = self.hits / self.decided.clamp(min=1), self.hits / self.hits[-1].clamp(min=1)
        enough = ((precision if metric == "precision" else recall) >= least - SAME).nonzero().squeeze(1)
        if len(enough):
            place = int(enough[-1] if metric == "precision" else enough[0])
        else:
            place = int((precision >= precision.max() - SAME).nonzero()[-1])
        threshold = _short(float(self.low[place]), float(self.high[place]))
        return Reached(threshold, float(precision[place]), float(recall[place]), bool(len(enough)))

    def at(self, threshold: float) -> int:
        """The cut that a threshold is in."""
        return int((self.low >= threshold).sum().clamp(max=len(self.low) - 1))


def chosen(predictions: Predictions, rule: str, name: str, own: Sequence[Own] = ()) -> tuple[float, ...]:
    """The thresholds that a recipe asks for: "auto", where the metric `name` is best, or "precision >= 0.95"."""
    if rule == "auto":
        return best_thresholds(predictions, name, own)
    return tuple(found.threshold for found in reaching(predictions, rule))


def reaching(predictions: Predictions, rule: str) -> tuple[Reached, ...]:
    """The threshold of the positive label, or of each of several, at which these rows have what is asked: `rule` is
    "precision >= 0.95" or "recall >= 0.9"."""
    metric, _, least = rule.split()
    codes, chances = intervals.known(predictions)
    if codes.dim() == 2:
        pairs = [(chances[:, label], codes[:, label] > 0.5) for label in range(chances.shape[1])]
    else:
        positive = predictions.target.positive
        assert positive is not None
        pairs = [(chances[:, positive], codes == positive)]
    if not len(codes):
        return (Reached(DEFAULT, 0.0, 0.0, False),) * len(pairs)
    return tuple(Cuts.of(*pair).reaching(metric, float(least)) for pair in pairs)


def reached_at(predictions: Predictions, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """Precision and recall of the positive label, or of each of several, at these thresholds."""
    codes, chances = intervals.known(predictions)
    counts = count(codes[None], chances[None], predictions.target.at(thresholds))
    places = range(chances.shape[1]) if predictions.target.positive is None else [predictions.target.positive]
    return [(float(counts.precision[0, place]), float(counts.recall[0, place])) for place in places]


def best_thresholds(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> tuple[float, ...]:
    """The thresholds at which the metric of these rows is best: of the positive label, or of each of several.

    Exact over all cuts, but for `accuracy` of several labels and functions of your own. Several labels are chosen in
    turn, from 0.5 each, until none can make the metric better. For a mean over the labels that is the best there is.
    For `f1_micro` too: where no label alone can raise the share 2 right / (predicted + true) = s, each has the most
    2 right - s predicted that it can have, so all together have (Dinkelbach 1967). For `accuracy`, that a row is right
    in all its labels, better ones may exist for several labels moved at once. For a function of your own, all labels
    have one threshold, of at most 200 that are tried."""
    codes, chances = intervals.known(predictions)
    target = predictions.target.at(())
    num_thresholds = chances.shape[1] if codes.dim() == 2 else 1
    if not len(codes):
        return (DEFAULT,) * num_thresholds
    sign = 1.0 if rising(name) else -1.0
    if mine := [metric for metric in own if metric.__name__ == name]:
        threshold = _of_own(predictions, chances if codes.dim() == 2 else chances[:, target.positive], mine[0], sign)
        return (threshold,) * num_thresholds
    measure: Measure = plugins.get("metric", name).of_counts
    if codes.dim() == 2:
        return _of_several(codes, chances, target, lambda counts, target: sign * measure(counts, target))
    assert target.positive is not None
    belongs = codes == target.positive
    cuts = Cuts.of(chances[:, target.positive], belongs)
    return (cuts.best(sign * measure(_of_two(cuts, belongs, target), target)),)


def _of_two(cuts: Cuts, belongs: Tensor, target: Target) -> Counts:
    """The Counts of a binary task at each cut of its positive label."""

    def columns(positive: Tensor, other: Tensor) -> Tensor:
        return torch.stack([other, positive] if target.positive else [positive, other], 1)

    true = belongs.sum().double().expand_as(cuts.hits)
    rejected = len(belongs) - cuts.decided
    right = columns(cuts.hits, rejected - (true - cuts.hits))
    predicted = columns(cuts.decided, rejected)
    return Counts(right, predicted, columns(true, len(belongs) - true), right.sum(1), len(belongs))


def _of_several(codes: Tensor, chances: Tensor, target: Target, measure: Measure) -> tuple[float, ...]:
    """One threshold a label, in turn, until a whole round makes nothing better."""
    thresholds = [DEFAULT] * chances.shape[1]
    counts, truth, before = count(codes[None], chances[None], target), codes > 0.5, -torch.inf
    wrong = decided_labels(chances, target) != truth
    while True:
        for label in range(len(thresholds)):
            wrong[:, label] = False
            cuts = Cuts.of(chances[:, label], truth[:, label], ~wrong.any(1))
            values = _at_each(cuts, label, counts, lambda some: measure(some, target))
            thresholds[label] = cuts.best(values)
            wrong[:, label] = (chances[:, label].double() >= thresholds[label]) != truth[:, label]
            place = cuts.at(thresholds[label])
            counts.right[0, label], counts.predicted[0, label] = cuts.hits[place], cuts.decided[place]
            value = float(values[place])
        if not value > before + SAME:
            return tuple(thresholds)
        before = value


def _at_each(cuts: Cuts, label: int, counts: Counts, measure: Callable[[Counts], Tensor]) -> Tensor:
    """The metric at each cut of one label, the others as `counts` has them."""
    values = []
    step = max(1, CHUNK // counts.right.shape[1])
    for start in range(0, len(cuts.low), step):
        some = slice(start, start + step)
        right, predicted = (each.expand(len(cuts.low[some]), -1).clone() for each in (counts.right, counts.predicted))
        right[:, label], predicted[:, label] = cuts.hits[some], cuts.decided[some]
        true = counts.true.expand_as(right)
        values.append(measure(replace(counts, right=right, predicted=predicted, true=true, whole=cuts.whole[some])))
    return torch.cat(values)


def _of_own(predictions: Predictions, chances: Tensor, metric: Own, sign: float) -> float:
    """One threshold for a function of decoded values: each cut is a call, so that only some are tried."""
    flat = chances.flatten()
    cuts = Cuts.of(flat, torch.zeros_like(flat, dtype=torch.bool))
    places = np.unique([*np.linspace(0, len(cuts.low) - 1, OWN_CUTS).astype(int), cuts.at(DEFAULT)])
    values = torch.full((len(cuts.low),), -torch.inf, dtype=torch.float64)
    several = predictions.target.num_outputs if predictions.target.positive is None else 1
    for place in places:
        threshold = _short(float(cuts.low[place]), float(cuts.high[place]))
        decided = predictions.at((threshold,) * several)
        values[place] = sign * intervals.value(decided, metric.__name__, [metric])
    return cuts.best(values)


def _short(low: float, high: float) -> float:
    """A number in (low, high], of as few digits as keep it within a quarter of the middle.

    >>> _short(0.301, 0.322)
    0.31
    """
    middle = low + (high - low) / 2
    for digits in range(2, 18):
        number = round(middle, digits)
        if abs(number - middle) <= (high - low) / 4 and low < number <= high:
            return number
    return middle if low < middle else high
