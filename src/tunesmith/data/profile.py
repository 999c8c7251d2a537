"""What the columns of a Table hold: kind, distinct values, missing rows; and whether a target can be learnt at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.table import Table, is_readable, is_text
from tunesmith.errors import Problem

SAMPLE_ROWS = 50_000
MOST_CATEGORIES = 1000
FEW_ROWS = 10
"""Below so many rows, that all values differ says nothing."""
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
ID_NAME = re.compile(r"(?i:(^|[\W_])(id|ids|idx|index|uuid|guid|key|no)$)|[a-z](Id|ID)$")
TRUTHS = ("0", "1", "true", "false", "0.0", "1.0")


@dataclass(frozen=True)
class Column:
    """What a column holds, from at most `SAMPLE_ROWS` evenly spaced rows; `missing` counts all rows.

    `kind`: "text" (free text), "category" (few texts), "number" (also written as text), "list", "empty", or
    "opaque" where nothing was read.
    """

    name: str
    kind: str
    distinct: int
    missing: int
    mean_characters: float

    def __str__(self) -> str:
        size = f"{self.mean_characters:.0f} characters on average, " if self.kind in ("text", "category") else ""
        lacks = f", {self.missing} missing" if self.missing else ""
        return f'"{self.name}": {self.kind}, {size}{self.distinct} distinct{lacks}'


def describe_columns(table: Table) -> list[Column]:
    """Every column that can be read as values; of an opaque source only those whose items are numbers or texts."""
    return [_describe(table, name) for name in table.column_names if is_readable(table, name)]


def missing_rows(table: Table, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """The rows where one of `columns` has no value: null, NaN or nothing but blanks. Opaque inputs are not read."""
    missing = np.zeros(table.num_rows, bool)
    for name in columns:
        if is_readable(table, name):
            missing |= is_missing(table.column(name))
    return np.flatnonzero(missing).astype(np.int64)


def numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Values as float64, whether kept as numbers or as their text; NaN for what is no number."""
    if is_text(values.type):
        fits = pc.match_substring_regex(values, NUMBER)
        values = pc.utf8_trim_whitespace(pc.if_else(fits, values, pa.scalar(None, values.type))).cast(pa.float64())
    elif not _is_number(values.type) and not pa.types.is_boolean(values.type):
        return np.full(len(values), np.nan)
    filled = pc.fill_null(values.cast(pa.float64()), np.nan)
    return np.asarray(filled.to_numpy(), np.float64)


def codes(values: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """A number a row that is the same for the same value, a missing one too, and the value of each number."""
    encoded = pc.dictionary_encode(values, null_encoding="encode").combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary


def check_target(table: Table, target: str | Sequence[str], task: str) -> list[Problem]:
    """What makes `target` impossible to learn as `task`; empty when nothing does. Missing values are the caller's."""
    names = [target] if isinstance(target, str) else list(target)
    problems = []
    for name in names:
        missing = missing_rows(table, [name])
        if missing.size == table.num_rows:
            problems.append(Problem(f'the target "{name}" is empty', table.source, "name another column with --target"))
        elif task == "multilabel":
            problems += _check_labels(table, name)
        elif task in ("classification", "regression"):
            problems += _check_values(table, name, task)
    return problems


def _describe(table: Table, name: str) -> Column:
    values = table.column(name)
    missing = int(missing_rows(table, [name]).size)
    if table.num_rows > SAMPLE_ROWS:
        values = values.take(pa.array(_spaced(table.num_rows)))
    present = values.filter(pa.array(~is_missing(values)))
    if not len(present):
        return Column(name, "empty", 0, missing, 0.0)
    if _is_list(present.type):
        inner = pc.list_flatten(present)
        distinct = 0 if pa.types.is_nested(inner.type) else int(pc.count_distinct(inner).as_py())
        return Column(name, "list", distinct, missing, 0.0)
    if pa.types.is_nested(present.type):
        return Column(name, "category", 0, missing, 0.0)
    distinct = int(pc.count_distinct(present).as_py())
    if _is_number(present.type):
        return Column(name, "number", distinct, missing, 0.0)
    characters = float(pc.mean(pc.utf8_length(present)).as_py()) if is_text(present.type) else 0.0
    return Column(name, _kind_of_text(present, distinct), distinct, missing, characters)


def _spaced(num_rows: int) -> npt.NDArray[np.int64]:
    """`SAMPLE_ROWS` rows, one anywhere in each even stretch: a fixed step would miss classes that take turns."""
    borders = np.linspace(0, num_rows, SAMPLE_ROWS + 1).astype(np.int64)
    return np.random.default_rng(0).integers(borders[:-1], borders[1:])


def _kind_of_text(present: pa.ChunkedArray, distinct: int) -> str:
    if not is_text(present.type):
        return "category"
    if not np.isnan(numbers(present)).any():
        return "number"
    return "category" if distinct * 2 <= len(present) and distinct <= MOST_CATEGORIES else "text"


def is_missing(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    if is_text(values.type):
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    else:
        empty = pc.is_null(values, nan_is_null=True)
    return np.asarray(empty.to_numpy(), bool)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _check_labels(table: Table, name: str) -> list[Problem]:
    values = table.column(name)
    if _is_list(values.type):
        if pc.count_distinct(pc.list_flatten(values)).as_py() < 2:
            return [
                Problem(f'the lists in "{name}" name fewer than two labels', table.source, "add rows of other labels")
            ]
        return []
    if pa.types.is_nested(values.type):
        return [Problem(f'"{name}" holds objects, not labels', table.source, "give lists of labels, or 0/1 columns")]
    texts = pc.utf8_lower(values.cast(pa.string()))
    wrong = np.asarray(pc.invert(pc.is_in(texts, pa.array(TRUTHS))).to_numpy(), bool) & ~is_missing(values)
    if not wrong.any():
        return []
    row = int(np.flatnonzero(wrong)[0])
    what = f'the label column "{name}" holds "{values[row].as_py()}" where 0 or 1 is expected'
    return [Problem(what, table.where(row), "write 0 or 1, or give one column of lists of labels")]


def _check_values(table: Table, name: str, task: str) -> list[Problem]:
    values = table.column(name)
    if pa.types.is_nested(values.type):
        remedy = "name another column with --target, or take --task multilabel for lists of labels"
        return [Problem(f'the target "{name}" holds {values.type}, not one value per row', table.source, remedy)]
    present = ~is_missing(values)
    as_numbers = numbers(values)
    is_number = ~np.isnan(as_numbers)
    if problem := _mixed(table, name, present & ~is_number, int(is_number.sum()), task):
        return [problem]
    distinct = int(pc.count_distinct(values.filter(pa.array(present))).as_py())
    if distinct < 2:
        only = values.filter(pa.array(present))[0].as_py()
        what = f'every row of the target "{name}" holds "{only}", so there is nothing to tell apart'
        return [Problem(what, table.source, "add rows of another class, or name another column with --target")]
    if problem := _unique(table, name, distinct, as_numbers[present], task):
        return [problem]
    return []


def _mixed(table: Table, name: str, is_word: npt.NDArray[np.bool_], num_numbers: int, task: str) -> Problem | None:
    """Words among numbers: always wrong for regression; for classes when most rows hold numbers."""
    words = np.flatnonzero(is_word)
    if not words.size or (task == "classification" and num_numbers <= words.size):
        return None
    row = int(words[0])
    what = f'the target "{name}" holds numbers, but text in {words.size} rows, here "{table.column(name)[row].as_py()}"'
    remedy = "write a number there, or take those rows out" if num_numbers else "name a column of numbers with --target"
    return Problem(what, table.where(row), remedy)


def _unique(table: Table, name: str, distinct: int, values: npt.NDArray[np.float64], task: str) -> Problem | None:
    """Values that name rows instead of classes."""
    if values.size < FEW_ROWS:
        return None
    whole = bool(np.all(values == np.round(values)))
    counted = whole and distinct == values.size
    consecutive = counted and float(values.max() - values.min()) == values.size - 1
    if counted and (consecutive or ID_NAME.search(name)):
        what = f'the target "{name}" holds a different whole number in each row, so it numbers the rows'
        return Problem(what, table.source, "name the column to predict with --target")
    if task == "classification" and distinct * 2 > values.size:
        what = f'the target "{name}" has {distinct} different values in {values.size} rows, so it is no class'
        remedy = "name the column to predict with --target"
        return Problem(
            what, table.source, f"{remedy}, or take --task regression" if not np.isnan(values).any() else remedy
        )
    return None
