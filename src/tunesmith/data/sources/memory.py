"""Objects in memory: a DataFrame, a dict of columns, a list of dicts, a tuple (texts, labels) or an Arrow table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.records import Records, columns_of
from tunesmith.data.sources.arrays import columns_of_arrays
from tunesmith.data.sources.parquet import decoded
from tunesmith.data.table import Table
from tunesmith.errors import DataError, Problem


def matches(source: object) -> bool:
    """Whether `source` is one of these objects."""
    if isinstance(source, (pa.Table, Mapping)) or _is_frame(source):
        return not _of_datasets(source)
    if isinstance(source, tuple):
        return len(source) == 2 and not isinstance(source[0], str)
    return isinstance(source, list) and bool(source) and all(isinstance(row, Mapping) for row in source)


def read(source: Any) -> dict[str, Table]:
    """The object's columns; what Arrow can share is not copied."""
    name = {"dict": "dict of columns", "list": "list of dicts", "tuple": "(X, y)"}.get(
        type(source).__name__, type(source).__name__
    )

    def place(row: int) -> str:
        return f"{name}, row {row + 1}"

    if isinstance(source, pa.Table):
        arrow = decoded(source.replace_schema_metadata(None))
    elif _is_frame(source):
        arrow = _of_frame(source, place)
    elif isinstance(source, list):
        arrow = _of_rows(source, place)
    else:
        arrow = _of_columns(_of_pair(*source) if isinstance(source, tuple) else source, place)
    return {"": Table(arrow=arrow, origin=((name, arrow.num_rows),))}


def _of_datasets(source: object) -> bool:
    library = sys.modules.get("datasets")
    return library is not None and isinstance(source, library.DatasetDict)


def _is_frame(source: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def _of_frame(frame: Any, place: Callable[[int], str]) -> pa.Table:
    if twice := [str(name) for name in frame.columns[frame.columns.duplicated()]]:
        raise DataError(
            f'two columns are called "{twice[0]}"', where="DataFrame", remedy="give each column its own name"
        )
    objects = {name: frame[name].dtype == object for name in frame.columns}
    columns = {
        name: frame[name].tolist() if objects[name] else pa.Array.from_pandas(frame[name]) for name in frame.columns
    }
    return decoded(columns_of(columns, place))


def _of_rows(rows: list[Mapping[str, Any]], place: Callable[[int], str]) -> pa.Table:
    records = Records(place)
    for row in rows:
        records.add(row)
    return records.finish()


def _of_columns(columns: Mapping[str, Any], place: Callable[[int], str]) -> pa.Table:
    sizes = {}
    for name, values in columns.items():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise DataError(
                f'"{name}" is a {type(values).__name__}, not a list of values', remedy="give a list per column"
            )
        sizes[name] = len(values)
    usual = max(sizes.values(), key=list(sizes.values()).count, default=0)
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(
            [
                Problem(f'column "{name}" has {size} values, others {usual}', "dict of columns", f"lengths: {told}")
                for name, size in sizes.items()
                if size != usual
            ]
        )
    return columns_of({name: _values(values) for name, values in columns.items()}, place)


def _values(values: Any) -> Any:
    """NumPy numbers stay an array; everything else is judged value by value."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim == 1:
        return pa.array(values, from_pandas=True)
    return values.tolist() if hasattr(values, "tolist") else values


def _of_pair(inputs: Any, targets: Any) -> dict[str, Any]:
    if len(inputs) != len(targets):
        raise DataError(
            f"X has {len(inputs)} rows and y has {len(targets)}", where="(X, y)", remedy="give one label per row"
        )
    return {**_named(inputs, "text", "input"), **_named(targets, "label", "label")}


def _named(values: Any, one: str, several: str) -> dict[str, Any]:
    """A 1-D sequence as the column `one`; a 2-D one as columns `several_1`, `several_2` ..."""
    shape = getattr(values, "shape", None)
    if shape is None and len(values) and isinstance(values[0], (list, tuple)) and several == "input":
        values = np.array(values, dtype=object)
        shape = values.shape
    if shape is None or len(shape) == 1:
        return {one: values}
    if len(shape) in (3, 4) and several == "input":
        return dict(columns_of_arrays(np.asarray(values)))
    if len(shape) > 2 or isinstance(values, list):
        raise DataError(
            f"X has 1 to 4 dimensions and y 1 or 2, and one has the shape {tuple(shape)}",
            where="(X, y)",
            remedy="give other things as a torch Dataset",
        )
    columns = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    return {f"{several}_{index + 1}": columns[:, index] for index in range(columns.shape[1])}
