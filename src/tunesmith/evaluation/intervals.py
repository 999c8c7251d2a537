"""Scores with their 95 % intervals: exact where a metric is a share of rows, else the BCa bootstrap over the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith import plugins
from tunesmith.evaluation.counting import count
from tunesmith.evaluation.metrics import FALLING
from tunesmith.evaluation.predict import Predictions, readable
from tunesmith.seeds import fold

RESAMPLES, SLOW_RESAMPLES = 1000, 200
"""Resamples of the metrics, which are computed for many at once, and of a person's own, which are not."""

LEFT_OUT, SLOW_LEFT_OUT = 200, 50
"""Groups of rows that are left out in turn, to learn how skew a metric is."""

CHUNK = 250_000
"""Numbers that are resampled at a time: few enough for a processor to keep at hand."""

LEVEL = 0.95

Own = Callable[[list[Any], list[Any]], float]
"""A person's own metric: (true values, predicted values) -> number."""


@dataclass(frozen=True)
class Measure:
    """A metric of some predictions: (resamples, rows) row numbers -> (resamples,) or (resamples, classes) values."""

    values: Callable[[Tensor], np.ndarray]
    num_rows: int
    width: int
    slow: bool = False

    @property
    def point(self) -> Any:
        """The metric of the rows as they are."""
        return self.values(torch.arange(self.num_rows)[None])[0]

    def drawn(self) -> np.ndarray:
        """The metric on resamples of the rows, drawn with replacement: the same for all predictions of so many rows."""
        random = torch.Generator().manual_seed(fold(0, "bootstrap", self.num_rows))
        num_left, step = SLOW_RESAMPLES if self.slow else RESAMPLES, self._step
        found = []
        while num_left > 0:
            rows = torch.randint(self.num_rows, (min(step, num_left), self.num_rows), generator=random)
            found.append(self.values(rows))
            num_left -= step
        return np.concatenate(found)

    def left_out(self) -> np.ndarray:
        """The metric without each of the rows, or of many without each of some groups of them, drawn by lot."""
        groups = min(self.num_rows, SLOW_LEFT_OUT if self.slow else LEFT_OUT)
        order = torch.randperm(self.num_rows, generator=torch.Generator().manual_seed(fold(0, "jackknife")))
        size = self.num_rows // groups
        kept = torch.stack([torch.cat([order[: i * size], order[(i + 1) * size :]]) for i in range(groups)])
        return np.concatenate([self.values(kept[i : i + self._step]) for i in range(0, groups, self._step)])

    @property
    def _step(self) -> int:
        return max(1, CHUNK // max(1, self.num_rows * self.width))


def rising(name: str) -> bool:
    """Whether more of this metric is better; a metric of another package says otherwise by an attribute `falling`."""
    known = name in plugins.names("metric")
    return name not in FALLING and not (known and getattr(plugins.get("metric", name), "falling", False))


def score(
    predictions: Predictions, names: Sequence[str], own: Sequence[Own] = (), *, classes: bool = True
) -> dict[str, Any]:
    """metric -> {value, low, high} over the rows whose target is known, and `classes` -> label -> metric alike."""
    result = {name: interval(predictions, name) for name in names}
    result |= {metric.__name__: interval(predictions, metric.__name__, own) for metric in own}
    if classes and predictions.task.name != "regression":
        result["classes"] = _by_class(predictions)
    return result


def interval(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> dict[str, Any]:
    """{value, low, high} of one metric."""
    mine = any(metric.__name__ == name for metric in own)
    shares = None if mine else getattr(plugins.get("metric", name), "shares", None)
    if shares is None:
        return _bca(measure_of(predictions, name, own))
    codes, chances = known(predictions)
    part, whole = shares(count(codes[None], chances[None], predictions.target), predictions.target)
    return exact(float(part), float(whole))


def gap(first: Predictions, second: Predictions, name: str, own: Sequence[Own] = ()) -> dict[str, Any]:
    """{value, low, high} of how much better the first predictions score than the second, of other rows: the bootstrap
    of two independent samples."""
    sign = 1 if rising(name) else -1
    point = value(first, name, own) - value(second, name, own)
    drawn = resamples(first, name, own) - resamples(second, name, own)
    return _range(sign * point, sign * drawn, np.empty(0))


def value(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> float:
    """The score alone, without an interval: what decides during training."""
    return float(measure_of(predictions, name, own).point)


def difference(first: Predictions, second: Predictions, name: str, own: Sequence[Own] = ()) -> dict[str, Any]:
    """By how much the second predictions of the same rows are better than the first, {value, low, high}, positive where
    they are; `share_better`: of the resamples, equal scores counting half (paired bootstrap: Efron & Tibshirani 1993).

    A resample that a metric is not defined on does not count."""
    sign = 1 if rising(name) else -1
    one, other = (measure_of(predictions, name, own) for predictions in (first, second))
    gain = Measure(lambda rows: sign * (other.values(rows) - one.values(rows)), one.num_rows, one.width, one.slow)
    drawn = gain.drawn()
    known_ones = drawn[~np.isnan(drawn)]
    better = ((known_ones > 0) + 0.5 * (known_ones == 0)).mean() if len(known_ones) else 0.5
    return _bca(gain, drawn) | {"share_better": float(better)}


def share_better(first: Predictions, second: Predictions, name: str, own: Sequence[Own] = ()) -> float:
    """The share of resamples of the rows on which the second predictions score better than the first."""
    return float(difference(first, second, name, own)["share_better"])


def resamples(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> np.ndarray:
    """The score on each of the resamples of the rows."""
    return measure_of(predictions, name, own).drawn()


def known(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Codes and probabilities of the rows whose target is known."""
    assert predictions.codes is not None
    kept = known_rows(predictions.codes)
    return torch.from_numpy(predictions.codes[kept]), torch.from_numpy(predictions.probabilities[kept])


def known_rows(codes: np.ndarray) -> np.ndarray:
    """Which rows have a target that training knows: no unseen label, no missing number."""
    if codes.dtype.kind == "f":
        return np.asarray(~np.isnan(codes).reshape(len(codes), -1).any(1))
    return np.asarray(codes >= 0)


def measure_of(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> Measure:
    """The metric of that name, or the person's own, on the rows of these predictions whose target is known."""
    for metric in own:
        if metric.__name__ == name:
            return _own(metric, predictions)
    function = plugins.get("metric", name)
    codes, chances = known(predictions)
    target = predictions.target

    def values(rows: Tensor) -> np.ndarray:
        return np.asarray(function(codes[rows], chances[rows], target).double().numpy())

    return Measure(values, len(codes), chances.shape[-1])


def exact(part: float, whole: float) -> dict[str, float]:
    """A share of independent rows with its interval by the binomial distribution (Clopper & Pearson 1934); of no rows
    the share is 0 and could be anything.

    >>> {name: round(number, 4) for name, number in exact(10, 10).items()}
    {'value': 1.0, 'low': 0.6915, 'high': 1.0}
    """
    from scipy.special import betaincinv

    tail = (1 - LEVEL) / 2
    low = float(betaincinv(part, whole - part + 1, tail)) if part > 0 else 0.0
    high = float(betaincinv(part + 1, whole - part, 1 - tail)) if part < whole else 1.0
    return {"value": part / whole if whole else 0.0, "low": low, "high": high}


def _own(metric: Own, predictions: Predictions) -> Measure:
    """A person's own metric gets what a person reads."""
    assert predictions.codes is not None
    kept = predictions.take(np.flatnonzero(known_rows(predictions.codes)))
    assert kept.codes is not None
    truth, decoded = readable(kept.codes, kept.target), kept.decoded

    def values(rows: Tensor) -> np.ndarray:
        return np.array([float(metric([truth[i] for i in some], [decoded[i] for i in some])) for some in rows.tolist()])

    return Measure(values, len(truth), 1, slow=True)


def _by_class(predictions: Predictions) -> dict[str, Any]:
    """Precision and recall of each class are shares of rows; its F1 is not."""
    codes, chances = known(predictions)
    target = predictions.target
    counts = count(codes[None], chances[None], target)

    def f1(rows: Tensor) -> np.ndarray:
        return np.asarray(count(codes[rows], chances[rows], target).f1.numpy())

    measure = Measure(f1, len(codes), chances.shape[-1])
    points, drawn, left_out = measure.point, measure.drawn(), measure.left_out()
    result: dict[str, Any] = {}
    for index, label in enumerate(target.labels):
        right, predicted, true = (float(each[0, index]) for each in (counts.right, counts.predicted, counts.true))
        result[label] = {"rows": int(true), "precision": exact(right, predicted), "recall": exact(right, true)}
        result[label]["f1"] = _range(float(points[index]), drawn[:, index], left_out[:, index])
    return result


def _bca(measure: Measure, drawn: np.ndarray | None = None) -> dict[str, Any]:
    drawn = measure.drawn() if drawn is None else drawn
    return _range(float(measure.point), drawn, measure.left_out())


def _range(point: float, drawn: np.ndarray, left_out: np.ndarray) -> dict[str, Any]:
    """The point with the ends of its interval; NaN (a metric that these rows do not define) is written as null.

    Bias-corrected and accelerated (Efron 1987): the percentiles are moved by how far the resamples lie beside the point
    and by how skew the metric is, which leaving rows out tells."""
    drawn, left_out = drawn[~np.isnan(drawn)], left_out[~np.isnan(left_out)]
    values = {"value": point, "low": math.nan, "high": math.nan}
    if len(drawn):
        below = ((drawn < point) + 0.5 * (drawn == point)).mean().clip(0.5 / len(drawn), 1 - 0.5 / len(drawn))
        bias = torch.special.ndtri(torch.tensor(below))
        apart = left_out.mean() - left_out if len(left_out) else np.zeros(1)
        spread = (apart**2).sum() ** 1.5
        acceleration = float((apart**3).sum() / (6 * spread)) if spread > 0 else 0.0
        ends = bias + torch.special.ndtri(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
        places = torch.special.ndtr(bias + ends / (1 - acceleration * ends)).numpy()
        values["low"], values["high"] = map(float, np.quantile(drawn, places))
    return {name: None if math.isnan(number) else float(number) for name, number in values.items()}


def shown(interval: dict[str, Any] | None) -> str:
    """A value with its interval for people.

    >>> shown({"value": 0.9, "low": 0.85, "high": 0.94})
    '0.900 [0.850, 0.940]'
    """
    if interval is None or interval["value"] is None:
        return "-"
    value, low, high = interval["value"], interval["low"], interval["high"]
    digits = 3 if abs(value) < 1000 else 0
    spread = "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{spread}"
