"""The columns of a table to numbers and codes: what standardises and names them is learnt from the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tunesmith.data import features
from tunesmith.data.table import Table
from tunesmith.data.table_changes import ABSENT, Cells, Layout
from tunesmith.errors import DataError, RecipeError, nearest

RARE = 3
"""A category of fewer training rows is one of the others."""
MISSING, OTHER = ABSENT, 1
"""Codes of a category that is not there, and of one that training did not name; the named ones follow."""
DAY = 86_400.0
CYCLES = {"month": 12, "weekday": 7, "hour": 24}
"""A part of a moment that goes round -> after how many steps."""
STATED = ("rare", "apart")
SQUASH = 3.0


@dataclass(frozen=True)
class Numbers:
    """A column of numbers or of moments. `parts`: the numbers that are made of each value; the first is standardised.

    A value x becomes z = (x - centre) / scale, drawn towards 3 or -3 where it is far out: z / sqrt(1 + (z / 3)^2)
    (Holzmueller et al. 2024). What is missing becomes 0, and 1 in the part "missing" where training had such rows."""

    name: str
    kind: Literal["number", "moment"]
    parts: tuple[str, ...]
    centre: float
    scale: float

    @classmethod
    def learnt(cls, table: Table, name: str, kind: Literal["number", "moment"]) -> Numbers:
        """From the rows of a table, all of which train."""
        raw = _read(table, name, kind)
        missing = np.isnan(raw)
        parts = ["value"]
        if kind == "moment":
            parts += [
                f"{cycle} {way}"
                for cycle in CYCLES
                if len(np.unique(_phase(raw[~missing], cycle))) > 1
                for way in ("sin", "cos")
            ]
        present = raw[~missing]
        low, centre, high = np.quantile(present, (0.25, 0.5, 0.75)) if len(present) else (0.0, 0.0, 1.0)
        scale = (high - low) or (float(present.max() - present.min()) / 2 if len(present) else 1.0) or 1.0
        return cls(name, kind, (*parts, *["missing"] * bool(missing.any())), float(centre), float(scale))

    def raw(self, table: Table) -> np.ndarray:
        """(rows, parts) without the one that tells what is missing, in their own unit; NaN for what is missing."""
        value = _read(table, self.name, self.kind)
        columns = [value]
        for part in self.parts[1:]:
            cycle, _, way = part.partition(" ")
            if cycle in CYCLES:
                angle = 2 * np.pi * _phase(value, cycle) / CYCLES[cycle]
                columns.append(np.sin(angle) if way == "sin" else np.cos(angle))
        return np.stack(columns, 1)

    def encoded(self, table: Table) -> np.ndarray:
        """(rows, parts), of the size that a net wants."""
        values = self.raw(table)
        missing = np.isnan(values[:, :1])
        scaled = (values[:, 0] - self.centre) / self.scale
        values[:, 0] = scaled / np.sqrt(1 + (scaled / SQUASH) ** 2)
        values[missing[:, 0]] = 0.0
        return np.concatenate([values, missing], 1) if self.parts[-1] == "missing" else values


@dataclass(frozen=True)
class Category:
    """A column of categories: their names in the order of their codes, which begin at 2."""

    name: str
    values: tuple[str, ...]
    kind: Literal["category"] = "category"

    @classmethod
    def learnt(cls, table: Table, name: str, rare: int) -> Category:
        """From the rows of a table, all of which train; the most frequent first."""
        values = table.column(name)
        present = features.texts(values).filter(pa.array(~features.is_missing(values)))
        counts = pc.value_counts(present).to_pylist()
        known = sorted((-count["counts"], count["values"]) for count in counts if count["counts"] >= rare)
        return cls(name, tuple(name for _, name in known))

    @property
    def num_codes(self) -> int:
        return len(self.values) + 2

    def codes(self, table: Table) -> np.ndarray:
        """(rows,) int64."""
        values = table.column(self.name)
        if pa.types.is_nested(values.type):
            raise _other_type(table, self.name, f"holds {values.type} where categories were", 0)
        missing = features.is_missing(values)
        found = pc.index_in(features.texts(values), value_set=pa.array(self.values, pa.string()))
        codes = np.asarray(pc.fill_null(found, OTHER - 2).to_numpy(), np.int64) + 2
        strange = self.values and not missing.all() and (codes[~missing] == OTHER).all()
        if strange and not np.isnan(features.numbers(values)[~missing]).any():
            what = f'holds numbers where categories such as "{self.values[0]}" were in training'
            raise _other_type(table, self.name, what, int(np.flatnonzero(~missing)[0]))
        codes[missing] = MISSING
        return codes


Column = Numbers | Category


@dataclass(frozen=True)
class TableEncoder:
    """How the columns of a table become tensors: `numbers` (rows, n) and `categories` (rows, m), each left out where
    there is none of it; with `flat` one of floats, `x`, in which every category is a column of zeros and ones."""

    columns: tuple[Column, ...]
    flat: bool = False
    modality: ClassVar[Literal["table"]] = "table"
    most: ClassVar[str] = ""

    @property
    def numbers(self) -> list[tuple[str, str]]:
        """What stands in `numbers`: the column and the part of its value."""
        return [(one.name, part) for one in self.columns if isinstance(one, Numbers) for part in one.parts]

    @property
    def categories(self) -> list[Category]:
        """What stands in `categories`."""
        return [one for one in self.columns if isinstance(one, Category)]

    @property
    def categorical(self) -> list[bool]:
        """Which of the features of `plain` are codes."""
        widths = [1 if isinstance(one, Category) else len(one.parts) - ("missing" in one.parts) for one in self.columns]
        return [
            isinstance(one, Category) for one, width in zip(self.columns, widths, strict=True) for _ in range(width)
        ]

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """So many rows of average numbers, and of the last code of each column: how many codes there are can be read
        from it."""
        last = np.array([[column.num_codes - 1 for column in self.categories]], np.int64)
        return self.tensors(np.zeros((num_rows, len(self.numbers)), np.float32), last.repeat(num_rows, 0))

    def tensors(self, numbers: np.ndarray, codes: np.ndarray) -> dict[str, Tensor]:
        """What a model reads of encoded rows."""
        if self.flat:
            parts = [torch.from_numpy(numbers)]
            for place, column in enumerate(self.categories):
                wide = torch.nn.functional.one_hot(torch.from_numpy(codes[:, place]), column.num_codes)
                parts.append(wide.float())
            return {"x": torch.cat(parts, 1)}
        found = {"numbers": torch.from_numpy(numbers), "categories": torch.from_numpy(codes)}
        return {name: tensor for name, tensor in found.items() if tensor.shape[1]}

    def encode(self, table: Table, inputs: tuple[str, ...]) -> TableRows:
        """All rows at once; DataError names the column and the row that cannot be read."""
        numbers = np.empty((table.num_rows, len(self.numbers)), np.float32)
        codes = np.empty((table.num_rows, len(self.categories)), np.int64)
        start = place = 0
        for column in self.columns:
            if isinstance(column, Category):
                codes[:, place] = column.codes(table)
                place += 1
            else:
                numbers[:, start : start + len(column.parts)] = column.encoded(table)
                start += len(column.parts)
        return TableRows(table, self, numbers, codes)

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """(rows, features): numbers in their own unit and codes of categories; NaN for what is missing."""
        table = table.take(rows)
        parts = []
        for column in self.columns:
            if isinstance(column, Category):
                codes = column.codes(table).astype(np.float64)
                parts.append(np.where(codes == MISSING, np.nan, codes)[:, None])
            else:
                parts.append(column.raw(table))
        return np.concatenate(parts, 1)

    def as_json(self) -> dict[str, Any]:
        return {"modality": self.modality, "flat": self.flat, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableEncoder:
        return cls(tuple(_column(column) for column in value["columns"]), value["flat"])


@dataclass
class TableRows:
    """The encoded rows of a Table, in memory."""

    table: Table
    encoder: TableEncoder
    numbers: np.ndarray
    codes: np.ndarray
    lengths: None = None
    longest: int = 0
    num_cut: int = 0
    unreadable: ClassVar[Mapping[int, str]] = MappingProxyType({})
    notes: ClassVar[tuple[str, ...]] = ()
    together: int = 1024
    """Rows of one pass when all are predicted: they cost little."""

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors of the given row numbers."""
        places = np.asarray(rows, np.int64)
        return self.encoder.tensors(self.numbers[places], self.codes[places])

    def changed(self, rows: Sequence[int] | np.ndarray, change: Callable[[int, Any], Any]) -> dict[str, Tensor]:
        """What `batch` gives of the rows as `change(place, cells)` makes them; `place` counts in `rows`."""
        layout, numbers, codes = Layout.of(self.encoder.numbers), self.numbers[rows], self.codes[rows]
        made = [change(place, Cells(numbers[place], codes[place], layout)) for place in range(len(numbers))]
        return self.encoder.tensors(np.stack([one.numbers for one in made]), np.stack([one.codes for one in made]))

    def keys(self, rows: np.ndarray) -> list[bytes]:
        """A digest (16 bytes) of what the model reads of each row."""
        numbers, codes = self.numbers[rows], self.codes[rows]
        return [
            hashlib.blake2b(one.tobytes() + other.tobytes(), digest_size=16).digest()
            for one, other in zip(numbers, codes, strict=True)
        ]


def learnt(
    table: Table,
    inputs: tuple[str, ...],
    rows: np.ndarray,
    asked: Mapping[str, Any],
    *,
    flat: bool = False,
    known: TableEncoder | None = None,
) -> TableEncoder:
    """The encoder of these columns, from the training `rows` alone; what an earlier one is `known` to read alike stays
    as it is there. `asked`: `rare`, the training rows that give a category a code of its own; `apart`, whether numbers
    and categories are two tensors."""
    if unknown := [key for key in asked if key not in STATED]:
        what = f'"model.expects" of tables has no "{unknown[0]}"'
        raise RecipeError(what, where="recipe", remedy=nearest(unknown[0], STATED))
    some = table.take(rows)
    earlier = {column.name: column for column in known.columns} if known else {}
    columns = []
    for name in inputs:
        if features.is_missing(table.column(name)).all():
            what = f'the column "{name}" is empty'
            raise DataError(what, where=table.source, remedy="leave it out of data.inputs")
        found = _learnt(table, some, name, asked.get("rare", RARE))
        before = earlier.get(name)
        columns.append(before if before is not None and _alike(before, found) else found)
    return TableEncoder(tuple(columns), known.flat if known else not asked.get("apart", not flat))


def account(before: TableEncoder, now: TableEncoder) -> str:
    """Which columns of an earlier encoder stay, which are new and which are gone, in words."""
    old = {column.name: column for column in before.columns}
    names = [column.name for column in now.columns]
    kept = [column.name for column in now.columns if old.get(column.name) == column]
    parts = {
        "kept": kept,
        "new": [name for name in names if name not in kept],
        "gone": [name for name in old if name not in names],
    }
    return "columns " + "; ".join(f"{word}: {', '.join(found) or 'none'}" for word, found in parts.items())


def shared(before: TableEncoder, now: TableEncoder) -> dict[str, list[tuple[int, int]]]:
    """Where what both encoders read alike stands in each: pairs of places among the numbers, and among the codes of
    all columns of categories laid end to end."""
    same = {column.name for column in now.columns if column in before.columns}
    places = [{key: place for place, key in enumerate(one.numbers)} for one in (before, now)]
    numbers = [(places[0][key], place) for key, place in places[1].items() if key[0] in same]
    starts = [_starts(one) for one in (before, now)]
    codes = [
        (starts[0][column.name] + code, starts[1][column.name] + code)
        for column in now.categories
        if column.name in same
        for code in range(column.num_codes)
    ]
    return {"numbers": numbers, "categories": codes}


def _starts(encoder: TableEncoder) -> dict[str, int]:
    ends = np.cumsum([0, *(column.num_codes for column in encoder.categories)])
    return {column.name: int(start) for column, start in zip(encoder.categories, ends, strict=False)}


def _learnt(table: Table, some: Table, name: str, rare: int) -> Column:
    values = table.column(name)
    if pa.types.is_nested(values.type):
        raise DataError(f'the column "{name}" holds {values.type}', where=table.source, remedy="leave it out")
    kind = features.kind_of(values)
    if kind != "category":
        return Numbers.learnt(some, name, kind)
    found = Category.learnt(some, name, rare)
    if not found.values and (why := features.why_not(table, name)):
        what = f'the column "{name}" tells a table\'s model nothing: {why}'
        raise DataError(what, where=table.source, remedy="leave it out of data.inputs")
    return found


def _alike(before: Column, found: Column) -> bool:
    if isinstance(before, Category) and isinstance(found, Category):
        return bool({*before.values} & {*found.values}) or before.values == found.values
    return before.kind == found.kind


def _column(value: dict[str, Any]) -> Column:
    if value["kind"] == "category":
        return Category(value["name"], tuple(value["values"]))
    return Numbers(**value | {"parts": tuple(value["parts"])})


def _read(table: Table, name: str, kind: Literal["number", "moment"]) -> np.ndarray:
    """The values of a column as numbers, NaN for what is missing; DataError for what is neither."""
    values = table.column(name)
    found = features.numbers(values) if kind == "number" else features.moments(values)
    wrong = np.isnan(found) & ~features.is_missing(values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        wanted = "numbers" if kind == "number" else "dates"
        what = f'holds "{values[row].as_py()}" where {wanted} were in training'
        raise _other_type(table, name, what, row)
    if np.isinf(found).any():
        row = int(np.flatnonzero(np.isinf(found))[0])
        raise _other_type(table, name, "holds an infinite value", row)
    return found / DAY if kind == "moment" else found


def _other_type(table: Table, name: str, what: str, row: int) -> DataError:
    remedy = "write what the other rows have there, or leave it empty where it is not known"
    return DataError(f'the column "{name}" {what}', where=table.where(row), remedy=remedy)


def _phase(days: np.ndarray, cycle: str) -> np.ndarray:
    """Where days since 1970 stand in a cycle: the month from 0, the weekday from Thursday, the hour with its part."""
    found: np.ndarray
    if cycle == "weekday":
        found = np.floor(days) % 7
    elif cycle == "hour":
        found = np.round((days % 1.0) * 24, 6) % 24
    else:
        known = np.where(np.isnan(days), 0, np.floor(days)).astype("datetime64[D]")
        found = np.where(np.isnan(days), np.nan, known.astype("datetime64[M]").astype(np.int64) % 12)
    return found
