"""Text to tokens: every row tokenized once and memory-mapped, padded only as far as its batch needs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.encoded import keys_of_items
from tunesmith.data.table import Table

CHUNK = 8192


@dataclass(frozen=True)
class TextEncoder:
    """Texts, or pairs of texts, cut at `max_length` tokens."""

    tokenizer: Any
    max_length: int
    modality: ClassVar[Literal["text"]] = "text"

    @property
    def most(self) -> str:
        return f"{self.max_length} tokens"

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """So many empty texts."""
        return pad(tokenize(self.tokenizer, [""] * num_rows, self.max_length), self.tokenizer)

    def encode(self, table: Table, inputs: tuple[str, ...]) -> TextRows:
        return encode_texts(table, inputs, self.tokenizer, self.max_length)

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> list[str]:
        """One text a row: pairs are joined."""
        return [" ".join(text) if isinstance(text, tuple) else text for text in read_texts(table, inputs, rows)]

    def as_json(self) -> None:
        """The tokenizer lies in the model's folder."""


@dataclass
class TextRows:
    """The encoded rows of a Table; `batch` gives the tensors of some of them.

    `lengths` (tokens of each row, after the cut) is None for an opaque source, whose rows are tokenized when read."""

    table: Table
    inputs: tuple[str, ...]
    tokenizer: Any
    max_length: int
    lengths: np.ndarray | None = None
    longest: int = 0
    """Tokens of the longest row before the cut."""
    num_cut: int = 0
    """Rows that were cut at `max_length`."""
    lost: np.ndarray | None = None
    """Tokens that were cut off of each row; None for an opaque source."""
    unreadable: ClassVar[Mapping[int, str]] = MappingProxyType({})
    notes: ClassVar[tuple[str, ...]] = ()
    _offsets: np.ndarray | None = None
    _fields: dict[str, np.ndarray] | None = None

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Padded tensors (rows, tokens) of the given row numbers, `attention_mask` among them."""
        if self._fields is None or self._offsets is None:
            encoded = tokenize(self.tokenizer, read_texts(self.table, self.inputs, rows), self.max_length)
        else:
            spans = [(self._offsets[row], self._offsets[row + 1]) for row in rows]
            encoded = {name: [values[a:b] for a, b in spans] for name, values in self._fields.items()}
        return pad(encoded, self.tokenizer)

    def changed(self, rows: Sequence[int] | np.ndarray, change: Callable[[int, Any], Any]) -> dict[str, Tensor]:
        """What `batch` gives of the texts as `change(place, text)` makes them; `place` counts in `rows`. None becomes
        longer than the longest row."""
        texts = [change(place, text) for place, text in enumerate(read_texts(self.table, self.inputs, rows))]
        return pad(tokenize(self.tokenizer, texts, min(self.max_length, self.longest)), self.tokenizer)

    def keys(self, rows: np.ndarray) -> list[bytes] | None:
        """A digest (16 bytes) of the tokens of each row, not of its number; None for a Dataset that draws at random."""
        if self._fields is None or self._offsets is None:
            return keys_of_items(self, rows)
        found = []
        for row in rows:
            span = slice(self._offsets[row], self._offsets[row + 1])
            parts = (values[span].tobytes() for values in self._fields.values())
            found.append(hashlib.blake2b(b"/".join(parts), digest_size=16).digest())
        return found


def encode_texts(table: Table, inputs: tuple[str, ...], tokenizer: Any, max_length: int) -> TextRows:
    """Tokenize every row of `table` once, in chunks, into a private memory-mapped file."""
    rows = TextRows(table, inputs, tokenizer, max_length)
    if table.arrow is None:
        rows.longest = max_length
        return rows
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-tokens-"))
    weakref.finalize(rows, shutil.rmtree, folder, ignore_errors=True)
    lengths, written, lost = [np.zeros(1, dtype=np.int64)], set(), []
    for start in range(0, table.num_rows, CHUNK):
        texts = read_texts(table, inputs, range(start, min(start + CHUNK, table.num_rows)))
        encoded = tokenize(tokenizer, texts, None)
        full = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
        too_long = np.flatnonzero(full > max_length)
        if len(too_long):
            cut = tokenize(tokenizer, [texts[i] for i in too_long], max_length)
            for name, values in cut.items():
                for position, value in zip(too_long, values, strict=True):
                    encoded[name][position] = value
        rows.longest = max(rows.longest, int(full.max(initial=0)))
        rows.num_cut += len(too_long)
        lengths.append(np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64))
        lost.append(full - lengths[-1])
        for name, values in encoded.items():
            written.add(name)
            with open(folder / name, "ab") as file:
                file.write(np.concatenate([np.asarray(value, dtype=np.int32) for value in values]).tobytes())
    rows.lengths = np.concatenate(lengths)[1:]
    rows.lost = np.concatenate(lost) if lost else np.empty(0, np.int64)
    rows._offsets = np.cumsum(np.concatenate(lengths))
    rows._fields = {name: np.memmap(folder / name, dtype=np.int32, mode="r") for name in sorted(written)}
    return rows


def read_texts(table: Table, inputs: tuple[str, ...], rows: Sequence[int] | np.ndarray | range) -> list[Any]:
    """The texts of the rows: strings, or pairs of strings when there are two inputs."""
    if isinstance(rows, range) and table.arrow is not None:
        some = table.arrow.slice(rows.start, len(rows))
        columns = [some.column(name).to_pylist() for name in inputs]
    else:
        taken = table.take(np.asarray(rows, dtype=np.int64))
        columns = [taken.column(name).to_pylist() for name in inputs]
    if len(columns) == 1:
        return [_text(value) for value in columns[0]]
    return [tuple(map(_text, values)) for values in zip(*columns, strict=True)]


def _text(value: Any) -> str:
    """A missing text reads as an empty one: training refuses or drops such rows, predicting answers them."""
    return "" if value is None else str(value)


def tokenize(tokenizer: Any, texts: list[Any], max_length: int | None) -> dict[str, list[Any]]:
    """Token ids (and segment ids where the model has them) of each text, cut at `max_length` if given."""
    pairs = bool(texts) and isinstance(texts[0], tuple)
    first = [text[0] for text in texts] if pairs else texts
    second = [text[1] for text in texts] if pairs else None
    options: dict[str, Any] = {"truncation": max_length is not None, "max_length": max_length}
    encoded = tokenizer(first, second, return_attention_mask=False, verbose=False, **options)
    return {name: list(encoded[name]) for name in ("input_ids", "token_type_ids") if name in encoded}


def pad(encoded: dict[str, list[Any]], tokenizer: Any) -> dict[str, Tensor]:
    """Int64 tensors, padded on the tokenizer's side, and the attention mask."""
    lengths = [len(ids) for ids in encoded["input_ids"]]
    width = max(1, max(lengths))
    starts = [width - length if tokenizer.padding_side == "left" else 0 for length in lengths]
    fields = encoded | {"attention_mask": [[1] * length for length in lengths]}
    fills = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, "attention_mask": 0}
    tensors = {}
    for name, values in fields.items():
        padded = np.full((len(values), width), fills[name], dtype=np.int64)
        for row, (start, value) in enumerate(zip(starts, values, strict=True)):
            padded[row, start : start + len(value)] = value
        tensors[name] = torch.from_numpy(padded)
    return tensors
