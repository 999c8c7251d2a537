"""Python values become Arrow columns, each of one type; a column of several types is named with its first two rows."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.spill import CHARACTERS_PER_CHUNK, ROWS_PER_CHUNK, Spill
from tunesmith.errors import DataError, Problem

NO_VALUE = ("NoneType", "NAType", "NaTType")


class Records:
    """Collects rows given as mappings, in bounded memory; a key that a row lacks is null there.

    `place` turns a row number (from 0) into words for people.
    """

    def __init__(self, place: Callable[[int], str]) -> None:
        self._place = place
        self._spill = Spill()
        self._rows: list[Mapping[str, Any]] = []
        self._num_characters = 0
        self._num_written = 0
        self._kinds: dict[str, tuple[str, int]] = {}
        self._names: dict[str, None] = {}

    def add(self, row: Mapping[str, Any], num_characters: int = 0) -> None:
        """Add a row; `num_characters` tells how large it is, so that rows of long texts are written sooner."""
        self._rows.append(row)
        self._num_characters += num_characters
        if len(self._rows) >= ROWS_PER_CHUNK or self._num_characters >= CHARACTERS_PER_CHUNK:
            self._write()

    def finish(self) -> pa.Table:
        """All rows as one table."""
        if self._rows:
            self._write()
        return self._spill.finish()

    def _write(self) -> None:
        for row in self._rows:
            self._names.update(dict.fromkeys(row))
        problems = []
        columns = {}
        for name in self._names:
            values = [row.get(name) for row in self._rows]
            found = self._mixed(name, values)
            problems += found
            if not found:
                columns[str(name)] = column_of(name, values, self._place(self._num_written))
        if problems:
            raise DataError(problems)
        self._spill.write(pa.table(columns))
        self._num_written += len(self._rows)
        self._rows, self._num_characters = [], 0

    def _mixed(self, name: str, values: Sequence[Any]) -> list[Problem]:
        for kind, index in kinds_of(values).items():
            first = self._kinds.setdefault(name, (kind, index + self._num_written))
            if first[0] != kind:
                return [mixed(name, first, (kind, index + self._num_written), self._place)]
        return []


def columns_of(columns: Mapping[Any, Iterable[Any]], place: Callable[[int], str]) -> pa.Table:
    """Whole columns in memory as one table; DataError names every column that is of several types."""
    arrays, problems = {}, []
    for name, values in columns.items():
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            arrays[str(name)] = values
            continue
        listed = list(values)
        kinds = list(kinds_of(listed).items())
        if len(kinds) > 1:
            problems.append(mixed(str(name), kinds[0], kinds[1], place))
        else:
            arrays[str(name)] = column_of(str(name), listed, place(0))
    if problems:
        raise DataError(problems)
    return pa.table(arrays)


def column_of(name: str, values: Sequence[Any], where: str) -> pa.Array:
    """Values of one kind as an Arrow array; NaN is null."""
    if len(values) and any(isinstance(value, str) for value in values):
        values = [value if isinstance(value, str) else None for value in values]
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(
            f'column "{name}" cannot be kept as a column: {error}',
            where=where,
            remedy="give numbers, texts or lists of one of them; for images and other objects give a torch Dataset",
        ) from error


def kinds_of(values: Sequence[Any]) -> dict[str, int]:
    """The kinds of value that occur, each with the index of its first; nothing for None and NaN."""
    types: dict[type, int] = {}
    for kind in set(map(type, values)):
        types[kind] = next(index for index, value in enumerate(values) if type(value) is kind)
    kinds: dict[str, int] = {}
    for kind, index in sorted(types.items(), key=lambda item: item[1]):
        name = _kind_of(kind)
        if name == "number" and len(types) > 1:
            index = next((i for i, value in enumerate(values) if type(value) is kind and value == value), -1)
        if name and index >= 0:
            kinds[name] = min(index, kinds.get(name, index))
    return dict(sorted(kinds.items(), key=lambda item: item[1]))


def mixed(name: str, first: tuple[str, int], second: tuple[str, int], place: Callable[[int], str]) -> Problem:
    """The problem that a column holds two kinds of value."""
    return Problem(
        f'column "{name}" is of mixed types: {first[0]} here, {second[0]} in {place(second[1])}',
        where=place(first[1]),
        remedy="write one type in all rows (numbers without quotes, or texts with them)",
    )


def _kind_of(kind: type) -> str:
    if kind.__name__ in NO_VALUE:
        return ""
    for name, types in (
        ("text", str),
        ("true/false", (bool, np.bool_)),
        ("number", numbers.Number),
        ("list", (list, tuple, np.ndarray)),
        ("object", Mapping),
    ):
        if issubclass(kind, types):
            return name
    return kind.__name__
