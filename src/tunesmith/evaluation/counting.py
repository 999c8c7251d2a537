"""What metrics are made of, for many resamples at once: counts of right and wrong, areas under curves, ranks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.errors import RecipeError
from tunesmith.tasks.task import Target, decided_label, decided_labels


@dataclass(frozen=True)
class Counts:
    """Rows of each class, (resamples, classes): predicted rightly, predicted, and true."""

    right: Tensor
    predicted: Tensor
    true: Tensor
    whole: Tensor
    """Rows that are right in all their labels, (resamples,)."""
    num_rows: int
    several: bool = False
    """Whether a row may have several labels."""

    @property
    def precision(self) -> Tensor:
        """0 where a class is never predicted (as in scikit-learn, and so for the two below)."""
        return share(self.right, self.predicted)

    @property
    def recall(self) -> Tensor:
        return share(self.right, self.true)

    @property
    def f1(self) -> Tensor:
        """The harmonic mean of precision and recall."""
        return share(2 * self.right, self.predicted + self.true)

    @property
    def occurs(self) -> Tensor:
        """Which classes are true or predicted somewhere."""
        return self.predicted + self.true > 0


Metric = Callable[[Tensor, Tensor, Target], Tensor]


def of_decisions(measure: Callable[[Counts, Target], Tensor]) -> Metric:
    """The metric of a function of Counts: one that thresholds change. They are chosen by its attribute `of_counts`,
    which is that function, because the Counts of every threshold are known after one sorting."""

    @functools.wraps(measure)
    def metric(codes: Tensor, chances: Tensor, target: Target) -> Tensor:
        return measure(count(codes, chances, target), target)

    metric.of_counts = measure  # type: ignore[attr-defined]
    return metric


def of_shares(parts: Callable[[Counts, Target], tuple[Tensor, Tensor]]) -> Metric:
    """The metric of decisions that is a share of independent rows, of a function that tells how many of how many. Its
    attribute `shares` is that function: such a metric has an exact interval."""

    @functools.wraps(parts)
    def measure(counts: Counts, target: Target) -> Tensor:
        return share(*parts(counts, target))

    metric = of_decisions(measure)
    metric.shares = parts  # type: ignore[attr-defined]
    return metric


def count(codes: Tensor, chances: Tensor, target: Target) -> Counts:
    """The Counts of codes (resamples, rows[, labels]), decided at the target's thresholds."""
    if codes.dim() == 3:
        several, truth = decided_labels(chances, target), codes > 0.5
        right, predicted, true = (some.sum(1).double() for some in (several & truth, several, truth))
        whole = (several == truth).all(-1).sum(1).double()
        return Counts(right, predicted, true, whole, codes.shape[1], several=True)
    told = decided_label(chances, target)
    nothing = torch.zeros(len(codes), chances.shape[-1], dtype=torch.float64)
    each = torch.ones(codes.shape, dtype=torch.float64)
    right = nothing.scatter_add(1, codes, (told == codes).double())
    predicted, true = (nothing.scatter_add(1, some, each) for some in (told, codes))
    return Counts(right, predicted, true, right.sum(1), codes.shape[1])


def macro(values: Tensor, counts: Counts) -> Tensor:
    """The mean over the classes that occur; over all labels where a row may have several."""
    return values.mean(1) if counts.several else values.where(counts.occurs, torch.nan).nanmean(1)


def positive(values: Tensor, target: Target) -> Tensor:
    """The value of the positive label."""
    if target.positive is None:
        raise RecipeError("this metric is about the positive label of a binary task", remedy="use the _macro form")
    return values[:, target.positive]


def one_against_rest(
    area: Callable[[Tensor, Tensor], Tensor], codes: Tensor, chances: Tensor, target: Target
) -> Tensor:
    """The mean over the classes that have both rows that belong and rows that do not; NaN where there is none."""
    classes = range(target.num_outputs) if target.positive is None else [target.positive]
    found = []
    for index in classes:
        belongs = codes[..., index] > 0.5 if codes.dim() == 3 else codes == index
        both = belongs.any(1) & ~belongs.all(1)
        found.append(area(belongs, chances[..., index]).where(both, torch.nan))
    return torch.stack(found).nanmean(0)


def roc_area(belongs: Tensor, chances: Tensor) -> Tensor:
    """Of (resamples, rows): the share of pairs of a row that belongs and one that does not in which the first has the
    higher probability, an equal one counting half (Hanley & McNeil 1982)."""
    hits, before, misses, misses_before = _steps(belongs, chances)
    area = ((misses - misses_before) * (hits + before)).sum(1) / 2
    return area / (hits[:, -1] * misses[:, -1])


def precision_recall_area(belongs: Tensor, chances: Tensor) -> Tensor:
    """Of (resamples, rows): the sum of precision times the gain in recall over falling thresholds, no interpolation."""
    hits, before, misses, _ = _steps(belongs, chances)
    return ((hits - before) * hits / (hits + misses).clamp(min=1)).sum(1) / hits[:, -1]


def ranks(values: Tensor) -> Tensor:
    """The ranks of (resamples, rows) from 1 on, equal values at their mean rank."""
    values = values.contiguous()
    ordered = values.sort(1).values
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + upto + 1).double() / 2


def single(counts: Counts, name: str) -> None:
    """Refuse several labels a row."""
    if counts.several:
        raise RecipeError(f'"{name}" is for one label a row', where="evaluate.metrics", remedy="leave it out")


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole; 0 where there is nothing."""
    return part / whole.clamp(min=1)


def _steps(belongs: Tensor, chances: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows that belong at or over each row's probability, and over it alone; the same of rows that do not belong.

    In the order of falling probabilities. Of rows with an equal one, all but the last repeat the values before them,
    so that they add nothing to a sum of differences."""
    order = chances.argsort(1, descending=True)
    ordered, truth = chances.gather(1, order), belongs.gather(1, order)
    last = torch.ones_like(truth)
    last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    found = []
    for some in (truth, ~truth):
        upto = torch.where(last, some.cumsum(1), 0).cummax(1).values.double()
        found += [upto, torch.cat([torch.zeros_like(upto[:, :1]), upto[:, :-1]], 1)]
    return found[0], found[1], found[2], found[3]
