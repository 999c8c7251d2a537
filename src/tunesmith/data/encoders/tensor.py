"""Items that are tensors already: read when they are needed, stacked, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tunesmith.data import items as opaque
from tunesmith.data.encoded import keys_of_items
from tunesmith.data.table import Table
from tunesmith.errors import DataError


@dataclass(frozen=True)
class TensorEncoder:
    """A person's own Dataset, whose items a person's own network reads."""

    shapes: Mapping[str, tuple[tuple[int, ...], str]]
    """Input -> the shape of one item's tensor, and its type."""
    modality: ClassVar[Literal["tensor"]] = "tensor"
    most: ClassVar[str] = ""

    @classmethod
    def learnt(cls, table: Table, inputs: tuple[str, ...]) -> TensorEncoder:
        """From the first item."""
        first = TensorRows(table, inputs).batch([0])
        return cls({name: (tuple(value.shape[1:]), str(value.dtype)) for name, value in first.items()})

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """So many rows of zeros."""
        kinds = {name: getattr(torch, kind.removeprefix("torch.")) for name, (_, kind) in self.shapes.items()}
        return {name: torch.zeros(num_rows, *shape, dtype=kinds[name]) for name, (shape, _) in self.shapes.items()}

    def encode(self, table: Table, inputs: tuple[str, ...]) -> TensorRows:
        return TensorRows(table, inputs)

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """The numbers of each item as they are, at most 4,096 of them, evenly spaced: (rows, features)."""
        flat = TensorRows(table, inputs).batch(rows)
        values = torch.cat([tensor.flatten(1).float() for tensor in flat.values()], 1).numpy()
        places = np.linspace(0, values.shape[1] - 1, min(values.shape[1], 4096)).astype(int)
        found: np.ndarray = values[:, places]
        return found

    def as_json(self) -> dict[str, Any]:
        return {"modality": self.modality, "shapes": self.shapes}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TensorEncoder:
        return cls({name: (tuple(shape), kind) for name, (shape, kind) in value["shapes"].items()})


@dataclass(frozen=True)
class TensorRows:
    """The items of an opaque Table as tensors."""

    table: Table
    inputs: tuple[str, ...]
    lengths: None = None
    longest: int = 0
    num_cut: int = 0
    unreadable: ClassVar[Mapping[int, str]] = MappingProxyType({})
    notes: ClassVar[tuple[str, ...]] = ()

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """One tensor an input, (rows, ...); whole numbers stay whole, all else is float32."""
        items = [self.table.items[int(row)] for row in rows]  # type: ignore[index]
        return {name: self._stacked(name, [opaque.part(item, name) for item in items], rows) for name in self.inputs}

    def keys(self, rows: np.ndarray) -> list[bytes] | None:
        """A digest (16 bytes) of each item; None where the Dataset draws at random."""
        return keys_of_items(self, rows)

    def _stacked(self, name: str, values: list[Any], rows: Sequence[int] | np.ndarray) -> Tensor:
        tensors = [torch.as_tensor(value) for value in values]
        for row, tensor in zip(rows, tensors, strict=True):
            if tensor.shape != tensors[0].shape:
                what = f'"{name}" has the shape {tuple(tensor.shape)}, where {tuple(tensors[0].shape)} came before'
                raise DataError(what, where=self.table.where(int(row)), remedy="give all items one shape")
        stacked = torch.stack(tensors)
        return stacked.float() if stacked.is_floating_point() or stacked.dtype == torch.uint8 else stacked
