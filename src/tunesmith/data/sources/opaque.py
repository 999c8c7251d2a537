"""A torch Dataset: its items stay where they are and are read, one at a time, by the workers that need them."""

from __future__ import annotations

from typing import Any

from tunesmith.data.items import Seeded, names_of
from tunesmith.data.table import Table
from tunesmith.errors import DataError

READ_ELSEWHERE = ("builtins", "collections", "datasets", "numpy", "pandas", "pathlib", "polars", "pyarrow")


def matches(source: object) -> bool:
    """Whether `source` can be indexed and has a length, and is no object that another source reads; or a DataLoader
    over such a thing."""
    source = _dataset(source)
    known = type(source).__module__.partition(".")[0] in READ_ELSEWHERE
    return not known and hasattr(source, "__len__") and hasattr(source, "__getitem__")


def read(source: Any) -> dict[str, Table]:
    """An index over the items: `(input, target)`, `(input_a, input_b, target)` or dicts."""
    given, source = source, _dataset(source)
    name = type(source).__name__
    notes = (f"{name}: the batches, order and workers of its DataLoader are not used",) if given is not source else ()
    if len(source) == 0:
        raise DataError("the Dataset is empty", where=name, remedy="check how it was built")
    names_of(source)
    return {"": Table(items=Seeded(source), origin=((name, len(source)),), notes=notes)}


def _dataset(source: Any) -> Any:
    """What a DataLoader loads; everything else as it is."""
    loads = hasattr(source, "dataset") and hasattr(source, "batch_sampler")
    return source.dataset if loads and not hasattr(source, "__getitem__") else source
