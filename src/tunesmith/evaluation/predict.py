"""Predictions: row ids, targets, outputs and decoded values, computed once for every row on one or many ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from tunesmith.data.order import chunks
from tunesmith.models.stages import evaluating
from tunesmith.tasks.task import Target, Task

ROWS = 256
"""A forward pass takes at most so many rows."""


class Ranks(Protocol):
    """What predicting needs of the machine."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    def put(self, tensors: Any) -> dict[str, Tensor]: ...
    def autocast(self) -> contextlib.AbstractContextManager[Any]: ...
    def gather(self, value: Any) -> list[Any]: ...


class Rows(Protocol):
    """What predicting needs of encoded rows."""

    @property
    def lengths(self) -> np.ndarray | None: ...
    def batch(self, rows: np.ndarray) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Predictions:
    """`outputs` are the net's (rows, num_outputs); `codes` the true targets where they are known."""

    ids: np.ndarray
    codes: np.ndarray | None
    outputs: np.ndarray
    task: Task
    target: Target

    @property
    def probabilities(self) -> np.ndarray:
        """(rows, num_outputs); the values themselves for a regression."""
        return self.task.probabilities(self.outputs)

    @property
    def decoded(self) -> list[Any]:
        return self.task.decode(self.probabilities, self.target)

    def take(self, positions: np.ndarray) -> Predictions:
        """Some of the rows."""
        codes = None if self.codes is None else self.codes[positions]
        return Predictions(self.ids[positions], codes, self.outputs[positions], self.task, self.target)

    def at(self, thresholds: Sequence[float]) -> Predictions:
        """The same, decided at these thresholds; () = the most probable label, or 0.5 for each of several."""
        return replace(self, target=self.target.at(thresholds))

    def save(self, path: Path) -> None:
        """A Parquet file: id, target, prediction, probability_<label>."""
        columns: dict[str, Any] = {"id": self.ids.tolist()}
        if self.codes is not None:
            columns["target"] = readable(self.codes, self.target)
        columns["prediction"] = self.decoded
        columns.update(self.probability_columns())
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    @classmethod
    def load(cls, path: Path, task: Task, target: Target) -> Predictions:
        """What `save` wrote: its `outputs` are the probabilities already, or the values of a regression."""
        kept = pq.read_table(path)
        names = ["prediction"] if task.name == "regression" else [f"probability_{label}" for label in target.labels]
        outputs = np.stack([kept[name].to_numpy() for name in names], 1)
        codes = coded(kept["target"], target) if "target" in kept.column_names else None
        return cls(np.array(kept["id"].to_pylist()), codes, outputs, of_probabilities(task), target)

    def probability_columns(self) -> dict[str, np.ndarray]:
        """`probability_<label>` -> the probability of each row; nothing for a regression."""
        if self.task.name == "regression":
            return {}
        chances = self.probabilities
        return {f"probability_{label}": chances[:, i] for i, label in enumerate(self.target.labels)}


@torch.no_grad()
def outputs_of(
    net: nn.Module, encoded: Rows, rows: np.ndarray, machine: Ranks, done: Callable[[int], None] | None = None
) -> np.ndarray:
    """The net's outputs for `rows`, in their order: sorted by length, batched by tokens, shared among the ranks.

    Every row is computed once; the result is the same object on every rank. fp32 unless the machine says otherwise."""
    batches = _batches(rows, encoded.lengths, machine.tokens, getattr(encoded, "together", 32))
    mine: dict[int, np.ndarray] = {}
    with evaluating(net):
        for number in range(machine.rank, len(batches), machine.world):
            with machine.autocast():
                outputs = net(machine.put(encoded.batch(rows[batches[number]])))
            mine[number] = outputs.float().cpu().numpy()
            if done is not None:
                done(len(batches[number]))
    found = {number: values for part in machine.gather(mine) for number, values in part.items()}
    width = next(iter(found.values())).shape[1] if found else 0
    result = np.empty((len(rows), width), dtype=np.float32)
    for number, values in found.items():
        result[batches[number]] = values
    return result


def _batches(rows: np.ndarray, lengths: np.ndarray | None, tokens: int, together: int = 32) -> list[np.ndarray]:
    """Positions within `rows` that go through the net together: of like length, or so many where none is known."""
    if lengths is None:
        return [np.arange(start, min(start + together, len(rows))) for start in range(0, len(rows), together)]
    order = np.argsort(-lengths[rows], kind="stable")
    return [order[some] for some in chunks(lengths[rows][order], tokens, ROWS)]


def readable(codes: np.ndarray, target: Target) -> list[Any]:
    """Codes as a person wrote them: label names, lists of them, numbers."""
    if codes.ndim == 2:
        return [[target.labels[i] for i in np.flatnonzero(row)] for row in codes]
    if codes.dtype.kind == "f":
        return [float(code) for code in codes]
    return [target.labels[code] if code >= 0 else None for code in codes]


def coded(values: pa.ChunkedArray, target: Target) -> np.ndarray:
    """The codes again of what `readable` gave, as a column keeps it."""
    if pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy())
    if pa.types.is_list(values.type):
        return np.array([[label in row for label in target.labels] for row in values.to_pylist()], np.float32)
    index = {label: number for number, label in enumerate(target.labels)}
    return np.array([index.get(value, -1) for value in values.to_pylist()], np.int64)


def of_probabilities(task: Task) -> Task:
    """The task for predictions that are probabilities already."""
    return replace(task, probabilities=lambda outputs: outputs)
