"""Scores with their 95 % intervals: percentile bootstrap over the rows (Efron & Tibshirani 1993)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith import plugins
from tunesmith.evaluation.counting import by_class
from tunesmith.evaluation.metrics import FALLING
from tunesmith.evaluation.predict import Predictions
from tunesmith.seeds import fold
from tunesmith.tasks.task import Target

RESAMPLES, SLOW_RESAMPLES = 1000, 200
"""Resamples of the metrics, which are computed for many at once, and of a person's own, which are not."""

CHUNK = 250_000
"""Numbers that are resampled at a time: few enough for a processor to keep at hand."""

Own = Callable[[list[Any], list[Any]], float]
"""A person's own metric: (true values, predicted values) -> number."""


def rising(name: str) -> bool:
    """Whether more of this metric is better; a metric of another package says otherwise by an attribute `falling`."""
    known = name in plugins.names("metric")
    return name not in FALLING and not (known and getattr(plugins.get("metric", name), "falling", False))


def score(
    predictions: Predictions, names: Sequence[str], own: Sequence[Own] = (), *, classes: bool = True
) -> dict[str, Any]:
    """metric -> {value, low, high} over the rows whose target is known, and `classes` -> label -> metric alike."""
    codes, chances = known(predictions)
    result: dict[str, Any] = {}
    for name in names:
        function = plugins.get("metric", name)
        result[name] = _interval(function, codes, chances, predictions.target)
    for metric in own:
        result[metric.__name__] = _own_interval(metric, predictions)
    if classes and predictions.task.name != "regression":
        result["classes"] = _by_class(codes, chances, predictions.target)
    return result


def value(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> float:
    """The score alone, without an interval: what decides during training."""
    for metric in own:
        if metric.__name__ == name:
            return float(metric(_truth(predictions), predictions.decoded))
    codes, chances = known(predictions)
    return float(plugins.get("metric", name)(codes[None], chances[None], predictions.target)[0])


def share_better(first: Predictions, second: Predictions, name: str, own: Sequence[Own] = ()) -> float:
    """The share of resamples of the rows on which the second predictions score better than the first; equal scores
    count half (paired bootstrap: Efron & Tibshirani 1993), and one that a metric is not defined on does not count."""
    drawn = [resamples(predictions, name, own) for predictions in (first, second)]
    gain = (drawn[1] - drawn[0]) * (1 if rising(name) else -1)
    gain = gain[~np.isnan(gain)]
    return float(((gain > 0) + 0.5 * (gain == 0)).mean()) if len(gain) else 0.5


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


def _resamples(num_rows: int, count: int, width: int) -> Iterator[Tensor]:
    """Row numbers drawn with replacement, (resamples, rows) a chunk; the same for every metric and run."""
    random = torch.Generator().manual_seed(fold(0, "bootstrap", num_rows))
    step = max(1, CHUNK // max(1, num_rows * width))
    for start in range(0, count, step):
        yield torch.randint(num_rows, (min(step, count - start), num_rows), generator=random)


def resamples(predictions: Predictions, name: str, own: Sequence[Own] = ()) -> np.ndarray:
    """The score on each of the resamples of the rows, which are the same rows for every model that answered them: what
    two models differ by has an interval of its own."""
    for metric in own:
        if metric.__name__ == name:
            return _own_drawn(metric, predictions)
    codes, chances = known(predictions)
    return _drawn(plugins.get("metric", name), codes, chances, predictions.target)


def _drawn(function: Callable[..., Tensor], codes: Tensor, chances: Tensor, target: Target) -> np.ndarray:
    drawn = [
        function(codes[rows], chances[rows], target) for rows in _resamples(len(codes), RESAMPLES, chances.shape[-1])
    ]
    return np.asarray(torch.cat(drawn).double().numpy())


def _interval(function: Callable[..., Tensor], codes: Tensor, chances: Tensor, target: Target) -> dict[str, float]:
    point = function(codes[None], chances[None], target)[0]
    return _range(float(point), _drawn(function, codes, chances, target))


def _by_class(codes: Tensor, chances: Tensor, target: Target) -> dict[str, Any]:
    points = dict(by_class(codes[None], chances[None], target))
    drawn: dict[str, list[Tensor]] = {name: [] for name in points}
    for rows in _resamples(len(codes), RESAMPLES, chances.shape[-1]):
        for name, values in by_class(codes[rows], chances[rows], target):
            drawn[name].append(values)
    result: dict[str, Any] = {}
    for index, label in enumerate(target.labels):
        rows = codes[:, index].sum() if codes.dim() == 2 else (codes == index).sum()
        result[label] = {"rows": int(rows)}
        for name, values in points.items():
            spread = torch.cat(drawn[name])[:, index].double().numpy()
            result[label][name] = _range(float(values[0, index]), spread)
    return result


def _own_interval(metric: Own, predictions: Predictions) -> dict[str, float]:
    return _range(float(metric(_truth(predictions), predictions.decoded)), _own_drawn(metric, predictions))


def _own_drawn(metric: Own, predictions: Predictions) -> np.ndarray:
    """A person's own metric on resamples of the rows, the same for all predictions of so many rows."""
    truth, decoded = _truth(predictions), predictions.decoded
    random = np.random.Generator(np.random.PCG64(fold(0, "bootstrap")))
    drawn = []
    for _ in range(SLOW_RESAMPLES):
        rows = random.integers(len(truth), size=len(truth))
        drawn.append(float(metric([truth[i] for i in rows], [decoded[i] for i in rows])))
    return np.array(drawn)


def _truth(predictions: Predictions) -> list[Any]:
    from tunesmith.evaluation.predict import readable

    assert predictions.codes is not None
    return readable(predictions.codes, predictions.target)


def _range(point: float, drawn: np.ndarray) -> dict[str, Any]:
    """The point with the ends of its interval; NaN (a metric that these rows do not define) is written as null."""
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (math.nan, math.nan)
    values = {"value": point, "low": float(low), "high": float(high)}
    return {name: None if math.isnan(number) else number for name, number in values.items()}


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
