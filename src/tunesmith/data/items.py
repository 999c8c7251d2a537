"""Opaque sources: a torch Dataset whose items are read one at a time and of which only targets are ever kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tunesmith.errors import DataError
from tunesmith.seeds import fold, seeded

Modality = Literal["text", "image", "sound", "table", "tensor"]
"""What a row is to a model: texts, one image, one sound, the columns of a table, or a tensor as it comes."""
PLAIN = (str, bytes, bool, int, float, np.generic, type(None))
NAMES_BY_LENGTH = {2: ("input", "target"), 3: ("input_a", "input_b", "target")}


_READING: ContextVar[int] = ContextVar("reading", default=0)
"""The seed under which items are read now."""


class Seeded:
    """A person's items, each read under a seed of its own: one that draws at random gives the same after a resume, and
    whatever is read beside it."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        with seeded(fold(_READING.get(), "item", row)):
            return self.items[row]


def _name(items: Any) -> str:
    """What a person calls the items: the name of their class."""
    return type(getattr(items, "items", items)).__name__


@contextlib.contextmanager
def reading(seed: int) -> Iterator[None]:
    """Items that draw at random draw by this seed, and their row, for as long as the `with` lasts."""
    token = _READING.set(seed)
    try:
        yield
    finally:
        _READING.reset(token)


def names_of(items: Any) -> tuple[str, ...]:
    """The names of an item's parts: `input, target`; `input_a, input_b, target`; or the keys of a dict."""
    if len(items) == 0:
        return ()
    first = items[0]
    if isinstance(first, Mapping):
        return tuple(str(key) for key in first)
    if isinstance(first, (tuple, list)) and len(first) in NAMES_BY_LENGTH:
        return NAMES_BY_LENGTH[len(first)]
    raise DataError(
        f"an item is a {type(first).__name__}, which does not tell the input from the target",
        where=f"{_name(items)}[0]",
        remedy="return (input, target), (input_a, input_b, target) or a dict from __getitem__",
    )


def part(item: Any, name: str) -> Any:
    """One part of an item by its name."""
    if isinstance(item, Mapping):
        return item[name]
    return item[NAMES_BY_LENGTH[len(item)].index(name)]


def is_readable(items: Any, name: str) -> bool:
    """Whether a part may be read as a column: never an input of a tuple, nor anything that is not plain."""
    first = items[0]
    return (isinstance(first, Mapping) or name == "target") and is_plain(part(first, name))


def is_plain(value: Any) -> bool:
    """Whether `value` can stand in a column: a number, a text, or a flat list of them; not an image or a sound."""
    if hasattr(value, "ndim"):
        return bool(value.ndim == 0)
    return isinstance(value, PLAIN) or (isinstance(value, list) and all(isinstance(entry, PLAIN) for entry in value))


def modality_of(items: Any, names: Sequence[str]) -> Modality:
    """What an item's input is: a text, an image (a picture of Pillow), or a tensor as it comes."""
    value = part(items[0], names[0])
    if isinstance(value, str):
        return "text"
    return "image" if type(value).__module__.startswith("PIL.") else "tensor"


def read_column(items: Any, name: str) -> pa.ChunkedArray:
    """One pass over the items that keeps only the part called `name`.

    One-dimensional tensors (several labels at once) become lists.
    """
    values = []
    for index in range(len(items)):
        value = part(items[index], name)
        if hasattr(value, "ndim") and value.ndim <= 1:
            value = value.tolist()
        if not is_plain(value):
            raise DataError(
                f'"{name}" is a {type(value).__name__}, which is not a number, a text or a list of them',
                where=f"{_name(items)}[{index}]",
                remedy="give the target as a number or a text",
            )
        values.append(value)
    try:
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f'"{name}" is not of one type in all items ({error})', where=_name(items), remedy="give one type"
        ) from error


def subset(items: Any, rows: Sequence[int]) -> Any:
    """The items at `rows`, in that order, still read only when asked for."""
    from torch.utils.data import Subset

    return Subset(items, rows)


def chain(parts: Sequence[Any]) -> Any:
    """Several sources, one after the other."""
    from torch.utils.data import ConcatDataset

    return ConcatDataset(parts)
