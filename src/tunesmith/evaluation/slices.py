"""Slices of the judged rows (by label, length, size, column): which are worse than the rest by more than chance.

A slice is judged by a figure that each row has of its own: the deciding metric where that is a mean over the rows, else
whether the row is right, or the size of its error. A figure over classes, such as F1 or AUROC, differs between two
groups as soon as their classes do. Each slice is held against all rows outside it; the p-values are adjusted
together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from tunesmith import plugins
from tunesmith.data import features, media
from tunesmith.data.profile import numbers
from tunesmith.data.shapes import shape
from tunesmith.data.table import Table
from tunesmith.evaluation.intervals import known_rows, rising
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.two_groups import compared, holm

MEANS = ("accuracy", "log_loss", "brier", "mse", "mae")
"""Metrics that are means of a figure that each row has."""
FEWEST = 5
"""Slices of fewer rows, and those that all rows but fewer are in, are counted and not tested."""
SURE = 0.05
"""A slice is worse where its adjusted p-value is below."""
FEW_VALUES, EACH = 20, 20
"""A column that nobody named makes slices of its values where it has at most so many, of so many rows each."""
MOST_VALUES = 50
"""Of a column that was named, the most frequent values make slices."""
QUARTERS = {
    "length": ("shortest", "second", "third", "longest"),
    "size": ("smallest", "second", "third", "largest"),
    "column": ("lowest", "second", "third", "highest"),
}

Kind = Literal["class", "rare", "length", "size", "column"]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """Some of the judged rows: what they have in common, and which they are."""

    name: str
    kind: Kind
    value: str
    rows: Flags
    column: str | None = None


@dataclass(frozen=True)
class Judged:
    """The rows that were judged, as their source has them: what slices are made by."""

    table: Table
    rows: npt.NDArray[np.int64]
    """Their numbers in the table."""
    inputs: Sequence[str]
    modality: str
    lengths: np.ndarray | None
    """Of all rows of the table, as the model reads them."""
    asked: Sequence[str] | Literal["auto"] = "auto"
    """Columns, of which those count that are there; "auto": those of few values that are neither input nor target."""


def score_slices(predictions: Predictions, select: str, judged: Judged) -> list[dict[str, Any]]:
    """Every slice of the rows whose target is known, with its figure, that of the rest, their difference and whether it
    is worse, as `scores.json` has them."""
    assert predictions.codes is not None
    kept = np.flatnonzero(known_rows(predictions.codes))
    predictions, judged = predictions.take(kept), replace(judged, rows=judged.rows[kept])
    metric, figures = _figures(predictions, select)
    is_rising, found = rising(metric), list[dict[str, Any]]()
    for one in _slices(predictions, judged):
        recall = one.kind == "class" and metric == "accuracy" and predictions.task.name == "classification"
        about = {"slice": one.name, "kind": one.kind, "column": one.column, "value": one.value}
        found.append(about | {"rows": int(one.rows.sum()), "metric": "recall" if recall else metric})
        found[-1] |= _compared(figures[one.rows], figures[~one.rows], is_rising)
    tested = [entry for entry in found if entry["p"] is not None]
    for entry, adjusted in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        entry |= {"p_adjusted": adjusted, "worse": adjusted < SURE}
    return found


def _figures(predictions: Predictions, select: str) -> tuple[str, npt.NDArray[np.float64]]:
    """The metric that slices are judged by, and what it is for each row alone."""
    usual = "mae" if predictions.task.name == "regression" else "accuracy"
    name = select if select in MEANS else usual
    codes, chances = (torch.from_numpy(some)[:, None] for some in (predictions.codes, predictions.probabilities))
    return name, plugins.get("metric", name)(codes, chances, predictions.target).double().numpy()


def _compared(group: np.ndarray, rest: np.ndarray, is_rising: bool) -> dict[str, Any]:
    """What `scores.json` says of a slice's figures beside the rest's; nothing where either has too few rows."""
    if min(len(group), len(rest)) < FEWEST:
        none = {"value": None, "low": None, "high": None}
        return {"value_of": none, "rest": None, "difference": none, "p": None, "p_adjusted": None, "worse": False}
    found = compared(group, rest, rising=is_rising)
    value, difference = (
        {"value": point, "low": low, "high": high}
        for point, (low, high) in ((found.value, found.ends), (found.difference, found.difference_ends))
    )
    return {"value_of": value, "rest": found.rest, "difference": difference, "p": found.worse}


def _slices(predictions: Predictions, judged: Judged) -> Iterator[Slice]:
    """All slices: labels, rare labels, lengths, sizes, columns."""
    yield from _by_label(predictions)
    if judged.lengths is not None:
        unit = " tokens" if judged.modality == "text" else ""
        yield from _quarters(judged.lengths[judged.rows].astype(float), f"{judged.modality} length", "length", unit)
    if judged.modality == "image" and judged.table.arrow is not None:
        shapes = [shape(value) for value in media.values_of(judged.table, judged.inputs[0], judged.rows)]
        pixels = [np.nan if shape is None else shape[1] * shape[2] for shape in shapes]
        yield from _quarters(np.array(pixels, float), "image size", "size", " pixels")
    known = {*judged.inputs, *predictions.target.columns}
    if judged.asked != "auto":
        for name in filter(judged.table.column_names.__contains__, judged.asked):
            yield from _by_column(name, judged.table.column(name).take(pa.array(judged.rows)), named=True)
    elif judged.table.arrow is not None:
        taken = judged.table.take(judged.rows)
        for name in taken.column_names:
            if name not in known and not features.why_not(taken, name):
                yield from _by_column(name, taken.column(name), named=False)


def _by_label(predictions: Predictions) -> Iterator[Slice]:
    """The rows of each label, and those of the rare labels together: of fewer than half as many training rows as the
    labels have on average."""
    target, codes = predictions.target, predictions.codes
    if predictions.task.name == "regression":
        return
    assert codes is not None
    has: Flags = codes > 0.5 if codes.ndim == 2 else codes[:, None] == np.arange(target.num_outputs)
    for number, label in enumerate(target.labels):
        yield Slice(f'label "{label}"', "class", label, has[:, number])
    few = sum(target.counts) / (2 * len(target.labels))
    rare = [number for number, count in enumerate(target.counts) if count < few]
    if len(rare) > 1:
        named = ", ".join(target.labels[number] for number in rare)
        yield Slice(f"rare labels: {named}", "rare", named, np.asarray(has[:, rare].any(1)))


def _by_column(name: str, values: pa.ChunkedArray, *, named: bool) -> Iterator[Slice]:
    """The rows of each value of a column; numbers of many values in quarters."""
    amounts = numbers(values)
    missing = features.is_missing(values)
    texts = np.array(features.texts(values).to_pylist(), object)
    texts[missing] = "missing"
    distinct, counts = np.unique(texts.astype(str), return_counts=True)
    if len(distinct) > FEW_VALUES and not np.isnan(amounts[~missing]).any():
        if named or len(values) >= 4 * EACH:
            yield from _quarters(amounts, name, "column")
        return
    if len(distinct) > FEW_VALUES and not named:
        return
    frequent = sorted(np.argsort(-counts, kind="stable")[:MOST_VALUES])
    for number in frequent if len(distinct) > 1 else ():
        if named or counts[number] >= EACH:
            value = str(distinct[number])
            yield Slice(f"{name} = {value}", "column", value, texts == value, name)


def _quarters(amounts: np.ndarray, name: str, kind: Kind, unit: str = "") -> Iterator[Slice]:
    """The rows by the quarter that their amount is in, and those without one; of equal amounts fewer than four."""
    known = ~np.isnan(amounts)
    column = name if kind == "column" else None
    if not known.any():
        return
    parts = np.searchsorted(np.quantile(amounts[known], [0.25, 0.5, 0.75]), amounts)
    for part, which in enumerate(QUARTERS[kind]):
        rows = known & (parts == part)
        if rows.any() and not rows.all():
            ends = dict.fromkeys(f"{end:,.6g}" for end in (amounts[rows].min(), amounts[rows].max()))
            yield Slice(f"{name}: {which} quarter", kind, f"{' to '.join(ends)}{unit}", rows, column)
    if not known.all():
        yield Slice(f"{name}: missing", kind, "missing", ~known, column)
