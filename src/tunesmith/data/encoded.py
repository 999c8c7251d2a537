"""What training and prediction need of rows and of what turns them into tensors, whatever a row is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from tunesmith.data.items import Modality, reading
from tunesmith.data.table import Table


class Encoded(Protocol):
    """The rows of a Table as a model reads them."""

    @property
    def table(self) -> Table: ...
    @property
    def lengths(self) -> np.ndarray | None:
        """The length of each row (tokens, frames), after a cut; None where all rows cost the same, or it is unknown."""

    @property
    def longest(self) -> int:
        """Of the longest row, before the cut."""

    @property
    def num_cut(self) -> int:
        """Rows that were cut."""

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Row number -> why its image or sound cannot be read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the rows were read."""

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors of the given row numbers; with lengths, padded, `attention_mask` (rows, places) among them."""

    def keys(self, rows: np.ndarray) -> list[bytes] | None:
        """A digest (16 bytes) of what the model reads of each row; None where rows are made anew at each reading."""


def keys_of_items(encoded: Encoded, rows: np.ndarray) -> list[bytes] | None:
    """The keys of rows that are read from a person's own Dataset when they are needed; None where it draws at random.

    Every row is read twice, under two seeds: as soon as one is not the same both times, it draws."""
    found: list[bytes] = []
    for row in rows:
        digests = set()
        for seed in (1, 2):
            with reading(seed):
                tensors = encoded.batch([int(row)])
            parts = [f"{name}{tuple(one.shape)}".encode() + one.numpy().tobytes() for name, one in tensors.items()]
            digests.add(hashlib.blake2b(b"/".join(parts), digest_size=16).digest())
        if len(digests) > 1:
            return None
        found += digests
    return found


class Encoder(Protocol):
    """From rows to tensors: the same for training and for prediction, and kept in the Run."""

    @property
    def modality(self) -> Modality: ...

    @property
    def most(self) -> str:
        """The longest row that is read whole, with its unit: "512 tokens"; "" where none is cut."""

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """The tensors of so many rows that say nothing: what a network is tried on."""

    def encode(self, table: Table, inputs: tuple[str, ...]) -> Encoded:
        """The rows of an identified Table; DataError names the row that cannot be read."""

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> Any:
        """What a model that was not pretrained could learn from: texts, or an array (rows, features)."""

    def as_json(self) -> dict[str, Any] | None:
        """What a Run keeps to make the encoder again; None where it lies in the model's own folder."""
