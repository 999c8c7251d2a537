"""The report's section on answers beside targets: a confusion matrix, or predicted values over true ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tunesmith.delivery.reporting.drawings import Lines, Matrix, Series
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number
from tunesmith.delivery.reporting.reading import Reading

MOST_LABELS = 30
"""More do not fit into a matrix that can be read."""
MOST_PAIRS = 10
PARTS = 10
"""Into so many parts at most the rows of a regression are cut, by their true value."""


def answers(reading: Reading) -> Section | None:
    """Nothing for several labels of a row: there the classes are apart."""
    rows = reading.predictions
    if rows is None or "target" not in rows.column_names or reading.task == "multilabel":
        return None
    pairs = [
        (target, answer)
        for target, answer in zip(rows["target"].to_pylist(), rows["prediction"].to_pylist(), strict=True)
        if target is not None
    ]
    if not pairs:
        return None
    return _values(reading, pairs) if reading.task == "regression" else _confusion(reading, pairs)


def _confusion(reading: Reading, pairs: list[tuple[Any, Any]]) -> Section:
    words, counts, labels = reading.words, Counter(pairs), [str(label) for label in reading.target["labels"]]
    matrix = [[counts[one, other] for other in labels] for one in labels]
    figures = []
    if len(labels) <= MOST_LABELS:
        title = words("answers.matrix")
        rows = [[label, *(count(cell) for cell in row)] for label, row in zip(labels, matrix, strict=True)]
        table = Table(title, [words("answers.corner"), *labels], rows)
        drawing = Matrix(labels, matrix, words("head.predicted"), words("head.true"))
        figures = [Figure("confusion", title, words("answers.matrix_about"), drawing, table)]
    wrong = [(pair, found) for pair, found in counts.most_common() if pair[0] != pair[1]]
    if not wrong:
        return Section("answers", [words("answers.none_wrong", rows=f"{len(pairs):,}")], figures)
    of = Counter(target for target, _ in pairs)
    often = [
        [str(target), str(answer), count(found), f"{found / of[target]:.0%}"]
        for (target, answer), found in wrong[:MOST_PAIRS]
    ]
    headings = [words(f"head.{name}") for name in ("true", "predicted", "rows", "share_of_class")]
    table = Table(words("answers.often"), headings, often)
    total = sum(found for _, found in wrong)
    note = words("answers.wrong", wrong=f"{total:,}", rows=f"{len(pairs):,}")
    return Section("answers", [note], figures, [table])


def _values(reading: Reading, pairs: list[tuple[float, float]]) -> Section:
    """Where the predictions lie in each part of the true values."""
    words = reading.words
    values = np.array(pairs, dtype=float)
    parts = _parts(values)
    middle = [(float(part[:, 0].mean()), float(np.median(part[:, 1]))) for part in parts]
    spread = [(float(low), float(high)) for low, high in (np.quantile(part[:, 1], [0.1, 0.9]) for part in parts)]
    rows = [
        [
            f"{number(part[0, 0])} – {number(part[-1, 0])}",
            count(len(part)),
            number(float(part[:, 0].mean())),
            number(point[1]),
            number(ends[0]),
            number(ends[1]),
            number(float(np.abs(part[:, 0] - part[:, 1]).mean())),
        ]
        for part, point, ends in zip(parts, middle, spread, strict=True)
    ]
    names = ("true_range", "rows", "true_mean", "predicted_median", "predicted_low", "predicted_high", "error")
    title = words("answers.values")
    table = Table(title, [words(f"head.{name}") for name in names], rows)
    series = [Series(words("head.predicted_median"), middle, spread, marks=True)]
    drawing = Lines(series, words("head.true"), words("head.predicted"), diagonal=words("answers.exact"))
    return Section("answers", [], [Figure("values", title, words("answers.values_about"), drawing, table)])


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """Rows (true, predicted) in parts from the lowest true values to the highest; rows of one true value stay together.

    >>> [part.tolist() for part in _parts(np.array([[3, 2.5], [1, 1.5], [3, 3.5]]))]
    [[[1.0, 1.5]], [[3.0, 2.5], [3.0, 3.5]]]
    """
    values = values[np.argsort(values[:, 0], kind="stable")]
    distinct = np.unique(values[:, 0])
    ends = distinct if len(distinct) <= PARTS else np.unique(np.quantile(values[:, 0], np.arange(1, PARTS) / PARTS))
    part = np.searchsorted(ends, values[:, 0])
    return [values[part == place] for place in np.unique(part)]
