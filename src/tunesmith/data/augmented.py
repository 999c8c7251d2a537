"""Rows as an augmentation changes them: pure in the seed, the row and the view; once, or anew in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from torch import Tensor

from tunesmith.data.encoders.text import TextRows, encode_texts, read_texts
from tunesmith.data.items import Modality
from tunesmith.data.mixing import Mix
from tunesmith.data.table import Table
from tunesmith.seeds import fold

Change = Callable[[Any, np.random.Generator], Any]


class Changeable(Protocol):
    """Encoded rows that can be changed before the model reads them: what `Encoded` has, and this."""

    @property
    def table(self) -> Table: ...
    @property
    def lengths(self) -> np.ndarray | None: ...
    @property
    def longest(self) -> int: ...
    @property
    def unreadable(self) -> Mapping[int, str]: ...
    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]: ...
    def changed(self, rows: Sequence[int] | np.ndarray, change: Callable[[int, Any], Any]) -> dict[str, Tensor]:
        """The tensors of some rows, each as `change(place, value)` makes it of what it is; `place` counts in `rows`."""


@dataclass(frozen=True)
class Augmentation:
    """What changes a row: `change(value, random) -> value`, of a text (or a pair), a picture of Pillow, a `Wave`, or
    the `Cells` of a table; how many `views` a row has, None = without end; and how rows of a batch are mixed."""

    change: Change
    views: int | None = None
    modality: Modality = "text"
    mix: Mix | None = None
    neighbours: Callable[[Callable[[], Tensor], Any], Change] | None = None
    """Where it reads the model's own table of embeddings: (the table, the tokenizer) -> `change`."""


@dataclass(frozen=True)
class AugmentedRows:
    """The rows of `encoded` as an augmentation changes them: pure in the seed, the row and the view."""

    encoded: Changeable
    augmentation: Augmentation
    seed: int

    def batch(self, rows: Sequence[int] | np.ndarray, view: int) -> dict[str, Tensor]:
        """The tensors of one view of the given row numbers, as `encoded.batch` gives those of the rows as they are.

        With K fixed views the view is `view` modulo K."""
        number = view if self.augmentation.views is None else view % self.augmentation.views
        return self.encoded.changed(rows, lambda place, value: self.change(value, number, int(rows[place])))

    def change(self, value: Any, view: int, row: int) -> Any:
        """A view of one row."""
        random = np.random.Generator(np.random.PCG64(fold(self.seed, "augment", view, row)))
        return self.augmentation.change(value, random)


@dataclass(frozen=True)
class Views:
    """All views of some rows as if each were a row, made when they are read; view by view, in each the rows."""

    augmented: AugmentedRows
    rows: np.ndarray
    count: int
    num_cut: ClassVar[int] = 0
    unreadable: ClassVar[Mapping[int, str]] = MappingProxyType({})
    notes: ClassVar[tuple[str, ...]] = ()

    @property
    def table(self) -> Table:
        return self.augmented.encoded.table

    @property
    def lengths(self) -> np.ndarray | None:
        known = self.augmented.encoded.lengths
        return None if known is None else np.tile(known[self.rows], self.count)

    @property
    def longest(self) -> int:
        return self.augmented.encoded.longest

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors of some of them."""
        views, numbers = np.divmod(np.asarray(rows, np.int64), len(self.rows))
        whose, change = self.rows[numbers], self.augmented.change
        return self.augmented.encoded.changed(
            whose, lambda place, value: change(value, int(views[place]), int(whose[place]))
        )

    def keys(self, rows: np.ndarray) -> list[bytes]:
        """A digest (16 bytes) of what the model reads of each."""
        found = []
        for row in rows:
            tensors = self.batch([int(row)])
            parts = [name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors)]
            found.append(hashlib.blake2b(b"/".join(parts), digest_size=16).digest())
        return found


@dataclass(frozen=True)
class FixedViews:
    """All views of some rows: what `AugmentedRows` gives, but of so many rows, which can be kept."""

    encoded: TextRows | Views
    """View by view; in each the rows in their order."""
    places: dict[int, int]
    """Row number -> its place among the rows."""
    count: int

    @property
    def num_rows(self) -> int:
        """Views of all rows."""
        return self.count * len(self.places)

    def numbers(self, rows: Sequence[int] | np.ndarray, view: int) -> np.ndarray:
        """The row numbers, in `encoded`, of a view of some rows."""
        start = view % self.count * len(self.places)
        return np.array([start + self.places[int(row)] for row in rows], dtype=np.int64)


def fixed_views(augmented: AugmentedRows, rows: np.ndarray) -> FixedViews | str:
    """The fixed views of `rows`; or why there is no such thing."""
    count, encoded = augmented.augmentation.views, augmented.encoded
    if augmented.augmentation.mix is not None:
        return "rows are mixed anew in each step"
    if count is None:
        return "the rows are augmented anew in each epoch (data.augment.views fixes their number)"
    places = {int(row): place for place, row in enumerate(rows)}
    if not isinstance(encoded, TextRows):
        if encoded.lengths is not None and len(np.unique(encoded.lengths)) > 1:
            return "augmented sounds are of other lengths"
        return FixedViews(Views(augmented, rows, count), places, count)
    texts = read_texts(encoded.table, encoded.inputs, rows)
    changed = [
        augmented.change(text, view, int(row)) for view in range(count) for row, text in zip(rows, texts, strict=True)
    ]
    columns = [changed] if len(encoded.inputs) == 1 else list(zip(*changed, strict=True))
    table = Table(
        pa.table(dict(zip(encoded.inputs, map(list, columns), strict=True))), origin=(("views", len(changed)),)
    )
    # Texts are encoded once, because their lengths must be known.
    return FixedViews(
        encode_texts(table, encoded.inputs, encoded.tokenizer, min(encoded.max_length, encoded.longest)), places, count
    )
