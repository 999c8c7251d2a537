"""Rows with stable ids: an Arrow table, or an index over an opaque source whose items are read when they are needed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import items as opaque
from tunesmith.data.spill import concat as concat_arrow
from tunesmith.errors import DataError, Problem, nearest

ROWS_PER_BLOCK = 65_536


def _no_hashes() -> npt.NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Table:
    """Either `arrow` (maybe memory-mapped) or `items` (a map-style torch Dataset) holds the rows.

    `origin`: each file or object the rows came from and how many it gave, in order; `hashes`: a content hash per row,
    empty until `identified`; `notes`: what a person should know of how the source was read; `positions`: where each
    row stood in its origin, when rows were taken from it; `roots`: for each origin the folder that its rows' files are
    named from, "" where that is the current one.
    """

    arrow: pa.Table | None = None
    items: Any | None = None
    origin: tuple[tuple[str, int], ...] = ()
    hashes: npt.NDArray[np.uint64] = field(default_factory=_no_hashes)
    notes: tuple[str, ...] = ()
    positions: npt.NDArray[np.int64] | None = None
    roots: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        return int(self.arrow.num_rows) if self.arrow is not None else len(self.items or ())

    @functools.cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(self.arrow.column_names) if self.arrow is not None else opaque.names_of(self.items)

    def column(self, name: str) -> pa.ChunkedArray:
        """The values of a column; of an opaque source they are read in one pass, once."""
        if name not in self.column_names:
            raise DataError(
                f'there is no column "{name}"', where=self.source, remedy=nearest(name, map(str, self.column_names))
            )
        if self.arrow is not None:
            return self.arrow.column(name)
        if name not in self._read:
            self._read[name] = opaque.read_column(self.items, name)
        return self._read[name]

    @functools.cached_property
    def _read(self) -> dict[str, pa.ChunkedArray]:
        return {}

    @property
    def source(self) -> str:
        """The names of the files or objects, for messages."""
        return ", ".join(name for name, _ in self.origin)

    def where(self, row: int) -> str:
        """The place of a row for people, counted from 1 within its file: `reviews.csv, row 17`."""
        number, position = self._place(row)
        return f"{self.origin[number][0]}, row {position + 1}"

    def root(self, row: int) -> str:
        """The folder that the file of a row is named from; "" is the current one."""
        return self.roots[self._place(row)[0]] if self.roots else ""

    def _place(self, row: int) -> tuple[int, int]:
        """The number of a row's origin, and its position in it."""
        position = int(row if self.positions is None else self.positions[row])
        for number, (_, num_rows) in enumerate(self.origin):
            if position < num_rows:
                return number, position
            position -= num_rows
        raise IndexError(f"row {row} of {self.num_rows}")

    def take(self, rows: npt.NDArray[np.int64]) -> Table:
        """These rows in this order; they keep their place of origin and their hashes."""
        positions = rows if self.positions is None else self.positions[rows]
        taken = replace(
            self, positions=positions.astype(np.int64), hashes=self.hashes[rows] if self.hashes.size else self.hashes
        )
        if self.arrow is None:
            return replace(taken, items=opaque.subset(self.items, rows.tolist()))
        if np.all(np.diff(rows) > 0):
            # A filter works chunk by chunk; a take may join all chunks of a text column, which is limited to 2 GB.
            kept = np.zeros(self.num_rows, bool)
            kept[rows] = True
            return replace(taken, arrow=self.arrow.filter(pa.array(kept)))
        return replace(taken, arrow=self.arrow.take(pa.array(rows)))

    def select(self, names: Sequence[str]) -> Table:
        """Only these columns, in this order; an opaque source stays as it is."""
        return self if self.arrow is None else replace(self, arrow=self.arrow.select(list(names)))

    def identified(self, inputs: Sequence[str]) -> Table:
        """The same rows with a 64-bit BLAKE2b hash of their values in the columns `inputs`.

        An opaque source is never read for this: there the row's place in its origin is hashed.
        """
        if self.arrow is None:
            texts: Iterator[list[bytes]] = iter([[b"row-%d" % position for position in self._places().tolist()]])
        else:
            texts = self._messages(inputs)
        hashes = np.empty(self.num_rows, np.uint64)
        start, blake2b = 0, hashlib.blake2b
        for block in texts:
            digests = b"".join([blake2b(text, digest_size=8).digest() for text in block])
            hashes[start : start + len(block)] = np.frombuffer(digests, ">u8")
            start += len(block)
        return replace(self, hashes=hashes)

    def ids(self) -> npt.NDArray[np.str_]:
        """A name per row: its hash, with "-2", "-3" ... for further rows of the same content; "row-7" if opaque."""
        if self.arrow is None:
            return np.char.add("row-", self._places().astype(str))
        if self.hashes.size != self.num_rows:
            raise ValueError("call identified() first")
        names: npt.NDArray[np.str_] = np.frombuffer(self.hashes.astype(">u8").tobytes().hex().encode(), "S16").astype(
            "U16"
        )
        occurrence = _occurrences(self.hashes)
        again = np.flatnonzero(occurrence > 1)
        if again.size:
            marks = np.char.add("-", occurrence[again].astype(str))
            names = names.astype(f"U{16 + marks.dtype.itemsize // 4}")
            names[again] = np.char.add(names[again], marks)
        return names

    def fingerprint(self, columns: Sequence[str]) -> str:
        """SHA-256 of the values in `columns`, row by row; of an opaque source, of the plain ones among them."""
        digest = hashlib.sha256(f"{self.num_rows} rows of {len(columns)}\n".encode())
        if self.arrow is None:
            digest.update(b"".join(b"%d," % position for position in self._places().tolist()))
            columns = [name for name in columns if is_readable(self, name)]
        for block in self._messages(columns) if columns else ():
            digest.update(b"".join(block))
        return digest.hexdigest()

    def _places(self) -> npt.NDArray[np.int64]:
        return np.arange(self.num_rows, dtype=np.int64) if self.positions is None else self.positions

    def _messages(self, columns: Sequence[str]) -> Iterator[list[bytes]]:
        """Per block of rows, each row's values as bytes that no other values share (`5:hello`, `~` for none)."""
        values = [self.column(name) for name in columns]
        for start in range(0, self.num_rows, ROWS_PER_BLOCK):
            parts = [_netstrings(_block(value, start)) for value in values]
            joined = pc.binary_join_element_wise(*parts, "") if len(parts) > 1 else parts[0]
            yield joined.cast(pa.binary()).to_pylist()


def concat(tables: Sequence[Table]) -> Table:
    """One table above the other; the columns must be of one type, or numbers here and their text there."""
    if len(tables) == 1:
        return tables[0]
    if len({table.arrow is None for table in tables}) > 1:
        raise DataError(
            "a torch Dataset and a table cannot be joined",
            where=" and ".join(table.source for table in tables),
            remedy="give all splits as one kind of source",
        )
    identified = all(table.hashes.size == table.num_rows for table in tables)
    shifts = np.cumsum([0] + [sum(count for _, count in table.origin) for table in tables])
    return Table(
        arrow=None if tables[0].arrow is None else _concat_arrow(tables),
        items=None if tables[0].items is None else opaque.chain([table.items for table in tables]),
        origin=tuple(pair for table in tables for pair in table.origin),
        hashes=np.concatenate([table.hashes for table in tables]) if identified else _no_hashes(),
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
        positions=np.concatenate([table._places() + shift for table, shift in zip(tables, shifts, strict=False)]),
        roots=tuple(root for table in tables for root in table.roots or [""] * len(table.origin)),
    )


def _concat_arrow(tables: Sequence[Table]) -> pa.Table:
    parts: list[pa.Table] = [table.arrow for table in tables]
    problems = []
    for name in parts[0].column_names:
        kinds = [part.schema.field(name).type for part in parts if name in part.column_names]
        if _one_kind(kinds):
            continue
        if all(_is_simple(kind) for kind in kinds):
            parts = [_as_text(part, name) for part in parts]
        else:
            told = ", ".join(f"{kind} in {table.source}" for kind, table in zip(kinds, tables, strict=False))
            problems.append(
                Problem(f'column "{name}" is of different types: {told}', remedy="write one type in all files")
            )
    if problems:
        raise DataError(problems)
    return concat_arrow(parts)


def _one_kind(kinds: Sequence[pa.DataType]) -> bool:
    try:
        pa.unify_schemas([pa.schema([("column", kind)]) for kind in kinds], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _is_simple(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def is_readable(table: Table, name: str) -> bool:
    """Whether a column may be read as values: any of an Arrow table, of an opaque source only targets and the like."""
    return table.arrow is not None or opaque.is_readable(table.items, name)


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(table: pa.Table, name: str) -> pa.Table:
    index = table.column_names.index(name)
    return table.set_column(index, name, table.column(name).cast(pa.string()))


def _block(values: pa.ChunkedArray, start: int) -> pa.Array:
    part = values.slice(start, ROWS_PER_BLOCK)
    return part.chunk(0) if part.num_chunks == 1 else pa.concat_arrays(part.chunks)


def _netstrings(values: pa.Array) -> pa.Array:
    texts = _texts(values)
    lengths = pc.binary_length(texts).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise(lengths, texts, ":"), "~")


def _texts(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return pa.array([None if value is None else value.hex() for value in values.to_pylist()], pa.string())
    if pa.types.is_nested(values.type):
        return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())
    return values.cast(pa.string())


def _occurrences(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """For each row, how many rows up to it, itself included, have its hash."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if ordered.size else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, ordered.size])
    occurrence = np.empty(hashes.size, np.int64)
    occurrence[order] = np.arange(ordered.size) - np.repeat(starts, lengths) + 1
    return occurrence
